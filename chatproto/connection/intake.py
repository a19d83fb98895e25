"""A request whose body is taken as it comes: it may be larger than memory, and slower than everybody's patience.

The site has each body whole before it sees the request. What takes bodies piece by piece is asked first, when nothing
but the header is there, and may answer at any time: a sender who is refused is told so at once, and what it still sends
is dropped for a while, because a peer whose connection is reset may lose the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.connection.admission import RequestHead

if TYPE_CHECKING:
    from chatproto.connection.door import House

log = Logger()

BUFFER = 1 << 18
"""Bytes that may wait for :meth:`Intake.read` before reading from the peer pauses."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class SenderGone(Exception):
    """The peer that sent a request is not there any more."""


@dataclass(frozen=True, slots=True)
class RequestLine:
    """The first line of a request (RFC 9112, 3); parts that are missing are ""."""

    method: str
    target: str
    version: str

    @classmethod
    def parse(cls, request: bytes) -> RequestLine:
        parts = request.partition(b"\r\n")[0].decode("latin-1").split(" ")
        return cls(*parts) if len(parts) == 3 else cls("", "", "")


class Taker(Protocol):
    """What takes bodies piece by piece."""

    stall: float
    """Seconds without a byte after which a sender is given up, and for which one that was refused may go on."""

    longest: float
    """Seconds that a request may take."""

    def takes(self, line: RequestLine) -> bool:
        """Whether it answers this request."""

    def __call__(self, intake: Intake) -> Awaitable[bytes]:
        """Take the body, and return the whole answer, header and all.

        It says that the connection is closed unless it is :attr:`~Intake.kept`.

        :raises SenderGone: nobody waits for the answer.
        """


class Intake:
    """One such request. For the door it is an exchange, for the taker the request.

    :param line: the first line, and *head* the fields, *size* the bytes of the body.
    :param answered: called when the answer is given.

    :ivar peer: the address at the other end of the transport; *secure*: it is TLS.
    :ivar gone: so is the sender.
    :ivar disconnecting: the connection ends with this request.
    """

    def __init__(
        self, house: House, taker: Taker, line: RequestLine, head: RequestHead, size: int, clock: Any, answered: Any
    ) -> None:
        self._house = house
        self._taker = taker
        self._clock = clock
        self._answered = answered
        self._missing = size
        self._parts: list[bytes] = []
        self._waiting = 0
        self._reader: Deferred[bytes] | None = None
        self._ends_at = clock.seconds() + taker.longest
        self._done = False
        self._paused = False
        # The door has called, and looks at what has become of this when it is back.
        self._inside = False
        self.peer = str(getattr(house.transport.getPeer(), "host", ""))
        self.secure = bool(ISSLTransport.providedBy(house.transport))
        self.line = line
        self.head = head
        self.size = size
        self.gone = False
        self.disconnecting = False

    def start(self) -> None:
        self._allow()
        self._inside = True
        answer = Deferred.fromCoroutine(_awaited(self._taker(self)))
        answer.addCallbacks(self._finish, self._failed)
        self._inside = False

    # For the door.

    @property
    def over(self) -> bool:
        return self._done and not self._missing

    def receive(self, data: bytes) -> bytes:
        """Take what belongs to the body; returns what stands behind it."""
        part, rest = data[: self._missing], data[self._missing :]
        if part:
            self._missing -= len(part)
            if self._done:
                if not self._missing:
                    self._house.end()
                return rest
            self._parts.append(part)
            self._waiting += len(part)
            self._allow()
            self._inside = True
            self._hand()
            self._inside = False
            if self._waiting > BUFFER:
                self._pause()
        return rest

    def lost(self, reason: Failure) -> None:
        """The connection is gone."""
        self.gone = True
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.errback(SenderGone())

    # For the taker.

    @property
    def kept(self) -> bool:
        """Whether another request may follow on the connection (RFC 9112, 9.3)."""
        closing = "close" in (option.lower() for option in self.head.members("connection"))
        return not self._missing and self.line.version == "HTTP/1.1" and not closing

    def proceed(self) -> None:
        """A sender that asked whether it may begin may."""
        if self.head.first("expect") and not self._parts and self._missing:
            self._house.sendData(CONTINUE)

    def read(self) -> Deferred[bytes]:
        """What has come of the body, or comes next; b"" when there is no more. One call at a time.

        :raises SenderGone: the sender has gone.
        """
        if self.gone:
            return fail(SenderGone())
        if self._parts or not self._missing:
            return succeed(self._taken())
        reader: Deferred[bytes] = Deferred()
        self._reader = reader
        return reader

    # Inside.

    def _taken(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        self._waiting = 0
        if self._paused:
            self._paused = False
            self._allow()
            self._house.resume()
        return taken

    def _hand(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(self._taken())

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._house.pause()

    def _allow(self) -> None:
        """Each byte extends the time; behind the last one, the answer has what is left."""
        left = self._ends_at - self._clock.seconds()
        self._house.allow(min(self._taker.stall, left) if self._missing else left)

    def _finish(self, answer: bytes) -> None:
        self._done = True
        if self.gone:
            return
        self._parts.clear()
        self.disconnecting = not self.kept
        self._house.sendData(answer)
        if self._missing:
            self._house.allow(self._taker.stall)
        elif self.disconnecting:
            self._house.end()
            return
        self._paused = False
        self._house.resume()
        if not self._inside:
            self._answered()

    def _failed(self, failure: Failure) -> None:
        self._done = True
        if not failure.check(SenderGone):
            log.failure("a request whose body came piece by piece failed", failure)
        if not self.gone:
            self._house.abort()


async def _awaited(answer: Awaitable[bytes]) -> bytes:
    return await answer
