#!/usr/bin/env python3
"""Publishes 250 events in batches of 100, and sends each batch until the service has answered 200.

Each event has an id that stays the same when it is sent again, so a repetition is never stored twice. Needs Python 3.9 and
nothing else.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.request

URL = os.environ.get("SEKALI_URL", "http://localhost:8080")
# After these, or without an answer, the same request is sent again.
AGAIN = {408, 429, 500, 502, 503, 504, 507}


def publish(events):
    """Sends events until they are on disk; the counts of the answer."""
    request = urllib.request.Request(f"{URL}/publish", json.dumps(events).encode(), {"content-type": "application/json"})
    for attempt in range(20):
        pause = min(30, 0.1 * 2**attempt)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            if refusal.code not in AGAIN:
                raise SystemExit(f"refused with {refusal.code}: {refusal.read().decode()}")
            if (wanted := refusal.headers.get("retry-after", "")).isdigit():
                pause = int(wanted)
        except (OSError, http.client.HTTPException):
            # No whole answer, so the events may be stored or not. Sending them again is safe.
            pass
        time.sleep(pause)
    raise SystemExit("gave up: the service does not answer")


def main():
    events = [
        {
            "topic": "orders.paid",
            "event_id": f"python-{number}",
            "timestamp": "2026-11-22T10:00:00Z",
            "source": "examples/publish.py",
            "payload": {"amount": number},
        }
        for number in range(250)
    ]
    stored = dropped = 0
    for first in range(0, len(events), 100):
        counts = publish(events[first : first + 100])
        stored += counts["unique_processed"]
        dropped += counts["duplicate_dropped"]
    print(f"{stored} stored, {dropped} dropped as stored before")


if __name__ == "__main__":
    main()
