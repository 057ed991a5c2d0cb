//! One Parquet file: its footer, and any range of its bytes, from a disk or in blocks from a bucket.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use ::parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::reader::{ChunkReader, Length};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind};

use crate::store::FileEntry;

/// Bytes of an object asked for at once.
const BLOCK: u64 = 1 << 20;
/// Blocks of an object that are kept: one for each column that is read side by side, as long as they are few.
const BLOCKS: usize = 24;

/// Ranges of a file. Cheap to clone.
#[derive(Clone)]
pub(super) struct Input {
    entry: Arc<FileEntry>,
    /// Of a file of this machine.
    file: Option<Arc<File>>,
    /// Of an object: where each begins, and its bytes; the latest used last.
    blocks: Arc<Mutex<VecDeque<(u64, Bytes)>>>,
    progress: Arc<AtomicU64>,
    /// Why a range could not be read; the crate's errors cannot carry it.
    fault: Arc<Mutex<Option<Failure>>>,
}

impl Input {
    fn open(entry: &FileEntry, progress: &Arc<AtomicU64>) -> Result<Self, Failure> {
        let opened = entry.local().map(File::open).transpose();
        let file = opened.map_err(|error| {
            Failure::new(FailureKind::Rejected, "source::unreadable", format!("cannot read `{}`: {error}", entry.path))
                .help("check that it is there and readable for the user that runs `errand`")
        })?;
        Ok(Self {
            entry: Arc::new(entry.clone()),
            file: file.map(Arc::new),
            blocks: Arc::default(),
            progress: Arc::clone(progress),
            fault: Arc::default(),
        })
    }

    fn range(&self, start: u64, length: usize) -> Result<Bytes, Failure> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.entry.bytes) {
            return Err(damaged(&self.entry.path, "it points past its end"));
        }
        let Some(file) = &self.file else { return self.remote(start, length) };
        let mut content = vec![0; length];
        file.read_exact_at(&mut content, start).map_err(|error| damaged(&self.entry.path, &error.to_string()))?;
        self.progress.fetch_add(length as u64, Ordering::Relaxed);
        Ok(Bytes::from(content))
    }

    fn remote(&self, start: u64, length: usize) -> Result<Bytes, Failure> {
        if length as u64 >= BLOCK {
            let content = self.entry.read_at(start, length as u64)?;
            self.progress.fetch_add(length as u64, Ordering::Relaxed);
            return Ok(content);
        }
        let mut content = Vec::with_capacity(length);
        while content.len() < length {
            let at = start + content.len() as u64;
            let block = self.block(at / BLOCK * BLOCK)?;
            let from = usize::try_from(at % BLOCK).unwrap_or(0).min(block.len());
            let part = &block[from..(from + length - content.len()).min(block.len())];
            if part.is_empty() {
                return Err(damaged(&self.entry.path, "it ended early"));
            }
            if part.len() == length {
                return Ok(block.slice(from..from + length));
            }
            content.extend_from_slice(part);
        }
        Ok(Bytes::from(content))
    }

    fn block(&self, start: u64) -> Result<Bytes, Failure> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let known = blocks.iter().position(|(at, _)| *at == start).and_then(|index| blocks.remove(index));
        let (_, block) = match known {
            Some(known) => known,
            None => {
                let length = BLOCK.min(self.entry.bytes - start);
                let block = self.entry.read_at(start, length)?;
                self.progress.fetch_add(length, Ordering::Relaxed);
                if blocks.len() >= BLOCKS {
                    blocks.pop_front();
                }
                (start, block)
            }
        };
        blocks.push_back((start, block.clone()));
        Ok(block)
    }

    fn told(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.range(start, length).map_err(|failure| {
            let message = failure.message.clone();
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
            ParquetError::EOF(message)
        })
    }

    /// What an error of the crate means: that of the place where the file lies, or that its content is wrong.
    pub(super) fn failure(&self, error: &dyn std::fmt::Display) -> Failure {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
        fault.unwrap_or_else(|| damaged(&self.entry.path, &error.to_string()))
    }
}

/// A file that is not Parquet, or not whole.
pub(super) fn damaged(path: &str, why: &str) -> Failure {
    let why = why.lines().next().unwrap_or_default();
    Failure::new(FailureKind::Rejected, "ingest::unreadable", format!("cannot read `{path}` as Parquet: {why}"))
        .help("check that every file is whole and is Parquet")
}

impl Length for Input {
    fn len(&self) -> u64 {
        self.entry.bytes
    }
}

