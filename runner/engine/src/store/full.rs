//! A disk of this machine that takes no more: whichever part of Errand meets it, the failure is `Permanent`, for what is full stays full until somebody
//! makes room, and the help is that of its reason.

use std::error::Error;
use std::io::{self, ErrorKind};

/// Why a file of this machine takes no more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// No space is left on its disk.
    Disk,
    /// The user of the process has used up a quota.
    Quota,
    /// It has the size that a limit of the process or of the file system allows.
    File,
}

impl Full {
    /// What an error or one of its causes says; none when it speaks of something else.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(full) = error.downcast_ref::<io::Error>().and_then(|error| Self::of_kind(error.kind())) {
                return Some(full);
            }
            next = error.source();
        }
        None
    }

    fn of_kind(kind: ErrorKind) -> Option<Self> {
        match kind {
            ErrorKind::StorageFull => Some(Self::Disk),
            ErrorKind::QuotaExceeded => Some(Self::Quota),
            ErrorKind::FileTooLarge => Some(Self::File),
            _ => None,
        }
    }

    /// The same where only the words of the operating system are left.
    #[must_use]
    pub fn in_text(text: &str) -> Option<Self> {
        [("No space left on device", Self::Disk), ("Disk quota exceeded", Self::Quota), ("File too large", Self::File)]
            .into_iter()
            .find_map(|(words, full)| text.contains(words).then_some(full))
    }

    /// What to do about it.
    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            Self::Disk => "the disk is full: free space on it",
            Self::Quota => "the quota of the user on this disk is used up: free space, or raise it",
            Self::File => {
                "a file may not grow so large here: raise the limit of the process (`ulimit -f`), or use a file system that takes larger files"
            }
        }
    }
}

/// What to do about a file that cannot be written.
#[must_use]
pub fn write_help(error: &(dyn Error + 'static)) -> &'static str {
    Full::of(error).map_or("check free space and permissions", Full::help)
}

#[cfg(test)]
mod tests {
    use parquet::errors::ParquetError;

    use super::*;

    #[test]
    fn each_reason_is_known_by_its_number_its_words_and_behind_other_errors() {
        for (number, full) in [(28, Full::Disk), (122, Full::Quota), (27, Full::File)] {
            let error = || io::Error::from_raw_os_error(number);
            assert_eq!(Full::of(&error()), Some(full));
            assert_eq!(Full::of(&ParquetError::from(error())), Some(full));
            assert_eq!(Full::of(&io::Error::other(ParquetError::from(error()))), Some(full));
            assert_eq!(Full::in_text(&format!("IO Error: Could not write file: {}", error())), Some(full));
        }
        assert_eq!(Full::of(&io::Error::from_raw_os_error(13)), None);
        assert_eq!(write_help(&io::Error::from_raw_os_error(13)), "check free space and permissions");
    }
}
