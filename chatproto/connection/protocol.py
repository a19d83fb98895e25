"""The connection: a WebSocket of Autobahn, or HTTP requests for the site on the same port.

The only module that knows Autobahn. What Autobahn does by itself and would hurt here is switched off or replaced:
its timers (:mod:`chatproto.connection.heartbeat`), its unbounded writing (:mod:`chatproto.connection.outgoing`),
its log, its answer to plain HTTP (:mod:`chatproto.connection.door`) and its idea of origins
(:mod:`chatproto.connection.admission`).
"""

from __future__ import annotations

from functools import cached_property
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING, Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.util import encode_truncate
from autobahn.websocket.protocol import TrafficStats
from autobahn.websocket.utf8validator import Utf8Validator
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.clock import Timer
from chatproto.connection.admission import Admission, RequestHead, origin_allowed
from chatproto.connection.door import Door
from chatproto.connection.heartbeat import CLOSE_TIMEOUT
from chatproto.connection.incoming import MOST, next_text
from chatproto.connection.intake import Taker
from chatproto.connection.outgoing import GONE, TEXT_HEADERS, Outgoing, Turn, text_header
from chatproto.connection.state import ConnectionState, Reception
from chatproto.wire.codes import CLOSE_TOO_LARGE, CLOSE_TOO_SLOW

if TYPE_CHECKING:
    from twisted.web.server import Site

    from chatproto.config import Config

INTERNAL_ERROR = 1011

FRAMES_A_TURN = 64
"""Frames of one connection that are handled before others get their turn."""

_A_TURN = range(FRAMES_A_TURN)
_MADE = len(TEXT_HEADERS)

PATIENCE = 2.0
"""Seconds in which a peer that is far behind has to take something."""

MOST_BEHIND = 16
"""How many times ``max_unsent`` may wait for a peer that takes something."""

_MAX_REASON = 123  # bytes: a control frame has 125, the code takes 2 (RFC 6455, 5.5)

CONNECTING = WebSocketServerProtocol.STATE_CONNECTING
OPEN = WebSocketServerProtocol.STATE_OPEN
CLOSED = WebSocketServerProtocol.STATE_CLOSED

# Why reading pauses; it goes on when none of them is left.
_BY_RECEPTION = 1
_BY_UNSENT = 2
_BY_REST = 4


class _NoLog:
    """Autobahn's log: what a peer does wrong is no news to the operator, and formatting it costs 8 % of all time."""

    def debug(self, *args: Any, **kwargs: Any) -> None: ...

    trace = info = warn = error = debug


class _NobodyWaits:
    """Stands for Autobahn's ``is_open`` and ``is_closed``: a Deferred that fires with its own protocol is a cycle."""

    def callback(self, result: object) -> None: ...


class _InSlots(Outgoing):
    """What of a protocol, Autobahn's or ours, is read for each message: from a slot that is several times as fast."""

    __slots__ = (
        "behind",
        "connection",
        "current_frame",
        "data",
        "factory",
        "inside_message",
        "state",
        "transport",
        "_holds",
        "_resting",
    )

    factory: ChatFactory

    def __init__(self) -> None:
        super().__init__()
        self.behind = False
        self.connection: ConnectionState | None = None
        self.current_frame: Any = None
        self.data = b""
        self.inside_message = False
        self._holds = 0
        self._resting: Timer | None = None


