"""The service that sekali grew out of: FastAPI in front of SQLite, small, and as good as such a thing gets without becoming another
thing. One process, one connection, WAL with synchronous=FULL; everything is committed before its answer: COMMIT=event commits each event by
itself, COMMIT=request (tuned) a request as one transaction."""

import json
import os
import sqlite3
import time
from datetime import datetime
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

app = FastAPI()
together = os.environ.get("COMMIT", "request") == "request"
started = time.monotonic()
counts = {"received": 0, "unique_processed": 0, "duplicate_dropped": 0}

database = sqlite3.connect(os.environ.get("DATABASE", "aggregator.db"), check_same_thread=False, isolation_level=None)
database.executescript(
    """PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS processed_events (topic TEXT, event_id TEXT, timestamp TEXT, source TEXT, payload TEXT,
        PRIMARY KEY (topic, event_id));"""
)


class Event(BaseModel):
    topic: str = Field(min_length=1)
    event_id: str = Field(min_length=1)
    timestamp: datetime
    source: str
    payload: dict[str, Any] = {}


@app.post("/publish")
async def publish(body: Event | list[Event]):
    events = body if isinstance(body, list) else [body]
    rows = [(event.topic, event.event_id, event.timestamp.isoformat(), event.source, json.dumps(event.payload)) for event in events]
    before = database.total_changes
    for transaction in [rows] if together else [[row] for row in rows]:
        database.execute("BEGIN")
        database.executemany("INSERT OR IGNORE INTO processed_events VALUES (?, ?, ?, ?, ?)", transaction)
        database.execute("COMMIT")
    unique = database.total_changes - before
    counts["received"] += len(rows)
    counts["unique_processed"] += unique
    counts["duplicate_dropped"] += len(rows) - unique
    return {"received": len(rows), "unique_processed": unique, "duplicate_dropped": len(rows) - unique}


@app.get("/events")
async def events(topic: str, limit: int = 100):
    rows = database.execute("SELECT * FROM processed_events WHERE topic = ? LIMIT ?", (topic, limit)).fetchall()
    names = ("topic", "event_id", "timestamp", "source", "payload")
    return {"topic": topic, "count": len(rows), "events": [dict(zip(names, row)) for row in rows]}


@app.get("/stats")
async def stats():
    topics = [row[0] for row in database.execute("SELECT DISTINCT topic FROM processed_events")]
    return {**counts, "topics": topics, "uptime": time.monotonic() - started}
