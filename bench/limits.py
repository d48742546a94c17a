"""What the machine can do at best, beside what a server does with it: a sync of the disk, a copy in memory, and work of one core.
Measured before and after everything else it says whether the machine was the same meanwhile."""
import os
import statistics
import tempfile
import time
import zlib


def syncs(size, times=300):
    """Appends of so many bytes to a file whose blocks are there, each synced: milliseconds (median, 99th percentile)."""
    took = []
    with tempfile.NamedTemporaryFile(prefix="runstone-bench-") as file:
        os.posix_fallocate(file.fileno(), 0, size * times)
        os.fsync(file.fileno())
        block = os.urandom(size)
        for number in range(times):
            started = time.perf_counter()
            os.pwrite(file.fileno(), block, number * size)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - started) * 1e3)
    took.sort()
    return statistics.median(took), took[int(len(took) * 0.99)]


def copies(size=256 << 20, times=9):
    """A copy in memory with one core, in GB/s."""
    source, target = memoryview(bytearray(os.urandom(1 << 20) * (size >> 20))), memoryview(bytearray(size))
    took = []
    for _ in range(times):
        started = time.perf_counter()
        target[:] = source
        took.append(time.perf_counter() - started)
    return size / statistics.median(took) / 1e9


def deflates(size=16 << 20, times=9):
    """What zlib compresses with one core, in MB/s: it is the processor's work alone."""
    text = b"".join(b"record %d of run %d: loaded what there was\n" % (number * 7919 % 100_003, number // 1_000) for number in range(size // 44))
    took = []
    for _ in range(times):
        started = time.perf_counter()
        zlib.compress(text, 6)
        took.append(time.perf_counter() - started)
    return len(text) / statistics.median(took) / 1e6


def limits():
    return {"sync_4_kib_ms": syncs(4 << 10), "sync_1_mib_ms": syncs(1 << 20), "copy_gb_per_s": copies(), "deflate_mb_per_s": deflates()}


def print_limits(table, *found):
    pair = lambda name: [" · ".join(f"{value:.2f}" for value in one[name]) for one in found]
    table(["the machine", *(["before", "after"] if len(found) > 1 else [""])], [
        ["append of 4 KiB and fdatasync, ms: median · p99", *pair("sync_4_kib_ms")],
        ["append of 1 MiB and fdatasync, ms: median · p99", *pair("sync_1_mib_ms")],
        ["copy in memory, one core, GB/s", *(f"{one['copy_gb_per_s']:.1f}" for one in found)],
        ["zlib at its level 6, one core, MB/s", *(f"{one['deflate_mb_per_s']:.0f}" for one in found)]])
