"""Regions: where clients are sent, and that a region that drains loses nobody and nothing; with unmodified libraries."""

import asyncio
import json
import subprocess
import time

import pytest
from slack_sdk.rtm_v2 import RTMClient
from slack_sdk.web import WebClient

import test_centrifuge
from cases.scene import CONFIG, LIMITS
from cluster import Cell
from harness import BINARY, Stream, until
from rtm import Client, Ended, comes_in
from test_centrifuge import Someone, api


@pytest.fixture(scope="module")
def cell():
    with Cell("cs1", gateways=3, regions=True, config=CONFIG, flags=LIMITS) as cell:
        yield cell


@pytest.fixture(autouse=True)
def restored(cell):
    """No story leaves a region drained."""
    yield
    for drain in cell.ctl("list", about="region")["draining"]:
        cell.ctl("restore", drain["region"], about="region")
    until(5, "all regions take clients", lambda: all(sent_to(cell, node.name) == node.name for node in cell.gateways))


def sent_to(cell, region=None):
    status, _, answer = cell.web.ask("rtm.connect", token=cell.web.token("alice"), headers={"X-Region": region} if region else {})
    assert status == 200 and answer["ok"], answer
    where = {node.ws: node.name for node in cell.gateways}
    assert where[answer["url"].split("/websocket/")[0]] == answer["region"]
    return answer["region"]


def drain(cell, *words):
    cell.ctl("drain", *words, about="region")
    until(5, f"nobody is sent to {words[0]}", lambda: sent_to(cell, words[0]) != words[0])


def here(cell, name):
    return cell.nodes[name].metric("campanile_sessions")


def test_clients_are_sent_to_the_region_that_they_name_or_to_another_when_it_drains(cell):
    assert [sent_to(cell, asked) for asked in ("gw2", "gw3", "mars", None)] == ["gw2", "gw3", "gw1", "gw1"]
    drain(cell, "gw2")
    assert [sent_to(cell, asked) for asked in ("gw2", "gw3", None)] == ["gw1", "gw3", "gw1"]
    drain(cell, "gw1")
    assert [sent_to(cell, asked) for asked in ("gw2", "gw1", None)] == ["gw3", "gw3", "gw3"]
    cell.ctl("drain", "gw3", about="region")
    until(5, "all drain, and everybody goes where they would have gone", lambda: [sent_to(cell, asked) for asked in ("gw2", "gw3", None)] == ["gw2", "gw3", "gw1"])


def test_clients_are_sent_to_the_region_of_their_network():
    regions = [{"name": "far", "url": "wss://far.example"}, {"name": "here", "url": "wss://here.example", "networks": ["127.0.0.0/8"]}]
    with Cell("cs1", config={**CONFIG, "regions": regions}) as cell:
        region = lambda **headers: cell.web.ask("rtm.connect", token=cell.web.token("alice"), headers=headers)[2]["region"]
        assert region() == "here"
        assert region(**{"X-Forwarded-For": "203.0.113.7, 127.0.0.1"}) == "here"
        assert region(**{"X-Region": "far"}) == "far"


def test_who_follows_the_ring_knows_it_after_a_restart_and_a_ticket_on_its_way_is_honoured(cell):
    drain(cell, "gw1", "--per-second", "1000")
    gateway = cell.nodes["gw1"]
    gateway.term()
    assert gateway.ended(20) == 0, gateway.words()
    gateway.up()
    bob = Client(cell.web, "bob")
    bob.server = Elsewhere(cell, "gw1")
    # A gateway that has just started does not know its webapp yet.
    until(10, "it lets clients in", lambda: comes_in(bob))
    assert bob.hello["region"] == "gw1" and gateway.metric("campanile_connections_to_move") == 1
    # It is let in, told what is said, and sent on after a rest.
    began, channel = time.monotonic(), cell.web.channel("general")
    cell.web.say("alice", channel, "on its way")
    bob.wait_text("on its way")
    bob.wait("goodbye", lambda value: value.get("type") == "goodbye", 15)
    assert time.monotonic() - began > 3
    cell.web.say("alice", channel, "after goodbye")
    bob.wait_text("after goodbye")
    code, _ = bob.socket.ended(5)
    assert code == 1001


class Elsewhere:
    """The webapp, as somebody finds it who goes to one gateway whatever it says: the ticket was made before."""

    def __init__(self, cell, name):
        self.cell, self.gateway = cell, cell.nodes[name]

    def call(self, name, method, /, **arguments):
        answer = self.cell.web.call(name, method, **arguments)
        if "url" in answer:
            answer["url"] = f"{self.gateway.ws}/websocket/{answer['url'].split('/websocket/')[1]}"
        return answer


