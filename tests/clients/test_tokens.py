"""The team, users and tokens as an operator makes and revokes them; clients of a revoked token are gone within a second."""

import hashlib
import json
import pathlib
import signal
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.rtm_v2 import RTMClient
from slack_sdk.web import WebClient

from cluster import Cell
from harness import BINARY, Stream, until
from rtm import CLOSE, Client, Socket

WITHIN = 1.0


class Sdk:
    """An unmodified RTMClient, what it was told, and when its connection ended."""

    def __init__(self, server, token):
        self.stream = Stream()
        self.closed = []
        self.rtm = RTMClient(token=token, base_url=server.api, auto_reconnect_enabled=False)
        self.rtm.on("*")(lambda client, event: self.stream.put(event))
        self.rtm.on_close_listeners.append(lambda *_: self.closed.append(time.monotonic()))
        self.rtm.connect()
        self.stream.wait(10, "hello", lambda event: event.get("type") == "hello")

    def hears(self, text, seconds=5):
        return self.stream.wait(seconds, text, lambda event: event.get("text") == text)


def connected(server, token):
    """A connection of our own, by a ticket of this token."""
    _, _, boot = server.ask("rtm.connect", token=token)
    assert boot["ok"], boot
    one = Socket(boot["url"], seconds=5)
    assert json.loads(one.frame()[1])["type"] == "hello"
    return one


def end_of(one):
    """What a connection is told last: the error, the code and reason of its Close, and when."""
    error = None
    while True:
        opcode, payload = one.frame()
        if opcode == CLOSE:
            return error, int.from_bytes(payload[:2], "big"), payload[2:].decode(), time.monotonic()
        event = json.loads(payload)
        if event.get("type") == "error":
            error = event["error"]


def revoked_in_time(server, operate, user):
    """A user with two tokens, one of which is revoked: its connections go, the others stay."""
    lost, kept = (operate("token", "create", user, "--label", label) for label in ("lost", "kept"))
    assert lost["token"].startswith("xoxp-") and lost["id"] != kept["id"]
    sdk, other = Sdk(server, lost["token"]), Sdk(server, kept["token"])
    raw, ticket = connected(server, lost["token"]), server.ask("rtm.connect", token=lost["token"])[2]
    began = time.monotonic()
    done = operate("token", "revoke", str(lost["id"]))
    acknowledged = time.monotonic()
    assert done["tokens"] == [lost["id"]] and done["is_new"] is True
    error, code, reason, ended = end_of(raw)
    assert error == {"code": 20, "msg": "token_revoked"} and (code, reason) == (1008, "token_revoked")
    assert ended - began < WITHIN, f"{ended - began:.3f} s after the command began"
    until(WITHIN, "slack_sdk is told of the end", lambda: sdk.closed)
    assert sdk.closed[0] - began < WITHIN and not other.closed
    sdk.stream.wait(WITHIN, "the error", lambda event: event.get("error") == {"code": 20, "msg": "token_revoked"})
    # Nothing that came of it opens anything.
    for method in ("auth.test", "rtm.connect", "chat.postMessage"):
        assert server.ask(method, {"channel": "general", "text": "x"}, lost["token"])[2]["error"] == "token_revoked", method
    with pytest.raises(SlackApiError, match="token_revoked"):
        WebClient(token=lost["token"], base_url=server.api).rtm_connect()
    late = Socket(ticket["url"], seconds=5)
    assert end_of(late)[1] == 1008
    # Who came by the other token hears what is said from now on, and who came by the revoked one does not.
    time.sleep(max(0, WITHIN - (time.monotonic() - acknowledged)))
    server.say("bob", "general", f"after {lost['id']}")
    other.hears(f"after {lost['id']}")
    assert not any(event.get("text") == f"after {lost['id']}" for event in sdk.stream.all)
    assert other.rtm.is_connected()
    again = operate("token", "revoke", lost["token"])
    assert again["tokens"] == [lost["id"]] and again["is_new"] is False
    sdk.rtm.close()
    other.rtm.close()
    return lost, kept


def test_a_revoked_token_ends_its_connections_and_no_others(fresh):
    server = fresh().up()
    lost, kept = revoked_in_time(server, server.operate, "alice")
    listed = server.operate("token", "list", "alice")["tokens"]
    assert [(token["label"], token["revoked"] is not None) for token in listed] == [("demo", False), ("lost", True), ("kept", False)]
    for text in (json.dumps(listed), subprocess.run([BINARY, "ctl", "--webapp", server.http, "--key", f"{server.data}/key", "token", "list"], capture_output=True, text=True, check=True).stdout):
        assert not any(token["token"] in text for token in (lost, kept)), "never the token itself"
    # The next process knows no other truth, and tells the tokens of its demo again.
    before = server.workspace
    server.term()
    assert server.ended() == 0
    server.up()
    assert server.workspace == before
    assert server.ask("auth.test", token=lost["token"])[2]["error"] == "token_revoked"
    assert server.ask("auth.test", token=kept["token"])[2]["user"] == "alice"
    server.term()
    assert server.ended() == 0
    database = sqlite3.connect(f"{server.data}/campanile.sqlite")
    hashes = {row[0] for row in database.execute("SELECT hash FROM tokens")}
    assert hashlib.sha256(kept["token"].encode()).digest() in hashes
    files = b"".join(path.read_bytes() for path in pathlib.Path(server.data).iterdir() if path.is_file())
    assert kept["token"].encode() not in files and before["users"][0]["token"].encode() not in files


