"""COPY INTO a table from files that are named one by one, as Snowflake documents it; fakesnow reads neither queries over CSV nor METADATA$ columns.

Rules: https://docs.snowflake.com/en/sql-reference/sql/copy-into-table, https://docs.snowflake.com/en/user-guide/data-load-transform
"""

import gzip
import re
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet
from botocore.exceptions import ClientError
from snowflake_errors import from_duckdb, refusal

import snowflake_files as files
import snowflake_sql as sql

COLUMNS = ["file", "status", "rows_parsed", "rows_loaded", "error_limit", "errors_seen", "first_error", "first_error_line",
           "first_error_character", "first_error_column_name"]  # fmt: skip
COPY = re.compile(
    r"COPY\s+INTO\s+(?P<table>(?:\"(?:[^\"]|\"\")*\"|[\w.$])+)\s*(?:\((?P<names>[^()]*)\)\s*)?FROM\s+(?P<rest>.*)$", re.IGNORECASE | re.DOTALL
)
STAGE = re.compile(r"@((?:\"[^\"]*\"|[\w.$])+)(?:/(\S*))?\s*", re.IGNORECASE)
TAIL = re.compile(
    r"FILES\s*=\s*\((?P<files>.*?)\)\s*FILE_FORMAT\s*=\s*\((?P<format>.*)\)\s*(?:ON_ERROR\s*=\s*ABORT_STATEMENT|VALIDATION_MODE\s*=\s*(?P<mode>RETURN_ERRORS))\s*$",
    re.IGNORECASE | re.DOTALL,
)
TEXT = r"'(?:[^'\\]|''|\\.)*'"
# Objects with such a key are ones that a storage integration may not read, and ones that are written anew as soon as they were copied.
FORBIDDEN, CHANGING = "/no-rights/", "/changing/"


def parts(text: str) -> dict[str, Any] | None:
    """The parts of a COPY that is executed here."""
    found = COPY.match(sql.body(text))
    if not found or re.search(r"\bMATCH_BY_COLUMN_NAME\b", text, re.IGNORECASE):
        return None
    rest, values = found["rest"], None
    if rest.startswith("("):
        end = sql.closing(rest)
        query = re.match(r"\(\s*SELECT\s+(.*)\s+FROM\s+(@.*)$", rest[:end], re.IGNORECASE | re.DOTALL)
        if not query:
            return None
        values, stage, rest = split(query[1]), STAGE.match(query[2]), rest[end + 1 :].lstrip()
    else:
        stage = STAGE.match(rest)
        rest = rest[stage.end() :] if stage else rest
    tail = TAIL.match(rest)
    if not stage or not tail or (tail["mode"] and values):
        return None
    return {
        "table": found["table"], "names": split(found["names"] or ""), "values": values, "stage": stage[1], "path": stage[2] or "",
        "files": [sql.unquoted(name) for name in re.findall(TEXT, tail["files"])], "format": tail["format"], "validates": tail["mode"] is not None,
    }  # fmt: skip


def split(text: str) -> list[str]:
    """The items of a list with commas between them, outside of quotes and parentheses."""
    items, depth, start = [], 0, 0
    for found in re.finditer(rf"{TEXT}|\"(?:[^\"]|\"\")*\"|[(),]", text):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if found[0] == "," and depth == 0:
            items.append(text[start : found.start()].strip())
            start = found.end()
    return [item for item in [*items, text[start:].strip()] if item]


def copy(connection: Any, parts: dict[str, Any], endpoint: str) -> tuple[list[dict[str, Any]], list[list[str | None]]]:
    """Loads all files or none; says of each how many rows it has."""
    url = files.original(files.stage_url(connection, parts["stage"])).rstrip("/") + "/" + parts["path"]
    urls = [url + name for name in parts["files"]]
    local = [fetched(each, endpoint) for each in urls]
    if (sql.option(parts["format"], "TYPE") or "CSV").upper() == "PARQUET":
        selected, counts = of_parquet(parts, urls, local)
        tables: list[pa.Table] = []
    else:
        options = Options(parts["format"])
        fields = None if parts["values"] else len(parts["names"])
        try:
            tables = [options.table(path, each, fields, parts["values"] or []) for path, each in zip(local, urls, strict=True)]
        except Misfit as misfit:
            if not parts["validates"]:
                raise refusal(100080, "22000", str(misfit)) from None
            return [files.column(name) for name in ["error", "file"]], [[str(misfit), misfit.file]]
        selected, counts = of_text(parts), [table.num_rows for table in tables]
    if parts["validates"]:
        return [files.column(name) for name in ["error", "file"]], []
    names = f"({', '.join(parts['names'])})" if parts["names"] else ""
    errand_rows = pa.concat_tables(tables) if tables else None  # noqa: F841 - the statement names it
    try:
        connection._duck_conn.execute(f"INSERT INTO {parts['table']} {names} {selected}")
    except duckdb.Error as error:
        raise from_duckdb(error) from None
    for each in urls:
        if CHANGING in each:
            change(each, endpoint)
    return [files.column(name) for name in COLUMNS], [
        [each, "LOADED", str(count), str(count), "1", "0", None, None, None, None] for each, count in zip(urls, counts, strict=True)
    ]


