"""How cost grows: with 1, 10 and 100 million records in one directory, and with 1 to 1,000 connections."""
import pathlib
import shutil
import tempfile
import time

from questions import ask_all
from server import Server

# All of a small table and the first page of a large one: what should not grow, and what may.
ASKED = ["count", "count by level", "hour × level histogram", "one run's rows in order", "latest 100 of ERROR and above",
         "substring count over message", "the newest 200", "runs, first page", "metrics, hour × stage, percentiles"]


def bytes_in(directory):
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def grow(bench, sizes, say):
    """For each size: what the directory, a start and the questions take. The records of the size before are there already."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="runstone-growth-"))
    found, before, run = {}, 0, None
    try:
        for number, records in enumerate(sizes):
            say(f"{records:,} records")
            with Server(bench.arguments.runstone, data=directory) as server:
                cpu = server.cpu_seconds()
                sent = bench.load(server, records - before, "--seed", str(number + 1))
                server.settle(records)
                run = run or sent["sample_run"]
                row = {"records_per_s": sent["records_per_second"],
                       "cpu_s_per_million": (server.cpu_seconds() - cpu) / (records - before) * 1e6,
                       "peak_rss_mb": server.megabytes("VmHWM")}
                metrics = server.metrics()
                row |= {"lake_mb": metrics["runstone_lake_bytes"] / 1e6, "lake_files": metrics["runstone_lake_files"]}
            row["runs_mb"] = (directory / "data" / "runs").stat().st_size / 1e6
            row["journal_mb"] = bytes_in(directory / "data" / "journal") / 1e6
            with Server(bench.arguments.runstone, data=directory) as server:
                row["ready_ms"] = server.seconds_to_ready * 1e3
                started = time.perf_counter()
                server.sql("SELECT count(*) AS n FROM logs")
                row["first_answer_ms"] = (time.perf_counter() - started) * 1e3
                asked = ask_all(server, run, records, 11 if records < 50_000_000 else 3)
                row["asked"] = {name: median for name, _, median, _ in asked if name in ASKED}
                row["asked_peak_rss_mb"] = server.megabytes("VmHWM")
            found[records], before = row, records
            say(f"{records:,} records: {row}")
    finally:
        shutil.rmtree(directory)
    return found


def connect(bench, numbers, say):
    """For each number of connections: what 400,000 records in batches of 100 take."""
    found = {}
    for number in numbers:
        say(f"{number:,} connections")
        with Server(bench.arguments.runstone) as server:
            cpu = server.cpu_seconds()
            sent = bench.send(server, "--records", "400000", "--batch", "100", "--connections", str(number))
            found[number] = {"records_per_s": sent["records_per_second"], **sent["latency_ms"],
                             "cpu_s_per_million": (server.cpu_seconds() - cpu) / 0.4, "peak_rss_mb": server.megabytes("VmHWM")}
    return found


def print_growth(table, growth, connections):
    sizes = list(growth)
    row = lambda name, text: [name, *(text(growth[size]) for size in sizes)]
    table(["", *(f"{size / 1e6:,.0f} million" for size in sizes)], [
        row("records/s", lambda it: f"{it['records_per_s']:,.0f}"),
        row("CPU s per million, all in the lake and compacted", lambda it: f"{it['cpu_s_per_million']:.2f}"),
        row("peak RSS while they came, MB", lambda it: f"{it['peak_rss_mb']:.0f}"),
        row("lake, MB · files", lambda it: f"{it['lake_mb']:,.1f} · {it['lake_files']:.0f}"),
        row("runs · journal, MB", lambda it: f"{it['runs_mb']:.1f} · {it['journal_mb']:.1f}"),
        row("start: ready · first answer after that, ms", lambda it: f"{it['ready_ms']:.0f} · {it['first_answer_ms']:.0f}"),
        *(row(f"{name}, ms", lambda it, name=name: f"{it['asked'][name]:,.1f}") for name in growth[sizes[0]]["asked"]),
        row("peak RSS while that was asked, MB", lambda it: f"{it['asked_peak_rss_mb']:.0f}")])
    table(["connections", "records/s", "ack p50, ms", "p99", "CPU s per million", "peak RSS, MB"], [
        [f"{number:,}", f"{it['records_per_s']:,.0f}", f"{it['p50']:.1f}", f"{it['p99']:.1f}", f"{it['cpu_s_per_million']:.2f}",
         f"{it['peak_rss_mb']:.0f}"] for number, it in connections.items()])
