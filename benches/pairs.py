#!/usr/bin/env python3
"""Puts the same load on two builds of sekali in turn, and prints the ratio of each pair and their median.

    benches/pairs.py BEFORE AFTER                 batches of 100 and single events, nine pairs each
    benches/pairs.py BEFORE AFTER --pairs 3 --json
    benches/pairs.py BEFORE AFTER --save          also writes benches/results/DATE-pairs.json
    benches/pairs.py SEKALI SEKALI --after tls    the second one speaks TLS, or asks for tokens
    benches/pairs.py SEKALI SEKALI --after pages  the second one is watched by twenty live pages

Each run gets a fresh store; AFTER generates the load for both. Every second pair is turned round. What is compared is
the rate of `sekali bench`; processor seconds of the service for a million events stand beside it, as they are steadier.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

import tables

PORT = 18495
PAGES = 20
LOADS = {"batch": (1_000_000, 100), "single": (200_000, 1)}


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def guard(binary, kind, folder):
    """The scheme of the service's URL, and the environment in which service and client have a guard of that kind."""
    env = dict(os.environ)
    if kind == "tls":
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"]
            + ["-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"]
            + ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"],
            check=True,
            capture_output=True,
        )
        env["SEKALI_TLS_CERT"] = env["SEKALI_CA_FILE"] = f"{folder}/cert.pem"
        env["SEKALI_TLS_KEY"] = f"{folder}/key.pem"
        return "https", env
    if kind == "tokens":
        env["SEKALI_TOKENS_FILE"] = f"{folder}/tokens.toml"
        make = [binary, "token", "create", "--name", "bench", "--allow", "publish:*", "--allow", "read:*"]
        made = subprocess.run(make, check=True, capture_output=True, text=True, env=env)
        env["SEKALI_TOKEN"] = made.stdout.strip()
    return "http", env


def watch(url):
    """Reads what an open page reads, until the service ends."""
    try:
        with urllib.request.urlopen(f"{url}/live") as figures:
            for _ in figures:
                pass
    except OSError:
        pass  # It ends with the service.


def measure(binary, client, events, batch, kind):
    """Events a second, and processor seconds of the service a million events."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        folder = os.path.abspath(folder)
        scheme, env = guard(binary, kind, folder)
        url = f"{scheme}://127.0.0.1:{PORT}"
        command = [binary, "serve", "--listen", f"127.0.0.1:{PORT}", "--data-dir", f"{folder}/data"]
        service = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=env)
        try:
            deadline = time.monotonic() + 30
            while subprocess.run([client, "health", "--url", url], env=env, capture_output=True).returncode:
                if service.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{binary} does not get ready")
                time.sleep(0.05)
            for _ in range(PAGES if kind == "pages" else 0):
                threading.Thread(target=watch, args=[url], daemon=True).start()
            load = [client, "bench", "--url", url, "--events", str(events), "--batch", str(batch), "--json"]
            ran = subprocess.run(load, check=True, capture_output=True, text=True, env=env)
            report = json.loads(ran.stdout)
            return report["events_per_second"], cpu_seconds(service.pid) * 1e6 / events
        finally:
            service.terminate()
            service.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=os.path.abspath)
    parser.add_argument("after", type=os.path.abspath)
    parser.add_argument("--after", choices=["tls", "tokens", "pages"], dest="kind", help="what the second one has more")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print the raw figures")
    parser.add_argument("--save", action="store_true", help="write the run into benches/results")
    options = parser.parse_args()
    results = {}
    for name, (events, batch) in LOADS.items():
        pairs = []
        for number in range(options.pairs):
            order = [("before", options.before), ("after", options.after)]
            if number % 2:
                order.reverse()
            kinds = {"before": None, "after": options.kind}
            pairs.append(
                {which: measure(binary, options.after, events, batch, kinds[which]) for which, binary in order}
            )
            if not options.json:
                (old, old_cpu), (new, new_cpu) = pairs[-1]["before"], pairs[-1]["after"]
                print(f"{name} {number + 1}: {old:,.0f} and {new:,.0f} events/s: {new / old:.3f}", end="; ")
                print(f"{old_cpu:.2f} and {new_cpu:.2f} CPU-s a million: {new_cpu / old_cpu:.3f}", flush=True)
        results[name] = pairs
        if not options.json:
            for index, what in enumerate(("rate", "CPU")):
                ratios = [pair["after"][index] / pair["before"][index] for pair in pairs]
                print(f"{name}, median of {len(pairs)} ratios, {what}: {statistics.median(ratios):.3f}")
    if options.json:
        print(json.dumps(results))
    if options.save:
        rows = [{"load": name, **pair} for name, pairs in results.items() for pair in pairs]
        columns = "events a second, processor seconds a million events"
        name = "-".join(["pairs", *filter(None, [options.kind])])
        print(tables.save(name, "that of `sekali bench`, batches and single events", rows, columns=columns))


main()
