"""Stages: described, unloaded to, and mirrored from the S3 server, none of which fakesnow does."""

import gzip
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet
from snowflake_errors import refusal
from snowflake_rows import rowset

import snowflake_sql as sql

MIRROR = Path(tempfile.mkdtemp(prefix="errand-stages-"))


def column(name: str, kind: str = "text") -> dict[str, Any]:
    return {"name": name, "nullable": True, "type": kind, "length": 16777216 if kind == "text" else None, "scale": 0, "precision": 38}


def stage_url(connection: Any, stage: str) -> str:
    parts = [part[1:-1] if part.startswith('"') else part.upper() for part in re.findall(r'"[^"]*"|[^."]+', stage)]
    full = [connection.database, connection.schema][: 3 - len(parts)] + parts
    found = connection._duck_conn.execute(
        "SELECT url FROM _fs_global._fs_information_schema._fs_stages WHERE database_name = ? AND schema_name = ? AND name = ?", full
    ).fetchone()
    if not found:
        raise refusal(2003, "02000", f"SQL compilation error:\nStage '{'.'.join(map(str, full))}' does not exist or not authorized.")
    return found[0]


def describe(connection: Any, stage: str) -> tuple[list[dict[str, Any]], list[list[str | None]]]:
    """DESC STAGE: of its properties only the location is real."""
    url = original(stage_url(connection, stage))
    names = ["parent_property", "property", "property_type", "property_value", "property_default"]
    rows = [["STAGE_FILE_FORMAT", "TYPE", "String", "CSV", "CSV"], ["STAGE_LOCATION", "URL", "String", f'["{url}"]', ""]]
    return [column(name) for name in names], rows


def original(url: str) -> str:
    prefix = f"file://{MIRROR}/"
    return "s3://" + url[len(prefix) :] if url.startswith(prefix) else url


def mirrored(connection: Any, text: str, endpoint: str) -> str:
    """A stage of s3 becomes one of a local copy, and the copy is made anew before each COPY or LIST."""
    if re.match(r"CREATE\b.*\bSTAGE\b", sql.body(text), re.IGNORECASE | re.DOTALL):
        text = re.sub(r"(\bURL\s*=\s*)'s3://", rf"\1'file://{MIRROR}/", text, flags=re.IGNORECASE)
        return re.sub(r"\b(STORAGE_INTEGRATION\s*=\s*\S+|CREDENTIALS\s*=\s*\([^)]*\)|ENCRYPTION\s*=\s*\([^)]*\))", "", text, flags=re.IGNORECASE)
    if not re.match(r"(COPY\s+INTO|LIST|LS)\b", sql.body(text), re.IGNORECASE):
        return text
    if found := re.search(r"@((?:\"[^\"]*\"|[\w.])+)", text):
        url = original(stage_url(connection, found[1]))
        if url.startswith("s3://"):
            fetch(url, endpoint)
    return text


def s3(endpoint: str) -> Any:
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing")


def fetch(url: str, endpoint: str) -> None:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client = s3(endpoint)
    seen = set()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            file = MIRROR / bucket / entry["Key"]
            seen.add(file)
            file.parent.mkdir(parents=True, exist_ok=True)
            if not entry["Key"].endswith("/"):
                client.download_file(bucket, entry["Key"], str(file))
    for file in (MIRROR / bucket).rglob("*"):
        if file.is_file() and str(file).startswith(f"{MIRROR}/{bucket}/{prefix}") and file not in seen:
            file.unlink()