class ChatProtocol(_InSlots, WebSocketServerProtocol):
    """One connection. Once it is open it is the :class:`~chatproto.connection.state.Link` of a `ConnectionState`.

    :ivar connection: what the reception keeps of it, from the handshake until it is told of the end.
    :ivar accepted_at: seconds of the factory's clock, as the other times here.
    :ivar due: when the heartbeat has to look at it again.
    :ivar pinged_at: when the last ping was sent.
    :ivar paused_at: since when nothing is read, or None.
    :ivar closing_at: since when it is being closed, or None.
    :ivar behind: a push has found more than ``max_unsent`` waiting, and not all of it has been taken since.
    """

    log = _NoLog()

    accepted_at = 0.0
    due = inf
    pinged_at = -inf
    paused_at: float | None = None
    closing_at: float | None = None

    _log = Logger()
    _address: str | None = None
    _door: Door | None = None
    _common: dict[str, Any]
    _fragments = 0
    _short_way: bool
    _pause_unsent: int

    # What an open connection has in common with all others stands here once: _slim takes it out of the instance.
    # Autobahn gives each instance some 75 attributes, 8 KiB together.
    is_open: Any = _NobodyWaits()
    is_closed: Any = is_open
    message_data: Any = None
    utf8validator = cached_property(lambda self: Utf8Validator())
    send_queue = ()
    websocket_version = 13
    current_frame_masker = None
    send_state = WebSocketServerProtocol.SEND_STATE_GROUND
    triggered = trackTimings = False
    trackedTimings = _perMessageCompress = _transport_details = None
    wasMaxFramePayloadSizeExceeded = wasMaxMessagePayloadSizeExceeded = False
    closedByMe = failedByMe = droppedByMe = wasClean = False
    wasServerConnectionDropTimeout = wasOpenHandshakeTimeout = wasCloseHandshakeTimeout = False
    wasServingFlashSocketPolicyFile = False
    wasNotCleanReason = localCloseCode = localCloseReason = remoteCloseCode = remoteCloseReason = None
    openHandshakeTimeoutCall = closeHandshakeTimeoutCall = None
    autoPingTimeoutCall = autoPingPending = autoPingPendingCall = autoPingPendingSent = None
    autoPingPendingSeq = 0
    websocket_protocol_in_use = None

    # The transport's side.

    def connectionMade(self) -> None:
        factory = self.factory
        admitted = factory.admission.enter(self)
        self.accepted_at = factory.clock.seconds()
        self.due = self.accepted_at + factory.config.login_timeout
        self._door = Door(self, factory.site, factory.taker, factory.config, factory.clock)
        factory.connections.add(self)
        super().connectionMade()
        self._register()
        # Autobahn means to do this and does not: a swallowed AttributeError.
        if (set_no_delay := getattr(self.transport, "setTcpNoDelay", None)) is not None:
            set_no_delay(True)
        if not admitted:
            self.failHandshake("full", HTTPStatus.SERVICE_UNAVAILABLE)
            return
        peer = self._peer_host()
        if not factory.admission.trusts(peer):
            self._take(peer)

    def dataReceived(self, data: bytes) -> None:
        if self._resting is not None:
            # A transport that was told to pause may bring what it has in hand.
            self.data += data
            return
        connection = self.connection
        if connection is None:
            self._receive_unopened(data)
            return
        if self.state == CLOSED:
            return
        connection.last_heard = self.factory.clock.seconds()
        try:
            if self.current_frame is None and not self.data and not self.inside_message and self._short_way:
                data = self._receive_texts(data)
            if data:
                self._dataReceived(data)
        except Exception:
            self._log.failure("Cannot go on with what {address} sent", address=connection.address)
            self._fail_connection(INTERNAL_ERROR, "internal error")
            self.end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        factory = self.factory
        factory.admission.leave(self, self._address)
        door, self._door = self._door, None
        resting, self._resting = self._resting, None
        self._holds = 0
        try:
            if resting is not None:
                resting.cancel()
            super().connectionLost(reason)
            if door is not None:
                door.lost(reason)
        finally:
            self._drop_queue()
            self.is_closed = None
            # TLS and this refer to each other, and an error to the frames that had it: without the collector of
            # cycles, which is seldom awake, each connection would leave its 50 KiB behind.
            self.transport = GONE
            reason.cleanFailure()
            factory.forget(self)

    # Before the handshake.

    def _peer_host(self) -> str:
        """The address at the other end of the transport; "" where it has none (a Unix socket)."""
        return str(getattr(self.transport.getPeer(), "host", ""))

    def _take(self, address: str) -> bool:
        """Count this connection for its address, or refuse it."""
        if not self.factory.admission.take(address):
            self.failHandshake("too many connections of one address", HTTPStatus.TOO_MANY_REQUESTS)
            return False
        self._address = address
        return True

    def _receive_unopened(self, data: bytes) -> None:
        try:
            if self._door is not None and self.state == CONNECTING:
                self._door.receive(data)
            elif self.state != CLOSED:
                self._dataReceived(data)
        except Exception as error:
            self._log.error("Cannot take a request of {peer}: {error}", peer=self._peer_host(), error=repr(error)[:200])
            self.abort()

    def shake_hands(self, head: RequestHead, request: bytes, rest: bytes) -> None:
        """Become a WebSocket, if all is right.

        :param request: its header, *head*, as it came; *rest* stands behind it.
        """
        factory = self.factory
        if factory.admission.full:
            self.failHandshake("full", HTTPStatus.SERVICE_UNAVAILABLE)
            return
        if self._address is None and not self._take(factory.admission.client_address(self._peer_host(), head)):
            return
        if not origin_allowed(head.first("origin"), head.first("host"), factory.config.origins):
            self.failHandshake("origin not allowed", HTTPStatus.FORBIDDEN)
            return
        self._door = None
        self.data = request
        self.consumeData()
        if self.connection is not None:
            self._slim()
        if rest:
            self.dataReceived(rest)

    def asked(self) -> None:
        """The header of a request is here."""
        self.factory.admission.asks(self)

    def answered(self) -> None:
        """A request to the site is over: the time for the next one begins.

        A proxy's connection is not counted for the address of one of the many whose requests it carries.
        """
        self.factory.admission.waits(self)
        self.accepted_at = self.factory.clock.seconds()
        self.due = self.accepted_at + self.factory.config.login_timeout

    def allow(self, seconds: float) -> None:
        """The request under way may go on for so long from now."""
        self.due = self.factory.clock.seconds() + seconds
        self.accepted_at = self.due - self.factory.config.login_timeout

    def sendHttpErrorResponse(self, code: int, reason: str, responseHeaders: Any = None) -> None:
        status = HTTPStatus(code)
        lines = [f"HTTP/1.1 {status.value} {status.phrase}", "Content-Length: 0", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in responseHeaders or ()]
        self.sendData("\r\n".join([*lines, "", ""]).encode())

    def _slim(self) -> None:
        """Give back what only the handshake needed: an idle connection takes 4 KiB instead of 12."""
        common = self._common
        self.__dict__ = {
            name: value
            for name, value in vars(self).items()
            if name not in _SPENT and (name not in common or common[name] is not value)
        }

    # Open.

    def onOpen(self) -> None:
        self.due = self.factory.clock.seconds()
        try:
            self.connection = self.factory.reception.opened(self, self._address or self._peer_host())
        except Exception:
            self._log.failure("Cannot open a connection")
            self._fail_connection(INTERNAL_ERROR, "internal error")

    def _receive_texts(self, data: bytes) -> bytes:
        """Take small whole texts off the front.

        :returns: the rest, which is for Autobahn.
        """
        at = 0
        take = self.factory.reception.text
        for _ in _A_TURN:
            connection = self.connection
            if connection is None or self.state != OPEN or (found := next_text(data, at)) is None:
                return data[at:] if at else data
            payload, at = found
            try:
                take(connection, payload)
            except Exception:
                self._cannot_take(connection)
            if self._resting is not None:
                break
        if at < len(data):
            self.rest(0)
            self.data = data[at:]
        return b""

    def consumeData(self) -> None:
        if self.state == CONNECTING:
            super().consumeData()
            return
        frames = 0
        while self.processData() and self.state != CLOSED:
            if self.current_frame is None:
                frames += 1
                if frames == FRAMES_A_TURN or self._resting is not None:
                    self.rest(0)
                    return

    def onMessageBegin(self, isBinary: bool) -> None:
        self._fragments = 0
        super().onMessageBegin(isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        super().onMessageFrameBegin(length)
        # Empty fragments count for nothing in Autobahn's limits of size.
        self._fragments += 1
        if self._fragments > self.factory.config.max_fragments and not self.failedByMe:
            self._fail_connection(CLOSE_TOO_LARGE, "too many fragments")

    def onMessageFrameEnd(self) -> None:
        super().onMessageFrameEnd()
        if not self.current_frame.fin:
            self._count_frame()

    def onPing(self, payload: bytes) -> None:
        super().onPing(payload)
        self._count_frame()

    def onPong(self, payload: bytes) -> None:
        self._count_frame()

    def _count_frame(self) -> None:
        if self.connection is not None and self.state == OPEN:
            self.factory.reception.frame(self.connection)

    def onMessageEnd(self) -> None:
        parts, self.message_data = self.message_data, None
        self.__dict__.pop("utf8validator", None)
        if not self.failedByMe:
            self.onMessage(b"".join(parts), self.message_is_binary)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        connection = self.connection
        if connection is None or self.state != OPEN:
            return
        try:
            if isBinary:
                self.factory.reception.binary(connection)
            else:
                self.factory.reception.text(connection, payload)
        except Exception:
            self._cannot_take(connection)

    def _cannot_take(self, connection: ConnectionState) -> None:
        self._log.failure("Cannot take a message of {address}", address=connection.address)
        self._fail_connection(INTERNAL_ERROR, "internal error")

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        connection, self.connection = self.connection, None
        if connection is None:
            return
        if self.closedByMe:
            code, reason = self.localCloseCode, (self.localCloseReason or b"").decode()
        elif wasClean:
            reason = "by the peer"  # whose own words have no place in a log
        else:
            code, reason = None, self.wasNotCleanReason
        try:
            self.factory.reception.closed(connection, code, reason or "")
        except Exception:
            self._log.failure("Cannot end the connection of {address}", address=connection.address)

    # Link.

    @property
    def _turn(self) -> Turn:
        return self.factory.turn

    def send(self, payload: bytes, push: bool = False) -> None:
        """Queue one text frame.

        A *push* past ``max_unsent`` closes with 4002 if the peer takes nothing, or if it is far past. A reply never
        does, but no command starts while it waits.
        """
        if self.state != OPEN:
            return
        size = len(payload)
        if push and self._blocked and self._far_behind(size):
            self.give_up()
            return
        header = TEXT_HEADERS[size] if size < _MADE else text_header(size)
        if self._queue(header, payload) > self._pause_unsent:
            self._hold(_BY_UNSENT)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """What Autobahn sends (handshake, pongs, close frames) has its place in the same queue."""
        if self._queue(data) > self._pause_unsent:
            self._hold(_BY_UNSENT)

    def _far_behind(self, size: int) -> bool:
        """Whether a push of *size* bytes is too much for a peer that does not take what it gets."""
        config = self.factory.config
        waiting = self.unsent + size
        if waiting <= config.max_unsent:
            return False
        self.behind = True
        self.due = min(self.due, self.factory.clock.seconds())
        return self.stuck or waiting > MOST_BEHIND * config.max_unsent

    @property
    def congested(self) -> bool:
        """More than ``pause_unsent`` waits: until all of it is taken nothing is read, and no command starts."""
        return self._holds & _BY_UNSENT != 0

    @property
    def stuck(self) -> bool:
        """It is :attr:`behind`, and the peer has taken nothing for a while."""
        return (
            self.behind
            and self._blocked
            and self.unsent > self.factory.config.max_unsent
            and self.factory.clock.seconds() >= self.filled_at + PATIENCE
        )

    def give_up(self) -> None:
        """Tell a peer that is too slow so, in place of what waits for it."""
        self._drop_queue()
        self.close(CLOSE_TOO_SLOW, "too slow a reader")

    def _drained(self) -> None:
        if self.behind:
            self.behind = False
        self._release(_BY_UNSENT)

    def pause(self) -> None:
        self._hold(_BY_RECEPTION)

    def resume(self) -> None:
        self._release(_BY_RECEPTION)

    def rest(self, seconds: float) -> None:
        """Take nothing from the peer, not even what has been read, for so long; nothing new where it rests already.

        It is how a peer that sends more than is due to it is slowed down, and, with 0, how others get their turn.
        """
        if self._resting is None and self.state != CLOSED:
            self._resting = self.factory.clock.callLater(seconds, self._go_on)
            self._hold(_BY_REST)

    def _go_on(self) -> None:
        self._resting = None
        data, self.data = self.data, b""
        self.dataReceived(data)
        if self._resting is None:
            self._release(_BY_REST)

    def _hold(self, cause: int) -> None:
        if cause != _BY_REST and self.state not in (CONNECTING, OPEN):
            return
        if not self._holds:
            self.paused_at = now = self.factory.clock.seconds()
            self.due = min(self.due, now)
            self.transport.pauseProducing()
        self._holds |= cause

    def _release(self, cause: int) -> None:
        released = self._holds & cause
        if not released:
            return
        self._holds &= ~cause
        if not self._holds:
            self.paused_at = None
            self.transport.resumeProducing()
            if self.connection is not None:
                # A transport that did not read cannot have heard anything.
                self.connection.last_heard = self.factory.clock.seconds()
        if released & _BY_UNSENT:
            if self.connection is not None and self.state == OPEN:
                self.factory.reception.drained(self.connection)
            elif self.state == CONNECTING:
                # Requests may wait behind the answers.
                self.rest(0)

    def ping(self) -> None:
        self.pinged_at = self.factory.clock.seconds()
        self.sendPing()

    def close(self, code: int, reason: str) -> None:
        """Send what is queued, then the close frame. What has no handshake yet is dropped.

        :param code: any code, also those that Autobahn keeps for itself (1001, 1009, 1011 …).
        """
        if self.state == OPEN:
            self.sendCloseFrame(code, encode_truncate(reason, _MAX_REASON))
        elif self.state == CONNECTING:
            if self._door is not None and self._door.used:
                self.end()
            else:
                self.abort()

    def abort(self) -> None:
        self.state = CLOSED
        self._holds = 0
        self.droppedByMe = True
        self.transport.abortConnection()

    # Closing.

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        super().sendCloseFrame(code, reasonUtf8, isReply)
        # Reading goes on, or the answer would never be seen.
        self._release(self._holds & ~_BY_REST)
        self._start_closing()

    def _start_closing(self) -> None:
        if self.closing_at is None:
            self.closing_at = now = self.factory.clock.seconds()
            self.due = now + CLOSE_TIMEOUT

    def unregisterProducer(self) -> None:
        """Autobahn would do this before the last frames are written: :meth:`_finish` does it after."""

    def _closeConnection(self, abort: bool = False) -> None:
        # Autobahn resets the connection even after both close frames, and the peer may lose what it has not read.
        if abort and not self.wasClean:
            self.abort()
            return
        self.end()

    def end(self) -> None:
        """Write what is left and end the TCP connection."""
        self.state = CLOSED
        self._release(self._holds)
        self._finish()
        self._start_closing()
        self.transport.loseConnection()


# What only the handshake needs, and what all connections have in common instead of each its own.
_SPENT = frozenset(
    ("http_request_data", "http_status_line", "http_headers", "http_request_uri", "http_request_path")
    + ("http_request_params", "http_request_host", "http_response_data", "websocket_protocols", "websocket_origin")
    + ("websocket_extensions", "websocket_extensions_in_use", "_wskey", "_transport_details", "peer")
    + ("is_open", "is_closed", "send_queue", "trafficStats", "utf8validator", "_valid_events", "_results")
)


class ChatFactory(WebSocketServerFactory):
    """Makes the connections of one port, and knows them.

    :param reception: where the frames go.
    :param clock: the reactor, or in tests a clock: ``seconds`` and ``callLater``.
    :param site: answers what is not WebSocket, by :class:`~twisted.web.http.HTTPChannel`; None: HTTP 426.
    :param taker: takes the bodies of requests that are too large for the site.

    :ivar connections: all that are connected, also those that have shaken no hands yet or are served by the site.
    """

    protocol: type[ChatProtocol] = ChatProtocol
    noisy = False

    def __init__(
        self, config: Config, reception: Reception, clock: Any, site: Site | None = None, taker: Taker | None = None
    ) -> None:
        super().__init__(reactor=clock, server="chatproto")
        self.config = config
        self.reception = reception
        self.clock = clock
        self.site = site
        self.taker = taker
        self.admission = Admission(config)
        self.turn = Turn(clock)
        self.connections: set[ChatProtocol] = set()
        self._all_gone: list[Deferred[None]] = []
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            # Decided before, with 403 instead of Autobahn's 400 (admission.origin_allowed).
            allowedOrigins=["*"],
            allowNullOrigin="null" in config.origins,
            failByDrop=False,
            maxFramePayloadSize=config.max_frame,
            maxMessagePayloadSize=config.max_frame,
            # No timers: theirs do not run on our clock. The heartbeat does all of it.
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            autoPingInterval=0,
            autoPingTimeout=0,
        )
        self.protocol = self._with_options(self.protocol)

    def _with_options(self, protocol: type[ChatProtocol]) -> type[ChatProtocol]:
        """The options as attributes of a class: Autobahn then leaves them out of each instance."""
        options: dict[str, Any] = {name: getattr(self, name) for name in protocol.CONFIG_ATTRS}
        # What is there need not be copied for each connection, nor formatted for a log that nobody reads.
        options["CONFIG_ATTRS"] = ()
        options["perMessageCompressionAccept"] = staticmethod(self.perMessageCompressionAccept)
        options["trafficStats"] = TrafficStats()
        options["_short_way"] = self.config.max_frame >= MOST
        options["_pause_unsent"] = self.config.pause_unsent
        options["_common"] = {**vars(ChatProtocol), **options}
        return type(protocol.__name__, (protocol,), options)

    def close_all(self, code: int, reason: str, patience: float = CLOSE_TIMEOUT) -> Deferred[None]:
        """Close every connection; fires when none is left, soon after *patience* seconds at the latest."""
        if not self.connections:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        late = self.clock.callLater(patience, self._abort_all)

        def stop_waiting(result: None) -> None:
            if late.active():
                late.cancel()

        self._all_gone.append(gone.addCallback(stop_waiting))
        for connection in tuple(self.connections):
            connection.close(code, reason)
        return gone

    def _abort_all(self) -> None:
        for connection in tuple(self.connections):
            connection.abort()

    def forget(self, connection: ChatProtocol) -> None:
        self.connections.discard(connection)
        if not self.connections:
            waiting, self._all_gone = self._all_gone, []
            for gone in waiting:
                gone.callback(None)
