"""Random cases: what a client might send, and what it should not."""

import json
import re

SECOND = 1_000_000_000
MS = 1_000_000


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def maybe(rng, chance):
    return rng.random() < chance


# ---------------------------------------------------------------- streams

STREAM_FIELDS = {
    "description": lambda r: r.choice(["", "d", "x" * 4096, "x" * 4097, "é\"<>&\u2028"]),
    "subjects": lambda r: r.choice([
        [], ["s"], ["s.>"], ["s.*"], ["a", "b"], ["a", "a"], ["a.*", "a.b"], ["a..b"], ["a b"],
        [">"], ["*"], ["$SYS.>"], ["$JS.>"], ["$JS.API.>"], ["$KV.x.>"],
        ["$SYS.ACCOUNT.>"], [""], ["s.", "t"], ["x.>.y"], ["t.*.z", "t.y.*"], ["_INBOX.>"],
        ["$JSC.x"], ["$NRG.a"], ["*.>"], ["$JS"], ["$SYS"], ["s\t"],
        ["$JS.API.STREAM.INFO.x"], ["$JS.ACK.>"], ["$JS.FC.>"]]),
    "retention": lambda r: r.choice(["limits", "limits", "foo", "Limits", 1, None]),
    "max_consumers": lambda r: r.choice([-2, -1, 0, 1, 3, "1", 1.5]),
    "max_msgs": lambda r: r.choice([-2, -1, 0, 1, 10, 10**18, 1e3, 2**64]),
    "max_bytes": lambda r: r.choice([-2, -1, 0, 1, 100, 10**6, 10**18]),
    "max_age": lambda r: r.choice([-1, 0, 1, 99 * MS, 100 * MS, 60 * SECOND, 10 * 365 * 86400 * SECOND]),
    "max_msgs_per_subject": lambda r: r.choice([-5, -1, 0, 1, 5]),
    "max_msg_size": lambda r: r.choice([-2, -1, 0, 1, 100, 2**31, 2**31 - 1]),
    "discard": lambda r: r.choice(["old", "new", "old", "new", "newest", ""]),
    "storage": lambda r: r.choice(["file", "memory", "file", "memory", "any", "", 22]),
    "num_replicas": lambda r: r.choice([-1, 0, 1, 2, 3, 5, 6, 7]),
    "no_ack": lambda r: r.choice([True, False, 1, "true"]),
    "duplicate_window": lambda r: r.choice([-1, 0, 1, 50 * MS, 100 * MS, SECOND, 120 * SECOND, 3600 * SECOND]),
    "placement": lambda r: r.choice([None, {}, {"cluster": "x"}, {"tags": ["a"]}, {"preferred": "n"},
                                     {"cluster": ""}]),
    "compression": lambda r: r.choice(["none", "none", "zip", ""]),
    "first_seq": lambda r: r.choice([0, 1, 10, -1]),
    "allow_direct": lambda r: r.choice([True, False]),
    "mirror_direct": lambda r: r.choice([True, False]),
    "discard_new_per_subject": lambda r: r.choice([True, False]),
    "sealed": lambda r: r.choice([True, False]),
    "deny_delete": lambda r: r.choice([True, False]),
    "deny_purge": lambda r: r.choice([True, False]),
    "allow_rollup_hdrs": lambda r: False,
    "consumer_limits": lambda r: r.choice([{}, {"inactive_threshold": 30 * SECOND}, {"max_ack_pending": 5},
                                           {"inactive_threshold": -1}, {"max_ack_pending": -1},
                                           {"inactive_threshold": 60 * SECOND, "max_ack_pending": 100},
                                           {"max_ack_pending": 0}, None, {"x": 1}]),
    "allow_atomic": lambda r: r.choice([True, False]),
    "allow_batched": lambda r: r.choice([True, False]),
    "persist_mode": lambda r: r.choice(["default", "async", "", "foo"]),
    "metadata": lambda r: r.choice([{}, None, {"a": "b"}, {"_nats.req.level": "7"}, {"_nats.ver": "x", "k": ""},
                                    {"_nats.level": "1"}, {"_nats.x": "y", "b": "1", "a": "2"}, {"a": 1},
                                    {"k": "v" * 131071}, {"k": "v" * 131072}]),
    "pedantic": lambda r: r.choice([True, False]),
    "unknown_field": lambda r: 1,
    "template_owner": lambda r: "x",
    "subject_delete_marker_ttl": lambda r: r.choice([0, -1]),
    "sources": lambda r: r.choice([[], None]),
    "Max_Msgs": lambda r: 5,
}


def stream_config(rng, name, subjects=None, fields=3, base=None):
    config = dict(base) if base else {"name": name}
    if subjects is not None and maybe(rng, 0.8):
        config["subjects"] = subjects
    for _ in range(rng.randint(0, fields)):
        key = rng.choice(list(STREAM_FIELDS))
        config[key] = STREAM_FIELDS[key](rng)
    if maybe(rng, 0.03):
        config["name"] = rng.choice(["", "T", "S.x", None, 5])
    return config


