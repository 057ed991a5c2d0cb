//! Paths in definitions: relative, with `/`, never out of the repository.

type Refusal = (String, String);

/// A path of the repository from one that is written relative to `folder`.
///
/// # Errors
///
/// Message and help.
pub(super) fn resolve(folder: &str, written: &str) -> Result<String, Refusal> {
    plain(written)?;
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in written.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err((format!("`{written}` leaves the repository"), "only files of the repository can be used".to_owned()));
                }
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// A path under a connection: relative and without `..`.
///
/// # Errors
///
/// Message and help.
pub(super) fn relative(written: &str) -> Result<(), Refusal> {
    plain(written)?;
    if written.split('/').any(|part| part == "..") {
        return Err((
            format!("`{written}` leaves its connection"),
            "name a connection that holds the files, and a path under it".to_owned(),
        ));
    }
    Ok(())
}

fn plain(written: &str) -> Result<(), Refusal> {
    let help = "write a relative path with `/` between its parts".to_owned();
    let drive = written.as_bytes().get(1) == Some(&b':') && written.starts_with(|c: char| c.is_ascii_alphabetic());
    if written.trim().is_empty() {
        Err(("there is no path here".to_owned(), help))
    } else if written.starts_with('/') || written.starts_with('~') || drive {
        Err((format!("`{written}` is an absolute path"), help))
    } else if written.contains("://") {
        Err((format!("`{written}` is a URL, not a path"), help))
    } else if written.contains('\\') || written.chars().any(char::is_control) {
        Err((format!("`{}` has characters that no path may have", written.escape_debug()), help))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{relative, resolve};

    #[test]
    fn paths_stay_in_the_repository() {
        assert_eq!(resolve("jobs/a", "x.sql").as_deref(), Ok("jobs/a/x.sql"));
        assert_eq!(resolve("jobs/a", "./sql//x.sql").as_deref(), Ok("jobs/a/sql/x.sql"));
        assert_eq!(resolve("jobs/a", "../../shared/x.sql").as_deref(), Ok("shared/x.sql"));
        for wrong in ["../../../x.sql", "/etc/passwd", "~/x", "C:/x", "a\\b", "", "a\0b", "file:///x"] {
            assert!(resolve("jobs/a", wrong).is_err(), "{wrong}");
        }
        assert!(relative("a/*.csv").is_ok() && relative("{{ run.date }}/a.csv").is_ok() && relative("a/../../b").is_err());
    }
}
