"""The CloudEvents SDK for Python: structured, binary and batched mode; everything twice."""

import json
import os
from datetime import datetime, timezone

import requests
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

BASE = os.environ["SEKALI_URL"]


def event(event_id):
    attributes = {
        "type": "com.example.order.paid",
        "source": "/checkout/ä",
        "id": event_id,
        "time": datetime(2026, 11, 22, 10, tzinfo=timezone.utc),
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "subject": "order",
    }
    return CloudEvent(attributes=attributes, data={"amount": 1250, "note": "as agreed"})


def send(message, expected):
    response = requests.post(f"{BASE}/publish", headers=message.headers, data=message.body, timeout=10)
    assert response.status_code == 200, response.text
    assert response.json()["unique_processed"] == expected, response.text


for attempt in range(2):
    expected = 1 if attempt == 0 else 0
    send(to_structured_event(event("structured")), expected)
    send(to_binary_event(event("binary")), expected)
    batch = [json.loads(to_structured_event(event(f"batch-{number}")).body) for number in range(3)]
    headers = {"content-type": "application/cloudevents-batch+json"}
    response = requests.post(f"{BASE}/publish", headers=headers, data=json.dumps(batch), timeout=10)
    assert response.json()["unique_processed"] == 3 * expected, response.text

# The modes mean the same.
for event_id in ("structured", "binary", "batch-0"):
    stored = requests.get(f"{BASE}/events/com.example.order.paid/{event_id}", timeout=10).json()
    assert stored["payload"] == {"amount": 1250, "note": "as agreed"}, stored
    assert stored["source"] == "/checkout/ä", stored
    assert stored["timestamp"].startswith("2026-11-22T10:00:00"), stored
