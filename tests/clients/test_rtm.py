"""The websocket: hello, acks, events with seq, typing, presence, and a return that misses nothing."""

import json
import urllib.parse
import urllib.request

import pytest

from harness import Refused, until
from rtm import PING, PONG, Client, Ended, Socket


def connect(server, name, **options):
    return Client(server, name).connect(**options)


def is_message(text):
    return lambda value: value.get("type") == "message" and value.get("text") == text


def test_a_message_is_acknowledged_and_told_to_everybody_else_once(server, channel):
    alice, second, bob = connect(server, "alice"), connect(server, "alice"), connect(server, "bob")
    ack = alice.post(channel, "hello", client_msg_id="6f1ed002-ab5d-4c5a-9e0b-1c1f4a2f0a11")
    assert ack["ok"] is True and ack["text"] == "hello" and "type" not in ack
    assert isinstance(ack["reply_to"], int) and isinstance(ack["ts"], str) and len(ack["ts"]) == 17
    for other in (second, bob):
        event = other.wait_text("hello")
        assert (event["channel"], event["user"], event["ts"]) == (channel, server.id("alice"), ack["ts"])
        assert (event["seq"], event["seq_of"]) == (ack["seq"], channel)
        assert event["client_msg_id"] == "6f1ed002-ab5d-4c5a-9e0b-1c1f4a2f0a11"
        assert event["team"] == server.workspace["team"]["id"]
    # The sender's own socket gets no event: what comes next is the answer to the next question.
    wanted = alice.send("ping")
    assert alice.take()["reply_to"] == wanted
    bob.post(channel, "hello yourself")
    assert alice.wait_text("hello yourself")["seq"] == ack["seq"] + 1


def test_ts_grows_with_seq_whoever_writes(server, channel):
    alice, bob = connect(server, "alice"), connect(server, "bob")
    for count in range(10):
        (alice if count % 2 else bob).post(channel, f"rtm {count}")
        server.say("carol", channel, f"web {count}")
    events = [event for event in server.events("alice", channel) if event["type"] == "message"]
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    stamps = [event["ts"] for event in events]
    assert stamps == sorted(set(stamps))
    carol = connect(server, "carol", resume=False)
    assert carol.positions[channel] == events[-1]["seq"]


def test_what_passes_between_the_ticket_and_the_hello_follows_the_hello(server, channel):
    boot = server.call("bob", "rtm.connect")
    server.say("alice", channel, "in between")
    socket = Socket(boot["url"])
    assert socket.message()["type"] == "hello"
    assert until(5, "the event", lambda: is_message("in between")(socket.message()))


def test_errors_of_a_message_are_told_by_reply_to(server, channel):
    alice = connect(server, "alice")
    assert alice.post(channel, "")["error"] == {"code": 2, "msg": "message text is missing"}
    for wrong in (alice.post("C0NOSUCH", "x"), alice.post(channel, "x" * 4001), alice.post(server.id("bob") + "X", "x")):
        assert wrong["ok"] is False and isinstance(wrong["error"]["code"], int) and wrong["error"]["msg"]
    assert alice.post(channel, "x" * 4000)["ok"]


def test_a_ping_is_echoed_with_its_fields(server):
    alice = connect(server, "alice")
    pong = alice.pong(time=1403299273342, note="héllo", flag=True)
    assert (pong["time"], pong["note"], pong["flag"]) == (1403299273342, "héllo", True)
    alice.socket.send(b"6f1e:1700000000.5", PING)
    opcode, payload = alice.socket.frame()
    assert (opcode, payload) == (PONG, b"6f1e:1700000000.5")


def test_typing_is_told_to_the_others_once_in_three_seconds_and_never_stored(server, channel):
    alice, bob = connect(server, "alice"), connect(server, "bob")
    tip = server.tip("alice", channel)
    alice.send("typing", channel=channel)
    alice.send("typing", channel=channel)
    event = bob.wait("typing", lambda value: value["type"] == "user_typing")
    assert event == {"type": "user_typing", "channel": channel, "user": server.id("alice")}
    alice.post(channel, "typed")
    seen = []
    bob.wait("the message", lambda value: seen.append(value["type"]) or is_message("typed")(value))
    assert "user_typing" not in seen
    assert server.tip("alice", channel) == tip + 1


