"""A cell under load: speakers in every channel, clients of both dialects at every gateway, `campanile load` in both dialects beside them; and
what their logs and its figures say afterwards."""

import json
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

from cluster import Cell
from harness import until
from test_centrifuge import jwt

from . import checker
from .consul import Ground
from .loads import DIALECTS, Load
from .speakers import Poster, Publisher

CONFIG = {
    "client": {"token": {"hmac_secret_key": "secret"}},
    "http_api": {"key": "key"},
    "channel": {"namespaces": [{"name": "news", "history_size": 1000, "history_ttl": "300s", "force_recovery": True, "allow_subscribe_for_client": True}]},
}
SERVERS = ("cs1", "cs2", "cs3")
LIMITS = [f"--limit={limit}" for limit in ("boots_burst=100000", "boots_per_second=10000", "connections_per_user_max=20000", "posts_burst=1000000", "posts_per_1000_seconds=1000000")]
# Speakers of every scene, each with one channel unless a case wants more, and what each of them says. Twelve: at each of three servers are some.
DURABLE, MEMORY, PER_SECOND = 12, 8, 8


# Of the ring managers: the brake of replacements is for a minute, and cases have one a second. Who was replaced and came back is given its share by
# hand, which the usual probation does not keep anybody from.
REPLACE_WINDOW_S, PROBATION_S = 1, 30


def new_cell(ground=None, gateways=2, regions=False, relays=0):
    ground = ground or Ground()
    webapp = ("--database", ground.database.url)
    return Cell(*SERVERS, managers=3, gateways=gateways, window=REPLACE_WINDOW_S, config=CONFIG, ground=ground, webapp=webapp, regions=regions, relays=relays, flags=("--drain", "1", *LIMITS))


