"""One more row in a Delta table: `append_delta.py LOCATION`."""

import sys

import deltalake
import pyarrow as pa

schema = deltalake.DeltaTable(sys.argv[1]).to_pyarrow_table().schema
row = {name: [None] for name in schema.names} | {"order_id": [9]}
deltalake.write_deltalake(sys.argv[1], pa.table(row, schema=schema), mode="append")
print("{}")
