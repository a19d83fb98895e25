"""What an ended connection leaves behind: nothing, for the collector of cycles is seldom awake."""

from __future__ import annotations

import gc
import socket
import ssl
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from chatproto.connection.protocol import ChatFactory
from chatproto.listening import endpoint
from chatproto.web.site import make_site
from tests.connection.memory import Recorder, config
from tests.integration.daemon import eventually
from tests.integration.raw import handshake
from tests.test_listening import certificate

reactor: Any = installed

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


def plain(client: socket.socket) -> socket.socket:
    return client


def over_tls(client: socket.socket) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(client)


class GarbageTests(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.recorder = Recorder(reactor)
        self.factory = ChatFactory(config(), self.recorder, reactor, make_site(lambda: True, reactor))
        key = Path(self.mktemp())
        certificate(key)
        self.ports = {}
        for kind, description in (("tcp", "tcp:0"), ("tls", f"ssl:0:privateKey={key}")):
            server, _ = endpoint(reactor, f"{description}:interface=127.0.0.1")
            port = await server.listen(self.factory)
            self.addCleanup(port.stopListening)
            self.ports[kind] = port.getHost().port
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)

    async def there(self) -> bool:
        return bool(self.factory.connections)

    async def assertNothingIsLeft(
        self, kind: str, said: bytes, greet: Callable[[socket.socket], socket.socket]
    ) -> None:
        """A client comes, says something, waits for an answer where there is one, and goes without a good-bye."""
        client = socket.create_connection(("127.0.0.1", self.ports[kind]), 10)
        self.addCleanup(client.close)
        await eventually(self.there, "a connection")
        [connection] = self.factory.connections
        kept = [weakref.ref(connection), weakref.ref(connection.transport)]
        del connection

        def visit() -> None:
            with greet(client) as spoken:
                if said:
                    spoken.sendall(said)
                    spoken.recv(1)

        await deferToThread(visit)
        # The recorder keeps what the dispatch would not.
        self.recorder.connections.clear()

        async def nothing_is_left() -> bool:
            return all(one() is None for one in kept)

        await eventually(nothing_is_left, f"an end of the connection that said {said[:20]!r} by {kind}")

    async def test_plain(self) -> None:
        """However far a connection came, its memory is free again when it has ended."""
        for said in (b"", REQUEST, handshake()):
            await self.assertNothingIsLeft("tcp", said, plain)

    async def test_tls(self) -> None:
        """Neither does one over TLS leave anything, though most end without the good-bye that TLS has."""
        for said in (b"", REQUEST, handshake()):
            await self.assertNothingIsLeft("tls", said, over_tls)

    async def test_no_tls(self) -> None:
        """Nor one that should have spoken TLS and does not."""
        for said in (b"", b"what is TLS?"):
            await self.assertNothingIsLeft("tls", said, plain)
