"""Gateways in other regions: a long way from the cell, short from their clients."""

import collections
import json
import math
import os
import signal
import subprocess
import time
import urllib.request

from harness import HERE, until

from .consul import Ground
from .network import Namespace, run
from .roles import connections
from .scene import Crowd, new_cell

FAR = HERE.parent.parent / "target/tools/far"
# One way, by gateway.
MILLISECONDS = {"gw1": 20, "gw2": 80, "gw3": 110, "gw4": 150}
SECONDS = {"short": 5, "long": 60}
PER_SECOND = 2
OWN_MILLISECONDS = 10
# Of a drain: over how long, how many clients each region has, how many of them speak RTM, and how much each speaker says.
DRAIN_SECONDS = {"short": 6, "long": 30}
DRAIN_CLIENTS = {"short": 16, "long": 100}
DRAIN_RTM_EVERY = {"short": 2, "long": 5}
DRAIN_PER_SECOND = {"short": 2, "long": 1}
# A guest follows so many channels.
GUEST_CHANNELS = 4
# How far the region with a relay is, how long bytes are counted, and what makes texts longer.
RELAY_MILLISECONDS, RELAY_SECONDS, RELAY_TEXT = 80, {"short": 3, "long": 10}, 1_000
# From goodbye to Close, and until a ring is heard of and a client far away has read it.
WINDOW, SLACK = 2, 3


