"""A cell of several processes: what one says at one node is heard at another, and a channel server may die."""

import ctypes
import os
import pathlib
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from cases.speakers import Poster
from cluster import Cell, Node
from harness import BINARY, until
from rtm import Client, comes_in
from test_centrifuge import api
from test_centrifuge_wire import CONFIG, Ended, Guest


PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 0x4206, 0x4207, 0x4000_0000


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tls"])
def cell(request):
    with Cell("cs1", "cs2", tls=request.param) as cell:
        yield cell


over_tls_too = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def together(cell, *names):
    return [Client(cell.web, name).connect() for name in names]


def test_what_is_said_is_heard_by_everybody_once_and_in_order(cell):
    channels = [cell.web.new_channel(f"across-{n}", "alice", "bob") for n in range(12)]
    alice, bob = together(cell, "alice", "bob")
    for n in range(60):
        channel = channels[n % 12]
        (cell.web.say if n % 2 else lambda *words: alice.post(*words[1:]))("alice", channel, f"{n}")
    for n, channel in enumerate(channels):
        wanted = [str(m) for m in range(60) if m % 12 == n]
        until(10, f"{wanted} in {channel}", lambda: bob.pong() and bob.texts(channel)[-5:] == wanted)
    # The slots of so many channels are at both of them.
    for name in ("cs1", "cs2"):
        assert cell.nodes[name].metric("campanile_channels") > 0


def test_typing_and_presence_cross_the_cell(cell):
    channel = cell.web.new_channel("chatter", "alice", "bob")
    alice, bob = together(cell, "alice", "bob")
    bob.send("presence_sub", ids=[cell.web.id("carol")])
    # Nobody waits for what is only typed: it is heard by those who follow the channel already.
    cell.web.say("alice", channel, "here?")
    bob.wait_text("here?")
    alice.send("typing", channel=channel)
    bob.wait("alice types", lambda value: value.get("type") == "user_typing" and value["channel"] == channel)
    (carol,) = together(cell, "carol")
    bob.wait("carol is there", lambda value: value.get("type") == "presence_change" and value.get("presence") == "active")
    carol.drop()
    bob.wait("carol is gone", lambda value: value.get("type") == "presence_change" and value.get("presence") == "away", 60)


class Talk:
    """Says things in every channel until it is ended, and knows what was stored."""

    def __init__(self, cell, channels):
        # What waits for a dead owner comes at once: not more than a client may be behind.
        self.speakers = [Poster(cell, [channel], 150 / len(channels)) for channel in channels]
        for speaker in self.speakers:
            speaker.start()

    @property
    def said(self):
        return {speaker.channels[0]: [text for _, text, *_ in speaker.said] for speaker in self.speakers}

    def end(self):
        for speaker in self.speakers:
            speaker.is_over = True
        for speaker in self.speakers:
            speaker.join(20)
            assert not speaker.is_alive() and not speaker.unsaid, speaker.unsaid


def meanwhile(clients, work):
    """Does something that takes a while, and goes on reading."""
    done = []
    thread = threading.Thread(target=lambda: done.append(work()))
    thread.start()
    while thread.is_alive():
        for client in clients:
            client.pong()
    return done[0]


def heard(clients, talk, seconds=30):
    """Everybody was given everything, once and in order, and was told of no gap."""

    def is_all():
        for client in clients:
            client.pong()
        return all(len(client.texts(channel)) >= len(said) for client in clients for channel, said in talk.said.items())

    until(seconds, "all words are heard", is_all)
    for client in clients:
        for channel, said in talk.said.items():
            assert client.texts(channel) == said
        assert not client.gaps


@over_tls_too
def test_a_channel_server_dies_and_nobody_misses_a_message(tls):
    with Cell("cs1", "cs2", "cs3", tls=tls) as cell:
        channels = [cell.web.new_channel(f"mortal-{n}", "alice", "bob") for n in range(8)]
        alice, bob = together(cell, "alice", "bob")
        talk = Talk(cell, channels)
        until(10, "words are heard", lambda: alice.pong() and bob.pong() and bob.texts(channels[0]))
        cell.nodes["cs2"].kill()
        until(10, "words go on", lambda: alice.pong() and bob.pong() and len(talk.said[channels[-1]]) > 20)
        assert cell.ctl("replace", "cs2")["ring_epoch"] > 1
        until(10, "words go on", lambda: alice.pong() and bob.pong() and len(talk.said[channels[-1]]) > 60)
        talk.end()
        heard((alice, bob), talk)
        until(10, "the outbox is empty", lambda: cell.web.metric("campanile_outbox_in_flight") == 0)
        # It has nothing to come back to, says so, and stands by until it is given something.
        gone = cell.nodes["cs2"].up()
        assert "stands by" in gone.words() and cell.seated() == ["cs1", "cs3"]
        assert cell.ctl("add", "cs2")["between"] and cell.seated() == ["cs1", "cs2", "cs3"]


