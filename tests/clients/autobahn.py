"""Runs the Autobahn cases against `dev`'s /dev/echo by kosoku: the 247 core cases and the 54 of section 9.

Exit 0 only when every case is OK or informational, and all of them ran. The report goes to target/autobahn."""

import asyncio
import collections
import json
import pathlib
import sys
import time

from harness import HERE, Server

OUT = HERE.parent.parent / "target/autobahn"
RUNS = {"core": (["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"], 247), "section 9": (["9.*"], 54)}
GOOD, GOOD_CLOSE = {"OK", "INFORMATIONAL"}, {"OK", "INFORMATIONAL"}


def run(url, name, cases, count):
    out = OUT / name.replace(" ", "-")
    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    asyncio.run(fuzz(url, cases, out))
    results = {case: result for cases in json.loads((out / "index.json").read_text()).values() for case, result in cases.items()}
    tally = collections.Counter(result["behavior"] for result in results.values())
    bad = {case: (result["behavior"], result["behaviorClose"]) for case, result in results.items() if result["behavior"] not in GOOD or result["behaviorClose"] not in GOOD_CLOSE}
    print(f"{name}: {len(results)} cases, {dict(tally)}, {time.monotonic() - begun:.0f} s", flush=True)
    for case, verdict in sorted(bad.items())[:20]:
        print(f"  {case}: {verdict}")
    return not bad and len(results) == count


async def fuzz(url, cases, out):
    process = await asyncio.create_subprocess_exec(
        str(pathlib.Path(sys.executable).with_name("kosoku")), "-m", "fuzzingclient", *(word for case in cases for word in ("-i", case)), "-o", str(out), url,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )
    await asyncio.wait_for(process.wait(), 600)


if __name__ == "__main__":
    with Server("--ephemeral") as server:
        good = [run(f"{server.ws}/dev/echo", name, cases, count) for name, (cases, count) in RUNS.items()]
    sys.exit(0 if all(good) else 1)
