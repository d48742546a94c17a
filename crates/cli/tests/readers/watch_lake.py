"""Reads a lake of one journal again and again while it is written, and sees at each look a whole table: the records up to
a position, each once, none less than at the look before.

    watch_lake.py <location> <records>    until so many are there

Says in one line of JSON how often it looked and how many versions it saw.
"""

import json
import os
import sys
import time

import polars
import pyarrow.compute
from deltalake import DeltaTable

COLUMNS = ["id", "position"]
DEADLINE_SECONDS = 60


def with_deltalake(table):
    rows = table.to_pyarrow_table(columns=COLUMNS)
    ids = pyarrow.compute.count_distinct(rows["id"]).as_py()
    return rows.num_rows, ids, pyarrow.compute.max(rows["position"]).as_py()


def with_polars(table):
    lake = polars.scan_delta(table).select(COLUMNS)
    wanted = polars.len(), polars.col("id").n_unique().alias("ids"), polars.col("position").max().alias("last")
    return lake.select(wanted).collect().row(0)


def main(location, expected):
    versions, looks, seen, started = set(), 0, 0, time.monotonic()
    while seen < expected:
        assert time.monotonic() - started < DEADLINE_SECONDS, f"{seen} of {expected} records are there"
        table = DeltaTable(location)
        versions.add(table.version())
        for read in (with_deltalake, with_polars):
            records, ids, last = read(table)
            assert records == ids == (last or 0), f"{records} records, {ids} ids, up to position {last}: {table.version()}"
            assert records >= seen, f"{records} records, and {seen} before: {table.version()}"
            seen = records
        looks += 1
    print(json.dumps({"looks": looks, "versions": len(versions), "records": seen}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
    sys.stdout.flush()
    # Threads of these libraries may still run; some of them abort the process when it ends in the usual way.
    os._exit(0)
