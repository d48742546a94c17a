"""What a reader that nobody here wrote finds in the lake, as one line of JSON.

    read_lake.py <reader> <location> [<name>=<value> …]

The readers: deltalake (to PyArrow), polars, chdb (its own log reader), chdb-kernel (the same engine over Delta's kernel) and
pysail (Spark's client). A location is a path, s3://bucket/prefix or az://container/prefix; the names are those of deltalake's
storage options, and every reader is told in its own way.

Each says the same of every column, under the column's name:
    text [values, characters] · int [values, sum] · float and time [values, least, greatest] · list [items] · date {day: rows}
and beside them `records`, `ids` (distinct), `levels` {level: rows}, and `run` (rows of the first run by name: a pushed-down filter).
"""

import datetime
import json
import os
import sys

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def micros(time):
    return None if time is None else (time - EPOCH) // datetime.timedelta(microseconds=1)


def with_deltalake(location, options):
    import pyarrow.compute as pc
    from deltalake import DeltaTable

    table = DeltaTable(location, storage_options=options or None)
    rows = table.to_pyarrow_table()

    def column(field):
        values, kind = rows[field.name], str(field.type)
        present = len(values) - values.null_count
        if kind == "string":
            return [present, pc.sum(pc.utf8_length(values)).as_py() or 0]
        if kind == "int64":
            return [present, pc.sum(values).as_py() or 0]
        if kind == "date32[day]":
            return {str(pair["values"]): pair["counts"] for pair in pc.value_counts(values).to_pylist()}
        if kind.startswith("list"):
            return [pc.sum(pc.list_value_length(values)).as_py() or 0]
        least, greatest = (pc.min_max(values)[edge].as_py() for edge in ("min", "max"))
        if kind == "timestamp[us, tz=UTC]":
            return [present, micros(least), micros(greatest)]
        assert kind == "double", (field.name, kind)
        return [present, least, greatest]

    levels = {pair["values"]: pair["counts"] for pair in pc.value_counts(rows["level"]).to_pylist()}
    first = pc.min(rows["run_id"]).as_py()
    filtered = table.to_pyarrow_dataset().filter(pc.field("run_id") == first)
    return {
        "records": rows.num_rows,
        "ids": pc.count_distinct(rows["id"]).as_py(),
        "levels": levels,
        "run": filtered.count_rows(),
        "columns": {field.name: column(field) for field in rows.schema},
    }


def with_polars(location, options):
    import polars as pl

    lake = pl.scan_delta(location, storage_options=options or None)
    texts, ints, ranges, lists, days = [], [], [], [], []
    kinds = {"String": texts, "Int64": ints, "Float64": ranges, "List(String)": lists, "Date": days}
    kinds["Datetime(time_unit='us', time_zone='UTC')"] = ranges
    schema = lake.collect_schema()
    for name, kind in schema.items():
        kinds[str(kind)].append(name)
    wanted = [pl.len().alias("records"), pl.col("id").n_unique().alias("ids"), pl.col("run_id").min().alias("first")]
    wanted += [pl.col(name).count().alias(f"{name} values") for name in texts + ints + ranges]
    wanted += [pl.col(name).str.len_chars().cast(pl.Int64).sum().alias(f"{name} chars") for name in texts]
    wanted += [pl.col(name).sum().alias(f"{name} sum") for name in ints]
    wanted += [pl.col(name).list.len().cast(pl.Int64).sum().alias(f"{name} items") for name in lists]
    wanted += [getattr(pl.col(name), edge)().alias(f"{name} {edge}") for name in ranges for edge in ("min", "max")]
    found = lake.select(wanted).collect().row(0, named=True)

    def counts(name):
        return dict(lake.group_by(name).len().collect().iter_rows())

    def column(name):
        if name in texts:
            return [found[f"{name} values"], found[f"{name} chars"]]
        if name in ints:
            return [found[f"{name} values"], found[f"{name} sum"]]
        if name in lists:
            return [found[f"{name} items"]]
        if name in days:
            return {str(day): rows for day, rows in counts(name).items()}
        edges = [found[f"{name} min"], found[f"{name} max"]]
        return [found[f"{name} values"], *(edges if str(schema[name]) == "Float64" else map(micros, edges))]

    run = lake.filter(pl.col("run_id") == found["first"]).select(pl.len()).collect().item()
    columns = {name: column(name) for name in schema}
    return {"records": found["records"], "ids": found["ids"], "levels": counts("level"), "run": run, "columns": columns}