@over_tls_too
def test_a_channel_server_that_comes_back_takes_its_seats_and_others_come_and_go(tls):
    with Cell("cs1", "cs2", tls=tls) as cell:
        channels = [cell.web.new_channel(f"steady-{n}", "alice", "bob") for n in range(8)]
        alice, bob = together(cell, "alice", "bob")
        talk = Talk(cell, channels)
        for name in ("cs1", "cs2"):
            before = len(talk.said[channels[0]])
            cell.nodes[name].kill()
            meanwhile((alice, bob), cell.nodes[name].up)
            until(10, "words go on", lambda: alice.pong() and bob.pong() and len(talk.said[channels[0]]) > before + 20)
        meanwhile((alice, bob), cell.channel_server("cs3").up)
        planned = cell.ctl("add", "cs3")
        assert all(one["to"] == "cs3" for one in planned["between"])
        moved = meanwhile((alice, bob), lambda: cell.ctl("carry-out", "--pause", "20"))
        assert moved["channel_slots"] == planned["channel_slots"]
        meanwhile((alice, bob), lambda: cell.ctl("drain", "cs1", "--pause", "20"))
        assert [node["name"] for node in cell.ctl("show")["nodes"]] == ["cs2", "cs3"]
        before = len(talk.said[channels[0]])
        until(10, "words go on", lambda: alice.pong() and bob.pong() and len(talk.said[channels[0]]) > before + 20)
        talk.end()
        heard((alice, bob), talk)


