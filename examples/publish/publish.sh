#!/usr/bin/env bash
# Publishes three events with curl, and tries again until the service has answered.
#
# --retry covers time-outs and the statuses 408, 429, 500, 502, 503 and 504, after Retry-After if the answer has it. To send an
# event again is always safe. --fail-with-body ends with an error if the service refuses, and prints what is wrong.
set -euo pipefail

url=${SEKALI_URL:-http://localhost:8080}

for number in 1 2 3; do
  curl -sS --retry 10 --retry-connrefused --fail-with-body --max-time 30 "$url/publish" --json '{
    "topic": "orders.paid",
    "event_id": "curl-'"$number"'",
    "timestamp": "2026-11-22T10:00:0'"$number"'Z",
    "source": "examples/publish.sh",
    "payload": {"amount": '"$number"'}
  }'
  echo
done
