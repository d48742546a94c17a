"""What the document cannot tell Schemathesis: how lines are written, and what belongs to one exchange alone."""

import datetime
import itertools

import schemathesis
from hypothesis import strategies

NUMBERS = itertools.count()

# The years that 64 bits of nanoseconds have.
TIMES = strategies.datetimes(datetime.datetime(1678, 1, 1), datetime.datetime(2262, 1, 1))
schemathesis.openapi.format("date-time", TIMES.map(lambda time: time.isoformat() + "Z"))


@schemathesis.serializer("application/x-ndjson")
def lines(_, value):
    return str(value).encode("utf-8", "replace")


@schemathesis.hook
def before_call(_, case, kwargs):
    # A cursor comes from the page before, with its filters.
    (case.query or {}).pop("cursor", None)
    # As text of its own it cannot be told from the key KEY of the family that it names.
    (case.query or {}).pop("metadata.KEY", None)
    # Of a page the limit is bounded, of a stream it is not: one schema cannot say both.
    if "limit" in (case.query or {}) and case.query.get("format") in ("ndjson", "csv", "parquet", "arrow"):
        case.query.pop("format")
    headers = case.headers or {}
    # Bodies come as they are, and a key stands for one of them.
    if headers.get("Content-Encoding") in ("gzip", "zstd"):
        headers["Content-Encoding"] = "identity"
    key = headers.get("Idempotency-Key") or ""
    if 0 < len(key) < 200:
        headers["Idempotency-Key"] = f"{key}-{next(NUMBERS)}"
