#!/usr/bin/env python3
"""Measures what consumers cost: memory and a commit with few and many of them, and publishing beside busy ones.

    benches/consumers.py SEKALI                       both, five pairs
    benches/consumers.py SEKALI --pairs 3 --json
    benches/consumers.py SEKALI --save                also writes benches/results/DATE-consumers.json

1. On one store with 100 topics the number of consumers grows to 1,000, each with a position in each topic. At each number
   it tells the memory of the service, and the time and the bytes of the commit of an acknowledgement.
2. The same load of `sekali bench` is put on a fresh store without consumers and with 10 busy ones, in pairs. Every second
   pair is turned round. A busy consumer takes and acknowledges without a pause, all topics, up to 1,000 events at once.
   Workers run when nobody else wants the processor: on other machines, they would take nothing of this one's. How many
   events they acknowledge a second is told too.
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import threading
import time

import tables

PORT = 18496
TOPICS, NUMBERS = 100, (1, 10, 100, 1_000)
ACKNOWLEDGEMENTS = 200
LOAD_EVENTS, LOAD_BATCH, BUSY = 3_000_000, 100, 10
RECEIPT = re.compile(rb'"receipt":"([^"]+)"')


class Service:
    """A service with a fresh store, as long as it is entered."""

    def __init__(self, binary):
        self.binary = binary

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(dir=".")
        command = [self.binary, "serve", "--listen", f"127.0.0.1:{PORT}", "--data-dir", self.folder.name, "--log", "error"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                if self.ask("GET", "/readyz")[0] == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit("the service does not get ready")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()

    def ask(self, method, path, body=None, connection=None):
        """The status and the body of an answer."""
        own = connection or http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        own.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"})
        answer = own.getresponse()
        return answer.status, answer.read()

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) << 10

    def figure(self, name):
        text = self.ask("GET", "/metrics")[1].decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.split(" ")[0] == name)


def publish(service, round_):
    """One event in each topic."""
    event = {"event_id": f"e-{round_}", "timestamp": "2026-11-22T10:00:00Z", "source": "bench", "payload": {}}
    events = [{"topic": f"topic-{topic:03}", **event} for topic in range(TOPICS)]
    assert service.ask("POST", "/publish", events)[0] == 200


def take_and_acknowledge(service, name, connection, limit):
    """Takes once; the seconds of the acknowledgement and the number of events, or None if there was nothing."""
    status, body = service.ask("GET", f"/consumers/{name}/events?limit={limit}&holder=bench", None, connection)
    assert status == 200, body
    # Not parsed: what it costs to work on events is not what is measured.
    receipt = RECEIPT.search(body)
    if receipt is None:
        return None
    events, begin = body.count(b'"event_id":'), time.monotonic()
    status, body = service.ask("POST", f"/consumers/{name}/ack", {"receipt": receipt[1].decode()}, connection)
    assert status == 200, body
    return time.monotonic() - begin, events


def measure_growth(binary):
    rows, made = [], 0
    with Service(binary) as service:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        publish(service, 0)
        for number in NUMBERS:
            for consumer in range(made, number):
                name = f"consumer-{consumer:04}"
                assert service.ask("PUT", f"/consumers/{name}", {"topics": ["topic-*"]}, connection)[0] == 201
                while take_and_acknowledge(service, name, connection, 1_000):
                    pass
            made = number
            resident = service.resident_bytes()
            times, bytes_before = [], None
            for round_ in range(ACKNOWLEDGEMENTS // TOPICS + 1):
                publish(service, f"{number}-{round_}")
            bytes_before = service.figure("sekali_commit_bytes_total")
            for _ in range(ACKNOWLEDGEMENTS):
                took = take_and_acknowledge(service, "consumer-0000", connection, 1)
                if took is None:
                    break
                times.append(took[0])
            # The witnesses that follow commits are among the bytes.
            commit_bytes = (service.figure("sekali_commit_bytes_total") - bytes_before) / len(times)
            rows.append(
                {
                    "consumers": number,
                    "positions": number * TOPICS,
                    "resident_bytes": resident,
                    "acknowledgement_ms_p50": 1_000 * statistics.median(times),
                    "acknowledgement_ms_p99": 1_000 * statistics.quantiles(times, n=100)[98],
                    "commit_bytes": commit_bytes,
                }
            )
            for consumer in range(1, made):
                while take_and_acknowledge(service, f"consumer-{consumer:04}", connection, 1_000):
                    pass
    return rows


def busy(service, name, stop, acknowledged):
    os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    while not stop.is_set():
        took = take_and_acknowledge(service, name, connection, 1_000)
        if took is None:
            time.sleep(0.01)
        else:
            acknowledged.append(took[1])


def measure_load(binary, consumers):
    """Events a second that are published beside so many busy consumers, and that these acknowledge."""
    with Service(binary) as service:
        stop, threads, acknowledged = threading.Event(), [], []
        for number in range(consumers):
            assert service.ask("PUT", f"/consumers/busy-{number}", {"topics": ["*"]})[0] == 201
            threads.append(threading.Thread(target=busy, args=(service, f"busy-{number}", stop, acknowledged)))
        for thread in threads:
            thread.start()
        command = [binary, "bench", "--url", f"http://127.0.0.1:{PORT}", "--events", str(LOAD_EVENTS)]
        command += ["--batch", str(LOAD_BATCH), "--json"]
        begin = time.monotonic()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        acknowledged_rate = sum(acknowledged) / (time.monotonic() - begin)
        stop.set()
        for thread in threads:
            thread.join()
        return json.loads(done.stdout)["events_per_second"], acknowledged_rate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    binary = os.path.abspath(arguments.binary)
    growth, pairs = measure_growth(binary), []
    for pair in range(arguments.pairs):
        order = (0, BUSY) if pair % 2 == 0 else (BUSY, 0)
        rates = {consumers: measure_load(binary, consumers) for consumers in order}
        (alone, _), (beside, acknowledged) = rates[0], rates[BUSY]
        pairs.append({"without": alone, "with": beside, "ratio": beside / alone, "acknowledged": acknowledged})
    result = {
        "growth": growth,
        "pairs": pairs,
        "ratio_median": statistics.median(pair["ratio"] for pair in pairs) if pairs else None,
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        for row in growth:
            print(
                f"{row['consumers']:>5} consumers  {row['resident_bytes'] / 1e6:7.1f} MB"
                f"  acknowledgement p50 {row['acknowledgement_ms_p50']:.2f} ms, p99 {row['acknowledgement_ms_p99']:.2f} ms"
                f"  {row['commit_bytes']:.0f} bytes a commit"
            )
        for pair in pairs:
            print(
                f"publish: {pair['without']:.0f} events/s without, {pair['with']:.0f} with {BUSY}, ratio {pair['ratio']:.3f};"
                f" {pair['acknowledged']:.0f} events/s acknowledged"
            )
        print(f"median ratio {result['ratio_median']}")
    if arguments.save:
        load = f"{TOPICS} topics; publishing with `sekali bench`, batches of {LOAD_BATCH}, beside {BUSY} busy consumers"
        tables.save("consumers", load, growth, pairs=pairs)


if __name__ == "__main__":
    main()
