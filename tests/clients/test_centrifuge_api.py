"""What back ends ask of channels besides publishing, and what subscribers ask besides all of it: keys, versions, lifetimes, caches, filters."""

import base64
import http.server
import json
import threading
import time

import pytest

from test_centrifuge import api
from test_centrifuge_wire import Guest, serve

FREE = {"allow_subscribe_for_client": True, "allow_publish_for_client": True, "allow_history_for_client": True}
STREAM = {**FREE, "history_size": 10, "history_ttl": "60s", "force_recovery": True}
CONFIG = {
    "client": {"token": {"hmac_secret_key": "secret"}},
    "http_api": {"key": "key"},
    "channel": {
        "without_namespace": {**STREAM, "allowed_delta_types": ["fossil"], "delta_publish": True},
        "namespaces": [
            {"name": "brief", **STREAM, "history_ttl": "1s"},
            {"name": "cache", **STREAM, "force_recovery_mode": "cache"},
            {"name": "auto", **STREAM, "force_recovery_mode": "cache", "auto_cache_recover": True},
            {"name": "tagged", **STREAM, "allow_tags_filter": True},
            {"name": "numbers", **FREE, "channel_regex": "^[0-9]+$"},
            {"name": "words", **FREE, "channel_regex": "^\\p{L}+$"},
        ],
    },
}


