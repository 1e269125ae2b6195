#!/usr/bin/env python3
"""Starts a PostgreSQL primary with two standbys, of which each commit waits for one, and nodes of sekali on it.

    benches/group.py SEKALI PORT FOLDER     until it is interrupted

All servers lie in FOLDER, on the disk of this machine, with fsync on. It needs root and the user "postgres".
"""

import os
import pathlib
import pwd
import signal
import subprocess
import sys
import time

SETTINGS = {
    "listen_addresses": "",
    "max_connections": 300,
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    # Where page images after a checkpoint would be half of what is written.
    "wal_compression": "lz4",
}


def programs():
    """The folder of the newest PostgreSQL here; None without one, or without the right to start it."""
    found = [path.parent for path in sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"))]
    may = os.getuid() == 0 and "postgres" in {user.pw_name for user in pwd.getpwall()}
    return found[-1] if found and may else None


def cpu_seconds(pid):
    """Processor seconds of a process and of its children."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for process in [pid, *children]:
        try:
            fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        # Those that have ended are in their parent's.
        total += sum(map(int, fields[11 : 15 if process == pid else 13]))
    return total / os.sysconf("SC_CLK_TCK")


class Group:
    """The servers, as long as it is entered."""

    def __init__(self, folder, standbys=2):
        self.folder, self.names = pathlib.Path(folder), ["primary", *(f"standby{number}" for number in range(1, standbys + 1))]
        self.servers = []

    def __enter__(self):
        os.chmod(self.folder, 0o755)
        try:
            for name in self.names:
                self.start(name)
            subprocess.run([*self.psql("postgres"), "CREATE DATABASE events ENCODING 'UTF8' TEMPLATE template0"], check=True, stdout=subprocess.DEVNULL)
            if len(self.names) > 1:
                names = ", ".join(self.names[1:])
                subprocess.run([*self.psql("postgres"), f"ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 ({names})'"], check=True, stdout=subprocess.DEVNULL)
                subprocess.run([*self.psql("postgres"), "SELECT pg_reload_conf()"], check=True, stdout=subprocess.DEVNULL)
                while int(self.ask("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'")) < len(self.names) - 1:
                    time.sleep(0.1)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self, name):
        folder = self.folder / name
        folder.mkdir()
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        if name == "primary":
            command = [programs() / "initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D", folder / "data"]
        else:
            source = f"host={self.host} user=postgres application_name={name}"
            command = [programs() / "pg_basebackup", "-R", "-X", "stream", "-c", "fast", "-d", source, "-D", folder / "data"]
        subprocess.run(command, check=True, user="postgres", stdout=subprocess.DEVNULL, cwd=folder)
        settings = [word for key, value in SETTINGS.items() for word in ("-c", f"{key}={value}")]
        command = [programs() / "postgres", "-D", folder / "data", "-c", f"unix_socket_directories={folder}", *settings]
        log = open(folder / "log", "ab")
        self.servers.append(subprocess.Popen(command, user="postgres", stdout=log, stderr=log, cwd=folder))
        while subprocess.run([programs() / "pg_isready", "-q", "-h", folder]).returncode:
            if self.servers[-1].poll() is not None:
                sys.exit(f"a server does not start: {(folder / 'log').read_text()}")
            time.sleep(0.1)

    def stop(self):
        # Standbys first: a primary that stops waits for them.
        for server in reversed(self.servers):
            server.send_signal(signal.SIGINT)
            server.wait()
        self.servers.clear()

    @property
    def host(self):
        return self.folder / "primary"

    def url(self, database="events"):
        return f"postgres://postgres@/{database}?host={self.host}"

    def psql(self, database="events"):
        return [programs() / "psql", "-h", self.host, "-U", "postgres", "-d", database, "-v", "ON_ERROR_STOP=1", "-At", "-c"]

    def ask(self, query):
        return subprocess.run([*self.psql(), query], check=True, capture_output=True, text=True).stdout.strip()

    def log_bytes(self):
        """Bytes of the log that the primary has written so far."""
        return int(self.ask("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint"))

    def cpu_seconds(self):
        """Processor seconds of each server."""
        return {name: cpu_seconds(server.pid) for name, server in zip(self.names, self.servers)}

    def node(self, sekali, port, store=None):
        """A node that is ready, of this group's database, or of the stores that these words of a command line name."""
        durability = "replicated" if len(self.names) > 1 else "local"
        store = store or ["--store", self.url()]
        command = [sekali, "serve", "--listen", f"127.0.0.1:{port}", *store, "--store-durability", durability]
        node = subprocess.Popen(command, stderr=open(self.folder / f"node-{port}.log", "ab"))
        while subprocess.run([sekali, "health", "--url", f"http://127.0.0.1:{port}"], capture_output=True).returncode:
            if node.poll() is not None:
                sys.exit(f"a node does not start: {(self.folder / f'node-{port}.log').read_text()}")
            time.sleep(0.1)
        return node

    def shared_node(self, sekali, port, other):
        """A node of a store half of whose slots are in this group, and half in another one."""
        text = ""
        for group, slots in ((self, "0-31"), (other, "32-63")):
            subprocess.run([*group.psql("postgres"), "CREATE DATABASE shared TEMPLATE template0"], check=True, stdout=subprocess.DEVNULL)
            text += f'[[group]]\nslots = "{slots}"\nstore = "{group.url("shared")}"\n'
        config = self.folder / "shared.toml"
        config.write_text(text)
        return self.node(sekali, port, ["--config", config])


def main():
    sekali, port, folder = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Group(folder) as group:
        node = group.node(sekali, port)
        try:
            node.wait()
        except KeyboardInterrupt:
            node.terminate()
            node.wait()


if __name__ == "__main__":
    main()
