"""httpx-sse: whatever it gives is an event, over silences too; and it goes on by `lastEventId`, as polyfills do."""

import json
import os
import sys

import httpx
from httpx_sse import connect_sse

BASE = os.environ["SEKALI_URL"]
count = int(sys.argv[1])


def read(client, parameters, most):
    seen = []
    with connect_sse(client, "GET", f"{BASE}/events", params=parameters) as source:
        for item in source.iter_sse():
            seen.append((item.id, json.loads(item.data)["event_id"]))
            if len(seen) == most:
                return seen


with httpx.Client(timeout=40) as client:
    first = read(client, {"topic": "t"}, count // 2)
    rest = read(client, {"topic": "t", "lastEventId": first[-1][0]}, count - len(first))
    assert [event_id for _, event_id in first + rest] == [str(number) for number in range(count)]
