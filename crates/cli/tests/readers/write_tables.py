"""Tables of others, as others write them: `write_tables.py DIR [ENDPOINT BUCKET PREFIX]`. With an endpoint, the same on S3."""

import datetime
import json
import pathlib
import sys

import deltalake
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

root = pathlib.Path(sys.argv[1])
day = datetime.date
orders = pa.table(
    {
        "order_id": pa.array([1, 2, 3, 4], pa.int64()),
        "region": ["eu", "us", "eu", None],
        "amount": [10.5, 20.0, None, 7.25],
        "placed_at": pa.array([datetime.datetime(2026, 11, 28, hour) for hour in range(4)], pa.timestamp("us", "UTC")),
        "day": pa.array([day(2026, 11, 27), day(2026, 11, 27), day(2026, 11, 28), day(2026, 11, 28)]),
    }
)
pq.write_table(orders, root / "orders.parquet")
pa.dataset.write_dataset(
    orders,
    root / "hive",
    format="parquet",
    partitioning=pa.dataset.partitioning(pa.schema([("day", pa.date32()), ("region", pa.string())]), flavor="hive"),
)
frame = pl.from_arrow(orders)
frame.drop("placed_at").write_csv(root / "orders.csv")
frame.write_ndjson(root / "orders.ndjson")
(root / "array.json").write_text(json.dumps([{"a": 1, "b": "x"}, {"a": 2, "b": None}], indent=1))
(root / "mixed").mkdir()
frame.drop("placed_at").write_csv(root / "mixed" / "a.csv")
pq.write_table(orders, root / "mixed" / "b.parquet")
(root / "damaged.parquet").write_bytes(b"PAR1 is not enough")
deltalake.write_deltalake(root / "delta", orders.slice(0, 2), partition_by=["region"])
deltalake.write_deltalake(root / "delta", orders.slice(2), mode="append")
deltalake.DeltaTable(root / "delta").delete("order_id = 2")

if len(sys.argv) > 2:
    import boto3

    endpoint, bucket, prefix = sys.argv[2:]
    s3 = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    for file in root.rglob("*"):
        if file.is_file():
            s3.upload_file(str(file), bucket, f"{prefix}/{file.relative_to(root)}")
print("{}")
