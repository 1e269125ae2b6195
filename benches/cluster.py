#!/usr/bin/env python3
"""Measures the store in PostgreSQL: a primary, two standbys of which each commit waits for one, one node, on this machine.

    benches/cluster.py SEKALI                        three rounds of the loads, and the bare statement beside each
    benches/cluster.py SEKALI --million 1 5 20       also how it grows: statement, page and bytes at so many events
    benches/cluster.py SEKALI --groups               also the same load on a store that two groups of servers share
    benches/cluster.py SEKALI --save                 also writes benches/results/DATE-cluster.json

1. The load of `sekali bench` goes through HTTP: batches of 100, then single events. Beside each batch run pgbench sends the
   statement that the node sends, with as many events in it as the node had on average, over as many connections as a node
   has for writing; 40 % of the events are repeated too. A round begins with one or the other in turn.
2. With --million the database is filled by that statement, and looked at on the way.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import tables
from group import Group, cpu_seconds, programs

PORT = 18497
# As limits.rs has it.
WRITES = 16
SLOTS_A_CLIENT = 64 // WRITES
FILL_EVENTS = 500
# A statement as a node sends it. Client c has slots of its own, as no two statements of a node meet in one slot,
# and repeats of each statement's events the last 40 % in the next one of that slot.
STATEMENT = """
\\set attempt :attempt + 1
\\set slot :client_id * {slots} + :attempt % {slots}
\\set first (:attempt / {slots}) * {fresh}
SELECT cardinality(statuses) FROM sekali_append(
    :slot::smallint, (:client_id + {node})::bigint, :attempt::bigint, 0::bigint,
    ARRAY['bare.{node}.' || :slot], ARRAY[{size}::bigint], array_fill(1, ARRAY[{size}]), ARRAY(SELECT generate_series(1, {size})),
    ARRAY(SELECT '00000000-0000-4000-8000-' || lpad(i::text, 12, '0') FROM generate_series(:first, :first + {size} - 1) i),
    ARRAY(SELECT ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid FROM generate_series(:first, :first + {size} - 1) i),
    array_fill('2026-01-01T00:00:00.000000Z'::text, ARRAY[{size}]), array_fill('bench'::text, ARRAY[{size}]),
    array_fill('{{"order":"0000000000000000","amount":100000,"currency":"IDR","customer":"0000000000000000","items":[{{"sku":"00000000","qty":1}}]}}'::text, ARRAY[{size}]));
