"""A client for the tests, on Autobahn's client side: requests with their replies, pushes, and raw bytes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, cast

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.wire import codes
from tests.integration.daemon import PATIENCE, token

log = Logger()
reactor = cast(Any, installed_reactor)

Frame = dict[str, Any]
Where = Callable[[Frame], bool]

PUSHES = codes.ADMIN_PUSHES | codes.GUEST_PUSHES


def same(name: str, value: object) -> Where:
    """A condition for :meth:`Client.push`."""
    return lambda data: bool(data[name] == value)


class ConnectionGone(Exception):
    """The connection ended before the reply."""


class Refused(Exception):
    """The handshake failed; ``str()`` is why."""


class _Protocol(WebSocketClientProtocol):
    client: Client

    def onOpen(self) -> None:
        self.client._opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        try:
            self.client._received(payload, isBinary)
        except Exception:
            # Trial fails a test that logs a failure; Autobahn would just drop the connection.
            log.failure("{client} got something wrong", client=self.client.name)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.client._closed(code, reason or "")


class _Waiting:
    """Somebody who waits for something, for as long as patience lasts."""

    def __init__(self, what: str, where: Callable[[Any], bool]) -> None:
        self.where = where
        self.done: Deferred[Any] = Deferred()
        self.done.addTimeout(PATIENCE, reactor, lambda *_: Failure(AssertionError(f"there never came {what}")))


class Client:
    """One connection.

    :param name: for messages about failures.
    :param tagged: whether requests carry a ``request_id``; without one, replies are told by their order alone.

    :ivar frames: all frames in their order; *raw* holds their bytes.
    :ivar inbox: pushes that nobody has taken yet.
    :ivar end: (code, reason) once the connection has ended.
    """

    def __init__(self, name: str = "client", *, tagged: bool = True) -> None:
        self.name = name
        self.tagged = tagged
        self.frames: list[Frame] = []
        self.raw: list[bytes] = []
        self.inbox: list[Frame] = []
        self.end: tuple[int | None, str] | None = None
        self.protocol: Any = None
        self.on_push: Callable[[Frame], None] = lambda frame: None
        self.data: Frame = {}
        self._owed: deque[tuple[int, str | None, Deferred[Frame]]] = deque()
        self._beats: deque[Deferred[Frame]] = deque()
        self._waiting: list[_Waiting] = []
        self._ended: list[Deferred[tuple[int | None, str]]] = []
        self._opening: Deferred[None] | None = None
        self._requests = 0

    # Connecting.

    async def connect(
        self,
        port: int,
        *,
        origin: str | None = None,
        headers: Mapping[str, str] | None = None,
        endpoint: Any = None,
    ) -> Client:
        """Shake hands.

        :param endpoint: an IStreamClientEndpoint, where it is not plain TCP: then TLS is what it speaks.
        :raises Refused: the handshake was answered with something else.
        """
        scheme = "ws" if endpoint is None else "wss"
        factory = WebSocketClientFactory(
            f"{scheme}://127.0.0.1:{port}/", origin=origin, headers=dict(headers or {}), reactor=reactor
        )
        factory.noisy = False
        factory.protocol = _Protocol
        factory.setProtocolOptions(openHandshakeTimeout=PATIENCE, closeHandshakeTimeout=0, failByDrop=False)
        factory.setProtocolOptions(serverConnectionDropTimeout=0, maxMessagePayloadSize=0)
        opening = self._opening = Deferred()

        def build(addr: Any) -> _Protocol:
            protocol = _Protocol()
            protocol.factory = factory
            protocol.client = self
            return protocol

        factory.buildProtocol = build
        await (endpoint or TCP4ClientEndpoint(reactor, "127.0.0.1", port)).connect(factory)
        await opening
        return self

    async def admin(self, port: int, admin_id: int, *, v: int | None = 2, **claims: Any) -> Client:
        """Connect and log in as an admin; the reply's data is in *data*."""
        await self.connect(port)
        fields = {} if v is None else {"v": v}
        reply = await self.request(31000, call_type=3, token=token(admin_id=admin_id, **claims), **fields)
        self.data = self.good(reply)
        return self

    async def guest(self, port: int, **fields: Any) -> Client:
        """Connect and log in as a guest."""
        await self.connect(port)
        self.data = self.good(await self.request(21000, call_type=1, **fields))
        return self

    @property
    def gid(self) -> int:
        return int(self.data["gid"])

    # Asking.

    def request(self, api_key: int, **fields: Any) -> Deferred[Frame]:
        """Send a request; fires with the reply, whatever it says."""
        frame = {"api_key": api_key, **fields}
        tag = None
        if self.tagged:
            self._requests += 1
            tag = frame["request_id"] = f"{self.name}-{self._requests}"
        return self.ask(json.dumps(frame, ensure_ascii=False), api_key, tag)

    def ask(
        self, payload: str | bytes, api_key: int, tag: str | None = None, *, binary: bool = False
    ) -> Deferred[Frame]:
        """Send a frame as it is; fires with the next reply in order, which must have this *api_key* and tag."""
        replied: Deferred[Frame] = Deferred()
        if self.end is not None:
            replied.errback(ConnectionGone(*self.end))
            return replied
        self._owed.append((api_key, tag, replied))
        self.send(payload, binary)
        return replied.addTimeout(PATIENCE, reactor, self._no_reply(api_key))

    def beat(self, **fields: Any) -> Deferred[Frame]:
        """A heartbeat."""
        replied: Deferred[Frame] = Deferred()
        self._beats.append(replied)
        self.send(json.dumps({"call_type": 0, **fields}))
        return replied.addTimeout(PATIENCE, reactor, self._no_reply(0))

    async def good_request(self, api_key: int, **fields: Any) -> Frame:
        """The data of a reply that has to say success."""
        return self.good(await self.request(api_key, **fields))

    async def code(self, api_key: int, **fields: Any) -> int:
        """The code of a reply."""
        return int((await self.request(api_key, **fields))["code"])

    def good(self, reply: Frame) -> Frame:
        if (reply["code"], reply["status"], reply["message"]) != (200, "Success", ""):
            raise AssertionError(f"{self.name}: {reply}")
        return cast(Frame, reply["data"])

    def send(self, payload: str | bytes, binary: bool = False) -> None:
        """Send a message as it is, without waiting for anything."""
        self.protocol.sendMessage(payload.encode() if isinstance(payload, str) else payload, binary)

    # Hearing.

    def push(self, number: int, where: Where = lambda data: True) -> Deferred[Frame]:
        """The data of the next push with this number that nobody has taken yet, now or later."""

        def fits(frame: Frame) -> bool:
            return bool(frame["api_key"] == number and where(frame["data"]))

        for frame in self.inbox:
            if fits(frame):
                self.inbox.remove(frame)
                taken: Deferred[Frame] = Deferred()
                taken.callback(frame["data"])
                return taken
        waiting = _Waiting(f"push {number} to {self.name}", fits)
        self._waiting.append(waiting)
        return waiting.done.addCallback(lambda frame: frame["data"])

    def pushed(self, *numbers: int) -> list[Frame]:
        """The data of all pushes with these numbers so far."""
        return [frame["data"] for frame in self.frames if frame["api_key"] in numbers]

    def closed(self) -> Deferred[tuple[int | None, str]]:
        """(code, reason) once the connection has ended."""
        ended: Deferred[tuple[int | None, str]] = Deferred()
        if self.end is not None:
            ended.callback(self.end)
            return ended
        self._ended.append(ended)
        return ended.addTimeout(PATIENCE, reactor, self._no_end())

    async def leave(self) -> None:
        """Close in a clean way, and wait until the connection is gone."""
        if self.protocol is None or self.end is not None:
            return
        self.protocol.sendClose(1000)
        await self.closed()

    async def drop(self) -> None:
        """Cut the connection."""
        if self.protocol is not None and self.end is None:
            self.protocol.transport.abortConnection()
            await self.closed()

    def _no_reply(self, api_key: int) -> Callable[[Any, float], Failure]:
        return lambda *_: Failure(AssertionError(f"no reply to {api_key} of {self.name}"))

    def _no_end(self) -> Callable[[Any, float], Failure]:
        return lambda *_: Failure(AssertionError(f"the connection of {self.name} goes on"))

    # What the protocol tells.

    def _opened(self, protocol: Any) -> None:
        self.protocol = protocol
        opening, self._opening = self._opening, None
        assert opening is not None
        opening.callback(None)

    def _received(self, payload: bytes, binary: bool) -> None:
        assert not binary
        frame = json.loads(payload)
        self.raw.append(payload)
        self.frames.append(frame)
        number = frame["api_key"]
        if number in PUSHES:
            self._take_push(frame)
        elif number == 0 and frame["code"] > 0:
            self._beats.popleft().callback(frame)
        else:
            self._take_reply(frame)

    def _take_push(self, frame: Frame) -> None:
        if set(frame) != {"api_key", "data", "code", "message", "status"} or frame["code"] != frame["api_key"]:
            raise AssertionError(f"no push: {frame}")
        self.on_push(frame)
        for waiting in self._waiting:
            if waiting.where(frame):
                self._waiting.remove(waiting)
                waiting.done.callback(frame)
                return
        self.inbox.append(frame)

    def _take_reply(self, frame: Frame) -> None:
        api_key, tag, replied = self._owed.popleft()
        if (frame["api_key"], frame.get("request_id")) == (api_key, tag):
            replied.callback(frame)
        else:
            replied.errback(AssertionError(f"{self.name}: {frame} is no reply to {api_key} {tag}"))

    def _closed(self, code: int | None, reason: str) -> None:
        self.end = (code, reason)
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.errback(Refused(reason))
        owed, self._owed = self._owed, deque()
        for _, _, replied in owed:
            replied.errback(ConnectionGone(code, reason))
        beats, self._beats = self._beats, deque()
        for replied in beats:
            replied.errback(ConnectionGone(code, reason))
        ended, self._ended = self._ended, []
        for waiting in ended:
            waiting.callback(self.end)
