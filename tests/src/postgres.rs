//! A Postgres database for one test.

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::services;

/// A database of its own on the server of the tests. Dropped with the value, whoever is still connected.
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// Makes one.
    ///
    /// # Panics
    /// When the server refuses it.
    #[must_use]
    pub fn create() -> Self {
        let server = services::postgres_url();
        let name = services::unique_name();
        execute(&server, &format!("CREATE DATABASE {name}"));
        Self { server, name }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        at(&self.server, None, &self.name)
    }

    /// Its URL through another port of 127.0.0.1: that of a proxy.
    #[must_use]
    pub fn url_through(&self, port: u16) -> String {
        at(&self.server, Some(port), &self.name)
    }

    /// Host and port of the server.
    #[must_use]
    pub fn address(&self) -> String {
        authority(&self.server).1.to_owned()
    }

    /// Executes statements, separated by semicolons.
    ///
    /// # Panics
    /// When one is refused.
    #[track_caller]
    pub fn execute(&self, sql: &str) {
        execute(&self.url(), sql);
    }

    /// The rows of a query in its order: values as text with `|` between them, `NULL` for none.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<String> {
        execute(&self.url(), sql)
    }

    /// The only value of a query, as text.
    ///
    /// # Panics
    /// When it has more or fewer rows.
    #[must_use]
    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        let rows = self.rows(sql);
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows.into_iter().next().unwrap_or_default()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        execute(&self.server, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

/// `postgres://user:password@` and `host:port` and the rest of a URL.
fn authority(url: &str) -> (&str, &str, &str) {
    let start = url.find("://").map_or(0, |place| place + 3);
    let end = url[start..].find(['/', '?']).map_or(url.len(), |place| start + place);
    let host = url[start..end].rfind('@').map_or(start, |place| start + place + 1);
    (&url[..host], &url[host..end], &url[end..])
}

fn at(url: &str, port: Option<u16>, database: &str) -> String {
    let (head, host, rest) = authority(url);
    let host = port.map_or_else(|| host.to_owned(), |port| format!("127.0.0.1:{port}"));
    let options = rest.find('?').map_or("", |place| &rest[place..]);
    format!("{head}{host}/{database}{options}")
}

#[track_caller]
fn execute(url: &str, sql: &str) -> Vec<String> {
    // A runtime of its own, in a thread of its own: a test may have one already, and may not block it.
    let ended = std::thread::scope(|scope| scope.spawn(|| block_on(url, sql)).join());
    match ended {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => panic!("{sql}: {error}: {:?}", error.as_db_error()),
        Err(_) => panic!("{sql}: the thread that asked it panicked"),
    }
}

fn block_on(url: &str, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        // Its error is the client's too.
        let _driving = tokio::spawn(connection);
        answer(&client, sql).await
    })
}

async fn answer(client: &Client, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            let values: Vec<&str> = (0..row.len()).map(|place| row.get(place).unwrap_or("NULL")).collect();
            Some(values.join("|"))
        }
        _ => None,
    });
    Ok(rows.collect())
}
