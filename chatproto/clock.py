"""Time as an argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred


class Timer(Protocol):
    """A call that is due (IDelayedCall)."""

    def active(self) -> bool: ...

    def cancel(self) -> None: ...


class Clock(Protocol):
    """What code that waits needs of the reactor (IReactorTime); in tests a ``task.Clock``."""

    def seconds(self) -> float:
        """Monotonic seconds."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> Timer: ...


class Timers:
    """Calls of one part that are due; when the part stops, none is made any more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: set[Timer] = set()
        self._stopped = False

    def call(self, delay: float, callable: Callable[..., Any], *args: Any) -> None:
        """Call in so many seconds; nothing after :meth:`stop`."""
        if self._stopped:
            return

        def made() -> None:
            self._due.discard(timer)
            callable(*args)

        timer = self._clock.callLater(delay, made)
        self._due.add(timer)

    def stop(self) -> None:
        """Forget what is due."""
        self._stopped = True
        for timer in self._due:
            timer.cancel()
        self._due.clear()


async def sleep(clock: Clock, seconds: float) -> None:
    """Go on after so many seconds."""
    waiting: Deferred[None] = Deferred()
    clock.callLater(seconds, waiting.callback, None)
    await waiting
