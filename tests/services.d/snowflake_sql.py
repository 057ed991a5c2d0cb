"""Statements of Snowflake that fakesnow lacks or gets wrong: what kind a statement is, and what to send instead."""

import re

from fakesnow.dialect import parse, parse_one
from sqlglot import exp

# Comments in front of the first word.
LEADING = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|//[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
QUOTED = re.compile(r"('(?:[^'\\]|''|\\.)*'|\"(?:[^\"]|\"\")*\")", re.DOTALL)

# Options that ask for what fakesnow does anyway, or that DuckDB finds out from the file's name. fakesnow does not know them,
# or reads FORCE=FALSE and PURGE=FALSE as TRUE.
IDLE_OPTIONS = re.compile(
    r"\b(?:(?:FORCE|PURGE|TRUNCATECOLUMNS|RETURN_FAILED_ONLY|LOAD_UNCERTAIN_FILES|TRIM_SPACE|REPLACE_INVALID_CHARACTERS|SKIP_BLANK_LINES|"
    r"SKIP_BYTE_ORDER_MARK|PARSE_HEADER|STRIP_OUTER_ARRAY|STRIP_NULL_VALUES|ALLOW_DUPLICATE)\s*=\s*FALSE"
    r"|(?:ENFORCE_LENGTH|ERROR_ON_COLUMN_COUNT_MISMATCH|MULTI_LINE|USE_LOGICAL_TYPE|USE_VECTORIZED_SCANNER|BINARY_AS_TEXT)\s*=\s*(?:TRUE|FALSE)"
    r"|ESCAPE\s*=\s*NONE|COMPRESSION\s*=\s*(?:ZSTD|SNAPPY))\b\s*,?",
    re.IGNORECASE,
)
IDLE_TEXT_OPTIONS = re.compile(
    r"\b(?:ENCODING\s*=\s*'UTF-?8'|RECORD_DELIMITER\s*=\s*'\\n'|COMPRESSION\s*=\s*'(?:ZSTD|SNAPPY)'"
    r"|BINARY_FORMAT\s*=\s*'?(?:HEX|UTF8)'?|(?:DATE|TIME|TIMESTAMP)_FORMAT\s*=\s*'?AUTO'?)\s*,?",
    re.IGNORECASE,
)


def body(sql: str) -> str:
    """The statement from its first word, without its end mark."""
    return sql[LEADING.match(sql).end() :].rstrip().rstrip(";").rstrip()


def outside_quotes(pattern: re.Pattern[str], replacement: str, sql: str) -> str:
    parts = QUOTED.split(sql)
    return "".join(part if index % 2 else pattern.sub(replacement, part) for index, part in enumerate(parts))


def without_idle_options(sql: str) -> str:
    sql = outside_quotes(IDLE_OPTIONS, "", IDLE_TEXT_OPTIONS.sub("", sql))
    # A list of options may have lost its last one.
    return outside_quotes(re.compile(r",\s*\)"), ")", sql)


def is_copy(sql: str) -> bool:
    return re.match(r"COPY\s+INTO\b", body(sql), re.IGNORECASE) is not None


def is_definition(sql: str) -> bool:
    """Whether Snowflake commits the open transaction before this statement."""
    return re.match(r"(CREATE|DROP|UNDROP|COMMENT|GRANT|REVOKE|ALTER(?!\s+SESSION))\b", body(sql), re.IGNORECASE) is not None


def begins(sql: str) -> bool:
    return re.match(r"(BEGIN|START\s+TRANSACTION)(\s+(TRANSACTION|WORK))?(\s+NAME\s+\S+)?$", body(sql), re.IGNORECASE) is not None


def is_merge(sql: str) -> bool:
    return re.match(r"MERGE\s", body(sql), re.IGNORECASE) is not None


def ends(sql: str) -> bool:
    return re.match(r"(COMMIT|ROLLBACK)(\s+WORK)?$", body(sql), re.IGNORECASE) is not None


def has_no_effect_here(sql: str) -> bool:
    """Roles and warehouses are names only."""
    return re.match(r"(GRANT|REVOKE|USE\s+(ROLE|WAREHOUSE|SECONDARY\s+ROLES?))\b", body(sql), re.IGNORECASE) is not None


def session_parameters(sql: str) -> dict[str, str | None] | None:
    """The names and values of ALTER SESSION; the value of UNSET is None. None for another statement."""
    found = re.match(r"ALTER\s+SESSION\s+(SET|UNSET)\s+(.*)$", body(sql), re.IGNORECASE | re.DOTALL)
    if not found:
        return None
    if found[1].upper() == "UNSET":
        return {name.strip().upper(): None for name in found[2].split(",")}
    pairs = re.findall(r"(\w+)\s*=\s*('(?:[^'\\]|''|\\.)*'|[^\s,]+)", found[2])
    return {name.upper(): unquoted(value) for name, value in pairs}


def unquoted(value: str) -> str:
    if not value.startswith("'"):
        return value
    return re.sub(r"''|\\(.)", lambda found: found[1] or "'", value[1:-1])


def waits(sql: str) -> float | None:
    """The seconds of SYSTEM$WAIT."""
    found = re.match(r"(?:SELECT|CALL)\s+SYSTEM\$WAIT\s*\(\s*([\d.]+)\s*(?:,\s*'(\w+)'\s*)?\)$", body(sql), re.IGNORECASE)
    if not found:
        return None
    unit = {"MILLISECONDS": 0.001, "MINUTES": 60, "HOURS": 3600}.get((found[2] or "").upper(), 1)
    return float(found[1]) * unit