def test_presence_is_told_to_those_who_watch(server):
    alice, bob = connect(server, "alice"), connect(server, "bob")
    carol = server.id("carol")
    alice.send("presence_sub", ids=[carol, server.id("bob")])

    def says(state, user):
        return lambda value: value["type"] == "presence_change" and value["presence"] == state and user in value.get("users", [value.get("user")])

    alice.wait("bob is here", says("active", server.id("bob")))
    first = connect(server, "carol")
    alice.wait("carol came", says("active", carol))
    assert server.call("bob", "users.getPresence", user=carol)["presence"] == "active"
    server.call("carol", "users.setPresence", presence="away")
    alice.wait("carol away by hand", says("away", carol))
    first.wait("manual_presence_change", lambda value: value["type"] == "manual_presence_change" and value["presence"] == "away")
    server.call("carol", "users.setPresence", presence="auto")
    alice.wait("carol back", says("active", carol))
    first.drop()
    alice.wait("carol gone", says("away", carol), seconds=30)
    bob.send("presence_query", ids=[carol])
    bob.wait("an answer", says("away", carol))


def test_edits_reactions_and_marks_are_events(server, channel):
    bob = connect(server, "bob")
    ts = server.say("alice", channel, "first")["ts"]
    server.call("alice", "chat.update", channel=channel, ts=ts, text="second")
    changed = bob.wait("message_changed", lambda value: value.get("subtype") == "message_changed")
    assert changed["message"]["text"] == "second" and changed["message"]["ts"] == ts and changed["message"]["edited"]["user"] == server.id("alice")
    assert changed["previous_message"]["text"] == "first" and changed["hidden"] is True and changed["ts"] != ts
    server.call("carol", "reactions.add", channel=channel, timestamp=ts, name="tada")
    added = bob.wait("reaction_added", lambda value: value["type"] == "reaction_added")
    assert (added["reaction"], added["user"], added["item_user"]) == ("tada", server.id("carol"), server.id("alice"))
    assert added["item"] == {"type": "message", "channel": channel, "ts": ts}
    server.call("carol", "reactions.remove", channel=channel, timestamp=ts, name="tada")
    bob.wait("reaction_removed", lambda value: value["type"] == "reaction_removed")
    server.call("bob", "conversations.mark", channel=channel, ts=ts)
    marked = bob.wait("channel_marked", lambda value: value["type"] == "channel_marked")
    assert (marked["channel"], marked["ts"], marked["seq_of"]) == (channel, ts, server.id("bob"))
    server.call("alice", "chat.delete", channel=channel, ts=ts)
    deleted = bob.wait("message_deleted", lambda value: value.get("subtype") == "message_deleted")
    assert deleted["deleted_ts"] == ts


def test_joining_and_leaving_change_what_one_is_told(server):
    channel = server.new_channel("revolving-door", "alice")
    alice, bob = connect(server, "alice"), connect(server, "bob")
    server.say("alice", channel, "bob is not here yet")
    server.call("bob", "conversations.join", channel=channel)
    joined = bob.wait("channel_joined", lambda value: value["type"] == "channel_joined")
    assert joined["channel"]["id"] == channel and joined["seq_of"] == server.id("bob")
    alice.wait("member_joined_channel", lambda value: value["type"] == "member_joined_channel" and value["user"] == server.id("bob"))
    server.say("alice", channel, "welcome")
    bob.wait_text("welcome")
    server.call("bob", "conversations.leave", channel=channel)
    bob.wait("channel_left", lambda value: value["type"] == "channel_left" and value["channel"] == channel)
    alice.wait("member_left_channel", lambda value: value["type"] == "member_left_channel")
    server.say("alice", channel, "he is gone")
    alice.wait_text("he is gone")
    bob.pong()
    assert bob.texts(channel)[-1] != "he is gone"
    assert "bob is not here yet" not in bob.texts(channel)
    server.call("bob", "conversations.join", channel=channel)
    server.say("alice", channel, "again")
    bob.wait_text("again")


def test_a_new_channel_and_a_new_conversation_are_told(server):
    bob = connect(server, "bob")
    channel = server.new_channel("told-to-the-team", "alice")
    created = bob.wait("channel_created", lambda value: value["type"] == "channel_created")
    assert created["channel"]["id"] == channel and created["seq_of"] == server.workspace["team"]["id"]
    opened = server.call("alice", "conversations.open", users=server.id("bob"))["channel"]["id"]
    assert opened == server.call("bob", "conversations.open", users=server.id("alice"))["channel"]["id"]
    server.say("alice", opened, "psst")
    assert bob.wait_text("psst")["channel"] == opened


