"""Plays random but plausible cases to nats-server and to corelane and shows where they differ.

    python3 tests/differential [FAMILY...] --seconds 60 --seed 1 --reactors 2

A difference is played again, slower, then made smaller, and printed as lines for a transcript.
"""

import argparse
import json
import random
import sys
import threading
import time

import families
from play import Player
from wire import Server


SHRINK_SECONDS = 20
ABSENT = "(absent)"


def both(servers, case, slow=1.0):
    """What each server shows."""
    out = [None, None]

    def one(i):
        player = Player(servers[i], slow)
        try:
            player.clean()
            out[i] = player.play(case)
        except Exception as error:  # a server that does not answer is a difference too
            out[i] = [("error", [repr(error)])]
        finally:
            player.close()

    threads = [threading.Thread(target=one, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return out


def first_difference(out):
    for (step, theirs), (_, ours) in zip(*out):
        if families.ordered(theirs) != families.ordered(ours):
            # What follows a refusal of what is not built has nothing in common.
            return None if families.not_built(ours) else (step, theirs, ours)
    return None


def confirmed(servers, case):
    """The difference, when it is there three times."""
    difference = None
    for slow in (1, 3, 6):
        difference = first_difference(both(servers, case, slow))
        if difference is None:
            return None
    return difference


def shrink(servers, case, step):
    """Leaves out lines as long as the same step differs."""
    at = case.index(step) if step in case else len(case) - 1
    case = case[:at + 1]
    size = max(1, len(case) // 2)
    end = time.monotonic() + SHRINK_SECONDS
    while True:
        i = 0
        while i < len(case) - 1 and time.monotonic() < end:
            smaller = case[:i] + case[min(i + size, len(case) - 1):]
            found = first_difference(both(servers, smaller, 2))
            if found is not None and found[0] == step:
                case = smaller
            else:
                i += size
        if size == 1 or time.monotonic() > end:
            return case
        size //= 2


def compact(found):
    """An answer without what is always the same."""
    found.pop("type", None)
    if "error" in found:
        e = found["error"]
        return f"{e['code']} {e.get('err_code')} {e['description']}"
    config = found.get("config", {})
    config.pop("metadata", None)
    for key in [k for k, v in config.items() if v in (-1, False, "limits", "old", {}, 0, "none")]:
        config.pop(key)
    return json.dumps(found)


def body(line):
    """The JSON of an answer."""
    start = line.find("{")
    try:
        return json.loads(line[start:]) if start >= 0 else None
    except ValueError:
        return None


def paths(a, b, at=""):
    """Where two JSON values differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            yield from paths(a.get(key, ABSENT), b.get(key, ABSENT), f"{at}.{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, pair in enumerate(zip(a, b)):
            yield from paths(*pair, f"{at}[{i}]")
    elif a != b or type(a) is not type(b):
        yield f"{at}: {json.dumps(a)[:300]} / {json.dumps(b)[:300]}"


def short(theirs, ours):
    """How two answers differ."""
    out = []
    for i in range(max(len(theirs), len(ours))):
        a, b = ((lines[i] if i < len(lines) else "nothing") for lines in (theirs, ours))
        if a != b:
            x, y = body(a), body(b)
            found = [] if x is None or y is None else list(paths(x, y))
            out += found or [f"{a} / {b}"]
    return out


def play_one(case, reactors):
    """Shows what both say to each line."""
    servers = [Server("nats-server"), Server("corelane", reactors)]
    try:
        for (step, theirs), (_, ours) in zip(*both(servers, case)):
            print(step)
            for line in theirs:
                found = body(line)
                line = compact(found) if found is not None else line
                print(f"    {line}")
            if ours != theirs:
                print(*(f" !! {line}" for line in short(theirs, ours)), sep="\n")
    finally:
        for server in servers:
            server.stop()
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("families", nargs="*")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--reactors", type=int, default=1)
    parser.add_argument("--most", type=int, default=10)
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--case", action="store_true", help="play the lines of standard input")
    args = parser.parse_args()
    if args.case:
        return play_one([line for line in sys.stdin.read().splitlines() if line], args.reactors)
    names = args.families or sorted(families.FAMILIES)
    servers = [Server("nats-server"), Server("corelane", args.reactors)]
    end = time.monotonic() + args.seconds
    seed, cases, found, seen = args.seed, 0, 0, set()
    try:
        while time.monotonic() < end and found < args.most:
            name = names[seed % len(names)]
            case = families.FAMILIES[name](random.Random(seed))
            seed += 1
            cases += 1
            if not servers[0].alive():
                print(f"nats-server ended in the case before seed {seed - 1}")
                servers[0].stop()
                servers[0] = Server("nats-server")
            if first_difference(both(servers, case)) is None:
                continue
            difference = confirmed(servers, case)
            if difference is None:
                continue
            step, theirs, ours = difference
            key = families.signature(step, theirs, ours)
            if key in seen:
                continue
            seen.add(key)
            if not args.no_shrink:
                case = shrink(servers, case, step)
                difference = first_difference(both(servers, case, 4)) or difference
            found += 1
            print(f"## {name}, seed {seed - 1}")
            print("\n".join(case))
            print(*(f"    {line}" for line in short(*difference[1:])), sep="\n")
            sys.stdout.flush()
            for server in servers:
                if not server.alive():
                    print(f"{server.kind} has ended:\n" + (server.dir / "log").read_text()[-3000:])
                    return 1
    finally:
        for server in servers:
            server.stop()
    print(f"{cases} cases, {found} differences")
    return 1 if found else 0


sys.exit(main())
