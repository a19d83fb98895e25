"""How late the event loop is."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from chatproto.connection.lag import CALM, LAG, REMIND, TICK, Lag


class LagTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.lag = Lag(self.clock)
        self.lag.start()
        self.logged: list[Any] = []
        observer: Any = self.logged.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def late(self) -> list[int]:
        return [event["late"] for event in self.logged if "late" in event]

    def over(self) -> list[tuple[int, int]]:
        return [(event["times"], event["worst"]) for event in self.logged if "worst" in event]

    def turn(self, seconds: float) -> None:
        """A loop that turns often enough."""
        self.clock.pump([TICK] * round(seconds / TICK))

    def test_on_time(self) -> None:
        """A loop that does its work in time is no news, nor is one that stands still for a tenth of a second."""
        self.turn(30)
        self.clock.advance(TICK + LAG)
        self.turn(30)
        self.assertEqual(self.logged, [])
        self.assertEqual(self.lag.worst, 0)

    def test_whenever_it_stands_still(self) -> None:
        """The operator reads for how long the loop was held up, at whatever moment that was."""
        for part in (0, 0.3, 0.9):
            self.clock.advance(part * TICK)
            self.clock.advance(0.25)
            self.turn(CALM + 2 * TICK)
        self.assertEqual(len(self.late()), 3)
        for late in self.late():
            self.assertTrue(200 <= late <= 250, late)
        self.assertEqual([event["log_level"].name for event in self.logged], ["warn", "info"] * 3)

    def test_one_line_an_episode(self) -> None:
        """A loop that is late again and again is told once, and once more when it is over, with the worst."""
        for held_up in (0.3, 0.55, 0.3, 0.3):
            self.clock.advance(held_up)
            self.turn(1)
        self.assertEqual(self.late(), [250])
        self.assertEqual(self.over(), [])
        self.assertAlmostEqual(self.lag.worst, 0.5)
        self.turn(CALM)
        self.assertEqual(self.over(), [(4, 500)])
        self.assertEqual(self.lag.worst, 0)

    def test_reminder(self) -> None:
        """An overload that does not end is told once a minute."""
        for _ in range(3 * round(REMIND)):
            self.clock.advance(0.5)
            self.turn(0.5)
        self.assertEqual(self.late(), [450] * 3)

    def test_stop(self) -> None:
        """A server that has stopped measures nothing."""
        self.lag.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.lag.stop()
