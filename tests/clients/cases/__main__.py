"""What clients see when something happens to a cell: `tests/cluster.sh [--case NAME,..] [--repeat N] [--long] [--tls] [--report FILE.json]`.

A cell of real processes, each in a network namespace of its own, with three Consul servers and a PostgreSQL server. Things are said in twelve durable channels and
eight that live in memory; RTM and Centrifuge clients at two gateways hear them. Beside them runs `campanile load` in each dialect: twenty
connections in four durable channels of its own, five publications a second. Afterwards the logs of all are judged, and what the loads
counted: missing, doubled, out of order, disconnected without need; and how long nothing came. Without --case: all of them. With --long each
as often as the table says, on a cell of its own, and the figures that are to be reached count too.
"""

import argparse
import os
import pathlib
import signal
import statistics
import sys
import time
import traceback

os.environ["PYTHONUNBUFFERED"] = "1"

import cluster

from . import hosts, regions, report, rings, roles, stores
from .network import NoNamespaces
from .scene import Scene, new_cell


class Case:
    """How often it happens; how long a durable channel may be silent in all incidents but the worst, and in the median; whether clients may be
    disconnected; whether it is without effect: all that is said is acknowledged, and nobody is told of a loss."""

    def __init__(self, happen, short, long, gap_max=None, gap_median=None, may_disconnect=False, is_without_effect=False, after=None, prepare=None, cell=None):
        self.name, self.what = happen.__name__.replace("_", "-"), happen.__doc__
        self.happen, self.short, self.long = happen, short, long
        self.gap_max, self.gap_median = gap_max, gap_median
        self.may_disconnect, self.is_without_effect = may_disconnect, is_without_effect
        # What is looked at afterwards; who hears and how much is said, and where, if it is not as everywhere.
        self.after, self.prepare, self.cell = after, prepare, cell

    def gaps(self, incidents):
        """What is to be reached, and what was."""
        values = sorted(one["durable"]["late_s"] for one in incidents)
        found = []
        if self.gap_max:
            found.append(("gap, worst but one, s", self.gap_max, values[-2]) if len(values) > 1 else ("gap, s", self.gap_max, values[0]))
        if self.gap_median:
            found.append(("gap, median, s", self.gap_median, statistics.median(values)))
        return found


CASES = [
    Case(hosts.kill, 2, 50, gap_max=1.5, gap_median=0.5),
    Case(hosts.stop, 1, 20, gap_max=2.5),
    Case(hosts.silent, 1, 20, gap_max=2.5),
    Case(hosts.oneway, 2, 20, gap_max=2.5),
    Case(stores.quorum, 1, 2, gap_max=1, is_without_effect=True, after=stores.after_quorum, prepare=stores.quorum_scene),
    Case(stores.consul_rolling, 1, 3, gap_max=1, is_without_effect=True),
    Case(stores.unwatched, 1, 10, gap_max=1.5, after=stores.after_unwatched),
    Case(roles.gateway, 1, 4, may_disconnect=True, after=roles.after_gateway, prepare=roles.gateway_scene),
    Case(rings.moves, 1, 5, is_without_effect=True, after=rings.after_moves, prepare=rings.moves_scene),
    Case(rings.resize, 1, 3, is_without_effect=True),
    Case(roles.postgres, 1, 6),
    Case(roles.admin, 1, 10),
    Case(roles.rolling, 1, 2, may_disconnect=True),
    Case(hosts.powercut, 1, 5, after=hosts.after_powercut),
    Case(regions.regions, 1, 1, is_without_effect=True, after=regions.after_regions, prepare=regions.regions_scene, cell=regions.regions_cell),
    Case(regions.relay, 2, 10, gap_max=2.5, is_without_effect=True, after=regions.after_relay, prepare=regions.relay_scene, cell=regions.relay_cell),
    Case(regions.region_drain, 1, 4, may_disconnect=True, is_without_effect=True, after=regions.after_region_drain, prepare=regions.drain_scene, cell=regions.regions_cell),
]


def play(case, cell, asked):
    """One case on a cell, to its report."""
    began, scene = time.monotonic(), Scene(cell, asked.long)
    try:
        scene.begin(*(case.prepare(scene) if case.prepare else ()))
        time.sleep(1)
        for nth in range(asked.repeat or (case.long if asked.long else case.short)):
            case.happen(scene, nth)
        time.sleep(1)
        verdict = scene.end()
        facts = case.after(scene, verdict) if case.after else {}
        return report.of(case, scene, verdict, facts, time.monotonic() - began)
    except Exception as fault:
        traceback.print_exc()
        return {"case": case.name, "what": case.what, "failed": f"{type(fault).__name__}: {fault}"}
    finally:
        if asked.keep:
            keep(scene, pathlib.Path(asked.keep) / case.name)
        scene.down()


def keep(scene, directory):
    """The logs of everybody, and what nodes said and count, for whoever wants to look."""
    scene.keep(directory)
    for name, node in scene.cell.nodes.items():
        (directory / f"{name}.words").write_text(node.words())
        if node.process.poll() is None:
            counts = sorted(f"{name}{dict(sorted(labels))} {value:g}" for (name, labels), value in node.metrics().items() if value)
            (directory / f"{name}.metrics").write_text("\n".join(counts) + "\n")


def main():
    names = [case.name for case in CASES]
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.epilog = "cases:\n" + "\n".join(f"  {case.name:<15} {case.what}" for case in CASES)
    words.add_argument("--case", metavar="NAME,..", help="only these")
    words.add_argument("--repeat", type=int, metavar="N", help="how often it happens")
    words.add_argument("--long", action="store_true", help="as often as the table says, and figures count")
    words.add_argument("--tls", action="store_true", help="all links between nodes are TLS, with certificates")
    words.add_argument("--report", metavar="FILE.json")
    words.add_argument("--keep", metavar="DIRECTORY", help="the logs of everybody stay there")
    asked = words.parse_args()
    cluster.TLS = asked.tls
    wanted = asked.case.split(",") if asked.case else names
    if unknown := set(wanted) - set(names):
        words.error(f"no such case: {', '.join(unknown)}; there are {', '.join(names)}")
    # Whatever ends us, the cell and its namespaces end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    reports, cell, wrong = [], None, []
    try:
        for case in CASES:
            if case.name not in wanted:
                continue
            if case.cell and cell:
                cell.down()
                cell = None
            if cell is None:
                cell = (case.cell or new_cell)()
            one = play(case, cell, asked)
            reports.append(one)
            found = [f"{case.name}: {what}" for what in report.faults(one, asked.long)]
            wrong += found
            print(f"{case.name}: {one.get('seconds', '-')} s; {'; '.join(found) or 'as it must be'}", file=sys.stderr)
            if found or asked.long:
                cell.down()
                cell = None
            if asked.report:
                report.write(asked.report, reports, asked.long)
    except NoNamespaces as why:
        print(f"cases of a cluster cannot be run here: {why}", file=sys.stderr)
        return 1
    finally:
        if cell is not None:
            cell.down()
    print(report.table(reports))
    for what in wrong:
        print(what)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
