"""When a login that finds the line full is to come back.

After a restart thousands of clients come at once, and the line has room for a few hundred. Told to come back in a
second or two, they would ask in vain again and again, and who is let in would be luck. So each is given the time at
which it will be its turn, as fast as logins are worked off just then.
"""

from __future__ import annotations

import random
from collections import deque

LONGEST = 60.0
"""Seconds that anybody is told to wait at most: a pace that was measured in a bad moment must not do harm for long."""
SOONEST = 1.0
HASTE = 1.25
"""How much faster than they are worked off logins are called: some do not come, and the line takes what is too much."""

_FEW = 20
_MANY = 200


class Appointments:
    """One for each server.

    :param line: logins that may stand in line.
    :param timeout: seconds in which a full line has to be worked off; the pace until there is a measured one.
    """

    def __init__(self, line: int, timeout: float) -> None:
        self._line = line
        self._usual = max(line, 1) / timeout
        self._ended: deque[float] = deque(maxlen=_MANY)
        self._next = 0.0

    def ended(self, now: float, waiting: int) -> None:
        """A login is over.

        :param now: seconds of the monotonic clock.
        :param waiting: logins in line. Without any, how fast logins end says only how fast they come.
        """
        if waiting:
            self._ended.append(now)
        else:
            self._ended.clear()

    def give(self, now: float) -> float:
        """The seconds after which the next one that finds the line full is to come back."""
        pace = self._pace(now)
        # The line is half empty then: it never runs out before the first ones are back.
        at = max(self._next, now + max(self._line / 2 / pace, SOONEST))
        if at > now + LONGEST:
            return random.uniform(LONGEST / 2, LONGEST)
        self._next = at + 1 / (pace * HASTE)
        return at - now

    def _pace(self, now: float) -> float:
        """Logins a second."""
        ended = self._ended
        if len(ended) < _FEW or now <= ended[0]:
            return self._usual
        return len(ended) / (now - ended[0])
