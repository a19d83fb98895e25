"""From a frame to its reply: the order of checks, and the one place where errors become replies."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto import errors
from chatproto.clock import Clock
from chatproto.commands import admin, guest, session  # noqa: F401  (they fill the table)
from chatproto.commands.table import TABLE, Answer, Call, Command, Services
from chatproto.connection.appointments import Appointments
from chatproto.connection.ends import Ends
from chatproto.connection.hub import Hub
from chatproto.connection.logins import Logins
from chatproto.connection.order import Order, Work
from chatproto.connection.rate import Rate
from chatproto.connection.state import ConnectionState, Link, Phase
from chatproto.domain.events import Event
from chatproto.domain.model import Principal
from chatproto.wire import codes
from chatproto.wire.frame import BadFrame, Frame, failure, parse, reply

log = Logger()

RETRY_AFTER_MS = 1000
"""What a server that is shutting down asks clients to wait for."""


LATE_EVERY = 60.0
"""Seconds from one line of the log to the next that says of a connection that its commands take too long."""


class Dispatch:
    """Implements :class:`~chatproto.connection.state.Reception`.

    :param announce: tells events; called after the reply has left.
    :param alive: False while this node may have been given up: no command starts then.
    :param timeout: seconds from a command's arrival to its reply at the latest.
    :param max_waiting: commands of a connection that wait, past which its reading pauses.
    :param max_logins: logins under way at once.
    :param max_logins_waiting: logins in line, past which they get -9997, and the time of their turn.
    :param table: api_key → command.
    """

    def __init__(
        self,
        services: Services,
        hub: Hub,
        announce: Callable[[Iterable[Event]], None],
        alive: Callable[[], bool],
        clock: Clock,
        rate: Rate,
        *,
        language: str,
        timeout: float,
        max_waiting: int,
        max_logins: int,
        max_logins_waiting: int,
        table: Mapping[int, Command] = TABLE,
    ) -> None:
        self._services = services
        self._table = table
        self._hub = hub
        self._announce = announce
        self._clock = clock
        self._rate = rate
        self._language = language
        self._max_logins_waiting = max_logins_waiting
        self._appointments = Appointments(max_logins_waiting, timeout)
        self._order = Order(
            self._start,
            self._ended,
            self._too_late,
            alive,
            clock,
            timeout=timeout,
            max_waiting=max_waiting,
            max_logins=max_logins,
        )
        self._logins = Logins(hub, services.sessions.ended, announce, lambda: services.wall())
        self._ends = Ends(clock)
        self.draining = False

    # Reception.

    def opened(self, link: Link, address: str) -> ConnectionState:
        now = self._clock.seconds()
        connection = ConnectionState(secrets.token_hex(8), link, address, now)
        self._rate.fill(connection, now)
        return connection

    def binary(self, connection: ConnectionState) -> None:
        connection.received += 1
        self._count(connection)
        self._refuse(connection, 0, errors.Malformed())

    def frame(self, connection: ConnectionState) -> None:
        self._count(connection)

    def drained(self, connection: ConnectionState) -> None:
        self._order.go_on(connection)

    def text(self, connection: ConnectionState, payload: bytes) -> None:
        connection.received += 1
        now = self._clock.seconds()
        wait = self._rate.take(connection, now, len(payload))
        if wait:
            # Nothing more is taken until then, not even what was read with it: else the work, which is what the rate
            # is for, would be done all the same.
            connection.link.rest(wait)
        try:
            frame = parse(payload)
        except BadFrame as bad:
            self._refuse(connection, bad.api_key, bad, bad.request_id)
            return
        if frame.call_type == codes.CALL_HEARTBEAT:
            self._heartbeat(connection, frame, wait)
            return
        try:
            command = self._admit(connection, frame, wait)
        except errors.ChatError as error:
            self._refuse(connection, frame.api_key, error, frame.request_id)
            return
        self._order.add(connection, command, frame, now)

    def closed(self, connection: ConnectionState, code: int | None, reason: str) -> None:
        principal = connection.principal
        connection.phase = Phase.CLOSING
        self._ends.add(connection, code, reason)
        if principal is not None:
            self._logins.end(connection, principal)
        # Nothing is congested any more, and what was accepted is done.
        self._order.go_on(connection)

    def _count(self, connection: ConnectionState) -> None:
        """Count a frame that is no text."""
        wait = self._rate.take(connection, self._clock.seconds())
        if wait:
            connection.link.rest(wait)

    # Checks, in the order of docs/protocol.md, *Error codes*.

    def _admit(self, connection: ConnectionState, frame: Frame, wait: float) -> Command:
        command = self._table.get(frame.api_key)
        if command is None:
            raise errors.UnknownCommand()
        if self.draining:
            raise errors.ShuttingDown(retry_after_ms=RETRY_AFTER_MS)
        if command.role is None:
            if self._order.logins_waiting >= self._max_logins_waiting:
                raise _too_many(self._appointment(connection))
        else:
            principal = connection.principal
            stranger = principal is not None and command.role is not principal.person.role
            if (stranger or wait) and not (connection.waiting or connection.running):
                # No login is under way, or waits: that there is none, or none any more, is said first.
                self._check_login(connection, command)
            if stranger:
                raise errors.NotPermitted()
        if wait:
            raise _too_many(wait)
        return command

    def _appointment(self, connection: ConnectionState) -> float:
        """Seconds until a login that finds the line full is to come back; who asks again before is told the same time.

        The time for the login begins anew then.
        """
        now = self._clock.seconds()
        if connection.login_from <= now:
            connection.login_from = now + self._appointments.give(now)
        return connection.login_from - now

    def _refuse(
        self,
        connection: ConnectionState,
        api_key: int,
        error: errors.ChatError,
        request_id: str | int | None = None,
    ) -> None:
        """An error reply, at its place among the others."""
        connection.sent += 1
        connection.answer(connection.owe(), failure(api_key, error, self._language, request_id))

    def _heartbeat(self, connection: ConnectionState, frame: Frame, wait: float) -> None:
        """Answered at once, ahead of whatever waits."""
        if wait:
            self._refuse(connection, codes.HEARTBEAT, _too_many(wait), frame.request_id)
            return
        connection.sent += 1
        data = {"server_time": int(self._services.wall() * 1000)}
        connection.link.send(reply(codes.HEARTBEAT, data, frame.request_id))

    def _start(self, work: Work) -> None:
        connection, command = work.connection, work.command
        frame, work.frame = work.frame, None
        assert frame is not None
        principal = connection.principal
        if principal is None or command.role is not principal.person.role or self._logins.expired(principal):
            try:
                self._check_login(connection, command)
            except errors.ChatError as error:
                self._ended(work, Failure(error))
                return
        call = Call(
            connection.ix,
            connection.address,
            principal,
            connection.claims,
            self._services,
            partial(self._hub.join, connection) if command.role is None else _joined,
            self._announce,
            connection.v,
        )
        command.begin(call, frame, work)

    def _check_login(self, connection: ConnectionState, command: Command) -> None:
        """When it starts, as a login or a log-out may have waited before it."""
        principal = connection.principal
        if command.role is None:
            # Somebody was logged in and is no longer: the connection is about to be closed.
            if principal is None and connection.phase is not Phase.NEW:
                raise errors.LoginAgain()
            return
        if principal is None or self._logins.expired(principal):
            raise errors.LoginAgain()
        if command.role is not principal.person.role:
            raise errors.NotPermitted()

    def _ended(self, work: Work, result: object) -> None:
        connection = work.connection
        in_time = self._order.ended(work)
        if work.command.role is None:
            self._appointments.ended(self._clock.seconds(), self._order.logins_waiting)
        try:
            if isinstance(result, Failure):
                self._failed(result, work, in_time)
            else:
                answer = work.command.answer(result)
                if answer.login or answer.renewed or answer.close:
                    self._succeeded_otherwise(answer, work, in_time)
                elif in_time:
                    connection.sent += 1
                    connection.answer(work, reply(work.command.api_key, answer.data, work.request_id))
                self._announce(answer.events)
        except Exception:
            log.failure("a reply could not be made")
            connection.link.close(1011, "internal error")
        self._order.go_on(connection)

    def _succeeded_otherwise(self, answer: Answer, work: Work, in_time: bool) -> None:
        """An answer after which something is other for the connection itself."""
        connection = work.connection
        login = answer.login
        if login is not None and not in_time and connection.principal is None:
            # Its client was told that it took too long, and so is not logged in: no news may come, and nobody else
            # could log in here.
            connection.phase = Phase.CLOSING
            connection.link.close(1011, "the login took too long")
        if login is not None and not self._logins.begin(connection, login):
            if in_time:
                connection.withdraw(work)
            return
        if answer.renewed is not None:
            self._logins.renew(connection, answer.renewed)
        if in_time:
            self._send(work, reply(work.command.api_key, answer.data, work.request_id))
        if login is not None:
            self._hub.release(connection, login.knows)
        if answer.close is not None:
            self._logins.log_out(connection)
            connection.link.close(*answer.close)

    def _failed(self, result: Failure, work: Work, in_time: bool) -> None:
        connection, error = work.connection, result.value
        if work.command.role is None:
            self._logins.failed(connection)
        if isinstance(error, errors.ConnectionEnds):
            if in_time:
                connection.withdraw(work)
            connection.link.close(error.close_code, error.reason)
            return
        if not isinstance(error, errors.ChatError):
            if not in_time and isinstance(error, errors.StorageError):
                # That it took too long stands in the log, with the id that the client was told.
                return
            error = self._internal(result, work)
        if in_time:
            self._send(work, failure(work.command.api_key, error, self._language, work.request_id))

    def _internal(self, result: Failure, work: Work) -> errors.ChatError:
        """Whatever is no error of the protocol: logged with an id, told without detail."""
        trace_id = secrets.token_hex(8)
        error = result.value
        data = {"trace_id": trace_id}
        if isinstance(error, errors.StorageError):
            log.error(
                "{trace_id}: {api_key} failed in the database: {error}",
                trace_id=trace_id,
                api_key=work.command.api_key,
                error=str(error),
            )
            unknown = error.applied is None
        else:
            if not isinstance(error, CancelledError):
                log.failure("{trace_id}: {api_key} failed", result, trace_id=trace_id, api_key=work.command.api_key)
            unknown = True
        if unknown and not work.command.reads:
            data["outcome"] = "unknown"
        return errors.Internal(**data)

    def _send(self, work: Work, payload: bytes) -> None:
        connection = work.connection
        connection.sent += 1
        connection.answer(work, payload)

    def _too_late(self, work: Work) -> None:
        """The time of a command is over, whether it has started or not."""
        data = {"trace_id": self._tell_late(work)}
        if work.started and not work.command.reads:
            data["outcome"] = "unknown"
        error = errors.Internal(**data)
        self._send(work, failure(work.command.api_key, error, self._language, work.request_id))

    def _tell_late(self, work: Work) -> str:
        """Log it, once a minute for each connection: a peer that does not read makes many of its own commands late.

        :returns: the id that the newest line of this connection has.
        """
        connection, now = work.connection, self._clock.seconds()
        if connection.late is None or now >= connection.late[1] + LATE_EVERY:
            connection.late = (secrets.token_hex(8), now)
            log.error(
                "{trace_id}: {api_key} of connection {ix} of {who} took too long",
                trace_id=connection.late[0],
                api_key=work.command.api_key,
                ix=connection.ix,
                who=connection.who,
            )
        return connection.late[0]

    # The rest of the process.

    def woken(self) -> None:
        """The node is alive again: start what had to wait for it."""
        self._order.woken()

    def expire(self) -> None:
        """Look for connections whose token has expired; called every second."""
        self._logins.expire()

    def drain(self) -> Deferred[None]:
        """Refuse new commands; fires when those under way are answered."""
        self.draining = True
        self._logins.stop()
        return self._order.drain()

    def stop(self) -> None:
        """Forget the timers."""
        self._order.stop()
        self._ends.stop()


def _too_many(wait: float) -> errors.TooManyRequests:
    return errors.TooManyRequests(retry_after_ms=int(wait * 1000) + 1)


async def _joined(principal: Principal) -> None:
    """Stands for joining in a call that is no login."""
    raise RuntimeError("only a login joins")
