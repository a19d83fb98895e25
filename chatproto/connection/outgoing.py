"""The way out of one connection: frames wait here, and leave in one write per reactor turn.

A transport takes whatever it is given and keeps it in memory, so that a peer which does not read would grow the
process without bound. Therefore a transport that is full gets nothing more until it is empty again: what waits
stays in a list that can be counted, and dropped.
"""

from __future__ import annotations

from struct import pack
from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

TEXT = 0x81  # FIN and the opcode of a text frame (RFC 6455, 5.2)

_SHORT = tuple(bytes((TEXT, size)) for size in range(126))


def text_header(size: int) -> bytes:
    """The header of an unmasked, unfragmented text frame with *size* bytes of payload."""
    if size < 126:
        return _SHORT[size]
    if size < 0x10000:
        return pack("!BBH", TEXT, 126, size)
    return pack("!BBQ", TEXT, 127, size)


class _Later(Protocol):
    def callLater(self, delay: float, callable: Any, *args: Any) -> Any: ...


class Turn:
    """All connections that got something to send in this turn of the reactor: one timer for them together."""

    def __init__(self, clock: _Later) -> None:
        self._clock = clock
        self._waiting: list[Outgoing] = []

    def add(self, outgoing: Outgoing) -> None:
        if not self._waiting:
            self._clock.callLater(0, self._write)
        self._waiting.append(outgoing)

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        for outgoing in waiting:
            outgoing.flush()


@implementer(IPushProducer)
class Outgoing:
    """What a protocol inherits to send. Registered as the producer of its transport.

    ``_turn`` and ``_drained`` are the protocol's.
    """

    transport: Any

    _frames: list[bytes]
    _pending = 0
    _written = 0
    _due_to_flush = False
    _blocked = False
    _registered = False

    @property
    def _turn(self) -> Turn:
        raise NotImplementedError

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not taken yet: those that wait, and, while the transport is full, its last ones."""
        return self._pending + self._written if self._blocked else self._pending

    def _queue(self, *parts: bytes) -> None:
        """Send bytes in this turn, or as soon as the transport takes some."""
        self._frames.extend(parts)
        self._pending += sum(map(len, parts))
        if not self._due_to_flush:
            self._due_to_flush = True
            self._turn.add(self)

    def _drop_queue(self) -> None:
        """Forget whole frames that wait; what the transport has already cannot be taken back."""
        self._frames.clear()
        self._pending = 0

    def flush(self) -> None:
        """Write all that waits, unless the transport is full."""
        self._due_to_flush = False
        if not self._blocked:
            self.resumeProducing()

    def _write_all(self) -> None:
        frames = self._frames
        if not frames:
            return
        joined = b"".join(frames)
        frames.clear()
        self._pending = 0
        self._written = len(joined)
        self.transport.write(joined)

    def _register(self) -> None:
        self._registered = True
        self.transport.registerProducer(self, True)

    def _finish(self) -> None:
        """Give the transport everything, however full it is: no more will come."""
        self._write_all()
        self._blocked = False
        if self._registered:
            self._registered = False
            self.transport.unregisterProducer()

    def _drained(self) -> None:
        """The peer has taken everything."""
        raise NotImplementedError

    def pauseProducing(self) -> None:
        """The transport is full."""
        self._blocked = True

    def resumeProducing(self) -> None:
        """The transport is empty."""
        self._blocked = False
        self._write_all()
        if not self._blocked:
            self._drained()

    def stopProducing(self) -> None:
        """The transport is gone."""
        self._blocked = True