"""


def metric(name):
    text = urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics").read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def http(sekali, group, node, events, batch):
    """A run through HTTP: what it took of statements, of the log, and of each processor."""
    name = "sekali_database_statement_duration_seconds"
    before = [metric(f'{name}_{part}{{kind="append"}}') for part in ("count", "sum")]
    log, cpu = group.log_bytes(), group.cpu_seconds() | {"node": cpu_seconds(node.pid)}
    report = bench(sekali, PORT, events, batch)
    count, seconds = (metric(f'{name}_{part}{{kind="append"}}') - old for part, old in zip(("count", "sum"), before))
    return {
        "events_per_second": report["events_per_second"],
        "p99_ms": report["latency_microseconds"]["p99"] / 1e3,
        "events_a_statement": events / count,
        "statement_ms": seconds / count * 1e3,
        "log_bytes_an_event": (group.log_bytes() - log) / events,
        "cpu_seconds_a_million": {
            name: (now - cpu[name]) * 1e6 / events
            for name, now in (group.cpu_seconds() | {"node": cpu_seconds(node.pid)}).items()
        },
    }


def bare(group, size, *, seconds=None, events=None, node):
    """Events a second of the statement alone."""
    script = group.folder / "statement.sql"
    script.write_text(STATEMENT.format(slots=SLOTS_A_CLIENT, size=size, fresh=size * 6 // 10, node=node))
    length = ["-T", seconds] if seconds else ["-t", -(-events // (size * 6 // 10) // WRITES)]
    command = [programs() / "pgbench", "-h", group.host, "-U", "postgres", "-n", "-M", "prepared", "-c", WRITES, "-j", 2, *length]
    command += ["-D", "attempt=0", "-f", script, "events"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    rate = next(line for line in done.stdout.splitlines() if line.startswith("tps"))
    return float(rate.split("=")[1].split()[0]) * size


def page(repeats=50):
    """The median milliseconds of a page of 100 events: the newest of all topics, the oldest, and the newest of one topic."""
    found = {}
    for name, query in {"newest": "order=desc", "oldest": "order=asc", "topic": "order=desc&topic=bench.00000"}.items():
        times = []
        for _ in range(repeats):
            begin = time.monotonic()
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/events?limit=100&{query}").read()
            times.append((time.monotonic() - begin) * 1e3)
        found[f"page_{name}_ms"] = statistics.median(times)
    return found


def bench(sekali, port, events, batch):
    """The report of a load through HTTP."""
    command = [sekali, "bench", "--url", f"http://127.0.0.1:{port}", "--events", events, "--batch", batch, "--force", "--json"]
    return json.loads(subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout)


def loads(sekali, group, node, rounds, events, is_shared):
    rows = []
    for number in range(rounds):
        size = round(rows[-1]["batch"]["events_a_statement"]) if rows else 60
        runs = {
            "batch": lambda: http(sekali, group, node, events, 100),
            "bare": lambda: bare(group, size, seconds=10, node=1_000 + 100 * number),
        }
        if is_shared:
            runs["two_groups"] = lambda: bench(sekali, PORT + 1, events, 100)["events_per_second"]
        row = {name: runs[name]() for name in (list(runs) if number % 2 else list(runs)[::-1])}
        row |= {"bare_events_a_statement": size, "single": http(sekali, group, node, events // 8, 1)}
        row["ratio"] = row["batch"]["events_per_second"] / row["bare"]
        rows.append(row)
        print(f"round {number + 1}: {row['batch']['events_per_second']:,.0f} events/s in batches", end=", ")
        print(f"{row['batch']['events_a_statement']:.0f} a statement of {row['batch']['statement_ms']:.1f} ms", end="; ")
        print(f"the statement alone with {size}: {row['bare']:,.0f}, ratio {row['ratio']:.2f}", end="; ")
        if is_shared:
            print(f"two groups: {row['two_groups']:,.0f}", end="; ")
        print(f"single {row['single']['events_per_second']:,.0f}", flush=True)
    return rows


def growth(sekali, group, node, millions):
    rows, number = [], 10_000
    for million in millions:
        missing = million * 1_000_000 - int(group.ask("SELECT sum(next_seq) FROM sekali_slots"))
        if missing > 0:
            bare(group, FILL_EVENTS, events=missing, node=number)
            number += 100
        group.ask("VACUUM ANALYZE")
        run = http(sekali, group, node, 300_000, 100)
        events = int(group.ask("SELECT sum(next_seq) FROM sekali_slots"))
        size = int(group.ask("SELECT pg_database_size('events')"))
        rows.append({"stored": events, **run, **page(), "bytes_an_event": size / events})
        print(f"{events / 1e6:.1f} million stored:", json.dumps(rows[-1]), flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sekali", type=os.path.abspath)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--million", type=int, nargs="*", default=[])
    parser.add_argument("--groups", action="store_true", help="also a store that two groups share")
    parser.add_argument("--dir", type=pathlib.Path, default="/var/tmp", help="where the databases are made")
    parser.add_argument("--save", action="store_true", help="write the run into benches/results")
    options = parser.parse_args()
    if not programs():
        sys.exit("this needs PostgreSQL, root, and the user postgres: apt install postgresql")
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cluster-", dir=options.dir)))
        folder.chmod(0o755)
        groups = []
        for number in range(1 + options.groups):
            (folder / str(number)).mkdir()
            groups.append(stack.enter_context(Group(folder / str(number))))
        nodes = [groups[0].node(options.sekali, PORT)]
        try:
            if options.groups:
                nodes.append(groups[0].shared_node(options.sekali, PORT + 1, groups[1]))
            rows = loads(options.sekali, groups[0], nodes[0], options.rounds, options.events, options.groups)
            grown = growth(options.sekali, groups[0], nodes[0], options.million)
        finally:
            for node in nodes:
                node.terminate()
                node.wait()
    rates = [statistics.median(row[load]["events_per_second"] for row in rows) for load in ("batch", "single")]
    print(f"medians: {rates[0]:,.0f} events/s in batches, {rates[1]:,.0f} single; beside the statement alone", end=" ")
    print(f"{statistics.median(row['ratio'] for row in rows):.2f}")
    if options.groups:
        ratios = [row["two_groups"] / row["batch"]["events_per_second"] for row in rows]
        print(f"two groups beside one: {statistics.median(ratios):.2f}")
    if options.save:
        load = "that of `sekali bench`: 64 connections, 64 topics, 40 % repeated; batches of 100, and single events"
        print(tables.save("cluster", load, rows, growth=grown))


if __name__ == "__main__":
    main()
