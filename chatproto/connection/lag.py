"""How late the event loop is: whatever holds it up for longer than a moment is told to the operator."""

from __future__ import annotations

from twisted.logger import Logger

from chatproto.clock import Clock, Timer

TICK = 0.05
"""Seconds between two looks: a loop that stood still for longer than this and :data:`LAG` together is always seen."""

LAG = 0.1
"""Seconds late that are worth a line in the log."""

CALM = 5.0
"""Seconds without another such look, after which it is over."""

REMIND = 60.0
"""Seconds until the next line while it is not over."""


class Lag:
    """Measures from :meth:`start` to :meth:`stop`.

    :ivar worst: the most seconds that a look was late, since it began to be too late; 0 while nothing is wrong.
    """

    _log = Logger()

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timer: Timer | None = None
        self._due = 0.0
        self._times = 0
        self._began_at = self._late_at = self._told_at = 0.0
        self.worst = 0.0

    def start(self) -> None:
        self._wait(self._clock.seconds())

    def stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _wait(self, now: float) -> None:
        self._due = now + TICK
        self._timer = self._clock.callLater(TICK, self._look)

    def _look(self) -> None:
        now = self._clock.seconds()
        late = now - self._due
        if late > LAG:
            self._is_late(now, late)
        elif self.worst and now >= self._late_at + CALM:
            self._is_over()
        self._wait(now)

    def _is_late(self, now: float, late: float) -> None:
        if not self.worst:
            self._times, self._began_at = 0, now - late
            self._told_at = now - REMIND
        self._times += 1
        self._late_at = now
        self.worst = max(self.worst, late)
        if now >= self._told_at + REMIND:
            self._told_at = now
            self._log.warn("The event loop is {late} ms late", late=round(late * 1000))

    def _is_over(self) -> None:
        self._log.info(
            "The event loop is on time again: it was late {times} times in {seconds:.1f} s, by {worst} ms at most",
            times=self._times,
            seconds=self._late_at - self._began_at,
            worst=round(self.worst * 1000),
        )
        self.worst = 0.0