def test_a_revoked_user_comes_in_no_more(fresh):
    server = fresh().up()
    made = server.operate("user", "create", "dave", "--real-name", "Dave D.")["user"]
    assert made["real_name"] == "Dave D." and made["revoked"] is False
    token = server.operate("token", "create", "dave")["token"]
    dave, alice = connected(server, token), Client(server, "alice").connect()
    began = time.monotonic()
    done = server.operate("user", "revoke", "dave")
    assert done["user"]["revoked"] is True and len(done["tokens"]) == 1
    *_, reason, ended = end_of(dave)
    assert reason == "token_revoked" and ended - began < WITHIN
    assert server.ask("auth.test", token=token)[2]["error"] == "account_inactive"
    assert server.call("alice", "users.info", user=made["id"])["user"]["deleted"] is True
    told = server.events("alice", server.workspace["team"]["id"])[-1]
    assert told["type"] == "user_change" and told["user"]["deleted"] is True
    assert "nobody comes in" in server.operate("token", "create", "dave", code=1)
    assert server.operate("user", "revoke", made["id"])["is_new"] is False
    alice.drop()


def test_what_makes_no_sense_is_a_sentence(fresh, tmp_path):
    server = fresh().up()
    for words, why in (
        (("team", "create", "Other"), "has its team already: Campanile"),
        (("user", "create", "alice"), "there is a user alice already"),
        (("user", "create", "A B"), "small letters"),
        (("user", "revoke", "nobody"), "there is no user nobody"),
        (("token", "create", "nobody"), "there is no user nobody"),
        (("token", "create", "alice", "--label", "x" * 81), "80 characters"),
        (("token", "list", "nobody"), "there is no user nobody"),
        (("token", "revoke", "4000"), "there is no token 4000"),
        (("token", "revoke", "xoxp-secret"), "there is no token like this"),
    ):
        said = server.operate(*words, code=1)
        assert why in said and "secret" not in said, (words, said)
    key = tmp_path / "key"
    for text, why in (("0" * 64, "another key"), ("short", "fewer than 32 bytes")):
        key.write_text(text)
        done = subprocess.run([BINARY, "ctl", "--webapp", server.http, "--key", str(key), "user", "list"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and why in done.stderr, done.stderr
    done = subprocess.run([BINARY, "ctl", "--webapp", "http://127.0.0.1:9", "--key", f"{server.data}/key", "user", "list"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "refused" in done.stderr.lower(), done.stderr
    # People read lines.
    done = subprocess.run([BINARY, "ctl", "--webapp", server.http, "--key", f"{server.data}/key", "user", "list"], capture_output=True, text=True, check=True)
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["alice", "bob", "carol", "bot"]


def test_a_cell_begins_without_a_workspace_and_revokes_over_its_gateways():
    with Cell("cs1", "cs2", gateways=2, demo=False) as cell:
        server = cell.web
        for path in ("/dev/workspace.json", "/dev/users"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(server.http + path, timeout=5)
        assert [user["name"] for user in cell.operate("user", "list")["users"]] == ["alice", "bob"]
        assert cell.operate("team", "list")["teams"] == [server.workspace["team"]]
        assert "has its team already" in cell.operate("team", "create", "Other", code=1)
        revoked_in_time(server, cell.operate, "alice")


@pytest.mark.parametrize("webapp_dies", [False, True])
def test_a_gateway_that_was_cut_off_hears_of_it_when_it_is_back(webapp_dies):
    with Cell("cs1", demo=False, is_kept=True) as cell:
        server = cell.web
        lost = cell.operate("token", "create", "alice")
        one = connected(server, lost["token"])
        cell.gateway.process.send_signal(signal.SIGSTOP)
        try:
            # Longer than a link may be silent.
            time.sleep(2)
            assert cell.operate("token", "revoke", str(lost["id"]))["is_new"] is True
            if webapp_dies:
                cell.web.kill()
                cell.web.up()
            time.sleep(1)
        finally:
            cell.gateway.process.send_signal(signal.SIGCONT)
        began = time.monotonic()
        *_, reason, ended = end_of(one)
        assert reason == "token_revoked" and ended - began < 2 * WITHIN, f"{reason} {ended - began:.3f} s"
