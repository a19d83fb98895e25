from __future__ import annotations

import subprocess
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect


class _Server(ProcessProtocol):
    def __init__(self) -> None:
        self.port: Deferred[int] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self._printed = b""

    def outReceived(self, data: bytes) -> None:
        self._printed += data
        if b"\n" in self._printed and not self.port.called:
            self.port.callback(int(self._printed.split()[0]))

    def processEnded(self, reason: Failure) -> None:
        if not self.port.called:
            self.port.errback(reason)
        reason.trap(ProcessDone, ProcessTerminated)
        self.ended.callback(None)


class EchoTests(TestCase):
    timeout = 60

    async def start(self) -> str:
        """Run the server; returns its URL."""
        command = [sys.executable, "-m", "tests.conformance.echo", "--port", "0"]
        spawner: Any = reactor
        server = _Server()
        process = spawner.spawnProcess(server, sys.executable, command, env=None, childFDs={0: "w", 1: "r", 2: 2})

        def stop() -> Deferred[None]:
            process.signalProcess("TERM")
            return server.ended

        self.addCleanup(stop)
        return f"ws://127.0.0.1:{await server.port}/"

    async def test_client_library(self) -> None:
        """A client that people use talks to us: text, binary, pings, large messages, and an orderly close."""
        url = await self.start()

        def talk() -> list[str | bytes]:
            with connect(url) as client:
                sent: list[str | bytes] = ["hello", "€" * 20000, b"\x00\xff", ""]
                for message in sent:
                    client.send(message)
                client.send(["in ", "three ", "pieces"])
                assert client.ping().wait(10)
                answers = [client.recv(timeout=10) for _ in range(len(sent) + 1)]
            assert client.close_code == 1000
            return answers

        answers = await deferToThread(talk)
        self.assertEqual(answers, ["hello", "€" * 20000, b"\x00\xff", "", "in three pieces"])

    async def test_too_large(self) -> None:
        """A client learns by the close code that its message was too large."""
        url = await self.start()

        def talk() -> int | None:
            with connect(url) as client:
                try:
                    client.send("*" * 65537)
                    client.recv(timeout=10)
                except ConnectionClosedError as error:
                    assert error.rcvd is not None, error
                    return error.rcvd.code
            return None

        self.assertEqual(await deferToThread(talk), 1009)

    async def test_plain_http(self) -> None:
        """Without a site, who speaks plain HTTP is told what to speak (426)."""
        script = "import http.client, sys; c = http.client.HTTPConnection(sys.argv[1]); c.request('GET', '/'); "
        script += "print(c.getresponse().status)"
        address = (await self.start()).removeprefix("ws://").rstrip("/")
        run = [sys.executable, "-c", script, address]
        output = await deferToThread(subprocess.run, run, capture_output=True, timeout=30, text=True)
        self.assertEqual(output.stdout.strip(), "426")
