"""A cell of several processes, each a `campanile node`: channel servers, gateways, a webapp, ring managers, and the store of their ring.

Where they run is a ground's matter: `Loopback` here, or a network namespace for each (`cases/network.py`).
"""

import base64
import json
import pathlib
import secrets
import shutil
import subprocess
import tempfile
import urllib.request

from harness import BINARY, Server, until
from ports import free_port

WEBAPP, GATEWAYS, MANAGERS, ADMINS = 10_000, 10_001, 10_010, 10_020
# Whether the links of cells are TLS where nobody says so.
TLS = False


class Etcd:
    def __init__(self):
        self.data = tempfile.mkdtemp(prefix="campanile-etcd-")
        client, peer = free_port(), free_port()
        self.address = f"etcd://127.0.0.1:{client}"
        peers = f"http://127.0.0.1:{peer}"
        said = pathlib.Path(self.data) / "said"
        self.process = subprocess.Popen(
            ["etcd", "--name", "e1", "--data-dir", f"{self.data}/e1", "--log-level", "error", "--unsafe-no-fsync"]
            + ["--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls", f"http://127.0.0.1:{client}"]
            + ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"e1={peers}"],
            stdout=subprocess.DEVNULL,
            stderr=said.open("wb"),
        )

        def is_well():
            assert self.process.poll() is None, f"etcd ended: {said.read_text()}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{client}/health", timeout=1) as answer:
                    return json.load(answer)["health"] == "true"
            except OSError:
                return False

        try:
            until(60, "etcd is well", is_well)
        except BaseException:
            self.down()
            raise

    def ask(self, what, **words):
        """One call of its JSON gateway."""
        request = urllib.request.Request(f"{self.address.replace('etcd', 'http')}/v3/kv/{what}", json.dumps(words).encode())
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def backup(self):
        """Everything that it has now."""
        everything = base64.b64encode(b"\0").decode()
        return self.ask("range", key=everything, range_end=everything)["kvs"]

    def put_in_place(self, backup):
        for pair in backup:
            self.ask("put", key=pair["key"], value=pair["value"])

    def down(self):
        self.process.kill()
        self.process.wait(10)
        shutil.rmtree(self.data, ignore_errors=True)


class Loopback:
    """Everybody is on this host, beside one etcd."""

    def __init__(self):
        self.etcd = Etcd()
        self.store = self.etcd.address

    def host(self, _name):
        return Host("127.0.0.1")

    def down(self):
        self.etcd.down()


class Host:
    """Where a node runs: its address, and how to start something there."""

    def __init__(self, address, prefix=()):
        self.address, self.prefix = address, list(prefix)


