#!/usr/bin/env python3
"""Measures what sekali does as its store grows: rates, memory, disk, start, reading.

    make dist
    benches/curves.py --events 50000000 --dir /var/tmp/curves           prints JSON
    benches/curves.py --dir /var/tmp/curves --save                      writes benches/results/DATE-growth.json

`benches/tables.py` makes tables and charts of that. Needs nothing but Python. Loads 127.0.0.1 only, and ends only what it has
started.
"""

import argparse
import itertools
import json
import os
import pathlib
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
SEKALI = str(ROOT / "target/dist/sekali")
ADDRESS = "127.0.0.1:18480"
URL = f"http://{ADDRESS}"
SEED = 20261123


class Server:
    def __init__(self, data):
        self.data, self.process = data, None

    def start(self):
        """Starts it; seconds until it is ready."""
        begin = time.monotonic()
        command = [SEKALI, "serve", "--listen", ADDRESS, "--data-dir", str(self.data)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while time.monotonic() - begin < 120:
            try:
                if urllib.request.urlopen(f"{URL}/readyz", timeout=5).status == 200:
                    return time.monotonic() - begin
            except OSError:
                time.sleep(0.005)
        sys.exit("the server did not get ready")

    def stop(self, how=signal.SIGTERM):
        begin = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(120)
        return time.monotonic() - begin

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024

    def metric(self, name):
        for line in urllib.request.urlopen(f"{URL}/metrics").read().decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])

    def settle(self):
        """Waits until everything is in the index or sealed."""
        for _ in range(1200):
            if self.metric("sekali_checkpoint_lag_events") == 0:
                return
            time.sleep(0.1)


