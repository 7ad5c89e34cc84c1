"""Load on a broker with raw sockets, and the memory of what clients were told.

`Ledger` is what must hold: what was acknowledged, and which message stood at which sequence when
a client saw it. `Load` publishes and consumes until the broker dies. `verify` compares.
"""

import collections
import itertools
import json
import random
import re
import socket
import threading
import time

STREAM = "LOAD"
NUMBERS = itertools.count(random.randrange(1 << 40))
CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n'


class Gone(Exception):
    """The broker has closed the connection."""


class Wire:
    """One connection: lines and payloads."""

    def __init__(self, port, timeout=30):
        try:
            self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        except OSError as error:
            raise Gone(str(error)) from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(timeout)
        self.input = bytearray()
        self.requests = 0
        self.backlog = collections.deque()
        self.prefix = b"inbox.%d." % next(NUMBERS)
        self.line()
        self.send(CONNECT + b"SUB %s* i\r\nPING\r\n" % self.prefix)
        while self.line() != b"PONG":
            pass

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Gone(str(error)) from error

    def listen(self, name):
        """A subject that a push consumer may deliver to: wildcards do not count as listeners."""
        subject = self.prefix.decode() + "push." + name
        self.send(f"SUB {subject} {name}\r\n".encode())
        return subject

    def fill(self):
        try:
            data = self.socket.recv(1 << 18)
        except socket.timeout:
            raise
        except OSError as error:
            raise Gone(str(error)) from error
        if not data:
            raise Gone("closed")
        self.input += data

    def line(self):
        while True:
            end = self.input.find(b"\r\n")
            if end >= 0:
                line = bytes(self.input[:end])
                del self.input[: end + 2]
                return line
            self.fill()

    def message(self):
        """The next message: subject, reply, header block and body."""
        return self.backlog.popleft() if self.backlog else self.receive()

    def receive(self):
        """The next message on the wire. Answers pings meanwhile."""
        while True:
            line = self.line()
            words = line.split(b" ")
            if words[0] == b"PING":
                self.send(b"PONG\r\n")
            elif words[0] in (b"MSG", b"HMSG"):
                header = int(words[-2]) if words[0] == b"HMSG" else 0
                total = int(words[-1])
                while len(self.input) < total + 2:
                    self.fill()
                body = bytes(self.input[:total])
                del self.input[: total + 2]
                reply = words[3] if len(words) == (6 if words[0] == b"HMSG" else 5) else b""
                return words[1], reply, body[:header], body[header:]
            elif words[0] == b"-ERR":
                raise RuntimeError(line.decode())

    def request(self, subject, body=b"", headers=None):
        self.requests += 1
        inbox = b"%sr%d" % (self.prefix, self.requests)
        self.send(b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), inbox, len(body), body))
        while True:
            message = self.receive()
            to, _, head, answer = message
            if to != inbox:
                self.backlog.append(message)
            else:
                if head and not answer:
                    raise RuntimeError(f"{subject}: {head!r}")
                return answer

    def api(self, verb, body=None):
        body = json.dumps(body).encode() if body is not None else b""
        answer = json.loads(self.request(f"$JS.API.{verb}", body))
        if "error" in answer:
            raise RuntimeError(f"{verb}: {answer['error']}")
        return answer


class Ledger:
    """What clients know. One writer a key, so that threads need no lock."""

    def __init__(self):
        self.acked = {}  # sequence -> body
        self.delivered = {}  # sequence -> body
        self.consumed = set()  # sequences whose acknowledgement was answered
        self.undone = set()  # consumed, and delivered again all the same
        self.reused = []
        self.top = 0

    def ack(self, seq, body):
        self.see(self.acked, seq, body)

    def deliver(self, seq, body):
        self.see(self.delivered, seq, body)

    def see(self, seen, seq, body):
        known = self.acked.get(seq) or self.delivered.get(seq)
        if known is not None and known != body:
            self.reused.append((seq, known, body))
        seen[seq] = body
        self.top = max(self.top, seq)


