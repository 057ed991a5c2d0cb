"""A front for fakesnow, so that it answers as Snowflake does to the runner's client.

Usage: snowflake_server.py <file that receives the port> <password> <OAuth token> <file with the public key> <port of the S3 server>

Beyond fakesnow: credentials are checked, results are JSON, every answer has a query id and HTTP status 200, session parameters and ALTER SESSION are
kept, statements can be cancelled and time out, definitions commit the open transaction, writers of one table wait for each other, and statements
of snowflake_sql.py work. tests/README.md lists what still differs.
"""

import asyncio
import base64
import dataclasses
import decimal
import gzip
import hashlib
import json
import os
import socket
import sys
import time
import uuid
from typing import Any

import duckdb
import fakesnow.server as server
import jwt
import uvicorn
from cryptography.hazmat.primitives import serialization
from fakesnow.cursor import FakeSnowflakeCursor
from snowflake.connector.errors import ProgrammingError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import snowflake_copy
import snowflake_files
import snowflake_sql as sql
from snowflake_errors import from_duckdb, refusal, translated, without_code
from snowflake_rows import rowset

DATABASE, USER, ROLES, WAREHOUSES = "ERRAND_TESTS", "ERRAND", {"ERRAND_ROLE", "PUBLIC"}, {"ERRAND_WH"}
STATUS = [{"name": "status", "database": "", "schema": "", "table": "", "nullable": True, "type": "text", "length": 16777216,
           "byteLength": 16777216, "scale": None, "precision": None, "collation": None}]  # fmt: skip

MERGED = [{**STATUS[0], "name": "number of rows inserted", "type": "fixed", "length": None, "byteLength": None, "scale": 0, "precision": 38}]


@dataclasses.dataclass
class Session:
    connection: Any
    parameters: dict[str, Any]
    warehouse: str | None
    role: str
    in_transaction: bool = False
    last_query: str = ""
    # Snowflake runs the statements of one session side by side; a DuckDB connection does not.
    turn: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)


@dataclasses.dataclass
class Running:
    session: Session
    ended_by: ProgrammingError | None = None


sessions: dict[str, Session] = {}
running: dict[str, Running] = {}
# The table that a session writes to and the others wait for.
locks: dict[tuple[str, str, str], Session] = {}
statuses: dict[str, dict[str, Any]] = {}


# ---------------------------------------------------------------- fakesnow


def mend_fakesnow() -> None:
    """It answers 500 to errors of DuckDB that it does not know, and reads bound floats as texts and bound NULLs not at all."""
    execute, from_binding = FakeSnowflakeCursor.execute, server.from_binding

    def bound(binding: dict[str, Any]) -> Any:
        kind, value = binding["type"], binding["value"]
        if value is None:
            return None
        if kind == "REAL":
            return float(value)
        return decimal.Decimal(value) if kind == "FIXED" and not value.lstrip("-").isdigit() else from_binding(binding)

    def translating(self: FakeSnowflakeCursor, *arguments: Any, **named: Any) -> FakeSnowflakeCursor:
        try:
            return execute(self, *arguments, **named)
        except ProgrammingError as error:
            raise translated(error) from None
        except duckdb.Error as error:
            raise from_duckdb(error) from None

    FakeSnowflakeCursor.execute, server.from_binding = translating, bound