impl ChunkReader for Input {
    type T = BufReader<Rest>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(BufReader::with_capacity(4096, Rest { input: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.told(start, length)
    }
}

/// A file from one place on.
pub(super) struct Rest {
    input: Input,
    at: u64,
}

impl Read for Rest {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.input.entry.bytes.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let content = self.input.told(self.at, length).map_err(io::Error::other)?;
        buffer[..length].copy_from_slice(&content);
        self.at += length as u64;
        Ok(length)
    }
}

/// A file whose footer was read.
pub(super) struct Opened {
    pub(super) input: Input,
    pub(super) metadata: ArrowReaderMetadata,
    /// With the types that the file itself has.
    pub(super) plain: ArrowReaderMetadata,
}

impl Opened {
    /// Opens a file and reads its footer; `progress` counts the bytes read from it.
    pub(super) fn open(entry: &FileEntry, progress: &Arc<AtomicU64>) -> Result<Self, Failure> {
        let input = Input::open(entry, progress)?;
        if entry.bytes < 12 {
            return Err(damaged(&entry.path, "it is too short"));
        }
        let load = |options: ArrowReaderOptions| {
            let loaded = catch_unwind(AssertUnwindSafe(|| ArrowReaderMetadata::load(&input, options)));
            match loaded {
                Ok(loaded) => loaded.map_err(|error| input.failure(&error)),
                Err(_) => Err(damaged(&entry.path, "its footer is damaged")),
            }
        };
        // The types that the file itself has: what its writer remembers of Arrow's adds nothing but other forms of them.
        let plain = load(ArrowReaderOptions::new().with_skip_arrow_metadata(true))?;
        let schema = wanted_schema(&plain);
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), ArrowReaderOptions::new().with_schema(schema))
            .map_err(|error| input.failure(&error))?;
        let opened = Self { input, metadata, plain };
        opened.check_names(&entry.path)?;
        Ok(opened)
    }

    /// Columns as they are read.
    pub(super) fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    fn check_names(&self, path: &str) -> Result<(), Failure> {
        let fields = self.schema().fields();
        for (index, field) in fields.iter().enumerate() {
            if let Some(first) = fields[..index].iter().position(|other| other.name().eq_ignore_ascii_case(field.name())) {
                let message = format!("columns {} and {} of `{path}` have the same name `{}`", first + 1, index + 1, field.name());
                return Err(Failure::new(FailureKind::Rejected, "source::header", message).help("rename one of them"));
            }
        }
        Ok(())
    }

    /// Whether a column says that its texts are JSON.
    pub(super) fn is_json(&self, column: usize) -> bool {
        logical(&self.metadata, column, |logical, converted| logical == Some(&LogicalType::Json) || converted == ConvertedType::JSON)
    }

    /// Whether a column holds timestamps of the old form.
    pub(super) fn is_old(&self, column: usize) -> bool {
        let schema = self.metadata.metadata().file_metadata().schema_descr();
        schema
            .root_schema()
            .get_fields()
            .get(column)
            .is_some_and(|field| field.is_primitive() && field.get_physical_type() == Physical::INT96)
    }

    /// Whether a column holds UUIDs.
    pub(super) fn is_uuid(&self, column: usize) -> bool {
        logical(&self.metadata, column, |logical, _| logical == Some(&LogicalType::Uuid))
    }
}

fn logical(metadata: &ArrowReaderMetadata, column: usize, is: impl Fn(Option<&LogicalType>, ConvertedType) -> bool) -> bool {
    let schema = metadata.metadata().file_metadata().schema_descr();
    let info = schema.root_schema().get_fields().get(column).filter(|field| field.is_primitive()).map(|field| field.get_basic_info());
    info.is_some_and(|info| is(info.logical_type_ref(), info.converted_type()))
}

/// Texts as views of the file's pages instead of copies, and the widest form of old timestamps.
fn wanted_schema(metadata: &ArrowReaderMetadata) -> SchemaRef {
    let fields = metadata.metadata().file_metadata().schema_descr().root_schema().get_fields();
    let columns = metadata.schema().fields().iter().zip(fields).map(|(field, of_file)| {
        let is_old = of_file.is_primitive() && of_file.get_physical_type() == Physical::INT96;
        let data_type = match field.data_type() {
            DataType::Utf8 => DataType::Utf8View,
            DataType::Binary => DataType::BinaryView,
            DataType::Timestamp(..) if is_old => DataType::Timestamp(TimeUnit::Microsecond, None),
            other => other.clone(),
        };
        Field::clone(field).with_data_type(data_type)
    });
    Arc::new(Schema::new(columns.collect::<Vec<Field>>()))
}
