"""Cases in which the store of the ring is away, or comes and goes."""

import time

from harness import until

from . import hosts, loads
from .scene import SERVERS
from .speakers import Poster

QUORUM_LOST = {"short": 10, "long": 60}
# In a long outage more is posted than the dispatcher has room for (16,384 rows).
POSTS_PER_SECOND = {"short": 8, "long": 30}
# Rows that are acknowledged wait a quarter of a second for the next look at the ring.
WAITING_USUAL = 400


def quorum_scene(scene):
    scene.posts_per_second = POSTS_PER_SECOND["long" if scene.is_long else "short"]
    return []


class Outbox:
    """How many rows wait in the outbox: what was posted since, without what left it."""

    def __init__(self, scene):
        self.scene = scene
        self.began = time.monotonic()
        self.gone, self.come = self.finalised(), self.stored()

    def finalised(self):
        return self.scene.cell.web.metric("campanile_outbox_finalised_total")

    def stored(self):
        return sum(len(speaker.said) for speaker in self.scene.speakers if isinstance(speaker, Poster))

    def rows(self):
        gone = self.finalised() - self.gone
        # Those who load publish by the clock.
        loaded = sum(loads.PER_SECOND for _ in self.scene.loads) * (time.monotonic() - self.began)
        return self.stored() - self.come + loaded - gone


def quorum(scene, nth):
    """Two of three Consul servers stand still, or, every second time, are dead: no ring can be read or written; nobody notices, and nothing is
    done to the ring."""
    cell, servers, outbox, peak = scene.cell, scene.cell.ground.servers, Outbox(scene), 0
    before, began = cell.ctl("show"), time.monotonic()
    stopped, are_dead = [servers[nth % 3], servers[(nth + 1) % 3]], nth % 2
    if are_dead:
        for server in stopped:
            server.kill()
    else:
        cell.ground.stand_still(*stopped)
    try:
        while time.monotonic() < began + QUORUM_LOST["long" if scene.is_long else "short"]:
            peak = max(peak, outbox.rows())
            time.sleep(0.25)
    finally:
        if are_dead:
            for server in stopped:
                server.up()
        else:
            cell.ground.go_on(*stopped)
    until(60, "there is a leader", lambda: any(server.has_leader() for server in servers))
    healed = time.monotonic()
    until(60, "the outbox is drained", lambda: outbox.rows() < WAITING_USUAL)
    drained = time.monotonic() - healed
    until(30, "the store is well", cell.ground.is_well)
    after = cell.ctl("show")
    assert after["ring_epoch"] == before["ring_epoch"], f"the ring was changed: {before['ring_epoch']}, then {after['ring_epoch']}"
    scene.incident(began, away=[server.name for server in stopped], are_dead=bool(are_dead), outbox_rows_peak=int(peak), drained_s=round(drained, 3))


def after_quorum(scene, _verdict):
    return {"reach": [("outbox drained after the heal, s", 10, max(words["drained_s"] for _, _, words in scene.incidents))]}


def consul_rolling(scene, nth):
    """All Consul servers are restarted, one after another."""
    cell = scene.cell
    before, began = cell.ctl("show"), time.monotonic()
    for server in cell.ground.servers:
        server.kill()
        time.sleep(1)
        server.up()
        until(60, "the store is well", cell.ground.is_well)
        time.sleep(0.5)
    assert cell.ctl("show")["ring_epoch"] == before["ring_epoch"], "the ring was changed"
    scene.incident(began)


def taken(node):
    """Which ring a node has, and since when."""
    return node.metric("campanile_ring_epoch"), node.metric("campanile_ring_taken_timestamp_seconds")


def unwatched(scene, nth):
    """A gateway does not reach the store, and a channel server is killed: managers push the ring to it."""
    cell, name = scene.cell, SERVERS[nth % len(SERVERS)]
    deaf, others = cell.gateways[0], [node for node in cell.nodes.values() if node.name != name]
    deaf.host.part_from(*(server.host for server in cell.ground.servers))
    try:
        # A blocking query that was there before ends by this.
        time.sleep(0.5)
        began = time.monotonic()
        cell.nodes[name].kill()
        ring = hosts.replaced(cell, name, began)
        epoch = cell.ctl("show")["ring_epoch"]
        until(20, "everybody has the ring", lambda: all(taken(node)[0] >= epoch for node in others))
        times = {node.name: taken(node)[1] for node in others}
        hosts.wait_for(began, hosts.AWAY)
    finally:
        deaf.host.meet_again()
    written = min(times[manager.name] for manager in cell.nodes.values() if manager.roles == "ring")
    hosts.come_back(cell, name)
    scene.incident(began, who=name, ring_s=ring, learned_s=round(times[deaf.name] - written, 4), all_learned_s=round(max(times.values()) - written, 4))


def after_unwatched(scene, _verdict):
    return {"reach": [("from the write to a node that the store does not reach, s", 1, max(words["learned_s"] for _, _, words in scene.incidents))]}
