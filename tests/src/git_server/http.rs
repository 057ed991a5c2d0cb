//! Smart HTTP: lighttpd, git-http-backend, basic authentication, with TLS under an authority of its own or without.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::Daemon;
use crate::program;
use crate::tls_front::make_certificates;

/// A server of git over HTTP, for the bare repositories in one directory.
///
/// Each is served twice: under `/private/` for [`HttpServer::USER`] alone, under `/public/` for everyone.
pub struct HttpServer {
    daemon: Daemon,
    directory: TempDir,
    scheme: &'static str,
}

impl HttpServer {
    /// Who may read `/private/`.
    pub const USER: &str = "reader";
    /// The password of that user; no more secret than this line, and odd enough to need encoding in a URL.
    pub const PASSWORD: &str = "p@ss/word:100%";

    /// A server without TLS.
    #[must_use]
    pub fn http(repositories: &Path) -> Self {
        Self::start(repositories, "http")
    }

    /// A server with TLS, whose certificate is for `localhost` and signed by [`HttpServer::authority`].
    #[must_use]
    pub fn https(repositories: &Path) -> Self {
        Self::start(repositories, "https")
    }

    /// The URL that needs authentication, without credentials.
    #[must_use]
    pub fn private_url(&self, repository: &str) -> String {
        format!("{}://localhost:{}/private/{repository}", self.scheme, self.daemon.port)
    }

    /// The URL that needs none.
    #[must_use]
    pub fn public_url(&self, repository: &str) -> String {
        format!("{}://localhost:{}/public/{repository}", self.scheme, self.daemon.port)
    }

    /// The certificate, in PEM, of the authority that signed the server's.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }

    fn start(repositories: &Path, scheme: &'static str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let place = directory.path();
        fs::write(place.join("users"), format!("{}:{}\n", Self::USER, Self::PASSWORD)).expect("the directory can be written");
        if scheme == "https" {
            make_certificates(place);
        }
        let git_programs = program::stdout_of(program::hermetic("git", place).arg("--exec-path"));
        let backend = Path::new(&git_programs).join("git-http-backend");
        assert!(backend.is_file(), "`{}` is not installed; run `make setup`", backend.display());

        let daemon = Daemon::start(&place.join("error.log"), |port| {
            let file = place.join("lighttpd.conf");
            fs::write(&file, configuration(place, repositories, &backend, scheme, port)).expect("the directory can be written");
            let mut command = program::hermetic("lighttpd", place);
            command.arg("-D").arg("-f").arg(file);
            command
        });
        Self { daemon, directory, scheme }
    }
}

fn configuration(place: &Path, repositories: &Path, backend: &Path, scheme: &str, port: u16) -> String {
    let (place, repositories, backend) = (place.display(), repositories.display(), backend.display());
    let tls = match scheme {
        "https" => format!(
            r#"server.modules += ( "mod_openssl" )
ssl.engine = "enable"
ssl.pemfile = "{place}/server.pem"
ssl.privkey = "{place}/server.key"
"#
        ),
        _ => String::new(),
    };
    format!(
        r#"server.modules = ( "mod_auth", "mod_authn_file", "mod_alias", "mod_setenv", "mod_cgi" )
{tls}server.document-root = "{place}"
server.bind = "127.0.0.1"
server.port = {port}
auth.backend = "plain"
auth.backend.plain.userfile = "{place}/users"
auth.require = ( "/private/" => ( "method" => "basic", "realm" => "job repositories", "require" => "valid-user" ) )
alias.url = ( "/private" => "{backend}", "/public" => "{backend}" )
cgi.assign = ( "" => "" )
setenv.set-environment = ( "GIT_PROJECT_ROOT" => "{repositories}", "GIT_HTTP_EXPORT_ALL" => "1", "HOME" => "{place}" )
"#
    )
}
