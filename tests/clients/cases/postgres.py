"""The database of a cell: a PostgreSQL server in a namespace of its own."""

import glob
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.parse

from .network import NoNamespaces

PORT, OWNER, DATABASE = 5432, "campanile", "campanile"
CONFIG = """
listen_addresses = '*'
port = 5432
unix_socket_directories = ''
"""


def binaries():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: float(path.split("/")[4]))
    if not found:
        raise NoNamespaces("the cell's database needs PostgreSQL (Debian: postgresql)")
    return pathlib.Path(found[-1])


class PostgresServer:
    """The server refuses root: it runs as the user that came with it, and on the data of a directory that goes away."""

    # How it is told to end: open transactions are given up, without a checkpoint, or nothing at all is done.
    ENDS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "killed": signal.SIGKILL}

    def __init__(self, host, owner=OWNER, database=DATABASE):
        """`owner`: its superuser. `database`: made in it."""
        self.host, self.process, self.bin = host, None, binaries()
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="campanile-postgres-"))
        shutil.chown(self.home, "postgres", "postgres")
        self.data = self.home / "data"
        self.url = f"postgres://{owner}@{host.address}:{PORT}/{database}"
        self._run("initdb", "-D", str(self.data), "-A", "trust", "-U", owner)
        with open(self.data / "postgresql.conf", "a") as file:
            file.write(CONFIG)
        with open(self.data / "pg_hba.conf", "a") as file:
            file.write("host all all 0.0.0.0/0 trust\n")
        self.up()
        if database != "postgres":
            self.rows(f"CREATE DATABASE {database}", "postgres")

    def _as_its_user(self, tool, *words):
        return [*self.host.prefix, "setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", str(self.bin / tool), *words]

    def _run(self, *words):
        subprocess.run(self._as_its_user(*words), check=True, capture_output=True, timeout=60, cwd=self.home)

    def up(self, seconds=30):
        """Started, as often as it takes: what a killed one left of itself may still be there for a moment."""
        deadline = time.monotonic() + seconds
        while True:
            with open(self.home / "log", "ab") as log:
                self.process = subprocess.Popen(self._as_its_user("postgres", "-D", str(self.data)), stdout=log, stderr=log, cwd=self.home)
            while self.process.poll() is None and time.monotonic() < deadline:
                if self.takes_connections():
                    return
                time.sleep(0.05)
            assert time.monotonic() < deadline, f"PostgreSQL does not start: {(self.home / 'log').read_text()[-2000:]}"

    def takes_connections(self):
        return subprocess.run([self.bin / "pg_isready", "-q", "-h", self.host.address, "-p", str(PORT)], timeout=10).returncode == 0

    def end(self, how):
        self.process.send_signal(self.ENDS[how])
        self.process.wait(30)

    def rows(self, query, database=None):
        """What it answers, asked beside the webapp."""
        url = urllib.parse.urlsplit(self.url)._replace(path=f"/{database}").geturl() if database else self.url
        done = subprocess.run([self.bin / "psql", url, "-XAtc", query], check=True, capture_output=True, text=True, timeout=30)
        return done.stdout.strip()

    def down(self):
        if self.process and self.process.poll() is None:
            self.end("immediate")
        shutil.rmtree(self.home, ignore_errors=True)
