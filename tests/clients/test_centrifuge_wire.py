"""The Centrifuge dialect by hand: bad input and its codes, pings, the end of tokens, joins, and the traps of the SDKs, byte by byte."""

import json
import struct
import time

import pytest

from harness import HERE, Server, until
from rtm import BINARY, CLOSE, TEXT, Ended, Socket
from test_centrifuge import api, jwt

CONFIG = {
    "client": {"token": {"hmac_secret_key": "secret"}, "allowed_origins": ["https://tower.example"]},
    "http_api": {"key": "key"},
    "channel": {
        "without_namespace": {"allow_subscribe_for_client": True, "allow_publish_for_subscriber": True},
        "namespaces": [
            {
                "name": "all", "presence": True, "join_leave": True, "force_push_join_leave": True, "history_size": 10, "history_ttl": "60s", "force_recovery": True,
                "allow_subscribe_for_client": True, "allow_publish_for_client": True, "allow_history_for_client": True, "allow_presence_for_client": True,
                "allowed_delta_types": ["fossil"], "delta_publish": True,
            },
            {"name": "closed", "history_size": 10, "history_ttl": "60s"},
            {"name": "users", "allow_user_limited_channels": True},
        ],
    },
}


QUICK = {"ping_interval": "1s", "pong_timeout": "500ms", "stale_close_delay": "1s", "expired_close_delay": "1s"}