class Regions(Ground):
    """A ground with regions that are far away (`ways`: milliseconds), each behind a router with a delay of its own. A gateway is in the one of
    its name, or all are `within` one."""

    def __init__(self, ways, within=None):
        self.far, self.router, self.regions, self.within = None, None, {}, within
        super().__init__()
        self.router = self.host("wan")
        # Beside the addresses of the bridge, by the same process id.
        a, b, c = self.net.split(".")
        self.far_net = f"{a}.{int(b) + 64}.{c}"
        run(*self.router.prefix, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        names = [(f"f{os.getpid()}-{nth}a", f"f{os.getpid()}-{nth}b", name) for nth, name in enumerate(ways)]
        words = [word for near, away, name in names for word in (near, away, str(ways[name]))]
        self.far = subprocess.Popen([str(FAR), *words], stdout=subprocess.PIPE, text=True)
        assert self.far.stdout.readline() == "ready\n", "the long ways were not made"
        for nth, (near, away, name) in enumerate(names):
            self.region(name, f"{self.far_net}.{nth + 2}", near, away)
        run("ip", "route", "add", f"{self.far_net}.0/24", "via", self.router.address)
        for host in self.hosts.values():
            self.knows_the_way(host)

    def region(self, name, address, near, away):
        region = Namespace(f"{self.bridge}-{name}", address)
        self.regions[name] = region
        run("ip", "netns", "add", region.name)
        for host, device, own in ((self.router, near, f"{self.far_net}.1"), (region, away, address)):
            run("ip", "link", "set", device, "netns", host.name)
            run("ip", "-n", host.name, "addr", "add", f"{own}/32", "dev", device)
            run("ip", "-n", host.name, "link", "set", device, "up")
        run("ip", "-n", self.router.name, "route", "add", address, "dev", near)
        run("ip", "-n", region.name, "link", "set", "lo", "up")
        run("ip", "-n", region.name, "route", "add", "default", "dev", away)
        region.as_others_do()

    def knows_the_way(self, host):
        if self.router and host is not self.router:
            run("ip", "-n", host.name, "route", "add", f"{self.far_net}.0/24", "via", self.router.address)

    def crossed(self):
        """Bytes that went from the cell to the only region so far."""
        words = [*self.router.prefix, "cat", f"/sys/class/net/f{os.getpid()}-0a/statistics/tx_bytes"]
        return int(subprocess.run(words, capture_output=True, check=True, timeout=10).stdout)

    def host(self, name):
        if self.within and name.startswith("gw"):
            return self.regions[self.within]
        if name in self.regions:
            return self.regions[name]
        is_new = name not in self.hosts
        host = super().host(name)
        if is_new and self.regions:
            self.knows_the_way(host)
        return host

    def down(self):
        if self.far:
            self.far.kill()
            self.far.wait(10)
            self.far.stdout.close()
        for region in self.regions.values():
            subprocess.run(["ip", "netns", "del", region.name], capture_output=True, timeout=30)
        super().down()


def regions_cell():
    return new_cell(Regions(MILLISECONDS), gateways=len(MILLISECONDS), regions=True)


def regions_scene(scene):
    """Clients beside each gateway."""
    scene.posts_per_second = scene.publications_per_second = PER_SECOND
    cell = scene.cell
    crowds = []
    for node in cell.gateways:
        clients = [scene.rtm(f"rtm-{node.name}"), scene.guest(f"guest-{node.name}")]
        crowds.append(Crowd(cell, scene.directory, clients, gateways=[node.ws_at], prefix=node.host.prefix))
    return crowds


def regions(scene, nth):
    """Gateways are 20, 80, 110 and 150 ms away, with their clients: how long a message takes from its acknowledgement to them."""
    began = time.monotonic()
    time.sleep(SECONDS["long" if scene.is_long else "short"])
    scene.incident(began)


def after_regions(scene, _verdict):
    # The commit is between the question and its acknowledgement: what it took is between the two as well.
    spans = {(channel, epoch, at): (asked, acked) for channel, _, epoch, at, asked, acked in scene.said}
    facts, reach = {"asked_to_receipt_ms": {}, "acknowledged_to_receipt_ms": {}}, []
    for name, away in MILLISECONDS.items():
        logs = [log for client, log in scene.logs.items() if client.endswith(name)]
        heard = [(at, spans[tuple(words[:3])]) for log in logs for at, what, *words in log if what == "heard" and tuple(words[:3]) in spans]
        for since, key in enumerate(facts):
            took = sorted(at - span[since] for at, span in heard)
            figures = {key: round(took[min(len(took) - 1, int(len(took) * part))] * 1000, 1) for key, part in (("p50", 0.5), ("p99", 0.99), ("max", 1))}
            facts[key][name] = figures | {"one_way": away, "count": len(took)}
        reach.append((f"p99 to {name}, {away} ms away", away + OWN_MILLISECONDS, facts["acknowledged_to_receipt_ms"][name]["p99"]))
    return facts | {"reach": reach}


def drain_scene(scene):
    """Clients beside each gateway, who go where `rtm.connect` says, or know all gateways and begin with their own."""
    size = "long" if scene.is_long else "short"
    scene.posts_per_second = scene.publications_per_second = DRAIN_PER_SECOND[size]
    cell, channels, crowds = scene.cell, scene.durable + scene.memory, []
    for first, node in enumerate(cell.gateways):
        clients = []
        for nth in range(DRAIN_CLIENTS[size]):
            follows = [channels[(nth + step * 5) % len(channels)] for step in range(GUEST_CHANNELS)]
            is_rtm = nth % DRAIN_RTM_EVERY[size] == 0
            clients.append(scene.rtm(f"rtm-{nth}-{node.name}", region=node.name) if is_rtm else scene.guest(f"guest-{nth}-{node.name}", 0, follows))
        order = [one.ws_at for one in cell.gateways[first:] + cell.gateways[:first]]
        crowds.append(Crowd(cell, scene.directory, clients, gateways=order, prefix=node.host.prefix))
    return crowds


def sent_to(cell, region):
    """Where `rtm.connect` sends somebody of this region."""
    headers = {"Authorization": f"Bearer {cell.web.token('bob')}", "X-Region": region}
    with urllib.request.urlopen(urllib.request.Request(f"{cell.web.http}/api/rtm.connect", b"", headers), timeout=10) as answer:
        return json.load(answer)["region"]


def region_drain(scene, nth):
    """A region is drained while things are said: its clients come to others, spread over the time, and miss nothing. Then it is restored."""
    cell, size = scene.cell, "long" if scene.is_long else "short"
    node, seconds = cell.gateways[nth % len(cell.gateways)], DRAIN_SECONDS[size]
    loaded = scene.loaded_at(node)
    held, moved, began = connections(node) - loaded, node.metric("campanile_connections_moved_total"), time.monotonic()
    assert held, f"nobody is at {node.name}"
    cell.ctl("drain", node.name, "--seconds", str(seconds), about="region")
    until(SLACK, "rtm.connect sends to another region", lambda: sent_to(cell, node.name) != node.name)
    until(seconds + 30, f"nobody is at {node.name}", lambda: connections(node) == 0)
    left = time.monotonic() - began
    time.sleep(1)
    restored = time.monotonic()
    cell.ctl("restore", node.name, about="region")
    until(SLACK, "rtm.connect sends to it again", lambda: sent_to(cell, node.name) == node.name)
    # The next drain begins when everybody is somewhere.
    while sum(crowd.came_up(began) for crowd in scene.crowds) < held and time.monotonic() < restored + 60:
        time.sleep(1)
    moved = node.metric("campanile_connections_moved_total") - moved - loaded
    scene.incident(began, who=node.name, at=node.ws_at, clients=int(held), seconds_given=seconds, left_s=round(left, 3), moved=int(moved), restored=restored)


def after_region_drain(scene, verdict):
    reach = []
    for began, _, words in scene.incidents:
        codes, ends, back = collections.Counter(), [], []
        for client, log in scene.logs.items():
            before = [gateway for time_, what, gateway, *_ in log if what == "up" and time_ < began]
            if not before or before[-1] != words["at"]:
                continue
            gone = [(time_, code) for time_, what, code, *_ in log if what == "down" and began < time_ < words["restored"]]
            come = [(time_, gateway) for time_, what, gateway, *_ in log if what == "up" and began < time_]
            if not gone or not come:
                verdict.note("not_back", client, None, began=began)
                continue
            assert come[0][1] != words["at"], f"{client} came back to {words['who']}, which drains"
            codes[gone[0][1]] += 1
            ends.append(gone[0][0] - began)
            back.append(come[0][0] - gone[0][0])
        assert len(ends) == words["clients"] == words["moved"], f"{words['clients']} clients, {words['moved']} sent away, {len(ends)} gone"
        assert set(codes) == {1001, 3011}, f"closed with {dict(codes)}"
        by_second = collections.Counter(int(at) for at in ends)
        words.update(codes=dict(codes), back_s=round(max(back), 3), most_a_second=max(by_second.values()))
        given = words["seconds_given"]
        reach.append((f"{words['who']}: everybody left, s", given + WINDOW + SLACK, words["left_s"]))
        # Each of the two dialects is closed in its own time: goodbyes have a window.
        reach.append((f"{words['who']}: sent away in one second, of {words['clients']}", math.ceil(2 * words["clients"] / given) + 2, words["most_a_second"]))
    return {"reach": reach}


def relay_cell():
    return new_cell(Regions({"east": RELAY_MILLISECONDS}, within="east"), gateways=3, relays=1)


def relay_scene(scene):
    """Clients at the gateways of one far region that ask the first for channels; none at that one. Texts are long beside what keeps links up."""
    scene.padding = " " + "x" * RELAY_TEXT
    clients = [make(f"{kind}-{nth}", nth) for nth in (0, 1) for kind, make in (("rtm", scene.rtm), ("guest", scene.guest))]
    others = scene.cell.gateways[1:]
    scene.load_at = {"gateways": others, "prefix": others[0].host.prefix}
    return [Crowd(scene.cell, scene.directory, clients, gateways=[node.ws_at for node in others], prefix=others[0].host.prefix)]


def relay(scene, nth):
    """A gateway that stands for all owners in its region is killed, or stands still: the others ask owners until it is back, and nobody notices."""
    cell = scene.cell
    standing, *others = cell.gateways
    size = "long" if scene.is_long else "short"
    relayed = per_word(scene, RELAY_SECONDS[size])
    assert all(asks_relay(node) for node in others), "they do not ask it"
    is_killed, began = nth % 2 == 0, time.monotonic()
    standing.kill() if is_killed else standing.process.send_signal(signal.SIGSTOP)
    until(10, "they ask owners", lambda: not any(asks_relay(node) for node in others))
    alone = per_word(scene, RELAY_SECONDS[size])
    standing.up() if is_killed else standing.process.send_signal(signal.SIGCONT)
    until(20, "they ask it again", lambda: all(asks_relay(node) for node in others))
    time.sleep(1)
    scene.incident(began, how="killed" if is_killed else "stood still", bytes_relayed=round(relayed), bytes_alone=round(alone))


def asks_relay(node):
    return node.metric("campanile_relay_cores_up") > 0


def per_word(scene, seconds):
    """Bytes that cross the ocean for each word that is said."""
    def words():
        return sum(len(speaker.said) for speaker in scene.speakers)

    crossed, said = scene.cell.ground.crossed(), words()
    time.sleep(seconds)
    return (scene.cell.ground.crossed() - crossed) / (words() - said)


def after_relay(scene, _verdict):
    # Half, and the beats of a third gateway.
    shares = [words["bytes_relayed"] / words["bytes_alone"] for _, _, words in scene.incidents]
    return {"reach": [("bytes with a relay, of those of two gateways without", 0.65, round(max(shares), 2))]}