def test_everybody_leaves_paced_and_has_everything_once_and_in_order(cell):
    count = 24
    channel = cell.web.new_channel("moving-day", "alice", "bob")
    clients = []
    for _ in range(count):
        bob = Client(cell.web, "bob")
        bob.server = Elsewhere(cell, "gw1")
        clients.append(bob.connect())
    until(5, "all are there", lambda: here(cell, "gw1") >= count)
    moved = cell.nodes["gw1"].metric("campanile_connections_moved_total")
    began, ends, said = time.monotonic(), [], 0
    drain(cell, "gw1", "--seconds", "4")
    here_still = list(clients)
    while here_still and time.monotonic() < began + 15:
        cell.web.say("alice", channel, f"n{said}")
        said += 1
        # Who has moved does not read until the end, and is not to be too slow for that.
        time.sleep(0.01)
        for bob in list(here_still):
            try:
                bob.pong()
            except Ended as end:
                assert end.code == 1001
                ends.append(time.monotonic() - began)
                here_still.remove(bob)
                bob.server = cell.web
                bob.connect()
                assert bob.hello["region"] == "gw2"
    assert not here_still and cell.nodes["gw1"].metric("campanile_connections_moved_total") - moved == count
    assert here(cell, "gw1") == 0
    # Goodbyes are spread over four seconds, each with two until Close.
    assert 4 < max(ends) < 9 and max(ends) - min(ends) > 2, ends
    for bob in clients:
        bob.catch_up()
        until(10, "all is there", lambda: bob.pong() and len(bob.texts(channel)) == said)
        assert bob.texts(channel) == [f"n{n}" for n in range(said)] and not bob.gaps
        bob.drop()


def test_an_unmodified_slack_client_moves_before_it_is_closed(cell):
    channel, stream = cell.web.channel("general"), Stream()
    web = WebClient(token=cell.web.token("bob"), base_url=cell.web.api, headers={"X-Region": "gw2"})
    rtm = RTMClient(token=cell.web.token("bob"), web_client=web)
    rtm.on("*")(lambda client, event: stream.put(event))
    rtm.connect()
    try:
        hello = lambda region: lambda event: event.get("type") == "hello" and event.get("region") == region
        stream.wait(10, "hello of gw2", hello("gw2"))
        drain(cell, "gw2", "--seconds", "1")
        stream.wait(10, "hello of gw1", hello("gw1"))
        cell.web.say("alice", channel, "heard there")
        stream.wait(10, "a message", lambda event: event.get("text") == "heard there")
        until(10, "nobody is left", lambda: here(cell, "gw2") == 0)
    finally:
        rtm.close()


def test_a_centrifuge_client_that_knows_one_address_comes_back_and_recovers(cell):
    async def story():
        cell.web.workspace["centrifuge"]["url"] = f"{cell.nodes['gw3'].ws}/connection/websocket"
        someone = Someone(cell.web, cell.web.id("bob"), False)
        await someone.client.connect()
        heard = test_centrifuge.Heard()
        subscription = someone.client.new_subscription("news:moving", events=heard)
        await subscription.subscribe()
        await test_centrifuge.until("subscribed", lambda: heard.subscribed)
        await asyncio.to_thread(drain, cell, "gw3", "--seconds", "1")
        for n in range(40):
            await asyncio.to_thread(api, cell.web, "publish", channel="news:moving", data={"n": n})
            await asyncio.sleep(0.05)
        await test_centrifuge.until("all is heard", lambda: len(heard.data) == 40)
        assert [data["n"] for data in heard.data] == list(range(40))
        # Closed with a code on which it comes back, once: then it may rest.
        again = [ctx.code for ctx in someone.events.connecting[1:]]
        assert again == [3011], again
        assert len(heard.subscribed) == 2 and heard.subscribed[1].recovered
        await someone.client.disconnect()

    asyncio.run(story())


def test_what_makes_no_sense_is_told(cell):
    for words, why in [
        (("drain", "no name"), "no name of a region"),
        (("restore", "gw1"), "does not drain"),
        (("drain", "gw1", "--seconds", "0"), "1 to 86400 seconds"),
    ]:
        with pytest.raises(AssertionError, match=why):
            cell.ctl(*words, about="region")
    both = cell.directory / "regions.json"
    both.write_text(json.dumps({"regions": [{"name": "eu", "url": "ws://eu.example", "near": ["us"]}]}))
    odd = cell.directory / "odd.toml"
    odd.write_text('[[regions]]\nname = "eu"\nurl = "ws://eu.example"\ncolour = "blue"\n')
    for words, why in [
        (("--regions", "eu"), "not NAME=URL"),
        (("--regions", "eu=http://eu.example"), "is not ws://HOST:PORT or wss://HOST:PORT"),
        (("--regions", "eu=ws://a.example,eu=ws://b.example"), "region eu is there twice"),
        (("--region", "e u"), "no name of a region"),
        (("--region", "eu"), "only a gateway is in a region"),
        (("--config", str(both)), "regions: region eu is near to \"us\", which is no region"),
        (("--config", str(odd)), "unknown field `colour`"),
    ]:
        said = subprocess.run([BINARY, "node", "--roles", "webapp", "--name", "x", "--key", str(cell.key), *words], capture_output=True, text=True, timeout=20)
        assert said.returncode and why in said.stderr, (words, said.stderr)
