#!/usr/bin/env python3
"""Works for a consumer: adds up the amounts of events in a SQLite database, each event exactly once.

    consume.py CONSUMER totals.db

The service gives each event at least once. Here the work on an event and the offset up to which its topic is done are one
transaction, so an event that is given again is seen to be done. A kill at any moment loses both or neither. Make the
consumer first, with PUT /consumers/CONSUMER. Needs Python 3.9 and nothing else.
"""

import http.client
import json
import os
import random
import sqlite3
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

URL = os.environ.get("SEKALI_URL", "http://localhost:8080")
WAIT_SECONDS, LEASE_SECONDS = 20, int(os.environ.get("LEASE_SECONDS", "30"))

TABLES = """
CREATE TABLE IF NOT EXISTS totals (source TEXT PRIMARY KEY, events INTEGER NOT NULL, amount INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS done (consumer TEXT, topic TEXT, next_offset INTEGER NOT NULL, PRIMARY KEY (consumer, topic));
"""


def apply(database, event):
    """The effect of an event. To run it twice would count the amount twice."""
    database.execute(
        "INSERT INTO totals VALUES (?, 1, ?)"
        " ON CONFLICT (source) DO UPDATE SET events = events + 1, amount = amount + excluded.amount",
        (event["source"], event["payload"]["amount"]),
    )


def work_on(database, consumer, events):
    """Applies those events that are not done yet, and notes that they are: all of it, or nothing."""
    with database:
        database.execute("BEGIN IMMEDIATE")
        for event in events:
            noted = database.execute(
                "INSERT INTO done VALUES (?, ?, ?) ON CONFLICT (consumer, topic) DO UPDATE"
                " SET next_offset = excluded.next_offset WHERE next_offset < excluded.next_offset",
                (consumer, event["topic"], event["offset"] + 1),
            )
            if noted.rowcount == 1:
                apply(database, event)


def ask(path, body=None):
    """The JSON of an answer; None if another has the lease, or had it before this one was done."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=2 * WAIT_SECONDS + 10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:
        if refusal.code == 409:
            return None
        raise


def main():
    consumer, path = sys.argv[1], sys.argv[2]
    database = sqlite3.connect(path, timeout=30, isolation_level=None)
    database.executescript(TABLES)
    query = urllib.parse.urlencode({"wait": f"{WAIT_SECONDS}s", "lease": f"{LEASE_SECONDS}s", "limit": 10})
    while True:
        try:
            given = ask(f"/consumers/{consumer}/events?{query}")
            if given and given["receipt"]:
                work_on(database, consumer, given["events"])
                ask(f"/consumers/{consumer}/ack", {"receipt": given["receipt"]})
            if given:
                continue
        except urllib.error.HTTPError as refusal:
            if refusal.code not in (408, 429, 500, 502, 503, 504, 507):
                raise SystemExit(f"refused with {refusal.code}: {refusal.read().decode()}")
        except (OSError, http.client.HTTPException) as lost:
            print(f"connection lost: {lost}", file=sys.stderr)
        time.sleep(0.2 + random.random())


if __name__ == "__main__":
    main()
