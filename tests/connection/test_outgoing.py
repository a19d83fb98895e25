from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatproto.connection.outgoing import Outgoing, Turn, text_header
from tests.connection.memory import TEXT, MemoryTransport, server_frames


class _Sender(Outgoing):
    """The least a protocol is to it."""

    def __init__(self, turn: Turn, transport: MemoryTransport) -> None:
        self._frames = []
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
        for size in (0, 1, 125, 126, 65535, 65536, 100_000):
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
