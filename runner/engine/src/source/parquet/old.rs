//! INT96 timestamps hold nanoseconds over more years than 64 bits do: microseconds of them are read, and what is finer is found beside.

use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Field, Schema, TimestampMicrosecondType, TimestampNanosecondType};
use errand_model::failure::Failure;

use super::input::Opened;

/// The old timestamps of a file, read a second time as nanoseconds that wrap around.
pub(super) struct Nanos {
    reader: ParquetRecordBatchReader,
    /// Where they stand in the batches of the file.
    places: Vec<usize>,
}

impl Nanos {
    /// None when the columns `roots` have no such timestamps; batches must have the same number of rows as those beside.
    pub(super) fn open(opened: &Opened, roots: &[usize], rows: usize) -> Result<Option<Self>, Failure> {
        let places: Vec<usize> = (0..roots.len()).filter(|place| opened.is_old(roots[*place])).collect();
        if places.is_empty() {
            return Ok(None);
        }
        let schema = opened.plain.metadata().file_metadata().schema_descr();
        let mask = ProjectionMask::roots(schema, places.iter().map(|place| roots[*place]));
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(opened.input.clone(), opened.plain.clone());
        let reader = builder.with_projection(mask).with_batch_size(rows).build().map_err(|error| opened.input.failure(&error))?;
        Ok(Some(Self { reader, places }))
    }

    /// The place of the column, behind those of the file, that says which values of `place` are finer than microseconds.
    pub(super) fn flag(&self, place: usize, columns: usize) -> Option<usize> {
        self.places.iter().position(|old| *old == place).map(|index| columns + index)
    }

    /// The batch with such a column for each old one.
    pub(super) fn beside(&mut self, batch: &RecordBatch, opened: &Opened) -> Result<RecordBatch, Failure> {
        let nanos = self.reader.next().transpose().map_err(|error| opened.input.failure(&error))?;
        let nanos = nanos.filter(|nanos| nanos.num_rows() == batch.num_rows()).ok_or_else(|| opened.input.failure(&"it ended early"))?;
        let (mut columns, mut fields) = (batch.columns().to_vec(), batch.schema().fields().to_vec());
        for (place, nanos) in self.places.iter().zip(nanos.columns()) {
            let (micros, nanos) = (batch.column(*place), nanos.as_primitive_opt::<TimestampNanosecondType>());
            let (Some(micros), Some(nanos)) = (micros.as_primitive_opt::<TimestampMicrosecondType>(), nanos) else { continue };
            // Both wrap around by the same, so that they differ by what is finer than a microsecond and nothing else.
            let finer = micros.values().iter().zip(nanos.values()).map(|(micros, nanos)| micros.wrapping_mul(1_000) != *nanos);
            let finer: ArrayRef = Arc::new(BooleanArray::from(finer.collect::<Vec<bool>>()));
            fields.push(Arc::new(Field::new("", finer.data_type().clone(), false)));
            columns.push(finer);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| opened.input.failure(&error))
    }
}
