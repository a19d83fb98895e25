"""How a link to PostgreSQL comes about: its settings, its address, the first time and ever again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

import psycopg2
from psycopg2.extensions import parse_dsn
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IResolutionReceiver
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.errors import StartError, StorageError
from chatproto.storage.link import Clock, Link, first_line

OLDEST_SERVER = 14
FIRST_DELAY = 0.05
LONGEST_DELAY = 1.0
START_LIMIT = 10.0

# What libpq says where trying again is of no use. It gives no SQLSTATE for a refused connection; a server that speaks
# another language is only believed after START_LIMIT.
_HOPELESS = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "is not permitted to log in",
    "permission denied for database",
    "does not support SSL",
    "certificate",
)

_log = Logger()


class Settings:
    """The parameters of all links of one owner.

    :param dsn: ``postgresql://…`` or ``key=value …``
    :param name: becomes part of ``application_name``.
    :param limit: seconds a statement may take; PostgreSQL itself ends it then.
    :raises StartError: ``dsn`` cannot be read.
    """

    def __init__(self, dsn: str, *, name: str, limit: float) -> None:
        try:
            given = parse_dsn(dsn)
        except psycopg2.Error:
            given = None
        if given is None:
            # psycopg2's own words quote the address, and so the password.
            raise StartError("the database address is neither a postgresql:// URL nor key=value pairs that libpq knows")
        milliseconds = round(limit * 1000)
        options = [given.get("options", "")]
        ours = {
            "statement_timeout": milliseconds,
            # A frozen process must lose its locks long before those who wait for them give up.
            "lock_timeout": round(limit * 600),
            "idle_in_transaction_session_timeout": round(limit * 400),
            "default_transaction_isolation": r"read\ committed",
        }
        options += (f"-c {key}={value}" for key, value in ours.items())
        self.limit = limit
        self.parameters: dict[str, Any] = {
            "application_name": f"chatproto {name}",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": milliseconds,
            # Looking for Kerberos tickets may block on the network.
            "gssencmode": "disable",
            **given,
            "client_encoding": "UTF8",
            "options": " ".join(options).strip(),
        }

    @property
    def place(self) -> str:
        """The server for people, with a colon behind it; "" where the address does not say."""
        names = [str(self.parameters[name]) for name in ("host", "port") if name in self.parameters]
        return ":".join([*names, " "]) if names else ""

    async def open(self, link: Link) -> Link:
        """Connect.

        :raises StorageError: it could not be done within ``limit`` seconds for each address.
        """
        clock = link.reactor
        parameters = await self._addressed(clock)
        addresses = len(parameters.get("hostaddr", "").split(","))
        try:
            connecting: Deferred[Link] = link.connect(**parameters)
            return await connecting.addTimeout(self.limit * addresses, clock)
        except TimeoutError:
            why = f"PostgreSQL did not answer within {self.limit * addresses:g} s"
        except (psycopg2.Error, OSError) as error:
            why = first_line(error)
        raise StorageError(why, applied=False)

    async def _addressed(self, clock: Clock) -> dict[str, Any]:
        """The parameters with every host name looked up, which libpq would do blocking."""
        given = self.parameters
        if "host" not in given or "hostaddr" in given:
            return given
        hosts = given["host"].split(",")
        if all(_needs_no_lookup(host) for host in hosts):
            return given
        ports = given.get("port", "").split(",")
        if len(ports) == 1:
            ports *= len(hosts)
        found = [
            (host, address, port)
            for host, port in zip(hosts, ports, strict=False)
            for address in ([""] if _needs_no_lookup(host) else await _looked_up(host, clock, self.limit))
        ]
        if not found:
            raise StorageError(f"no address is known for {given['host']}", applied=False)
        names, addresses, numbers = (",".join(column) for column in zip(*found, strict=True))
        return {**given, "host": names, "hostaddr": addresses, "port": numbers}


async def first(settings: Settings, make: Callable[[], Link], clock: Clock) -> Link:
    """Connect for the first time; a server that is just starting is waited for.

    :raises StartError: it was not possible within START_LIMIT seconds, or trying again is of no use.
    """
    ends = clock.seconds() + START_LIMIT
    delay = FIRST_DELAY
    while True:
        try:
            link = await settings.open(make())
        except StorageError as error:
            why = str(error)
        else:
            version = link.server_version // 10000
            if version >= OLDEST_SERVER:
                return link
            link.close()
            raise StartError(f"database: PostgreSQL {version} is too old, {OLDEST_SERVER} or newer is needed")
        if clock.seconds() + delay > ends or any(words in why for words in _HOPELESS):
            raise StartError(f"database: {settings.place}{why}")
        await deferLater(clock, delay)  # type: ignore[arg-type]
        delay = min(2 * delay, LONGEST_DELAY)


async def keep(
    connect: Callable[[], Awaitable[Link]], clock: Clock, alive: Callable[[Link, Deferred[None]], None]
) -> None:
    """Keep one link alive until cancelled.

    :param connect: makes a new one, or raises StorageError.
    :param alive: is given each new link, and a Deferred to fire when it is lost.
    """
    delay = FIRST_DELAY
    while True:
        try:
            link = await connect()
        except StorageError:
            # Whoever had links has said that the database is lost; every try would say it again.
            pass
        else:
            gone: Deferred[None] = Deferred()
            born = clock.seconds()
            alive(link, gone)
            await gone
            if clock.seconds() - born > LONGEST_DELAY:
                delay = FIRST_DELAY
        await deferLater(clock, delay)  # type: ignore[arg-type]
        delay = min(2 * delay, LONGEST_DELAY)


def kept(
    connect: Callable[[], Awaitable[Link]], clock: Clock, alive: Callable[[Link, Deferred[None]], None]
) -> Deferred[None]:
    """:func:`keep` at work; cancel it to end it."""
    keeping = Deferred.fromCoroutine(keep(connect, clock, alive))
    keeping.addErrback(_ended)
    return keeping


def _ended(failure: Failure) -> None:
    if not failure.check(CancelledError):
        _log.failure("a connection is kept no longer", failure)


def _needs_no_lookup(host: str) -> bool:
    if not host or host.startswith(("/", "@")):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def _looked_up(host: str, clock: Clock, limit: float) -> list[str]:
    found = _Addresses()
    clock.nameResolver.resolveHostName(found, host, 0)
    found.complete.addTimeout(limit, clock)  # type: ignore[arg-type]
    try:
        return await found.complete
    except TimeoutError:
        raise StorageError(f"{host} could not be looked up within {limit:g} s", applied=False) from None


@implementer(IResolutionReceiver)
class _Addresses:
    """Collects the addresses of a name."""

    def __init__(self) -> None:
        self._hosts: list[str] = []
        self.complete: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolution: Any) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        if address.host not in self._hosts:
            self._hosts.append(address.host)

    def resolutionComplete(self) -> None:
        if not self.complete.called:
            self.complete.callback(self._hosts)
