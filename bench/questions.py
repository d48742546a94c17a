"""The questions that a settled server is asked, each with what it has to reach and how DuckDB is asked the same of a
Parquet file of the same records (where it can be)."""
import json
import statistics
import time
import urllib.parse


class Question:
    """What is asked, as (path, body or None), and the milliseconds within which the median has to be."""

    def __init__(self, name, reach, path, body=None, duckdb=None, check=None):
        self.name, self.reach, self.path, self.body = name, reach, path, body
        self.duckdb, self.check = duckdb, check


def sql(name, reach, statement, duckdb=None, check=None):
    body = json.dumps({"sql": statement, "max_rows": 10_000})
    return Question(name, reach, "/api/v1/query", body, duckdb or statement.replace("logs", "'{file}'"), check)


def questions(run, records):
    hour = "since=2026-11-04T12:00:00Z&until=2026-11-04T13:00:00Z"
    rows = "SELECT * FROM '{file}' WHERE "
    return [
        sql("count", 3, "SELECT count(*) AS n FROM logs", check=lambda found: found[0]["n"] == records),
        sql("count by level", 15, "SELECT level, count(*) AS n FROM logs GROUP BY level",
            check=lambda found: sum(row["n"] for row in found) == records),
        sql("hour × level histogram", 25,
            "SELECT date_trunc('hour', timestamp) AS hour, level, count(*) AS n FROM logs GROUP BY 1, 2 ORDER BY 1, 2",
            check=lambda found: sum(row["n"] for row in found) == records),
        Question("one run's rows in order", 15, f"/api/v1/runs/{run}/logs?limit=500&order=oldest",
                 duckdb=f"{rows} run_id = '{run}' ORDER BY timestamp LIMIT 500"),
        Question("latest 100 of ERROR and above", 25, "/api/v1/logs?level=ERROR&limit=100",
                 duckdb=f"{rows} level IN ('ERROR', 'CRITICAL') ORDER BY timestamp DESC LIMIT 100",
                 check=lambda page: len(page["records"]) == 100),
        sql("substring count over message", 150, "SELECT count(*) AS n FROM logs WHERE message LIKE '%blk_-%'",
            check=lambda found: found[0]["n"] > 0),
        sql("regular expression over message", 140,
            "SELECT count(*) AS n FROM logs WHERE regexp_like(message, 'blk_-?[0-9]{5}7')",
            duckdb="SELECT count(*) AS n FROM '{file}' WHERE regexp_matches(message, 'blk_-?[0-9]{5}7')",
            check=lambda found: found[0]["n"] > 0),
        Question("a page of 200 within an hour", 20, f"/api/v1/logs?{hour}&limit=200",
                 duckdb=f"{rows} timestamp >= '2026-11-04 12:00:00+00' AND timestamp < '2026-11-04 13:00:00+00' "
                        "ORDER BY timestamp DESC LIMIT 200",
                 check=lambda page: len(page["records"]) == 200),
        Question("the newest 200", 25, "/api/v1/logs?limit=200",
                 duckdb="SELECT * FROM '{file}' ORDER BY timestamp DESC LIMIT 200"),
        Question("runs, first page", 20, "/api/v1/runs?limit=100"),
        Question("metrics, hour × stage, percentiles", 5, "/api/v1/metrics?group_by=stage&bucket=1h"),
        Question("fields with counts", None, "/api/v1/fields"),
        Question("values of logger_name with counts", None, "/api/v1/values?field=logger_name"),
    ]


def median_ms(ask, times):
    took = []
    for _ in range(times):
        started = time.perf_counter()
        ask()
        took.append((time.perf_counter() - started) * 1e3)
    return statistics.median(took), max(took)


def ask_all(server, run, records, times=21):
    """Every question's (name, reach, median, slowest), warm: the first answers are checked and not counted."""
    for question in questions(run, records):
        for _ in range(3):
            status, answer = server.ask(question.path, question.body)
            if status != 200:
                raise SystemExit(f"{question.name} was answered {status}: {answer.decode()[:500]}")
        found = json.loads(answer)
        if question.check and not question.check(found.get("rows", found)):
            raise SystemExit(f"{question.name} has a wrong answer: {answer.decode()[:500]}")
        median, slowest = median_ms(lambda: server.ask(question.path, question.body), times)
        yield question.name, question.reach, median, slowest


def page_ms(server, page, size=200):
    """What the page of that number of an unbounded walk takes: the median of the five before it and itself."""
    cursor, took = "", []
    for number in range(1, page + 1):
        started = time.perf_counter()
        found = server.json(f"/api/v1/logs?limit={size}" + (f"&cursor={urllib.parse.quote(cursor)}" if cursor else ""))
        took.append((time.perf_counter() - started) * 1e3)
        cursor = found["next"]
        if cursor is None and number < page:
            raise SystemExit(f"the walk ended at page {number} of {page}")
    return statistics.median(took[-6:]), statistics.median(took[1:7])


def export(server, format="parquet"):
    """An export of every record: seconds, bytes, and by how much the server's memory grew at most, in MB."""
    before = server.megabytes("VmRSS")
    with open(f"/proc/{server.process.pid}/clear_refs", "w") as high_water:
        high_water.write("5")
    started = time.perf_counter()
    server.connection = None
    status, answer = server.ask(f"/api/v1/logs?format={format}")
    if status != 200:
        raise SystemExit(f"the export was answered {status}")
    return time.perf_counter() - started, len(answer), server.megabytes("VmHWM") - before