def serve(directory, config):
    file = directory / "campanile.json"
    file.write_text(json.dumps(config))
    return Server("--ephemeral", "--cores", "2", "--config", str(file))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("config"), CONFIG) as one:
        yield one


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The same with little patience."""
    with serve(tmp_path_factory.mktemp("quick"), {**CONFIG, "client": {**CONFIG["client"], **QUICK}}) as one:
        yield one


class Guest:
    """One connection in JSON."""

    def __init__(self, server, connect=True, user="42", **claims):
        self.socket = Socket(f"{server.ws}/connection/websocket")
        self.id = 0
        self.pings = 0
        self.answers_pings = True
        self.queue = []
        if connect:
            self.connected = self.ask("connect", token=jwt("secret", sub=user, **claims))

    def say(self, **command):
        self.socket.send(json.dumps(command))

    def ask(self, what, **fields):
        self.id += 1
        self.say(**{"id": self.id, what: fields})
        wanted = self.id
        return self.wait(lambda reply: reply.get("id") == wanted)

    def next(self, seconds=5):
        """The next reply; pings are counted and answered."""
        while not self.queue:
            self.socket.socket.settimeout(seconds)
            opcode, payload = self.socket.frame()
            if opcode == CLOSE:
                raise Ended(struct.unpack("!H", payload[:2])[0], payload[2:].decode())
            assert opcode == TEXT and payload and not payload.endswith(b"\n") and b"\n\n" not in payload
            for line in payload.split(b"\n"):
                reply = json.loads(line)
                if reply:
                    self.queue.append(reply)
                else:
                    self.pings += 1
                    if self.answers_pings:
                        self.socket.send("{}")
        return self.queue.pop(0)

    def wait(self, wanted, seconds=5):
        due, others = time.monotonic() + seconds, []
        while True:
            reply = self.next(max(0.01, due - time.monotonic()))
            if wanted(reply):
                self.queue[:0] = others
                return reply
            others.append(reply)

    def push(self, kind):
        return self.wait(lambda reply: kind in reply.get("push", {}))["push"]

    def end(self, seconds=5):
        """The code and the reason of the Close frame. T3, T4: a reason is there, and is no JSON."""
        due = time.monotonic() + seconds
        try:
            while time.monotonic() < due:
                self.next(max(0.01, due - time.monotonic()))
        except Ended as end:
            assert end.reason and len(end.reason.encode()) <= 123
            with pytest.raises(ValueError):
                json.loads(end.reason)
            return end.code
        raise AssertionError("it goes on")


@pytest.fixture(scope="module")
def witness(server):
    """Somebody else, who must notice nothing of what others say."""
    guest = Guest(server, user="witness")
    guest.ask("subscribe", channel="witnessed")
    return guest


@pytest.fixture(autouse=True)
def undisturbed(server, witness):
    yield
    mark = time.monotonic_ns()
    assert "publish" in witness.ask("publish", channel="witnessed", data=mark)
    assert witness.push("pub")["pub"]["data"] == mark


@pytest.mark.parametrize(
    "text",
    [
        "", "\n", "nonsense", "[]", "null", "7", "{", "{}\n\n{}", '{"id":1}', '{"id":0,"subscribe":{"channel":"a"}}', '{"subscribe":{"channel":"a"}}', '{"id":"2","subscribe":{"channel":"a"}}',
        '{"id":-1,"subscribe":{"channel":"a"}}', '{"id":2,"subscribe":{}}', '{"id":2,"unsubscribe":{}}', '{"id":2,"publish":{"data":1}}', '{"id":2,"ping":{}}', '{"id":2,"unknown":{}}',
        '{"id":2,"connect":{}}', '{"id":2,"subscribe":{"channel":"a","delta":"xdelta"}}', '{"id":2,"publish":{"channel":"a","data":{}}', "{}",
        '{"id":2,"publish":{"channel":"a","data":"\\ud8"}}', '{"id":2,"rpc":' + "[" * 2000 + "}",
    ],
)
def test_what_makes_no_sense_ends_the_connection(server, text):
    guest = Guest(server)
    guest.socket.send(text)
    assert guest.end() == 3501


def test_bytes_that_are_no_text_end_the_connection(server):
    guest = Guest(server)
    guest.socket.send(b'{"id":2,"rpc":{"method":"\xff"}}', BINARY)
    assert guest.end() == 3501
    guest = Guest(server)
    guest.socket.send(b'{"id":2,"rpc":{"method":"\xff"}}')
    assert guest.end() == 1007


def test_what_is_too_long_ends_the_connection(server):
    guest = Guest(server)
    guest.socket.send(b"x" * (1 << 20) + b"x")
    assert guest.end() == 1009


@pytest.mark.parametrize(
    "token, code",
    [
        (jwt("guess", sub="42"), 3500), ("nonsense", 3500), ("a.b.c", 3500), ("eyJhbGciOiJub25lIn0.eyJzdWIiOiI0MiJ9.", 3500), (jwt("secret", sub="42", channel="a"), 3500),
        (jwt("secret", sub="42", nbf=4_000_000_000), 3500), ("", 3501),
    ],
)
def test_a_token_that_is_none_ends_the_connection(server, token, code):
    guest = Guest(server, connect=False)
    guest.say(id=1, connect={"token": token})
    assert guest.end() == code


def test_an_expired_token_is_an_error_and_what_comes_behind_it_is_void(server):
    guest = Guest(server, connect=False)
    old = jwt("secret", sub="42", exp=int(time.time()) - 1)
    guest.socket.send(json.dumps({"id": 1, "connect": {"token": old}}) + "\n" + json.dumps({"id": 2, "subscribe": {"channel": "a"}}))
    assert guest.next() == {"id": 1, "error": {"code": 109, "message": "token expired"}}
    guest.say(id=3, connect={"token": jwt("secret", sub="42")})
    assert guest.end() == 3501


def test_who_does_not_connect_is_stale(quick):
    guest = Guest(quick, connect=False)
    assert guest.end() == 3502
    guest = Guest(quick, connect=False)
    guest.say(id=1, subscribe={"channel": "a"})
    assert guest.end() == 3501


def test_pings_come_by_the_clock_and_want_an_answer(quick):
    guest = Guest(quick)
    assert guest.connected["connect"]["ping"] == 1 and guest.connected["connect"]["pong"] is True
    due = time.monotonic() + 3.5
    # Also while it speaks: some clients count nothing but pings.
    while time.monotonic() < due:
        assert guest.ask("unsubscribe", channel="none") == {"id": guest.id, "unsubscribe": {}}
        time.sleep(0.05)
    assert guest.pings >= 2
    guest.answers_pings = False
    assert guest.end() == 3012


def test_protobuf_is_pinged_by_one_byte():
    with Server("--ephemeral", "--config", str(HERE / "configs/js.json")) as server:
        socket = Socket(f"{server.ws}/connection/websocket?cf_protocol=protobuf")
        socket.send(bytes([4, 8, 1, 0x22, 0]), BINARY)
        opcode, reply = socket.frame()
        assert opcode == BINARY and reply[0] == len(reply) - 1 and reply[1:3] == bytes([8, 1])
        socket.send(bytes([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]), BINARY)
        opcode, end = socket.frame()
        assert opcode == CLOSE and struct.unpack("!H", end[:2])[0] == 3501


def test_a_protocol_is_said_back_and_an_empty_list_is_none(server):
    for offered, chosen in [("centrifuge-json", "centrifuge-json"), ("x, centrifuge-protobuf", "centrifuge-protobuf"), ("", None), (None, None)]:
        socket = Socket(f"{server.ws}/connection/websocket", shake=False)
        socket.raw(socket.request(**({} if offered is None else {"Sec-WebSocket-Protocol": offered})))
        status, headers = socket.head()
        assert (status, headers.get("sec-websocket-protocol")) == (101, chosen)


def test_a_page_of_somebody_else_is_forbidden(server):
    for origin, wanted in [("https://tower.example", 101), ("https://evil.example", 403)]:
        socket = Socket(f"{server.ws}/connection/websocket", shake=False)
        socket.raw(socket.request(Origin=origin))
        assert socket.head()[0] == wanted


@pytest.mark.parametrize(
    "command, code",
    [
        ({"subscribe": {"channel": "no:such"}}, 102), ({"subscribe": {"channel": "closed:a"}}, 103), ({"subscribe": {"channel": "$a"}}, 103), ({"subscribe": {"channel": "users:x#43"}}, 103),
        ({"subscribe": {"channel": "x" * 255}}, 107), ({"subscribe": {"channel": "caf\u00e9"}}, 107), ({"subscribe": {"channel": "a", "type": 1}}, 108), ({"subscribe": {"channel": "a", "tf": {}}}, 107),
        ({"subscribe": {"channel": "a", "token": "nonsense"}}, 103), ({"subscribe": {"channel": "a", "token": jwt("secret", sub="42", channel="a", exp=1)}}, 109),
        ({"publish": {"channel": "a", "data": 1}}, 103), ({"publish": {"channel": "all:a"}}, 107), ({"publish": {"channel": "all:a", "data": None}}, 107), ({"publish": {"channel": "all:a", "data": "x" * 70_000}}, 106),
        ({"history": {"channel": "a"}}, 108), ({"history": {"channel": "closed:a"}}, 103), ({"history": {"channel": "all:a", "reverse": True, "since": {"offset": 0}}}, 107),
        ({"presence": {"channel": "a"}}, 108), ({"presence_stats": {"channel": "no:such"}}, 102), ({"rpc": {"method": "m"}}, 108), ({"sub_refresh": {"channel": "a", "token": "x"}}, 103),
    ],
)
def test_what_may_not_be_is_refused_by_its_code(server, command, code):
    guest = Guest(server)
    [(what, fields)] = command.items()
    answer = guest.ask(what, **fields)
    assert answer["error"]["code"] == code and answer["error"]["message"]
    assert set(answer) == {"id", "error"}
    assert guest.ask("unsubscribe", channel="x") == {"id": guest.id, "unsubscribe": {}}


def test_a_user_of_the_list_and_a_token_of_the_channel_open_it(server):
    guest = Guest(server)
    assert "subscribe" in guest.ask("subscribe", channel="users:x#41,42")
    assert "subscribe" in guest.ask("subscribe", channel="$a", token=jwt("secret", sub="42", channel="$a"))
    for token in (jwt("secret", sub="43", channel="$b"), jwt("secret", sub="42", channel="$c")):
        other = Guest(server)
        other.say(id=2, subscribe={"channel": "$b", "token": token})
        assert other.end() == 3500


def test_a_second_subscription_is_refused_and_order_per_channel_is_kept(server):
    guest = Guest(server)
    assert "subscribe" in guest.ask("subscribe", channel="a")
    assert guest.ask("subscribe", channel="a")["error"]["code"] == 105
    # T16: a subscription that races its own end.
    guest.socket.send("\n".join(json.dumps(one) for one in [{"id": 10, "unsubscribe": {"channel": "a"}}, {"id": 11, "subscribe": {"channel": "a"}}]))
    assert guest.next() == {"id": 10, "unsubscribe": {}}
    assert guest.next() == {"id": 11, "subscribe": {}}


def test_the_hundred_and_twenty_ninth_channel_is_one_too_many(server):
    guest = Guest(server)
    for count in range(128):
        assert "subscribe" in guest.ask("subscribe", channel=f"c{count}")
    assert guest.ask("subscribe", channel="c128")["error"]["code"] == 106
    too_many = Guest(server, connect=False)
    too_many.say(id=1, connect={"token": jwt("secret", sub="42", channels=[f"c{count}" for count in range(129)])})
    assert too_many.end() == 3505


def test_who_sends_what_nobody_hears_is_sent_away(server):
    guest = Guest(server)
    guest.say(send={"data": {}})
    assert guest.end() == 3508


def test_joins_and_leaves_are_told_with_their_info(server):
    first = Guest(server, user="1", info={"n": 1})
    assert first.ask("subscribe", channel="all:room")["subscribe"]["recoverable"]
    me = first.push("join")["join"]["info"]
    assert me == {"user": "1", "client": first.connected["connect"]["client"], "conn_info": {"n": 1}}
    second = Guest(server, user="2")
    second.ask("subscribe", channel="all:room", token=jwt("secret", sub="2", channel="all:room", info=["c"]))
    assert first.push("join")["join"]["info"]["chan_info"] == ["c"]
    presence = first.ask("presence", channel="all:room")["presence"]["presence"]
    assert {info["user"] for info in presence.values()} == {"1", "2"} and all(client == info["client"] for client, info in presence.items())
    assert first.ask("presence_stats", channel="all:room")["presence_stats"] == {"num_clients": 2, "num_users": 2}
    second.socket.close()
    assert first.push("leave")["leave"]["info"]["user"] == "2"
    assert first.ask("presence_stats", channel="all:room")["presence_stats"] == {"num_clients": 1, "num_users": 1}
    first.ask("unsubscribe", channel="all:room")
    assert first.ask("presence_stats", channel="all:room")["presence_stats"] == {"num_clients": 0, "num_users": 0}


def test_subscriptions_come_with_the_token_and_are_recovered(server):
    claims = {"subs": {"all:mine": {"data": {"hello": 1}}}, "channels": ["closed:too"]}
    guest = Guest(server, **claims)
    subs = guest.connected["connect"]["subs"]
    assert subs["all:mine"]["data"] == {"hello": 1} and set(subs) == {"all:mine", "closed:too"}
    guest.ask("publish", channel="all:mine", data=1)
    assert guest.push("pub")["pub"]["offset"] == 1
    guest.socket.close()
    for count in range(3):
        assert api(server, "publish", channel="all:mine", data=count)["result"]["offset"] == count + 2
    again = Guest(server, connect=False)
    since = {"recover": True, "offset": 1, "epoch": subs["all:mine"]["epoch"]}
    # What is said behind `connect` waits for its answer.
    again.id = 1
    again.socket.send("\n".join(json.dumps(one) for one in [
        {"id": 1, "connect": {"token": jwt("secret", sub="42", **claims), "subs": {"all:mine": since, "all:other": since}}}, {"id": 2, "subscribe": {"channel": "a"}},
    ]))
    connected = again.next()
    mine = connected["connect"]["subs"]["all:mine"]
    assert [one["data"] for one in mine["publications"]] == [0, 1, 2] and mine["recovered"] and mine["offset"] == 1
    assert set(connected["connect"]["subs"]) == {"all:mine", "closed:too"}
    assert again.wait(lambda reply: reply.get("id") == 2) == {"id": 2, "subscribe": {}}


def test_a_connection_lasts_as_long_as_its_token_and_a_grace(quick):
    short = lambda seconds: jwt("secret", sub="42", exp=int(time.time()) + seconds)
    guest = Guest(quick, connect=False)
    reply = guest.ask("connect", token=short(2))["connect"]
    assert reply["expires"] is True and 1 <= reply["ttl"] <= 2
    reply = guest.ask("refresh", token=short(3))["refresh"]
    assert reply["expires"] is True and 1 <= reply["ttl"] <= 3
    begun = time.monotonic()
    assert guest.end(10) == 3005
    assert 2.5 < time.monotonic() - begun < 6
    for token, code in [(short(-1), 3005), ("nonsense", 3500), ("", 3501), (jwt("secret", sub="43"), 3500), (jwt("secret", sub="42", channel="a"), 3010)]:
        guest = Guest(quick)
        guest.say(id=2, refresh={"token": token})
        assert guest.end() == code


def test_a_subscription_lasts_as_long_as_its_token_and_a_grace(quick):
    short = lambda seconds, **claims: jwt("secret", **{"sub": "42", "channel": "$s", "exp": int(time.time()) + seconds, **claims})
    guest = Guest(quick)
    reply = guest.ask("subscribe", channel="$s", token=short(2))["subscribe"]
    assert reply["expires"] is True and 1 <= reply["ttl"] <= 2
    reply = guest.ask("sub_refresh", channel="$s", token=short(3))["sub_refresh"]
    assert reply["expires"] is True and 1 <= reply["ttl"] <= 3
    push = guest.wait(lambda reply: "unsubscribe" in reply.get("push", {}), 8)["push"]
    assert push["channel"] == "$s" and push["unsubscribe"] == {"code": 2501, "reason": "subscription expired"}
    for token, code in [(short(-1), 3006), ("nonsense", 3500), (short(9, sub="43"), 3500), (short(9, channel="a"), 3500)]:
        guest = Guest(quick)
        guest.ask("subscribe", channel="$s", token=short(60))
        guest.say(id=9, sub_refresh={"channel": "$s", "token": token})
        assert guest.end() == code


def test_a_publication_has_the_bytes_of_the_paper(server):
    guest = Guest(server)
    guest.ask("subscribe", channel="all:bytes")
    guest.push("join")
    assert api(server, "publish", channel="all:bytes", data={"x": 1})["result"]["offset"] == 1
    _, payload = guest.socket.frame()
    assert payload == b'{"push":{"channel":"all:bytes","pub":{"data":{"x": 1},"offset":1}}}'


def test_a_delta_is_a_text_from_the_second_publication_on(server):
    from centrifuge.fossil import apply_delta

    guest = Guest(server)
    assert guest.ask("subscribe", channel="all:delta", delta="fossil")["subscribe"]["delta"] is True
    values = [{"who": "somebody with a rather long name", "count": count, "text": "caf\u00e9 \U0001f514 " * count} for count in range(6)]
    have = b""
    for nth, value in enumerate(values):
        api(server, "publish", channel="all:delta", data=value)
        publication = guest.push("pub")["pub"]
        data = publication["data"]
        assert isinstance(data, str), "T7"
        if publication.get("delta"):
            have = apply_delta(have, data.encode())
        else:
            assert nth == 0
            have = data.encode()
        assert json.loads(have) == value
    plain = guest.ask("history", channel="all:delta", limit=-1)["history"]["publications"]
    assert [one["data"] for one in plain] == values


def test_a_binary_publication_ends_a_json_subscription_and_nothing_else():
    with Server("--ephemeral", "--config", str(HERE / "configs/js.json")) as server:
        guest = Guest(server, connect=False)
        guest.ask("connect")
        guest.ask("subscribe", channel="mixed")
        guest.ask("subscribe", channel="other")
        api(server, "publish", channel="mixed", b64data="/w==")
        assert guest.push("unsubscribe") == {"channel": "mixed", "unsubscribe": {"code": 2400, "reason": "binary publication"}}
        api(server, "publish", channel="other", data=1)
        assert guest.push("pub")["channel"] == "other"
        assert guest.ask("history", channel="mixed", limit=9)["error"]["code"] == 108


def test_a_slow_reader_is_sent_away_and_others_are_not(server):
    slow = Guest(server)
    slow.ask("subscribe", channel="flood")
    quick = Guest(server)
    quick.ask("subscribe", channel="flood")
    for count in range(120):
        api(server, "batch", commands=[{"publish": {"channel": "flood", "data": "x" * 15_000}} for _ in range(4)])
        for _ in range(4):
            quick.push("pub")
    until(5, "it is evicted", lambda: server.metric("campanile_slow_evicted_total") >= 1)


def test_a_shutdown_says_so():
    server = Server("--ephemeral", "--drain", "1", "--config", str(HERE / "configs/js.json")).up()
    guest = Guest(server, connect=False)
    guest.ask("connect")
    server.term()
    assert guest.end() == 3001
    assert server.ended() == 0
    server.down()


def test_the_api_wants_its_key(server):
    import urllib.error
    import urllib.request

    def status(headers, body=b'{"channel":"a","data":1}', method="publish", verb="POST"):
        request = urllib.request.Request(f"{server.http}/api/{method}", body, headers, method=verb)
        try:
            return urllib.request.urlopen(request, timeout=5).status
        except urllib.error.HTTPError as error:
            return error.code

    assert status({}) == status({"X-API-Key": "guess"}) == 401
    assert status({"X-API-Key": "key"}) == status({"Authorization": "apikey key"}) == 200
    assert status({"X-API-Key": "key"}, b"{") == 400
    assert status({"X-API-Key": "key"}, verb="GET", body=None) == 405
    assert status({"X-API-Key": "key", "X-Centrifugo-Error-Mode": "transport"}, b'{"channel":"no:such","data":1}') == 404
    assert api(server, "publish", channel="a")["error"]["code"] == 107
    assert api(server, "publish", channel="no:such", data=1)["error"]["code"] == 102


def test_a_back_end_sees_who_is_there(server):
    one = Guest(server, user="seen", info={"n": 1})
    one.ask("subscribe", channel="all:seen")
    one.push("join")
    presence = api(server, "presence", channel="all:seen")["result"]["presence"]
    client = one.connected["connect"]["client"]
    assert presence == {client: {"user": "seen", "client": client, "conn_info": {"n": 1}}}
    assert api(server, "presence_stats", channel="all:seen")["result"] == {"num_clients": 1, "num_users": 1}
    assert api(server, "presence", channel="a")["error"]["code"] == 108


def test_a_back_end_subscribes_and_unsubscribes_a_user(server):
    one, other = Guest(server, user="moved"), Guest(server, user="moved")
    assert api(server, "subscribe", user="moved", channel="all:given", data={"hello": 1}) == {"result": {}}
    for each in (one, other):
        push = each.push("subscribe")
        assert push["channel"] == "all:given" and push["subscribe"]["recoverable"] and push["subscribe"]["epoch"] and push["subscribe"]["data"] == {"hello": 1}
    api(server, "publish", channel="all:given", data="to both")
    for each in (one, other):
        assert each.push("pub")["pub"]["data"] == "to both"
    assert api(server, "unsubscribe", user="moved", channel="all:given", client=one.connected["connect"]["client"]) == {"result": {}}
    assert one.push("unsubscribe") == {"channel": "all:given", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}
    api(server, "publish", channel="all:given", data="to one")
    assert other.push("pub")["pub"]["data"] == "to one"
    assert api(server, "subscribe", user="moved", channel="no:such")["error"]["code"] == 102
    assert api(server, "subscribe", channel="all:given")["error"]["code"] == 107


def test_a_back_end_sends_a_user_away(server):
    one, other, spared = Guest(server, user="gone"), Guest(server, user="gone"), Guest(server, user="gone")
    for bad in ({"code": 7, "reason": "x"}, {"code": 4500, "reason": ""}, {"code": 4500, "reason": "{}"}, {"code": 4500, "reason": "x" * 124}):
        assert api(server, "disconnect", user="gone", disconnect=bad)["error"]["code"] == 107
    # What a core could not read, the API does not take either.
    for method in "subscribe", "disconnect":
        assert api(server, method, user="gone", channel="a", override={"presence": True})["error"]["code"] == 107
    api(server, "disconnect", user="gone", client=one.connected["connect"]["client"], disconnect={"code": 4500, "reason": "go away"})
    assert one.end() == 4500
    api(server, "disconnect", user="gone", whitelist=[spared.connected["connect"]["client"]])
    assert other.end() == 3503
    assert spared.ask("unsubscribe", channel="x") == {"id": spared.id, "unsubscribe": {}}


def test_a_back_end_prolongs_and_ends_a_connection(quick):
    one = Guest(quick, user="kept", exp=int(time.time()) + 60)
    api(quick, "refresh", user="kept", expire_at=int(time.time()) + 1)
    push = one.wait(lambda reply: "refresh" in reply.get("push", {}))["push"]
    assert push["refresh"]["expires"] is True and push["refresh"]["ttl"] == 1
    assert one.end(8) == 3005
    two = Guest(quick, user="kept")
    api(quick, "refresh", user="kept", expired=True)
    assert two.end() == 3005
