"""What the machine can do at best, beside what a server does with it: a sync of the disk, and a copy in memory."""
import os
import statistics
import tempfile
import time


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


def limits():
    return {"sync_4_kib_ms": syncs(4 << 10), "sync_1_mib_ms": syncs(1 << 20), "copy_gb_per_s": copies()}


def print_limits(table, found):
    pair = lambda name: " · ".join(f"{value:.2f}" for value in found[name])
    table(["the machine", ""], [
        ["append of 4 KiB and fdatasync, ms: median · p99", pair("sync_4_kib_ms")],
        ["append of 1 MiB and fdatasync, ms: median · p99", pair("sync_1_mib_ms")],
        ["copy in memory, one core, GB/s", f"{found['copy_gb_per_s']:.1f}"]])
