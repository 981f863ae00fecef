"""The workspace's conversations for Centrifuge clients, beside RTM clients of the same conversations: one order, one position."""

import asyncio
import itertools

from harness import Server
from rtm import Client as Rtm
from test_centrifuge import Someone, story, until
from test_centrifuge_wire import Guest, jwt

counter = itertools.count(1)


def guest(server, name, **claims):
    """A Centrifuge client of a user of the workspace."""
    one = Guest(server, connect=False)
    one.connected = one.ask("connect", token=jwt(server.workspace["centrifuge"]["token_secret"], sub=server.id(name), **claims))
    return one


def room(server, *members):
    return server.new_channel(f"workspace-{next(counter)}", *members)


def test_a_message_reaches_both_dialects_at_one_position(server):
    channel = room(server, "alice", "bob")
    rtm, one = Rtm(server, "bob").connect(), guest(server, "alice")
    reply = one.ask("subscribe", channel=f"workspace:{channel}")["subscribe"]
    assert reply["recoverable"] and reply["positioned"] and reply["offset"] == server.tip("alice", channel) and reply["epoch"]
    server.say("bob", channel, "by the Web API")
    push = one.push("pub")
    assert push["channel"] == f"workspace:{channel}" and push["pub"]["data"]["text"] == "by the Web API"
    event = rtm.wait_text("by the Web API")
    assert event["seq"] == push["pub"]["offset"] == server.tip("alice", channel)
    assert "publish" in one.ask("publish", channel=f"workspace:{channel}", data={"text": "by a publication", "client_msg_id": "6d0b9a4e-0000-4000-8000-000000000001"})
    event = rtm.wait_text("by a publication")
    # Centrifuge skips nobody.
    push = one.push("pub")
    assert (push["pub"]["offset"], push["pub"]["data"]["user"]) == (event["seq"], server.id("alice"))
    # A retry is the same message.
    assert "publish" in one.ask("publish", channel=f"workspace:{channel}", data={"text": "by a publication", "client_msg_id": "6d0b9a4e-0000-4000-8000-000000000001"})
    assert server.tip("alice", channel) == event["seq"]
    rtm.drop()


def test_who_is_no_member_is_refused(server):
    channel = room(server, "bob")
    one = guest(server, "carol")
    for name in (channel, "C0NOSUCH", server.id("bob"), server.id("carol")):
        assert one.ask("subscribe", channel=f"workspace:{name}")["error"]["code"] == 103, name
    assert one.ask("publish", channel=f"workspace:{channel}", data={"text": "x"})["error"]["code"] == 103
    anonymous = Guest(server, connect=False)
    anonymous.ask("connect", token=jwt(server.workspace["centrifuge"]["token_secret"]))
    assert anonymous.ask("subscribe", channel=f"workspace:{server.channel('general')}")["error"]["code"] == 103
    stranger = Guest(server, connect=False)
    stranger.ask("connect", token=jwt(server.workspace["centrifuge"]["token_secret"], sub="nobody"))
    assert stranger.ask("subscribe", channel=f"workspace:{server.channel('general')}")["error"]["code"] == 103


def test_what_is_no_message_is_refused(server):
    channel = room(server, "alice")
    one = guest(server, "alice")
    one.ask("subscribe", channel=f"workspace:{channel}")
    before = server.tip("alice", channel)
    for data in (1, [], {}, {"text": 7}, {"text": ""}, {"text": "x" * 4_001}):
        assert one.ask("publish", channel=f"workspace:{channel}", data=data)["error"]["code"] == 103
    assert server.tip("alice", channel) == before


def test_who_leaves_is_unsubscribed_and_may_come_back(server):
    channel = room(server, "alice", "bob")
    one, other = guest(server, "alice"), guest(server, "bob")
    for each in (one, other):
        each.ask("subscribe", channel=f"workspace:{channel}")
    server.call("alice", "conversations.leave", channel=channel)
    assert one.push("unsubscribe") == {"channel": f"workspace:{channel}", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}
    assert one.ask("subscribe", channel=f"workspace:{channel}")["error"]["code"] == 103
    server.say("bob", channel, "without her")
    server.call("alice", "conversations.join", channel=channel)
    reply = one.ask("subscribe", channel=f"workspace:{channel}")["subscribe"]
    assert reply["offset"] == server.tip("bob", channel)
    server.say("bob", channel, "with her")
    for each in (one, other):
        heard = each.wait(lambda reply: reply.get("push", {}).get("pub", {}).get("data", {}).get("text"))
        assert heard["push"]["pub"]["data"]["text"] == ("with her" if each is one else "without her")


def test_who_comes_back_is_given_what_it_missed_from_the_backlog_and_from_the_database(fresh):
    server = fresh("--limit", "posts_burst=100000").up()
    channel = room(server, "alice", "bob")
    one = guest(server, "alice")
    reply = one.ask("subscribe", channel=f"workspace:{channel}")["subscribe"]
    for count in range(300):
        server.say("bob", channel, f"line {count}")
    # Also after a kill: what was acknowledged is there, and the epoch is the same.
    server.kill()
    server.up()
    again = guest(server, "alice")
    back = again.ask("subscribe", channel=f"workspace:{channel}", recover=True, epoch=reply["epoch"], offset=reply["offset"])["subscribe"]
    assert back["recovered"] and back["was_recovering"] and back["epoch"] == reply["epoch"]
    assert [one["data"]["text"] for one in back["publications"]] == [f"line {count}" for count in range(300)]
    assert [one["offset"] for one in back["publications"]] == [reply["offset"] + 1 + count for count in range(300)]
    server.say("bob", channel, "next")
    assert again.push("pub")["pub"]["offset"] == reply["offset"] + 301
    for wrong in ({"epoch": "another", "offset": reply["offset"]}, {"epoch": reply["epoch"], "offset": 1_000_000}):
        third = guest(server, "alice")
        answer = third.ask("subscribe", channel=f"workspace:{channel}", recover=True, **wrong)["subscribe"]
        assert "recovered" not in answer and answer["offset"] == reply["offset"] + 301 and "publications" not in answer


@story
async def test_the_sdk_follows_a_conversation_across_restarts():
    server = Server("--limit", "posts_burst=100000").up()
    try:
        channel = room(server, "alice", "bob")
        one = Someone(server, server.id("alice"), False)
        async with one:
            _, heard = await one.subscribe(f"workspace:{channel}")
            said = []
            for turn in range(4):
                for count in range(20):
                    said.append(f"{turn} {count}")
                    await asyncio.to_thread(server.say, "bob", channel, said[-1])
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.up)
            await until("all of them", lambda: len(heard.data) >= len(said), 20)
            assert [data["text"] for data in heard.data] == said
            offsets = [publication.offset for publication in heard.publications]
            assert offsets == list(range(offsets[0], offsets[0] + len(said)))
            # It may have slept through a restart.
            assert all(ctx.recovered for ctx in heard.subscribed[1:]) and len(heard.subscribed) >= 2
    finally:
        server.down()