def test_who_does_not_know_the_key_or_the_ring_is_nobody(cell):
    words = [BINARY, "node", *cell.gateway.papers, "--roles", "gateway", "--name", "gw1", "--store", cell.store, "--cell", "story", "--webapp", cell.webapp_at]
    said = subprocess.run([*words, "--key", str(cell.key), "--link", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ws", "127.0.0.1:0"], capture_output=True, text=True)
    assert said.returncode == 1 and "not in the ring" in said.stderr
    short = cell.directory / "short"
    short.write_text("secret")
    said = subprocess.run([*words, "--key", str(short)], capture_output=True, text=True)
    assert said.returncode == 1 and "fewer than 32 bytes" in said.stderr
    # Another key: it comes up, and nobody speaks to it.
    gateway = Node(cell, "stranger", "gateway", "--id", "10002", "--webapp", cell.webapp_at)
    gateway.key = cell.directory / "other"
    gateway.key.write_text("another key, which is long enough to be one")
    if cell.office:
        gateway.papers = cell.office.papers(cell.directory / "stranger", "stranger", "gateway", 10_002)
    try:
        gateway.up()
        until(10, "it is refused", lambda: "does not know the cell's key" in gateway.words())
    finally:
        gateway.down()


@over_tls_too
def test_ring_managers_replace_whoever_dies_and_nobody_else(tls):
    with Cell("cs1", "cs2", "cs3", managers=3, tls=tls) as cell:
        channels = [cell.web.new_channel(f"watched-{n}", "alice", "bob") for n in range(8)]
        alice, bob = together(cell, "alice", "bob")
        talk = Talk(cell, channels)
        before = cell.ctl("show")["ring_epoch"]
        meanwhile((alice, bob), lambda: time.sleep(3))
        assert cell.ctl("show")["ring_epoch"] == before, "nobody was dead"
        # One manager goes with it: two of three agree.
        cell.nodes["rm3"].kill()
        cell.nodes["cs2"].kill()
        died = time.monotonic()
        meanwhile((alice, bob), lambda: until(10, "it is replaced", lambda: len(cell.seated()) == 2))
        print(f"replaced {time.monotonic() - died:.2f} s after its death")
        shown = cell.ctl("show")
        assert shown["ring_epoch"] == before + 1, "by one write"
        assert [(node["name"], node["seats"]) for node in shown["nodes"]] == [("cs1", 12), ("cs2", 0), ("cs3", 12)]
        words = len(talk.said[channels[0]])
        until(10, "words go on", lambda: alice.pong() and bob.pong() and len(talk.said[channels[0]]) > words + 20)
        # The next one within the minute is an operator's matter.
        cell.nodes["cs1"].kill()
        meanwhile((alice, bob), lambda: time.sleep(4))
        assert cell.ctl("show")["ring_epoch"] == before + 1
        meanwhile((alice, bob), cell.nodes["cs1"].up)
        until(10, "words go on", lambda: alice.pong() and bob.pong() and len(talk.said[channels[0]]) > words + 60)
        talk.end()
        heard((alice, bob), talk)


def test_slots_are_evened_out_after_a_replacement_and_nobody_misses_a_word():
    with Cell("cs1", "cs2", "cs3", "cs4", managers=3, window=1) as cell:
        channels = [cell.web.new_channel(f"even-{n}", "alice", "bob") for n in range(8)]
        alice, bob = together(cell, "alice", "bob")
        talk = Talk(cell, channels)
        cell.nodes["cs4"].kill()
        meanwhile((alice, bob), lambda: until(10, "it is replaced", lambda: len(cell.seated()) == 3))
        # Eight seats for three nodes: a third of the slots each is not what they have, and two writes at least make it so.
        is_even = lambda: cell.ctl("plan")["channel_slots"] == cell.ctl("plan")["user_slots"] == 0
        meanwhile((alice, bob), lambda: until(30, "everybody has a share", is_even))
        slots = [(node["channel_slots"], node["user_slots"]) for node in cell.ctl("show")["nodes"] if node["seats"]]
        assert all(abs(count - 65_536 / 3) <= 11 for both in slots for count in both), f"{slots}: one more or less for each seat"
        assert sum(manager.metric("campanile_rings_evened_out_total") for name, manager in cell.nodes.items() if name.startswith("rm")) >= 2
        words = len(talk.said[channels[0]])
        until(10, "words go on", lambda: alice.pong() and bob.pong() and len(talk.said[channels[0]]) > words + 20)
        talk.end()
        heard((alice, bob), talk)


def test_who_owns_nothing_begins_with_the_ring_that_it_knew_while_the_store_is_away():
    with Cell("cs1", "cs2") as cell:
        store, gateway = cell.ground.etcd.process, cell.gateway
        gateway.term()
        assert gateway.ended(20) == 0, gateway.words()
        store.send_signal(signal.SIGSTOP)
        try:
            gateway.up()
            assert "beginning with the ring of epoch" in gateway.words()
            bob = Client(cell.web, "bob")
            until(10, "it lets clients in", lambda: comes_in(bob))
            cell.web.say("alice", cell.web.channel("general"), "without a store")
            bob.wait_text("without a store")
        finally:
            store.send_signal(signal.SIGCONT)


def test_a_store_that_went_back_in_time_is_given_the_ring_that_nodes_know():
    with Cell("cs1", "cs2") as cell:
        backup = cell.ground.etcd.backup()
        cell.ctl("weigh", "cs2", "300")
        cell.ctl("carry-out", "--pause", "1")
        newest = cell.ctl("show")["ring_epoch"]
        until(10, "everybody has that ring", lambda: all(node.metric("campanile_ring_epoch") == newest for node in cell.nodes.values()))
        cell.ground.etcd.put_in_place(backup)
        assert cell.ctl("show")["ring_epoch"] < newest
        until(10, "it is noticed", lambda: "ring restore" in cell.web.words())
        channel = cell.web.channel("general")
        (bob,) = together(cell, "bob")
        cell.web.say("alice", channel, "who owns it goes on")
        bob.wait_text("who owns it goes on")
        time.sleep(1)
        assert cell.web.metric("campanile_outbox_in_flight") > 0, "nothing leaves the outbox by an older ring"
        # A node whose disk knows better waits.
        gone = cell.nodes["cs1"]
        gone.kill()
        gone.spawn(gone.http_at, gone.ws_at)
        until(10, "it says why", lambda: "the ring store went back" in gone.words())
        files = [str(pathlib.Path(node.data) / f"story.{node.name}.ring") for node in (cell.nodes["cs2"], cell.gateway)]
        assert cell.ctl("restore", *files)["ring_epoch"] == newest + 1
        gone.is_up()
        until(10, "the outbox is empty", lambda: cell.web.metric("campanile_outbox_in_flight") == 0)
        cell.web.say("alice", channel, "all is well")
        bob.wait_text("all is well")


def test_nobody_is_called_away_by_who_does_not_know_yet():
    with Cell("cs1", "cs2", managers=1, window=1) as cell:
        absent = [cell.operate("user", "create", f"absent-{n}")["user"]["id"] for n in range(24)]
        alice, bob = together(cell, "alice", "bob")
        here = [cell.web.id(name) for name in ("alice", "bob")]
        token = cell.web.token("alice")

        def told(user):
            status, headers, value = cell.web.ask("users.getPresence", {"user": user}, token)
            if status == 503:
                assert headers["Retry-After"] == "1" and value == {"ok": False, "error": "service_unavailable"}
                return None
            return value["presence"]

        everybody = {**dict.fromkeys(absent, "away"), **dict.fromkeys(here, "active")}
        is_known = lambda: alice.pong() and bob.pong() and {user: told(user) for user in everybody} == everybody
        until(15, "a lease after the beginning all are known", is_known)
        cell.nodes["cs1"].kill()
        died, answers = time.monotonic(), []
        while time.monotonic() < died + 5:
            assert alice.pong() and bob.pong()
            answers += [(user, told(user)) for user in everybody]
        assert {answer for user, answer in answers if user in here} <= {None, "active"}
        assert {answer for user, answer in answers if user in absent} == {None, "away"}, "cs1 kept some of them, and cs2 some"
        until(15, "a lease after its death all are known", is_known)


def test_who_stands_by_takes_the_place_of_the_dead_unless_an_operator_froze_the_ring():
    with Cell("cs1", "cs2", managers=1, window=1) as cell:
        channels = [cell.web.new_channel(f"spare-{n}", "alice", "bob") for n in range(8)]
        alice, bob = together(cell, "alice", "bob")
        talk = Talk(cell, channels)
        meanwhile((alice, bob), cell.channel_server("cs3").up)
        assert cell.seated() == ["cs1", "cs2"] and "stands by" in cell.nodes["cs3"].words()
        assert cell.ctl("freeze")["frozen"]
        cell.nodes["cs1"].kill()
        meanwhile((alice, bob), lambda: time.sleep(3))
        assert cell.seated() == ["cs1", "cs2"]
        assert not cell.ctl("unfreeze")["frozen"]
        meanwhile((alice, bob), lambda: until(10, "it is replaced", lambda: cell.seated() == ["cs2", "cs3"]))
        assert {node["name"]: node["seats"] for node in cell.ctl("show")["nodes"]} == {"cs1": 0, "cs2": 8, "cs3": 8}
        words = len(talk.said[channels[0]])
        until(10, "words go on", lambda: alice.pong() and bob.pong() and len(talk.said[channels[0]]) > words + 20)
        # Another one dies at once: who came back a moment ago is not trusted yet.
        meanwhile((alice, bob), cell.nodes["cs1"].up)
        cell.nodes["cs3"].kill()
        meanwhile((alice, bob), lambda: until(10, "it is replaced", lambda: cell.seated() == ["cs2"]))
        words = len(talk.said[channels[0]])
        until(10, "words go on", lambda: alice.pong() and bob.pong() and len(talk.said[channels[0]]) > words + 20)
        talk.end()
        heard((alice, bob), talk)


def test_a_channel_server_that_stands_still_is_replaced_and_owns_nothing_when_it_wakes():
    with Cell("cs1", "cs2", "cs3", managers=1) as cell:
        channels = [cell.web.new_channel(f"frozen-{n}", "alice", "bob") for n in range(8)]
        alice, bob = together(cell, "alice", "bob")
        talk = Talk(cell, channels)
        zombie = cell.nodes["cs3"]
        zombie.process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        meanwhile((alice, bob), lambda: until(10, "it is replaced", lambda: len(cell.seated()) == 2))
        print(f"replaced {time.monotonic() - stopped:.2f} s after it stood still")
        meanwhile((alice, bob), lambda: time.sleep(1))
        assert [node["replaced"] for node in cell.ctl("show")["nodes"]] == [False, False, True]
        zombie.process.send_signal(signal.SIGCONT)
        assert meanwhile((alice, bob), lambda: zombie.ended(10)) == 1 and "were given to others" in zombie.words()
        meanwhile((alice, bob), zombie.up)
        assert cell.seated() == ["cs1", "cs2"] and not any(node["replaced"] for node in cell.ctl("show")["nodes"])
        talk.end()
        heard((alice, bob), talk)


def test_a_memory_channel_that_lost_its_owner_begins_anew_and_its_subscribers_are_told():
    with Cell("cs1", "cs2", "cs3", managers=1, config=CONFIG) as cell:
        channels = [f"all:{n}" for n in range(60)]
        guest = Guest(cell.gateway)
        places = {channel: guest.ask("subscribe", channel=channel)["subscribe"] for channel in channels}
        for channel in channels:
            api(cell.web, "publish", channel=channel, data={"n": 1})
        heard = {guest.wait(lambda reply: "pub" in reply.get("push", {}))["push"]["channel"] for _ in channels}
        assert heard == set(channels)
        cell.nodes["cs2"].kill()
        until(10, "it is replaced", lambda: len(cell.seated()) == 2)
        told = set()

        def is_heard(channel):
            answer = api(cell.web, "publish", channel=channel, data={"n": 2})
            return "result" in answer and answer["result"]

        for channel in channels:
            result = until(10, f"{channel} is published again", lambda: is_heard(channel))
            is_news = lambda reply: reply.get("push", {}).get("channel") == channel and {"pub", "unsubscribe"} & set(reply["push"])
            push = guest.wait(is_news)["push"]
            if result["epoch"] == places[channel]["epoch"]:
                assert push["pub"]["offset"] == 2 and push["pub"]["data"] == {"n": 2}
            else:
                assert push["unsubscribe"]["code"] == 2500, push
                again = guest.ask("subscribe", channel=channel, recover=True, epoch=places[channel]["epoch"], offset=1)["subscribe"]
                assert not again.get("recovered") and again["epoch"] == result["epoch"]
                told.add(channel)
        # About a third of the slots were there.
        assert 5 < len(told) < 40
        assert len(api(cell.web, "presence", channel="all:1")["result"]["presence"]) == 1


def test_memory_channels_keep_their_life_and_their_past_when_their_slots_move_by_plan():
    with Cell("cs1", "cs2", "cs3", config=CONFIG) as cell:
        channels = [f"all:{n}" for n in range(60)]
        guest, said = Guest(cell.gateway), {channel: 0 for channel in channels}
        epochs = {channel: guest.ask("subscribe", channel=channel)["subscribe"]["epoch"] for channel in channels}
        drained = []
        thread = threading.Thread(target=lambda: drained.append(cell.ctl("drain", "cs3", "--pause", "20")))
        thread.start()
        while thread.is_alive() or min(said.values()) < 2:
            for channel in channels:
                answer = api(cell.web, "publish", channel=channel, data={"n": said[channel] + 1})["result"]
                said[channel] += 1
                assert answer == {"epoch": epochs[channel], "offset": said[channel]}, channel
        assert drained[0]["channel_slots"] > 20_000 and cell.seated() == ["cs1", "cs2"]
        heard, joined = {channel: [] for channel in channels}, []
        while any(len(heard[channel]) < said[channel] for channel in channels):
            push = guest.wait(lambda reply: "push" in reply)["push"]
            if "join" in push:
                joined.append(push["channel"])
                continue
            assert "pub" in push, push
            heard[push["channel"]].append((push["pub"]["offset"], push["pub"]["data"]["n"]))
        assert heard == {channel: [(n, n) for n in range(1, said[channel] + 1)] for channel in channels}
        assert sorted(joined) == sorted(channels), "nobody joins anew because a slot moved"
        late = Guest(cell.gateway, user="43")
        for channel in channels:
            since = max(said[channel] - 5, 0)
            back = late.ask("subscribe", channel=channel, recover=True, epoch=epochs[channel], offset=since)["subscribe"]
            assert back["recovered"] and [one["offset"] for one in back["publications"]] == list(range(since + 1, said[channel] + 1)), channel


def test_a_core_that_does_nothing_ends_its_node_and_others_go_on():
    with Cell("cs1", "cs2", managers=1) as cell:
        channels = [cell.web.new_channel(f"stuck-{n}", "alice", "bob") for n in range(8)]
        alice, bob = together(cell, "alice", "bob")
        talk = Talk(cell, channels)
        until(10, "words are heard", lambda: alice.pong() and bob.pong() and bob.texts(channels[0]))
        server = cell.nodes["cs1"]
        held = hold(server.process.pid, "core-0")
        meanwhile((alice, bob), lambda: until(30, "it ends", lambda: have_ended(held) and server.process.poll() is not None))
        assert server.process.poll() == 1 and "core 0 does nothing any more" in server.words()
        meanwhile((alice, bob), lambda: until(10, "it is replaced", lambda: cell.seated() == ["cs2"]))
        words = len(talk.said[channels[0]])
        until(10, "words go on", lambda: alice.pong() and bob.pong() and len(talk.said[channels[0]]) > words + 20)
        talk.end()
        heard((alice, bob), talk)


def hold(pid, name):
    """Stops a process' threads of this name as a debugger does, and leaves them so."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    threads = [int(task.name) for task in tasks if (task / "comm").read_text().startswith(name)]
    assert threads, f"no thread is called {name}"
    libc = ctypes.CDLL(None, use_errno=True)
    for thread in threads:
        for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
            assert libc.ptrace(request, thread, None, None) == 0, os.strerror(ctypes.get_errno())
    return set(threads)


def have_ended(threads):
    """Who holds threads is to be told of their end, or the process stays."""
    for thread in list(threads):
        told, status = os.waitpid(thread, os.WNOHANG | WALL)
        if told and (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
            threads.discard(thread)
    return not threads


def test_a_disk_that_hangs_keeps_nobody_in_an_old_ring_and_from_ending():
    with Cell("cs1") as cell:
        gateway = cell.gateway
        gateway.term()
        assert gateway.ended(20) == 0
        # Who writes into it waits for a reader.
        os.mkfifo(f"{gateway.data}/story.gw1.ring.new")
        gateway.up()
        cell.ctl("freeze")
        newest = cell.ctl("unfreeze")["ring_epoch"]
        until(10, "it has the newest ring", lambda: gateway.metric("campanile_ring_epoch") == newest)
        gateway.term()
        assert gateway.ended(20) == 0


def test_the_publish_api_alone_needs_no_webapp():
    with Cell("cs1", "cs2", admins=2, gateways=2, config=CONFIG) as cell:
        for admin in cell.admins:
            admin.workspace = {"centrifuge": {"api_url": f"{admin.http}/api", "api_key": "key"}}
        channels = [f"all:{n}" for n in range(16)]
        guests = [Guest(gateway, user=str(nth)) for nth, gateway in enumerate(cell.gateways)]
        for guest in guests:
            for channel in channels:
                guest.ask("subscribe", channel=channel)
        cell.web.kill()
        for n in (1, 2):
            for channel in channels:
                assert api(cell.admins[n - 1], "publish", channel=channel, data={"n": n})["result"]["offset"] == n
        for guest in guests:
            heard = [guest.push("pub") for _ in range(2 * len(channels))]
            assert sorted((push["channel"], push["pub"]["data"]["n"]) for push in heard) == sorted((channel, n) for channel in channels for n in (1, 2))
        assert len(api(cell.admins[0], "presence", channel="all:1")["result"]["presence"]) == 2
        # What is meant for gateways reaches all of them.
        assert api(cell.admins[1], "disconnect", user="1") == {"result": {}}
        with pytest.raises(Ended) as ended:
            guests[1].wait(lambda reply: False)
        assert ended.value.code == 3503
        until(5, "one is left", lambda: len(api(cell.admins[0], "presence", channel="all:1")["result"]["presence"]) == 1)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{cell.admins[0].http}/api/chat.postMessage", b"{}", timeout=5)
        assert refused.value.code == 404, "there is no workspace here"


def test_a_back_end_does_not_wait_for_an_owner_that_is_gone():
    with Cell("cs1", "cs2", config=CONFIG) as cell:
        channels = [f"all:{n}" for n in range(16)]
        took = {}

        def publish(channel):
            began = time.monotonic()
            answer = api(cell.web, "publish", channel=channel, data={})
            took[channel] = time.monotonic() - began, "result" in answer

        for channel in channels:
            publish(channel)
        assert all(is_done for _, is_done in took.values())
        # What is on its way to one that dies has no answer any more.
        dying = cell.nodes["cs2"]
        dying.process.send_signal(signal.SIGSTOP)
        threads = [threading.Thread(target=publish, args=[channel]) for channel in channels]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        dying.kill()
        for thread in threads:
            thread.join()
        # And to one that is dead nothing goes.
        first = dict(took)
        for channel in channels:
            publish(channel)
        for times in (first, took):
            assert 0 < sum(is_done for _, is_done in times.values()) < len(channels)
            assert max(seconds for seconds, _ in times.values()) < 2, times


@over_tls_too
def test_channel_servers_and_presence_servers_are_nodes_of_their_own(tls):
    apart = {"cs1": "channel", "ps1": "presence"}
    with Cell(*apart, apart=apart, managers=1, window=1, tls=tls) as cell:
        channel = cell.web.new_channel("apart", "alice", "bob")
        alice, bob = together(cell, "alice", "bob")
        bob.send("presence_sub", ids=[cell.web.id("carol")])
        alice.post(channel, "by a channel server")
        bob.wait_text("by a channel server")
        alice.send("typing", channel=channel)
        bob.wait("alice types", lambda value: value.get("type") == "user_typing" and value["channel"] == channel)

        is_word = lambda word: lambda value: value.get("type") == "presence_change" and value.get("presence") == word
        (carol,) = together(cell, "carol")
        bob.wait("carol is there", is_word("active"))
        carol.drop()
        bob.wait("carol is gone", is_word("away"), 60)

        # Who is what is told, and nobody has anything of the other.
        shown = {node["name"]: (node["roles"], node["channel_slots"], node["user_slots"]) for node in cell.ctl("show")["nodes"]}
        assert shown == {"cs1": ("channel", 65_536, 0), "ps1": ("presence", 0, 65_536)}
        assert cell.ctl("plan")["between"] == []
        has = lambda name, metric: any(key == metric for key, _ in cell.nodes[name].metrics())
        assert cell.nodes["cs1"].metric("campanile_channels") > 0 and not has("cs1", "campanile_presence_users")
        assert cell.nodes["ps1"].metric("campanile_presence_users") > 0 and not has("ps1", "campanile_channels")

        # Its seats are nobody else's while it is away, and messages do not mind; it takes them back.
        cell.nodes["ps1"].kill()
        until(20, "that is told", lambda: alice.pong() and bob.pong() and cell.nodes["rm1"].metric("campanile_ring_nodes_unplaced") == 1)
        assert "nobody who may take the seats of ps1 carries users" in cell.nodes["rm1"].words() and cell.seated() == ["cs1", "ps1"]
        alice.post(channel, "without presence")
        bob.wait_text("without presence")
        cell.nodes["ps1"].roles = "channel"
        if cell.office:
            cell.nodes["ps1"].papers = cell.office.papers(cell.directory / "ps1", "ps1", "channel")
        cell.nodes["ps1"].spawn(cell.nodes["ps1"].http_at)
        assert cell.nodes["ps1"].ended(10) == 1 and "ps1 has slots of users in the ring" in cell.nodes["ps1"].words()
        cell.nodes["ps1"].roles = "presence"
        meanwhile((alice, bob), cell.nodes["ps1"].up)
        (carol,) = together(cell, "carol")
        bob.wait("carol is there again", is_word("active"), 60)

        # A node of both that stands by takes the place of a channel server.
        meanwhile((alice, bob, carol), cell.channel_server("cs2").up)
        cell.nodes["cs1"].kill()
        meanwhile((alice, bob, carol), lambda: until(10, "it is replaced", lambda: cell.seated() == ["ps1", "cs2"]))
        alice.post(channel, "by the other one")
        bob.wait_text("by the other one")
        # And a presence server that is known before it comes has its share of users and of nothing else.
        with_more = cell.node("ps2", "presence", "--webapp", cell.webapp_at)
        planned = cell.ctl("add", f"ps2={with_more.link},cores=1,roles=presence")
        assert planned["user_slots"] > 0 and all(move["channel_slots"] == 0 for move in planned["between"] if move["to"] == "ps2")
        meanwhile((alice, bob, carol), with_more.up)
        meanwhile((alice, bob, carol), lambda: cell.ctl("carry-out", "--pause", "20"))
        node = next(node for node in cell.ctl("show")["nodes"] if node["name"] == "ps2")
        assert node["channel_slots"] == 0 and node["user_slots"] > 16_000
        carol.drop()
        bob.wait("carol is gone again", is_word("away"), 60)
        alice.post(channel, "and still")
        bob.wait_text("and still")
