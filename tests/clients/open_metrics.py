"""The parsers of Prometheus' own client library take both forms of the metrics."""

import os

import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as classic

URL = os.environ["SEKALI_URL"] + "/metrics"

plain = {family.name for family in classic(requests.get(URL, timeout=10).text)}
answer = requests.get(URL, headers={"accept": "application/openmetrics-text"}, timeout=10)
assert answer.headers["content-type"].startswith("application/openmetrics-text"), answer.headers
families = {family.name: family for family in open_metrics(answer.text)}
assert set(families) == plain, set(families) ^ plain
assert families["sekali_commit_duration_seconds"].type == "histogram"
assert families["sekali_events"].type == "counter"
