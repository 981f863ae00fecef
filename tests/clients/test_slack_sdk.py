"""slack_sdk, unmodified: rtm_v2 and WebClient against Campanile."""

import json
import threading
import urllib.request

import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.rtm_v2 import RTMClient
from slack_sdk.web import WebClient

from harness import Stream, until

class Listener:
    """An RTMClient that puts every event into a stream."""

    def __init__(self, server, name):
        self.stream = Stream()
        self.rtm = RTMClient(token=server.token(name), base_url=server.api)
        self.rtm.on("*")(lambda client, event: self.stream.put(event))
        self.rtm.connect()
        self.hello = self.stream.wait(10, "hello", lambda event: event.get("type") == "hello")

    def wait(self, what, wanted, seconds=10):
        return self.stream.wait(seconds, what, wanted)

    def text(self, text, seconds=10):
        return self.wait(text, lambda event: event.get("type") == "message" and event.get("text") == text, seconds)

    def close(self):
        self.rtm.close()


@pytest.fixture
def listen():
    listeners = []

    def start(server, name):
        listeners.append(Listener(server, name))
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.close()


def web(server, name):
    return WebClient(token=server.token(name), base_url=server.api)


def test_it_connects_sends_and_is_answered(server, channel, listen):
    alice, bot = listen(server, "alice"), listen(server, "bot")
    web(server, "bot").conversations_join(channel=channel)
    alice.rtm.send({"id": 1, "type": "message", "channel": channel, "text": "from slack_sdk"})
    ack = alice.wait("the ack", lambda event: event.get("reply_to") == 1)
    assert ack["ok"] is True and ack["text"] == "from slack_sdk" and "type" not in ack
    event = bot.text("from slack_sdk")
    assert event["ts"] == ack["ts"] and event["user"] == server.id("alice")
    alice.rtm.send({"id": 2, "type": "message", "channel": channel, "text": ""})
    assert alice.wait("an error ack", lambda event: event.get("reply_to") == 2)["error"]["code"] == 2


def test_everything_that_people_do_is_told(server, channel, listen):
    alice, bob = listen(server, "alice"), listen(server, "bob")
    client = web(server, "alice")
    bob.rtm.send({"id": 1, "type": "presence_sub", "ids": [server.id("alice"), server.id("carol")]})
    alice.rtm.send({"id": 3, "type": "typing", "channel": channel})
    bob.wait("typing", lambda event: event.get("type") == "user_typing" and event["channel"] == channel)
    bob.wait("presence", lambda event: event.get("type") == "presence_change" and event["presence"] == "active")
    ts = client.chat_postMessage(channel=channel, text="one").data["ts"]
    bob.text("one")
    client.chat_update(channel=channel, ts=ts, text="two")
    assert bob.wait("an edit", lambda event: event.get("subtype") == "message_changed")["message"]["text"] == "two"
    client.reactions_add(channel=channel, timestamp=ts, name="thumbsup")
    assert bob.wait("a reaction", lambda event: event.get("type") == "reaction_added")["reaction"] == "thumbsup"
    assert client.reactions_get(channel=channel, timestamp=ts)["message"]["reactions"][0]["name"] == "thumbsup"
    client.reactions_remove(channel=channel, timestamp=ts, name="thumbsup")
    bob.wait("its end", lambda event: event.get("type") == "reaction_removed")
    client.chat_delete(channel=channel, ts=ts)
    assert bob.wait("a deletion", lambda event: event.get("subtype") == "message_deleted")["deleted_ts"] == ts


def test_history_is_paged_and_complete(server, channel):
    client = web(server, "alice")
    posted = [client.chat_postMessage(channel=channel, text=f"line {count}").data["ts"] for count in range(45)]
    pages, found = 0, []
    for page in client.conversations_history(channel=channel, limit=10):
        pages += 1
        found += [message["ts"] for message in page["messages"] if "subtype" not in message]
    assert pages >= 5 and found == list(reversed(posted))
    part = client.conversations_history(channel=channel, oldest=posted[3], latest=posted[7], inclusive=True)["messages"]
    assert [message["ts"] for message in part] == list(reversed(posted[3:8]))
    part = client.conversations_history(channel=channel, oldest=posted[3], latest=posted[7])["messages"]
    assert [message["ts"] for message in part] == list(reversed(posted[4:7]))


