"""The way out of one connection: frames wait here, and leave in one write per reactor turn.

A transport takes whatever it is given and keeps it in memory, so that a peer which does not read would grow the
process without bound. Therefore a transport that is full gets nothing more until it is empty again: what waits
stays in a list that can be counted, and dropped. It gets no more at a time than fills it, so that a peer that takes
something, however little, can be told from one that takes nothing.
"""

from __future__ import annotations

from math import inf
from struct import pack
from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer
from twisted.internet.tcp import Server
from zope.interface import implementer

FULL = 65536
"""Bytes past which a transport is full (``bufferSize`` of Twisted's)."""

TEXT = 0x81  # FIN and the opcode of a text frame (RFC 6455, 5.2)


def text_header(size: int) -> bytes:
    """The header of an unmasked, unfragmented text frame with *size* bytes of payload."""
    if size < 126:
        return pack("!BB", TEXT, size)
    if size < 0x10000:
        return pack("!BBH", TEXT, 126, size)
    return pack("!BBQ", TEXT, 127, size)


TEXT_HEADERS = tuple(map(text_header, range(1024)))
"""Those of small frames, made beforehand."""


class _Gone:
    """Stands for a transport that is gone, so that nothing refers to it: whoever comes late changes nothing."""

    def write(self, data: bytes) -> None: ...

    def registerProducer(self, producer: object, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def loseConnection(self) -> None: ...

    def abortConnection(self) -> None: ...


GONE = _Gone()


def _sent_at_once(transport: Any, data: bytes) -> bytes:
    """Hand *data* to the system now, where the transport is a socket that has nothing in hand.

    ``write`` would wait for the reactor to say that the socket takes something, which it nearly always does: two
    system calls to begin and end the waiting, and a turn of the reactor.

    :returns: what is left to be written.
    """
    if type(transport) is not Server or transport.dataBuffer or transport._tempDataBuffer or transport.disconnecting:
        return data
    try:
        sent = transport.socket.send(data)
    except OSError:
        # It takes nothing now, or is lost, which ``write`` finds in its own time.
        return data
    return data[sent:]


class _Later(Protocol):
    def seconds(self) -> float: ...

    def callLater(self, delay: float, callable: Any, *args: Any) -> Any: ...


class Turn:
    """All connections that got something to send in this turn of the reactor: one timer for them together."""

    def __init__(self, clock: _Later) -> None:
        self._clock = clock
        self._waiting: list[Outgoing] = []
        self.seconds = clock.seconds

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

    :ivar filled_at: when the transport became full for the last time, in seconds of the clock. It has been taken from
        until then.
    """

    __slots__ = ("filled_at", "_blocked", "_due_to_flush", "_frames", "_pending", "_registered", "_written")

    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self.filled_at = -inf
        # Two for each frame: its header and its payload, which may be shared with other connections.
        self._frames: list[bytes] = []
        self._pending = 0
        self._written = 0
        self._due_to_flush = False
        self._blocked = False
        self._registered = False

    @property
    def _turn(self) -> Turn:
        raise NotImplementedError

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not taken yet: those that wait, and, while the transport is full, its last ones."""
        return self._pending + self._written if self._blocked else self._pending

    def _queue(self, header: bytes, payload: bytes = b"") -> int:
        """Send a frame in this turn, or as soon as the transport takes some.

        :returns: bytes that wait.
        """
        frames = self._frames
        if not frames and not self._due_to_flush:
            self._due_to_flush = True
            self._turn.add(self)
        frames += (header, payload)
        self._pending = pending = self._pending + len(header) + len(payload)
        return pending

    def _drop_queue(self) -> None:
        """Forget whole frames that wait; what the transport has already cannot be taken back."""
        self._frames.clear()
        self._pending = 0

    def flush(self) -> None:
        """Write what waits, until the transport is full."""
        self._due_to_flush = False
        if not self._blocked:
            self._write()

    def _write(self) -> None:
        while self._pending > FULL and not self._blocked:
            self._write_first(self._enough())
        if self._blocked:
            return
        if self._frames:
            self._write_first(len(self._frames))
        if not self._blocked:
            self._drained()

    def _enough(self) -> int:
        """How many of the frames' parts fill the transport."""
        size = 0
        for count, part in enumerate(self._frames, 1):
            size += len(part)
            if size > FULL and count % 2 == 0:
                return count
        return len(self._frames)

    def _write_first(self, count: int) -> None:
        frames = self._frames
        joined = b"".join(frames if count == len(frames) else frames[:count])
        del frames[:count]
        self._pending -= len(joined)
        rest = _sent_at_once(self.transport, joined)
        self._written = len(rest)
        if rest:
            self.transport.write(rest)

    def _register(self) -> None:
        self._registered = True
        self.transport.registerProducer(self, True)

    def _finish(self) -> None:
        """Give the transport everything, however full it is: no more will come."""
        if self._frames:
            self._write_first(len(self._frames))
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
        self.filled_at = self._turn.seconds()

    def resumeProducing(self) -> None:
        """The transport is empty."""
        self._blocked = False
        self._write()

    def stopProducing(self) -> None:
        """The transport is gone."""
        self._blocked = True
