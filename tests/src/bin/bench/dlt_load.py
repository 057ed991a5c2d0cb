"""Loads one file through dlt as Arrow tables: <file> <format> <Postgres URL or DuckDB file> <column:type>..."""

import os
import sys

import dlt
import pyarrow as pa

TYPES = {
    "bigint": pa.int64(),
    "integer": pa.int32(),
    "decimal(12,2)": pa.decimal128(12, 2),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "text": pa.string(),
}
file, kind, target, *words = sys.argv[1:]
columns = dict(word.split(":") for word in words)


def csv():
    from pyarrow import csv

    convert = csv.ConvertOptions(
        column_types={name: TYPES[word] for name, word in columns.items()}, strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    compression = "gzip" if file.endswith(".gz") else None
    with pa.input_stream(file, compression=compression) as stream:
        yield from csv.open_csv(stream, read_options=csv.ReadOptions(block_size=16 << 20), convert_options=convert)


def jsonl():
    import duckdb

    names = {name: word.replace("text", "varchar") for name, word in columns.items()}
    rows = duckdb.sql(f"from read_json('{file}', format = 'newline_delimited', columns = {names})")
    yield from rows.to_arrow_reader(122_880)


def parquet():
    from pyarrow.parquet import ParquetFile

    yield from ParquetFile(file).iter_batches(122_880)


def tables():
    for batch in {"csv": csv, "jsonl": jsonl, "parquet": parquet}[kind]():
        yield pa.Table.from_batches([batch])


destination = dlt.destinations.postgres(target) if "://" in target else dlt.destinations.duckdb(target)
pipeline = dlt.pipeline("bench", destination=destination, dataset_name="bench", pipelines_dir=os.environ["HOME"] + "/dlt")
pipeline.run(dlt.resource(tables, name="mixed", write_disposition="replace"), loader_file_format="parquet")
