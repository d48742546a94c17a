"""Where the CPU of a load goes: samples of perf(1), each counted for the part of the server that its stack is in."""
import collections
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

from server import Server

# Samples a second of CPU, and bytes of stack that each takes along.
FREQUENCY, STACK_BYTES = 499, 16_384
# Whole threads; then the function nearest to the sample that one of the patterns names.
THREADS = {"journal-writer": "journal: write, sync", "relay-recent": "recent records", "relay-runs": "runs"}
MERGING = "store::lake::upkeep"
STAGES = [
    ("socket", r"poll_read|poll_write|sock_recvmsg|sock_sendmsg"),
    ("body: decompress, collect", r"server::http::decode"),
    ("JSON into columns, validated", r"runstone_record::(parse|build|identifier|values|time|json|words)"),
    ("ids and frames", r"server::intake|codec::write|runstone_journal"),
    ("lake: sort", r"Texts::(sort|new)|lake::(order|plan|layout|suspects)"),
    ("lake: zstd, Parquet", r"lake::(pages|texts|encode|bounds|stats|sums)|parquet::"),
    ("lake: commit, write files", r"lake::(commit|log|disk|durable|actions|kernel|write|local)"),
    ("lake: read frames, gather", r"codec::read|store::(merge|chunk|rows|layout|lake)|server::(lake|relay)"),
    ("HTTP", r"server::http|server::api|hyper|axum"),
]


def stage(thread, frames):
    if thread in THREADS:
        return THREADS[thread]
    # What merging does is what a flush does, too: it counts as merging.
    if any(MERGING in frame for frame in frames):
        return "lake: merge files"
    for frame in frames:
        for name, pattern in STAGES:
            if re.search(pattern, frame):
                return name
    return "the rest"


def samples(text):
    """A thread and the functions of its stack, the innermost first, for each sample that `perf script` prints."""
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if lines:
            yield lines[0].strip(), [line.split(maxsplit=1)[-1] for line in lines[1:]]


def profile(bench, settings, *how):
    """CPU seconds of each stage, from the first record until all are in the lake and merged."""
    if not shutil.which("perf"):
        raise SystemExit("error: a profile needs perf: apt-get install linux-perf")
    with tempfile.TemporaryDirectory(prefix="runstone-profile-") as directory:
        data = pathlib.Path(directory) / "perf.data"
        with Server(bench.arguments.runstone, settings) as server:
            before = server.cpu_seconds()
            perf = subprocess.Popen(
                ["perf", "record", "--quiet", "--freq", str(FREQUENCY), "--call-graph", f"dwarf,{STACK_BYTES}", "--pid",
                 str(server.process.pid), "--output", data])
            while not (data.exists() and data.stat().st_size):
                if perf.poll() is not None:
                    raise SystemExit("error: perf may not record: see kernel.perf_event_paranoid in perf-security(7)")
                time.sleep(0.05)
            bench.load_unrefused(server, bench.arguments.records, *how)
            server.settle(bench.arguments.records)
            taken = server.cpu_seconds() - before
            perf.send_signal(signal.SIGINT)
            perf.wait()
        script = ["perf", "script", "--input", data, "--no-inline", "--fields", "comm,ip,sym"]
        text = subprocess.run(script, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    found = collections.Counter(stage(*sample) for sample in samples(text.decode(errors="replace")))
    return {"stages": {name: count / FREQUENCY for name, count in found.items()}, "by the clock": taken}


def print_profile(table, profiles):
    stages = {how: found["stages"] for how, found in profiles.items()}
    names = {name for found in stages.values() for name in found}
    names = sorted(names, key=lambda name: -sum(found.get(name, 0) for found in stages.values()))
    rows = [[name, *(f"{found.get(name, 0):.2f} ({found.get(name, 0) / sum(found.values()):.0%})" for found in stages.values())]
            for name in names]
    rows.append(["together", *(f"{sum(found.values()):.2f}" for found in stages.values())])
    rows.append(["by the process's clock", *(f"{found['by the clock']:.2f}" for found in profiles.values())])
    table(["CPU s, until all is in the lake and merged", *profiles], rows)