def streams(rng):
    """Creates, updates and infos of streams."""
    case = []
    configs = {}
    for _ in range(rng.randint(2, 9)):
        name = rng.choice(["S", "S", "T", "U"])
        subject = rng.choice([None, [name.lower() + ".>"], ["s.>"]])
        roll = rng.random()
        if roll < 0.45:
            config = stream_config(rng, name, subject)
            configs[name] = config
            case.append(f"JS A STREAM.CREATE.{name} {compact(config)}")
        elif roll < 0.75:
            config = stream_config(rng, name, None, 2, configs.get(name))
            case.append(f"JS A STREAM.UPDATE.{name} {compact(config)}")
        elif roll < 0.8 and name in configs:
            case.append(f"JS A STREAM.CREATE.{name} {compact(configs[name])}")
        elif roll < 0.9:
            case.append(f"JS A STREAM.INFO.{name}")
        elif roll < 0.92:
            case.append(f"JS A STREAM.LIST")
        elif roll < 0.94:
            case.append("JS A INFO")
        else:
            case.append(f"REQ A {name.lower()}.1 hello")
    case.append("JS A STREAM.NAMES")
    case.append("JS A STREAM.LIST")
    return case


# ---------------------------------------------------------------- consumers

CONSUMER_FIELDS = {
    "durable_name": lambda r: r.choice(["C", "C", "", "D", "a/b", "a.b", "x" * 255, "x" * 256]),
    "name": lambda r: r.choice(["C", "C", "", "D", "a b", "x" * 256]),
    "description": lambda r: r.choice(["", "d", "x" * 4097]),
    "deliver_policy": lambda r: r.choice(["all", "last", "new", "by_start_sequence", "by_start_time",
                                          "last_per_subject", "undefined", "", "foo", 3]),
    "opt_start_seq": lambda r: r.choice([0, 1, 3, 1000, -1, 2**64 - 1]),
    "opt_start_time": lambda r: r.choice(["2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z", "x", None, "",
                                          "0001-01-01T00:00:00Z", "2020-01-01T00:00:00.123456789+02:00",
                                          "2020-01-01", 5]),
    "ack_policy": lambda r: r.choice(["none", "all", "explicit", "explicit", "foo", ""]),
    "ack_wait": lambda r: r.choice([-1, 0, 1, SECOND, 30 * SECOND]),
    "max_deliver": lambda r: r.choice([-2, -1, 0, 1, 3]),
    "backoff": lambda r: r.choice([[], [SECOND], [SECOND, 2 * SECOND], [-1], [0], [1, 2, 3, 4], None, 5]),
    "filter_subject": lambda r: r.choice(["", "s.1", "s.>", "x", "s..a", "s. ", "s.*", "a b", "_", ">", "$JS.>"]),
    "filter_subjects": lambda r: r.choice([[], ["s.1"], ["s.1", "s.2"], ["s.*", "s.1"], [""], ["s.1", ""],
                                           ["s.1", "s.1"], ["s..x"], [">"], ["s.1.>", "s.1"], ["x", "y"]]),
    "replay_policy": lambda r: r.choice(["instant", "original", "foo", ""]),
    "rate_limit_bps": lambda r: r.choice([0, 1, 1000, -1]),
    "sample_freq": lambda r: r.choice(["", "50", "50%", "zz", "%", "-1", "101", "1e3", " 5", "5 %", "5%%", 50]),
    "max_waiting": lambda r: r.choice([-1, 0, 1, 10]),
    "max_ack_pending": lambda r: r.choice([-2, -1, 0, 1, 10, 10**6]),
    "flow_control": lambda r: r.choice([True, False]),
    "headers_only": lambda r: r.choice([True, False]),
    "max_batch": lambda r: r.choice([-1, 0, 1, 10]),
    "max_expires": lambda r: r.choice([-1, 0, 1, MS - 1, MS, SECOND]),
    "max_bytes": lambda r: r.choice([-1, 0, 1, 1000]),
    "deliver_subject": lambda r: r.choice(["", "d", "d", "d.*", "s.1", "d..x", ">", "d e", "$JS.x", "s", "_INBOX.x"]),
    "deliver_group": lambda r: r.choice(["", "g", "g h", "g.h"]),
    "idle_heartbeat": lambda r: r.choice([-1, 0, 1, 99 * MS, 100 * MS, 60 * SECOND]),
    "inactive_threshold": lambda r: r.choice([-1, 0, 60 * SECOND, 3600 * SECOND]),
    "num_replicas": lambda r: r.choice([-1, 0, 1, 2, 6]),
    "mem_storage": lambda r: r.choice([True, False]),
    "direct": lambda r: r.choice([True, False]),
    "sourcing": lambda r: r.choice([True, False]),
    "metadata": lambda r: r.choice([{}, {"a": "b"}, {"_nats.req.level": "9"}, {"_nats.x": "1"}, {"k": "v" * 131072}]),
    "priority_groups": lambda r: r.choice([[], None]),
    "priority_policy": lambda r: r.choice(["none", "zz", ""]),
    "priority_timeout": lambda r: 0,
    "nope": lambda r: 1,
}


