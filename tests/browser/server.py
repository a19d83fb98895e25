"""The daemon for tests that block: a browser waits for its own events, not for trial's reactor."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from websockets.sync.client import ClientConnection, connect

from tests.database import fresh_database
from tests.integration.case import ROOMY
from tests.integration.daemon import PATIENCE, Daemon, token


def wait_until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> None:
    """Look at *condition* again and again until it is true."""
    give_up_at = time.monotonic() + patience
    while not condition():
        if time.monotonic() > give_up_at:
            raise AssertionError(f"it never came to {what}")
        time.sleep(0.02)


class Server:
    """A daemon on a database of its own, from :meth:`start` to :meth:`close`.

    :ivar port: the same after a restart, as the pages come back to it.
    """

    def __init__(self, *options: str) -> None:
        dsn: list[str] = []
        Deferred.fromCoroutine(fresh_database()).addCallback(dsn.append)
        self._options = (*ROOMY, *options)
        self.daemon = Daemon(*self._options, database=dsn[0])
        self.port = 0

    def start(self) -> Server:
        self._run()
        self.port = self.daemon.port
        return self

    def _run(self) -> None:
        self.daemon.run()
        wait_until(lambda: self.daemon.port or self.daemon._ended, "the start-up line")
        if not self.daemon.port:
            raise AssertionError(self.daemon.log)

    def kill(self) -> None:
        """End it as the kernel does."""
        self.daemon.signal(signal.SIGKILL)
        wait_until(lambda: self.daemon._ended, "its end")

    def start_again(self) -> None:
        """On the same data and port."""
        command = self.daemon._command
        command[command.index("--listen") + 1] = f"tcp:{self.port}:interface=127.0.0.1"
        self._run()

    def close(self) -> None:
        if not self.daemon._ended:
            self.daemon.signal(signal.SIGTERM)
            wait_until(lambda: self.daemon._ended, "its end")
        shutil.rmtree(self.daemon.data, ignore_errors=True)


class Guest:
    """A guest with a plain WebSocket, for tests of the console.

    :param name: of a customer; "" is an anonymous guest.
    """

    def __init__(self, server: Server, group_id: int, name: str = "Gina", **claims: Any) -> None:
        self._socket: ClientConnection = connect(f"ws://127.0.0.1:{server.port}/", max_size=None)
        self._pushes: list[dict[str, Any]] = []
        self._number = 0
        key = {"token": token(name=name, **claims)} if name else {}
        self.data = self.ask(21000, call_type=1, group_id=group_id, **key)
        self.gid = int(self.data["gid"])

    def ask(self, api_key: int, **parameters: Any) -> dict[str, Any]:
        """The data of the reply; anything but success fails."""
        self._number += 1
        self._socket.send(json.dumps({"api_key": api_key, "request_id": self._number, **parameters}))
        while True:
            frame = self._next()
            if frame.get("request_id") == self._number:
                if frame["code"] < 0:
                    raise AssertionError(frame)
                return dict(frame["data"])
            self._pushes.append(frame)

    def say(self, msg: Any, file_type: int = 0) -> dict[str, Any]:
        """Send a message; returns its message_info."""
        number = self._number + 1
        sent = self.ask(22300, msg=msg, file_type=file_type, cmid=f"{os.urandom(6).hex()}-{number}")
        return dict(sent["message_info"])

    def push(self, api_key: int, where: Callable[[dict[str, Any]], bool] = lambda data: True) -> dict[str, Any]:
        """The next push of this kind, waited for."""
        give_up_at = time.monotonic() + PATIENCE
        while True:
            for frame in self._pushes:
                if frame["api_key"] == api_key and where(frame["data"]):
                    self._pushes.remove(frame)
                    return dict(frame["data"])
            self._pushes.append(self._next(max(give_up_at - time.monotonic(), 0.01)))

    def history(self) -> list[dict[str, Any]]:
        """All messages that the server has."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.ask(22100, after_seq=found[-1]["seq"] if found else 0, page_size=100)
            found += sorted(page["recs"].values(), key=lambda one: int(one["seq"]))
            if not page["has_more"]:
                return found

    def close(self) -> None:
        self._socket.close()

    def _next(self, timeout: float = PATIENCE) -> dict[str, Any]:
        return dict(json.loads(self._socket.recv(timeout)))