def fetched(url: str, endpoint: str) -> Path:
    """A file as it is now."""
    if FORBIDDEN in url:
        raise refusal(91003, "22000", "Failure using stage area. Cause: [Access Denied (Status Code: 403; Error Code: AccessDenied)]")
    missing = refusal(91016, "22000", f"Remote file '{url}' was not found. If you are running a copy command, please make sure files are not deleted.")
    if url.startswith("file://"):
        path = Path(url.removeprefix("file://"))
        if not path.is_file():
            raise missing
        return path
    bucket, _, key = url.removeprefix("s3://").partition("/")
    path = files.MIRROR / "copied" / bucket / key
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        files.s3(endpoint).download_file(bucket, key, str(path))
    except ClientError:
        raise missing from None
    return path


def change(url: str, endpoint: str) -> None:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    client = files.s3(endpoint)
    content = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=content + b"\n")


def file_name(url: str) -> str:
    """METADATA$FILENAME: the path from the bucket on."""
    return url.removeprefix("s3://").partition("/")[2] if url.startswith("s3://") else url.removeprefix("file://")


# ---------------------------------------------------------------- Parquet


def of_parquet(parts: dict[str, Any], urls: list[str], local: list[Path]) -> tuple[str, list[int]]:
    """A query over all files, and how many rows each has. Casts are left to the columns of the table."""
    queries, counts = [], []
    for url, path in zip(urls, local, strict=True):
        try:
            metadata = pyarrow.parquet.read_metadata(path)
        except pa.ArrowException as error:
            raise refusal(100183, "22000", f"Error parsing the parquet file: {error} File '{url}'") from None
        names = set(metadata.schema.to_arrow_schema().names)
        values = [parquet_value(value, names, url) for value in parts["values"]]
        queries.append(f"SELECT {', '.join(values)} FROM read_parquet({literal(str(path))}, file_row_number = true)")
        counts.append(metadata.num_rows)
    return " UNION ALL ".join(queries), counts


def parquet_value(value: str, names: set[str], url: str) -> str:
    def field(found: re.Match[str]) -> str:
        name = found[1] if found[1] is not None else sql.unquoted(found[2])
        return '"' + name.replace('"', '""') + '"' if name in names else "NULL"

    value = re.sub(rf"(?:\$1:\"([^\"]*)\"|GET\(\$1,\s*({TEXT})\))(?:::[A-Z_]+(?:\([\d,]+\))?)?", field, value)
    value = value.replace("METADATA$FILENAME", literal(file_name(url))).replace("METADATA$FILE_ROW_NUMBER", "file_row_number + 1")
    return re.sub(r"^PARSE_JSON\((.*)\)$", r"CAST(\1 AS JSON)", value)


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# ---------------------------------------------------------------- text


class Misfit(Exception):
    """A file that does not fit its columns."""

    def __init__(self, message: str, file: str, row: int) -> None:
        super().__init__(f"{message}\n  File '{file}', line {row}, row {row}")
        self.file = file


def of_text(parts: dict[str, Any]) -> str:
    """A query over the table `errand_rows`."""
    values = parts["values"] or [f"${at + 1}" for at in range(len(parts["names"]))]
    values = [re.sub(r"\$(\d+)", r'"$\1"', value) if re.fullmatch(r"\$\d+", value) else value for value in values]
    values = [value.replace("METADATA$FILENAME", '"filename"').replace("METADATA$FILE_ROW_NUMBER", '"row"') for value in values]
    return f"SELECT {', '.join(values)} FROM errand_rows"