def consumer_create(rng, name, previous, fields=3):
    config = dict(previous) if previous and maybe(rng, 0.6) else {}
    if not config:
        if maybe(rng, 0.75):
            config["durable_name"] = name
        if maybe(rng, 0.6):
            config["ack_policy"] = "explicit"
        if maybe(rng, 0.3):
            config["deliver_subject"] = "d"
    for _ in range(rng.randint(0, fields)):
        key = rng.choice(list(CONSUMER_FIELDS))
        config[key] = CONSUMER_FIELDS[key](rng)
    request = {"stream_name": "S", "config": config}
    if maybe(rng, 0.25):
        request["action"] = rng.choice(["create", "update", "", "foo"])
    if maybe(rng, 0.1):
        request["pedantic"] = True
    if maybe(rng, 0.04):
        request["stream_name"] = rng.choice(["", "T", None])
    if maybe(rng, 0.02):
        request["extra"] = 1
    if maybe(rng, 0.02):
        del request["config"]
    subject = rng.choice([f"CREATE.S.{name}"] * 6 + [
        "CREATE.S", f"DURABLE.CREATE.S.{name}", f"CREATE.S.{name}.s.1", f"CREATE.S.{name}.s.>",
        f"CREATE.S.{name}.{config.get('filter_subject') or 's.1'}", f"CREATE.T.{name}"])
    if " " in subject or ".." in subject:
        subject = f"CREATE.S.{name}"
    return subject, request, config


def consumers(rng):
    """Creates, updates, infos of consumers over a stream with a few messages."""
    base = {"name": "S", "subjects": ["s.>"]}
    for key in ("consumer_limits", "max_consumers", "storage", "first_seq", "max_msgs_per_subject"):
        if maybe(rng, 0.1):
            base[key] = STREAM_FIELDS[key](rng)
    case = [f"JS A STREAM.CREATE.S {compact(base)}"]
    for i in range(rng.randint(0, 6)):
        case.append(f"REQ A s.{rng.randint(1, 3)} m{i}")
    if maybe(rng, 0.2):
        case.append("JS A STREAM.PURGE.S " + compact({"keep": 1}))
    if maybe(rng, 0.3):
        case.append("B> SUB d 1")
    previous = {}
    for _ in range(rng.randint(2, 7)):
        name = rng.choice(["C", "C", "C", "D"])
        roll = rng.random()
        if roll < 0.75:
            subject, request, config = consumer_create(rng, name, previous.get(name))
            previous[name] = config
            case.append(f"JS A CONSUMER.{subject} {compact(request)}")
        elif roll < 0.8:
            case.append(f"JS A CONSUMER.INFO.S.{name}")
        elif roll < 0.84:
            case.append(f"REQ A s.{rng.randint(1, 3)} more")
        elif roll < 0.88:
            case.append(f"JS A CONSUMER.DELETE.S.{name}")
        elif roll < 0.92:
            config = dict(base)
            config["consumer_limits"] = STREAM_FIELDS["consumer_limits"](rng)
            case.append(f"JS A STREAM.UPDATE.S {compact(config)}")
        else:
            case.append("JS A CONSUMER.NAMES.S")
    case.append("JS A CONSUMER.LIST.S")
    return case


# ---------------------------------------------------------------- requests

BODIES = ["", "{}", "[]", "null", "x", " ", "{", '{"a"', "5", '""', '{"seq":1}', '{"seq":"1"}', '{"seq":-1}',
          '{"seq":1.5}', '{"seq":1}x', '{"x":1}', '{"offset":1}', '{"offset":-1}', '{"offset":"1"}', "[1]",
          '{"subject":"s.1"}', '{"subject":"a.."}', '{"subject":">"}', '{"subjects_filter":">"}',
          '{"subjects_filter":"s.1"}', '{"deleted_details":true}', '{"subjects_filter":"a..b"}',
          '{"subjects_filter":">","offset":1}', '{"subjects_filter":">","offset":100}', '{"filter":"s.1"}',
          '{"filter":"a..b"}', '{"filter":"zz"}', '{"seq":3,"keep":1}', '{"keep":1}', '{"keep":0}',
          '{"filter":"s.1","keep":1}', '{"filter":"s.>","seq":4}', '{"seq":0}', '{"seq":100}', '{"SEQ":2}',
          '{"last_by_subj":"s.1"}', '{"last_by_subj":"s.*"}', '{"last_by_subj":"zz"}', '{"next_by_subj":"s.1"}',
          '{"next_by_subj":"s.*","seq":3}', '{"next_by_subj":"s.1","seq":100}', '{"seq":1,"last_by_subj":"s.1"}',
          '{"start_time":"2020-01-01T00:00:00Z"}', '{"start_time":"2100-01-01T00:00:00Z"}',
          '{"start_time":"2020-01-01T00:00:00Z","next_by_subj":"s.2"}', '{"seq":2,"no_hdr":true}',
          '{"start_time":"2020-01-01T00:00:00Z","seq":1}', '{"last_by_subj":"s.1","next_by_subj":"s.1"}',
          '{"last_by_subj":"s.1","no_hdr":true}', '{"seq":2,"no_erase":true}', '{"no_erase":true}',
          '{"max_bytes":100,"seq":1}', '{"up_to_seq":2}', '{"seq":1,"last_by_subj":"","next_by_subj":""}',
          '{"next_by_subj":"a..b","seq":1}', '{"last_by_subj":"a..b"}', '{"keep":18446744073709551615}',
          '{"seq":18446744073709551615}', '{"seq":18446744073709551616}', '{"seq":1e2}', '{"seq":null}',
          '{"seq":true}', '{"offset":1e1}', '{"seq":1,"seq":2}', '\\xff', '{"seq":01}', "{'seq':1}", '{"seq":1,}',
          '{"next_by_subj":">"}', '{"next_by_subj":">","seq":4}', '{"start_time":"x"}', '{"next_by_subj":""}',
          '{"offset":2}', '{"offset":3}', '{"offset":9223372036854775807}']

