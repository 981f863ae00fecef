"""Cases of the other roles: a gateway with many clients dies, the database or the webapp dies, every process is restarted."""

import signal
import time

from harness import until

from .hosts import come_back
from .postgres import PostgresServer
from .scene import SERVERS, Crowd
from .speakers import Poster

GATEWAY_CLIENTS = {"short": 500, "long": 5_000}
# Of each speaker: everything reaches a fifth of all clients or more, which are Python on the same cores.
GATEWAY_PER_SECOND = {"short": 2, "long": 0.25}
CROWD_MAX = 1_000
# Of each five clients one speaks RTM; a guest follows so many channels.
GUEST_CHANNELS = 4


def gateway_scene(scene):
    """All clients are at the first gateway, in as many processes as it takes."""
    size = "long" if scene.is_long else "short"
    count, scene.posts_per_second, scene.publications_per_second = GATEWAY_CLIENTS[size], GATEWAY_PER_SECOND[size], GATEWAY_PER_SECOND[size]
    channels = scene.durable + scene.memory
    clients = []
    for nth in range(count):
        follows = [channels[(nth + step * 5) % len(channels)] for step in range(GUEST_CHANNELS)]
        clients.append(scene.rtm(f"rtm-{nth}") if nth % 5 == 0 else scene.guest(f"guest-{nth}", 0, follows))
    crowds = [clients[at : at + CROWD_MAX] for at in range(0, count, CROWD_MAX)]
    return [Crowd(scene.cell, scene.directory, crowd, spread=6 if scene.is_long else 2) for crowd in crowds]


def source_reads(cell):
    """Reads of the database for what a client missed, over all owners."""
    return sum(cell.nodes[name].metric("campanile_fetches_from_source_total") for name in SERVERS)


def connections(node):
    """As far as its cores say: one that is very busy says nothing for a while."""
    return sum(value for (name, _), value in node.metrics().items() if name == "campanile_connections")


def gateway(scene, nth):
    """A gateway with all clients is killed: they come to another one, and have what they missed."""
    cell = scene.cell
    dying = cell.gateways[nth % 2]
    reads, began = source_reads(cell), time.monotonic()
    held = connections(dying) - scene.loaded_at(dying)
    dying.kill()
    deadline = began + 60
    while sum(crowd.came_up(began) for crowd in scene.crowds) < held and time.monotonic() < deadline:
        time.sleep(1)
    scene.incident(began, who=dying.name, clients=int(held), source_reads=source_reads(cell) - reads)
    dying.up()


def after_gateway(scene, verdict):
    resumed, reads = [], []
    for began, ended, words in scene.incidents:
        until_up = []
        for client, log in scene.logs.items():
            back = [time_ for time_, what, *_ in log if what == "up" and began < time_ < ended + 30]
            if back:
                until_up.append(back[0] - began)
            elif any(what == "down" and began < time_ for time_, what, *_ in log):
                verdict.note("not_back", client, None, began=began)
        resumed.append(round(max(until_up), 3))
        reads.append(round(words["source_reads"] / len(until_up), 5))
        words.update(resumed=len(until_up), resumed_s=resumed[-1], reads_per_resume=reads[-1])
    return {"reach": [("all resumed, s", 15, max(resumed)), ("database reads per resume", 0.01, max(reads))]}


def postgres(scene, nth):
    """PostgreSQL is started anew: told to end, without a checkpoint, or killed with -9. What is posted meanwhile is refused, not lost."""
    cell, how = scene.cell, list(PostgresServer.ENDS)[nth % len(PostgresServer.ENDS)]
    server, began = cell.ground.database, time.monotonic()
    stored = words(scene)
    server.end(how)
    time.sleep(0.5)
    server.up()
    up = time.monotonic() - began
    until(30, "posts are taken again", lambda: words(scene) > stored + 50)
    scene.incident(began, how=how, server_up_s=round(up, 3), posts_again_s=round(time.monotonic() - began, 3))


def words(scene):
    """Posted and acknowledged so far."""
    return sum(len(speaker.said) for speaker in scene.speakers if isinstance(speaker, Poster))


def admin(scene, nth):
    """The webapp is killed between a commit and its publication, with its dispatcher and publish API, and starts again on the same database:
    the channel servers stand still until rows wait in the outbox."""
    cell = scene.cell
    servers = [cell.nodes[name] for name in SERVERS]
    cell.ctl("freeze")
    began, database = time.monotonic(), cell.ground.database
    for server in servers:
        server.process.send_signal(signal.SIGSTOP)
    try:
        last = database.rows("SELECT last_value FROM outbox_id_seq")
        time.sleep(0.4)
        cell.web.kill()
        waiting = int(database.rows(f"SELECT COUNT(*) FROM outbox WHERE id > {last}"))
    finally:
        for server in servers:
            server.process.send_signal(signal.SIGCONT)
    assert waiting > 0, "nothing was between its commit and its publication"
    cell.web.up()
    up = time.monotonic() - began
    cell.ctl("unfreeze")
    time.sleep(3)
    scene.incident(began, up_s=round(up, 3), outbox_rows=waiting)


def rolling(scene, nth):
    """Every process of the cell is told to end and started again, one after another."""
    cell, began, order = scene.cell, time.monotonic(), ["rm1", "rm2", "rm3", "web", *SERVERS, "gw1", "gw2"]
    added = []
    for name in order:
        node = cell.nodes[name]
        node.term()
        code = node.ended(20)
        assert code == 0, f"{name} ended with {code}: {node.words()}"
        if name in SERVERS:
            added += come_back(cell, name)
        else:
            node.up()
        time.sleep(1)
    scene.incident(began, added=added)
