"""Who is logged in on a connection, from the login's reply to the end of the session."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chatproto.commands.table import Login
from chatproto.connection.hub import Hub
from chatproto.connection.state import ConnectionState, Phase
from chatproto.domain.events import Event
from chatproto.domain.model import Principal, Role
from chatproto.domain.tokens import Claims
from chatproto.wire import codes

log = Logger()

EXPIRED_FOR = 60.0
"""Seconds that a connection whose token expired may stay without a new login."""


class Logins:
    """Keeps what a connection knows of its identity, the hub and the session in step.

    :param ended: ends the session of a principal on a connection (``ix``).
    :param wall: Unix seconds.
    """

    def __init__(
        self,
        hub: Hub,
        ended: Callable[[Principal, str], Coroutine[Any, Any, list[Event]]],
        announce: Callable[[Iterable[Event]], None],
        wall: Callable[[], float],
    ) -> None:
        self._hub = hub
        self._ended = ended
        self._announce = announce
        self._wall = wall
        self._stopping = False

    def expired(self, principal: Principal) -> bool:
        """Whether the token in force has expired."""
        expires_at = principal.expires_at
        return expires_at is not None and self._wall() >= expires_at

    def begin(self, connection: ConnectionState, login: Login) -> bool:
        """The reply to a login is about to leave; False where the connection went away meanwhile."""
        principal = login.principal
        if connection.phase is Phase.CLOSING:
            self.end(connection, principal)
            return False
        connection.phase = Phase.ADMIN if principal.person.role is Role.ADMIN else Phase.GUEST
        connection.principal = principal
        connection.who = principal.topic
        connection.claims = login.claims
        connection.v = login.v
        return True

    def failed(self, connection: ConnectionState) -> None:
        """A failed login leaves the connection as it was."""
        if connection.principal is None:
            self._hub.leave(connection)
        elif connection.phase is Phase.CLOSING:
            # It went away meanwhile, and the login may have begun its session anew.
            self.end(connection, connection.principal)
        elif connection.held is not None:
            self._hub.release(connection, connection.knows)

    def renew(self, connection: ConnectionState, claims: Claims) -> None:
        """A reply brings a new token: it extends this connection."""
        if connection.principal is not None:
            connection.principal = replace(connection.principal, expires_at=claims.exp)
            connection.claims = claims

    def log_out(self, connection: ConnectionState) -> None:
        """Nothing that still waits is done for who was here."""
        self._hub.leave(connection)
        connection.principal = None

    def end(self, connection: ConnectionState, principal: Principal) -> None:
        """The connection is gone."""
        self._hub.leave(connection)
        if self._stopping:
            return

        ending = Deferred.fromCoroutine(self._ended(principal, connection.ix))
        ending.addCallback(self._announce)
        ending.addErrback(lambda failure: log.failure("a session could not be ended", failure))

    def expire(self) -> None:
        """A while after their token expired connections have to go; called every second."""
        now = self._wall()
        for connection in self._hub.connections():
            expires_at = connection.principal.expires_at if connection.principal is not None else None
            if expires_at is not None and now >= expires_at + EXPIRED_FOR:
                connection.link.close(codes.CLOSE_REVOKED, "the token expired")

    def stop(self) -> None:
        """The node stops: it ends all its sessions at once."""
        self._stopping = True