SUBJECTS = ["INFO", "STREAM.NAMES", "STREAM.LIST", "STREAM.INFO.S", "STREAM.PURGE.S", "STREAM.MSG.GET.S",
            "STREAM.MSG.DELETE.S", "DIRECT.GET.S", "CONSUMER.NAMES.S", "CONSUMER.LIST.S", "CONSUMER.INFO.S.C",
            "STREAM.MSG.GET.S", "DIRECT.GET.S", "STREAM.PURGE.S", "STREAM.MSG.DELETE.S", "STREAM.INFO.S"]
RARE = ["STREAM.CREATE.S", "STREAM.UPDATE.S", "CONSUMER.CREATE.S", "CONSUMER.CREATE.S.D", "CONSUMER.DELETE.S.C",
        "STREAM.DELETE.S", "STREAM.INFO.T", "STREAM.PURGE.T", "STREAM.MSG.GET.T", "STREAM.MSG.DELETE.T",
        "DIRECT.GET.T", "CONSUMER.NAMES.T", "CONSUMER.LIST.T", "CONSUMER.INFO.T.C", "CONSUMER.INFO.S.D",
        "CONSUMER.CREATE.T", "CONSUMER.CREATE.T.C", "CONSUMER.DELETE.T.C", "CONSUMER.DELETE.S.D",
        "STREAM.CREATE.a/b", "STREAM.INFO.a*b", "STREAM.DELETE.T", "CONSUMER.DURABLE.CREATE.S.C", "FOO",
        "STREAM.LEADER.STEPDOWN.S", "CONSUMER.LEADER.STEPDOWN.S.C", "STREAM.PEER.REMOVE.S",
        "META.LEADER.STEPDOWN", "SERVER.REMOVE", "DIRECT.GET.S.s.1", "DIRECT.GET.S.s.*", "DIRECT.GET.S.zz",
        "DIRECT.GET.S.a..b", "STREAM.INFO", "STREAM.INFO.S.x", "CONSUMER.INFO.S", "STREAM.CREATE",
        "STREAM.NAMES.x", "CONSUMER.MSG.NEXT.S", "STREAM.TEMPLATE.NAMES", "STREAM.CANCEL_MOVE.S",
        "STREAM.PEER.EVACUATE.S", "ACCOUNT.PURGE.x", "CONSUMER.INFO.S.C.x", "STREAM.MSG.GET.S.x", "", "DIRECT.GET",
        "STREAM.PURGE.*", "STREAM.INFO.>"]


def filled_stream(rng, allow_direct=0.6):
    base = {"name": "S", "subjects": ["s.>"]}
    if maybe(rng, allow_direct):
        base["allow_direct"] = True
    if maybe(rng, 0.3):
        base["storage"] = "memory"
    for key in ("deny_delete", "deny_purge", "first_seq", "max_msgs_per_subject", "max_msgs"):
        if maybe(rng, 0.08):
            base[key] = STREAM_FIELDS[key](rng)
    case = [f"JS A STREAM.CREATE.S {compact(base)}"]
    for i in range(rng.randint(0, 8)):
        headers = rng.choice(["", "", "", f"| K: v{i} || ", f"| A: 1 | B:  2 | A: 3 || "])
        body = rng.choice([f"m{i}", "x" * 100, f"m{i}"])
        case.append(f"REQ A s.{rng.randint(1, 4)} {headers}{body}")
    return case, base


def requests(rng):
    """Every API subject with bodies that fit and that do not."""
    case, _ = filled_stream(rng)
    if maybe(rng, 0.7):
        case.append('JS A CONSUMER.CREATE.S.C {"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}')
    if maybe(rng, 0.2):
        case.append('JS A STREAM.CREATE.T {"name":"T","subjects":["t.*","u"]}')
    for _ in range(rng.randint(4, 14)):
        subject = rng.choice(SUBJECTS if maybe(rng, 0.8) else RARE)
        body = rng.choice(BODIES)
        headers = ""
        if maybe(rng, 0.04):
            headers = "| Nats-Required-Api-Level: %s || " % rng.choice(["0", "6", "99", "x", "", "-1"])
        case.append(f"JS A {subject} {headers}{body}".rstrip(" ") if body != " " else f"JS A {subject} {headers}{body}")
    case.append('JS A STREAM.INFO.S {"subjects_filter":">","deleted_details":true}')
    return case


# ---------------------------------------------------------------- publishing