class Crowd:
    """Clients in a process of their own, maybe on a host of their own."""

    def __init__(self, cell, directory, clients, gateways=None, spread=1, prefix=()):
        self.names = [client["name"] for client in clients]
        self.follows = {client["name"]: client["follows"] for client in clients}
        self.log = directory / f"{self.names[0]}.log"
        spec = {"web": cell.web.http, "gateways": gateways or [node.ws_at for node in cell.gateways], "log": str(self.log), "spread": spread, "clients": clients}
        (path := directory / f"{self.names[0]}.json").write_text(json.dumps(spec))
        self.process = subprocess.Popen([*prefix, sys.executable, "-m", "cases.clients", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def is_up(self, seconds=90):
        said = select.select([self.process.stdout], [], [], seconds)[0] and self.process.stdout.readline().strip()
        assert said == "up", f"not all clients are there after {seconds} s: {self.log.read_text()[-1000:]}"

    def came_up(self, since):
        """How many of its clients were there again after `since`, as its log says so far."""
        with open(self.log) as file:
            marks = [json.loads(line) for line in file if '"up"' in line]
        return len({nth for nth, time, what, *_ in marks if what == "up" and time > since})

    def end(self, places, seconds):
        self.process.stdin.write(json.dumps({"until": places, "seconds": seconds}) + "\n")
        self.process.stdin.flush()

    def is_over(self, seconds):
        try:
            self.process.wait(seconds)
        finally:
            self.down()

    def down(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()


class Scene:
    """One case from its first word to its verdict."""

    counter = 0

    def __init__(self, cell, is_long):
        Scene.counter += 1
        self.cell, self.is_long = cell, is_long
        self.posts_per_second = self.publications_per_second = PER_SECOND
        self.padding = ""
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="campanile-case-"))
        self.durable, self.memory = [], []
        self.channels_each(1)
        self.crowds, self.speakers, self.incidents = [], [], []
        # Where it is loaded from, and at which gateways, if it is not from here and at all.
        self.loads, self.load_at = [], {}

    def channels_each(self, count):
        """So many channels for each speaker."""
        web, case = self.cell.web, Scene.counter
        self.durable += [web.new_channel(f"case-{case}-{n}", "alice", "bob") for n in range(len(self.durable), DURABLE * count)]
        self.memory += [f"news:{case}-{n}" for n in range(len(self.memory), MEMORY * count)]

    def rtm(self, name, gateway=0, region=None):
        """`region`: it goes where `rtm.connect` says."""
        return {"name": name, "kind": "rtm", "token": self.cell.web.token("bob"), "gateway": gateway, "region": region, "follows": self.durable}

    def guest(self, name, gateway=0, channels=None):
        follows = channels or self.durable + self.memory
        token = jwt("secret", sub=self.cell.web.id("bob"))
        subscribed = [channel if channel in self.memory else f"workspace:{channel}" for channel in follows]
        return {"name": name, "kind": "guest", "token": token, "gateway": gateway, "channels": subscribed, "follows": follows}

    def a_few(self):
        """One of each dialect at each gateway."""
        count = len(self.cell.gateways)
        return [make(f"{kind}-{nth}", nth) for nth in range(count) for kind, make in (("rtm", self.rtm), ("guest", self.guest))]

    def begin(self, *crowds):
        """With these crowds, or a few clients."""
        self.crowds = list(crowds) or [Crowd(self.cell, self.directory, self.a_few())]
        for crowd in self.crowds:
            crowd.is_up()
        for dialect in DIALECTS:
            self.loads.append(Load(self.cell, dialect, self.directory, **self.load_at))
        for load in self.loads:
            load.is_up()
        self.speakers = [Poster(self.cell, self.durable[nth::DURABLE], self.posts_per_second) for nth in range(DURABLE)]
        self.speakers += [Publisher(self.cell, self.memory[nth::MEMORY], self.publications_per_second) for nth in range(MEMORY)]
        for speaker in self.speakers:
            speaker.padding = self.padding
            speaker.start()
            time.sleep(speaker.pause / len(self.speakers))
        until(20, "everybody speaks", lambda: all(len(speaker.said) > 2 for speaker in self.speakers))
        return self

    def loaded_at(self, node):
        """How many connections of the loads are at a gateway."""
        return sum(load.connections_at(node) for load in self.loads)

    def incident(self, began, **words):
        """Something happened from `began` until now; what else is known of it."""
        self.incidents.append((began, time.monotonic(), words))

    def end(self, seconds=30):
        """Silence, everybody hears what is owed, and the verdict."""
        for load in self.loads:
            load.end()
        for speaker in self.speakers:
            speaker.is_over = True
        for speaker in self.speakers:
            speaker.join(20)
        for speaker in self.speakers:
            # The last word is one that was acknowledged, also where an earlier one was not.
            for channel in speaker.channels:
                until(10, f"{channel} takes something", lambda: speaker.say_something(channel))
            speaker.door.close()
        until(20, "the outbox is empty", lambda: self.cell.web.metric("campanile_outbox_in_flight") == 0)
        stored = {channel: self.texts(channel) for channel in self.durable}
        places = {channel: (epoch, at) for speaker in self.speakers for channel, _, epoch, at, _, _ in speaker.said}
        places |= {channel: (None, max(rows)) for channel, rows in stored.items()}
        for crowd in self.crowds:
            crowd.end(places, seconds)
        for crowd in self.crowds:
            crowd.is_over(seconds + 20)
        self.load_verdicts = [load.verdict() for load in self.loads]
        said, unsaid = ([row for speaker in self.speakers for row in getattr(speaker, kind)] for kind in ("said", "unsaid"))
        self.said, self.unsaid, self.stored = said, unsaid, stored
        self.logs = checker.read([crowd.log for crowd in self.crowds], [crowd.names for crowd in self.crowds])
        follows = {name: channels for crowd in self.crowds for name, channels in crowd.follows.items()}
        return checker.judge(said, unsaid, self.logs, follows, stored)

    def texts(self, channel):
        """What the database has of a channel: {seq: text}."""
        events = self.cell.web.events("alice", channel)
        return {event["seq"]: event["text"] for event in events if event["type"] == "message" and "subtype" not in event}

    def keep(self, directory):
        """The logs of everybody, for whoever wants to look."""
        pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
        for crowd in self.crowds:
            shutil.copy(crowd.log, directory)
        for load in self.loads:
            for kind in ("json", "html", "words"):
                if load.files[kind].exists():
                    shutil.copy(load.files[kind], directory)
        with open(pathlib.Path(directory) / "speakers.log", "w") as file:
            for kind in ("said", "unsaid"):
                file.writelines(json.dumps([kind, *row]) + "\n" for speaker in self.speakers for row in getattr(speaker, kind))

    def down(self):
        for speaker in self.speakers:
            speaker.is_over = True
        for one in (*self.crowds, *self.loads):
            one.down()
        shutil.rmtree(self.directory, ignore_errors=True)
