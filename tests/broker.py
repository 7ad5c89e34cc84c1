"""A server process for the test drivers: nats-server's flags, a store of its own, the same port again.

`CORELANE_EXTRA_CONFIG` is added to the configuration when the program is corelane, so that a whole
suite can be run with, say, four reactors.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time


# A driver that is told to end takes its broker with it.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


class Broker:
    """Starts with `start`, dies with `kill`, and starts again on the port it had."""

    def __init__(self, program, store=None, config="", scratch=None, prefix=None):
        self.program = str(program)
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="broker-", dir=scratch))
        self.store = pathlib.Path(store) if store else self.home / "store"
        self.config = config
        self.prefix = prefix or []
        self.process = None
        self.port = None
        if "corelane" in os.path.basename(self.program):
            self.config += "\n" + os.environ.get("CORELANE_EXTRA_CONFIG", "")

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def start(self, wait=20.0):
        ports = self.home / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        command = [*self.prefix, self.program, "-a", "127.0.0.1", "-p", str(self.port or -1)]
        command += ["-js", "-sd", str(self.store), "--ports_file_dir", str(ports)]
        if self.config.strip():
            (self.home / "server.conf").write_text(self.config + "\n")
            command += ["-c", str(self.home / "server.conf")]
        with open(self.home / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + wait
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.program} ended at its start:\n{self.log_tail()}")
            for file in ports.iterdir():
                try:
                    self.port = int(json.loads(file.read_text())["nats"][0].rsplit(":", 1)[1])
                    socket.create_connection(("127.0.0.1", self.port), 1).close()
                    return self
                except (ValueError, KeyError, IndexError, OSError):
                    pass
            time.sleep(0.005)
        raise RuntimeError(f"{self.program} was not ready in time:\n{self.log_tail()}")

    def kill(self):
        """Kills it as a crash would."""
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def log_tail(self):
        return "\n".join((self.home / "log").read_text(errors="replace").splitlines()[-20:])

    def close(self):
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()


def default_program():
    """`CORELANE_BIN`, or what cargo has built last."""
    if os.environ.get("CORELANE_BIN"):
        return os.environ["CORELANE_BIN"]
    root = pathlib.Path(__file__).resolve().parent.parent
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    built = [target / profile / "corelane" for profile in ("release", "debug")]
    built = [path for path in built if path.exists()]
    if not built:
        raise SystemExit("no corelane binary: build it, or name one with CORELANE_BIN")
    return str(max(built, key=lambda path: path.stat().st_mtime))


def scratch_dir():
    """A directory on a real disk (a temporary file system may not take O_DIRECT)."""
    root = pathlib.Path(__file__).resolve().parent.parent
    path = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target")) / "tmp"
    path.mkdir(parents=True, exist_ok=True)
    return path
