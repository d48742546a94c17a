"""A server that is measured: started in an empty directory, asked, and stopped by its process id."""
import collections
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.parse


class Server:
    """`runstone serve` on a free port, with its data in a directory of its own that goes with it."""

    def __init__(self, binary, settings=None, data=None):
        self.own = data is None
        self.data = pathlib.Path(data or tempfile.mkdtemp(prefix="runstone-bench-"))
        environment = {"PATH": os.environ["PATH"], **(settings or {})}
        started = time.perf_counter()
        self.log = open(self.data / "server.log", "w")
        self.process = subprocess.Popen(
            [binary, "serve", "--data", str(self.data / "data"), "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment)
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise SystemExit(f"the server did not start:\n{(self.data / 'server.log').read_text()}")
        self.connection = None
        while self.ask("/ready")[0] != 200:
            time.sleep(0.002)
        self.seconds_to_ready = time.perf_counter() - started

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        self.log.close()
        if self.own:
            shutil.rmtree(self.data)

    def ask(self, path, body=None, content_type="application/json"):
        """One request on the kept connection: its status and its body."""
        if self.connection is None:
            where = urllib.parse.urlsplit(self.url)
            self.connection = http.client.HTTPConnection(where.hostname, where.port, timeout=300)
        headers = {} if body is None else {"Content-Type": content_type}
        try:
            self.connection.request("GET" if body is None else "POST", path, body, headers)
            answer = self.connection.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected):
            # The server closes what nobody uses for a while.
            self.connection.close()
            self.connection.request("GET" if body is None else "POST", path, body, headers)
            answer = self.connection.getresponse()
        return answer.status, answer.read()

    def json(self, path, body=None):
        status, answer = self.ask(path, None if body is None else json.dumps(body))
        if status != 200:
            raise SystemExit(f"{path} was answered {status}: {answer.decode()}")
        return json.loads(answer)

    def sql(self, statement):
        return self.json("/api/v1/query", {"sql": statement})["rows"]

    def metrics(self):
        text = self.ask("/metrics")[1].decode()
        return {name: float(value) for name, value in re.findall(r"^(\w+) ([0-9.e+-]+)$", text, re.MULTILINE)}

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cpu_by_thread(self):
        """CPU seconds of the threads that there are, by their names."""
        found = collections.Counter()
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                name, fields = (task / "comm").read_text().strip(), (task / "stat").read_text().rsplit(")", 1)[1].split()
            except FileNotFoundError:
                continue
            found[name] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        found["threads that ended"] = max(self.cpu_seconds() - sum(found.values()), 0)
        return dict(found)

    def megabytes(self, what):
        """VmHWM: the most it ever had in memory; VmRSS: what it has now."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{what}:\s+(\d+)", text, re.MULTILINE)[1]) * 1024 / 1e6

    def settle(self, records):
        """Bring everything to the lake, have it compacted, and wait until both are done."""
        before = self.metrics()["runstone_lake_upkeep_runs_total"]
        self.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 600
        while True:
            now = self.metrics()
            done = now["runstone_lake_lag_records"] == 0 and now["runstone_lake_upkeep_running"] == 0
            if done and now["runstone_lake_upkeep_runs_total"] > before:
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"the lake did not settle within ten minutes: {now}")
            time.sleep(0.05)
        found = self.sql("SELECT count(*) AS n FROM logs")[0]["n"]
        if found != records:
            raise SystemExit(f"{records} records were acknowledged, {found} are found")