class BackEnd(http.server.BaseHTTPRequestHandler):
    """Answers calls as an operator's back end does: `method` says how."""

    asked = []

    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(call)
        answers = {
            "echo": {"result": {"data": {"heard": call.get("data"), "user": call["user"]}}},
            "bytes": {"result": {"b64data": base64.b64encode(b"\x00\x01").decode()}},
            "empty": {"result": {}},
            "refuse": {"error": {"code": 1000, "message": "no money", "temporary": True}},
            "leave": {"disconnect": {"code": 4500, "reason": "go away"}},
            "leave-silently": {"disconnect": {"code": 4500, "reason": ""}},
            "nonsense": [],
            "long": {"result": {"data": "x" * 300_000}},
        }
        method = call["method"].split(":")[-1]
        if method == "slow":
            time.sleep(1.5)
        body = json.dumps(answers.get(method, {"result": {}})).encode()
        self.send_response(500 if method == "broken" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    back_end = http.server.ThreadingHTTPServer(("127.0.0.1", 0), BackEnd)
    threading.Thread(target=back_end.serve_forever, daemon=True).start()
    rpc = {
        "proxy": {"endpoint": f"http://127.0.0.1:{back_end.server_port}/rpc", "timeout": "1s"},
        "without_namespace": {"proxy_enabled": True},
        "namespaces": [{"name": "shop", "proxy_enabled": True}, {"name": "closed"}],
    }
    with serve(tmp_path_factory.mktemp("config"), {**CONFIG, "rpc": rpc}) as one:
        yield one
    back_end.shutdown()


def data_of(guest, seconds=0.3):
    """What was pushed until nothing comes for a while."""
    heard = []
    try:
        while True:
            reply = guest.next(seconds)
            if "pub" in reply.get("push", {}):
                heard.append(reply["push"]["pub"]["data"])
    except TimeoutError:
        return heard


def history(server, channel):
    result = api(server, "history", channel=channel, limit=-1)["result"]
    return [one["data"] for one in result["publications"]], result["offset"]


def test_a_key_counts_once(server):
    guest = Guest(server)
    guest.ask("subscribe", channel="once")
    first = api(server, "publish", channel="once", data=1, idempotency_key="k")
    assert first["result"]["offset"] == 1
    assert api(server, "publish", channel="once", data=2, idempotency_key="k") == first
    assert api(server, "publish", channel="once", data=3, idempotency_key="other")["result"]["offset"] == 2
    both = api(server, "broadcast", channels=["once", "once-more"], data=4, idempotency_key="k")["result"]["responses"]
    assert both[0] == first and both[1]["result"]["offset"] == 1, "a key of another channel is another"
    assert data_of(guest) == [1, 3] and history(server, "once") == ([1, 3], 2)


def test_an_old_version_is_acknowledged_and_not_published(server):
    publish = lambda data, **more: api(server, "publish", channel="versions", data=data, **more)["result"]["offset"]
    assert publish(1, version=5) == 1
    assert publish(2, version=5) == 1 and publish(3, version=4) == 1
    assert publish(4, version=6) == 2
    assert publish(5, version=1, version_epoch="new") == 3
    assert history(server, "versions") == ([1, 4, 5], 3)


def test_what_skips_history_takes_no_place(server):
    plain, delta = Guest(server), Guest(server)
    plain.ask("subscribe", channel="skip")
    assert delta.ask("subscribe", channel="skip", delta="fossil")["subscribe"]["delta"]
    text = {"text": "x" * 200}
    api(server, "publish", channel="skip", data={**text, "n": 1})
    assert api(server, "publish", channel="skip", data={**text, "n": 2}, skip_history=True) == {"result": {}}
    api(server, "publish", channel="skip", data={**text, "n": 3})
    api(server, "publish", channel="skip", data={**text, "n": 4})
    pushed = [plain.push("pub")["pub"] for _ in range(4)]
    assert [one["data"]["n"] for one in pushed] == [1, 2, 3, 4]
    assert [one.get("offset") for one in pushed] == [1, None, 2, 3]
    deltas = [delta.push("pub")["pub"] for _ in range(4)]
    # What stands between breaks the chain: the next one is whole.
    assert [one.get("delta", False) for one in deltas] == [False, False, False, True]
    assert [json.loads(one["data"])["n"] for one in deltas[:3]] == [1, 2, 3]
    assert [one["n"] for one in history(server, "skip")[0]] == [1, 3, 4]


def test_a_removed_history_is_gone_and_the_place_stays(server):
    for n in range(3):
        api(server, "publish", channel="removed", data=n)
    assert api(server, "history_remove", channel="removed") == {"result": {}}
    assert history(server, "removed") == ([], 3)
    epoch = api(server, "history", channel="removed")["result"]["epoch"]
    lost = Guest(server).ask("subscribe", channel="removed", recover=True, epoch=epoch, offset=1)["subscribe"]
    assert lost.get("recovered", False) is False and "publications" not in lost and lost["offset"] == 3
    assert api(server, "publish", channel="removed", data=3)["result"]["offset"] == 4
    assert history(server, "removed") == ([3], 4)
    assert api(server, "history_remove", channel="numbers:1")["error"]["code"] == 108


def test_history_ends_with_its_time(server):
    for n in range(3):
        api(server, "publish", channel="brief:a", data=n)
    assert history(server, "brief:a") == ([0, 1, 2], 3)
    epoch = api(server, "history", channel="brief:a")["result"]["epoch"]
    time.sleep(2.1)
    assert history(server, "brief:a") == ([], 3)
    behind = Guest(server).ask("subscribe", channel="brief:a", recover=True, epoch=epoch, offset=2)["subscribe"]
    assert not behind.get("recovered") and "publications" not in behind
    assert Guest(server).ask("subscribe", channel="brief:a", recover=True, epoch=epoch, offset=3)["subscribe"]["recovered"]
    # A newer publication is found, and what its time had run out before is not.
    api(server, "publish", channel="brief:a", data=3)
    assert history(server, "brief:a") == ([3], 4)


def test_channels_and_nodes_are_told(server):
    one, other = Guest(server, user="c1"), Guest(server, user="c2")
    for guest in one, other:
        guest.ask("subscribe", channel="census-a")
    one.ask("subscribe", channel="census-b")
    assert api(server, "channels", pattern="census-*")["result"]["channels"] == {"census-a": {"num_clients": 2}, "census-b": {"num_clients": 1}}
    assert "census-a" in api(server, "channels")["result"]["channels"]
    assert api(server, "channels", pattern="census-[")["error"]["code"] == 107
    [node] = api(server, "info")["result"]["nodes"]
    assert node["num_clients"] >= 2 and node["num_users"] >= 2 and node["num_subs"] >= 3 and node["num_channels"] >= 2
    assert node["uid"] and node["name"] and node["version"] and node["uptime"] >= 0


def test_a_cache_gives_the_newest(server):
    empty = Guest(server).ask("subscribe", channel="cache:a", recover=True)["subscribe"]
    assert empty["recovered"] and "publications" not in empty
    for n in range(5):
        api(server, "publish", channel="cache:a", data=n)
    late = Guest(server).ask("subscribe", channel="cache:a", recover=True, epoch="other", offset=1)["subscribe"]
    assert late["recovered"] and [(one["data"], one["offset"]) for one in late["publications"]] == [(4, 5)]
    current = Guest(server).ask("subscribe", channel="cache:a", recover=True, epoch=late["epoch"], offset=5)["subscribe"]
    assert current["recovered"] and "publications" not in current and current["offset"] == 5
    assert "recovered" not in Guest(server).ask("subscribe", channel="cache:a")["subscribe"]
    api(server, "publish", channel="auto:a", data="newest")
    asked = Guest(server)
    unasked = asked.ask("subscribe", channel="auto:a")["subscribe"]
    assert unasked["recovered"] and unasked["publications"][0]["data"] == "newest"
    api(server, "publish", channel="auto:a", data="live")
    assert asked.push("pub")["pub"]["data"] == "live"


def test_a_filter_lets_through_what_it_says(server):
    picky, other = Guest(server), Guest(server)
    wanted = {"op": "and", "nodes": [{"key": "ticker", "cmp": "eq", "val": "BTC"}, {"key": "price", "cmp": "gt", "val": "10"}]}
    assert "subscribe" in picky.ask("subscribe", channel="tagged:a", tf=wanted)
    other.ask("subscribe", channel="tagged:a")
    for price in 5, 50, 7, 70:
        api(server, "publish", channel="tagged:a", data=price, tags={"ticker": "BTC", "price": str(price)})
    api(server, "publish", channel="tagged:a", data="none")
    api(server, "publish", channel="tagged:a", data="passing", tags={"ticker": "BTC", "price": "9"}, skip_history=True)
    assert data_of(other) == [5, 50, 7, 70, "none", "passing"]
    assert data_of(picky) == [50, 70]
    back = Guest(server).ask("subscribe", channel="tagged:a", tf=wanted, recover=True)["subscribe"]
    assert back["recovered"] and [one["data"] for one in back["publications"]] == [50, 70] and back["offset"] == 5
    for command in (
        {"channel": "plain", "tf": wanted},
        {"channel": "tagged:b", "tf": wanted, "delta": "fossil"},
        {"channel": "tagged:b", "tf": {"key": "a", "cmp": "is", "val": "b"}},
        {"channel": "tagged:b", "tf": {}},
    ):
        assert Guest(server).ask("subscribe", **command)["error"]["code"] == 107, command


def test_a_namespace_says_which_names_it_has(server):
    guest = Guest(server)
    for channel in "numbers:12", "words:caf\u00e9":
        assert "subscribe" in guest.ask("subscribe", channel=channel)
        api(server, "publish", channel=channel, data=1)
        assert guest.push("pub")["channel"] == channel
    for channel in "numbers:x", "numbers:", "words:a b", "caf\u00e9":
        assert guest.ask("subscribe", channel=channel)["error"]["code"] == 107
        assert api(server, "publish", channel=channel, data=1)["error"]["code"] == 107


def test_a_back_end_answers_calls(server):
    guest = Guest(server, user="caller")
    call = lambda method, data=None: guest.ask("rpc", method=method, data=data)
    BackEnd.asked.clear()
    assert call("echo", {"a": 1})["rpc"] == {"data": {"heard": {"a": 1}, "user": "caller"}}
    [asked] = BackEnd.asked
    client = guest.connected["connect"]["client"]
    assert asked == {"client": client, "transport": "websocket", "protocol": "json", "encoding": "json", "user": "caller", "method": "echo", "data": {"a": 1}}
    assert call("shop:echo")["rpc"]["data"]["user"] == "caller"
    assert call("empty")["rpc"] == {}
    assert call("refuse")["error"] == {"code": 1000, "message": "no money", "temporary": True}
    assert call("closed:echo")["error"]["code"] == 108 and call("unknown:echo")["error"]["code"] == 108
    # What no client could be told, and what nobody answers in time, is an error, and others go on.
    for method in "bytes", "nonsense", "long", "broken", "leave-silently", "slow":
        assert call(method)["error"] == {"code": 100, "message": "internal server error", "temporary": True}, method
    assert call("echo")["rpc"]
    guest.id += 1
    guest.say(id=guest.id, rpc={"method": "leave"})
    assert guest.end() == 4500
