"""A TCP relay in front of PostgreSQL that can lose an answer, as a network does."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

reactor: Any = installed


class _Upstream(Protocol):
    """The side of PostgreSQL."""

    transport: Any

    def __init__(self, downstream: _Downstream) -> None:
        self.downstream = downstream

    def dataReceived(self, data: bytes) -> None:
        self.downstream.answered(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.downstream.transport.loseConnection()


class _Downstream(Protocol):
    """The side of the client."""

    transport: Any

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.upstream: _Upstream | None = None
        self.early = b""
        self.losing = False

    def connectionMade(self) -> None:
        self.relay.lines.append(self)
        connecting = connectProtocol(self.relay.upstream(), _Upstream(self))
        connecting.addCallbacks(self.joined, lambda failure: self.transport.loseConnection())

    def joined(self, upstream: _Upstream) -> None:
        self.upstream = upstream
        upstream.transport.write(self.early)

    def dataReceived(self, data: bytes) -> None:
        if self.relay.wanted(data):
            self.losing = True
        if self.upstream is None:
            self.early += data
        else:
            self.upstream.transport.write(data)

    def answered(self, data: bytes) -> None:
        if self.losing:
            self.relay.swallowed += 1
            if self.relay.cuts:
                self.transport.abortConnection()
        else:
            self.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.relay.lines.remove(self)
        if self.upstream is not None:
            self.upstream.transport.loseConnection()


class Relay:
    """
    :param dsn: of the database behind it.
    :ivar swallowed: how many answers were lost.
    :ivar cuts: whether the line is cut instead; else nothing is answered on it any more.
    """

    def __init__(self, dsn: str) -> None:
        self._address = urlsplit(dsn)
        self._marker: bytes | None = None
        self._for_ever = False
        self.cuts = True
        self._port: Any = None
        self.lines: list[_Downstream] = []
        self.swallowed = 0

    def listen(self) -> str:
        """Start; returns the DSN of the database through this relay."""
        factory = Factory.forProtocol(lambda: _Downstream(self))
        self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        user, _, _ = self._address.netloc.rpartition("@")
        place = f"127.0.0.1:{self._port.getHost().port}"
        netloc = f"{user}@{place}" if user else place
        return urlunsplit(self._address._replace(netloc=netloc, query="sslmode=disable"))

    def upstream(self) -> Any:
        directory = parse_qs(self._address.query).get("host", [""])[0]
        if directory:
            return UNIXClientEndpoint(reactor, f"{directory}/.s.PGSQL.{self._address.port or 5432}")
        return HostnameEndpoint(reactor, self._address.hostname or "localhost", self._address.port or 5432)

    def swallow(self, marker: bytes | None, *, for_ever: bool = False, cut: bool = True) -> None:
        """Let the next statement that contains *marker* (or all of them) be carried out, and lose the answer.

        :param marker: None: lose nothing more.
        :param cut: the line too.
        """
        self._marker, self._for_ever, self.cuts = marker, for_ever, cut

    def wanted(self, data: bytes) -> bool:
        found = self._marker is not None and self._marker in data
        if found and not self._for_ever:
            self._marker = None
        return found

    async def _close(self) -> None:
        if self._port is not None:
            await self._port.stopListening()
        for line in list(self.lines):
            line.transport.abortConnection()

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close())