class Options:
    """Those of a CSV file format, with the defaults of Snowflake."""

    def __init__(self, text: str) -> None:
        def told(name: str, otherwise: str) -> str:
            value = sql.option(text, name)
            return otherwise if value is None else value

        def sign(name: str, otherwise: str) -> str:
            value = told(name, otherwise)
            return chr(int(value, 16)) if value.startswith("0x") else "" if value.upper() == "NONE" else value

        def word(name: str, otherwise: bool) -> bool:
            return told(name, str(otherwise)).upper() == "TRUE"

        self.compression = told("COMPRESSION", "AUTO").upper()
        self.delimiter, self.quote = sign("FIELD_DELIMITER", ","), sign("FIELD_OPTIONALLY_ENCLOSED_BY", "NONE")
        self.skipped = int(told("SKIP_HEADER", "0"))
        self.empty_is_null = word("EMPTY_FIELD_AS_NULL", True)
        self.counts_fields = word("ERROR_ON_COLUMN_COUNT_MISMATCH", True)
        nulls = re.search(rf"\bNULL_IF\s*=\s*\(((?:\s*{TEXT}\s*,?)*)\)", text, re.IGNORECASE)
        self.nulls = {sql.unquoted(null) for null in re.findall(TEXT, nulls[1])} if nulls else {"\\N"}
        unsupported = [name for name in ("TRIM_SPACE", "REPLACE_INVALID_CHARACTERS", "SKIP_BLANK_LINES") if word(name, False)]
        if unsupported or sign("ESCAPE", "NONE") or sign("ESCAPE_UNENCLOSED_FIELD", "\\"):
            raise refusal(2, "0A000", "not implemented by the server of the tests: an option of the CSV file format")

    def table(self, path: Path, url: str, fields: int | None, values: list[str]) -> pa.Table:
        """The rows of a file as texts. `fields`: how many each record must have; none in a query, which asks for some by number."""
        records = self.records(self.text(path, url), url, fields)
        width = fields if fields is not None else max([int(number) for value in values for number in re.findall(r"\$(\d+)", value)], default=0)
        columns = {
            f"${at + 1}": pa.array([self.value(record[at]) if at < len(record) else None for record in records], pa.string()) for at in range(width)
        }
        columns["filename"] = pa.array([file_name(url)] * len(records), pa.string())
        columns["row"] = pa.array(range(1, len(records) + 1), pa.int64())
        return pa.table(columns)

    def text(self, path: Path, url: str) -> str:
        content = path.read_bytes()
        kind = self.compression
        if kind == "GZIP" or (kind == "AUTO" and content[:2] == b"\x1f\x8b"):
            content = gzip.decompress(content)
        elif kind == "ZSTD" or (kind == "AUTO" and content[:4] == b"\x28\xb5\x2f\xfd"):
            content = pa.input_stream(pa.BufferReader(content), compression="zstd").read()
        try:
            text = content.removeprefix(b"\xef\xbb\xbf").decode()
        except UnicodeDecodeError as error:
            raise refusal(100144, "22000", f"Invalid UTF8 detected in string '{content[error.start : error.start + 1]!r}'\n  File '{url}'") from None
        for _ in range(self.skipped):
            text = text.partition("\n")[2]
        return text

    def value(self, field: tuple[str, bool]) -> str | None:
        text, enclosed = field
        return None if text in self.nulls or (text == "" and not enclosed and self.empty_is_null) else text

    def records(self, text: str, url: str, fields: int | None) -> list[list[tuple[str, bool]]]:
        records: list[list[tuple[str, bool]]] = []
        at = 0
        while at < len(text):
            record: list[tuple[str, bool]] = []
            row = len(records) + 1
            while True:
                field, at = self.enclosed(text, at, url, row) if self.quote and text.startswith(self.quote, at) else self.plain(text, at)
                record.append(field)
                if not text.startswith(self.delimiter, at):
                    break
                at += len(self.delimiter)
            at += 1 if text.startswith("\n", at) else 2
            if record == [("", False)]:
                raise Misfit("End of record reached while expected to parse column", url, row)
            if self.counts_fields and fields is not None and len(record) != fields:
                hint = "use file format option error_on_column_count_mismatch=false to ignore this error"
                raise Misfit(f"Number of columns in file ({len(record)}) does not match that of the corresponding table ({fields}), {hint}", url, row)
            records.append(record)
        return records

    def plain(self, text: str, at: int) -> tuple[tuple[str, bool], int]:
        ends = [end for end in (text.find(self.delimiter, at), text.find("\n", at)) if end >= 0]
        end = min(ends, default=len(text))
        # A line end may be CRLF.
        if text.startswith("\n", end) and end > at and text[end - 1] == "\r":
            return (text[at : end - 1], False), end
        return (text[at:end], False), end

    def enclosed(self, text: str, at: int, url: str, row: int) -> tuple[tuple[str, bool], int]:
        content, start = "", at + 1
        while True:
            end = text.find(self.quote, start)
            if end < 0:
                raise Misfit("Found character EOF instead of the closing quote of a field", url, row)
            content += text[start:end]
            if not text.startswith(self.quote, end + 1):
                break
            content, start = content + self.quote, end + 2
        after = text[end + 1 : end + 3]
        if after and not after.startswith((self.delimiter, "\n", "\r\n")):
            raise Misfit(f"Found character '{after[0]}' instead of field delimiter '{self.delimiter}'", url, row)
        return (content, True), end + 1
