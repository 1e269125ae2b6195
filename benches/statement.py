#!/usr/bin/env python3
"""Measures the statement that stores: processor time and bytes of the log that it costs a PostgreSQL server.

    benches/statement.py                      a table: events and topics of a statement, all events new or all repeated
    benches/statement.py --against COMMIT     also the statement as that commit has it, in turns

Statements are sent as a node sends them, in the session that a node sets, over one connection to a server of its own. The time
is that of the process that serves the connection; what sends the log to standbys is not in it. Each figure is the lowest of
all rounds, as whatever else runs on the machine only adds to it.
"""

import argparse
import hashlib
import pathlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import uuid

import tables
from group import Group, programs

CONNECTOR = "src/store/postgres/connect/connector.rs"
MIGRATION = "src/store/postgres/migrations/0001-events.sql"
PAYLOAD = b'{"order":"0000000000000000","amount":100000,"currency":"IDR","customer":"0000000000000000","items":[{"sku":"00000000","qty":1}]}'
# What the protocol calls the types of elements.
BIGINT, INTEGER, TEXT, UUID = 20, 23, 25, 2950
SLOT, NODE = 7, 42


def number(value):
    return struct.pack("!q", value)


def array(kind, values):
    return struct.pack("!iiIii", 1, 0, kind, len(values), 1) + b"".join(struct.pack("!i", len(value)) + value for value in values)


def integers(values):
    return array(INTEGER, [struct.pack("!i", value) for value in values])