def test_threads_are_beside_the_history(server, channel):
    client = web(server, "bob")
    parent = client.chat_postMessage(channel=channel, text="parent").data["ts"]
    replies = [client.chat_postMessage(channel=channel, text=f"reply {count}", thread_ts=parent).data["ts"] for count in range(3)]
    told = client.conversations_replies(channel=channel, ts=parent)["messages"]
    assert [message["ts"] for message in told] == [parent, *replies]
    assert told[0]["reply_count"] == 3 and told[1]["thread_ts"] == parent
    texts = [message["text"] for message in client.conversations_history(channel=channel)["messages"]]
    assert "parent" in texts and "reply 1" not in texts


def test_lists_shapes_and_errors_are_as_the_client_expects(server, channel):
    client = web(server, "carol")
    me = client.auth_test().data
    assert me["user_id"] == server.id("carol") and me["bot_id"] and me["team_id"] == server.workspace["team"]["id"] and me["url"]
    assert {user["name"] for page in client.users_list(limit=2) for user in page["members"]} >= {"alice", "bob", "carol", "bot"}
    assert {one["id"] for page in client.conversations_list(limit=1) for one in page["channels"]} >= {server.channel("general"), channel}
    info = client.conversations_info(channel=channel)["channel"]
    assert info["is_member"] is True and isinstance(info["created"], int) and info["name"]
    assert {user for page in client.conversations_members(channel=channel, limit=1) for user in page["members"]} == {server.id(name) for name in ("alice", "bob", "carol")}
    opened = client.conversations_open(users=[server.id("bob")], return_im=True)["channel"]
    assert opened["id"].startswith("D") and opened["is_im"] is True and opened["user"] == server.id("bob")
    assert client.users_info(user=server.id("bot"))["user"]["is_bot"] is True
    assert client.api_test(foo="bar")["args"]["foo"] == "bar"
    for error, call in {
        "channel_not_found": lambda: client.chat_postMessage(channel="C0NOSUCH", text="x"),
        "no_text": lambda: client.chat_postMessage(channel=channel, text=""),
        "user_not_found": lambda: client.users_info(user="U0NOSUCH"),
        "message_not_found": lambda: client.chat_update(channel=channel, ts="1.000001", text="x"),
        "name_taken": lambda: client.conversations_create(name="general"),
        "unknown_method": lambda: client.api_call("no.such.method"),
        "invalid_auth": lambda: WebClient(token="xoxb-wrong", base_url=server.api).auth_test(),
        "not_authed": lambda: WebClient(base_url=server.api).auth_test(),
        "invalid_cursor": lambda: client.users_list(cursor="nonsense"),
        "invalid_presence": lambda: client.users_setPresence(presence="asleep"),
    }.items():
        with pytest.raises(SlackApiError) as refused:
            call()
        assert refused.value.response["error"] == error
    ts = web(server, "alice").chat_postMessage(channel=channel, text="not yours").data["ts"]
    for error, call in {
        "cant_update_message": lambda: client.chat_update(channel=channel, ts=ts, text="mine"),
        "cant_delete_message": lambda: client.chat_delete(channel=channel, ts=ts),
        "no_reaction": lambda: client.reactions_remove(channel=channel, timestamp=ts, name="x"),
    }.items():
        with pytest.raises(SlackApiError) as refused:
            call()
        assert refused.value.response["error"] == error
    client.reactions_add(channel=channel, timestamp=ts, name="eyes")
    with pytest.raises(SlackApiError) as refused:
        client.reactions_add(channel=channel, timestamp=ts, name="eyes")
    assert refused.value.response["error"] == "already_reacted"


