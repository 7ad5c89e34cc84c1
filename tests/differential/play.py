"""Plays a case (lines in the words of the transcripts) to one server and gives what it saw."""

import json
import re
import time

from wire import Conn

CONNECT = ('{"verbose":false,"pedantic":false,"tls_required":false,"lang":"t","version":"1",'
           '"protocol":1,"echo":true,"headers":true,"no_responders":true}')
TIME = re.compile(r"(?!0001)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
ACK = re.compile(r"(\$JS\.ACK\.[^ .]+\.[^ .]+\.\d+\.\d+\.\d+)\.\d{15,}\.")
FLOW = re.compile(r"(\$JS\.FC\.[^ .]+\.[^ .]+)\.\w+")
NAME = re.compile(r'"name":"([0-9A-Za-z]{8})","created"')


def unescape(text):
    table = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\", "s": b" "}
    out, at = b"", 0
    while at < len(text):
        if text[at] == "\\" and text[at + 1:at + 2] in table:
            out += table[text[at + 1]]
            at += 2
        elif text[at:at + 2] == "\\x":
            out += bytes([int(text[at + 2:at + 4], 16)])
            at += 4
        else:
            out += text[at].encode()
            at += 1
    return out


class Player:
    """A case against one server."""

    def __init__(self, server, slow=1.0):
        self.port = server.port
        self.slow = slow
        self.conns = {}
        self.names = {}
        self.count = 0

    def conn(self, name, connect=CONNECT):
        if name not in self.conns:
            self.conns[name] = Conn(self.port, connect)
        return self.conns[name]

    def close(self):
        for conn in self.conns.values():
            conn.socket.close()

    def clean(self):
        """No streams are left over."""
        conn = Conn(self.port, CONNECT)
        conn.send(b"SUB clean 1\r\n")
        while True:
            conn.send(b"PUB $JS.API.STREAM.NAMES clean 0\r\n\r\n")
            frame = conn.take(lambda f: "MSG" in f[0], 10)
            names = json.loads(frame[2])["streams"]
            if not names:
                break
            for name in names:
                conn.send(f"PUB $JS.API.STREAM.DELETE.{name} clean 0\r\n\r\n".encode())
                conn.take(lambda f: "MSG" in f[0], 10)
        conn.socket.close()

    def play(self, case):
        return [(step, self.step(step)) for step in case]

    def normal(self, text):
        for name in NAME.findall(text):
            if name not in ("consumer",):
                self.names.setdefault(name, f"<name{len(self.names)}>")
        for name, hole in self.names.items():
            text = text.replace(name, hole)
        text = TIME.sub("T", text)
        text = re.sub(r'"leader":"[^"]*"', '"leader":"L"', text)
        text = re.sub(r'"_nats.level":"\d"', '"_nats.level":"N"', text)
        text = re.sub(r'"pause_remaining":\d+', '"pause_remaining":N', text)
        text = re.sub(r'"api":\{[^}]*\}', '"api":{}', text)
        return FLOW.sub(r"\1.X", ACK.sub(r"\1.T.", text))

    def frame(self, frame):
        line, headers, body = frame
        if line.startswith("INFO"):
            return "INFO"
        if headers is not None:
            line += " | " + " | ".join(headers) + " ||"
        if body:
            line += " | " + (body.decode("latin1") if len(body) < 100000 else f"{len(body)} bytes")
        return self.normal(line)

    def settle(self):
        out = []
        for name, conn in sorted(self.conns.items()):
            conn.send(b"PING\r\n")
            pong = conn.take(lambda f: f[0] == "PONG", 2)
            del pong
        for name, conn in sorted(self.conns.items()):
            for frame in conn.settle(0.03 * self.slow):
                out.append(f"{name}< {self.frame(frame)}")
            if conn.closed:
                out.append(f"{name}< closed")
        return out

    def step(self, step):
        word, _, rest = step.partition(" ")
        if word == "~":
            time.sleep(int(rest.removesuffix("ms")) / 1000)
            return self.settle()
        if word == "JS" or word == "REQ":
            return self.request(word, rest)
        if word == "NEXT":
            name, _, rest = rest.partition(" ")
            target, _, payload = rest.partition(" ")
            self.publish(self.conn(name), f"$JS.API.CONSUMER.MSG.NEXT.{target}", "in", payload)
            return self.settle()
        if word == "open":
            name, _, connect = rest.partition(" ")
            self.conn(name, None if connect == "raw" else connect)
            return self.settle()
        if word == "close":
            if rest in self.conns:
                self.conns.pop(rest).socket.close()
            time.sleep(0.02 * self.slow)
            return self.settle()
        if word.endswith(">>"):
            self.conn(word[:-2]).send(unescape(rest))
            return self.settle()
        if word.endswith(">"):
            self.core(self.conn(word[:-1]), rest)
            return self.settle()
        raise ValueError(step)

    def core(self, conn, text):
        line, bar, rest = text.partition(" | ")
        if line.split(" ")[0].upper() not in ("PUB", "HPUB"):
            conn.send(unescape(line) + b"\r\n")
            return
        header, payload = b"", b""
        if bar and (" ||" in rest or rest.startswith("NATS/1.0")):
            head, _, payload = rest.partition(" ||")
            header = "\r\n".join(head.split(" | ")).encode() + b"\r\n\r\n"
            payload = unescape(payload.removeprefix(" "))
        elif bar:
            payload = unescape(rest)
        line = line.replace("{hdr}", str(len(header)))
        line = line.replace("{len}", str(len(header) + len(payload)))
        conn.send(unescape(line) + b"\r\n" + header + payload + b"\r\n")

    def publish(self, conn, subject, reply, text):
        if text.startswith("| "):
            head, _, body = text[2:].partition(" ||")
            header = "NATS/1.0\r\n" + "".join(h + "\r\n" for h in head.split(" | ")) + "\r\n"
            header, body = unescape(header.replace("\\", "\\\\")) , unescape(body.removeprefix(" "))
            sizes = f"{len(header)} {len(header) + len(body)}"
            conn.send(f"HPUB {subject} {reply} {sizes}\r\n".encode() + header + body + b"\r\n")
        else:
            text = text.removeprefix("| ")
            body = unescape(text) if not text.startswith("{") else text.encode()
            conn.send(f"PUB {subject} {reply} {len(body)}\r\n".encode() + body + b"\r\n")

    def request(self, word, rest):
        name, _, rest = rest.partition(" ")
        subject, _, payload = rest.partition(" ")
        conn = self.conn(name)
        if conn.count == 0:
            conn.send(b"SUB _r.> r\r\n")
        conn.count += 1
        reply = f"_r.{conn.count}"
        for generated, hole in self.names.items():
            subject, payload = subject.replace(hole, generated), payload.replace(hole, generated)
        self.publish(conn, "$JS.API." + subject if word == "JS" else subject, reply, payload)
        answer = conn.take(lambda f: " r " in f[0] and "MSG" in f[0], 0.7 * self.slow)
        if answer is None:
            return ["none"] + self.settle() if not conn.closed else ["closed"]
        line, headers, body = answer
        text = ""
        if headers is not None:
            text += "| " + " | ".join(headers) + " || "
        return [self.normal(text + body.decode("latin1"))]
