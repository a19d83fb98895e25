from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from chatproto.connection.outgoing import Outgoing, Turn, text_header
from tests.connection.memory import TEXT, MemoryTransport, server_frames


class _Sender(Outgoing):
    """The least a protocol is to it."""

    def __init__(self, turn: Turn, transport: MemoryTransport) -> None:
        super().__init__()
        self.turn = turn
        self.transport = transport
        self.drained = 0
        self._register()

    @property
    def _turn(self) -> Turn:
        return self.turn

    def _drained(self) -> None:
        self.drained += 1

    def send(self, *parts: bytes) -> None:
        self._queue(*parts)

    def drop(self) -> None:
        self._drop_queue()

    def finish(self) -> None:
        self._finish()


class OutgoingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.turn = Turn(self.clock)
        self.transport = MemoryTransport()
        self.sender = _Sender(self.turn, self.transport)

    def test_header(self) -> None:
        """Frames of every length can be read by a client."""
        for size in (0, 1, 125, 126, 1023, 1024, 65535, 65536, 100_000):
            payload = b"*" * size
            self.assertEqual(server_frames(text_header(size) + payload), [(TEXT, payload)])

    def test_one_timer(self) -> None:
        """However many connections get something in one turn, the reactor is asked once, each written to once."""
        other = _Sender(self.turn, MemoryTransport())
        for sender in (self.sender, other, self.sender):
            sender.send(b"a", b"b")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(0)
        self.assertEqual((self.transport.writes, other.transport.writes), ([b"abab"], [b"ab"]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_full(self) -> None:
        """A full transport gets nothing until it is empty; then all that waits, in one piece."""
        self.sender.send(b"*" * 70_000)
        self.clock.advance(0)
        for part in (b"one ", b"two "):
            self.sender.send(part)
            self.clock.advance(0)
        self.assertEqual(self.sender.unsent, 70_008)
        self.assertEqual(len(self.transport.writes), 1)
        self.assertEqual(self.sender.drained, 0)
        self.transport.drain()
        self.assertEqual(self.transport.writes[1:], [b"one two "])
        self.assertEqual((self.sender.unsent, self.sender.drained), (0, 1))

    def test_no_more_than_fills(self) -> None:
        """Of what waits a full transport gets whole frames, as many as fill it, so that what is taken can be seen."""
        self.sender.send(b"*" * 70_000)
        self.clock.advance(0)
        for _ in range(4):
            self.sender.send(b"header", b"*" * 30_000)
        for size, unsent in ((90_018, 120_024), (30_006, 30_006)):
            self.clock.advance(1)
            self.assertEqual(self.sender.filled_at, 0 if size == 90_018 else 1)
            self.transport.drain()
            self.assertEqual(len(self.transport.writes[-1]), size)
            self.assertEqual(self.sender.unsent, unsent if size == 90_018 else 0)
        self.assertEqual(self.sender.drained, 1)

    def test_quick_transport(self) -> None:
        """A transport that is never full gets all at once."""
        self.transport.reads = True
        for _ in range(5):
            self.sender.send(b"*" * 50_000)
        self.clock.advance(0)
        self.assertEqual(sum(map(len, self.transport.writes)), 250_000)
        self.assertEqual((self.sender.unsent, self.sender.drained), (0, 1))

    def test_drop(self) -> None:
        """What waits can be dropped; the transport keeps what it has, so that no frame is cut."""
        self.sender.send(b"*" * 70_000)
        self.clock.advance(0)
        self.sender.send(b"waits")
        self.sender.drop()
        self.assertEqual(self.sender.unsent, 70_000)
        self.transport.drain()
        self.assertEqual(len(self.transport.writes), 1)

    def test_finish(self) -> None:
        """At the end all goes to the transport, full or not, and it has no producer that would hold it open."""
        self.sender.send(b"*" * 70_000)
        self.clock.advance(0)
        self.sender.send(b"last")
        self.sender.finish()
        self.sender.finish()
        self.assertEqual(self.transport.writes[1:], [b"last"])
        self.assertIsNone(self.transport.producer)

    def test_lost(self) -> None:
        """Nothing is written to a transport that is gone."""
        self.sender.send(b"late")
        self.sender.stopProducing()
        self.clock.advance(0)
        self.assertEqual(self.transport.writes, [])


class _Socket(Outgoing, Protocol):
    """One at the end of a real connection."""

    def __init__(self, made: Deferred[_Socket]) -> None:
        super().__init__()
        self.turn = Turn(reactor)
        self.made = made
        self.gone: Deferred[None] = Deferred()

    @property
    def _turn(self) -> Turn:
        return self.turn

    def _drained(self) -> None: ...

    def connectionMade(self) -> None:
        self._register()
        self.made.callback(self)

    def connectionLost(self, reason: object = None) -> None:
        self.gone.callback(None)

    def send(self, data: bytes) -> None:
        self._queue(data)


class SocketTests(TestCase):
    """What is handed to the system at once, and what has to wait there."""

    async def connected(self) -> tuple[_Socket, socket.socket]:
        made: Deferred[_Socket] = Deferred()
        factory: Any = Factory.forProtocol(lambda: _Socket(made))
        factory.noisy = False
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(port.stopListening)
        client = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(client.close)
        client.setblocking(False)
        return await made, client

    async def read(self, client: socket.socket, wanted: int) -> bytes:
        got = b""
        while len(got) < wanted:
            await deferLater(reactor, 0.001)
            try:
                got += client.recv(1 << 20)
            except BlockingIOError:
                continue
        return got

    async def test_at_once(self) -> None:
        """What the socket takes has left when the turn is over; nothing waits in the transport."""
        sender, client = await self.connected()
        sender.send(b"hello")
        sender.flush()
        self.assertEqual((sender.unsent, sender.transport.dataBuffer), (0, b""))
        self.assertEqual(await self.read(client, 5), b"hello")
        client.close()
        await sender.gone

    async def test_whole_and_in_order(self) -> None:
        """A peer that reads late gets everything once and in order, whatever had to wait."""
        sender, client = await self.connected()
        parts = [bytes([n % 251]) * 50_000 for n in range(400)]
        for part in parts[:300]:
            sender.send(part)
        sender.flush()
        self.assertGreater(sender.unsent, 0)
        await deferLater(reactor, 0)
        for part in parts[300:]:
            sender.send(part)
        wanted = b"".join(parts)
        self.assertTrue(await self.read(client, len(wanted)) == wanted)
        self.assertEqual(sender.unsent, 0)
        client.close()
        await sender.gone

    async def test_reset(self) -> None:
        """A peer that is gone is found gone, once, however much is sent to it."""
        sender, client = await self.connected()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
        for _ in range(3):
            sender.send(b"x")
            sender.flush()
        await sender.gone
