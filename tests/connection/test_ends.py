"""What the log says of connections that have ended."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from chatproto.connection.ends import A_TURN, Ends
from chatproto.connection.state import ConnectionState
from tests.connection.memory import turn


class EndsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.ends = Ends(self.clock)
        self.lines: list[str | None] = []

        def observe(event: LogEvent) -> None:
            self.lines.append(formatEvent(event))

        observer: Any = observe
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def end(self, ix: str, code: int | None = 1000, reason: str = "by the peer") -> None:
        self.ends.add(ConnectionState(ix, cast(Any, None), "192.0.2.1", self.clock.seconds()), code, reason)

    def written(self) -> int:
        """How many lines there are; that they are in order is checked."""
        self.assertEqual(
            self.lines,
            [
                f"connection {n} of nobody from 192.0.2.1 ended: 1000 by the peer, 0.0 s, 0 in, 0 out"
                for n in range(len(self.lines))
            ],
        )
        return len(self.lines)

    def test_line(self) -> None:
        """Who it was, for how long, and how it ended, at once and as it was then, whatever a name has in it."""
        connection = ConnectionState("a", cast(Any, None), "192.0.2.1", 0.0)
        connection.who, connection.received, connection.sent = "guest:1:{ix}", 2, 3
        self.clock.advance(1.25)
        self.ends.add(connection, None, "")
        connection.sent = 4
        self.assertEqual(
            self.lines, ["connection a of guest:1:{ix} from 192.0.2.1 ended: no code -, 1.2 s, 2 in, 3 out"]
        )

    def test_many(self) -> None:
        """Where thousands end in one moment, some are written in each turn, in order, until all are."""
        many = 3 * A_TURN + 1
        for n in range(many):
            self.end(str(n))
        self.assertEqual(self.written(), A_TURN)
        turn(self.clock)
        self.assertEqual(self.written(), 2 * A_TURN)
        self.end(str(many))
        turn(self.clock)
        self.assertEqual(self.written(), 3 * A_TURN)
        turn(self.clock)
        self.assertEqual(self.written(), many + 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_room_again(self) -> None:
        """A turn that is full is followed by one that is not."""
        for n in range(A_TURN):
            self.end(str(n))
        turn(self.clock)
        self.end(str(A_TURN))
        self.assertEqual(self.written(), A_TURN + 1)
        turn(self.clock)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """A server that stops writes what waits, and then of each connection that it closes."""
        for n in range(2 * A_TURN):
            self.end(str(n))
        self.ends.stop()
        self.assertEqual(self.written(), 2 * A_TURN)
        for n in range(2 * A_TURN, 4 * A_TURN):
            self.end(str(n))
        self.assertEqual(self.written(), 4 * A_TURN)
        self.assertEqual(self.clock.getDelayedCalls(), [])
