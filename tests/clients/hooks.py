"""What schemathesis does not know by itself."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    """Each item of an array on a line of its own."""
    items = value if isinstance(value, list) else [value]
    return "".join(json.dumps(item) + "\n" for item in items).encode("utf-8", "surrogatepass")


@schemathesis.hook
def filter_case(ctx, case):
    """A stream of lines has no `results`; OpenAPI can't say that a parameter goes with some bodies only."""
    return not (case.media_type == "application/x-ndjson" and "results" in (case.query or {}))
