"""Arrow results as the JSON rowset of Snowflake's protocol: every value a text or null."""

import base64
import datetime
import decimal
import math
from typing import Any

import pyarrow as pa


def rowset(data: dict[str, Any]) -> list[list[str | None]]:
    """The rows of an answer of fakesnow, whose rows are an Arrow stream in base64."""
    encoded = data.pop("rowsetBase64", "")
    if not encoded:
        return data.get("rowset") or []
    with pa.ipc.open_stream(base64.b64decode(encoded)) as stream:
        table = stream.read_all()
    columns = []
    for column, kind in zip(table.columns, data["rowtype"], strict=True):
        columns.append([text(value, kind) for value in column.to_pylist()])
    return [list(row) for row in zip(*columns, strict=True)]


def text(value: Any, kind: dict[str, Any]) -> str | None:
    """One value as Snowflake writes it for a column of this type."""
    # fakesnow puts the NULL of a timestamp inside its parts.
    if value is None or isinstance(value, dict) and value["epoch"] is None:
        return None
    match kind["type"]:
        case "boolean":
            return "1" if value else "0"
        case "date":
            return str((value - datetime.date(1970, 1, 1)).days)
        case "time":
            return seconds(value // 1_000_000_000, value % 1_000_000_000)
        case "timestamp_ntz" | "timestamp_ltz":
            return seconds(value["epoch"], value["fraction"])
        case "timestamp_tz":
            return f"{seconds(value['epoch'], value['fraction'])} {value['timezone']}"
        case "binary":
            return value.hex().upper()
        case "real":
            return real(value)
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    return str(value)


def seconds(whole: int, nanoseconds: int) -> str:
    """Seconds with nine decimals; before 1970 the fraction counts away from zero, as the whole does."""
    total = whole * 1_000_000_000 + nanoseconds
    sign = "-" if total < 0 else ""
    return f"{sign}{abs(total) // 1_000_000_000}.{abs(total) % 1_000_000_000:09d}"


def real(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return repr(value)
