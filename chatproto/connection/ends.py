"""The line that the log gets of each connection that has ended."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.logger import Logger

from chatproto.clock import Clock, Timer
from chatproto.connection.state import ConnectionState

A_TURN = 64
"""Lines that are written in one turn of the reactor: thousands of connections may end in one, and writing took longer
than everything else that has to be done then."""


class Ends:
    """Writes at once what a turn has room for, and the rest in the next turns. No line is left out.

    :param clock: its ``seconds`` are those of ``ConnectionState.opened_at``.
    """

    # The name under which operators know these lines.
    _log = Logger("chatproto.connection.dispatch")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: deque[dict[str, Any]] = deque()
        self._room = 0
        self._timer: Timer | None = None
        self._stopped = False

    def add(self, connection: ConnectionState, code: int | None, reason: str) -> None:
        """A connection has ended.

        :param code: of the close frame, None where there was none.
        """
        fields = {
            "ix": connection.ix,
            "who": connection.who,
            "address": connection.address,
            "code": code if code is not None else "no code",
            "reason": reason or "-",
            "seconds": self._clock.seconds() - connection.opened_at,
            "received": connection.received,
            "sent": connection.sent,
        }
        if self._stopped:
            self._write(fields)
            return
        if self._timer is None:
            self._room = A_TURN
            self._timer = self._clock.callLater(0, self._go_on)
        if self._room:
            self._room -= 1
            self._write(fields)
        else:
            self._waiting.append(fields)

    def stop(self) -> None:
        """Write all that waits; from now on each line is written at once."""
        self._stopped = True
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        while self._waiting:
            self._write(self._waiting.popleft())

    def _go_on(self) -> None:
        waiting = self._waiting
        for _ in range(min(A_TURN, len(waiting))):
            self._write(waiting.popleft())
        self._timer = self._clock.callLater(0, self._go_on) if waiting else None

    def _write(self, fields: dict[str, Any]) -> None:
        # One field in the format, as Twisted's formatting is dear; the others are for observers that read fields.
        end = (
            "{ix} of {who} from {address} ended: {code} {reason}, {seconds:.1f} s, {received} in, {sent} out"
        ).format_map(fields)
        self._log.info("connection {end}", end=end, **fields)
