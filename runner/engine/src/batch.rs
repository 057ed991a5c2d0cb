//! The types of columns in Arrow batches: between files, warehouses and exports there is one form.

use arrow::datatypes::{DataType, TimeUnit};
use errand_model::value::ColumnType;

/// The Arrow type of a column type.
pub(crate) fn data_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Integer => DataType::Int32,
        ColumnType::Bigint => DataType::Int64,
        ColumnType::Decimal(precision, scale) => DataType::Decimal128(precision, scale.cast_signed()),
        ColumnType::Double => DataType::Float64,
        ColumnType::Text | ColumnType::Json => DataType::Utf8,
        ColumnType::Date => DataType::Date32,
        ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}
