"""A daemon whose clock can be stepped: by an hour ahead with USR1, by an hour back with USR2.

What is stepped is the time of day as Python tells it; the monotonic clock is not, as when a real clock is set.
"""

from __future__ import annotations

import signal
import time

HOUR = 3600.0

_true = time.time
_offset = 0.0


def stepped() -> float:
    return _true() + _offset


def step(number: int, frame: object) -> None:
    global _offset
    _offset += HOUR if number == signal.SIGUSR1 else -HOUR


if __name__ == "__main__":
    # Before anything else is imported: Twisted keeps the function.
    setattr(time, "time", stepped)  # noqa: B010
    signal.signal(signal.SIGUSR1, step)
    signal.signal(signal.SIGUSR2, step)

    from twisted.scripts import twistd

    twistd.run()
