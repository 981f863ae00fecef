"""Cases in which the ring is changed as planned."""

import time

from .scene import SERVERS, Crowd

# Of 100: of three nodes one that weighs so much gives away 1,044 of its 21,845 slots of channels, and as many of users.
LIGHTER = "93"


# So many channels for each speaker that some are in the slots that move; a guest follows at most 128.
CHANNELS_EACH, GUEST_CHANNELS = 12, 120


def moves_scene(scene):
    scene.channels_each(CHANNELS_EACH)
    all_of_them = scene.durable + scene.memory
    slices = [all_of_them[at : at + GUEST_CHANNELS] for at in range(0, len(all_of_them), GUEST_CHANNELS)]
    guests = [scene.guest(f"guest-{nth}", nth, channels) for nth, channels in enumerate(slices)]
    return [Crowd(scene.cell, scene.directory, [scene.rtm("rtm-0", 0), scene.rtm("rtm-1", 1), *guests])]


def shares(cell):
    return {node["name"]: (node["channel_slots"], node["user_slots"]) for node in cell.ctl("show")["nodes"]}


def carry_out(cell, planned, pause):
    """Carries a plan out, and asserts that exactly this moved. How many slots of channels and users."""
    before, kinds = shares(cell), ("channel_slots", "user_slots")
    done = cell.ctl("carry-out", "--pause", pause)
    after = shares(cell)
    for at, kind in enumerate(kinds):
        assert done[kind] == planned[kind], f"{done[kind]} {kind} moved, {planned[kind]} were planned"
        for name in before.keys() | after.keys():
            come = sum(one[kind] for one in planned["between"] if one["to"] == name)
            gone = sum(one[kind] for one in planned["between"] if one["from"] == name)
            was, now = before.get(name, (0, 0))[at], after.get(name, (0, 0))[at]
            assert now - was == come - gone, f"{name} had {was} {kind} and has {now}; {come} were to come and {gone} to go"
    return [planned[kind] for kind in kinds]


def moves(scene, nth):
    """A thousand slots move to others and back, as planned, under load."""
    cell, name, began = scene.cell, SERVERS[nth % len(SERVERS)], time.monotonic()
    moved = [carry_out(cell, cell.ctl("weigh", name, weight), "200") for weight in (LIGHTER, "100")]
    time.sleep(1)
    scene.incident(began, moved=moved)


def after_moves(scene, _verdict):
    """How long a publication took; a post is one that is stored as well."""
    spans = [(began, ended) for began, ended, _ in scene.incidents]
    is_within = lambda asked: any(began < asked < ended for began, ended in spans)
    facts = {"publish_s": {}}
    for kind, channels in (("all", scene.durable + scene.memory), ("durable", scene.durable), ("memory", scene.memory)):
        times = sorted(acked - asked for channel, _, _, _, asked, acked in scene.said if channel in channels and is_within(asked))
        figures = (("p50", times[len(times) // 2]), ("p99", times[len(times) * 99 // 100]), ("max", times[-1]))
        facts["publish_s"][kind] = {name: round(value, 4) for name, value in figures} | {"count": len(times)}
    # Of memory channels in slots that moved: from the first that an owner heard of it to the moment at which all was there.
    stood_still = max(scene.cell.nodes[name].metric("campanile_slot_arrival_longest_ms") for name in SERVERS)
    reach = [("publish p99 during moves, s", 0.1, facts["publish_s"]["all"]["p99"]), ("a slot stood still, ms", 50, stood_still)]
    return facts | {"reach": reach}


def resize(scene, nth):
    """A channel server more, and one less again: exactly what was planned moves."""
    cell, name, began = scene.cell, f"more{nth}", time.monotonic()
    node = cell.channel_server(name)
    try:
        node.up()
        planned = cell.ctl("add", name)
        again = cell.ctl("plan")
        assert planned | {"ring_epoch": 0} == again | {"ring_epoch": 0}, f"{planned} was planned, then {again}"
        assert all(one["to"] == name for one in planned["between"]), planned["between"]
        added = carry_out(cell, planned, "20")
        grown = time.monotonic()
        time.sleep(1)
        planned = cell.ctl("remove", name)
        assert all(one["from"] == name for one in planned["between"]), planned["between"]
        removed = carry_out(cell, planned, "20")
        assert name not in shares(cell), f"{name} is still in the ring"
        time.sleep(1)
        scene.incident(began, added=added, removed=removed, grown_s=round(grown - began, 3))
    finally:
        cell.nodes.pop(name).down()
