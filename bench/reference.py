"""The reference: DuckDB reads the same NDJSON, writes zstd Parquet and answers the same questions of that file. It keeps no
run's state, syncs nothing before it answers and takes nothing while it reads: it shows what the machine can do."""
import resource
import time

import duckdb

from questions import median_ms, questions

COLUMNS = """timestamp: 'TIMESTAMP', source_system: 'VARCHAR', stage: 'VARCHAR', run_id: 'VARCHAR', type: 'VARCHAR',
  level: 'VARCHAR', logger_name: 'VARCHAR', message: 'VARCHAR', hostname: 'VARCHAR', metadata: 'JSON'"""


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(statement, database):
    started, cpu = time.perf_counter(), cpu_seconds()
    database.execute(statement).fetchall()
    return time.perf_counter() - started, cpu_seconds() - cpu


def reference(ndjson, directory, run, records):
    """(what reading takes, what reading and writing takes, each as (seconds, CPU seconds); bytes; {question: ms})."""
    database = duckdb.connect(config={"threads": 2})
    source = f"read_json('{ndjson}', format = 'newline_delimited', columns = {{{COLUMNS}}})"
    aggregate = "count(*), " + ", ".join(f"max({name.split(':')[0].strip()})" for name in COLUMNS.split(","))
    read = timed(f"SELECT {aggregate} FROM {source}", database)
    file = directory / "reference.parquet"
    written = timed(f"COPY (SELECT * FROM {source}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)", database)
    answers = {}
    for question in questions(run, records):
        if question.duckdb:
            statement = question.duckdb.replace("{file}", str(file))
            database.execute(statement).fetchall()
            answers[question.name] = median_ms(lambda: database.execute(statement).fetchall(), 11)[0]
    return read, written, file.stat().st_size, answers