def test_arguments_come_as_form_json_query_and_multipart(server, channel):
    def ask(body, content_type, query="", token=server.token("alice"), method=None):
        request = urllib.request.Request(f"{server.api}chat.postMessage{query}", body, {"Content-Type": content_type} if content_type else {}, method=method)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    value = json.dumps({"channel": channel, "text": "json ✓"}).encode()
    assert ask(value, "application/json;charset=utf-8")["message"]["text"] == "json ✓"
    assert ask(b"text=form+%E2%9C%93", "application/x-www-form-urlencoded", f"?channel={channel}")["message"]["text"] == "form ✓"
    assert ask(f"token={server.token('bob')}&channel={channel}&text=x".encode(), "application/x-www-form-urlencoded", token=None)["message"]["user"] == server.id("bob")
    assert ask(None, None, f"?channel={channel}&text=get&token={server.token('bob')}", token=None, method="GET")["message"]["text"] == "get"
    parts = "".join(f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in (("channel", channel), ("text", "parts")))
    assert ask(f"{parts}--x--\r\n".encode(), "multipart/form-data; boundary=x")["message"]["text"] == "parts"
    assert ask(b"{nonsense", "application/json")["ok"] is False


def test_it_comes_back_after_a_goodbye_and_misses_nothing(fresh, listen):
    server = fresh("--limit", "connection_age_max_ms=4000", "--limit", "goodbye_window_ms=3000").up()
    general = server.channel("general")
    bob = listen(server, "bob")
    stop, posted = threading.Event(), []

    def write():
        while not stop.wait(0.05):
            posted.append(server.say("alice", general, f"line {len(posted)}")["ts"])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        bob.wait("goodbye", lambda event: event.get("type") == "goodbye", 15)
        bob.wait("hello again", lambda event: event.get("type") == "hello", 15)
        until(10, "twenty more", lambda count=len(posted): len(posted) > count + 20)
    finally:
        stop.set()
        writer.join(10)
    # At a goodbye the library connects anew before it hangs up: for a moment both connections are given the same.
    complete(server, general, bob, posted, overlaps=True)


def test_it_comes_back_after_a_close(fresh, listen):
    server = fresh("--drain", "1").up()
    general = server.channel("general")
    bob = listen(server, "bob")
    posted = [server.say("alice", general, "before")["ts"]]
    bob.text("before")
    server.term()
    assert server.ended() == 0
    server.up()
    bob.wait("hello again", lambda event: event.get("type") == "hello", 30)
    posted.append(server.say("alice", general, "after")["ts"])
    bob.text("after")
    complete(server, general, bob, posted)


def test_it_comes_back_after_kill_9_and_history_has_the_rest(fresh, listen):
    server = fresh().up()
    general = server.channel("general")
    bob = listen(server, "bob")
    posted = [server.say("alice", general, f"before {count}")["ts"] for count in range(20)]
    bob.text("before 19")
    server.kill()
    server.up()
    posted += [server.say("alice", general, f"while away {count}")["ts"] for count in range(20)]
    # Without a Close frame this library believes in its connection for half a minute.
    bob.wait("hello again", lambda event: event.get("type") == "hello", 60)
    posted += [server.say("alice", general, f"after {count}")["ts"] for count in range(20)]
    bob.text("after 19")
    complete(server, general, bob, posted)


def complete(server, channel, listener, posted, overlaps=False):
    """The union of live events and history is what the database has, in order."""
    live = [event["ts"] for event in drain(listener.stream) if event.get("type") == "message" and event.get("channel") == channel]
    history = [message["ts"] for page in web(server, "bob").conversations_history(channel=channel, limit=50) for message in page["messages"]]
    database = [event["ts"] for event in server.events("bob", channel) if event["type"] == "message" and "subtype" not in event]
    assert database == posted
    assert sorted(set(live) | set(history)) == sorted(set(history)) and set(database) <= set(history)
    first = list(dict.fromkeys(live))
    assert first == sorted(first), "in order"
    assert overlaps or live == first, "no event twice"


def drain(stream):
    stream.put(None)
    while (value := stream._queue.get_nowait()) is not None:
        stream.all.append(value)
    return stream.all


def test_429_is_told_with_whole_seconds(fresh, listen):
    server = fresh("--ephemeral", "--limit", "boots_burst=3", "--limit", "boots_per_second=1").up()
    answers = [server.ask("rtm.connect", token=server.token("alice")) for _ in range(6)]
    limited = [(status, headers, value) for status, headers, value in answers if status == 429]
    assert limited and answers[0][0] == 200
    for _, headers, value in limited:
        assert int(headers["Retry-After"]) >= 1 and value == {"ok": False, "error": "ratelimited"}
    # slack_sdk waits for as long as it was told, and connects.
    listen(server, "bob")