def test_a_client_that_resumes_has_every_event_once(server, channel):
    bob = connect(server, "bob")
    server.say("alice", channel, "one")
    bob.wait_text("one")
    bob.drop()
    for count in range(300):
        server.say("alice", channel, f"missed {count}")
    server.call("carol", "reactions.add", channel=channel, timestamp=server.say("carol", channel, "last")["ts"], name="eyes")
    bob.connect().catch_up()
    server.say("alice", channel, "live again")
    bob.wait_text("live again")
    database = server.events("bob", channel)
    start = min(bob.seen[channel])
    assert [bob.seen[channel][event["seq"]] for event in database if event["seq"] >= start] == [event for event in database if event["seq"] >= start]
    assert not bob.gaps


def test_nothing_durable_comes_before_the_last_resume_frame(server, channel):
    bob = connect(server, "bob").drop()
    server.say("alice", channel, "missed")
    boot = server.call("bob", "rtm.connect", resume="true")
    socket = Socket(boot["url"])
    assert socket.message()["type"] == "hello"
    server.say("alice", channel, "also missed")
    socket.send({"type": "resume", "epoch": bob.epoch, "positions": {channel: bob.positions[channel]}})
    socket.send({"type": "ping", "id": 1})
    assert "seq" not in socket.message() or pytest.fail("durable before the last resume frame")
    socket.send({"type": "resume", "epoch": bob.epoch, "positions": {}, "last": True})
    assert is_message("missed")(socket.message())
    assert is_message("also missed")(socket.message())


def test_resume_frames_that_do_not_come_end_the_connection(server):
    socket = Socket(server.call("bob", "rtm.connect", resume="true")["url"])
    code, before = socket.ended(15)
    assert [value["type"] for value in before][:1] == ["hello"] and before[-1]["type"] == "error"
    assert isinstance(before[-1]["error"]["code"], int) and code is not None


def test_what_is_too_old_for_a_replay_is_told_as_a_gap_and_listed(server):
    channel = server.new_channel("long-gap", "alice", "bob")
    bob = connect(server, "bob").drop()
    start = bob.positions[channel]
    for count in range(1_200):
        server.say("alice", channel, f"line {count}")
    bob.connect().catch_up(40)
    (gap,) = [gap for gap in bob.gaps if gap["seq_of"] == channel]
    tip = server.tip("bob", channel)
    assert (gap["from"], gap["to"]) == (start + 1, tip - 1_000)
    assert sorted(bob.seen[channel]) == list(range(tip - 999, tip + 1))
    listed = {event["seq"]: event for event in server.events("bob", channel, gap["from"])}
    union = {**{seq: event for seq, event in listed.items() if seq <= gap["to"]}, **bob.seen[channel]}
    assert [union[seq]["text"] for seq in sorted(union)][-1_200:] == [f"line {count}" for count in range(1_200)]


def test_positions_of_another_database_or_above_the_tip_get_a_gap_of_all(server, channel):
    server.say("alice", channel, "one")
    tip = server.tip("bob", channel)
    for epoch, position in (("another-epoch", 1), (None, tip + 1_000)):
        boot = server.call("bob", "rtm.connect", resume="true")
        socket = Socket(boot["url"])
        hello = socket.message()
        socket.send({"type": "resume", "epoch": epoch or hello["epoch"], "positions": {channel: position}, "last": True})
        while (frame := socket.message()).get("type") != "gap" or frame["seq_of"] != channel:
            assert "seq" not in frame, frame
        assert frame["to"] >= tip, frame
        server.say("alice", channel, f"after {position}")
        while not is_message(f"after {position}")(frame := socket.message()):
            assert frame.get("seq", 0) <= tip + 2


def test_channels_that_are_not_named_start_at_the_tickets_offsets(server, channel):
    random = server.channel("random")
    bob = connect(server, "bob").drop()
    server.say("alice", channel, "named")
    server.say("alice", random, "not named")
    bob.connect(named=[channel])
    bob.wait_text("named")
    server.say("alice", random, "now")
    bob.wait_text("now")
    assert "not named" not in bob.texts(random)


