"""PostgreSQL for a measurement: a cluster in a directory of its own, as initdb leaves it and with its syncs, reached through a
socket in that directory and asked through psql. It refuses to run as root: then it runs as nobody."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time

NOBODY = 65534
USER = "bench"
# A socket's path may have a hundred bytes, and its name is some twenty of them.
PATH_BYTES_MAX = 80


def programs():
    """Where initdb and the others are: Debian keeps them out of the path."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: -int(path.parts[-3]))
    initdb = shutil.which("initdb") or (str(found[0]) if found else None)
    if initdb is None:
        raise SystemExit("error: PostgreSQL is missing: run scripts/setup.sh --stores")
    return pathlib.Path(initdb).resolve().parent


class Cluster:
    def __init__(self):
        self.programs = programs()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="pg-"))
        self.data = self.directory / "data"
        if len(str(self.directory)) > PATH_BYTES_MAX:
            raise SystemExit(f"error: {self.directory} is too long for a socket: set TMPDIR to a shorter directory")
        if os.getuid() == 0:
            os.chown(self.directory, NOBODY, NOBODY)
        self.run("initdb", "--auth", "trust", "--username", USER, "--encoding", "UTF8", "--pgdata", self.data)
        with open(self.data / "postgresql.conf", "a") as settings:
            settings.write(f"listen_addresses = ''\nunix_socket_directories = '{self.directory}'\nlogging_collector = off\n")
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.directory)

    def command(self, program, *arguments):
        drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"] if os.getuid() == 0 else []
        return [*drop, str(self.programs / program), *map(str, arguments)]

    def run(self, program, *arguments):
        # Its log is a file: a server that is started would hold a pipe open.
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(self.command(program, *arguments), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                                  cwd="/", check=False)
            if done.returncode != 0:
                said.seek(0)
                raise SystemExit(f"error: {program} failed:\n{said.read()}")

    def start(self):
        self.run("pg_ctl", "start", "--wait", "--log", self.directory / "log", "--pgdata", self.data)

    def is_there(self):
        return (self.data / "postmaster.pid").exists()

    def stop(self, how="fast"):
        if self.is_there():
            self.run("pg_ctl", "stop", "--mode", how, "--pgdata", self.data)

    @property
    def url(self):
        return f"postgres:///postgres?host={self.directory}&user={USER}"

    def psql(self, *arguments):
        return self.command("psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1",
                            f"--host={self.directory}", f"--username={USER}", *arguments, "postgres")

    def ask(self, sql):
        return subprocess.run(self.psql("--command", sql), check=True, stdout=subprocess.PIPE, text=True, cwd="/").stdout.strip()

    def cpu_seconds(self):
        """Of the server, its sessions and those that ended."""
        server = int((self.data / "postmaster.pid").read_text().split()[0])
        children = pathlib.Path(f"/proc/{server}/task/{server}/children").read_text().split()
        ticks = 0
        for process, fields in [(server, slice(11, 15)), *((child, slice(11, 13)) for child in children)]:
            try:
                ticks += sum(map(int, pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[fields]))
            except FileNotFoundError:
                continue
        return ticks / os.sysconf("SC_CLK_TCK")


class Watch:
    """How far a sink's table has come, as another session sees it that looks every so many seconds: the times at which it was
    seen to be further, and where. When the server comes back, so does the session."""

    def __init__(self, cluster, prefix, every):
        self.cluster, self.every = cluster, every
        self.sql = f"SELECT coalesce(max(position), 0) FROM {prefix}_cursors;\n"
        self.seen = [(time.time(), 0)]
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    @property
    def position(self):
        return self.seen[-1][1]

    def reach(self, position, seconds):
        deadline = time.monotonic() + seconds
        while self.position < position:
            if time.monotonic() > deadline:
                raise SystemExit(f"error: the table has records through {self.position} only, after {seconds} s; {position} were acknowledged")
            time.sleep(self.every)

    def look(self):
        while not self.ended.wait(self.every):
            # A session that finds nobody costs more than looking whether anybody is there.
            if not self.cluster.is_there():
                continue
            psql = subprocess.Popen(self.cluster.psql(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                    text=True, bufsize=1, cwd="/")
            try:
                self.go_on_looking(psql)
            except BrokenPipeError:
                pass
            finally:
                psql.kill()
                # It reads what is left, and minds no broken pipe.
                psql.communicate()

    def go_on_looking(self, psql):
        """Until the session ends, or nobody wants to know any more."""
        while not self.ended.wait(self.every):
            psql.stdin.write(self.sql)
            if not (line := psql.stdout.readline()):
                return
            if (position := int(line)) > self.position:
                self.seen.append((time.time(), position))
