"""Before a connection is a WebSocket: HTTP requests, one after the other, until one asks for the upgrade.

Browsers open a connection of its own for WebSocket, but reverse proxies send the handshake on one that they have used
for pages. So nothing is passed on before the header of a request is complete, and nothing that stands behind a
request before that one is answered.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.connection.admission import RequestHead
from chatproto.connection.intake import Intake, RequestLine, Taker

if TYPE_CHECKING:
    from twisted.web.server import Site

    from chatproto.config import Config

_HEADER_END = b"\r\n\r\n"
# A line of another shape (folded, a name with something around it, a bare CR or LF) somebody in front of us may read
# otherwise, and see other fields and another end of the request (RFC 9112, 2.2, 5.1, 5.2; RFC 9110, 5.5).
_HEADER = re.compile(rb"[^\r\n\0]*(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*)*\r\n\r\n")


class House(Protocol):
    """The connection whose door it is."""

    transport: Any

    @property
    def congested(self) -> bool: ...

    def shake_hands(self, head: RequestHead, request: bytes, rest: bytes) -> None:
        """It is to become a WebSocket, if all is right. *rest* stands behind the *request*."""

    def failHandshake(self, reason: str, code: HTTPStatus) -> None:
        """Answer with a status and nothing else, and end the connection."""

    def asked(self) -> None:
        """The header of a request is here."""

    def answered(self) -> None:
        """A request is over: the time for the next one begins."""

    def allow(self, seconds: float) -> None:
        """The request under way may go on for so long from now."""

    def sendData(self, data: bytes) -> None: ...

    def end(self) -> None:
        """Write what is left and end the connection."""

    def abort(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def rest(self, seconds: float) -> None: ...


class Door:
    """Receives what comes before the handshake.

    :param site: answers what is not WebSocket, if there is one.
    :param taker: takes bodies that are too large for the site.

    :ivar used: a request was answered here: the peer knows how to end a connection in order.
    """

    used = False

    def __init__(self, house: House, site: Site | None, taker: Taker | None, config: Config, clock: Any) -> None:
        self._house = house
        self._site = site
        self._taker = taker
        self._clock = clock
        self._config = config
        self._data = b""
        self._exchange: Exchange | Intake | None = None

    def receive(self, data: bytes) -> None:
        """Take bytes; b"" when what held the last ones back is over."""
        self._data += data
        if self._exchange is not None:
            self._data = self._exchange.receive(self._data)
            self._look_at(self._exchange)
        elif not self._house.congested:
            self._look_for_head()

    def lost(self, reason: Failure) -> None:
        """The connection is gone."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lost(reason)

    def _look_for_head(self) -> None:
        # A server should ignore empty lines before a request (RFC 9112, 2.2).
        self._data = self._data.lstrip(b"\r\n")
        end = self._data.find(_HEADER_END)
        if (len(self._data) if end < 0 else end) > self._config.max_header:
            self._data = b""
            self._house.abort()
        elif end >= 0:
            size = end + len(_HEADER_END)
            request, self._data = self._data[:size], self._data[size:]
            self._house.asked()
            self._open(RequestHead.parse(request[:end]), request)

    def _open(self, head: RequestHead, request: bytes) -> None:
        if not _HEADER.fullmatch(request) or len(head.fields.get("host", ())) > 1:
            self._house.failHandshake("no header that all read alike", HTTPStatus.BAD_REQUEST)
            return
        if self._site is None or head.upgrades:
            rest, self._data = self._data, b""
            self._house.shake_hands(head, request, rest)
            return
        length = body_length(head)
        line = RequestLine.parse(request)
        if isinstance(length, HTTPStatus):
            self._house.failHandshake("no body that can be measured", length)
        elif self._taker is not None and self._taker.takes(line):
            self.used = True
            self._exchange = intake = Intake(self._house, self._taker, line, head, length, self._clock, self._answered)
            self._data = intake.receive(self._data)
            intake.start()
            self._look_at(intake)
        elif length > self._config.max_http_body:
            self._house.failHandshake("too large a body", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self.used = True
            size = len(request) + length
            self._exchange = exchange = Exchange(self._house, self._site, size, self._config.dead_after, self._answered)
            self._data = exchange.receive(request + self._data)
            self._look_at(exchange)

    def _answered(self) -> None:
        if self._exchange is not None:
            self._house.resume()
            self._look_at(self._exchange)

    def _look_at(self, exchange: Exchange | Intake) -> None:
        """Go on behind a request that is over, in the next turn: however many there are, others get theirs."""
        if exchange.disconnecting:
            self._data = b""
        elif exchange.over:
            self._exchange = None
            if isinstance(exchange, Exchange):
                exchange.forget()
            self._house.answered()
            if self._data:
                self._house.rest(0)
        elif self._data:
            self._house.pause()


def body_length(head: RequestHead) -> int | HTTPStatus:
    """Bytes of a request's body, or why that is not known (RFC 9112, 6.3)."""
    if "transfer-encoding" in head.fields:
        # It would have to be decoded here to see its end, and nobody has to send so what is so small.
        return HTTPStatus.LENGTH_REQUIRED
    lengths = head.fields.get("content-length", ["0"])
    if len(lengths) > 1 or not re.fullmatch("[0-9]{1,18}", lengths[0]):
        return HTTPStatus.BAD_REQUEST
    return int(lengths[0])


@implementer(IPushProducer)
class Exchange:
    """One request to the site and its answer. For the channel of the site it is the transport.

    The answer goes the way of everything that is sent to this peer, and is counted there. While too much of it waits,
    whatever produces it pauses, and no further request is begun.

    :param size: bytes of the request, header and body.
    :param patience: seconds in which a peer has to take what waits of a long answer.
    :param answered: called when an answer that took its time is complete.

    :ivar disconnecting: the site has ended the connection.
    """

    disconnecting = False

    def __init__(self, house: House, site: Site, size: int, patience: float, answered: Any) -> None:
        self._house = house
        self._missing = size
        self._patience = patience
        self._answered = answered
        self._full = False
        self._channel: Any = site.buildProtocol(house.transport.getPeer())
        self._channel.makeConnection(self)

    @property
    def over(self) -> bool:
        return not self._missing and not self._channel.requests

    def receive(self, data: bytes) -> bytes:
        """Take what belongs to the request; returns what stands behind it. b"" when what waited has been taken."""
        part, rest = data[: self._missing], data[self._missing :]
        if part and not self.disconnecting:
            self._missing -= len(part)
            self._channel.dataReceived(part)
            if not self._missing and self._channel.requests and not self.disconnecting:
                self._channel.requests[0].notifyFinish().addBoth(lambda _: self._answered())
        if self._full and not self._house.congested:
            self._full = False
            self._house.allow(self._patience)
            self._channel.resumeProducing()
        return rest

    def lost(self, reason: Failure) -> None:
        self._channel.connectionLost(reason)
        self.forget()

    def forget(self) -> None:
        """It is over: the channel, which refers to this, is not needed any more, and the two would stay as garbage."""
        self._channel = None

    # ITransport, as far as the channel needs it.

    def write(self, data: bytes) -> None:
        self._house.sendData(data)
        if self._house.congested and not self._full and self._channel is not None:
            self._full = True
            self._house.allow(self._patience)
            self._channel.pauseProducing()

    def writeSequence(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    # IPushProducer and IConsumer: that the door and the house decide when there is something to read.

    def registerProducer(self, producer: object, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...

    # ITransport again.

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._house.end()

    def getPeer(self) -> Any:
        return self._house.transport.getPeer()

    def getHost(self) -> Any:
        return self._house.transport.getHost()