def bench(*arguments, is_new=True):
    done = subprocess.run([SEKALI, "bench", "--url", URL, "--json", *map(str, arguments)], capture_output=True, text=True)
    # Events that are not new, or others that come meanwhile, are a fault to it.
    if done.returncode != 0 and is_new:
        sys.exit(f"bench failed: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


class Onlooker(threading.Thread):
    """Reads 1,000 places of 100 MB of its own every 10 ms, and remembers the most processor time that took: normally a fraction of a
    millisecond. Where a host takes memory back, and for a moment the mapping of all the rest with it, every program on the
    machine meets what this one meets, whatever it does."""

    def __init__(self):
        super().__init__(daemon=True)
        self.memory = bytearray(b"\1") * (100 << 20)
        self.places = [random.randrange(len(self.memory)) for _ in range(100_000)]
        self.worst_ms, self.ended = 0, threading.Event()

    def run(self):
        for turn in itertools.count():
            at, begin = turn * 1_000 % len(self.places), time.thread_time()
            for place in self.places[at : at + 1_000]:
                self.memory[place]
            self.worst_ms = max(self.worst_ms, (time.thread_time() - begin) * 1e3)
            if self.ended.wait(0.01):
                return

    def end(self):
        self.ended.set()
        self.join()
        return self.worst_ms


def tails(count):
    """Rates of publishers, single events, without and with so many tails, each of a topic that gets an event a second."""

    def publish():
        return bench("--batch", 1, "--events", 200_000, "--seed", time.monotonic_ns() % 2**40, is_new=False)["events_per_second"]

    pairs = []
    for _ in range(9):
        without, stop, seen = publish(), threading.Event(), [0]
        sockets = []
        for number in range(count):
            tail = socket.create_connection(("127.0.0.1", int(ADDRESS.rsplit(":")[1])))
            tail.sendall(f"GET /events?topic=tail-{number} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n".encode())
            sockets.append(tail)

        def read():
            poll = select.epoll()
            for tail in sockets:
                poll.register(tail, select.EPOLLIN)
            by_file = {tail.fileno(): tail for tail in sockets}
            while not stop.is_set():
                for file, _ in poll.poll(0.1):
                    seen[0] += by_file[file].recv(1 << 16).count(b"data:")

        def feed():
            # A thousand events a second, an event for each tail.
            while not stop.is_set():
                begin = time.monotonic()
                events = [{"topic": f"tail-{number}", "event_id": str(time.monotonic_ns()), "timestamp": "2026-01-01T00:00:00Z", "source": ""} for number in range(count)]
                body = json.dumps(events).encode()
                urllib.request.urlopen(urllib.request.Request(f"{URL}/publish", body, {"content-type": "application/json"})).read()
                time.sleep(max(0, 1 - (time.monotonic() - begin)))

        threads = [threading.Thread(target=run, daemon=True) for run in (read, feed)]
        for thread in threads:
            thread.start()
        time.sleep(2)
        pairs.append({"without": without, "with": publish(), "events_seen": seen[0]})
        stop.set()
        for thread in threads:
            thread.join()
        for tail in sockets:
            tail.close()
    return {"pairs": pairs}


def disk_bytes(folder):
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1000


def first_pages(topics, rounds):
    times = []
    for round_ in range(rounds):
        begin = time.monotonic()
        urllib.request.urlopen(f"{URL}/events?topic={topics[round_ % len(topics)]}").read()
        times.append(time.monotonic() - begin)
    return {"p50_ms": percentile(times, 0.5), "p99_ms": percentile(times, 0.99)}


def export():
    """Events a second that an export of everything gives."""
    begin, lines = time.monotonic(), 0
    request = urllib.request.Request(f"{URL}/events?limit=3000000", headers={"accept": "application/x-ndjson"})
    with urllib.request.urlopen(request) as answer:
        while piece := answer.read(1 << 20):
            lines += piece.count(b"\n")
    return lines / (time.monotonic() - begin)


def measure(options):
    folder = pathlib.Path(options.dir)
    data = folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(data)
    server.start()
    result, rows = {}, []
    step, sent = options.step, 0
    while sent < options.events:
        before = server.cpu_seconds()
        report = bench("--events", step, "--seed", SEED + sent)
        sent += step
        stats = json.load(urllib.request.urlopen(f"{URL}/stats"))
        point = {
            "sent": sent,
            "unique": stats["unique_processed"],
            "events_per_second": report["events_per_second"],
            "latency_ms": {share: value / 1e3 for share, value in report["latency_microseconds"].items()},
            "server_cpu_seconds_a_million": (server.cpu_seconds() - before) / step * 1e6,
            "resident_mb": server.resident_mb(),
        }
        server.settle()
        point["disk_bytes_a_unique_event"] = disk_bytes(data) / stats["unique_processed"]
        point["resident_mb_settled"] = server.resident_mb()
        if sent % (2 * step) == 0 or sent >= options.events:
            point["stop_seconds"] = server.stop()
            point["start_seconds"] = server.start()
        rows.append(point)
        print(json.dumps(point), file=sys.stderr)
    # The first events again: all known, from the oldest generations.
    old = [bench("--events", min(step, 2_000_000), "--seed", SEED + turn * step, is_new=False) for turn in range(3)]
    result["old_duplicates_per_second"] = [run["events_per_second"] for run in old]
    result["old_duplicates_stored_again"] = sum(run["answered_unique"] for run in old)
    topics = [topic["topic"] for topic in json.load(urllib.request.urlopen(f"{URL}/topics?limit=64"))["topics"]]
    result["first_page_of_each_topic"] = first_pages(topics, len(topics))
    result["first_page"] = first_pages(topics, 2000)
    result["export_per_second"] = export()
    result["half_load"] = {}
    for batch in (100, 1):
        runs = []
        for turn in range(5):
            # Each half is half of what there was just before it: what a shared machine can do changes within minutes.
            full = bench("--events", 30_000 * 100 if batch == 100 else 250_000, "--batch", batch, "--seed", SEED - batch - 1_000 * turn)
            most = full["events_per_second"]
            # What full load left to be sealed is not half load's, nor is the memory that a program gives back when it ends: a host
            # takes it some seconds later.
            server.settle()
            time.sleep(10)
            onlooker = Onlooker()
            onlooker.start()
            half = bench("--events", int(most * 5), "--rate", int(most / 2), "--batch", batch, "--seed", SEED - 2 - batch - 1_000 * turn)
            latency = {share: value / 1e3 for share, value in half["latency_microseconds"].items()}
            runs.append({"most": most, "rate": half["events_per_second"], "latency_ms": latency, "onlooker_worst_ms": onlooker.end()})
        result["half_load"][batch] = runs
    result["tails"] = tails(1000)
    load = subprocess.Popen([SEKALI, "bench", "--url", URL, "--events", "20000000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(5)
    server.stop(signal.SIGKILL)
    load.kill()
    load.wait()
    result["start_after_kill_seconds"] = server.start()
    server.settle()
    server.stop()
    begin = time.monotonic()
    rebuilt = subprocess.run([SEKALI, "rebuild", "--data-dir", str(data), "--json"], capture_output=True, text=True)
    result["rebuild_per_second"] = json.loads(rebuilt.stdout)["events"] / (time.monotonic() - begin)
    begin = time.monotonic()
    verified = subprocess.run([SEKALI, "verify", "--data-dir", str(data), "--json"], capture_output=True, text=True)
    report = json.loads(verified.stdout)
    result["verify_per_second"] = report["events"] / (time.monotonic() - begin)
    result["verify_faults"] = report["faults"]
    load = f"that of `sekali bench`: batches of 100, 40 % repeated; {options.events:,} events in steps of {step:,}"
    if options.save:
        print(tables.save("growth", load, rows, **result), file=sys.stderr)
    else:
        print(json.dumps({"load": load, **result, "rows": rows}, indent=1))
    shutil.rmtree(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000_000, help="events to send, 40 %% of them repeated")
    parser.add_argument("--step", type=int, default=5_000_000, help="events between two points")
    parser.add_argument("--dir", required=True, help="folder for the store, which is removed at the end")
    parser.add_argument("--save", action="store_true", help="write the run into benches/results instead of printing it")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
