"""Who may connect: origins, proxies, and how many connections there are, in all and of one address."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from chatproto.config import Config

# Above max_connections there is room for so many plain HTTP requests, or else a probe of /healthz would find a
# full server dead, and whoever restarts it would throw everybody out. At least twice what is accepted in one turn
# (listening.AT_ONCE): so a request that comes right behind its connection is read before others may take the place.
HTTP_RESERVE = 64

_LONGEST = 64  # characters; an IPv6 address in brackets, with a port, has 53 at most
_REMEMBERED = 4096

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The header fields of an HTTP request: lower-case name → its values in their order."""

    fields: dict[str, list[str]]

    @classmethod
    def parse(cls, raw: bytes) -> RequestHead:
        """:param raw: the request line and the header lines; lines without a colon are passed over."""
        fields: dict[str, list[str]] = {}
        for line in raw.decode("latin-1").split("\r\n")[1:]:
            name, colon, value = line.partition(":")
            if colon:
                # Not what else Python calls a space: nobody in front of us does (RFC 9110, 5.6.3).
                fields.setdefault(name.lower(), []).append(value.strip(" \t"))
        return cls(fields)

    @property
    def upgrades(self) -> bool:
        """Whether the client asks for WebSocket (RFC 6455, 4.2.1)."""
        return any(token.lower() == "websocket" for token in self.members("upgrade"))

    def first(self, name: str) -> str | None:
        values = self.fields.get(name)
        return values[0] if values else None

    def members(self, name: str) -> list[str]:
        """The members of a field that is a comma-separated list."""
        return [token.strip() for value in self.fields.get(name, ()) for token in value.split(",")]


def origin_allowed(origin: str | None, host: str | None, allowed: tuple[str, ...]) -> bool:
    """``Origin``: none, our own or a listed one (docs/protocol.md, *Frames*).

    Our own has the host and port of the ``Host`` field; the scheme is not compared, because behind a proxy that
    ends TLS the page is https and we are http.

    :param allowed: origins as a browser sends them ("https://shop.example"), "null" among them.
    """
    if origin is None:
        return True
    ours = _split_origin(origin)
    if ours is None:
        return "null" in allowed
    scheme, name, port = ours
    if any(_split_origin(entry) == ours for entry in allowed):
        return True
    if not host:
        return False
    own = _split_origin(f"{scheme}://{host}")
    return own is not None and own[1:] == (name, port)


def _split_origin(origin: str) -> tuple[str, str, int | None] | None:
    """(scheme, host, port), or None for "null" and for what is no origin."""
    try:
        parts = urlsplit(origin.strip())
        scheme, name = parts.scheme.lower(), parts.hostname
        port = parts.port or _DEFAULT_PORTS.get(scheme)
    except ValueError:
        return None
    return (scheme, name, port) if name else None


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, with or without brackets and port; an IPv4 address inside IPv6 is the IPv4 one.

    None also for one with a scope id (RFC 4007), which may be any text: whoever wrote it wrote into our log.
    """
    return _parse(text) if len(text) <= _LONGEST else None


# Each is met at least three times, when its connection comes and when it goes: often thousands at once.
@lru_cache(_REMEMBERED)
def _parse(text: str) -> IPv4Address | IPv6Address | None:
    text = text.strip().strip('"')
    if "%" in text:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class Idle(Protocol):
    """A connection from which no request is under way."""

    def abort(self) -> None: ...


class Admission:
    """Counts connections, and says which ones are too many.

    The places of the reserve are for requests. Who comes into one and asks for nothing gives it up, the oldest first,
    when the next one comes: else connections that say nothing would take all of them, and health checks be refused.

    :ivar total: all connections, HTTP and refused ones included, until they are lost.
    :ivar by_address: text of the address (IPv6: of its /64 network) → connections counted for it.
    """

    def __init__(self, config: Config) -> None:
        self._most = config.max_connections
        self._most_per_address = config.max_connections_per_address
        self._trusted = config.trusted_proxies
        self.total = self._most_together = 0
        self.by_address: dict[str, int] = {}
        self._idle: dict[Idle, None] = {}

    def enter(self, connection: Idle) -> bool:
        """Count a new connection; False: there are so many that not even its request should be read."""
        self.total += 1
        self._most_together = max(self._most_together, self.total)
        if self.total > self._most + HTTP_RESERVE:
            if not self._idle:
                return False
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.abort()
        self.waits(connection)
        return True

    def asks(self, connection: Idle) -> None:
        """A whole request of it is here."""
        self._idle.pop(connection, None)

    def waits(self, connection: Idle) -> None:
        """It is new, or its request is answered."""
        if self.full:
            self._idle[connection] = None

    def highest(self) -> int:
        """The most connections at once since this was asked last."""
        highest, self._most_together = self._most_together, self.total
        return highest

    @property
    def full(self) -> bool:
        """No room for one more WebSocket connection: those counted are more than ``max_connections``."""
        return self.total > self._most

    def take(self, address: str) -> bool:
        """Count a connection for its address; False, and not counted, when that address has too many."""
        key = self.key(address)
        count = self.by_address.get(key, 0)
        if count >= self._most_per_address:
            return False
        self.by_address[key] = count + 1
        return True

    def leave(self, connection: Idle, address: str | None) -> None:
        """A connection is lost; *address* is what :meth:`take` counted it for, if it did."""
        self.total -= 1
        self.asks(connection)
        if address is None:
            return
        key = self.key(address)
        count = self.by_address[key] - 1
        if count:
            self.by_address[key] = count
        else:
            del self.by_address[key]

    def trusts(self, peer: str) -> bool:
        """Whether *peer* is a proxy whose X-Forwarded-For counts; "" is the peer of a Unix socket.

        Only who may open the socket's file reaches us through it, and it has no address of its own.
        """
        if not peer:
            return True
        # The scope id of our own socket's peer is the name of one of this machine's interfaces.
        address = _parse_address(peer.partition("%")[0])
        return address is not None and self._is_trusted(address)

    def client_address(self, peer: str, head: RequestHead) -> str:
        """The address of the client: from behind trusted proxies, the right-most one that is not trusted.

        What stands left of that one was written by the client and means nothing.
        """
        if not self.trusts(peer):
            return peer
        found = peer
        for entry in reversed(head.members("x-forwarded-for")):
            address = _parse_address(entry)
            if address is None:
                break
            found = str(address)
            if not self._is_trusted(address):
                break
        return found

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)

    @staticmethod
    def key(address: str) -> str:
        """What connections are counted by: one IPv6 customer has at least a /64 to choose addresses from."""
        parsed = _parse_address(address)
        if isinstance(parsed, IPv6Address):
            return str(IPv6Network((int(parsed), 64), strict=False))
        return address if parsed is None else str(parsed)
