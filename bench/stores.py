"""What the sinks and the Logger do: PostgreSQL beside plain COPY, behind the journal and after an absence, DynamoDB beside bare
updates, entries over HTTP, and the Logger as a function. Exits where something was refused or lost."""
import bisect
import concurrent.futures
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

from aws import Function, Moto
from postgres import Cluster, Watch
from server import Server

PREFIX = "bench"
# At what rates and in requests of how many records, and for how long; how often it is looked, which costs the machine something.
LAG_RATE, LAG_BATCH, LAG_S, LAG_LOOK_S = 10_000, 100, 20, 0.005
# Small requests, of which there are enough for a percentile. The sink looks for its target at least every half a minute.
DOWN_RATE, DOWN_BATCH, DOWN_LOOK_S, WARM_S, LOOKS_AGAIN_S = 5_000, 20, 0.05, 5, 30
# It is watched as long while its target is there as while it is away, but not longer than this.
UP_MAX_S = 300
CATCH_UP = 5
# So many records behind, which are a fifth of a second, is as near as it is while nothing was missed.
NEAR = DOWN_RATE // 5
EVENTS_MAX, STARTS, INVOCATIONS = 100_000, 15, 200
EVENT = {"run_id": "20250113_123456_abc123", "log_entry": {
    "type": "result", "title": "Specifications Generated Successfully", "description": "ETL specifications created and stored in S3",
    "metadata": {"s3_path": "s3://dmbckt/specs/specs.json", "source_tables": ["customers", "orders"]}}}


def medians(rounds):
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]} | {"rounds": rounds}


