"""What schemathesis does not know by itself."""

import json

import schemathesis
from hypothesis import strategies as st


LINES = ["application/x-ndjson", "application/ndjson", "application/jsonl"]
BATCH = "application/cloudevents-batch+json"

# The document can't say what these bodies hold in a way that generators of clients understand.
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=60)
times = st.datetimes().map(lambda time: time.isoformat() + "Z")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
events = st.fixed_dictionaries(
    {"topic": texts, "event_id": texts, "timestamp": times, "source": texts}, optional={"payload": values}
)
cloud_events = st.fixed_dictionaries(
    {"specversion": st.just("1.0"), "id": texts, "source": texts, "type": texts},
    optional={"time": times, "data": values},
)


def lines(items):
    """Each item on a line of its own."""
    return "".join(json.dumps(item) + "\n" for item in items).encode()


for name in LINES:
    schemathesis.openapi.media_type(name, st.lists(events, max_size=5).map(lines))
schemathesis.openapi.media_type(BATCH, st.lists(cloud_events, max_size=5).map(lambda items: json.dumps(items).encode()))


def belongs_to_a_body(name):
    """A header that says what the body is: one of any value does not fit a body that was made without it."""
    return name.lower() == "content-encoding" or name.lower().startswith("ce-")


@schemathesis.hook
def map_headers(ctx, headers):
    return {name: value for name, value in (headers or {}).items() if not belongs_to_a_body(name)}


@schemathesis.hook
def filter_case(ctx, case):
    """OpenAPI can't say that a parameter goes with some bodies only."""
    query = case.query or {}
    if any(belongs_to_a_body(name) for name in case.headers or {}):
        return False
    if case.path != "/publish":
        return True
    # With `dedup` an id gets the source's bytes, and that must hold no blank.
    if "dedup" in query or (case.media_type in LINES and "results" in query):
        return False
    return "topic" not in query or "cloudevents" in (case.media_type or "")
