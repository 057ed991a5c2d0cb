"""Runs one statement in a fresh DuckDB file and checkpoints it: <file> <threads> <statement>."""

import sys

import duckdb

file, threads, statement = sys.argv[1:]
connection = duckdb.connect(file, config={"threads": threads})
connection.execute(statement)
connection.execute("CHECKPOINT")
connection.close()
