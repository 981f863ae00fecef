"""The walk-through of the README, word for word: its commands are run on three hosts, which are network namespaces here.

A block says in its first line where it is run: `# on every host` (with N as the host's number) or `# on host 1`; or it names the file that it
is. The plug of host 3, where it is pulled, is its cable, and everything that runs there is killed. Needs root and what `tests/cluster.sh` installs, which runs it: `tests/cluster.sh --walk`.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from cases.network import Network
from cases.postgres import PostgresServer
from harness import BINARY, HERE, until

ROOT = HERE.parent.parent
HEADING = "## Three hosts, step by step"
STEP = re.compile(r"^```\w+\n(.*?)^```$|pull the plug of host (\d)", re.MULTILINE | re.DOTALL)
HOSTS, STEP_SECONDS = (1, 2, 3), 60


def steps():
    """Blocks, and plugs that are pulled (their hosts)."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index(HEADING) + len(HEADING) :]
    return [block or int(host) for block, host in STEP.findall(section[: section.index("\n## ")])]


class Walk:
    """Three hosts with a directory each, and what the README says to do there."""

    def __init__(self):
        self.network = Network("10.0.0", own=254, first=1)
        self.hosts = {number: self.network.host(f"host{number}") for number in HOSTS}
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="campanile-walk-"))
        self.shown = []
        for number in HOSTS:
            self.directory(number).mkdir()
        (bin := self.home / "bin").mkdir()
        (bin / "campanile").symlink_to(BINARY)
        self.home.chmod(0o755)
        self.database = PostgresServer(self.hosts[1], owner="postgres", database="postgres")
        path = [str(bin), str(pathlib.Path(sys.executable).parent), str(ROOT / "target/tools"), os.environ["PATH"]]
        # Nothing of it is reached by anybody's proxy.
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self.environment = environment | {"PATH": ":".join(path), "PGHOST": "127.0.0.1"}

    def directory(self, number):
        return self.home / str(number)

    def step(self, block):
        first = block.splitlines()[0]
        if name := re.match(r"# (\w+\.\w+)", first):
            for number in HOSTS:
                (self.directory(number) / name[1]).write_text(block)
            return
        print(first, flush=True)
        for number in HOSTS if first.startswith("# on every host") else [int(re.match(r"# on host (\d)", first)[1])]:
            if "when it is back" in first:
                self.hosts[number].heal()
            self.run(number, block)

    def run(self, number, block):
        """As a person would: in a shell, which stays in the background what is put there."""
        directory = self.directory(number)
        words = directory / "words"
        command = [*self.hosts[number].prefix, "bash", "-euc", block]
        with open(words, "wb") as file:
            step = subprocess.Popen(command, cwd=directory, env=self.environment | {"N": str(number)}, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
        try:
            code = step.wait(STEP_SECONDS)
        except subprocess.TimeoutExpired:
            step.kill()
            code = f"nothing after {STEP_SECONDS} s"
        said = words.read_text()
        if "ctl ring show" in block:
            self.shown.append(said)
        print("".join(f"  host {number}: {line}\n" for line in said.splitlines()), end="", flush=True)
        assert code == 0, f"ended with {code}: {block}\n{self.logs()}"
        # What is said to be copied to the others.
        if "scp cell.key" in block:
            for other in set(HOSTS) - {number}:
                shutil.copy(directory / "cell.key", self.directory(other))

    def no_light(self, number):
        print(f"# host {number} has no light", flush=True)
        self.hosts[number].cut()
        for pid in self.pids(number):
            os.kill(pid, signal.SIGKILL)

    def is_as_told(self):
        words = (self.directory(1) / "talk.log").read_text()
        assert "all heard, once and in order" in words, words
        fastest, slowest = map(float, re.search(r"silence ([\d.]+) to ([\d.]+) s", words).groups())
        # An election of Consul is in it where host 3 led.
        assert fastest < slowest < 10, "some channels waited for their new owner, and not long"
        shares = [re.search(r"^cs3 .* (\d+) +(\d+) +(\d+)$", said, re.MULTILINE) for said in self.shown]
        before, without, after = [share and int(share[1]) for share in shares]
        assert before and not without and after, "host 3 had seats, had none, and has some again"

    def pids(self, number):
        done = subprocess.run(["ip", "netns", "pids", self.hosts[number].name], capture_output=True, text=True, check=True, timeout=10)
        return [int(pid) for pid in done.stdout.split()]

    def logs(self):
        return "\n".join(f"== {path}\n{path.read_text()[-2000:]}" for path in sorted(self.home.glob("?/*.log")))

    def down(self):
        self.database.down()
        for number in HOSTS:
            for pid in self.pids(number):
                os.kill(pid, signal.SIGKILL)
            until(10, "all have ended", lambda: not self.pids(number))
        self.network.down()
        shutil.rmtree(self.home, ignore_errors=True)


def main():
    if "--here" not in sys.argv:
        # A network of our own: nobody's real 10.0.0.0 is near it.
        os.execvp("unshare", ["unshare", "--net", sys.executable, __file__, "--here"])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    walk, began = Walk(), time.monotonic()
    try:
        for step in steps():
            if isinstance(step, int):
                walk.no_light(step)
            else:
                walk.step(step)
        walk.is_as_told()
    finally:
        walk.down()
    print(f"walked in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
