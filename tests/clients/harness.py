"""Starts `campanile dev` for a story, waits for facts with deadlines, and ends what it started by its own process id."""

import contextlib
import ctypes
import json
import os
import pathlib
import queue
import re
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
BINARY = os.environ.get("CAMPANILE", str(HERE.parent.parent / "target/release/campanile"))

for name in ("http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(name, None)
    os.environ.pop(name.upper(), None)


def until(seconds, what, fact):
    """Asks `fact` again and again until it answers something true; fails after `seconds`."""
    due = time.monotonic() + seconds
    while True:
        answer = fact()
        if answer:
            return answer
        assert time.monotonic() < due, f"not within {seconds} s: {what}"
        time.sleep(0.02)


class Refused(Exception):
    """An answer with `ok` false."""

    def __init__(self, answer):
        super().__init__(answer.get("error"))
        self.error = answer.get("error")


class Server:
    """One `campanile dev`. A second `up` comes back on the same ports and the same data."""

    def __init__(self, *flags, data=None, environment=None):
        self.flags = flags
        self.data = data or tempfile.mkdtemp(prefix="campanile-")
        self.environment = environment or {}
        self.http = self.ws = None
        self.process = None

    def __enter__(self):
        return self.up()

    def __exit__(self, *_):
        self.down()

    def spawn(self, http="127.0.0.1:0", ws="127.0.0.1:0"):
        return self.launch([BINARY, "dev", "--http", http, "--ws", ws, "--data", str(self.data), *self.flags])

    def launch(self, command):
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **self.environment}
        )
        self.said = bytearray()
        self._listener = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self._listener.start()
        return self

    def _listen(self, process):
        for line in process.stderr:
            self.said += line

    def up(self, seconds=20):
        self.spawn(self.http_at or "127.0.0.1:0", self.ws_at or "127.0.0.1:0")
        line = self.ready_line(seconds)
        assert line.startswith("ready "), f"no ready line but {line!r}: {self.words()}"
        pairs = dict(pair.split("=", 1) for pair in line.split()[1:])
        self.http, self.ws = pairs["http"].rstrip("/"), pairs["ws"].rstrip("/")
        with urllib.request.urlopen(f"{self.http}/dev/workspace.json", timeout=5) as answer:
            self.workspace = json.load(answer)
        return self

    def ready_line(self, seconds):
        due = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            left = due - time.monotonic()
            assert left > 0, f"no ready line within {seconds} s: {self.words()}"
            if select.select([self.process.stdout], [], [], left)[0]:
                byte = os.read(self.process.stdout.fileno(), 1)
                if not byte:
                    break
                line += byte
        return line.decode().strip()

    def words(self):
        """What it said on stderr."""
        return bytes(self.said).decode(errors="replace")

    def ended(self, seconds=15):
        """Waits for its end: exit code, and all of its words are read."""
        code = self.process.wait(seconds)
        self._listener.join(5)
        return code

    def term(self):
        self.process.send_signal(signal.SIGTERM)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def down(self):
        self.kill()
        if self.process and self.process.stdout:
            self.process.stdout.close()
        shutil.rmtree(self.data, ignore_errors=True)

    def operate(self, *words, code=0):
        """An operator's word to it: what it answers, or with another code what it says."""
        command = [BINARY, "ctl", "--webapp", self.http, "--key", str(pathlib.Path(self.data) / "key"), "--json", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, f"{words}: {done.returncode}: {done.stderr}"
        return json.loads(done.stdout) if code == 0 else done.stderr

    # -- where and who

    @property
    def http_at(self):
        return self.http and self.http.split("://")[1]

    @property
    def ws_at(self):
        return self.ws and self.ws.split("://")[1]

    @property
    def api(self):
        return f"{self.http}/api/"

    @property
    def pid(self):
        return self.process.pid

    def user(self, name):
        return next(user for user in self.workspace["users"] if user["name"] == name)

    def id(self, name):
        return self.user(name)["id"]

    def token(self, name):
        return self.user(name)["token"]

    def channel(self, name):
        return next(channel["id"] for channel in self.workspace["channels"] if channel["name"] == name)

    # -- asking

    def ask(self, method, arguments=None, token=None, headers=None, seconds=10):
        """One call as it is: (status, headers, value)."""
        body = urllib.parse.urlencode(arguments or {}).encode()
        request = urllib.request.Request(self.api + method, body, headers or {})
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return answer.status, answer.headers, json.load(answer)
        except urllib.error.HTTPError as answer:
            with answer:
                text = answer.read()
            try:
                value = json.loads(text)
            except ValueError:
                value = {"ok": False, "error": text.decode(errors="replace")}
            return answer.code, answer.headers, value

    def call(self, name, method, /, **arguments):
        """One call that succeeds, by a user's name."""
        _, _, value = self.ask(method, arguments, self.token(name))
        if not value.get("ok"):
            raise Refused(value)
        return value

    def say(self, name, channel, text, /, **more):
        return self.call(name, "chat.postMessage", channel=channel, text=text, **more)

    def new_channel(self, name, *members):
        """A channel of its own for a story: created by the first member, joined by the others."""
        channel = self.call(members[0], "conversations.create", name=name)["channel"]["id"]
        for member in members[1:]:
            self.call(member, "conversations.join", channel=channel)
        return channel

    def events(self, name, seq_of, start=1):
        """Everything that the database has of one channel, oldest first."""
        found = []
        while True:
            answer = self.call(name, "events.list", **{"seq_of": seq_of, "from": start})
            found += answer["events"]
            if not answer["events"] or found[-1]["seq"] >= answer["tip"]:
                return found
            start = found[-1]["seq"] + 1

    def tip(self, name, seq_of):
        """How far the database is in one channel."""
        return self.call(name, "events.list", **{"seq_of": seq_of, "from": 1, "to": 1})["tip"]

    def metrics(self):
        """Every sample of /metrics: {(name, frozenset of labels): value}."""
        with urllib.request.urlopen(f"{self.http}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        samples = {}
        for line in text.splitlines():
            match = re.match(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line)
            if match and not line.startswith("#"):
                labels = frozenset(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
                samples[match[1], labels] = float(match[3])
        return samples

    def metric(self, name, **labels):
        """The sum of the samples of that name with at least these labels."""
        wanted = set(labels.items())
        hits = [value for (key, have), value in self.metrics().items() if key == name and wanted <= have]
        assert hits, f"/metrics has no {name}{labels or ''}"
        return sum(hits)

    # -- what the kernel says of it

    @contextlib.contextmanager
    def stopped_core(self, core):
        """One core's thread stands still, as one does that waits for a CPU; all others go on."""
        tasks = pathlib.Path(f"/proc/{self.pid}/task")
        thread = min(int(task.name) for task in tasks.iterdir() if (task / "comm").read_text().startswith(f"core-{core}-"))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        attach, detach = 16, 17
        assert libc.ptrace(attach, thread, None, None) == 0, os.strerror(ctypes.get_errno())
        os.waitpid(thread, 0x40000000)  # __WALL: threads too
        try:
            yield
        finally:
            assert libc.ptrace(detach, thread, None, None) == 0, os.strerror(ctypes.get_errno())

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Stream:
    """What a client was given, from its own thread, to be waited for here."""

    def __init__(self):
        self._queue = queue.Queue()
        self.all = []

    def put(self, value):
        self._queue.put(value)

    def wait(self, seconds, what, wanted):
        """The first value that fits, also among those that came earlier and were not taken yet."""
        for at, value in enumerate(self.all):
            if wanted(value):
                return self.all.pop(at)
        due = time.monotonic() + seconds
        while True:
            try:
                value = self._queue.get(timeout=max(0.001, due - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not within {seconds} s: {what}; seen {self.all[-8:]}") from None
            if wanted(value):
                return value
            self.all.append(value)
