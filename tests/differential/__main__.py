"""Plays random but plausible cases to nats-server and to corelane and shows where they differ.

    python3 tests/differential [FAMILY...] --seconds 60 --seed 1 --reactors 2

A difference is played again, slower, then made smaller, and printed as lines for a transcript.
"""

import argparse
import random
import sys
import threading
import time

import families
from play import Player
from wire import Server


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
        if theirs != ours:
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
    while True:
        i = 0
        while i < len(case) - 1:
            smaller = case[:i] + case[min(i + size, len(case) - 1):]
            found = first_difference(both(servers, smaller, 2))
            if found is not None and found[0] == step:
                case = smaller
            else:
                i += size
        if size == 1:
            return case
        size //= 2


def short(theirs, ours, lines):
    """The part of the answer around the first difference."""
    theirs, ours, lines = ("\n".join(text) for text in (theirs, ours, lines))
    at = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), 0)
    return lines[max(0, at - 60):at + 200]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("families", nargs="*")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--reactors", type=int, default=1)
    parser.add_argument("--most", type=int, default=10)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--no-shrink", action="store_true")
    args = parser.parse_args()
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
            for who, lines in zip(("nats-server", "corelane"), difference[1:]):
                text = "\n".join(lines) if args.whole else short(*difference[1:], lines)
                print(f"   {who}: {text}")
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