def described_stage(sql: str) -> str | None:
    found = re.match(r"DESC(?:RIBE)?\s+STAGE\s+(.+)$", body(sql), re.IGNORECASE | re.DOTALL)
    return found[1].strip() if found else None


def unload(sql: str) -> dict[str, str] | None:
    """The parts of COPY INTO a location: place, query, options."""
    found = re.match(r"COPY\s+INTO\s+('?@[^\s']+'?|'file://[^']+')\s+FROM\s+(.*)$", body(sql), re.IGNORECASE | re.DOTALL)
    if not found:
        return None
    place, rest = found[1].strip("'"), found[2]
    if rest.startswith("("):
        end = closing(rest)
        return {"place": place, "query": rest[1:end], "options": rest[end + 1 :]}
    table, _, options = rest.partition(" ")
    return {"place": place, "query": f"SELECT * FROM {table}", "options": options}


def closing(text: str) -> int:
    """Where the parenthesis that opens `text` closes; quoted text and comments do not count."""
    depth = 0
    for found in re.finditer(r"'(?:[^'\\]|''|\\.)*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|[()]", text, re.DOTALL):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if depth == 0:
            return found.start()
    raise ValueError("a parenthesis is not closed")


def option(options: str, name: str) -> str | None:
    found = re.search(rf"\b{name}\s*=\s*('(?:[^'\\]|''|\\.)*'|[^\s,()]+)", options, re.IGNORECASE)
    return unquoted(found[1]) if found else None


def changed_table(sql: str, connection) -> tuple[str, str, str] | None:
    """The table whose rows UPDATE, DELETE or MERGE changes: database, schema, name."""
    if not re.match(r"(UPDATE|DELETE|MERGE)\b", body(sql), re.IGNORECASE):
        return None
    try:
        target = parse_one(sql).this
    except Exception:  # noqa: BLE001 - fakesnow will say what is wrong with it
        return None
    target = target if isinstance(target, exp.Table) else target.find(exp.Table)
    folded = [part.name if part.args.get("quoted") else part.name.upper() for part in target.parts]
    return tuple([connection.database, connection.schema][: 3 - len(folded)] + folded)


def dropped_database(sql: str) -> tuple[str, bool] | None:
    """The database of DROP DATABASE, and whether it must be there."""
    found = re.match(r"DROP\s+DATABASE\s+(IF\s+EXISTS\s+)?(\"[^\"]+\"|\w+)(\s+(CASCADE|RESTRICT))?$", body(sql), re.IGNORECASE)
    if not found:
        return None
    return (found[2][1:-1] if found[2].startswith('"') else found[2].upper()), found[1] is None


def without_keys(sql: str) -> str:
    """Snowflake records primary and unique keys and does not enforce them; DuckDB does."""
    if not re.match(r"(CREATE|ALTER)\b.*?\bTABLE\b", body(sql), re.IGNORECASE | re.DOTALL):
        return sql
    sql = re.sub(r",\s*(?:CONSTRAINT\s+\S+\s+)?(?:PRIMARY\s+KEY|UNIQUE)\s*\([^)]*\)", "", sql, flags=re.IGNORECASE)
    return outside_quotes(re.compile(r"\bUNIQUE\b", re.IGNORECASE), "", outside_quotes(re.compile(r"\bPRIMARY\s+KEY\b", re.IGNORECASE), "", sql))


def with_context(sql: str, values: dict[str, str | None]) -> str:
    """Functions of the session that fakesnow lacks, as their values."""
    for function, value in values.items():
        literal = "NULL" if value is None else f"'{value}'"
        sql = outside_quotes(re.compile(rf"\b{function}\s*\(\s*\)", re.IGNORECASE), literal, sql)
    return sql


def placed(code: str, message: str, sql: str) -> tuple[str, str]:
    """Code and message of a failure, with the place in the statement as Snowflake says it where it can be found."""
    if code == "001003":
        if found := re.search(r"Line (\d+), Col: (\d+)", message):
            line, end = int(found[1]), int(found[2])
            before = (sql.split("\n") + [""] * line)[line - 1][:end]
            word = (re.search(r"\w+$|.$", before) or [""])[0]
            return code, syntax_error(line, end - len(word), word)
        if found := re.search(r'at or near "([^"]+)"', message):
            line, position = place(sql, found[1])
            return code, syntax_error(line, position, found[1])
        if "end of input" in message:
            return code, syntax_error(sql.count("\n") + 1, len(sql.split("\n")[-1]), "<EOF>")
    if code == "000904" and (found := re.search(r"invalid identifier '([^']+)'", message)):
        line, position = place(sql, found[1])
        return code, f"SQL compilation error: error line {line} at position {position}\ninvalid identifier '{found[1]}'"
    if code == "261000" and ";" in sql:
        count = len([each for each in parse(sql) if each])
        if count > 1:
            return "000008", f"Actual statement count {count} did not match the desired statement count 1."
    return code, message


def syntax_error(line: int, position: int, word: str) -> str:
    return f"SQL compilation error:\nsyntax error line {line} at position {position} unexpected '{word}'."


def place(sql: str, word: str) -> tuple[int, int]:
    """Line, from one, and position, from zero, of a word."""
    found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", sql, re.IGNORECASE)
    before = sql[: found.start()] if found else ""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1)
