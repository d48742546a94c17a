"""moto's server with CloudWatch Logs as AWS documents them. Owns where moto differs; refuses to be a service of its own.

moto goes by the machine's clock, takes calls of any size, names other events in `rejectedLogEventsInfo` than it rejects (the index of
the last that is too old, where AWS gives the one behind it, and of the last that is too new, where AWS gives the first), knows no
expired events, gives all events in one page, includes the end of a range of times, and shows an event at once. Here the clock
stands still, and calls are judged by
https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html.
"""

import json
import sys
import time

from moto.logs import models
from moto.logs.exceptions import InvalidParameterException, ResourceNotFoundException
from moto.server import main

*ARGUMENTS, SETTINGS = sys.argv[1:]
SETTINGS = json.loads(SETTINGS)
HOUR = 3_600_000
DAY = 24 * HOUR
# Seconds after which an event is seen, and one in the group of cursors.
HIDDEN = SETTINGS.get("hidden_s", 0), SETTINGS.get("hidden_state_s", 0)
PAGE = SETTINGS.get("page", 100)
# A call with this in a message is refused.
REFUSED = SETTINGS.get("refused", "\0")


def check(valid):
    messages = [event["message"].encode() for event in valid]
    if sum(map(len, messages)) + 26 * len(messages) > 1_048_576:
        raise InvalidParameterException("Upload too large")
    if any(len(message) > 1_048_576 - 26 or not message for message in messages):
        raise InvalidParameterException("Log event too large, or empty")
    if len(valid) > 10_000:
        raise InvalidParameterException("Too many log events")
    if valid and valid[-1]["timestamp"] - valid[0]["timestamp"] > DAY:
        raise InvalidParameterException("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")


def put(self, group, stream, events):
    if group not in self.groups or stream not in self.groups[group].streams:
        raise ResourceNotFoundException("The specified log stream does not exist.")
    is_refused = not group.endswith("/state") and any(REFUSED in event["message"] for event in events)
    if is_refused or any(event["timestamp"] < 0 for event in events):
        raise InvalidParameterException("a refusal of the test")
    times = [event["timestamp"] for event in events]
    if times != sorted(times):
        raise InvalidParameterException("Log events in a single PutLogEvents request must be in chronological order.")
    now, retention = SETTINGS["now_ms"], self.groups[group].retention_in_days
    old = sum(at < now - 14 * DAY for at in times)
    expired = sum(at < now - int(retention) * DAY for at in times) if retention else 0
    new = len(times) - sum(at > now + 2 * HOUR for at in times)
    rejected = {}
    if old:
        rejected["tooOldLogEventEndIndex"] = old
    if expired > old:
        rejected["expiredLogEventEndIndex"] = expired
    if new < len(times):
        rejected["tooNewLogEventStartIndex"] = new
    valid = events[max(old, expired) : new]
    check(valid)
    token = self.groups[group].put_log_events(stream, valid)
    for event in self.groups[group].streams[stream].events:
        event.put_at = getattr(event, "put_at", time.monotonic())
    return token, rejected


def get(self, start_time, end_time, limit, next_token, start_from_head):
    everything = self.events
    if next_token is None:
        # A page may be empty before the end.
        return [], f"b/{len(everything):056d}", f"f/{-1:056d}"
    hidden = HIDDEN[self.log_group.name.endswith("/state")]
    self.events = [event for event in everything if time.monotonic() - event.put_at >= hidden]
    try:
        end = end_time - 1 if end_time else None
        return GET(self, start_time, end, min(limit or PAGE, PAGE), next_token, start_from_head)
    finally:
        self.events = everything


GET = models.LogStream.get_log_events
models.LogStream.get_log_events = get
models.LogsBackend.put_log_events = put
main(ARGUMENTS)
