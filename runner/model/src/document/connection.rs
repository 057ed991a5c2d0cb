//! Connections of `errand.yaml` as written: one document per kind.

use crate::decode::{document, words};
use crate::value::Label;

use super::project::SecretDocument;

document! {
    /// How to reach one warehouse or one place with files.
    pub struct ConnectionDocument as "the connection" {
        @one_of {
            /// An embedded DuckDB database in one file.
            duckdb: DuckdbDocument,
            /// A Postgres database.
            postgres: PostgresDocument,
            /// A Redshift database.
            redshift: RedshiftDocument,
            /// A Snowflake account.
            snowflake: SnowflakeDocument,
            /// A directory of files on this machine.
            directory: DirectoryDocument,
            /// Objects of an S3 bucket.
            s3: S3Document,
        }
    }
}

document! {
    /// An embedded DuckDB database.
    pub struct DuckdbDocument as "`duckdb`" {
        /// The database file, relative to the repository.
        required path: String,
    }
}

document! {
    /// A Postgres database.
    pub struct PostgresDocument as "`postgres`" {
        /// Host name, address, or the directory of a Unix socket.
        required host: String,
        /// TCP port; 5432 by default.
        optional port: u32,
        /// The database.
        required database: String,
        /// The user.
        required user: String,
        /// The password; none where the server asks for none.
        optional password: SecretDocument,
        /// The schema of a table that names none; by default the server's.
        optional schema: String,
        /// Encryption; `verify` by default, `disable` where the server is this machine.
        optional tls: TlsMode,
        /// A PEM file with authorities to trust beside those of the system, relative to the repository.
        optional ca_file: String,
    }
}

document! {
    /// A Redshift database.
    pub struct RedshiftDocument as "`redshift`" {
        /// Host name or address.
        required host: String,
        /// TCP port; 5439 by default.
        optional port: u32,
        /// The database.
        required database: String,
        /// The user.
        required user: String,
        /// The password.
        optional password: SecretDocument,
        /// The schema of a table that names none; by default the server's.
        optional schema: String,
        /// Encryption; `verify` by default, `disable` where the server is this machine.
        optional tls: TlsMode,
        /// A PEM file with authorities to trust beside those of the system, relative to the repository.
        optional ca_file: String,
        /// The role with which the cluster reads and writes staged objects: `arn:aws:iam::<account>:role/<name>`.
        required iam_role: String,
        /// The `s3` connection of this environment through which rows go in and out.
        required staging: Label,
    }
}

words! {
    /// Encryption of a connection.
    pub enum TlsMode as "a way to encrypt" {
        /// Encrypted, to a server whose certificate is valid for its host.
        Verify = "verify",
        /// Not encrypted.
        Disable = "disable",
    }
}

document! {
    /// A Snowflake account.
    pub struct SnowflakeDocument as "`snowflake`" {
        /// The account identifier, what stands before `.snowflakecomputing.com`.
        required account: String,
        /// The user.
        required user: String,
        /// The passphrase of an encrypted private key.
        optional private_key_passphrase: SecretDocument,
        /// The role; by default the user's.
        optional role: String,
        /// The warehouse that computes; by default the user's.
        optional compute_warehouse: String,
        /// The database.
        required database: String,
        /// The schema of a table that names none; `PUBLIC` by default.
        optional schema: String,
        /// The external stage through which rows go in and out: `@database.schema.stage`, and a path where there is one.
        optional stage: String,
        /// The connection of this environment whose root is the stage's URL; by default the URL is asked for.
        optional staging: Label,
        /// Host or URL of the account; by default `<account>.snowflakecomputing.com`.
        optional host: String,
        @one_of {
            /// A password.
            password: SecretDocument,
            /// A programmatic access token.
            access_token: SecretDocument,
            /// An OAuth access token.
            oauth_token: SecretDocument,
            /// A private key, in PEM.
            private_key: SecretDocument,
        }
    }
}

document! {
    /// A directory of files.
    pub struct DirectoryDocument as "`directory`" {
        /// The directory, relative to the repository.
        required path: String,
    }
}

document! {
    /// Objects of an S3 bucket.
    pub struct S3Document as "`s3`" {
        /// The bucket.
        required bucket: String,
        /// What every key begins with; a `/` at its end is added.
        optional prefix: String,
        /// The region; by default that of the surroundings.
        optional region: String,
        /// URL of another server that speaks S3's protocol.
        optional endpoint: String,
    }
}

impl ConnectionDocument {
    /// The kind that is written, whether or not all in it is right.
    #[must_use]
    pub const fn word(&self) -> Option<&'static str> {
        Some(match self {
            Self { duckdb: Some(_), .. } => "duckdb",
            Self { postgres: Some(_), .. } => "postgres",
            Self { redshift: Some(_), .. } => "redshift",
            Self { snowflake: Some(_), .. } => "snowflake",
            Self { directory: Some(_), .. } => "directory",
            Self { s3: Some(_), .. } => "s3",
            _ => return None,
        })
    }
}
