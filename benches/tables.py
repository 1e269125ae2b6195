#!/usr/bin/env python3
"""Makes the tables and charts of the pages from the runs in benches/results.

    benches/tables.py            print every table
    benches/tables.py --write    put each into its page, between its marks, and draw the charts
    benches/tables.py --check    fail if a page or a chart is not what the data says

A run is a JSON file: kind, date, version, machine, load, rows, and what else its kind has. `compare.py`, `curves.py` and
`pairs.py` write one with `--save`. Which run a table shows is said here, in TABLES.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches/results"
PAGES = ROOT / "docs/explanation"


def run(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def save(kind, load, rows, **more):
    """Writes a run that was just measured; its path."""
    date = datetime.date.today().isoformat()
    git = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    manifest = (ROOT / "Cargo.toml").read_text()
    version = manifest.split('version = "', 1)[1].split('"', 1)[0] + " " + git.stdout.strip()
    models = {line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    machine = f"{os.cpu_count()} cores of {', '.join(sorted(models))}, {memory:.0f} GB, Linux {os.uname().release}"
    result = {"kind": kind, "date": date, "version": version, "machine": machine, "load": load, **more, "rows": rows}
    names = (f"{date}-{kind}{suffix}" for suffix in ["", *(f"-{number}" for number in range(2, 1000))])
    path = next(path for path in (RESULTS / f"{name}.json" for name in names) if not path.exists())
    path.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    return path


def number(value):
    """A number as people read it; a list is its median."""
    if isinstance(value, list):
        value = statistics.median(value) if value else None
    if value is None:
        return "–"
    if value >= 1_000:
        # Runs differ in the second digit: three are enough.
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    if value == int(value) or value >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if value < 1 else f"{value:.1f}"


def markdown(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cell if isinstance(cell, str) else number(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def headline():
    own = run("2026-11-28-compare-nine-rounds")["rows"][0]
    growth = run("2026-11-28-growth")
    last = growth["rows"][-1]
    idle = run("2026-11-28-goals")["idle_resident_mb"]
    rows = [
        ("events a second, 100 in a request", own["batch_events_per_second"]),
        ("p99 of these requests, ms", own["batch_p99_ms"]),
        ("events a second, 1 in a request", own["single_events_per_second"]),
        ("p99 of these requests, ms", own["single_p99_ms"]),
        ("bytes on disk an event, with 30 million stored", last["disk_bytes_a_unique_event"]),
        ("MiB of memory under load, with 30 million stored", last["resident_mb"]),
        ("MB of memory of a new store", idle),
        ("seconds to start after SIGKILL, with 30 million stored", growth["start_after_kill_seconds"]),
    ]
    return markdown(["figure", "value"], rows)


def compare(name="2026-11-28-compare"):
    return compared(run(name)["rows"])


def compared(rows):
    keys = ["batch_events_per_second", "batch_p99_ms", "batch_cpu_seconds_a_million"]
    keys += ["single_events_per_second", "single_p99_ms", "single_cpu_seconds_a_million"]
    heads = ["", "an answer means", "batch, events/s", "p99, ms", "CPU s a million", "single, events/s", "p99, ms", "CPU s a million"]
    return markdown(heads, [[row["peer"], row.get("answer", "–"), *(row.get(key) for key in keys)] for row in rows])


def ratios():
    rows = []
    for name, times in [("2026-11-28-compare-nine-rounds", 9), ("2026-11-28-compare-three-rounds", 3)]:
        for pair, ratio in run(name)["ratios"].items():
            if times == 9 or not pair.endswith("limit"):
                load, other = pair.split(", ")
                rows.append([load, other, *(f"{ratio[key]:.2f}" for key in ("median", "least", "most")), times])
    return markdown(["load", "sekali beside", "median ratio", "least", "most", "rounds"], rows)


def loads():
    rows = run("2026-11-28-loads")["rows"]
    cells = [[f"`{row['options']}`", row["events_per_second"], row["p99_ms"], row["cpu_seconds_a_million"]] for row in rows]
    return markdown(["`sekali bench` with", "events/s", "p99, ms", "CPU s a million"], cells)


def growth():
    heads = ["million stored", "events/s", "p99, ms", "CPU s a million", "MiB of memory", "bytes on disk an event", "start, s"]
    rows = []
    for row in run("2026-11-28-growth")["rows"]:
        cells = [row["events_per_second"], row["latency_ms"]["p99"], row["server_cpu_seconds_a_million"], row["resident_mb"]]
        rows.append([f"{row['unique'] / 1e6:.0f}", *cells, row["disk_bytes_a_unique_event"], row.get("start_seconds")])
    return markdown(heads, rows)


def goals():
    rows = run("2026-11-28-goals")["rows"]
    heads = ["#", "goal", "at", "measured", "unit", "reached"]
    return markdown(heads, [[row["goal"], row["what"], row["target"], row["measured"], row["unit"], row["reached"]] for row in rows])


def runs():
    heads = ["run", "events/s over all", "last step beside the first", "MiB at most", "start, s", "export, events/s"]
    heads += ["half load, p99, ms", "single half load, p99, ms"]
    rows = []
    for row in run("2026-11-28-growth-runs")["rows"]:
        ratio = f"{row['last_step'] / row['first_step']:.2f}"
        cells = [row["events_per_second_over_all"], ratio, (row.get("resident_mib") or [None])[-1], row["start_seconds"][-1]]
        rows.append([row["run"], *cells, row["export_per_second"], row["half_load_batch_p99_ms"], row["half_load_single_p99_ms"]])
    return markdown(heads, rows)


def guards():
    rows = []
    with_each = [("11-30-pairs-tokens-2", "tokens"), ("11-30-pairs-tls", "TLS"), ("11-30-pairs-pages-2", "twenty open pages")]
    for name, what in [*with_each, ("12-01-pairs-since-2026-11-28", "neither, and the version of 2026-11-28 without")]:
        pairs = run(f"2026-{name}")["rows"]
        for load in ("batch", "single"):
            ratios = [[pair["after"][n] / pair["before"][n] for pair in pairs if pair["load"] == load] for n in (0, 1)]
            rates = sorted(ratios[0])
            cells = [statistics.median(rates), rates[0], rates[-1], statistics.median(ratios[1])]
            rows.append([what, load, *(f"{cell:.2f}" for cell in cells)])
    return markdown(["with", "load", "rate, median ratio", "least", "most", "CPU of the service"], rows)


def consumers():
    heads = ["consumers", "memory of the service, MB", "an acknowledgement, p50, ms", "p99, ms", "bytes of its commit"]
    keys = ["acknowledgement_ms_p50", "acknowledgement_ms_p99", "commit_bytes"]
    rows = run("2026-12-01-consumers")["rows"]
    return markdown(heads, [[row["consumers"], row["resident_bytes"] / 1e6, *(row[key] for key in keys)] for row in rows])


def database():
    rows = run("2026-12-01-cluster")["rows"]
    of = lambda load, key: [row[load][key] for row in rows]
    cpu = lambda load, name: [row[load]["cpu_seconds_a_million"][name] for row in rows]
    cells = [
        ("events a second", of("batch", "events_per_second"), of("single", "events_per_second")),
        ("p99, ms", of("batch", "p99_ms"), of("single", "p99_ms")),
        ("events in a statement", of("batch", "events_a_statement"), of("single", "events_a_statement")),
        ("a statement, ms", of("batch", "statement_ms"), of("single", "statement_ms")),
        ("CPU s a million, primary", cpu("batch", "primary"), cpu("single", "primary")),
        ("CPU s a million, a standby", cpu("batch", "standby1"), cpu("single", "standby1")),
        ("CPU s a million, node", cpu("batch", "node"), cpu("single", "node")),
        ("bytes of the log an event", of("batch", "log_bytes_an_event"), of("single", "log_bytes_an_event")),
    ]
    return markdown(["", "100 in a request", "1 in a request"], cells)


def database_growth():
    heads = ["million stored", "events/s", "a statement, ms", "CPU s a million, primary", "bytes of the log an event"]
    heads += ["newest page, ms", "oldest page, ms", "page of a topic, ms", "bytes an event"]
    keys = ["page_newest_ms", "page_oldest_ms", "page_topic_ms", "bytes_an_event"]
    load = lambda row: [row["events_per_second"], row["statement_ms"], row["cpu_seconds_a_million"]["primary"], row["log_bytes_an_event"]]
    rows = run("2026-12-01-cluster")["growth"]
    return markdown(heads, [[f"{row['stored'] / 1e6:.1f}", *load(row), *(row[key] for key in keys)] for row in rows])


def chart(title, pairs):
    width, height, left, bottom, top = 640, 300, 80, 45, 40
    most_x, most_y = max(x for x, _ in pairs), max(y for _, y in pairs) * 1.15
    at = lambda x, y: (left + x / most_x * (width - left - 20), height - bottom - y / most_y * (height - bottom - top))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="22" font-size="14">{title}</text>',
    ]
    for part in range(5):
        value = most_y * part / 4
        _, y = at(0, value)
        lines.append(f'<line x1="{left}" y1="{y:.1f}" x2="{width - 20}" y2="{y:.1f}" stroke="#ddd"/>')
        lines.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,.0f}</text>')
    for part in range(6):
        value = most_x * part / 5
        x, _ = at(value, 0)
        lines.append(f'<text x="{x:.1f}" y="{height - 25}" text-anchor="middle">{value:.0f}</text>')
    lines.append(f'<text x="{(left + width) / 2}" y="{height - 8}" text-anchor="middle">million events stored</text>')
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*pair) for pair in pairs))
    lines.append(f'<polyline points="{places}" fill="none" stroke="#1663a8" stroke-width="2"/>')
    lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#1663a8"/>' for x, y in (at(*pair) for pair in pairs)]
    return "\n".join(lines + ["</svg>", ""])


def charts():
    rows = run("2026-11-28-growth")["rows"]
    places = [(row["unique"] / 1e6, row["events_per_second"]) for row in rows]
    yield PAGES / "events-per-second.svg", chart("Events a second as the store grows", places)


# Each table: the page that shows it, between `<!-- NAME: …` and `<!-- end -->`.
TABLES = {
    headline: ROOT / "README.md",
    compare: PAGES / "performance.md",
    ratios: PAGES / "performance.md",
    loads: PAGES / "performance.md",
    growth: PAGES / "performance.md",
    database: PAGES / "performance-of-a-database.md",
    database_growth: PAGES / "performance-of-a-database.md",
    goals: PAGES / "performance-goals.md",
    guards: PAGES / "performance-goals.md",
    consumers: PAGES / "performance-goals.md",
    runs: PAGES / "performance-goals.md",
}


def made():
    """Each page or chart as the data says: its path and text."""
    for page in dict.fromkeys(TABLES.values()):
        text = page.read_text()
        for table in (table for table, where in TABLES.items() if where == page):
            before, rest = text.split(f"<!-- {table.__name__}: ", 1)
            mark, rest = rest.split("-->", 1)
            behind = rest.split("<!-- end -->", 1)[1]
            text = f"{before}<!-- {table.__name__}: {mark}-->\n{table()}\n<!-- end -->{behind}"
        yield page, text
    yield from charts()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="put tables into their pages, and draw the charts")
    what.add_argument("--check", action="store_true", help="fail if a page or a chart differs from the data")
    options = parser.parse_args()
    if not (options.write or options.check):
        for table in TABLES:
            print(f"\n{table.__name__}:\n\n{table()}")
        return
    stale = [(path, text) for path, text in made() if not path.exists() or path.read_text() != text]
    for path, text in stale:
        if options.write:
            path.write_text(text)
        print(("written: " if options.write else "differs from the data: ") + str(path.relative_to(ROOT)))
    if options.check and stale:
        sys.exit("run benches/tables.py --write")


if __name__ == "__main__":
    main()
