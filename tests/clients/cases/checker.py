"""Judges the logs of speakers and clients when all is over: what is missing, doubled, out of order; how long nothing came.

What counts is the place that a thing was given: in a durable channel its seq, in one that lives in memory an epoch and an offset. A client
that was told that it cannot go on from where it stood has lost nothing silently; in durable channels that is counted all the same.
"""

import collections
import json

WRONG_KEPT = 5_000


def read(paths, names):
    """Logs of crowds: {client: [[time, what, ...]]}. `names`: of the clients of each log."""
    logs = {}
    for path, of in zip(paths, names, strict=True):
        mine = [logs.setdefault(name, []) for name in of]
        with open(path) as file:
            for line in file:
                nth, *words = json.loads(line)
                mine[nth].append(words)
    return logs


class Verdict:
    """What was wrong, each with its words."""

    def __init__(self):
        self.counts = collections.Counter()
        self.wrong = []

    def note(self, what, client, channel, **words):
        self.counts[what] += 1
        if len(self.wrong) < WRONG_KEPT:
            self.wrong.append({"what": what, "client": client, "channel": channel, **words})


def judge(said, unsaid, logs, follows, stored):
    """`said` and `unsaid` of all speakers, the logs and the channels of each client, and {durable channel: {seq: text}} of the database."""
    verdict = Verdict()
    by_channel, asked = collections.defaultdict(dict), collections.defaultdict(set)
    for channel, text, epoch, at, _, _ in said:
        by_channel[channel][epoch, at] = text
        asked[channel].add(text)
    for channel, text, _, _ in unsaid:
        asked[channel].add(text)
    for channel, rows in stored.items():
        judge_stored(verdict, channel, by_channel[channel], asked[channel], rows)
        # What was stored without an acknowledgement is owed to everybody as well.
        by_channel[channel] = {(None, seq): text for seq, text in rows.items()}
    for client, log in logs.items():
        judge_client(verdict, client, log, {channel: by_channel[channel] for channel in follows[client]}, asked, stored)
    return verdict


def judge_stored(verdict, channel, said, asked, rows):
    """What was acknowledged is there exactly once, where it was said to be; everything else at most once."""
    for (_, at), text in said.items():
        if rows.get(at) != text:
            verdict.note("missing", "database", channel, text=text, at=at)
    seen = set()
    for at, text in rows.items():
        if text in seen:
            verdict.note("duplicates", "database", channel, text=text, at=at)
        if text not in asked:
            verdict.note("unasked", "database", channel, text=text, at=at)
        seen.add(text)


def judge_client(verdict, client, log, owed, asked, stored):
    heard, last, told = collections.defaultdict(dict), {}, collections.defaultdict(list)
    for time, what, *words in log:
        if what == "heard" and words[0] in owed:
            channel, epoch, at, text = words
            if (epoch, at) in heard[channel]:
                verdict.note("duplicates", client, channel, text=text, at=at, time=time)
            elif channel in last and last[channel][0] == epoch and at < last[channel][1]:
                verdict.note("out_of_order", client, channel, text=text, at=at, after=last[channel][1], time=time)
            elif owed[channel].get((epoch, at), text) != text or text not in asked[channel]:
                verdict.note("unasked", client, channel, text=text, at=at, time=time)
            heard[channel][epoch, at] = text
            last[channel] = epoch, at
        elif what == "told":
            channel, *places = words
            told[channel].append(places)
            if channel in stored:
                verdict.note("durable_gaps_told", client, channel, places=places, time=time)
    verdict.counts["deliveries"] += sum(map(len, heard.values()))
    verdict.counts["told"] += sum(map(len, told.values()))
    for channel, places in owed.items():
        for (epoch, at), text in places.items():
            if (epoch, at) in heard[channel]:
                continue
            if channel not in stored and is_told(told[channel], epoch, at):
                verdict.counts["lost_and_told"] += 1
            else:
                verdict.note("missing", client, channel, text=text, epoch=epoch, at=at)


def is_told(told, epoch, at):
    """After its old place, or up to its new one."""
    return any((epoch == was and at > stood) or (epoch == now and at <= stands) for was, stood, now, stands in told)


def gaps(said, logs, stored, began, ended):
    """Around an incident, by channel and the worst of all clients, in seconds: `late`, from an acknowledgement to the delivery, which is how
    long nothing came although something was owed; and `silent`, between two deliveries, which is also how long nothing was taken."""
    acknowledged = {(channel, epoch, at): acked for channel, _, epoch, at, _, acked in said}
    found = {}
    for log in logs.values():
        before = {}
        for time, what, *words in log:
            if what != "heard" or not began - 1 <= time:
                continue
            channel, epoch, at, _ = words
            acked = acknowledged.get((channel, epoch, at))
            if acked is None or acked > ended:
                continue
            gap = found.setdefault(channel, {"late": 0.0, "silent": 0.0})
            gap["silent"] = round(max(gap["silent"], time - before.get(channel, time)), 3)
            if acked >= began - 1:
                gap["late"] = round(max(gap["late"], time - acked), 3)
            before[channel] = time
    kinds = {"durable": {}, "memory": {}}
    for channel, gap in found.items():
        kinds["durable" if channel in stored else "memory"][channel] = gap
    return kinds


def slowest(said, stored, began, ended):
    """The longest time that it took to store something, around an incident."""
    return round(max((acked - asked for channel, _, _, _, asked, acked in said if channel in stored and began - 1 < asked < ended), default=0), 3)


def downs(logs, began=0.0):
    """Connections that ended: [client, time, code]."""
    return [(client, time, words[0]) for client, log in logs.items() for time, what, *words in log if what == "down" and time >= began]


def faults(logs):
    return [(client, time, words[0]) for client, log in logs.items() for time, what, *words in log if what == "fault"]


def comings(logs):
    """When each client was there, every time: {client: [time]}."""
    return {client: [time for time, what, *_ in log if what == "up"] for client, log in logs.items()}
