"""Gateways in other regions: a long way from the cell, short from their clients."""

import os
import subprocess
import time

from harness import HERE

from .consul import Ground
from .network import Namespace, run
from .scene import Crowd, new_cell

FAR = HERE.parent.parent / "target/tools/far"
# One way, by gateway.
MILLISECONDS = {"gw1": 20, "gw2": 80, "gw3": 110, "gw4": 150}
SECONDS = {"short": 5, "long": 60}
PER_SECOND = 2
OWN_MILLISECONDS = 10


class Regions(Ground):
    """A ground whose gateways are far away, each behind a router with a delay of its own."""

    def __init__(self):
        self.far, self.router, self.regions = None, None, {}
        super().__init__()
        self.router = self.host("wan")
        # Beside the addresses of the bridge, by the same process id.
        a, b, c = self.net.split(".")
        self.far_net = f"{a}.{int(b) + 64}.{c}"
        run(*self.router.prefix, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        names = [(f"f{os.getpid()}-{nth}a", f"f{os.getpid()}-{nth}b", name) for nth, name in enumerate(MILLISECONDS)]
        words = [word for near, away, name in names for word in (near, away, str(MILLISECONDS[name]))]
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

    def host(self, name):
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
    return new_cell(Regions(), gateways=len(MILLISECONDS))


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
    acknowledged = {(channel, epoch, at): acked for channel, _, epoch, at, _, acked in scene.said}
    facts, reach = {"commit_to_receipt_ms": {}}, []
    for name, away in MILLISECONDS.items():
        took = []
        for client, log in scene.logs.items():
            if client.endswith(name):
                took += [at - acknowledged[words[0], words[1], words[2]] for at, what, *words in log if what == "heard" and (words[0], words[1], words[2]) in acknowledged]
        took.sort()
        figures = {key: round(took[min(len(took) - 1, int(len(took) * part))] * 1000, 1) for key, part in (("p50", 0.5), ("p99", 0.99), ("max", 1))}
        facts["commit_to_receipt_ms"][name] = figures | {"one_way": away, "count": len(took)}
        reach.append((f"p99 to {name}, {away} ms away", away + OWN_MILLISECONDS, figures["p99"]))
    return facts | {"reach": reach}
