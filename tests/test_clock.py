"""Calls that are due."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatproto.clock import Timers


class TimersTests(SynchronousTestCase):
    def test_made_in_time(self) -> None:
        """Each call is made once, when it is due."""
        clock = Clock()
        timers, made = Timers(clock), list[int]()
        timers.call(2, made.append, 2)
        timers.call(1, made.append, 1)
        clock.advance(1)
        self.assertEqual(made, [1])
        clock.advance(9)
        self.assertEqual(made, [1, 2])

    def test_stop(self) -> None:
        """A part that has stopped leaves nothing behind and begins nothing."""
        clock = Clock()
        timers, made = Timers(clock), list[int]()
        timers.call(1, made.append, 1)
        timers.call(2, made.append, 2)
        clock.advance(1)
        timers.stop()
        timers.call(1, made.append, 3)
        self.assertEqual(clock.getDelayedCalls(), [])
        clock.advance(9)
        self.assertEqual(made, [1])

    def test_stop_inside(self) -> None:
        """A call may stop the part that it belongs to."""
        clock = Clock()
        timers = Timers(clock)
        timers.call(1, timers.stop)
        clock.advance(1)
        self.assertEqual(clock.getDelayedCalls(), [])