class Connection:
    """As much of the protocol as is needed to send a prepared statement with values in binary."""

    def __init__(self, host, database):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(host / ".s.PGSQL.5432"))
        self.incoming = self.socket.makefile("rb")
        words = b"user\0postgres\0database\0" + database.encode() + b"\0client_encoding\0UTF8\0\0"
        self.socket.sendall(struct.pack("!ii", len(words) + 8, 196608) + words)
        self.pid = next(struct.unpack("!ii", body)[0] for kind, body in self.answers() if kind == b"K")

    def send(self, *messages):
        self.socket.sendall(b"".join(kind + struct.pack("!i", len(body) + 4) + body for kind, body in messages))
        return self.answers()

    def answers(self):
        messages = []
        while not messages or messages[-1][0] != b"Z":
            kind, size = struct.unpack("!ci", self.incoming.read(5))
            messages.append((kind, self.incoming.read(size - 4)))
            if kind == b"E":
                sys.exit(messages[-1][1].replace(b"\0", b" ").decode())
        return messages

    def query(self, text):
        return self.send((b"Q", text.encode() + b"\0"))

    def prepare(self, text):
        self.send((b"P", b"append\0" + text.encode() + b"\0" + struct.pack("!h", 0)), (b"S", b""))

    def execute(self, values):
        body = b"\0append\0" + struct.pack("!hhh", 1, 1, len(values))
        body += b"".join(struct.pack("!i", len(value)) + value for value in values) + struct.pack("!hh", 1, 1)
        return self.send((b"B", body), (b"E", b"\0" + struct.pack("!i", 0)), (b"S", b""))

    def log_bytes(self):
        answers = self.query("SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint")
        return int(next(body for kind, body in answers if kind == b"D")[6:])

    def microseconds(self):
        """Processor time of the server's process."""
        return int(pathlib.Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e3


class Variant:
    """A database with one version of the schema."""

    def __init__(self, group, database, schema):
        self.attempt, self.next_id = 0, 0
        create = f"CREATE DATABASE {database} ENCODING 'UTF8' TEMPLATE template0"
        subprocess.run([*group.psql("postgres"), create], check=True, stdout=subprocess.DEVNULL)
        self.connection = Connection(group.host, database)
        self.connection.query(schema)
        self.connection.query(f"INSERT INTO sekali_slots (slot) VALUES ({SLOT}) ON CONFLICT DO NOTHING")
        self.connection.query(re.search(r'SESSION: &str = "(.*?)";', (tables.ROOT / CONNECTOR).read_text(), re.S)[1])
        signature = re.search(r"FUNCTION sekali_append\((.*?)\)", schema, re.S)[1]
        self.parameters = [parameter.split()[0] for parameter in signature.split(",")]
        places = ", ".join(f"${place}" for place in range(1, len(self.parameters) + 1))
        self.connection.prepare(f"SELECT * FROM sekali_append({places})")

    def statement(self, first, size, topics):
        self.attempt += 1
        ids = [hashlib.md5(b"%d" % number).digest() for number in range(first, first + size)]
        values = {
            "of_slot": struct.pack("!h", SLOT),
            "of_node": number(NODE),
            "of_attempt": number(self.attempt),
            "more_rejected": number(0),
            "topic_names": array(TEXT, [b"orders.%05d" % topic for topic in range(topics)]),
            "topic_sizes": array(BIGINT, [number(len(range(topic, size, topics))) for topic in range(topics)]),
            "topic_numbers": integers(place % topics + 1 for place in range(size)),
            "firsts": integers(range(1, size + 1)),
            "event_ids": array(TEXT, [str(uuid.UUID(bytes=id)).encode() for id in ids]),
            "digests": array(UUID, ids),
            "timestamps": array(TEXT, [b"2026-01-01T00:00:00.000000Z"] * size),
            "sources": array(TEXT, [b"bench"] * size),
            "payloads": array(TEXT, [PAYLOAD] * size),
        }
        return [values[parameter] for parameter in self.parameters]

    def run(self, size, topics, repeats, is_new):
        """Microseconds of the processor, and bytes of the log, of one statement."""
        if is_new:
            firsts = range(self.next_id, self.next_id + size * repeats, size)
            self.next_id += size * repeats
        else:
            firsts = [0] * repeats
            self.connection.execute(self.statement(0, size, topics))
        statements = [self.statement(first, size, topics) for first in firsts]
        log, time = self.connection.log_bytes(), self.connection.microseconds()
        for statement in statements:
            self.connection.execute(statement)
        time, log = self.connection.microseconds() - time, self.connection.log_bytes() - log
        return time / repeats, log / repeats


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", nargs="*", default=[], metavar="COMMIT", help="commits to compare with")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 10, 100, 500], metavar="EVENTS")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dir", type=pathlib.Path, default="/var/tmp", help="where the databases are made")
    options = parser.parse_args()
    if not programs():
        sys.exit("this needs PostgreSQL, root, and the user postgres: apt install postgresql")
    schemas = {}
    for commit in options.against:
        command = ["git", "-C", tables.ROOT, "show", f"{commit}:{MIGRATION}"]
        schemas[commit] = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    schemas["now"] = (tables.ROOT / MIGRATION).read_text()
    heads = [f"{name}: {what}" for name in schemas for what in ["CPU µs", "CPU µs an event", "bytes of the log an event"]]
    print(tables.markdown(["events", "topics", "they are", *heads], []), flush=True)
    with tempfile.TemporaryDirectory(prefix="statement-", dir=options.dir) as folder, Group(folder, standbys=0) as group:
        variants = [Variant(group, f"variant{place}", schema) for place, schema in enumerate(schemas.values())]
        for variant in variants:
            variant.run(500, 10, 40, True)
        cases = [(size, topics, is_new) for size in options.sizes for topics in [1, 10] if topics <= size for is_new in [True, False]]
        for size, topics, is_new in cases:
            runs = [[] for _ in variants]
            for turn in range(options.rounds):
                for place in list(range(len(variants)))[:: -1 if turn % 2 else 1]:
                    runs[place].append(variants[place].run(size, topics, max(5_000 // (size + 20), 10), is_new))
            cells = [size, topics, "new" if is_new else "repeated"]
            for found in runs:
                cpu, log = (min(column) for column in zip(*found))
                cells += [cpu, cpu / size, log / size]
            print(tables.markdown([], [cells]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
