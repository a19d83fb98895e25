"""The servers that are compared, each run as its users run it: a process of its own, with production's options.

What is lifted of production's limits is said by :data:`LIFTED`, and printed with the results.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from bench.errors import BenchError
from bench.postgres import ROOT

CHATPROTO = "chatproto"
ONE_INSERT = "one INSERT a message"
ECHO = "Autobahn echo"

LIFTED: Mapping[str, str] = {"rate": "10000000", "burst": "10000000"}
"""Options of the closed loop and the fan-out, where one connection sends more than production allows."""

# Outside the range that the kernel takes source ports from, so that the port is free again after a restart.
_PORTS = range(18420, 18520)
_START_LIMIT = 30.0
_STOP_LIMIT = 60.0


def free_port() -> tuple[int, socket.socket]:
    """A port on which nobody listens, and what keeps it from other runs of the benchmark while it is open.

    A server needs seconds until it listens: without that, two runs may choose the same port, and one asks the server
    of the other.
    """
    for port in _PORTS:
        claim = socket.socket(socket.AF_UNIX)
        try:
            # A name without a file, which ends with the process (unix(7), abstract).
            claim.bind(f"\0chatproto-bench-{port}")
            with socket.socket() as attempt:
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                attempt.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        return port, claim
    raise BenchError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free")


class Server:
    """One process that listens on a port.

    :param name: CHATPROTO, ONE_INSERT or ECHO.
    :param data: its directory; holds the log.
    :param options: of the daemon, name → value.
    """

    def __init__(self, name: str, data: Path, dsn: str | None = None, options: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.data = data
        self.port, self._claim = free_port()
        self._dsn = dsn
        self._options = options or {}
        self._process: subprocess.Popen[bytes] | None = None
        data.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start it and wait until it serves.

        :returns: when it did, by the monotonic clock.
        :raises BenchError: it does not.
        """
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CHATPROTO_")}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        if self._dsn is not None:
            environ["CHATPROTO_DATA"] = str(self.data)
            environ["CHATPROTO_DATABASE"] = self._dsn
            environ["CHATPROTO_LISTEN"] = f"tcp:{self.port}:interface=127.0.0.1"
        for option, value in self._options.items():
            environ["CHATPROTO_" + option.replace("-", "_").upper()] = value
        with (self.data / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), cwd=self.data, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        give_up = time.monotonic() + _START_LIMIT
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.stop()
                raise BenchError(f"{self.name} does not start; its log ends:\n{self.log_end()}")
            time.sleep(0.02)
        return time.monotonic()

    def _command(self) -> list[str]:
        if self.name == ECHO:
            return [sys.executable, "-m", "bench.yardsticks.echo", str(self.port)]
        twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--pidfile=", "-n"]
        if self.name == CHATPROTO:
            return [*twistd, "chatproto"]
        return [*twistd, "-y", str(ROOT / "bench" / "yardsticks" / "one_insert.py")]

    def _serves(self) -> bool:
        try:
            if self._dsn is None:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return True
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def stop(self) -> None:
        """End it as an operator does, and wait for it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise BenchError(f"{self.name} did not stop within {_STOP_LIMIT:.0f} s") from None

    def close(self) -> None:
        """Give the port back."""
        self._claim.close()

    def log_end(self) -> str:
        return "\n".join((self.data / "server.log").read_text(errors="replace").splitlines()[-20:])
