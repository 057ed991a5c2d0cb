//! Connections of `errand.yaml`: every value has the shape that its server knows.

use super::network::{self, is_loopback};
use super::project::{Kinds, Reader};
use crate::decode::Spanned;
use crate::document::connection::{ConnectionDocument, PostgresDocument, RedshiftDocument, S3Document, SnowflakeDocument, TlsMode};
use crate::document::project::SecretDocument;
use crate::job::{Connection, Credential, Redshift, S3, Server, Snowflake, Tls};
use crate::value::Name;

/// Longest name of a user, a role, a database, in bytes.
const MAX_NAME: usize = 255;

/// What Postgres and Redshift have in common.
struct ServerKeys<'d> {
    host: Option<&'d Spanned<String>>,
    port: Option<&'d Spanned<u32>>,
    default_port: u16,
    database: Option<&'d Spanned<String>>,
    user: Option<&'d Spanned<String>>,
    password: Option<&'d Spanned<SecretDocument>>,
    schema: Option<&'d Spanned<String>>,
    tls: Option<&'d Spanned<TlsMode>>,
    ca_file: Option<&'d Spanned<String>>,
}

impl Reader<'_> {
    /// Reads one connection. `kinds`: all those of its environment.
    pub(super) fn connection(&mut self, document: &ConnectionDocument, kinds: &Kinds<'_>) -> Option<Connection> {
        if let Some(duckdb) = &document.duckdb {
            return self.local_path(duckdb.path.as_ref()?).map(|path| Connection::Duckdb { path });
        }
        if let Some(postgres) = &document.postgres {
            return self.postgres(postgres).map(Connection::Postgres);
        }
        if let Some(redshift) = &document.redshift {
            return self.redshift(redshift, kinds).map(Connection::Redshift);
        }
        if let Some(snowflake) = &document.snowflake {
            return self.snowflake(snowflake, kinds).map(|snowflake| Connection::Snowflake(Box::new(snowflake)));
        }
        if let Some(s3) = &document.s3 {
            return self.s3(s3).map(Connection::S3);
        }
        self.local_path(document.directory.as_ref()?.path.as_ref()?).map(|path| Connection::Directory { path })
    }

    /// Connections reach data, which may lie outside the repository: only what is no path at all is refused.
    fn local_path(&mut self, written: &Spanned<String>) -> Option<String> {
        if written.trim().is_empty() || written.contains("://") || written.chars().any(char::is_control) {
            let help = if written.starts_with("s3://") {
                "write a path on this machine; objects of a bucket are `s3: { bucket, prefix }`"
            } else {
                "write a path on this machine, relative to the repository"
            };
            self.error("definition::bad_path", format!("`{}` is not a path", written.escape_debug()), help, &written.span);
            return None;
        }
        Some(written.value.clone())
    }

    fn postgres(&mut self, document: &PostgresDocument) -> Option<Server> {
        self.server(&ServerKeys {
            host: document.host.as_ref(),
            port: document.port.as_ref(),
            default_port: 5432,
            database: document.database.as_ref(),
            user: document.user.as_ref(),
            password: document.password.as_ref(),
            schema: document.schema.as_ref(),
            tls: document.tls.as_ref(),
            ca_file: document.ca_file.as_ref(),
        })
    }

    fn redshift(&mut self, document: &RedshiftDocument, kinds: &Kinds<'_>) -> Option<Redshift> {
        let server = self.server(&ServerKeys {
            host: document.host.as_ref(),
            port: document.port.as_ref(),
            default_port: 5439,
            database: document.database.as_ref(),
            user: document.user.as_ref(),
            password: document.password.as_ref(),
            schema: document.schema.as_ref(),
            tls: document.tls.as_ref(),
            ca_file: document.ca_file.as_ref(),
        });
        let iam_role = self.checked(document.iam_role.as_ref(), network::iam_role);
        if let Some(staging) = &document.staging {
            self.kind_of(staging, kinds, &["s3"], "of kind `s3`");
        }
        Some(Redshift { server: server?, iam_role: iam_role?, staging: document.staging.as_ref()?.value.clone() })
    }

    fn server(&mut self, keys: &ServerKeys<'_>) -> Option<Server> {
        let host = self.checked(keys.host, network::server_host);
        let port = match keys.port {
            None => Some(keys.default_port),
            Some(port) => match u16::try_from(port.value) {
                Ok(port) if port > 0 => Some(port),
                _ => {
                    let help = format!("write one from 1 to 65535, or leave it out for {}", keys.default_port);
                    self.error("definition::bad_value", format!("{} is no port", port.value), help, &port.span);
                    None
                }
            },
        };
        let database = self.named(keys.database, "a database");
        let user = self.named(keys.user, "a user");
        let schema = self.optional_name(keys.schema, "a schema");
        let tls = self.tls(host.as_deref(), keys);
        let ca_file = keys.ca_file.and_then(|file| self.local_path(file));
        Some(Server {
            host: host?,
            port: port?,
            database: database?,
            user: user?,
            password: keys.password.and_then(secret),
            schema,
            tls,
            ca_file,
        })
    }

    /// Encryption is left out only where nobody is in between, unless it is written.
    fn tls(&mut self, host: Option<&str>, keys: &ServerKeys<'_>) -> Tls {
        let is_socket = host.is_some_and(|host| host.starts_with('/'));
        let tls = match keys.tls.map(|tls| tls.value) {
            Some(TlsMode::Verify) => Tls::Verify,
            Some(TlsMode::Disable) => Tls::Disable,
            None if is_socket || host.is_some_and(is_loopback) => Tls::Disable,
            None => Tls::Verify,
        };
        if let Some(written) = keys.tls.filter(|_| is_socket && tls == Tls::Verify) {
            let help = "remove `tls`: nothing leaves this machine";
            self.error("definition::conflict", "a Unix socket is not encrypted", help, &written.span);
        } else if let Some(file) = keys.ca_file.filter(|_| tls == Tls::Disable) {
            let help = "write `tls: verify`, or remove `ca_file`";
            self.error("definition::conflict", "`ca_file` means nothing to a connection that is not encrypted", help, &file.span);
        }
        tls
    }

    fn snowflake(&mut self, document: &SnowflakeDocument, kinds: &Kinds<'_>) -> Option<Snowflake> {
        let account = self.checked(document.account.as_ref(), network::account);
        let user = self.named(document.user.as_ref(), "a user");
        let credential = self.credential(document);
        let role = self.optional_name(document.role.as_ref(), "a role");
        let compute_warehouse = self.optional_name(document.compute_warehouse.as_ref(), "a warehouse");
        let database = self.named(document.database.as_ref(), "a database");
        let schema = match &document.schema {
            Some(schema) => self.named(Some(schema), "a schema"),
            None => Some("PUBLIC".to_owned()),
        };
        let stage = self.checked(document.stage.as_ref(), network::stage);
        let host = self.checked(document.host.as_ref(), network::account_host);
        if let Some(staging) = &document.staging {
            self.kind_of(staging, kinds, &["directory", "s3"], "that holds files");
            if document.stage.is_none() {
                let help = "add `stage: \"@database.schema.stage\"`, or remove `staging`";
                self.error("definition::conflict", "`staging` says where the `stage` lies, and there is no `stage`", help, &staging.span);
            }
        }
        Some(Snowflake {
            account: account?,
            user: user?,
            credential: credential?,
            role,
            compute_warehouse,
            database: database?,
            schema: schema?,
            stage,
            staging: document.staging.as_ref().map(|staging| staging.value.clone()),
            host,
        })
    }

    fn credential(&mut self, document: &SnowflakeDocument) -> Option<Credential> {
        if let Some(passphrase) = document.private_key_passphrase.as_ref().filter(|_| document.private_key.is_none()) {
            let help = "remove it, or name the key: `private_key: { secret: name }`";
            self.error("definition::conflict", "a passphrase belongs to a `private_key`, and there is none", help, &passphrase.span);
        }
        if let Some(password) = &document.password {
            return secret(password).map(Credential::Password);
        }
        if let Some(token) = &document.access_token {
            return secret(token).map(Credential::AccessToken);
        }
        if let Some(token) = &document.oauth_token {
            return secret(token).map(Credential::OauthToken);
        }
        let key = secret(document.private_key.as_ref()?)?;
        Some(Credential::PrivateKey { key, passphrase: document.private_key_passphrase.as_ref().and_then(secret) })
    }

    fn s3(&mut self, document: &S3Document) -> Option<S3> {
        let bucket = self.checked(document.bucket.as_ref(), network::bucket);
        let prefix = match &document.prefix {
            Some(prefix) => self.checked(Some(prefix), network::prefix),
            None => Some(String::new()),
        };
        let endpoint = self.checked(document.endpoint.as_ref(), network::endpoint);
        // Other servers have regions of their own.
        let region = match document.endpoint {
            Some(_) => self.checked(document.region.as_ref(), network::region_elsewhere),
            None => self.checked(document.region.as_ref(), network::region),
        };
        Some(S3 { bucket: bucket?, prefix: prefix?, region, endpoint })
    }

    /// Keeps what the check makes of a value, or reports what is wrong with it.
    pub(super) fn checked(&mut self, written: Option<&Spanned<String>>, check: fn(&str) -> network::Checked) -> Option<String> {
        let written = written?;
        match check(written) {
            Ok(value) => Some(value),
            Err((message, help)) => {
                self.error("definition::bad_value", message, help, &written.span);
                None
            }
        }
    }

    fn named(&mut self, written: Option<&Spanned<String>>, what: &str) -> Option<String> {
        let written = written?;
        let is_name = !written.is_empty()
            && written.trim().len() == written.len()
            && written.len() <= MAX_NAME
            && !written.chars().any(|c| c.is_control() || c == '"');
        if !is_name {
            let message = format!("`{}` is no name of {what}", written.escape_debug());
            let help = format!("write the name alone, without quotes around it, at most {MAX_NAME} bytes");
            self.error("definition::bad_value", message, help, &written.span);
            return None;
        }
        Some(written.value.clone())
    }

    fn optional_name(&mut self, written: Option<&Spanned<String>>, what: &str) -> Option<String> {
        written.and_then(|written| self.named(Some(written), what))
    }
}

fn secret(document: &Spanned<SecretDocument>) -> Option<Name> {
    document.secret.as_ref().map(|name| name.value.clone())
}