class Office:
    """An authority, and papers of its nodes, as `campanile ctl cert` makes them; each node has its files in a directory of its own."""

    def __init__(self, directory):
        self.directory = directory
        self.ctl("ca", str(directory))

    def ctl(self, *words):
        done = subprocess.run([BINARY, "ctl", "--cell", "story", "cert", *words], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, f"{words}: {done.stderr}"

    @property
    def root(self):
        return (self.directory / "ca.crt").read_text()

    def made(self, name, roles, number=None, days=365):
        """A new certificate and its key, as texts."""
        files = [self.directory / f"{name}.{kind}" for kind in ("crt", "key")]
        for file in files:
            file.unlink(missing_ok=True)
        self.ctl("node", str(self.directory), "--name", name, "--roles", roles, "--days", str(days), *(["--id", str(number)] if number else []))
        return [file.read_text() for file in files]

    def papers(self, at, name, roles, number=None):
        """The same in files below `at`: the flags of a node that shows them."""
        at.mkdir(parents=True, exist_ok=True)
        for kind, text in zip(("cert", "key", "ca"), (*self.made(name, roles, number), self.root)):
            (at / kind).write_text(text)
        return [word for kind in ("cert", "key", "ca") for word in (f"--tls-{kind}", str(at / kind))]


class Node(Server):
    """One `campanile node`. A second `up` comes back under the same name, on the same ports and data."""

    def __init__(self, cell, name, roles, *flags):
        super().__init__(*flags)
        self.cell, self.name, self.roles, self.key = cell, name, roles, cell.key
        self.host = cell.ground.host(name)
        self.link = f"{self.host.address}:{free_port()}"
        self.papers = []

    def spawn(self, http=None, ws=None):
        command = [*self.host.prefix, BINARY, "node", "--roles", self.roles, "--name", self.name, "--store", self.cell.store, "--cell", "story"]
        command += ["--key", str(self.key), "--link", self.link, "--http", http or self.any_port, "--ws", ws or self.any_port]
        return self.launch([*command, *self.papers, "--data", str(self.data), "--cores", "1", *self.flags])

    @property
    def any_port(self):
        return f"{self.host.address}:0"

    def up(self, seconds=20):
        self.spawn(self.http_at, self.ws_at)
        return self.is_up(seconds)

    def is_up(self, seconds=20):
        line = self.ready_line(seconds)
        assert line.startswith("ready "), f"no ready line but {line!r}: {self.words()}"
        pairs = dict(pair.split("=", 1) for pair in line.split()[1:])
        self.http, self.ws = pairs["http"].rstrip("/"), pairs["ws"].rstrip("/")
        return self


class Cell:
    """Channel servers, gateways, a webapp, maybe with flags of its own, and ring managers and publish APIs alone if there are any. A webapp
    without flags keeps nothing, unless it `is_kept`. `apart`: those of its nodes of the ring that are not both, and the role of each. `regions`: each gateway is a region of its own name. The others ask the first `relays` gateways for channels. `tls`: all of its links.

    Without a `demo` its workspace is made as an operator makes one: alice and bob, each with a token.
    """

    def __init__(self, *channel_servers, managers=0, admins=0, gateways=1, window=60, config=None, ground=None, is_kept=False, regions=False, relays=0, webapp=(), flags=(), demo=True, tls=None, apart=None):
        self.ground = ground or Loopback()
        self.store = self.ground.store
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="campanile-cell-"))
        self.key = self.directory / "key"
        self.key.write_text(secrets.token_hex(32))
        self.office = Office(self.directory / "office") if (TLS if tls is None else tls) else None
        self.flags = list(flags)
        if config is not None:
            file = self.directory / "config.json"
            file.write_text(json.dumps(config))
            self.flags += ["--config", str(file)]
        self.nodes = {}
        self.apart = apart or {}
        # Channels of those who load it, by the name of their user.
        self.loads = {}
        self.managers = []
        ring_managers = [self.node(f"rm{rank + 1}", "ring", "--id", str(MANAGERS + rank), "--replace-window", str(window)) for rank in range(managers)]
        if ring_managers:
            self.managers = ["--managers", ",".join(f"{MANAGERS + rank}={manager.link}" for rank, manager in enumerate(ring_managers))]
        for manager in ring_managers:
            manager.flags += tuple(self.managers)
        keeping = webapp or (() if is_kept else ("--ephemeral",))
        self.demo = ("--demo",) if demo else ()
        self.web = self.node("web", "webapp", "--id", str(WEBAPP), *self.demo, *keeping, *self.managers)
        self.webapp_at = f"{WEBAPP}={self.web.link}"
        for name in channel_servers:
            self.channel_server(name)
        self.admins = [self.node(f"ad{nth + 1}", "admin", "--id", str(ADMINS + nth), *self.managers) for nth in range(admins)]
        known = [*self.managers, *(["--admins", ",".join(f"{ADMINS + nth}={admin.link}" for nth, admin in enumerate(self.admins))] if admins else [])]
        self.gateways = [self.node(f"gw{nth + 1}", "gateway", "--id", str(GATEWAYS + nth), "--webapp", self.webapp_at, *known) for nth in range(gateways)]
        self.gateway = self.gateways[0]
        for nth, gateway in enumerate(self.gateways[:relays]):
            for one in self.gateways:
                one.flags += ("--relay", f"{GATEWAYS + nth}={gateway.link}")
        for gateway in self.gateways if regions else [self.gateway]:
            gateway.ws = f"ws://{gateway.host.address}:{free_port()}"
        self.web.flags += ("--public-ws", self.gateway.ws)
        if regions:
            self.web.flags += ("--regions", ",".join(f"{gateway.name}={gateway.ws}" for gateway in self.gateways))
            for gateway in self.gateways:
                gateway.flags += ("--region", gateway.name)
        try:
            self.ctl("create", *(self.entry(name) for name in channel_servers))
            for node in self.nodes.values():
                node.up()
            self.web.workspace = self.told() if demo else self.made()
            self.settle()
            # Who was never heard by a manager is not dead for it.
            for manager in ring_managers:
                until(10, "it hears everybody", lambda: manager.metric("campanile_ring_nodes_heard") >= len(self.nodes))
        except BaseException:
            self.down()
            raise

    def node(self, name, roles, *flags):
        self.nodes[name] = Node(self, name, roles, *self.flags, *flags)
        if self.office:
            number = flags[flags.index("--id") + 1] if "--id" in flags else None
            self.nodes[name].papers = self.office.papers(self.directory / name, name, roles, number)
        return self.nodes[name]

    def channel_server(self, name):
        return self.node(name, self.apart.get(name, "channel,presence"), "--webapp", self.webapp_at)

    def entry(self, name):
        roles = f",roles={self.apart[name]}" if name in self.apart else ""
        return f"{name}={self.nodes[name].link},cores=1{roles}"

    def ctl(self, *words, about="ring"):
        command = [BINARY, "ctl", "--store", self.store, "--cell", "story", "--json", about, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return json.loads(done.stdout)

    def operate(self, *words, code=0):
        """An operator's word to the webapp: what it answers, or with another code what it says."""
        command = [BINARY, "ctl", "--webapp", self.web.http, "--key", str(self.key), "--json", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, f"{words}: {done.returncode}: {done.stderr}"
        return json.loads(done.stdout) if code == 0 else done.stderr

    def told(self):
        with urllib.request.urlopen(f"{self.web.http}/dev/workspace.json", timeout=5) as answer:
            return json.load(answer)

    def made(self):
        """A workspace made of nothing, in the shape in which a demo tells its own."""
        team = self.operate("team", "create", "Acme")["team"]
        users = [self.operate("user", "create", name)["user"] for name in ("alice", "bob")]
        for user in users:
            user["token"] = self.operate("token", "create", user["name"])["token"]
        _, _, listed = self.web.ask("conversations.list", token=users[0]["token"])
        return {"team": team, "users": users, "channels": listed["channels"]}

    def seated(self):
        """Names of the nodes that hold seats."""
        return [node["name"] for node in self.ctl("show")["nodes"] if node["seats"]]

    def settle(self, seconds=10):
        """Until a message through the whole cell arrives at its owner."""
        channel = self.web.channel("general")
        self.web.say("alice", channel, "is everybody there?")
        until(seconds, "the outbox is empty", lambda: self.web.metric("campanile_outbox_in_flight") == 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.down()

    def down(self):
        for node in self.nodes.values():
            node.down()
        self.ground.down()
        shutil.rmtree(self.directory, ignore_errors=True)
