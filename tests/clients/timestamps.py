"""What pydantic takes for a datetime is taken, and means the same as `since`: many forms, made of parts by a seed."""

import json
import os
import random
import sys
from datetime import datetime, timedelta, timezone

import requests
from pydantic import TypeAdapter, ValidationError

BASE = os.environ["SEKALI_URL"]
ADAPTER = TypeAdapter(datetime)
rng = random.Random(int(sys.argv[1]))


def pick(*choices):
    return rng.choice(choices)


def text():
    if rng.random() < 0.2:
        return pick("", "-", "+") + pick(
            str(rng.randrange(10**11)), str(rng.randrange(10**15)), f"{rng.randrange(10**10)}.{rng.randrange(10**7)}"
        )
    date = f"{pick(1, 1969, 2026, 9999):04}-{rng.randrange(1, 14):02}-{rng.randrange(1, 32):02}"
    if rng.random() < 0.1:
        return date
    time = f"{rng.randrange(25):02}:{rng.randrange(61):02}"
    if rng.random() < 0.8:
        time += f":{rng.randrange(61):02}"
        if rng.random() < 0.6:
            time += pick(".", ",") + "".join(pick(*"0123456789") for _ in range(rng.randrange(10)))
    hours, minutes = f"{rng.randrange(25):02}", f"{rng.randrange(61):02}"
    offset = pick("", "Z", "z", pick("+", "-", "\u2212") + hours + pick("", ":") + minutes, "+00")
    return date + pick("T", "t", " ", "_") + time + offset


def meaning(value):
    try:
        moment = ADAPTER.validate_python(value)
    except ValidationError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


values = [text() for _ in range(3000)]
values += [rng.randrange(-(10**9), 2 * 10**10) for _ in range(100)]
values += [rng.randrange(2 * 10**10, 2 * 10**14) for _ in range(100)]
values += [rng.randrange(10**9) / 7 for _ in range(100)]
taken = [(value, moment) for value in values if (moment := meaning(value)) is not None]
assert len(taken) > 500, len(taken)
events = [
    {"topic": "t", "event_id": str(number), "timestamp": value, "source": "s"}
    for number, (value, _) in enumerate(taken)
]
answer = requests.post(f"{BASE}/publish", params={"partial": True}, json=events, timeout=30)
refused = [events[fault["index"]]["timestamp"] for fault in answer.json().get("errors", [])]
assert answer.status_code == 200, refused

listed = requests.get(f"{BASE}/events", params={"topic": "t", "limit": 10000}, timeout=30)
assert [event["timestamp"] for event in listed.json()["events"]] == [value for value, _ in taken]
# A number comes back digit by digit.
assert json.dumps(taken[-1][0]) in listed.text

# The same moment in the plainest form lists the same: of this store's few seconds, all or nothing.
now = datetime.now(timezone.utc)
for value, moment in rng.sample(taken, 200):
    page = requests.get(f"{BASE}/events", params={"since": value, "limit": 1}, timeout=30)
    assert page.status_code == 200, value
    if abs(moment - now) > timedelta(minutes=10):
        assert page.json()["count"] == (moment < now), value
