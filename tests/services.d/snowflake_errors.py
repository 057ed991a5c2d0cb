"""DuckDB's refusals with the codes, states and words that Snowflake uses for the same."""

import re

import duckdb
from snowflake.connector.errors import ProgrammingError

NOT_IMPLEMENTED = "not implemented by the server of the tests: "


def without_code(message: str) -> str:
    """The connector puts code and state in front of the message; on the wire there is only the message."""
    return re.sub(r"^\d{6} \(\w*\): (?:\S{36}: )?", "", message)


def refusal(code: int, state: str, message: str) -> ProgrammingError:
    return ProgrammingError(msg=message, errno=code, sqlstate=state)


def from_duckdb(error: duckdb.Error) -> ProgrammingError:
    """What fakesnow lets through."""
    message = str(error)
    first = message.split("\n")[0]
    if isinstance(error, duckdb.InterruptException):
        return refusal(604, "57014", "SQL execution canceled")
    if isinstance(error, duckdb.ConstraintException):
        if found := re.search(r"NOT NULL constraint failed: \S*?([^.\s]+)$", first):
            return refusal(100072, "22000", f"NULL result in a non-nullable column\n{found[1]}")
        if "uplicate key" in message:
            return refusal(200001, "22000", f"A primary key already exists.\n{first}")
        return refusal(100072, "22000", first)
    if isinstance(error, duckdb.TransactionException):
        return refusal(625, "57014", f"Your statement was aborted because another transaction has locked the table.\n{first}")
    if isinstance(error, duckdb.OutOfRangeException):
        if "ivision by zero" in message:
            return refusal(100051, "22012", "Division by zero")
        return refusal(100046, "22003", f"Numeric value is out of range\n{first}")
    if isinstance(error, duckdb.InvalidInputException) and "aborted" in message:
        return refusal(625, "57014", first)
    if isinstance(error, duckdb.IOException):
        return refusal(91016, "22000", f"Remote file was not found\n{first}")
    if isinstance(error, duckdb.InvalidInputException | duckdb.ConversionException):
        return refusal(100038, "22018", first)
    if isinstance(error, duckdb.NotImplementedException):
        return refusal(2, "0A000", NOT_IMPLEMENTED + first)
    return refusal(603, "XX000", f"SQL execution internal error: {first}")


def translated(error: ProgrammingError) -> ProgrammingError:
    """A refusal of fakesnow whose code or words are DuckDB's."""
    message = without_code(error.msg or "")
    first = message.split("\n")[0]
    if found := re.search(r'(?:Referenced column|column named) "([^"]+)"', message):
        return refusal(904, "42000", f"SQL compilation error:\ninvalid identifier '{found[1]}'")
    if found := re.search(r'(?:Table|View|Schema|Catalog) with name "?([^"\s]+)"? (does not exist|already exists)', message):
        name = found[1].rstrip("!")
        if found[2] == "already exists":
            return refusal(2002, "42710", f"SQL compilation error:\nObject '{name}' already exists.")
        return refusal(2003, "42S02", f"SQL compilation error:\nObject '{name}' does not exist or not authorized.")
    if error.errno == 100035:
        return refusal(100038, "22018", first)
    if error.errno == 9999:
        return refusal(2, "0A000", NOT_IMPLEMENTED + first)
    return refusal(error.errno or 603, error.sqlstate or "XX000", message)
