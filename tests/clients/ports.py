"""Ports for servers that must be told theirs before they run: `python3 ports.py N` prints N of them.

None is of the range from which the kernel takes the ports of outgoing connections. A free port of that range may be taken by any
connection before its server runs; the connection may even be one's own to that very port, to ask whether the server is there yet.
"""

import pathlib
import random
import socket
import sys

FIRST = 10_000
RANGE = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
given = set()


def free_port():
    """One of the loopback address that nobody has, and that was not given to this process before."""
    end = int(RANGE.read_text().split()[0])
    for _ in range(1000):
        port = random.randrange(FIRST, max(end, FIRST + 1))
        if port not in given and is_free(port):
            given.add(port)
            return port
    raise AssertionError(f"no free port from {FIRST} to {end}")


def is_free(port):
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


if __name__ == "__main__":
    print(*(free_port() for _ in range(int(sys.argv[1]))))
