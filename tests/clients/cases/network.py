"""Hosts for a cell: a network namespace each, on one bridge, with a cable that can be cut either way.

Names carry our process id, and whatever was made goes with us, also after a failure.
"""

import atexit
import os
import shutil
import subprocess

from cluster import Host


class NoNamespaces(Exception):
    """A sentence for whoever runs the cases."""


def run(*words, text=None):
    done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise NoNamespaces(f"{' '.join(words)}: {done.stderr.strip()}")


class Namespace(Host):
    """One host: its address, and its cable."""

    def __init__(self, name, address):
        super().__init__(address, ["ip", "netns", "exec", name])
        self.name = name

    def as_others_do(self):
        """Ordinary congestion control, whatever the kernel begins with, of which any namespace may choose: BBR holds packets back every ten seconds."""
        run(*self.prefix, "sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno")

    def cut(self, *ways):
        """Drops what comes from it (`from`), or what goes to it (`to`), or both; without a word to anybody."""
        hooks = {"to": "ingress", "from": "egress"}
        chains = [f'chain {way} {{\n type filter hook {hooks[way]} device "eth0" priority 0; policy drop;\n }}' for way in ways or hooks]
        run(*self.prefix, "nft", "-f", "-", text="table netdev cut {\n" + "\n".join(chains) + "\n}\n")

    def heal(self):
        run(*self.prefix, "nft", "delete", "table", "netdev", "cut")

    def part_from(self, *hosts):
        """Drops what goes to these hosts and what comes from them, and nothing else."""
        addresses = ", ".join(host.address for host in hosts)
        hooks = {"to": ("ingress", "saddr"), "from": ("egress", "daddr")}
        chains = [f'chain {way} {{\n type filter hook {hook} device "eth0" priority 0;\n ip {side} {{ {addresses} }} drop\n }}' for way, (hook, side) in hooks.items()]
        run(*self.prefix, "nft", "-f", "-", text="table netdev part {\n" + "\n".join(chains) + "\n}\n")

    def meet_again(self):
        run(*self.prefix, "nft", "delete", "table", "netdev", "part")


class Network:
    """A bridge and the namespaces on it. We ourselves are the host with number `own`, and reach them all."""

    def __init__(self, net=None, own=1, first=2):
        if os.geteuid() != 0:
            raise NoNamespaces("network namespaces need root: run it as root")
        for tool in ("ip", "nft"):
            if shutil.which(tool) is None:
                raise NoNamespaces(f"network namespaces need {tool} (Debian: iproute2, nftables)")
        # Two runs at once do not meet: names and addresses have the process id.
        pid = os.getpid()
        self.bridge = f"camp{pid}"
        self.net, self.first = net or f"10.{64 + pid // 256 % 64}.{pid % 256}", first
        self.own, self.hosts = f"{self.net}.{own}", {}
        atexit.register(self.down)
        try:
            run("ip", "link", "add", self.bridge, "type", "bridge")
            run("ip", "addr", "add", f"{self.net}.{own}/24", "dev", self.bridge)
            run("ip", "link", "set", self.bridge, "up")
        except NoNamespaces as why:
            raise NoNamespaces(f"no network for the hosts of a cell can be made here: {why}") from None

    def host(self, name):
        """The namespace of that name, made when there is none."""
        if name not in self.hosts:
            number = len(self.hosts) + self.first
            space, cable, address = f"{self.bridge}-{name}", f"c{os.getpid()}-{number}", f"{self.net}.{number}"
            self.hosts[name] = Namespace(space, address)
            run("ip", "netns", "add", space)
            run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", cable, "master", self.bridge, "up")
            run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")
            run("ip", "-n", space, "link", "set", "lo", "up")
            run("ip", "-n", space, "route", "add", "default", "via", self.own)
            self.hosts[name].as_others_do()
        return self.hosts[name]

    def down(self):
        # Namespaces end some time after they were deleted, and the next network has cables of the same names.
        for number in range(self.first, len(self.hosts) + self.first):
            subprocess.run(["ip", "link", "del", f"c{os.getpid()}-{number}"], capture_output=True, timeout=30)
        for host in self.hosts.values():
            subprocess.run(["ip", "netns", "del", host.name], capture_output=True, timeout=30)
        self.hosts.clear()
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True, timeout=30)
        atexit.unregister(self.down)
