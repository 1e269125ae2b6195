#!/usr/bin/env python3
"""Adds up the amounts of a topic's events in a SQLite database, each event exactly once.

    follow.py totals.db [TOPIC]

It follows the topic as a tail. In one transaction it applies an event and stores the event's cursor. A kill at any moment
loses both or neither, and the next start continues after the stored cursor. Needs Python 3.9 and nothing else.
"""

import http.client
import json
import os
import sqlite3
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

URL = os.environ.get("SEKALI_URL", "http://localhost:8080")
# The service shows a sign of life every 15 seconds. A connection that is silent for longer is dead.
SILENCE_SECONDS = 45

TABLES = """
CREATE TABLE IF NOT EXISTS totals (source TEXT PRIMARY KEY, events INTEGER NOT NULL, amount INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS progress (topic TEXT PRIMARY KEY, cursor TEXT NOT NULL);
"""


def apply(database, event):
    """The effect of an event. To run it twice would count the amount twice."""
    database.execute(
        "INSERT INTO totals VALUES (?, 1, ?)"
        " ON CONFLICT (source) DO UPDATE SET events = events + 1, amount = amount + excluded.amount",
        (event["source"], event["payload"]["amount"]),
    )


def process(database, topic, cursor, event):
    """Applies an event and stores its cursor: both, or neither."""
    with database:
        apply(database, event)
        database.execute(
            "INSERT INTO progress VALUES (?, ?) ON CONFLICT (topic) DO UPDATE SET cursor = excluded.cursor",
            (topic, cursor),
        )


def tail(topic, cursor):
    """Events of a topic after a cursor, each with its own cursor, for as long as the connection lasts."""
    query = {"topic": topic} if cursor is None else {"topic": topic, "cursor": cursor}
    address = f"{URL}/events?{urllib.parse.urlencode(query)}"
    request = urllib.request.Request(address, headers={"accept": "text/event-stream"})
    with urllib.request.urlopen(request, timeout=SILENCE_SECONDS) as answer:
        cursor = data = None
        for line in answer:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "id":
                cursor = value
            elif name == "data":
                data = value
            elif not name and data is not None:
                yield cursor, json.loads(data)
                data = None


def main():
    path, topic = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "orders.paid"
    database = sqlite3.connect(path, timeout=30)
    database.executescript(TABLES)
    while True:
        row = database.execute("SELECT cursor FROM progress WHERE topic = ?", (topic,)).fetchone()
        try:
            for cursor, event in tail(topic, row and row[0]):
                process(database, topic, cursor, event)
        except urllib.error.HTTPError as refusal:
            # 410: the store was restored from an older copy, and a person has to decide where to begin.
            if refusal.code not in (408, 429, 500, 502, 503, 504):
                raise SystemExit(f"refused with {refusal.code}: {refusal.read().decode()}")
        except (OSError, http.client.HTTPException) as lost:
            print(f"connection lost: {lost}", file=sys.stderr)
        time.sleep(1)


if __name__ == "__main__":
    main()