HEADERS = {
    "Nats-Msg-Id": lambda r: r.choice(["a", "b", "c", "", "a" * 300]),
    "Nats-Expected-Stream": lambda r: r.choice(["S", "T", ""]),
    "Nats-Expected-Last-Sequence": lambda r: r.choice(["0", "1", "2", "3", "5", "x", "-1", "", " 2", "2 ", "+2", "02"]),
    "Nats-Expected-Last-Subject-Sequence": lambda r: r.choice(["0", "1", "2", "3", "4", "x", "-1", "", "1.0"]),
    "Nats-Expected-Last-Subject-Sequence-Subject": lambda r: r.choice(["s.1", "s.2", "s.>", "s.*", "zz", "", "a..b"]),
    "Nats-Expected-Last-Msg-Id": lambda r: r.choice(["a", "b", "c", ""]),
    "Nats-Rollup": lambda r: r.choice(["sub", "all", "x", ""]),
    "Nats-TTL": lambda r: r.choice(["1s", "x", "0", "", "never", "5"]),
    "Nats-Incr": lambda r: r.choice(["1", "x"]),
    "Nats-Schedule": lambda r: "@at 2100-01-01T00:00:00Z",
    "Nats-Stream-Source": lambda r: "x",
    "Nats-Batch-Id": lambda r: r.choice(["b", "", "x" * 65]),
    "Nats-Batch-Sequence": lambda r: r.choice(["1", "0", "2", "x"]),
    "Nats-Batch-Commit": lambda r: r.choice(["1", "eob", "0"]),
    "nats-msg-id": lambda r: "low",
    "Nats-Required-Api-Level": lambda r: "9",
    "Nats-Request-Info": lambda r: "x",
    "K": lambda r: r.choice(["v", "", "x" * 1000]),
    "Nats-Expected-Stream2": lambda r: "T",
    "Nats-Msg-Size": lambda r: "7",
    "Nats-Schedule-Next": lambda r: r.choice(["purge", "x"]),
    "Nats-Scheduler": lambda r: "x",
}


def publishes(rng):
    """Publishes with headers, against limits."""
    base = {"name": "S", "subjects": ["s.>"]}
    for key, values in (("max_msgs", [1, 3]), ("max_bytes", [1, 100, 300]), ("max_msgs_per_subject", [1, 2]),
                        ("max_msg_size", [1, 50, 1020]), ("discard", ["new", "new", "old"]), ("storage", ["memory"]),
                        ("discard_new_per_subject", [True]), ("duplicate_window", [100 * MS, 60 * SECOND]),
                        ("no_ack", [True]), ("first_seq", [10]), ("deny_purge", [True]), ("allow_atomic", [True]),
                        ("sealed", [False])):
        if maybe(rng, 0.2):
            base[key] = rng.choice(values)
    if base.get("discard_new_per_subject"):
        base.update(discard="new", max_msgs_per_subject=base.get("max_msgs_per_subject", 2))
    case = [f"JS A STREAM.CREATE.S {compact(base)}"]
    if maybe(rng, 0.2):
        case.append("B> SUB s.> 1")
    for i in range(rng.randint(3, 14)):
        roll = rng.random()
        if roll < 0.85:
            subject = f"s.{rng.randint(1, 3)}"
            headers = ""
            count = rng.choice([0, 1, 1, 2, 3])
            if count:
                keys = rng.sample(list(HEADERS), count)
                headers = "| " + " | ".join(f"{k}: {HEADERS[k](rng)}" for k in keys) + " || "
            body = rng.choice([f"m{i}", f"m{i}", "x" * 60, "", "x" * 2000])
            case.append(f"REQ A {subject} {headers}{body}")
        elif roll < 0.9:
            case.append(f"JS A STREAM.MSG.DELETE.S {compact({'seq': rng.randint(0, 5)})}")
        elif roll < 0.94:
            case.append("JS A STREAM.PURGE.S " + compact(rng.choice([{}, {"keep": 1}, {"filter": "s.1"}])))
        elif roll < 0.97:
            update = dict(base)
            update.update(rng.choice([{"max_msgs": 2}, {"max_bytes": 200}, {"max_msgs_per_subject": 1},
                                      {"discard": "new"}, {"sealed": True}, {"duplicate_window": 200 * MS},
                                      {"max_msg_size": 10}, {"no_ack": True}, {"subjects": ["s.1"]}]))
            case.append(f"JS A STREAM.UPDATE.S {compact(update)}")
        else:
            case.append("~ 150ms")
    case.append('JS A STREAM.INFO.S {"subjects_filter":">","deleted_details":true}')
    return case


# ---------------------------------------------------------------- pulling

def pull_body(rng):
    if maybe(rng, 0.12):
        return rng.choice(["", "1", "3", "0", "-1", "abc", "{", "{}", "[]", '{"batch":"1"}', '{"batch":1}x', "2 ",
                           '{"expires":"1s"}', '{"nope":1}', '{"batch":0}', '{"batch":-1}', '{"max_bytes":-1}',
                           '{"expires":-1}', '{"no_wait":1}', '{"batch":2,"group":"g"}', '{"min_pending":5}',
                           '{"priority":3}', '{"priority":10}', '{"id":"x"}', '{"min_ack_pending":2}', "+1", "1.5",
                           '{"Batch":2}', '{"batch":2,"priority":-1}'])
    body = {}
    if maybe(rng, 0.8):
        body["batch"] = rng.choice([1, 1, 2, 3, 5, 10, 100])
    if maybe(rng, 0.5):
        body["no_wait"] = True
    if maybe(rng, 0.5):
        body["expires"] = rng.choice([1, 100 * MS, 300 * MS, 60 * SECOND, 60 * SECOND])
    if maybe(rng, 0.2):
        body["max_bytes"] = rng.choice([1, 40, 100, 150, 200, 1000])
    if maybe(rng, 0.1):
        body["idle_heartbeat"] = rng.choice([20 * SECOND, 30 * SECOND, 60 * SECOND, -1])
    return compact(body)


