"""What schemathesis does not know by itself."""

import json
import os
import re

import schemathesis
from hypothesis import strategies as st


LINES = ["application/x-ndjson", "application/ndjson", "application/jsonl"]
# What is taken beside what the document says, which clients are made of: they know date-times and booleans.
OTHER_TIME = re.compile(r"\s*[-+.\d]+([eE][-+]?\d+)?\s*|\d{4}-\d\d-\d\d")
OTHER_BOOLEAN = re.compile(r"[01tfyn]|true|false|yes|no|on|off", re.IGNORECASE)

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


def lines(items):
    """Each item on a line of its own."""
    return "".join(json.dumps(item) + "\n" for item in items).encode()


# To the document they are text.
for name in LINES:
    schemathesis.openapi.media_type(name, st.lists(events, max_size=5).map(lines))


@schemathesis.serializer(*LINES)
def as_it_is(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def is_taken_all_the_same(name, value):
    if name in ("since", "until", "timestamp", "time"):
        return not isinstance(value, bool) and bool(OTHER_TIME.fullmatch(str(value)))
    return name == "partial" and bool(OTHER_BOOLEAN.fullmatch(str(value)))


def members(value):
    """All members of all objects in a body."""
    if isinstance(value, dict):
        yield from value.items()
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from members(inner)


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
    if any(is_taken_all_the_same(*member) for member in [*query.items(), *members(case.body)]):
        return False
    if "event_id" in query and "topic" not in query:
        return False
    if case.path != "/publish":
        return True
    # With `dedup` an id gets the source's bytes, and that must hold no blank.
    if "dedup" in query or (case.media_type in LINES and "results" in query):
        return False
    return "topic" not in query or "cloudevents" in (case.media_type or "")


@schemathesis.hook
def before_load_schema(ctx, raw_schema):
    """Where the service asks for tokens, what is optional in the document is needed."""
    if "SEKALI_TOKEN" in os.environ:
        for path in raw_schema["paths"].values():
            for operation in path.values():
                if isinstance(operation, dict) and {} in operation.get("security", []):
                    operation["security"].remove({})
