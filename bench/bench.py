"""Measures a release build and prints tables: what taking a load costs, and how long questions take; beside it what DuckDB
needs for the same records in the same run.

usage: bench.py --runstone BINARY --load BINARY [--records 1000000] [--rounds 3] [--large 10000000] [--json FILE]
       bench.py --runstone BINARY --load BINARY --growth [--sizes 1000000,10000000,100000000] [--json FILE]
       bench.py --runstone BINARY --load BINARY --profile [--json FILE]
       bench.py --runstone BINARY --load BINARY --logger BINARY --stores [--rounds 3] [--down 60] [--parts LIST] [--json FILE]
"""
import argparse
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from crowd import Crowd
from growth import connect, grow, print_growth
from limits import limits, print_limits
from questions import ask_all, export, page_ms
from server import Server
from slow import Slow
from stages import print_profile, profile
from stores import PARTS, print_stores, stores

# No upkeep while a load is on its way: what merging costs comes after the last ack.
ALONE = {"RUNSTONE_LAKE_UPKEEP_INTERVAL_MS": "24h"}


def say(text):
    print(f"── {text}", file=sys.stderr, flush=True)


def file_system():
    """What the temporary directory is on. A sync has to mean something there."""
    directory = tempfile.gettempdir()
    kind = subprocess.run(["stat", "--file-system", "--format", "%T", directory], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    if kind in ("tmpfs", "ramfs"):
        raise SystemExit(f"error: {directory} is memory, where a sync does nothing: set TMPDIR to a directory on a disk")
    return f"{kind}, {directory}"


def reach_of(limit):
    return "" if limit is None else f"≤ {limit}"


@contextlib.contextmanager
def spinning():
    """Two processes that keep two cores busy, as polite as queries: what acks wait for then, they wait for the machine."""
    loops = [subprocess.Popen(["nice", "-n", "15", sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


class Bench:
    # "elsewhere": the same thousand connections to another server; what acks wait for then is not what this one does with them.
    COMPANY = ["alone", "slow", "elsewhere", "queries", "spinning"]

    def __init__(self, arguments):
        self.arguments = arguments
        self.found = {"records": arguments.records}

    def load(self, server, records, *more):
        return self.send(server, "--records", str(records), *more)

    def load_unrefused(self, server, records, *more, path="/api/v1/logs"):
        """A load of which nothing is refused: else its latencies and its CPU would not be those of the records alone."""
        sent = self.send(server, "--records", str(records), *more, path=path)
        if set(sent["statuses"]) != {"200"}:
            raise SystemExit(f"error: the server refused some of the load, so this is no measurement: {sent['statuses']}")
        return sent

    def send(self, server, *how, path="/api/v1/logs"):
        command = [self.arguments.load, "load", "--url", f"{server.url}{path}", *how]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    def idle(self):
        ready, resident, own = [], [], []
        for _ in range(5):
            with Server(self.arguments.runstone) as server:
                time.sleep(1)
                ready.append(server.seconds_to_ready * 1e3)
                resident.append(server.megabytes("VmRSS"))
                own.append(server.megabytes("RssAnon"))
        self.found["idle"] = {"ready_ms": statistics.median(ready), "rss_mb": statistics.median(resident),
                              "own_mb": statistics.median(own)}

    def ingest(self, *more):
        """One load into an empty directory: what it took until the last ack, and until all of it is settled in the lake."""
        records = self.arguments.records
        with Server(self.arguments.runstone, ALONE) as server:
            before = server.cpu_seconds()
            sent = self.load_unrefused(server, records, *more)
            acked = server.cpu_seconds() - before
            started = time.perf_counter()
            server.settle(records)
            settled, threads = server.cpu_seconds() - before, server.cpu_by_thread()
            return {
                "records_per_s": sent["records_per_second"], "ack_p50_ms": sent["latency_ms"]["p50"],
                "ack_p99_ms": sent["latency_ms"]["p99"], "cpu_s_per_million_at_last_ack": acked / records * 1e6,
                "cpu_s_per_million_settled": settled / records * 1e6, "settle_s": time.perf_counter() - started,
                "peak_rss_mb": server.megabytes("VmHWM"), "lake_mb": server.metrics()["runstone_lake_bytes"] / 1e6,
                "threads": threads,
            }

    def rounds(self, kinds):
        """Loads of these kinds, in turn: a machine that grows slower does so for all of them."""
        rounds = {name: [] for name in kinds}
        for number in range(1, self.arguments.rounds + 1):
            for name, more in kinds.items():
                say(f"{name}: {self.arguments.records:,} records, {number} of {self.arguments.rounds}")
                rounds[name].append(self.ingest(*more))
        for name, those in rounds.items():
            numbers = [key for key in those[0] if key != "threads"]
            # The bound holds for each of them.
            self.found[name] = {key: (max if key == "peak_rss_mb" else statistics.median)(one[key] for one in those) for key in numbers}
            self.found[name]["rounds"] = those

    def ids_ratio(self):
        """What the client's ids cost: the median over the rounds, whose two loads came one after the other."""
        key = "cpu_s_per_million_at_last_ack"
        return statistics.median(ids[key] / own[key] for ids, own in zip(self.found["ids"]["rounds"], self.found["ingest"]["rounds"]))

    def single(self):
        say("single records over 32 connections")
        with Server(self.arguments.runstone) as server:
            sent = self.load_unrefused(server, min(self.arguments.records, 100_000), "--batch", "1", "--connections", "32")
            syncs = server.metrics()["runstone_journal_syncs_total"]
            self.found["single"] = {"acks_per_s": sent["requests_per_second"], "acks_a_sync": sent["records"] / syncs,
                                    **sent["latency_ms"]}

    def ask(self):
        say("questions")
        records = self.arguments.records
        with Server(self.arguments.runstone, ALONE) as server:
            run = self.load(server, records)["sample_run"]
            server.settle(records)
            asked = {}
            for name, reach, median, slowest in ask_all(server, run, records):
                asked[name] = (reach, median, slowest)
                print(f"   {median:7.1f} ms  {name}", file=sys.stderr, flush=True)
            pages = min(5_000, records // 200)
            deep, first = page_ms(server, pages)
            asked[f"page {pages:,} of a walk of 200 each"] = (25, deep, first)
            seconds, size, grown = zip(*(export(server) for _ in range(3)))
            self.found["questions"] = asked
            self.found["export"] = {
                "seconds": statistics.median(seconds), "mb": size[0] / 1e6, "more_rss_mb": max(grown)}
            return run

    def crowd(self):
        """Loads on a server that has records already: alone, beside a thousand slow connections to it, and to another, beside a
        hundred clients with heavy queries, and beside two processes that keep both cores busy at the priority of the threads that answer queries."""
        records = self.arguments.records
        with Server(self.arguments.runstone) as server, Server(self.arguments.runstone) as other:
            self.load(server, records)
            server.settle(records)
            paced = ["--records", "400000", "--batch", "100", "--rate", "20000"]
            loads, seed = {"full": ["--records", str(records)], "paced": paced}, 1
            found = {}
            for name, load in loads.items():
                for beside in self.COMPANY:
                    say(f"acks of a {name} load: {beside}")
                    seed += 1
                    with {"alone": contextlib.nullcontext, "slow": lambda: Slow(server.url, 1_000),
                          "elsewhere": lambda: Slow(other.url, 1_000),
                          "queries": lambda: Crowd(server.url, 100), "spinning": spinning}[beside]() as it:
                        sent = self.send(server, *load, "--seed", str(seed))
                    if set(sent["statuses"]) != {"200"}:
                        say(f"some was refused first: {sent['statuses']}")
                    found[f"{name}_{beside}"] = sent["latency_ms"]
                    if beside == "queries":
                        found[f"{name}_answers"] = dict(it.answers)
                        say(f"the crowd's answers: {found[f'{name}_answers']}")
            self.found["crowd"] = {**found, "peak_rss_mb": server.megabytes("VmHWM")}

    def large(self):
        records = self.arguments.large
        runs = records // 1_000
        say(f"{runs:,} runs of {records:,} records")
        with Server(self.arguments.runstone) as server:
            run = self.load(server, records, "--runs", str(runs))["sample_run"]
            server.settle(records)
            asked = {name: (reach, median, slowest)
                     for name, reach, median, slowest in ask_all(server, run, records, 11)
                     if name.startswith(("runs, ", "metrics"))}
            self.found["large"] = {"records": records, "runs": runs, "questions": asked,
                                   "peak_rss_mb": server.megabytes("VmHWM")}

    def compare(self, run):
        from reference import reference  # it needs DuckDB, which nothing else does

        say("DuckDB")
        records = self.arguments.records
        with tempfile.TemporaryDirectory(prefix="runstone-bench-") as directory:
            ndjson = pathlib.Path(directory) / "load.ndjson"
            subprocess.run([self.arguments.load, "write", "--records", str(records), "--out", ndjson], check=True)
            read, written, size, answers = reference(ndjson, pathlib.Path(directory), run, records)
            self.found["reference"] = {
                "ndjson_mb": ndjson.stat().st_size / 1e6, "read_s": read[0], "read_cpu_s": read[1],
                "write_s": written[0], "write_cpu_s": written[1], "parquet_mb": size / 1e6, "questions": answers}

    def all(self):
        say("the machine")
        self.found["machine"] = [limits()]
        self.idle()
        self.rounds({"ingest": [], "ids": ["--ids"]})
        self.rounds({"gzip": ["--encoding", "gzip"], "zstd": ["--encoding", "zstd"]})
        self.single()
        run = self.ask()
        self.crowd()
        if self.arguments.large:
            self.large()
        if not self.arguments.no_reference:
            self.compare(run)
        self.found["machine"].append(limits())
        self.print()

    def print(self):
        found, reference = self.found, self.found.get("reference", {})
        print(f"\n{found['records']:,} records, medians of {self.arguments.rounds}\n")
        names = ["records/s", "ack p50, ms", "ack p99, ms", "CPU s per million, at the last ack",
                 "CPU s per million, all in the lake and compacted", "peak RSS, MB: the most of them", "lake, MB"]
        keys = ["records_per_s", "ack_p50_ms", "ack_p99_ms", "cpu_s_per_million_at_last_ack",
                "cpu_s_per_million_settled", "peak_rss_mb", "lake_mb"]
        reach = ["≥ 250,000", "", "", "≤ 3.0", "≤ 7", "≤ 400", "≤ 27.5"]
        rows = [[name, limit, f"{found['ingest'][key]:,.2f}", f"{found['ids'][key]:,.2f}"]
                for name, key, limit in zip(names, keys, reach)]
        table(["taking it, every ack after fdatasync", "reach", "ids by the server", "ids by the client"], rows)
        threads = {name: statistics.median(one["threads"].get(name, 0) for one in found["ingest"]["rounds"])
                   for name in found["ingest"]["rounds"][0]["threads"]}
        table(["thread", "CPU s, until all is in the lake and compacted"],
              [[name, f"{seconds:.2f}"] for name, seconds in sorted(threads.items(), key=lambda it: -it[1]) if seconds >= 0.01])
        idle, single, exported, crowd = (found[name] for name in ("idle", "single", "export", "crowd"))
        table(["", "reach", "found"], [
            ["single-record posts, 32 connections, acks/s", "≥ 5,000", f"{single['acks_per_s']:,.0f}"],
            ["their p50 · p99, ms; acks a sync", "p99 ≤ 20",
             f"{single['p50']:.1f} · {single['p99']:.1f}; {single['acks_a_sync']:.1f}"],
            ["idle: RSS, MB · of it its own · ready after, ms", "≤ 60 · · 300",
             f"{idle['rss_mb']:.0f} · {idle['own_mb']:.0f} · {idle['ready_ms']:.0f}"],
            *([f"ack p99 of a {load} load, ms: alone · beside 1,000 slow connections · beside as many to another server · beside 100 "
               "heavy queries · beside two spinning processes; slow, elsewhere, queries ÷ alone",
               "≤ 2, , 2" if name == "full" else "",
               " · ".join(f"{crowd[f'{name}_{beside}']['p99']:.1f}" for beside in self.COMPANY) + "; "
               + ", ".join(f"{crowd[f'{name}_{beside}']['p99'] / crowd[f'{name}_alone']['p99']:.2f}" for beside in ("slow", "elsewhere", "queries"))]
              for name, load in [("full", "full"), ("paced", "paced (20,000 records/s in batches of 100)")]),
            ["peak RSS, MB: with that crowd · with the large table", "", f"{crowd['peak_rss_mb']:.0f} · {found.get('large', {}).get('peak_rss_mb', 0):.0f}"],
            ["CPU s per million at the last ack, bodies as they are · in gzip · in zstd", "",
             " · ".join(f"{found[name]['cpu_s_per_million_at_last_ack']:.2f}" for name in ("ingest", "gzip", "zstd"))],
            ["CPU at the last ack, ids by the client ÷ ids by the server", "≤ 1.3",
             f"{self.ids_ratio():.2f}"],
            ["export as Parquet, s · MB · RSS more, MB", "≤ 2 · · 150",
             f"{exported['seconds']:.2f} · {exported['mb']:.1f} · {exported['more_rss_mb']:.0f}"]])
        beside = reference.get("questions", {})
        rows = [[name, reach_of(limit), f"{median:.1f}", f"{slowest:.1f}", f"{beside[name]:.1f}" if name in beside else ""]
                for name, (limit, median, slowest) in found["questions"].items()]
        if large := found.get("large"):
            rows += [[f"{name}; {large['runs']:,} runs, {large['records']:,} records", reach_of(limit), f"{median:.1f}",
                      f"{slowest:.1f}", ""] for name, (limit, median, slowest) in large["questions"].items()]
        table(["asking it over HTTP, ms", "reach", "median", "slowest", "DuckDB on Parquet"], rows)
        if reference:
            table(["DuckDB, with these records as NDJSON", "s", "CPU s", "MB"], [
                ["reads them", f"{reference['read_s']:.2f}", f"{reference['read_cpu_s']:.2f}", f"{reference['ndjson_mb']:.0f}"],
                ["reads them and writes zstd Parquet", f"{reference['write_s']:.2f}", f"{reference['write_cpu_s']:.2f}",
                 f"{reference['parquet_mb']:.1f}"]])
        print_limits(table, *found["machine"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runstone", required=True)
    parser.add_argument("--load", required=True)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=10_000_000, help="0: leave it out")
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--growth", action="store_true", help="only: how cost grows with records and connections")
    parser.add_argument("--profile", action="store_true", help="only: where the CPU of a load goes")
    parser.add_argument("--stores", action="store_true", help="only: the sinks and the Logger")
    parser.add_argument("--logger", help="the function's binary")
    parser.add_argument("--down", type=float, default=60, help="seconds that PostgreSQL is down")
    parser.add_argument("--parts", default=",".join(PARTS), help="of --stores")
    parser.add_argument("--sizes", default="1000000,10000000,100000000")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if arguments.stores and not (set(parts) <= set(PARTS) and (arguments.logger or "lambda" not in parts)):
        parser.error(f"--parts has some of {','.join(PARTS)}; lambda needs --logger")
    place = file_system()
    say(f"data on {place}")
    bench = Bench(arguments)
    if arguments.growth:
        machine = limits()
        connections = connect(bench, [1, 4, 16, 64, 256, 1_000], say)
        growth = grow(bench, [int(size) for size in arguments.sizes.split(",")], say)
        print_limits(table, machine)
        print_growth(table, growth, connections)
        bench.found = {"machine": machine, "growth": growth, "connections": connections}
    elif arguments.profile:
        profiles = {"bodies as they are": profile(bench, ALONE), "in gzip": profile(bench, ALONE, "--encoding", "gzip"),
                    "in zstd": profile(bench, ALONE, "--encoding", "zstd"), "with ids": profile(bench, ALONE, "--ids")}
        print_profile(table, profiles)
        bench.found = {"profiles": profiles}
    elif arguments.stores:
        bench.found = stores(bench, parts, say)
        print_stores(table, bench.found)
    else:
        bench.all()
    if arguments.json:
        arguments.json.write_text(json.dumps(bench.found, indent=1, ensure_ascii=False) + "\n")


main()