ACKS = ["", "+ACK", "-NAK", "+WPI", "+TERM", "+NXT", "+OK", "+TERM why", "-NAK {\"delay\":60000000000}", "-NAK 60s",
        "+NXT 2", "+NXT {\"batch\":2}", "+NXT {\"no_wait\":true}", "junk", "-NAK junk", "-NAK {", "+ack", "+NXT x",
        "+ACKX", "-NAKX", "+WPI x", "-NAK {\"delay\":1}", "+NXT {\"batch\":2,\"no_wait\":true}", "+TERMx", "-NAK 0s",
        "-NAK {\"delay\":-1}", "-NAK -5s", "+NXT0", "-NAK {}"]


def pulls(rng):
    """Pull requests and acknowledgements of one consumer."""
    base = {"name": "S", "subjects": ["s.>"]}
    if maybe(rng, 0.3):
        base["storage"] = "memory"
    if maybe(rng, 0.1):
        base["max_msgs_per_subject"] = 1
    config = {"durable_name": "C", "ack_policy": rng.choice(["explicit"] * 4 + ["all", "none"])}
    for key, chance, values in (("max_ack_pending", 0.25, [1, 2, 3]), ("max_waiting", 0.2, [1, 2]),
                                ("max_deliver", 0.25, [1, 2]), ("max_batch", 0.1, [2]), ("headers_only", 0.1, [True]),
                                ("max_expires", 0.1, [SECOND]), ("max_bytes", 0.1, [100]),
                                ("filter_subject", 0.25, ["s.1", "s.*", "x"]),
                                ("filter_subjects", 0.1, [["s.1", "s.2"]]),
                                ("deliver_policy", 0.3, ["last", "new", "last_per_subject"])):
        if maybe(rng, chance):
            config[key] = rng.choice(values)
    if "filter_subjects" in config:
        config.pop("filter_subject", None)
    if config.get("deliver_policy") == "last_per_subject" and not {"filter_subject", "filter_subjects"} & set(config):
        config["filter_subject"] = "s.>"
    case = [f"JS A STREAM.CREATE.S {compact(base)}"]
    count = rng.randint(0, 6)
    for i in range(count):
        headers = rng.choice(["", "", f"| K: v || "])
        case.append(f"REQ A s.{rng.randint(1, 3)} {headers}m{i}")
    case.append(f"JS A CONSUMER.CREATE.S.C {compact({'stream_name': 'S', 'config': config})}")
    case.append("A> SUB in 1")
    delivered = 0
    for i in range(rng.randint(3, 14)):
        roll = rng.random()
        if roll < 0.42:
            case.append(f"NEXT A S.C {pull_body(rng)}".rstrip())
        elif roll < 0.7:
            ack = rng.choice(ACKS[:6] if maybe(rng, 0.6) else ACKS)
            seq, dseq = rng.randint(1, 6), rng.randint(1, 6)
            if maybe(rng, 0.7):
                dseq = seq
            token = f"$JS.ACK.S.C.1.{seq}.{dseq}.0.0"
            if maybe(rng, 0.06):
                token = rng.choice(["$JS.ACK.S.C.1.x.1.0.0", "$JS.ACK.S.C.1.1.1.0", "$JS.ACK.S.C", "$JS.ACK.S.D.1.1.1.0.0",
                                    "$JS.ACK.T.C.1.1.1.0.0", "$JS.ACK.S.C.1.-1.1.0.0", "$JS.ACK.S.C.1.1.x.0.0",
                                    "$JS.ACK._.hash.S.C.1.1.1.0.0", "$JS.ACK._.hash.S.C.1.1.1.0.0.x",
                                    "$JS.ACK.S.C.x.1.1.0.0", "$JS.ACK.S.C.1.0.0.0.0", "$JS.ACK.S.C.1.100.1.0.0"])
            reply = rng.choice([" in", " in", ""])
            case.append(f"A> PUB {token}{reply} {{len}} | {ack}")
        elif roll < 0.8:
            case.append(f"REQ A s.{rng.randint(1, 3)} n{i}")
        elif roll < 0.84:
            case.append(f"JS A STREAM.MSG.DELETE.S {compact({'seq': rng.randint(1, 6)})}")
        elif roll < 0.87:
            case.append("JS A STREAM.PURGE.S " + compact(rng.choice([{}, {"keep": 1}, {"filter": "s.1"}, {"seq": 3}])))
        elif roll < 0.9:
            case.append("~ 400ms")
        elif roll < 0.92:
            update = dict(config)
            update.update(rng.choice([{"max_ack_pending": 5}, {"max_deliver": 3}, {"headers_only": True},
                                      {"filter_subject": "s.2"}, {"description": "x"}, {"max_batch": 1}]))
            if "filter_subjects" in update:
                update.pop("filter_subject", None)
            case.append(f"JS A CONSUMER.CREATE.S.C {compact({'stream_name': 'S', 'config': update})}")
        case.append("JS A CONSUMER.INFO.S.C")
    if maybe(rng, 0.3):
        case.append(rng.choice(["JS A CONSUMER.DELETE.S.C", "JS A STREAM.DELETE.S"]))
        case.append("~ 20ms")
    else:
        case.append('JS A STREAM.INFO.S {"deleted_details":true}')
    return case


