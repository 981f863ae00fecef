"""More cores than one: members everywhere, one order, one encoding per core; and connections that cost no thread."""

import subprocess
import sys

import pytest

from harness import Server, until
from rtm import Client


@pytest.fixture(scope="module")
def four():
    with Server("--ephemeral", "--cores", "4", "--limit", "connections_per_user_max=100") as server:
        yield server


def connections_by_core(server):
    return {dict(labels)["core"]: value for (name, labels), value in server.metrics().items() if name == "campanile_connections" and "core" in dict(labels)}


def members_on_all_cores(server):
    """At least twelve. The kernel spreads connections by a hash: more are added until all four cores have one."""
    members = []
    while len(members) < 12 or len(connections_by_core(server)) < 4 or min(connections_by_core(server).values()) < 1:
        assert len(members) < 60, connections_by_core(server)
        members.append(Client(server, ("alice", "bob", "carol")[len(members) % 3]).connect())
        members[-1].pong()
    return members


def test_members_on_all_cores_are_told_in_one_order_and_once(four):
    channel = four.new_channel("everywhere", "alice", "bob", "carol", "bot")
    members = members_on_all_cores(four)
    start = members[0].positions[channel]
    before = four.metric("campanile_frames_encoded_total")
    for count in range(200):
        four.say("bot" if count % 2 else "alice", channel, f"line {count}")
    for member in members:
        member.catch_up_to(channel, start + 200)
        assert member.texts(channel)[-200:] == [f"line {count}" for count in range(200)]
    encoded = four.metric("campanile_frames_encoded_total") - before
    assert encoded == 200 * 4, f"{encoded} frames for 200 publications on 4 cores"
    for member in members:
        member.drop()


def test_a_burst_from_all_sides_keeps_one_order(four):
    channel = four.new_channel("burst", "alice", "bob", "carol", "bot")
    members = [Client(four, ("alice", "bob", "carol")[count % 3]).connect() for count in range(12)]
    start = members[0].positions[channel]
    for count in range(10):
        for member in members:
            member.unanswered[member.send("message", channel=channel, text=f"{members.index(member)} {count}")] = channel
    for member in members:
        member.catch_up_to(channel, start + 120, 30)
    order = [event["text"] for event in four.events("bot", channel) if event["seq"] > start]
    assert len(order) == 120
    for member in members:
        assert member.texts(channel)[-120:] == order
        member.drop()


IDLE = """
import socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = []
for url in sys.stdin:
    path = url.strip().split('/', 3)[3]
    one = socket.create_connection((host, port))
    one.sendall(f'GET /{path} HTTP/1.1\\r\\nHost: {host}\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n'
                'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n'.encode())
    head = b''
    while b'hello' not in head:
        more = one.recv(4096)
        assert more, head
        head += more
    held.append(one)
    if len(held) % 500 == 0:
        print(len(held), flush=True)
sys.stdin.close()
print('all', flush=True)
import signal
signal.pause()
"""


def test_ten_thousand_idle_connections_add_no_thread_and_no_buffer(fresh):
    count, warm = 10_000, 2_000
    server = fresh("--ephemeral", "--cores", "2", "--limit", "connections_per_user_max=20000", "--limit", "boots_burst=20000").up()
    host, port = server.ws_at.split(":")
    first = Client(server, "alice").connect()
    first.pong()
    threads = server.threads()
    crowd = subprocess.Popen([sys.executable, "-c", IDLE, host, port, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        for at in range(count):
            status, _, boot = server.ask("rtm.connect", token=server.token("bob"))
            while status == 429:
                status, _, boot = server.ask("rtm.connect", token=server.token("bob"))
            assert boot["ok"], boot
            crowd.stdin.write(boot["url"] + "\n")
            if at + 1 == warm:
                # What the Web API and the database take for their own work they have by now.
                crowd.stdin.flush()
                until(60, "the first connections", lambda: server.metric("campanile_connections") >= warm + 1)
                memory, descriptors = server.resident_bytes(), server.descriptors()
        crowd.stdin.close()
        assert crowd.stdout.read(1)
        until(60, "all connections", lambda: server.metric("campanile_connections") >= count + 1)
        # One that was idle at the start may have ended meanwhile.
        assert server.threads() <= threads
        grown = (server.resident_bytes() - memory) / (count - warm)
        print(f"{grown:.0f} bytes of process memory and {(server.descriptors() - descriptors) / (count - warm):.2f} descriptors a connection, {threads} threads")
        assert grown < 512, f"{grown:.0f} bytes a connection"
        server.say("alice", server.channel("general"), "to ten thousand")
        first.wait_text("to ten thousand")
        first.pong()
    finally:
        crowd.kill()
        crowd.wait(10)
    until(60, "the end of all connections", lambda: server.metric("campanile_connections") <= 1)
    first.pong()


def test_an_overflowed_mailbox_resubscribes_and_loses_nothing(fresh):
    """With tiny mailboxes a burst of posts is partly refused, and a core that stands still for a while has its links broken: everybody
    still has everything, once and in order."""
    tiny = ["bulk_messages_per_room=6", "mail_messages_max=84", "posts_burst=100000", "connections_per_user_max=100"]
    server = fresh("--ephemeral", "--cores", "4", *(word for limit in tiny for word in ("--limit", limit))).up()
    channel = server.new_channel("narrow", "alice", "bob", "carol", "bot")
    members = members_on_all_cores(server)  # a core without a member has no interest, and nothing to overflow
    start = members[0].positions[channel]
    accepted = 0
    for count in range(100):
        for member in members:
            member.unanswered[member.send("message", channel=channel, text=f"{members.index(member)} {count}")] = channel
    for member in members:
        while member.unanswered:
            answer = member.wait("acks", lambda value: "reply_to" in value, 60)
            accepted += bool(answer["ok"])
    tip = server.tip("bot", channel)
    assert tip - start == accepted  # how many that is depends on who had a CPU
    assert 0 < accepted < 100 * len(members)

    owned = lambda: [server.metric("campanile_publications_accepted_total", core=str(core)) for core in range(4)]
    before = owned()
    server.say("bot", channel, "whose is it?")
    owner = until(5, "the owner has it", lambda: [core for core in range(4) if owned()[core] > before[core]])[0]
    overflows = server.metric("campanile_mail_overflows_total")  # a core that waits for a CPU may have been too late for the burst already
    for still in (core for core in range(4) if core != owner):
        with server.stopped_core(still):
            for count in range(120):
                server.say("bot", channel, f"{still} {count}")
    tip = server.tip("bot", channel)
    assert server.metric("campanile_mail_overflows_total") >= overflows + 3
    for member in members:
        member.catch_up_to(channel, tip, 60)
        assert not member.gaps
        assert sorted(seq for seq in member.seen[channel] if seq > start) == list(range(start + 1, tip + 1))