async def fakesnow(handler: Any, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    """What a handler of fakesnow answers to this request with another body."""
    content = json.dumps(body).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    headers = [pair for pair in request.scope["headers"] if pair[0] not in (b"content-encoding", b"content-length")]
    response = await handler(Request({**request.scope, "headers": headers}, receive))
    return json.loads(response.body)


async def body_of(request: Request) -> dict[str, Any]:
    body = await request.body()
    if request.headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    return json.loads(body or b"{}")


def failure(code: str, message: str, state: str | None = None, query_id: str | None = None) -> dict[str, Any]:
    data = {"errorCode": code, "sqlState": state, "queryId": query_id} if query_id else None
    return {"data": data, "code": code, "message": message, "success": False}


# ---------------------------------------------------------------- sessions


def key_is_right(token: str, account: str, public: Any) -> bool:
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    fingerprint = "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()
    try:
        claims = jwt.decode(token, public, algorithms=["RS256"], options={"verify_aud": False})
    except jwt.PyJWTError:
        return False
    return claims.get("iss") == f"{account.upper()}.{USER}.{fingerprint}" and claims.get("sub") == f"{account.upper()}.{USER}"


async def login(request: Request) -> JSONResponse:
    body = await body_of(request)
    data, query, known = body["data"], request.query_params, request.app.state
    match data.get("AUTHENTICATOR"):
        case "SNOWFLAKE_JWT":
            right = key_is_right(data.get("TOKEN", ""), data["ACCOUNT_NAME"].split(".")[0], known.public_key)
            denied = failure("390144", "JWT token is invalid.")
        case "OAUTH":
            right = data.get("TOKEN") == known.token
            denied = failure("390303", "Invalid OAuth access token.")
        case _:
            right = data.get("LOGIN_NAME", "").upper() == USER and data.get("PASSWORD") == known.password
            denied = failure("390100", "Incorrect username or password was specified.")
    if not right:
        return JSONResponse(denied)
    role = query.get("roleName")
    if role and role.strip('"').upper() not in ROLES:
        return JSONResponse(failure("390189", f"Role '{role}' specified in the connect string does not exist or not authorized."))
    parameters = {name.upper(): value for name, value in (data.get("SESSION_PARAMETERS") or {}).items()}
    data["SESSION_PARAMETERS"] = parameters
    answer = await fakesnow(server.login_request, request, body)
    warehouse = query.get("warehouse")
    token = answer["data"]["token"]
    sessions[token] = Session(server.sessions[token], parameters, warehouse and warehouse.strip('"').upper(), (role or "PUBLIC").strip('"').upper())
    answer["data"]["masterToken"] = token
    return JSONResponse(answer)


async def session_request(request: Request) -> JSONResponse:
    """Heartbeat, and the end of a session."""
    token = server.to_token(request)
    if token not in sessions:
        return JSONResponse(failure("390111", "Session no longer exists. New login required to access the service."))
    if request.query_params.get("delete") == "true":
        session = sessions.pop(token)
        async with session.turn:
            server.sessions.pop(token, None)
            session.connection.close()
            release(session)
    return JSONResponse({"data": None, "code": None, "message": None, "success": True})


# ---------------------------------------------------------------- statements


async def query(request: Request) -> JSONResponse:
    session = sessions.get(server.to_token(request)) if request.headers.get("authorization") else None
    if session is None:
        return JSONResponse(failure("390111", "Session no longer exists. New login required to access the service."))
    body = await body_of(request)
    query_id = str(uuid.uuid4())
    request_id = request.query_params.get("requestId", query_id)
    execution = running[request_id] = Running(session)
    limit = float(session.parameters.get("STATEMENT_TIMEOUT_IN_SECONDS") or 0)
    late = refusal(630, "57014", f"Statement reached its statement or warehouse timeout of {limit:.0f} second(s) and was canceled.")
    timer = asyncio.get_running_loop().call_later(limit, end, execution, late) if limit else None
    try:
        async with session.turn:
            answer = await statement(request, execution, body)
        if answer["success"] and "rowset" not in answer["data"]:
            answer["data"]["rowset"] = rowset(answer["data"])
    except ProgrammingError as error:
        answer = refused(error)
    except Exception as error:  # noqa: BLE001 - a gap of the front or of fakesnow is an answer too
        server.logger.error(body["sqlText"], exc_info=error)
        answer = refused(refusal(603, "XX000", f"SQL execution internal error: {error!r}"))
    finally:
        del running[request_id]
        if timer:
            timer.cancel()
    if not answer["success"]:
        known = execution.ended_by
        answer = refused(known) if known else answer
        code, state = answer.get("code") or "261000", (answer.get("data") or {}).get("sqlState")
        code, message = sql.placed(code, without_code(answer.get("message") or ""), body["sqlText"])
        answer = failure(code, message, state, query_id)
    data = answer["data"]
    data["queryId"] = data.get("queryId") or query_id
    if answer["success"]:
        session.last_query = data["queryId"]
        data.update(queryResultFormat="json", returned=len(data["rowset"]), total=len(data["rowset"]))
    statuses[data["queryId"]] = {"id": data["queryId"], "status": "SUCCESS" if answer["success"] else "FAILED_WITH_ERROR", "sqlText": body["sqlText"]}
    return JSONResponse(answer)


def refused(error: ProgrammingError) -> dict[str, Any]:
    return {"success": False, "code": f"{error.errno:06d}", "message": error.msg, "data": {"sqlState": error.sqlstate}}


def done(columns: list[dict[str, Any]] = STATUS, rows: list[list[str | None]] | None = None) -> dict[str, Any]:
    rows = [["Statement executed successfully."]] if rows is None else rows
    return {"success": True, "data": {"rowtype": columns, "rowset": rows}}


async def statement(request: Request, execution: Running, body: dict[str, Any]) -> dict[str, Any]:
    """Executes one statement: by itself, or with fakesnow."""
    session, text = execution.session, body["sqlText"]
    parameters = sql.session_parameters(text)
    if parameters is not None and "AUTOCOMMIT" not in parameters:
        session.parameters.update(parameters)
        return done()
    if sql.has_no_effect_here(text):
        return done()
    if (duration := sql.waits(text)) is not None:
        await wait_for(execution, lambda: False, duration)
        return done(rows=[["waited"]])
    if session.warehouse and session.warehouse not in WAREHOUSES and not sql.is_definition(text):
        raise refusal(606, "57P03", "No active warehouse selected in the current session.  Select an active warehouse with the 'use warehouse' command.")
    if sql.begins(text) and session.in_transaction:
        return done()
    if sql.is_definition(text) and session.in_transaction:
        await perform(request, execution, {"sqlText": "COMMIT"})
    try:
        await lock(execution, text)
        return await perform(request, execution, body)
    finally:
        if not session.in_transaction:
            release(session)


async def perform(request: Request, execution: Running, body: dict[str, Any]) -> dict[str, Any]:
    session, text = execution.session, body["sqlText"]
    ask = lambda other: interruptible(execution, fakesnow(server.query_request, request, {"sqlText": other}))  # noqa: E731
    if (stage := sql.described_stage(text)) is not None:
        return done(*snowflake_files.describe(session.connection, stage))
    if (parts := sql.unload(text)) is not None:
        selected = await ask(parts["query"])
        endpoint = request.app.state.s3
        return done(*snowflake_files.unload(session.connection, parts, selected, endpoint)) if selected["success"] else selected
    if (copied := snowflake_copy.parts(text)) is not None:
        return done(*await interruptible(execution, asyncio.to_thread(snowflake_copy.copy, session.connection, copied, request.app.state.s3)))
    if (database := sql.dropped_database(text)) is not None:
        return done() if drop_database(session, *database) else done(rows=[["Drop statement executed successfully."]])
    if sql.is_copy(text) or "FILE_FORMAT" in text.upper() or "FILE FORMAT" in text.upper():
        text = sql.without_idle_options(text)
    text = sql.with_context(sql.without_keys(text), {
        "CURRENT_WAREHOUSE": session.warehouse, "CURRENT_ROLE": session.role, "CURRENT_USER": USER, "LAST_QUERY_ID": session.last_query,
    })  # fmt: skip
    if sql.is_merge(text):
        return done(MERGED, [[str(await interruptible(execution, asyncio.to_thread(merge, session, text)))]])
    text = snowflake_files.mirrored(session.connection, text, request.app.state.s3)
    answer = await interruptible(execution, fakesnow(server.query_request, request, {**body, "sqlText": text}))
    if answer["success"] and sql.begins(text):
        session.in_transaction = True
    if sql.ends(text):
        session.in_transaction = False
    return answer


def merge(session: Session, text: str) -> int:
    """DuckDB's own MERGE: fakesnow writes to a table of another database for it, which no transaction may do that wrote to one already."""
    try:
        return session.connection._duck_conn.execute(text).fetchone()[0]
    except duckdb.Error as error:
        raise from_duckdb(error) from None


def drop_database(session: Session, name: str, must_exist: bool) -> bool:
    """Detaches it, whoever uses it; fakesnow cannot drop databases."""
    duck, connection = session.connection._duck_conn, session.connection
    found = duck.execute("SELECT database_name FROM duckdb_databases() WHERE database_name = ?", [name]).fetchone()
    if not found and must_exist:
        raise refusal(2003, "02000", f"SQL compilation error:\nDatabase '{name}' does not exist or not authorized.")
    if connection.database == name:
        duck.execute("USE memory.main")
        connection.database, connection.database_set, connection._schema, connection.schema_set = None, False, None, False
    if found:
        duck.execute(f'DETACH "{name}"')
        for table in ("_fs_stages", "_fs_file_formats"):
            duck.execute(f"DELETE FROM _fs_global._fs_information_schema.{table} WHERE database_name = ?", [name])
    return bool(found)


async def interruptible(execution: Running, work: Any) -> dict[str, Any]:
    """An interruption that comes before DuckDB begins is lost; so it is repeated until the work ends."""
    task = asyncio.create_task(work)
    while not task.done():
        await asyncio.wait([task], timeout=0.02)
        if execution.ended_by and not task.done():
            execution.session.connection._duck_conn.interrupt()
    return task.result()


def end(execution: Running, why: ProgrammingError) -> None:
    execution.ended_by = execution.ended_by or why


async def abort(request: Request) -> JSONResponse:
    execution = running.get((await body_of(request)).get("requestId", ""))
    if execution is None:
        return JSONResponse(failure("000605", "Identified SQL statement is not currently executing."))
    end(execution, refusal(604, "57014", "SQL execution canceled"))
    return JSONResponse({"success": True, "code": None, "message": None, "data": None})


# ---------------------------------------------------------------- locks


async def lock(execution: Running, text: str) -> None:
    """Writers that change rows of one table wait for each other, as in Snowflake; DuckDB would refuse the second one."""
    session = execution.session
    table = sql.changed_table(text, session.connection)
    if table is None:
        return
    limit = float(session.parameters.get("LOCK_TIMEOUT") or 43200)
    free = lambda: locks.get(table) in (None, session)  # noqa: E731
    if not await wait_for(execution, free, limit):
        raise refusal(625, "57014", f"Statement has locked table '{table[2]}' in another transaction and this lock has not yet been released.")
    locks[table] = session


def release(session: Session) -> None:
    for table in [table for table, owner in locks.items() if owner is session]:
        del locks[table]


async def wait_for(execution: Running, condition: Any, limit: float) -> bool:
    """Whether the condition came true within the limit; a cancelled statement raises."""
    deadline = time.monotonic() + limit
    while not condition():
        if execution.ended_by:
            raise execution.ended_by
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        await asyncio.sleep(min(0.02, remaining))
    return True


# ---------------------------------------------------------------- the server


async def monitoring(request: Request) -> JSONResponse:
    known = statuses.get(request.path_params["query_id"])
    return JSONResponse({"data": {"queries": [known] if known else []}, "success": True})


def main() -> None:
    port_file, password, token, public_key, s3_port = sys.argv[1:]
    mend_fakesnow()
    routes = [
        Route("/session/v1/login-request", login, methods=["POST"]),
        Route("/session", session_request, methods=["POST"]),
        Route("/session/heartbeat", session_request, methods=["POST"]),
        Route("/queries/v1/query-request", query, methods=["POST"]),
        Route("/queries/v1/abort-request", abort, methods=["POST"]),
        Route("/monitoring/queries/{query_id}", monitoring, methods=["GET"]),
    ]
    app = Starlette(routes=routes)
    app.state.password, app.state.token, app.state.s3 = password, token, f"http://127.0.0.1:{s3_port}"
    with open(public_key, "rb") as file:
        app.state.public_key = serialization.load_pem_public_key(file.read())
    server.shared_fs.connect(DATABASE, "PUBLIC").close()
    # In an account, a session begins without a database or schema that does not exist; fakesnow would make them.
    server.shared_fs.create_database_on_connect = server.shared_fs.create_schema_on_connect = False
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    with open(port_file + ".part", "w", encoding="ascii") as file:
        file.write(str(listener.getsockname()[1]))
    os.rename(port_file + ".part", port_file)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


main()
