"""How often somebody may ask: per connection, and per address for new anonymous guests."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from chatproto.connection.admission import Admission
from chatproto.connection.state import ConnectionState
from chatproto.errors import TooManyRequests

MINUTE = 60.0


_SHARE = 12
"""A frame counts once, and once more for each 4 KiB (2 to this) of it: a burst of large ones is a burst of bytes."""


class Rate:
    """A token bucket in each connection.

    :param rate: frames a second; 0 lifts the limit.
    :param burst: frames at once.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)

    def fill(self, connection: ConnectionState, now: float) -> None:
        """A new connection has its whole burst."""
        connection.tokens, connection.tokens_at = self._burst, now

    def take(self, connection: ConnectionState, now: float, size: int = 0) -> float:
        """Count one frame; returns 0 where it is allowed, else the seconds until the next one is.

        :param size: bytes of it. The last one that is allowed may leave a debt, which the next ones wait for.
        """
        if not self._rate:
            return 0.0
        elapsed, tokens = now - connection.tokens_at, connection.tokens
        connection.tokens_at = now
        if elapsed > 0:
            tokens += elapsed * self._rate
            if tokens > self._burst:
                tokens = self._burst
        if tokens < 1:
            connection.tokens = tokens
            return (1 - tokens) / self._rate
        connection.tokens = tokens - 1 - (size >> _SHARE)
        return 0.0


class Newcomers:
    """New anonymous guests per address within the last minute.

    :param most: of one address; 0 lifts the limit.
    """

    def __init__(self, most: int, seconds: Callable[[], float]) -> None:
        self._most = most
        self._seconds = seconds
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def admit(self, address: str) -> None:
        """Count one; IPv6 addresses count by their network, as connections do.

        :raises TooManyRequests: the address has made too many.
        """
        if not self._most:
            return
        address = Admission.key(address)
        now = self._seconds()
        seen = self._seen.setdefault(address, deque())
        self._seen.move_to_end(address)
        while seen and seen[0] <= now - MINUTE:
            seen.popleft()
        if len(seen) >= self._most:
            raise TooManyRequests(retry_after_ms=int((seen[0] + MINUTE - now) * 1000) + 1)
        seen.append(now)
        while self._seen and next(iter(self._seen.values()))[-1] <= now - MINUTE:
            self._seen.popitem(last=False)
