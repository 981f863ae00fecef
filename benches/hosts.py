#!/usr/bin/env python3
"""How many hosts carry so many connections and channels: benches/hosts.py [--connections 10e6] [--channels 100e6] [...]; --write puts the table
of the three days below into benches/HOSTS.md. Every measured number has its source in HOSTS.md; everything else is an assumption and a flag."""

import argparse
import dataclasses
import math
import pathlib
import re


@dataclasses.dataclass
class Measured:
    """Bytes, and microseconds of one core of the machine of benches/README.md."""

    connection_process: float = 177  # an idle connection in the process, the worst of 156 to 177
    connection_kernel: float = 3_896  # its socket: TCP, inode, file, dentry, io_kiocb, LSM
    connection_us_per_s: float = 0.37  # idle, pings and pongs included
    subscription: float = 10.35
    channel_at_gateway: float = 106
    channel_at_owner: float = 37.7
    interest: float = 6.0  # of a gateway's core in a channel, at its owner
    backlog_per_core: float = 64 * 2**20  # limits.rs, backlog_bytes
    delivery_us_alone: float = 12.3  # one of ten to a channel, everything on the server included
    delivery_us_wide: float = 4.8  # one of a thousand
    publication_us: float = 4.6  # by the server API in batches, through owner and gateway core
    post_us: float = 758  # by the Web API, durable: control plane and SQLite, without deliveries


@dataclasses.dataclass
class Assumed:
    connections: float = 10e6
    channels: float = 100e6
    subscriptions: float = 20  # of a connection
    sharing: float = 2  # subscribers of a channel at a gateway that has any
    gateways_of_a_channel: float = 4  # gateway cores that want a channel which anybody follows
    received_per_minute: float = 6  # deliveries to a connection
    fan_out: float = 20  # deliveries of a publication
    durable_share: float = 0.01  # of the publications: posts that a webapp stores
    copy_us: float = 1.0  # of one copy from an owner to a gateway's core: not measured by itself
    ram_gib: float = 128
    cores: float = 32
    use: float = 0.5  # of RAM and of cores, when all is well
    connections_of_a_host: float = 1e6  # as many as one would lose at once
    spare: float = 1  # hosts of each kind that may be away


DAYS = {
    "quiet: a delivery every minute": dict(received_per_minute=1),
    "an ordinary day: six a minute": dict(),
    "busy: one a second, 100 subscriptions": dict(received_per_minute=60, subscriptions=100),
}


def compute(of: Assumed, by: Measured):
    deliveries = of.connections * of.received_per_minute / 60
    publications = deliveries / of.fan_out
    posts = publications * of.durable_share
    delivery_us = by.delivery_us_alone if of.fan_out < 100 else by.delivery_us_wide
    ram, cpu = of.ram_gib * 2**30 * of.use, of.cores * of.use * 1e6
    at_gateways = of.connections * of.subscriptions / of.sharing
    followed = min(of.channels, at_gateways / of.gateways_of_a_channel)
    gateway_bytes = of.connections * (by.connection_process + by.connection_kernel + of.subscriptions * by.subscription) + at_gateways * by.channel_at_gateway
    gateway_us = deliveries * delivery_us + of.connections * by.connection_us_per_s
    owner_bytes = of.channels * by.channel_at_owner + followed * of.gateways_of_a_channel * by.interest
    owner_us = publications * (by.publication_us + of.gateways_of_a_channel * of.copy_us)
    needs = {
        "gateways": {"RAM": gateway_bytes / ram, "CPU": gateway_us / cpu, "connections": of.connections / of.connections_of_a_host},
        # The backlog takes its share of every host's RAM before anything else.
        "channel servers": {"RAM": owner_bytes / (ram - of.cores * by.backlog_per_core), "CPU": owner_us / cpu},
    }
    hosts = {kind: math.ceil(max(need.values())) + int(of.spare) for kind, need in needs.items()}
    return dict(deliveries=deliveries, publications=publications, posts=posts, needs=needs, hosts=hosts, gateway_gib=gateway_bytes / 2**30, owner_gib=owner_bytes / 2**30, gateway_cores=gateway_us / 1e6, owner_cores=owner_us / 1e6, webapp_cores=posts * by.post_us / 1e6)


def table(sets):
    rows = [("", *sets)]
    made = [compute(of, Measured()) for of in sets.values()]
    add = lambda name, what: rows.append((name, *(what(one) for one in made)))
    add("deliveries a second", lambda one: f"{one['deliveries']:,.0f}")
    add("publications a second; of these durable posts", lambda one: f"{one['publications']:,.0f}; {one['posts']:,.0f}")
    add("gateways: GiB, cores in use", lambda one: f"{one['gateway_gib']:,.0f}, {one['gateway_cores']:,.1f}")
    add("gateway hosts by RAM / CPU / connections", lambda one: " / ".join(f"{need:.1f}" for need in one["needs"]["gateways"].values()))
    add("channel servers: GiB, cores in use", lambda one: f"{one['owner_gib']:,.1f}, {one['owner_cores']:,.2f}")
    add("channel hosts by RAM / CPU", lambda one: " / ".join(f"{need:.2f}" for need in one["needs"]["channel servers"].values()))
    add("webapp: cores in use, and so cells, of which each has one writer", lambda one: f"{one['webapp_cores']:,.2f}, {max(1, math.ceil(one['webapp_cores']))}")
    add("**hosts: gateways + channel servers**, one spare of each", lambda one: "**" + " + ".join(str(count) for count in one["hosts"].values()) + "**")
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for field in dataclasses.fields(Assumed):
        words.add_argument("--" + field.name.replace("_", "-"), type=float, default=field.default)
    words.add_argument("--write", action="store_true")
    asked = vars(words.parse_args())
    if asked.pop("write"):
        page = pathlib.Path(__file__).with_name("HOSTS.md")
        text = page.read_text()
        made = table({name: dataclasses.replace(Assumed(), **other) for name, other in DAYS.items()})
        new, count = re.subn(r"(<!-- hosts\.py -->\n).*?(<!-- end -->)", lambda found: f"{found[1]}{made}\n{found[2]}", text, flags=re.S)
        assert count == 1, "HOSTS.md has no place for the table"
        page.write_text(new)
    else:
        print(table({"as asked": Assumed(**asked)}))


if __name__ == "__main__":
    main()
