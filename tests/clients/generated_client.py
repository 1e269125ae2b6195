"""A client that openapi-python-client made of /openapi.json: publishes everything twice, and reads it."""

import os
from datetime import datetime, timezone

from sekali_client import Client
from sekali_client.api.operate import get_service, is_healthy
from sekali_client.api.publish import publish
from sekali_client.api.read import get_event, get_stats, list_events, list_topics
from sekali_client.models import CloudEvent, CloudEventSpecversion, Event, Events, Refusal

client = Client(base_url=os.environ["SEKALI_URL"])
TIME = datetime(2026, 11, 22, 10, tzinfo=timezone.utc)


def event(event_id):
    return Event(topic="made", event_id=event_id, timestamp=TIME, source="client", payload={"id": event_id})


for unique in (1, 0):
    answer = publish.sync(client=client, body=event("1"))
    assert (answer.received, answer.unique_processed) == (1, unique), answer
    assert answer.results[0].status == ("stored" if unique else "duplicate"), answer
    answer = publish.sync(client=client, body=Events(events=[event("2"), event("3")]), partial=True)
    assert (answer.received, answer.unique_processed) == (2, 2 * unique), answer
    cloud = CloudEvent(
        specversion=CloudEventSpecversion.VALUE_0, id="4", source="client", type_="made", time=TIME, data={"id": "4"}
    )
    answer = publish.sync(client=client, body=cloud)
    assert (answer.received, answer.unique_processed) == (1, unique), answer
refusal = publish.sync(client=client, body=Event(topic="", event_id="1", timestamp=TIME, source="client"))
assert isinstance(refusal, Refusal) and refusal.detail[0].loc == ["body", "topic"], refusal

page = list_events.sync(client=client, topic="made", since=datetime(2026, 1, 1, tzinfo=timezone.utc), limit=3)
assert [stored.event_id for stored in page.events] == ["1", "2", "3"], page
page = list_events.sync(client=client, topic="made", cursor=page.next_cursor)
assert [stored.payload for stored in page.events] == [{"id": "4"}] and page.next_cursor is None, page
assert get_event.sync("made", "1", client=client).timestamp == TIME.isoformat()
assert isinstance(get_event.sync("made", "none", client=client), Refusal)
assert get_stats.sync(client=client).topics == ["made"]
assert list_topics.sync(client=client).topics[0].unique_processed == 4
assert get_service.sync(client=client).links["publish"] == "/publish"
assert is_healthy.sync(client=client).status == "ready"
