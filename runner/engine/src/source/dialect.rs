//! How the files of one step are written, as far as reading them needs it.

use errand_model::document::step::{Compression, Encoding, Format};
use errand_model::job::Files;

use super::split::{Marks, Splitter};

/// How files are written.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    pub(super) format: Format,
    pub(super) marks: Marks,
    pub(super) header: bool,
    pub(super) trailing_delimiter: bool,
    pub(super) encoding: Encoding,
    pub(super) compression: Compression,
    /// Unquoted fields that stand for NULL.
    pub(super) nulls: Vec<Vec<u8>>,
}

impl Dialect {
    pub(super) fn of(files: &Files) -> Self {
        Self {
            format: files.format,
            marks: Marks {
                delimiter: files.delimiter,
                quote: files.quote,
                escape: files.escape.filter(|escape| files.quote.is_some_and(|quote| quote != *escape)),
            },
            header: files.header,
            trailing_delimiter: files.trailing_delimiter,
            encoding: files.encoding,
            compression: files.compression,
            nulls: files.null_values.iter().map(|text| text.as_bytes().to_vec()).collect(),
        }
    }

    pub(super) fn splitter(&self) -> Splitter {
        match self.format {
            Format::Csv => Splitter::csv(self.marks),
            Format::Json => Splitter::array(),
            Format::Jsonl | Format::Parquet => Splitter::lines(),
        }
    }

    pub(super) fn is_csv(&self) -> bool {
        self.format == Format::Csv
    }

    /// How a file is compressed, by declaration or by name.
    pub(super) fn compression_of(&self, path: &str) -> Compression {
        let name = path.to_ascii_lowercase();
        match self.compression {
            Compression::Auto if name.ends_with(".gz") => Compression::Gzip,
            Compression::Auto if name.ends_with(".zst") => Compression::Zstd,
            Compression::Auto => Compression::None,
            declared @ (Compression::None | Compression::Gzip | Compression::Zstd) => declared,
        }
    }

    /// Whether a file lies there without compression.
    pub(super) fn is_plain(&self, path: &str) -> bool {
        self.compression_of(path) == Compression::None
    }

    /// Whether an unquoted field stands for NULL.
    pub(super) fn is_null(&self, text: &[u8]) -> bool {
        self.nulls.iter().any(|null| null == text)
    }
}