def test_a_ticket_is_good_once(server):
    url = server.call("alice", "rtm.connect")["url"]
    assert Socket(url).message()["type"] == "hello"
    for _ in range(2):
        socket = Socket(url)
        assert socket.message() == {"type": "error", "error": {"code": 1, "msg": "Socket URL has expired"}}
        with pytest.raises(Ended):
            socket.message()
    # slack_sdk appends a bare question mark.
    assert Socket(server.call("alice", "rtm.connect")["url"] + "?").message()["type"] == "hello"


def test_a_retry_with_the_same_id_is_the_same_message(server, channel):
    bob = connect(server, "bob")
    one = server.say("alice", channel, "once", client_msg_id="11111111-2222-4333-8444-555555555555")
    two = server.say("alice", channel, "once", client_msg_id="11111111-2222-4333-8444-555555555555")
    assert one["ts"] == two["ts"]
    alice = connect(server, "alice")
    ack = alice.post(channel, "once", client_msg_id="11111111-2222-4333-8444-555555555555")
    assert ack["ok"] and ack["ts"] == one["ts"]
    headers = {"Idempotency-Key": "order-4711"}
    answers = [server.ask("chat.postMessage", {"channel": channel, "text": "by header"}, server.token("alice"), headers)[2]["ts"] for _ in range(2)]
    assert answers[0] == answers[1]
    server.say("alice", channel, "end")
    bob.wait_text("end")
    assert bob.texts(channel).count("once") == 1 and bob.texts(channel).count("by header") == 1


def test_a_new_user_is_told_to_the_team_and_can_talk(fresh):
    server = fresh("--ephemeral").up()
    alice = Client(server, "alice").connect()
    body = urllib.parse.urlencode({"name": "dave"}).encode()
    with urllib.request.urlopen(f"{server.http}/dev/users", body) as answer:
        dave = json.load(answer)["user"]
    joined = alice.wait("team_join", lambda value: value.get("type") == "team_join")
    assert joined["user"]["id"] == dave["id"] and joined["seq_of"] == server.workspace["team"]["id"]
    server.workspace["users"].append(dave)
    channel = server.channel("general")
    server.call("dave", "conversations.join", channel=channel)
    client = Client(server, "dave").connect()
    client.post(channel, "hello, I am new")
    alice.wait_text("hello, I am new")
    assert "dave" in [user["name"] for user in server.call("alice", "users.list")["members"]]
    with urllib.request.urlopen(f"{server.http}/dev/users", body) as answer:
        assert json.load(answer) == {"ok": False, "error": "name_taken"}


def test_what_one_connection_says_is_stored_in_the_order_in_which_it_was_said(fresh):
    server = fresh("--ephemeral", "--limit", "posts_burst=100000").up()
    channel = server.channel("general")
    alice = Client(server, "alice").connect()
    for _ in range(10):
        asked = [alice.send("message", channel=channel, text=f"{count}") for count in range(60)]
        places = {}
        while len(places) < len(asked):
            ack = alice.wait("an ack", lambda value: "reply_to" in value)
            assert ack["ok"], ack
            places[ack["reply_to"]] = ack["seq"]
        assert sorted(places.values()) == [places[one] for one in asked]


def test_too_many_messages_are_slowed_down_and_told_so(server):
    channel = server.new_channel("flood", "bot")
    bot = connect(server, "bot")
    answers = []
    for _ in range(70):
        bot.send("message", channel=channel, text="flood")
    try:
        while len(answers) < 70:
            value = bot.socket.message(5)
            if "reply_to" in value:
                answers.append(value)
    except (Ended, AssertionError):
        pass
    accepted = [answer for answer in answers if answer["ok"]]
    refused = [answer for answer in answers if not answer["ok"]]
    assert 45 <= len(accepted) <= 60, len(accepted)
    assert refused and all(answer["error"] == {"code": -1, "msg": "slow down, too many messages..."} for answer in refused)
    assert len([event for event in server.events("bot", channel) if event["type"] == "message" and event.get("text") == "flood"]) == len(accepted)


def test_only_members_are_told_and_may_write(server):
    channel = server.new_channel("members-only", "alice")
    carol = connect(server, "carol")
    assert carol.post(channel, "let me in")["ok"] is False
    server.say("alice", channel, "secret")
    carol.pong()
    assert channel not in carol.seen
    with pytest.raises(Refused):
        server.say("carol", channel, "let me in")
