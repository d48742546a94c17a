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


def plain(number):
    """As the route reads it: without an exponent."""
    return f"{float(number):.6f}" if "e" in number else number


def short(value):
    """With keys as long as the route takes them, at any depth: 128 bytes, which a schema counts as characters."""
    if isinstance(value, list):
        return [short(one) for one in value]
    if isinstance(value, dict):
        return {name[:32]: short(one) for name, one in value.items()}
    return value


@schemathesis.hook
def before_call(_, case, kwargs):
    query = case.query or {}
    is_right = case.meta.generation.mode.is_positive
    # As text of its own it cannot be told from the key KEY of the family that it names. Its members are spelt out by now.
    if query.pop("metadata.KEY", None) is not None:
        is_right = True
    # Of a page the limit is bounded, of a stream it is not: one schema cannot say both.
    if "limit" in query and query.get("format") in ("ndjson", "csv", "parquet", "arrow"):
        query.pop("format")
        is_right = True
    # The settings of this server name one of the two.
    if query.get("store") == "dynamodb":
        query.pop("store")
    if is_right:
        if isinstance(case.body, (dict, list)):
            case.body = short(case.body)
        # A cursor comes from the page before, with its filters; any other is refused, as whatever is wrong.
        query.pop("cursor", None)
        # That a text has a word in it is beyond a pattern.
        if not str(query.get("q")).replace('"', "").strip():
            query.pop("q")
        numbers = str(query.get("percentiles", "")).split(",")
        if any("e" in number for number in numbers):
            query["percentiles"] = ",".join(dict.fromkeys(map(plain, numbers)))
    headers = case.headers or {}
    # Bodies come as they are, and a key stands for one of them.
    if headers.get("Content-Encoding") in ("gzip", "zstd"):
        headers["Content-Encoding"] = "identity"
    key = headers.get("Idempotency-Key") or ""
    if 0 < len(key) < 200:
        headers["Idempotency-Key"] = f"{key}-{next(NUMBERS)}"