def unload(connection: Any, parts: dict[str, str], selected: dict[str, Any], endpoint: str) -> tuple[list[dict[str, Any]], list[list[str | None]]]:
    """COPY INTO a stage, as one file of Parquet or CSV."""
    name, _, path = parts["place"].removeprefix("@").partition("/")
    url = parts["place"] if parts["place"].startswith("file://") else stage_url(connection, name).rstrip("/") + "/" + path
    kind = (sql.option(parts["options"], "TYPE") or "CSV").upper()
    single = (sql.option(parts["options"], "SINGLE") or "FALSE").upper() == "TRUE"
    data = selected["data"]
    kinds, rows = data["rowtype"], rowset(data)
    suffix = {"PARQUET": ".snappy.parquet"}.get(kind, ".csv.gz")
    target = Path(url.removeprefix("file://") + ("" if single else f"data_0_0_0{suffix}" if url.endswith("/") else f"_0_0_0{suffix}"))
    if target.exists() and (sql.option(parts["options"], "OVERWRITE") or "").upper() != "TRUE":
        raise refusal(1030, "22000", f"Files already existing at the unload destination: {parts['place']}. Use overwrite option to force unloading.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if kind == "PARQUET":
        write_parquet(target, kinds, rows)
    else:
        write_csv(target, kinds, rows, parts["options"])
    if (there := original(f"file://{target}")).startswith("s3://"):
        bucket, _, key = there.removeprefix("s3://").partition("/")
        s3(endpoint).upload_file(str(target), bucket, key)
    names = ["rows_unloaded", "input_bytes", "output_bytes"]
    size = str(os.path.getsize(target))
    return [column(each, "fixed") for each in names], [[str(len(rows)), size, size]]


def write_parquet(target: Path, kinds: list[dict[str, Any]], rows: list[list[str | None]]) -> None:
    arrays = [array([row[index] for row in rows], kind) for index, kind in enumerate(kinds)]
    pyarrow.parquet.write_table(pa.Table.from_arrays(arrays, names=[kind["name"] for kind in kinds]), target, compression="snappy")


def array(values: list[str | None], kind: dict[str, Any]) -> pa.Array:
    texts = pa.array(values, pa.string())
    match kind["type"]:
        case "fixed":
            return texts.cast(pa.decimal128(kind["precision"] or 38, kind["scale"] or 0))
        case "real":
            return texts.cast(pa.float64())
        case "boolean":
            return pa.array([None if value is None else value == "1" for value in values], pa.bool_())
        case "date":
            return texts.cast(pa.int32()).cast(pa.date32())
        case "time":
            return pa.array([None if value is None else units(value) for value in values], pa.time64("us"))
        case "timestamp_ntz":
            return pa.array([None if value is None else units(value) for value in values], pa.timestamp("us"))
        case "timestamp_tz" | "timestamp_ltz":
            return pa.array([None if value is None else units(value.split(" ")[0]) for value in values], pa.timestamp("us", "UTC"))
        case "binary":
            return pa.array([None if value is None else bytes.fromhex(value) for value in values], pa.binary())
    return texts


def units(seconds: str) -> int:
    """Microseconds of seconds with nine decimals."""
    return int(seconds.replace(".", "")) // 1000


def write_csv(target: Path, kinds: list[dict[str, Any]], rows: list[list[str | None]], options: str) -> None:
    quote = '"' if sql.option(options, "FIELD_OPTIONALLY_ENCLOSED_BY") else ""
    lines = [rendered(row, kinds, quote) for row in rows]
    if (sql.option(options, "HEADER") or "").upper() == "TRUE":
        lines.insert(0, ",".join(f"{quote}{kind['name']}{quote}" for kind in kinds))
    content = "".join(line + "\n" for line in lines).encode()
    plain = (sql.option(options, "COMPRESSION") or "GZIP").upper() == "NONE"
    target.write_bytes(content if plain else gzip.compress(content))


def rendered(row: list[str | None], kinds: list[dict[str, Any]], quote: str) -> str:
    shown = []
    for value, kind in zip(row, kinds, strict=True):
        if value is None:
            shown.append("\\N")
        elif kind["type"] in ("text", "variant"):
            shown.append(quote + (value.replace(quote, quote * 2) if quote else value) + quote)
        else:
            only = array([value], kind)[0]
            shown.append(str(only.as_py()).lower() if kind["type"] == "boolean" else str(only.as_py()))
    return ",".join(shown)
