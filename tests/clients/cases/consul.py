"""What a cell stands on: three Consul servers for its ring and a PostgreSQL server, each in a namespace of its own."""

import pathlib
import shutil
import signal
import subprocess
import tempfile
import urllib.request

from harness import HERE, until

from .network import Network
from .postgres import PostgresServer

SERVERS = ("s1", "s2", "s3")
BUILT = HERE.parent.parent / "target/tools/consul"


class ConsulServer:
    def __init__(self, name, host, first):
        self.name, self.host = name, host
        self.data = pathlib.Path(tempfile.mkdtemp(prefix=f"campanile-{name}-"))
        # The time of an election: a second, not five.
        (self.data / "config.hcl").write_text("performance { raft_multiplier = 1 }\n")
        binary = shutil.which("consul") or str(BUILT)
        self.command = [*host.prefix, binary, "agent", "-server", "-bootstrap-expect", str(len(SERVERS)), "-node", name, "-data-dir", str(self.data / "data")]
        self.command += ["-bind", host.address, "-client", host.address, "-retry-join", first, "-retry-interval", "1s", "-log-level", "warn", "-config-file", str(self.data / "config.hcl")]
        self.process = None

    def up(self):
        log = open(self.data / "log", "ab")
        self.process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT)
        log.close()

    def signal(self, which):
        self.process.send_signal(which)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def has_leader(self):
        """Whether it knows one and reads by it."""
        try:
            with urllib.request.urlopen(f"http://{self.host.address}:8500/v1/kv/?keys&consistent", timeout=1):
                return True
        except urllib.error.HTTPError as answer:
            return answer.code == 404  # nothing is there, and a leader said so
        except OSError:
            return False

    def down(self):
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)


class Ground(Network):
    """A network whose first hosts are the store and the database."""

    def __init__(self):
        self.servers, self.database = [], None
        super().__init__()
        first = self.host(SERVERS[0]).address
        self.servers = [ConsulServer(name, self.host(name), first) for name in SERVERS]
        self.store = "consul://" + ",".join(f"{server.host.address}:8500" for server in self.servers)
        for server in self.servers:
            server.up()
        self.database = PostgresServer(self.host("db"))
        until(60, "the store is well", self.is_well)

    def is_well(self):
        return all(server.has_leader() for server in self.servers)

    def stand_still(self, *servers):
        for server in servers:
            server.signal(signal.SIGSTOP)

    def go_on(self, *servers):
        for server in servers:
            server.signal(signal.SIGCONT)

    def down(self):
        for server in self.servers:
            server.down()
        if self.database:
            self.database.down()
        super().down()
