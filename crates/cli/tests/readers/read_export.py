"""Reads a file that an export wrote, and says what is in it.

usage: read_export.py READER FORMAT FILE COLUMN…
READER is pyarrow, polars or csv. Prints {"columns": [names of all columns], "rows": [[values of the named columns]…]};
times are text as the API has them.
"""
import csv
import datetime as dt
import json
import sys


def shown(value):
    if isinstance(value, dt.datetime):
        assert value.tzinfo is not None, "a time knows its zone"
        return value.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, dt.date):
        return value.isoformat()
    return value


def table(reader, kind, path):
    if reader == "pyarrow":
        import pyarrow as pa
        import pyarrow.parquet as pq

        return pq.read_table(path) if kind == "parquet" else pa.ipc.open_stream(path).read_all()
    import polars as pl

    return (pl.read_parquet(path) if kind == "parquet" else pl.read_ipc_stream(path)).to_arrow()


def main():
    reader, kind, path, *wanted = sys.argv[1:]
    if reader == "csv":
        with open(path, newline="", encoding="utf-8") as file:
            columns, *lines = csv.reader(file)
        rows = [[line[columns.index(name)] for name in wanted] for line in lines]
    else:
        read = table(reader, kind, path)
        columns = read.column_names
        rows = [[shown(row[name]) for name in wanted] for row in read.select(wanted).to_pylist()]
    print(json.dumps({"columns": columns, "rows": rows}))


main()