# ---------------------------------------------------------------- pushing

def pushes(rng):
    """Push consumers with their acknowledgements, flow control and heartbeats."""
    config = {"deliver_subject": "d", "ack_policy": rng.choice(["explicit", "explicit", "all", "none"])}
    if maybe(rng, 0.7):
        config["durable_name"] = "C"
    for key, chance, values in (("max_ack_pending", 0.25, [1, 2, 3]), ("max_deliver", 0.2, [1, 2]),
                                ("ack_wait", 0.15, [250 * MS]), ("headers_only", 0.1, [True]),
                                ("filter_subject", 0.25, ["s.1", "s.*"]), ("deliver_group", 0.2, ["g"]),
                                ("idle_heartbeat", 0.15, [10 * SECOND]), ("backoff", 0.1, [[200 * MS, 400 * MS]]),
                                ("deliver_policy", 0.3, ["last", "new", "last_per_subject", "by_start_sequence"])):
        if maybe(rng, chance):
            config[key] = rng.choice(values)
    if config["ack_policy"] == "none":
        config.pop("max_ack_pending", None)
    if config.get("deliver_policy") == "last_per_subject":
        config.setdefault("filter_subject", "s.>")
    if config.get("deliver_policy") == "by_start_sequence":
        config["opt_start_seq"] = rng.randint(1, 5)
    if "idle_heartbeat" in config and maybe(rng, 0.5):
        config["flow_control"] = True
    case = ['JS A STREAM.CREATE.S {"name":"S","subjects":["s.>"]}']
    for i in range(rng.randint(0, 5)):
        case.append(f"REQ A s.{rng.randint(1, 3)} m{i}")
    sub = "B> SUB d g 1" if "deliver_group" in config or maybe(rng, 0.1) else "B> SUB d 1"
    create = f"JS A CONSUMER.CREATE.S.C {compact({'stream_name': 'S', 'config': config})}"
    case += [sub, create] if maybe(rng, 0.6) else [create, "JS A CONSUMER.INFO.S.C", sub]
    case.append("JS A CONSUMER.INFO.S.C")
    for i in range(rng.randint(2, 10)):
        roll = rng.random()
        if roll < 0.4:
            ack = rng.choice(ACKS[:6] if maybe(rng, 0.7) else ACKS)
            seq = rng.randint(1, 6)
            dseq = seq if maybe(rng, 0.7) else rng.randint(1, 6)
            case.append(f"A> PUB $JS.ACK.S.C.1.{seq}.{dseq}.0.0 {{len}} | {ack}")
        elif roll < 0.6:
            case.append(f"REQ A s.{rng.randint(1, 3)} n{i}")
        elif roll < 0.66:
            case.append("~ 600ms")
        elif roll < 0.7:
            case.append(f"JS A STREAM.MSG.DELETE.S {compact({'seq': rng.randint(1, 6)})}")
        elif roll < 0.74:
            case.append("JS A STREAM.PURGE.S")
        elif roll < 0.78:
            case.append("B> UNSUB 1")
        elif roll < 0.82:
            case.append(sub)
        elif roll < 0.86:
            update = dict(config)
            update.update(rng.choice([{"max_ack_pending": 5}, {"deliver_subject": "e"}, {"headers_only": True},
                                      {"filter_subject": "s.2"}]))
            case.append(f"JS A CONSUMER.CREATE.S.C {compact({'stream_name': 'S', 'config': update})}")
        elif roll < 0.9:
            case.append(f"JS A CONSUMER.CREATE.S.C {compact({'stream_name': 'S', 'config': config})}")
        elif roll < 0.93:
            case.append("NEXT B S.C 1")
        case.append("JS A CONSUMER.INFO.S.C")
    return case


# ---------------------------------------------------------------- core

WORDS = ["PUB", "pub", "Pub", "SUB", "sub", "UNSUB", "UnSub", "PING", "ping", "PONG", "CONNECT", "HPUB", "INFO", "+OK",
         "-ERR", "FOO", "", "MSG", "PU", "PIN", "RS+", "LS+", "HMSG"]
TOPICS = ["foo", "foo.bar", "foo.*", ">", "*.bar", "foo..bar", ".foo", "foo.", "foo.>", "f*o", "foo.>.x", "$SYS.x", "_GR_.x",
          "$JS.ACK.x", "_R_.x", "$GR.x", "$NRG.x"]


