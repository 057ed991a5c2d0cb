//! Rows as Parquet: zstd, one logical type for each column type, the same bytes for the same rows.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::arrow::ArrowSchemaConverter;
use ::parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use ::parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as Physical, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::schema::types::{SchemaDescriptor, Type};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use errand_model::failure::Failure;
use errand_model::value::ColumnType;

use super::unwritten;
use crate::batch::data_type;

/// Rows of a group; what DuckDB writes and reads by.
const GROUP_ROWS: usize = 122_880;
/// Bytes of a group that may wait in memory; past it the group ends early.
const GROUP_BYTES: usize = 24 << 20;
/// Rows handed on at once, so that the size of a group is looked at often enough.
const SLICE: usize = 8192;

/// Row groups on their way into a file.
pub(super) struct Groups {
    writer: ArrowWriter<Counted>,
    path: PathBuf,
    schema: SchemaRef,
}

struct Counted {
    file: File,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Groups {
    /// Begins a file.
    pub(super) fn begin((file, path): (File, &Path), columns: &[(String, ColumnType)]) -> Result<Self, Failure> {
        let fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(name, data_type(*kind), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let descriptor = descriptor(&schema, columns).map_err(|error| unwritten(path, &error))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by("errand".to_owned())
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true).with_parquet_schema(descriptor);
        let writer = ArrowWriter::try_new_with_options(Counted { file, bytes: 0 }, Arc::clone(&schema), options);
        Ok(Self { writer: writer.map_err(|error| unwritten(path, &error))?, path: path.to_owned(), schema })
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.writer.inner().bytes
    }

    /// Adds rows whose columns were checked.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let named =
            RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec()).map_err(|error| super::misfit(&error.to_string()))?;
        let mut from = 0;
        while from < named.num_rows() {
            let count = SLICE.min(named.num_rows() - from);
            self.writer.write(&named.slice(from, count)).map_err(|error| unwritten(&self.path, &error))?;
            from += count;
            if self.writer.memory_size() > GROUP_BYTES {
                self.writer.flush().map_err(|error| unwritten(&self.path, &error))?;
            }
        }
        Ok(())
    }

    /// Completes the file.
    pub(super) fn finish(mut self) -> Result<u64, Failure> {
        self.writer.finish().map_err(|error| unwritten(&self.path, &error))?;
        Ok(self.bytes())
    }
}

/// The schema of the file: as Arrow's, but JSON is said to be JSON.
fn descriptor(schema: &Schema, columns: &[(String, ColumnType)]) -> Result<SchemaDescriptor, ParquetError> {
    let plain = ArrowSchemaConverter::new().convert(schema)?;
    let fields = plain.root_schema().get_fields().iter().zip(columns).map(|(field, (name, kind))| match kind {
        ColumnType::Json => Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(Some(LogicalType::Json))
            .with_converted_type(ConvertedType::JSON)
            .build()
            .map(Arc::new),
        _ => Ok(Arc::clone(field)),
    });
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    let root = Type::group_type_builder("schema").with_fields(fields).build()?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}
