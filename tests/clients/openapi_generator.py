"""A client that openapi-generator made of /openapi.json: publishes everything twice, and reads it."""

import os
from datetime import datetime, timezone

import generated
from generated.exceptions import NotFoundException, UnprocessableEntityException

TIME = datetime(2026, 11, 22, 10, tzinfo=timezone.utc)


def event(event_id):
    return generated.Event(
        topic="made", event_id=event_id, timestamp=TIME, source="client", payload={"id": event_id}
    )


with generated.ApiClient(generated.Configuration(host=os.environ["SEKALI_URL"])) as api:
    publishing, reading = generated.PublishApi(api), generated.ReadApi(api)
    for unique in (1, 0):
        answer = publishing.publish(generated.Publish(event("1")))
        assert (answer.received, answer.unique_processed) == (1, unique), answer
        batch = generated.Events(events=[event("2"), event("3")])
        answer = publishing.publish(generated.Publish(batch), partial=True)
        assert (answer.received, answer.unique_processed) == (2, 2 * unique), answer
    try:
        publishing.publish(generated.Publish(event("x" * 256)), topic="for CloudEvents only")
        raise AssertionError("it was taken")
    except UnprocessableEntityException as refusal:
        assert '"topic"' in refusal.body, refusal

    since = datetime(2026, 1, 1, tzinfo=timezone.utc)
    page = reading.list_events(topic="made", since=since, limit=2)
    assert [stored.event_id for stored in page.events] == ["1", "2"], page
    page = reading.list_events(topic="made", cursor=page.next_cursor)
    assert [stored.payload for stored in page.events] == [{"id": "3"}] and page.next_cursor is None, page
    assert reading.get_event("made", "1").timestamp.actual_instance == TIME.isoformat()
    try:
        reading.get_event("made", "none")
        raise AssertionError("it is there")
    except NotFoundException:
        pass
    assert reading.get_stats().topics == ["made"]
    assert reading.list_topics().topics[0].unique_processed == 3
    assert generated.OperateApi(api).is_healthy().status == "ready"