def core_line(rng):
    topic = rng.choice(TOPICS[:6] if maybe(rng, 0.7) else TOPICS)
    gap = rng.choice([" ", " ", " ", "  ", "\\t", " \\t "])
    tail = rng.choice(["", "", "", " ", "\\t", "  "])
    end = rng.choice(["\\r\\n", "\\r\\n", "\\r\\n", "\\n"])
    roll = rng.random()
    if roll < 0.3:
        body = rng.choice(["", "x", "hello"])
        reply = rng.choice(["", "", gap + "rep", gap + "_R_.x", gap + "$JS.ACK.x"])
        word = rng.choice(["PUB", "PUB", "pub", "pUb"])
        size = str(len(body)) if maybe(rng, 0.95) else rng.choice(["-1", "x", "9999999999", "", "+1", "01", "1.0", "1048577"])
        finish = "\\r\\n" if maybe(rng, 0.96) else rng.choice(["\\n", "\\r", "xx\\r\\n"])
        return f"{word}{gap}{topic}{reply}{gap}{size}{tail}{end}{body}{finish}"
    if roll < 0.4:
        header = rng.choice(["NATS/1.0\\r\\n\\r\\n", "NATS/1.0\\r\\nA: b\\r\\n\\r\\n", "junk", ""])
        body = rng.choice(["", "x"])
        n = len(re.sub(r"\\.", "_", header))
        hdr = str(n) if maybe(rng, 0.93) else rng.choice(["0", "-1", "x", "1", "99"])
        reply = rng.choice(["", "", gap + "rep"])
        return f"{rng.choice(['HPUB', 'hpub'])}{gap}{topic}{reply}{gap}{hdr}{gap}{n + len(body)}{tail}{end}{header}{body}\\r\\n"
    if roll < 0.6:
        queue = rng.choice(["", "", "", gap + "q", gap + "_sys_"])
        sid = rng.choice(["1", "2", "3", "abc", "x.y"])
        if maybe(rng, 0.04):
            return f"SUB{gap}{topic}{end}"
        if maybe(rng, 0.03):
            return f"SUB{gap}{topic} a b c d{end}"
        return f"{rng.choice(['SUB', 'sub', 'SuB'])}{gap}{topic}{queue}{gap}{sid}{tail}{end}"
    if roll < 0.72:
        count = rng.choice(["", "", gap + "1", gap + "2", gap + "0", gap + "-1", gap + "x", gap + "1" + gap + "2"])
        return f"{rng.choice(['UNSUB', 'unsub'])}{gap}{rng.choice(['1', '2', '3', 'abc', 'zz'])}{count}{tail}{end}"
    if roll < 0.8:
        return rng.choice(["PING", "ping", "PONG", "PING x", "PONG x y", "+OK", "INFO {}", "PING\\t", "+OK x"]) + end
    if roll < 0.93:
        options = {}
        for key, values in (("verbose", [True, False]), ("pedantic", [True, False]), ("echo", [True, False]),
                            ("headers", [True, False]), ("no_responders", [True, False]), ("protocol", [0, 1, 1, 2, -1]),
                            ("name", ["n"]), ("user", ["u"]), ("jwt", ["x"]), ("zz", [1]), ("account", ["x"]),
                            ("lang", ["l"]), ("tls_required", [True, False])):
            if maybe(rng, 0.3 if key not in ("protocol", "no_responders", "account") else 0.12):
                options[key] = rng.choice(values)
        text = json.dumps(options)
        if maybe(rng, 0.06):
            text = rng.choice(["", "{", "[]", '{"verbose":"x"}', '{"verbose":1}', "null", '{}x', "x", '{"protocol":"1"}',
                               '{"name":5}', '{"Verbose":false}'])
        return f"{rng.choice(['CONNECT', 'connect'])}{gap}{text}{tail}{end}"
    if maybe(rng, 0.3):
        word = rng.choice(WORDS)
        return word + rng.choice(["", " x", " ", gap + "y"]) + end
    return "PING\\r\\n"


def core(rng):
    """Bytes of the core protocol on two connections."""
    case = ["open A raw"]
    if maybe(rng, 0.8):
        verbose = rng.choice(["true", "false", "false"])
        extra = rng.choice(["", ',"pedantic":true', ',"pedantic":false,"headers":true,"no_responders":true',
                            ',"pedantic":false,"headers":true', ',"pedantic":false,"echo":false'])
        case.append(f'A>> CONNECT {{"verbose":{verbose},"protocol":1{extra}}}\\r\\n')
    case.append("open B raw")
    case.append('B>> CONNECT {"verbose":false,"protocol":1,"headers":true,"pedantic":false}\\r\\nSUB > 9\\r\\nPING\\r\\n')
    for _ in range(rng.randint(2, 12)):
        who = "A" if maybe(rng, 0.85) else "B"
        case.append(f"{who}>> " + "".join(core_line(rng) for _ in range(rng.randint(1, 2))))
    return case


FAMILIES = {"streams": streams, "consumers": consumers, "requests": requests, "publishes": publishes, "pulls": pulls,
            "pushes": pushes, "core": core}


# ---------------------------------------------------------------- comparing

def ordered(lines):
    """The lines, with the answers to acknowledgements last: their place among deliveries is open."""
    return sorted(lines, key=lambda line: line.endswith("MSG in 1 0"))


def not_built(ours):
    """Whether corelane refuses what was asked for by name."""
    return any("is not supported yet" in line for line in ours)


def signature(step, theirs, ours):
    """What makes a difference one of its kind."""
    words = re.sub(r"[0-9]+", "0", " ".join(step.split(" ")[:1] + theirs[:1] + ours[:1]))
    return words[:160]
