"""One port for all: what comes to the websocket port and speaks plain HTTP is handed over, whole, and nothing of it is lost or read twice."""

import http.client
import json
import socket
import subprocess
import threading
import urllib.request

import pytest
from slack_sdk.web import WebClient

from harness import Server, until
from ports import free_port
from rtm import Socket
from test_centrifuge import jwt


class OnePort(Server):
    """HTTP and websockets by one address."""

    def up(self, seconds=20):
        self.http = self.ws = f"x://127.0.0.1:{free_port()}"
        return super().up(seconds)


@pytest.fixture(scope="module")
def one_port():
    with OnePort("--ephemeral", "--cores", "2") as server:
        assert server.http_at == server.ws_at
        yield server


def test_slack_and_centrifuge_and_the_page_come_by_one_port(one_port):
    web = WebClient(token=one_port.token("alice"), base_url=one_port.api)
    channel = web.conversations_list()["channels"][0]["id"]
    ticket = web.rtm_connect()["url"]
    assert ticket.startswith(f"ws://{one_port.ws_at}/")
    rtm = Socket(ticket)
    next_event = lambda kind: next(event for event in iter(lambda: json.loads(rtm.frame()[1]), None) if event.get("type") == kind)
    assert next_event("hello")
    WebClient(token=one_port.token("bob"), base_url=one_port.api).chat_postMessage(channel=channel, text="by one port")
    assert next_event("message")["text"] == "by one port"
    with urllib.request.urlopen(one_port.http, timeout=5) as page:
        assert b"<html" in page.read().lower()
    guest = Socket(f"ws://{one_port.ws_at}/connection/websocket")
    guest.send(json.dumps({"id": 1, "connect": {"token": jwt(one_port.workspace["centrifuge"]["token_secret"], sub="42")}}))
    assert json.loads(guest.frame()[1])["connect"]["client"]


def test_a_connection_is_kept_alive_and_its_requests_stay_in_order(one_port):
    connection = http.client.HTTPConnection(one_port.http_at, timeout=10)
    for count in range(50):
        body = json.dumps({"text": "x" * count * 500})
        connection.request("POST", "/api/api.test", body, {"Content-Type": "application/json"})
        answer = json.load(connection.getresponse())
        assert answer["ok"] and len(answer["args"]["text"]) == count * 500
    sock = connection.sock
    connection.request("GET", "/connection/websocket", headers={
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    })
    answer = connection.getresponse()
    assert answer.status == 426 and connection.sock in (sock, None)
    answer.read()


def test_a_request_may_come_in_any_pieces(one_port):
    body = json.dumps({"word": "pieces" * 3_000}).encode()
    head = f"POST /api/api.test HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    whole = head + body
    for cut in (1, 10, len(head) - 1, len(head), len(head) + 1, len(head) + 9_000):
        with socket.create_connection(one_port.ws_at.split(":"), timeout=10) as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.sendall(whole[:cut])
            threading.Event().wait(0.05)
            raw.sendall(whole[cut:])
            answer = b""
            while part := raw.recv(65536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200") and answer.count(b"pieces") == 3_000, cut
    # Two requests at once: both are answered, in order.
    with socket.create_connection(one_port.ws_at.split(":"), timeout=10) as raw:
        ask = "GET /api/api.test?n={} HTTP/1.1\r\nHost: a\r\n{}\r\n"
        raw.sendall((ask.format(1, "") + ask.format(2, "Connection: close\r\n")).encode())
        answer = b""
        while part := raw.recv(65536):
            answer += part
    assert answer.count(b"HTTP/1.1 200") == 2 and answer.index(b'"n":"1"') < answer.index(b'"n":"2"')


def test_what_is_no_http_is_not_handed_over(one_port):
    for nonsense in b"nonsense\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\nHost: a\n\n\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 20_000 + b"\r\n\r\n":
        with socket.create_connection(one_port.ws_at.split(":"), timeout=10) as raw:
            raw.sendall(nonsense)
            assert raw.recv(100).split(b" ")[1] in (b"400", b"431"), nonsense[:20]


def test_many_connections_are_handed_over_and_given_back(one_port):
    def descriptors():
        return len(list((one_port_fds()).iterdir()))

    def one_port_fds():
        import pathlib

        return pathlib.Path(f"/proc/{one_port.pid}/fd")

    before = descriptors()
    for _ in range(5):
        open_ones = [http.client.HTTPConnection(one_port.http_at, timeout=10) for _ in range(100)]
        for one in open_ones:
            one.request("GET", "/health")
        for one in open_ones:
            assert one.getresponse().read() is not None
            one.close()
    until(10, "all are closed", lambda: descriptors() <= before + 5)


def test_the_api_may_have_a_listener_of_its_own():
    port = free_port()
    with Server("--ephemeral", "--api", f"127.0.0.1:{port}") as server:
        address = server.workspace["centrifuge"]["api_url"]
        assert address == f"http://127.0.0.1:{port}/api"
        key = {"X-API-Key": server.workspace["centrifuge"]["api_key"]}
        request = lambda base: urllib.request.Request(f"{base}/publish", b'{"channel":"a","data":1}', key)
        with urllib.request.urlopen(request(address), timeout=5) as answer:
            assert json.load(answer)["result"]["offset"] == 1
        with urllib.request.urlopen(request(f"{server.http}/api"), timeout=5) as answer:
            assert json.load(answer)["error"] == "unknown_method", "there it is Slack's"
