"""A server under test and raw connections to it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def program(kind):
    """The binary of a server kind."""
    if kind == "nats-server":
        return os.environ.get("NATS_SERVER_BIN", "nats-server")
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    return os.environ.get("CORELANE_BIN", str(Path(target) / "debug" / "corelane"))


class Server:
    """A process over an empty store, on a port of its own."""

    def __init__(self, kind, reactors=1, config=""):
        self.kind = kind
        self.dir = Path(tempfile.mkdtemp(prefix=f"diff-{kind}-"))
        ports = self.dir / "ports"
        ports.mkdir()
        if kind == "corelane":
            config += f"\ncorelane {{ reactors: {reactors}, shards: {reactors}, pin: false }}\n"
        (self.dir / "server.conf").write_text(config + "\n")
        self.log = open(self.dir / "log", "wb")
        self.process = subprocess.Popen(
            [program(kind), "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", str(self.dir / "store"),
             "--ports_file_dir", str(ports), "-c", str(self.dir / "server.conf")],
            cwd=self.dir, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 20
        while True:
            files = list(ports.iterdir())
            text = files[0].read_text() if files else ""
            if text.endswith("}"):
                self.port = int(json.loads(text)["nats"][0].rsplit(":", 1)[1])
                return
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.dir / "log").read_text())
            time.sleep(0.01)

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.alive():
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Conn:
    """One connection: frames are (line, header lines or None, body)."""

    def __init__(self, port, connect=None):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = b""
        self.frames = []
        self.closed = False
        self.count = 0
        if connect is not None:
            self.take(lambda f: f[0].startswith("INFO"), 5)
            self.send(b"CONNECT " + connect.encode() + b"\r\nPING\r\n")
            self.take(lambda f: f[0] == "PONG", 5)
            self.take(lambda f: f[0].startswith("INFO"), 5)

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass

    def fill(self, seconds):
        """Reads once; False when nothing came in time."""
        if self.closed:
            return False
        self.socket.settimeout(max(seconds, 0.0005))
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return False
        self.input += data
        while (parsed := parse(self.input)) is not None:
            frame, used = parsed
            self.input = self.input[used:]
            if frame[0] == "PING":
                self.send(b"PONG\r\n")
            else:
                self.frames.append(frame)
        return True

    def take(self, wanted, seconds):
        """The first frame that is wanted, or None."""
        end = time.monotonic() + seconds
        seen = 0
        while True:
            while seen < len(self.frames):
                if wanted(self.frames[seen]):
                    return self.frames.pop(seen)
                seen += 1
            left = end - time.monotonic()
            if left <= 0 or self.closed:
                return None
            self.fill(left)

    def settle(self, quiet):
        """Waits until nothing has come for so long, and gives what came."""
        end = time.monotonic() + 20 * quiet
        while self.fill(quiet) and time.monotonic() < end:
            pass
        frames, self.frames = self.frames, []
        return frames


def parse(data):
    """One frame from the head of the input, and how many bytes it took."""
    end = data.find(b"\r\n")
    if end < 0:
        return None
    line = data[:end].decode("latin1")
    words = line.split(" ")
    if words[0] not in ("MSG", "HMSG"):
        return (line, None, b""), end + 2
    total = int(words[-1])
    start = end + 2
    if len(data) < start + total + 2:
        return None
    payload = data[start:start + total]
    headers = None
    if words[0] == "HMSG":
        size = int(words[-2])
        headers = payload[:size].decode("latin1").removesuffix("\r\n\r\n").split("\r\n")
        payload = payload[size:]
    return (line, headers, payload), start + total + 2
