"""A client of the Python original: one event, an object with a list, a list; everything twice."""

import os
import uuid
from datetime import datetime, timezone

import requests

BASE = os.environ["SEKALI_URL"]


def make_event(event_id=None, topic="user.login"):
    return {
        "topic": topic,
        "event_id": event_id or str(uuid.uuid4()),
        "timestamp": datetime.now(timezone.utc).isoformat(),
        "source": "auth-service",
        "payload": {"user": "alice", "attempt": 1},
    }


def publish(body, expected=200):
    response = requests.post(f"{BASE}/publish", json=body, timeout=10)
    assert response.status_code == expected, response.text
    return response.json()


single = make_event()
batch = [make_event() for _ in range(10)]
for attempt in range(2):
    unique = 1 if attempt == 0 else 0
    answer = publish(single)
    assert (answer["received"], answer["unique_processed"]) == (1, unique), answer
    answer = publish({"events": batch})
    assert (answer["received"], answer["unique_processed"]) == (10, 10 * unique), answer
    answer = publish(batch[:5])
    assert (answer["unique_processed"], answer["duplicate_dropped"]) == (0, 5), answer

# What pydantic refuses, with FastAPI's shape.
for field in ("topic", "event_id", "timestamp", "source"):
    event = make_event()
    del event[field]
    detail = publish(event, expected=422)["detail"]
    assert detail[0]["loc"] == ["body", field] and detail[0]["type"] == "missing", detail
detail = publish(dict(make_event(), timestamp="yesterday"), expected=422)["detail"]
assert detail[0]["loc"][-1] == "timestamp", detail

# A time without an offset, as `datetime.utcnow().isoformat()` gives it.
publish(dict(make_event(), timestamp="2025-10-20T10:00:00.123456"))

events = requests.get(f"{BASE}/events", params={"topic": "user.login"}, timeout=10).json()
assert events["topic"] == "user.login" and events["count"] == 12 == len(events["events"]), events
assert single["event_id"] in {event["event_id"] for event in events["events"]}
assert events["events"][0]["payload"] == single["payload"]
assert requests.get(f"{BASE}/events", params={"topic": "none"}, timeout=10).json()["events"] == []

stats = requests.get(f"{BASE}/stats", timeout=10).json()
assert stats["received"] == 33 and stats["unique_processed"] == 12, stats
assert stats["duplicate_dropped"] == 21 and stats["topics"] == ["user.login"], stats
assert stats["uptime"] >= 0, stats
