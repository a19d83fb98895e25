"""A connection without a socket: its transport, the client's side of the wire, and a reception that remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatproto.config import Config, load
from chatproto.connection.protocol import ChatFactory, ChatProtocol
from chatproto.connection.state import ConnectionState, Link
from chatproto.web.site import make_site

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONTINUATION = 0

MASK = b"\x37\xfa\x21\x3d"

FIELDS = {
    "Host": "chat.example",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def config(**changes: Any) -> Config:
    """The defaults, with changes."""
    return replace(load({}, {}, Path("/")), **changes)


def request(**fields: str | None) -> bytes:
    """A WebSocket handshake; a field given as None is left out."""
    given = {name.replace("_", "-"): value for name, value in fields.items()}
    lines = [f"{name}: {value}" for name, value in (FIELDS | given).items() if value is not None]
    return "\r\n".join(["GET / HTTP/1.1", *lines, "", ""]).encode()


def client_frame(opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0, mask: bytes | None = MASK) -> bytes:
    """One frame as a client sends it; mask None: unmasked, which a client must not do."""
    size = len(payload)
    masked = 0x80 if mask is not None else 0
    head = bytes((fin << 7 | rsv << 4 | opcode,))
    if size < 126:
        head += bytes((masked | size,))
    elif size < 0x10000:
        head += bytes((masked | 126,)) + size.to_bytes(2, "big")
    else:
        head += bytes((masked | 127,)) + size.to_bytes(8, "big")
    if mask is None:
        return head + payload
    return head + mask + bytes(octet ^ mask[at & 3] for at, octet in enumerate(payload))


def server_frames(raw: bytes) -> list[tuple[int, bytes]]:
    """(opcode, payload) of each frame; fails on what a server must not send."""
    frames = []
    while raw:
        assert raw[0] & 0xF0 == 0x80, "fragmented, or a reserved bit"
        size, at = raw[1], 2
        if size == 126:
            size, at = int.from_bytes(raw[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(raw[2:10], "big"), 10
        assert len(raw) >= at + size, "part of a frame"
        frames.append((raw[0] & 0x0F, raw[at : at + size]))
        raw = raw[at + size :]
    return frames


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return client_frame(CLOSE, code.to_bytes(2, "big") + reason)


def turn(clock: Clock) -> None:
    """One turn of the reactor: what is due, and not what that makes due."""
    calls: list[Any] = list(clock.getDelayedCalls())
    for call in calls:
        if call.active() and call.getTime() <= clock.seconds():
            made, arguments = call.func, call.args
            call.cancel()
            made(*arguments)


class MemoryTransport(StringTransport):
    """Fills up as a socket does whose peer does not read: its producer is told, until :meth:`drain`."""

    FULL = 65536

    def __init__(self, peer: str = "192.0.2.1") -> None:
        super().__init__(peerAddress=IPv4Address("TCP", peer, 5000), lenient=True)
        self.writes: list[bytes] = []
        self.reads = False
        self.no_delay = False
        self._buffered = 0

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def write(self, data: bytes) -> None:
        super().write(data)
        self.writes.append(data)
        if not self.reads:
            self._buffered += len(data)
            if self.producer is not None and self._buffered > self.FULL:
                self.producer.pauseProducing()

    def drain(self) -> None:
        """The peer reads all that was written so far."""
        self._buffered = 0
        if self.producer is not None:
            self.producer.resumeProducing()

    def drain_all(self) -> None:
        """The peer reads until there is nothing more."""
        while self._buffered:
            self.drain()


class Recorder:
    """A reception that remembers what it was told.

    :ivar heard: ("text", payload), ("binary",), ("closed", code, reason) in their order.
    :ivar frames: how many frames came that are no message; *drains* how often a link was no longer congested.
    :ivar at_once: called with the link at each text and each such frame.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.heard: list[tuple[Any, ...]] = []
        self.connections: list[ConnectionState] = []
        self.frames = self.drains = 0
        self.at_once: Callable[[Link], None] = lambda link: None

    def opened(self, link: Link, address: str) -> ConnectionState:
        state = ConnectionState(f"c{len(self.connections)}", link, address, self.clock.seconds())
        self.connections.append(state)
        return state

    def text(self, connection: ConnectionState, payload: bytes) -> None:
        self.heard.append(("text", payload))
        self.at_once(connection.link)

    def binary(self, connection: ConnectionState) -> None:
        self.heard.append(("binary",))

    def frame(self, connection: ConnectionState) -> None:
        self.frames += 1
        self.at_once(connection.link)

    def drained(self, connection: ConnectionState) -> None:
        self.drains += 1

    def closed(self, connection: ConnectionState, code: int | None, reason: str) -> None:
        self.heard.append(("closed", code, reason))


class Client:
    """The other end of one connection.

    :ivar transport: what the server writes to.
    """

    def __init__(self, factory: ChatFactory, clock: Clock, peer: str = "192.0.2.1", reads: bool = True) -> None:
        self.clock = clock
        self.transport = MemoryTransport(peer)
        self.transport.reads = reads
        protocol = factory.buildProtocol(self.transport.getPeer())
        assert isinstance(protocol, ChatProtocol)
        self.protocol = protocol
        protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)
        self.clock.advance(0)

    def shake_hands(self, **fields: str | None) -> Client:
        self.send(request(**fields))
        return self

    def received(self) -> bytes:
        """What came since the last call."""
        self.clock.advance(0)
        raw = self.transport.value()
        self.transport.clear()
        self.transport.writes.clear()
        return raw

    def status(self) -> int:
        """The status of an HTTP response."""
        return int(self.received().split(b" ", 2)[1])

    def frames(self) -> list[tuple[int, bytes]]:
        return server_frames(self.received())

    def lose(self) -> None:
        """The TCP connection ends."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


class ConnectedCase(SynchronousTestCase):
    """Connections of a factory, with the site."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.start()

    def start(self, reception: Any = None, **options: Any) -> None:
        self.recorder = reception or Recorder(self.clock)
        self.factory = ChatFactory(config(**options), self.recorder, self.clock, make_site(lambda: True, self.clock))

    def connect(self, **options: Any) -> Client:
        return Client(self.factory, self.clock, **options)

    def open(self, **options: Any) -> Client:
        client = self.connect(**options).shake_hands()
        self.assertIn(b"101 Switching Protocols", client.received())
        return client

    def state(self) -> ConnectionState:
        return self.recorder.connections[-1]

    def assertNothingLeft(self) -> None:
        admission = self.factory.admission
        self.assertEqual((admission.total, admission.by_address), (0, {}))
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.factory.countConnections, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