def percentiles(values):
    values = sorted(values)
    if not values:
        raise SystemExit("error: nothing was acknowledged in a phase that is measured")
    return {"p50": statistics.median(values), "p99": values[min(len(values) * 99 // 100, len(values) - 1)]}


def example(bench, name, *arguments):
    """A sink in its own process, beside its target's bare rate: the last line has the figures."""
    command = [pathlib.Path(bench.arguments.load).parent / "examples" / name, *map(str, arguments)]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return json.loads(lines[-1]) | {"rounds": lines[:-1]}


def fed(bench, cluster):
    """A server that feeds an empty cluster, once it does."""
    server = Server(bench.arguments.runstone, {"RUNSTONE_POSTGRES_URL": cluster.url, "RUNSTONE_POSTGRES_TABLE_PREFIX": PREFIX})
    deadline = time.monotonic() + 60
    while [sink["status"] for sink in server.json("/ready").get("sinks", [])] != ["ready"]:
        if time.monotonic() > deadline:
            raise SystemExit(f"error: the server does not feed PostgreSQL: {server.json('/ready')}")
        time.sleep(0.02)
    return server


def read_acks(path):
    """Of each acknowledgement, in their order: seconds since 1970, the last position, milliseconds."""
    return [(float(at), int(position), float(ms)) for at, position, ms in map(str.split, path.read_text().splitlines())]


def nothing_lost(cluster, records):
    """Each record is there, and there once."""
    found = cluster.ask(f"SELECT count(*), count(DISTINCT record_id) FROM {PREFIX}_logs")
    if found != f"{records}|{records}":
        raise SystemExit(f"error: {records} records were acknowledged; the table has {found.replace('|', ' rows and ')} ids")


def lag_round(bench):
    with tempfile.TemporaryDirectory(prefix="runstone-bench-") as directory, Cluster() as cluster, fed(bench, cluster) as server:
        acks = pathlib.Path(directory) / "acks"
        before, beside = server.cpu_seconds(), cluster.cpu_seconds()
        with Watch(cluster, PREFIX, LAG_LOOK_S) as watch:
            sent = bench.load_unrefused(server, LAG_RATE * LAG_S, "--batch", str(LAG_BATCH), "--rate", str(LAG_RATE), "--acks", str(acks))
            acked = read_acks(acks)
            watch.reach(acked[-1][1], 60)
        cpu, beside = server.cpu_seconds() - before, cluster.cpu_seconds() - beside
        nothing_lost(cluster, sent["records"])
        positions = [position for _, position in watch.seen]
        # What was there before its answer came was not behind.
        behind = [max(watch.seen[bisect.bisect_left(positions, position)][0] - at, 0) * 1e3 for at, position, _ in acked]
        found = percentiles(behind)
        return {"p50_ms": found["p50"], "p99_ms": found["p99"], "records_per_s": sent["records_per_second"],
                "ack_p99_ms": sent["latency_ms"]["p99"], "cpu_s_per_million": cpu / sent["records"] * 1e6,
                "postgres_cpu_s_per_million": beside / sent["records"] * 1e6}


def caught_up(seen, acked, since, left):
    """Seconds until the table was seen to go on from where it was left, and from then until it was near what was acknowledged;
    records a second."""
    times = [at for at, _, _ in acked]
    moved = [(at, position) for at, position in seen if position > left]
    for at, position in moved:
        behind = acked[max(bisect.bisect_right(times, at) - 1, 0)][1] - position
        if at >= times[-1]:
            break
        if behind <= NEAR and at > moved[0][0]:
            seconds = at - moved[0][0]
            return {"again_s": moved[0][0] - since, "catch_up_s": seconds, "catch_up_per_s": (position - moved[0][1]) / seconds}
    raise SystemExit("error: the table did not catch up while the load went on")


def down(bench, seconds):
    """One load, and PostgreSQL stopped for a while in the middle of it."""
    # Behind it there is time to be found again, and to catch up at the rate that is to be reached.
    there = min(seconds, UP_MAX_S)
    whole = WARM_S + there + seconds + LOOKS_AGAIN_S + seconds / (CATCH_UP - 1) + WARM_S
    with tempfile.TemporaryDirectory(prefix="runstone-bench-") as directory, Cluster() as cluster, fed(bench, cluster) as server, \
            Watch(cluster, PREFIX, DOWN_LOOK_S) as watch, concurrent.futures.ThreadPoolExecutor(1) as beside:
        acks = pathlib.Path(directory) / "acks"
        sending = beside.submit(bench.load_unrefused, server, int(DOWN_RATE * whole), "--batch", str(DOWN_BATCH),
                                "--rate", str(DOWN_RATE), "--acks", str(acks))
        watch.reach(1, 120)
        time.sleep(WARM_S)
        began = time.time()
        time.sleep(there)
        ended = time.time()
        cluster.stop()
        stopped = time.time()
        time.sleep(seconds)
        again = time.time()
        cluster.start()
        up = time.time()
        # What nobody had seen when it was stopped is not what comes now.
        left = int(cluster.ask(f"SELECT max(position) FROM {PREFIX}_cursors"))
        sent = sending.result()
        acked = read_acks(acks)
        watch.reach(acked[-1][1], 120)
        nothing_lost(cluster, sent["records"])
        while_ = lambda first, last: percentiles(ms for at, _, ms in acked if first <= at < last)
        found = caught_up(watch.seen, acked, up, left)
        first = up + found["again_s"]
        return {"seconds": seconds, "records": sent["records"], "up": while_(began, ended), "down": while_(stopped, again),
                "catching_up": while_(first, first + max(found["catch_up_s"], 1)), **found}


def logger_round(bench):
    entries = min(bench.arguments.records, EVENTS_MAX)
    with Server(bench.arguments.runstone) as server:
        before = server.cpu_seconds()
        sent = bench.load_unrefused(server, entries, "--events", "--batch", "1", "--connections", "32", path="/log")
        cpu = server.cpu_seconds() - before
        server.settle(entries)
        return {"entries_per_s": sent["requests_per_second"], "p50_ms": sent["latency_ms"]["p50"], "p99_ms": sent["latency_ms"]["p99"],
                "cpu_s_per_million": cpu / entries * 1e6}


def stripped_megabytes(binary):
    with tempfile.NamedTemporaryFile(prefix="runstone-bench-") as file:
        subprocess.run(["strip", "-o", file.name, binary], check=True)
        return os.stat(file.name).st_size / 1e6


def function(bench):
    """Starts of the function, each with an event that waits for it; what it has in memory after many."""
    binary, rounds = bench.arguments.logger, []
    with Moto() as moto:
        moto.make_table()
        settings = {"RUNSTONE_DYNAMODB_ENDPOINT": moto.url}
        # The first one of all finds moto, which loads what it needs, and the binary on the disk.
        for number in range(STARTS + 1):
            with Function(binary, EVENT, settings) as it:
                for _ in range(INVOCATIONS if number == STARTS else 1):
                    it.invoke(EVENT)
                if number:
                    rounds.append({"first_answer_ms": it.first_answer_s * 1e3, "peak_rss_mb": it.peak_megabytes()})
        starts = [one["first_answer_ms"] for one in rounds]
        return {"mb": stripped_megabytes(binary), "first_answer_ms": statistics.median(starts), "slowest_ms": max(starts),
                "peak_rss_mb": max(one["peak_rss_mb"] for one in rounds), "rounds": rounds}


def stores(bench, parts, say):
    arguments, found = bench.arguments, {}
    rounds = lambda one: medians([one(bench) for _ in range(arguments.rounds)])
    # An odd number, and two more than of others: these take seconds.
    turns = arguments.rounds + 2
    if "postgres" in parts:
        say("PostgreSQL beside plain COPY")
        with Cluster() as cluster:
            found["postgres"] = example(bench, "postgres_rate", cluster.url, 40, turns)
    if "lag" in parts:
        say(f"PostgreSQL behind the journal, {LAG_RATE:,} records/s")
        found["lag"] = rounds(lag_round)
    if "down" in parts:
        say(f"PostgreSQL down for {arguments.down:g} s, {DOWN_RATE:,} records/s")
        found["down"] = down(bench, arguments.down)
    if "logger" in parts:
        say("the Logger over HTTP")
        found["logger"] = rounds(logger_round)
    if "dynamo" in parts:
        say("DynamoDB beside bare updates")
        with Moto() as moto:
            found["dynamo"] = example(bench, "dynamo_rate", moto.url, 4, turns)
    if "lambda" in parts:
        say("the Logger as a function")
        found["lambda"] = function(bench)
    return found


def pair(it):
    return f"{it['p50']:.1f} · {it['p99']:.1f}"


def rows_of_postgres(it):
    return [["PostgreSQL, the sink, rows/s · plain COPY of 5,000 a transaction, rows/s", "", f"{it['sink']:,.0f} · {it['plain']:,.0f}"],
            ["their ratio, median of pairs", "≥ 0.9", f"{it['ratio']:.2f}"]]


def rows_of_lag(it):
    return [[f"behind an ack at {LAG_RATE:,} records/s, ms: p50 · p99", "p99 ≤ 500", f"{it['p50_ms']:.0f} · {it['p99_ms']:.0f}"],
            ["the acks meanwhile, p99, ms · records/s", "", f"{it['ack_p99_ms']:.1f} · {it['records_per_s']:,.0f}"],
            ["CPU s per million: Runstone · PostgreSQL", "", f"{it['cpu_s_per_million']:.1f} · {it['postgres_cpu_s_per_million']:.1f}"]]


def rows_of_down(it):
    up, down = it["up"]["p99"], it["down"]["p99"]
    return [[f"PostgreSQL down for {it['seconds']:g} s at {DOWN_RATE:,} records/s: ack p50 · p99, ms, while it is up", "", pair(it["up"])],
            ["while it is down", "", pair(it["down"])],
            ["p99 down ÷ up", "≤ 1.1", f"{down / up:.2f}"],
            ["while it catches up", "", pair(it["catching_up"])],
            ["went on after, s · near again after that, s", "", f"{it['again_s']:.1f} · {it['catch_up_s']:.1f}"],
            ["catching up, records/s · ÷ the live rate", f"≥ {CATCH_UP}", f"{it['catch_up_per_s']:,.0f} · {it['catch_up_per_s'] / DOWN_RATE:.1f}"],
            ["rows · distinct ids afterwards", "those acknowledged", f"{it['records']:,} · {it['records']:,}"]]


def rows_of_logger(it):
    return [["the Logger over HTTP, 32 connections, entries/s", "≥ 5,000", f"{it['entries_per_s']:,.0f}"],
            ["their p50 · p99, ms", "p99 ≤ 10", f"{it['p50_ms']:.1f} · {it['p99_ms']:.1f}"],
            ["CPU s per million", "", f"{it['cpu_s_per_million']:.1f}"]]


def rows_of_dynamo(it):
    return [["DynamoDB by moto, the sink, updates/s · bare updates/s", "", f"{it['sink']:,.0f} · {it['plain']:,.0f}"],
            ["their ratio, median of pairs", "≥ 0.9", f"{it['ratio']:.2f}"]]


def rows_of_lambda(it):
    return [["the Logger as a function: binary, stripped, MB", "≤ 15", f"{it['mb']:.1f}"],
            ["from exec to the first answer, ms: median · slowest", "≤ 150", f"{it['first_answer_ms']:.0f} · {it['slowest_ms']:.0f}"],
            ["peak RSS, MB", "≤ 64", f"{it['peak_rss_mb']:.0f}"]]


ROWS = {"postgres": rows_of_postgres, "lag": rows_of_lag, "down": rows_of_down, "logger": rows_of_logger, "dynamo": rows_of_dynamo,
        "lambda": rows_of_lambda}
PARTS = list(ROWS)


def print_stores(table, found):
    table(["sinks and the Logger", "reach", "found"], [row for name, it in found.items() for row in ROWS[name](it)])