class Load:
    """Publishers, an observer and a consumer with acknowledgements, until the broker dies."""

    def __init__(self, port, ledger, publishers=4, window=100, size=200, tag=""):
        self.port, self.ledger, self.window, self.size = port, ledger, window, size
        self.tag = tag
        self.failed = []
        self.count = 0
        jobs = [(self.publish, (i,)) for i in range(publishers)] + [(self.observe, ()), (self.consume, ())]
        self.threads = [
            threading.Thread(target=self.guard, args=(job, args), daemon=True) for job, args in jobs
        ]

    @staticmethod
    def prepare(port):
        wire = Wire(port)
        wire.api(f"STREAM.CREATE.{STREAM}", {"name": STREAM, "subjects": ["load.>"]})
        config = {"durable_name": "D", "ack_policy": "explicit", "ack_wait": 3_000_000_000}
        config["max_ack_pending"] = 5000
        wire.api(f"CONSUMER.CREATE.{STREAM}.D", {"stream_name": STREAM, "config": config})

    def start(self):
        for thread in self.threads:
            thread.start()

    def join(self):
        for thread in self.threads:
            thread.join(60)
            if thread.is_alive():
                self.failed.append("a client hangs after the broker has died")
        if self.failed:
            raise RuntimeError("; ".join(self.failed))

    def guard(self, job, args):
        try:
            job(*args)
        except Gone:
            pass
        except Exception as error:  # told by join
            self.failed.append(f"{job.__name__}: {type(error).__name__}: {error}")

    def publish(self, number):
        wire = Wire(self.port)
        filler = b"." * self.size
        sent = 0
        chance = random.Random(f"{self.tag}{number}")
        while True:
            wave = chance.randint(1, self.window)
            bodies = {}
            out = bytearray()
            for _ in range(wave):
                sent += 1
                name = b"%s-%d-%d" % (self.tag.encode(), number, sent)
                body = name + filler[: chance.randint(0, self.size)]
                inbox = b"%sp%d" % (wire.prefix, sent)
                bodies[inbox] = body
                out += b"PUB load.%d %s %d\r\n%s\r\n" % (number, inbox, len(body), body)
            wire.send(out)
            while bodies:
                to, _, _, answer = wire.message()
                if not answer:
                    raise Gone("nobody takes this stream's messages")
                ack = json.loads(answer)
                if "error" in ack:
                    raise RuntimeError(f"publish: {ack}")
                self.ledger.ack(ack["seq"], bodies.pop(to))
                self.count += 1

    def observe(self):
        """Sees new messages as they are delivered, without acknowledgements."""
        wire = Wire(self.port)
        config = {"deliver_subject": wire.listen("o"), "ack_policy": "none", "deliver_policy": "new"}
        wire.api(f"CONSUMER.CREATE.{STREAM}", {"stream_name": STREAM, "config": config})
        while True:
            _, reply, _, body = wire.message()
            if reply.startswith(b"$JS.ACK."):
                self.ledger.deliver(int(reply.split(b".")[5]), body)

    def consume(self):
        """Fetches, acknowledges, and notes what was answered."""
        wire = Wire(self.port)
        pull = json.dumps({"batch": 50, "expires": 1_000_000_000}).encode()
        waiting = {}
        number = 0
        inbox = wire.prefix + b"c"
        subject = b"$JS.API.CONSUMER.MSG.NEXT.%s.D" % STREAM.encode()
        while True:
            head = b"PUB %s %s %d\r\n" % (subject, inbox, len(pull))
            wire.send(head + pull + b"\r\n")
            left = 50
            while left or waiting:
                to, reply, _, body = wire.message()
                if to in waiting:
                    self.ledger.consumed.add(waiting.pop(to))
                elif reply.startswith(b"$JS.ACK."):
                    seq = int(reply.split(b".")[5])
                    if seq in self.ledger.consumed:
                        self.ledger.undone.add(seq)
                    self.ledger.deliver(seq, body)
                    left -= 1
                    number += 1
                    to = b"%sa%d" % (wire.prefix, number)
                    waiting[to] = seq
                    wire.send(b"PUB %s %s 4\r\n+ACK\r\n" % (reply, to))
                elif to == inbox:
                    left = 0


def read_all(port, first=1):
    """All messages of the stream from a sequence on: sequence -> body."""
    wire = Wire(port)
    info = wire.api(f"STREAM.INFO.{STREAM}")
    found = {}
    if info["state"]["messages"] == 0 or info["state"]["last_seq"] < first:
        return info["state"], found
    config = {"ack_policy": "none", "deliver_subject": wire.listen("v"), "mem_storage": True}
    config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": first}
    config |= {"flow_control": True, "idle_heartbeat": 5_000_000_000}
    wire.api(f"CONSUMER.CREATE.{STREAM}", {"stream_name": STREAM, "config": config})
    while True:
        _, reply, head, body = wire.message()
        if head.startswith(b"NATS/1.0 100"):
            stalled = re.search(rb"Nats-Consumer-Stalled: (\S+)", head)
            reply = reply or (stalled and stalled[1])
            if reply:  # more comes only after an answer
                wire.send(b"PUB %s 0\r\n\r\n" % reply)
        elif reply.startswith(b"$JS.ACK."):
            words = reply.split(b".")
            found[int(words[5])] = body
            if words[8] == b"0":
                return info["state"], found


def verify(port, ledger, first=1, consumers=True):
    """What is wrong, as texts."""
    wrong = []
    state, found = read_all(port, first)
    if state["last_seq"] < ledger.top:
        wrong.append(f"a client has seen sequence {ledger.top}, the last one now is {state['last_seq']}")
    for what, seen in (("acknowledged", ledger.acked), ("delivered", ledger.delivered)):
        bad = [seq for seq, body in seen.items() if seq >= first and found.get(seq) != body]
        lost = [seq for seq in bad if seq not in found]
        if lost:
            wrong.append(f"{len(lost)} {what} messages are lost, the first is {min(lost)}")
        if len(bad) > len(lost):
            wrong.append(f"{len(bad) - len(lost)} {what} sequences hold other messages")
    if ledger.reused:
        wrong.append(f"{len(ledger.reused)} sequences were used twice: {ledger.reused[0]}")
    if consumers and ledger.undone:
        first = min(ledger.undone)
        wrong.append(f"{len(ledger.undone)} came again after their answered acks, first {first}")
    if consumers:
        wire = Wire(port)
        info = wire.api(f"CONSUMER.INFO.{STREAM}.D")
        floor = 0
        while floor + 1 in ledger.consumed:
            floor += 1
        if info["ack_floor"]["stream_seq"] < floor:
            now = info["ack_floor"]["stream_seq"]
            wrong.append(f"acknowledgements up to {floor} were answered, now they end at {now}")
    for seq, body in found.items():
        ledger.see(ledger.delivered, seq, body)
    return wrong


def wait_some(low, high):
    time.sleep(random.uniform(low, high))