def with_sql(ask, schema, words):
    """For engines that speak SQL over a table `logs`: `ask` answers with rows, `words` are the engine's own for functions."""

    def aggregates(name, kind):
        return {
            "text": [f"count({name})", f"coalesce(sum({words['chars']}({name})), 0)"],
            "int": [f"count({name})", f"coalesce(sum({name}), 0)"],
            "float": [f"count({name})", f"min({name})", f"max({name})"],
            "time": [f"count({name})", *(f"{words['micros']}({edge}({name}))" for edge in ("min", "max"))],
            "list": [f"coalesce(sum(CASE WHEN {name} IS NULL THEN 0 ELSE {words['items']}({name}) END), 0)"],
            "date": [],
        }[kind]

    def counts(name):
        # chDB's own log reader takes a partition's value for 1970 where a query reads no other column.
        return dict(ask(f"SELECT {name}, count(id) FROM logs GROUP BY {name}"))

    head = ["count(*)", "count(DISTINCT id)", "min(run_id)"]
    wanted = [(name, kind, aggregates(name, kind)) for name, kind in schema]
    every = [aggregate for _, _, aggregates in wanted for aggregate in aggregates]
    [found] = ask(f"SELECT {', '.join(head + every)} FROM logs")
    records, ids, first, *rest = found
    columns = {}
    for name, kind, aggregates in wanted:
        columns[name], rest = list(rest[: len(aggregates)]), rest[len(aggregates) :]
        if kind == "date":
            columns[name] = {str(day): rows for day, rows in counts(name).items()}
    [[run]] = ask(f"SELECT count(*) FROM logs WHERE run_id = '{first}'")
    return {"records": records, "ids": ids, "levels": counts("level"), "run": run, "columns": columns}


def with_chdb(location, options, kernel=False):
    import chdb

    scheme, _, place = location.partition("://")
    if not place:
        # It reads no file outside the directory that it runs in.
        os.chdir(location)
        source = f"deltaLakeLocal('{location}')"
    elif scheme == "s3":
        keys = (options["aws_access_key_id"], options["aws_secret_access_key"])
        source = "deltaLake('{}/{}/', '{}', '{}')".format(options["aws_endpoint_url"], place, *keys)
    else:
        account, key, url = (options[f"azure_storage_{name}"] for name in ("account_name", "account_key", "endpoint"))
        container, _, path = place.partition("/")
        connection = f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};BlobEndpoint={url};"
        source = f"deltaLakeAzure('{connection}', '{container}', '{path}/')"

    def ask(sql):
        settings = f"SETTINGS allow_delta_kernel_rs = {int(kernel)}, output_format_json_quote_64bit_integers = 0"
        answer = chdb.query(f"{sql.replace('FROM logs', 'FROM ' + source)} {settings}", "JSONCompactEachRow")
        return [json.loads(line) for line in str(answer).splitlines() if line]

    kinds = {"String": "text", "Int64": "int", "Float64": "float", "DateTime64(6)": "time", "Date32": "date"}
    kinds |= {f"Nullable({name})": kind for name, kind in kinds.items()} | {"Array(Nullable(String))": "list"}
    schema = [(name, kinds[kind]) for name, kind, *_ in ask("DESCRIBE (SELECT * FROM logs)")]
    return with_sql(ask, schema, {"chars": "lengthUTF8", "micros": "toUnixTimestamp64Micro", "items": "length"})


def with_pysail(location, options):
    # The server is a library of this process: its storage is configured by the environment.
    os.environ.update({name.upper(): value for name, value in options.items()})
    os.environ["RUST_LOG"] = "error"
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    session = SparkSession.builder.remote("sc://{}:{}".format(*server.listening_address)).getOrCreate()
    lake = session.read.format("delta").load(location)
    lake.createOrReplaceTempView("logs")
    kinds = {"string": "text", "bigint": "int", "double": "float", "timestamp": "time", "date": "date"}
    kinds["array<string>"] = "list"
    schema = [(name, kinds[kind]) for name, kind in lake.dtypes]
    words = {"chars": "length", "micros": "unix_micros", "items": "size"}
    found = with_sql(lambda sql: session.sql(sql).collect(), schema, words)
    session.stop()
    server.stop()
    return found


READERS = {
    "deltalake": with_deltalake,
    "polars": with_polars,
    "chdb": with_chdb,
    "chdb-kernel": lambda location, options: with_chdb(location, options, kernel=True),
    "pysail": with_pysail,
}

if __name__ == "__main__":
    reader, location, *options = sys.argv[1:]
    found = READERS[reader](location, dict(option.split("=", 1) for option in options))
    print(json.dumps(found))
    sys.stdout.flush()
    # Threads of these libraries may still run; some of them abort the process when it ends in the usual way.
    os._exit(0)
