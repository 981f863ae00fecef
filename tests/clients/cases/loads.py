"""`campanile load` beside the clients of a case, one of each dialect: durable channels of its own, a low rate, and its own judgement of every delivery.

Who loses its connection comes again with its positions, at the next gateway. A publication that was refused or never answered is owed to
nobody, unless somebody heard it.
"""

import json
import os
import pathlib
import signal
import subprocess

from harness import BINARY, until
from test_centrifuge import jwt

DIALECTS = ("rtm", "centrifuge")
CHANNELS, CONNECTIONS, PER_SECOND = 4, 20, 5
# Of these not one may be.
NEVER = ("missing", "duplicates", "out_of_order", "unrecovered", "ended")
# What a report has of a run.
TOLD = ("dialect", "connections", "channels", "seconds", "published", "deliveries", *NEVER, "refused", "unanswered", "lost", "publisher_lost")
TOLD += ("latency_us", "back_us", "generator", "faults", "first_faults")
# After the last publication, for who is on its way back.
PATIENCE = 60


class Load:
    """One run, from when everybody is in until it is told to end."""

    def __init__(self, cell, dialect, directory, gateways=None, prefix=()):
        """At all gateways, or these; maybe on a host of its own."""
        self.dialect, self.ends_early = dialect, False
        self.files = {kind: directory / f"load-{dialect}.{kind}" for kind in ("json", "html", "tokens", "words")}
        self.files["tokens"].write_text(json.dumps(members(cell, dialect)))
        urls = ",".join(f"ws://{node.ws_at}/connection/websocket" for node in gateways or cell.gateways)
        command = [*prefix, BINARY, "load", "channels", "--dialect", dialect, "--url", urls, "--workspace", cell.web.http]
        command += ["--tokens", str(self.files["tokens"]), "--rate", str(PER_SECOND), "--seconds", "100000", "--warm", "0", "--reconnect"]
        command += [word for kind in ("json", "html") for word in (f"--{kind}", str(self.files[kind]))]
        with open(self.files["words"], "wb") as words:
            self.process = subprocess.Popen(command, stdout=words, stderr=subprocess.STDOUT)

    def words(self):
        return self.files["words"].read_text(errors="replace")

    def is_up(self, seconds=30):
        def is_up():
            assert self.process.poll() is None, f"load {self.dialect} ended: {self.words()}"
            return "everybody is in" in self.words()

        until(seconds, f"everybody of load {self.dialect} is in", is_up)

    def connections_at(self, node):
        """How many of its connections are at a gateway."""
        host, port = node.ws_at.rsplit(":", 1)
        there = f"{int.from_bytes(bytes(map(int, host.split('.'))), 'little'):08X}:{int(port):04X}"
        rows = [line.split() for line in pathlib.Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:]]
        inodes = {row[9] for row in rows if row[2] == there and row[3] == "01"}
        mine = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{self.process.pid}/fd")]
        return sum(link.startswith("socket:[") and link[8:-1] in inodes for link in mine)

    def end(self):
        """Nothing more is published."""
        self.ends_early = self.process.poll() is not None
        if not self.ends_early:
            self.process.send_signal(signal.SIGINT)

    def verdict(self):
        """What it says of all deliveries, when it has waited for those that are on their way."""
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return {"dialect": self.dialect, "failed": f"no verdict within {PATIENCE} s"}
        if self.ends_early or not self.files["json"].exists():
            return {"dialect": self.dialect, "failed": f"ended with {self.process.returncode}: {self.words()[-1000:]}"}
        figures = json.loads(self.files["json"].read_text())
        return {"per_second": PER_SECOND, **{name: figures[name] for name in TOLD}}

    def down(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def members(cell, dialect):
    """Who comes in and follows what: one user of the cell for each dialect, alone in its channels."""
    name = f"load-{dialect}"
    if name not in cell.loads:
        user = cell.operate("user", "create", name)["user"]
        user["token"] = cell.operate("token", "create", name)["token"]
        cell.web.workspace["users"].append(user)
        cell.loads[name] = [cell.web.new_channel(f"{name}-{nth}", name) for nth in range(CHANNELS)]
    channels = cell.loads[name]
    is_rtm = dialect == "rtm"
    token = cell.web.token(name) if is_rtm else jwt("secret", sub=cell.web.id(name))
    named = channels if is_rtm else [f"workspace:{channel}" for channel in channels]
    return {"publisher": token, "channels": named, "users": [{"token": token, "channels": list(range(CHANNELS))}] * CONNECTIONS}


def faults(one, may_disconnect, is_without_effect):
    """What was not as it must be in one run, in sentences."""
    name = f"load {one['dialect']}"
    if "failed" in one:
        return [f"{name}: {one['failed']}"]
    found = [f"{name}: {one[what]} {what.replace('_', ' ')}" for what in NEVER if one[what]]
    if not one["published"] or not one["deliveries"]:
        found.append(f"{name}: nothing was said or heard")
    if one["lost"] and not may_disconnect:
        found.append(f"{name}: {one['lost']} disconnected")
    # A connection that is closed between a publication and its answer leaves it without one.
    never = ("refused",) if may_disconnect else ("refused", "unanswered")
    if is_without_effect:
        found += [f"{name}: {one[what]} {what}" for what in never if one[what]]
    return found


def line(one):
    """For people."""
    if "failed" in one:
        return f"load {one['dialect']}: {one['failed']}"
    wrong = f"{one['missing']} missing, {one['duplicates']} doubled, {one['out_of_order']} reordered, {one['unrecovered']} told of a loss"
    unsaid = f"{one['refused']} refused, {one['unanswered']} unanswered"
    lost = f"{one['lost']} connections came again" + (f" (at the latest after {one['back_us']['max'] / 1e6:.2f} s)" if one["lost"] else "")
    latency = ", ".join(f"{name} {one['latency_us'][name] / 1000:.1f}" for name in ("p50", "p99", "max"))
    return f"load {one['dialect']}: {one['published']:,} said ({unsaid}), {one['deliveries']:,} deliveries, {wrong}; {lost}; {latency} ms"
