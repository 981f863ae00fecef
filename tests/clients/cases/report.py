"""What a case gave: a table for people, JSON for the rest."""

import json
import statistics
import subprocess

from . import checker, loads
from .scene import PROBATION_S, REPLACE_WINDOW_S

# Of these not one may be.
NEVER = ("missing", "duplicates", "out_of_order", "unasked", "durable_gaps_told", "not_told", "not_back")


def commit():
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip()


def spread(values):
    """Of the incidents of one case."""
    values = sorted(values)
    if not values:
        return None
    return {"median": round(statistics.median(values), 3), "worst_but_one": values[-2] if len(values) > 1 else None, "worst": values[-1]}


def of(case, scene, verdict, facts, seconds):
    """Everything about one case, when its logs are judged."""
    incidents = []
    for began, ended, words in scene.incidents:
        incident = {key: value for key, value in words.items() if key != "back"} | {"seconds": round(ended - began, 3)}
        incident["slowest_post_s"] = checker.slowest(scene.said, scene.stored, began, ended)
        for kind, channels in checker.gaps(scene.said, scene.logs, scene.stored, began, ended).items():
            worst = {f"{what}_s": max((gap[what] for gap in channels.values()), default=None) for what in ("late", "silent")}
            incident[kind] = {**worst, "by_channel": channels}
        incidents.append(incident)
    downs = checker.downs(scene.logs)
    reach = [*case.gaps(incidents), *facts.pop("reach", [])]
    reach = [{"what": what, "limit": limit, "value": value, "met": value <= limit} for what, limit, value in reach]
    gap = {kind: {name: spread([one[kind][name] for one in incidents if one[kind][name] is not None]) for name in ("late_s", "silent_s")} for kind in ("durable", "memory")}
    return {
        "case": case.name,
        "what": case.what,
        "commit": commit(),
        "incidents_count": len(incidents),
        "seconds": round(seconds, 1),
        "clients": len(scene.logs),
        "said": len(scene.said),
        "replace_window_s": REPLACE_WINDOW_S,
        "probation_s": PROBATION_S,
        "unacknowledged": len(scene.unsaid),
        "deliveries": verdict.counts["deliveries"],
        **{what: verdict.counts[what] for what in NEVER},
        "told": verdict.counts["told"],
        "lost_and_told": verdict.counts["lost_and_told"],
        "disconnected": len(downs),
        "may_disconnect": case.may_disconnect,
        "is_without_effect": case.is_without_effect,
        **gap,
        "load": scene.load_verdicts,
        "reach": reach,
        **facts,
        "incidents": incidents,
        "wrong": verdict.wrong,
        "ends": downs[:50],
        "faults": checker.faults(scene.logs)[:50],
        "unsaid": scene.unsaid[:50],
    }


def faults(one, is_long):
    """What was not as it must be, in sentences."""
    if "failed" in one:
        return [one["failed"]]
    found = [f"{one[what]} {what.replace('_', ' ')}" for what in NEVER if one[what]]
    if one["disconnected"] and not one["may_disconnect"]:
        found.append(f"{one['disconnected']} disconnected")
    if one["is_without_effect"]:
        found += [f"{one[what]} {what.replace('_', ' ')}" for what in ("unacknowledged", "told") if one[what]]
    for load in one["load"]:
        found += loads.faults(load, one["may_disconnect"], one["is_without_effect"])
    if is_long:
        found += [f"{reach['what']}: {reach['value']}, not {reach['limit']}" for reach in one["reach"] if not reach["met"]]
    return found


def table(reports):
    """For people. A gap is how long nothing came although something durable was owed; in memory, how long nothing came."""
    heads = ["case", "times", "said", "deliveries", "missing", "doubled", "reordered", "ended", "told", "gap: median", "worst", "in memory"]
    rows = [heads]
    for one in reports:
        if "failed" in one:
            rows.append([one["case"], "failed"] + [""] * 10)
            continue
        gap, memory = one["durable"]["late_s"] or {}, one["memory"]["silent_s"] or {}
        numbers = [one[key] for key in ("incidents_count", "said", "deliveries", "missing", "duplicates", "out_of_order", "disconnected", "told")]
        rows.append([one["case"], *numbers, gap.get("median"), gap.get("worst"), memory.get("worst")])
    rows = [[f"{cell:,}" if isinstance(cell, int) else "" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in rows]
    for one in reports:
        lines += [f"  {one['case']}: {loads.line(load)}" for load in one.get("load", [])]
        lines += [f"  {one['case']}: {reach['what']}: {reach['value']} ({'within' if reach['met'] else 'NOT within'} {reach['limit']})" for reach in one.get("reach", [])]
    return "\n".join(lines)


def write(path, reports, is_long):
    with open(path, "w") as file:
        json.dump({"is_long": is_long, "cases": reports}, file, indent=1)
        file.write("\n")
