//! A database on the Postgres of the test services, fresh for each load.

use e2e::services;
use tokio_postgres::config::Host;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use crate::said;

/// One database, dropped with the value.
pub(crate) struct Server {
    configuration: Config,
    administration: Config,
}

impl Server {
    /// An empty database, with the server's memory written to disk: what one load leaves there is no part of the next.
    pub(crate) fn fresh() -> Result<Self, String> {
        let url = services::postgres_url();
        let administration: Config = url.parse().map_err(said("ERRAND_TEST_POSTGRES_URL"))?;
        let name = services::unique_name();
        ask(&administration, &format!("CREATE DATABASE {name}"))?;
        ask(&administration, "CHECKPOINT")?;
        let mut configuration = administration.clone();
        configuration.dbname(&name);
        Ok(Self { configuration, administration })
    }

    fn host(&self) -> &str {
        match self.configuration.get_hosts().first() {
            Some(Host::Tcp(host)) => host,
            Some(Host::Unix(_)) | None => "127.0.0.1",
        }
    }

    fn port(&self) -> u16 {
        self.configuration.get_ports().first().copied().unwrap_or(5432)
    }

    fn user(&self) -> &str {
        self.configuration.get_user().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.configuration.get_dbname().unwrap_or_default()
    }

    /// The password.
    pub(crate) fn password(&self) -> &str {
        self.configuration.get_password().and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The URL that every peer is given: without encryption, as for `errand`.
    pub(crate) fn url(&self, scheme: &str) -> String {
        let (user, password, host, port, name) = (self.user(), self.password(), self.host(), self.port(), self.name());
        format!("{scheme}://{user}:{password}@{host}:{port}/{name}?sslmode=disable")
    }

    /// The connection of a project file.
    pub(crate) fn connection(&self) -> String {
        let (host, port, name, user) = (self.host(), self.port(), self.name(), self.user());
        format!(
            "{{ postgres: {{ host: {host}, port: {port}, database: {name}, user: {user}, password: {{ secret: warehouse }}, tls: disable }} }}"
        )
    }

    /// The only value of a query.
    pub(crate) fn value(&self, query: &str) -> Result<String, String> {
        ask(&self.configuration, query)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(message) = ask(&self.administration, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name())) {
            crate::progress(&message);
        }
    }
}

fn ask(configuration: &Config, statement: &str) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(said("runtime"))?;
    let messages = runtime.block_on(async {
        let (client, connection) = configuration.connect(NoTls).await?;
        // Its error is the client's too.
        let _driving = tokio::spawn(connection);
        client.simple_query(statement).await
    });
    let messages = messages.map_err(|error| match error.as_db_error() {
        Some(refused) => format!("{statement}: {}", refused.message()),
        None => format!("{statement}: {error}"),
    })?;
    let value = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(value.unwrap_or_default())
}
