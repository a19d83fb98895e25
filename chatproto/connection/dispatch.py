"""From a frame to its reply: the order of checks, the order of commands, and the one place where errors become replies.

Commands of a connection start in order and are answered in order. A send counts as started once it stands in
the journal, so neighbouring sends share a batch; any other command waits for all before it and holds all after it.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto import errors
from chatproto.clock import Clock, Timer, Timers
from chatproto.commands import admin, guest, session  # noqa: F401  (they fill the table)
from chatproto.commands.table import TABLE, Answer, Call, Command, Login, Services
from chatproto.connection.hub import Hub
from chatproto.connection.rate import Rate
from chatproto.connection.state import ConnectionState, Link, Phase, Slot
from chatproto.domain.events import Event
from chatproto.domain.model import Principal, Role
from chatproto.wire import codes
from chatproto.wire.frame import BadFrame, Frame, failure, parse, reply

log = Logger()

RETRY_AFTER_MS = 1000
"""What a server that is shutting down asks clients to wait for."""
EXPIRED_FOR = 60.0
"""Seconds that a connection whose token expired may stay without a new login."""


class _Work:
    """A command from its arrival to its end."""

    __slots__ = ("connection", "command", "frame", "slot", "deadline", "started", "answered")

    def __init__(
        self, connection: ConnectionState, command: Command, frame: Frame, slot: Slot, deadline: float
    ) -> None:
        self.connection = connection
        self.command = command
        self.frame = frame
        self.slot = slot
        self.deadline = deadline
        self.started = False
        self.answered = False


class Dispatch:
    """Implements :class:`~chatproto.connection.state.Reception`.

    :param announce: tells events; called after the reply has left.
    :param alive: False while this node may have been given up: no command starts then.
    :param timeout: seconds from a command's arrival to its reply at the latest.
    :param max_waiting: commands that wait, from which on reading pauses.
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
        table: Mapping[int, Command] = TABLE,
    ) -> None:
        self._services = services
        self._table = table
        self._hub = hub
        self._announce = announce
        self._alive = alive
        self._clock = clock
        self._rate = rate
        self._language = language
        self._timeout = timeout
        self._max_waiting = max_waiting
        self._by_deadline: deque[_Work] = deque()
        self._timer: Timer | None = None
        self._pauses = Timers(clock)
        self._stalled: dict[ConnectionState, None] = {}
        self._under_way = 0
        self._ending: set[Deferred[None]] = set()
        self._drained: list[Deferred[None]] = []
        self.draining = False

    # Reception.

    def opened(self, link: Link, address: str) -> ConnectionState:
        now = self._clock.seconds()
        connection = ConnectionState(secrets.token_hex(8), link, address, now)
        self._rate.fill(connection, now)
        return connection

    def binary(self, connection: ConnectionState) -> None:
        self._count(connection)
        self._refuse(connection, 0, errors.Malformed())

    def text(self, connection: ConnectionState, payload: bytes) -> None:
        wait = self._count(connection)
        try:
            frame = parse(payload)
        except BadFrame as bad:
            self._refuse(connection, bad.api_key, bad, bad.request_id)
            return
        if frame.heartbeat:
            self._heartbeat(connection, frame, wait)
            return
        try:
            command = self._admit(connection, frame, wait)
        except errors.ChatError as error:
            self._refuse(connection, frame.api_key, error, frame.request_id)
            return
        self._enqueue(connection, command, frame)

    def closed(self, connection: ConnectionState, code: int | None, reason: str) -> None:
        principal = connection.principal
        connection.phase = Phase.CLOSING
        log.info(
            "connection {ix} of {who} from {address} ended: {code} {reason},"
            " {seconds:.1f} s, {received} in, {sent} out",
            ix=connection.ix,
            who=connection.who,
            address=connection.address,
            code=code if code is not None else "no code",
            reason=reason or "-",
            seconds=self._clock.seconds() - connection.opened_at,
            received=connection.received,
            sent=connection.sent,
        )
        if principal is not None:
            self._end_session(connection, principal)

    def _count(self, connection: ConnectionState) -> float:
        """Count a frame; past the rate nothing more is read until the next one is allowed, in so many seconds."""
        connection.received += 1
        wait = self._rate.take(connection, self._clock.seconds())
        if wait:
            connection.link.pause()
            self._pauses.call(wait, self._read_on, connection)
        return wait

    # Checks, in the order of docs/protocol.md, *Error codes*.

    def _admit(self, connection: ConnectionState, frame: Frame, wait: float) -> Command:
        command = self._table.get(frame.api_key)
        if command is None:
            raise errors.UnknownCommand()
        if self.draining:
            raise errors.ShuttingDown(retry_after_ms=RETRY_AFTER_MS)
        if command.role is not None:
            principal = connection.principal
            # A login that is under way, or waits, is waited for.
            idle = not connection.waiting and not connection.running
            if idle and (principal is None or self._expired(principal)):
                raise errors.LoginAgain()
            if principal is not None and command.role is not principal.person.role:
                raise errors.NotPermitted()
        if wait:
            raise _too_many(wait)
        return command

    def _read_on(self, connection: ConnectionState) -> None:
        if connection.phase is not Phase.CLOSING and len(connection.waiting) <= self._max_waiting:
            connection.link.resume()

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

    # Order.

    def _enqueue(self, connection: ConnectionState, command: Command, frame: Frame) -> None:
        work = _Work(connection, command, frame, connection.owe(), self._clock.seconds() + self._timeout)
        if not connection.waiting:
            connection.waiting = deque()
        connection.waiting.append(work)
        self._under_way += 1
        self._by_deadline.append(work)
        if self._timer is None:
            self._timer = self._clock.callLater(self._timeout, self._late)
        self._go_on(connection)
        if len(connection.waiting) > self._max_waiting:
            connection.link.pause()

    def _go_on(self, connection: ConnectionState) -> None:
        """Start what may start; what ends while it starts is no reason to begin again inside."""
        if connection.starting:
            return
        connection.starting = True
        try:
            while connection.waiting and self._may_start(connection, connection.waiting[0]):
                work = connection.waiting.popleft()
                if len(connection.waiting) == self._max_waiting:
                    connection.link.resume()
                if not work.answered:
                    self._start(work)
        finally:
            connection.starting = False

    def _may_start(self, connection: ConnectionState, work: _Work) -> bool:
        if connection.alone or (connection.running and not work.command.overlaps):
            return False
        if not self._alive():
            self._stalled[connection] = None
            return False
        return True

    def woken(self) -> None:
        """The node is alive again: start what had to wait for it."""
        stalled, self._stalled = self._stalled, {}
        for connection in stalled:
            self._go_on(connection)

    def _start(self, work: _Work) -> None:
        connection, command = work.connection, work.command
        work.started = True
        connection.running += 1
        connection.alone = not command.overlaps
        try:
            self._check_login(connection, command)
        except errors.ChatError as error:
            self._ended(Failure(error), work)
            return
        call = Call(
            connection.ix,
            connection.address,
            connection.principal,
            connection.claims,
            self._services,
            lambda principal: self._hub.join(connection, principal),
        )
        command(call, work.frame).addBoth(self._ended, work)

    def _check_login(self, connection: ConnectionState, command: Command) -> None:
        """Once more, as a login or a log-out may have waited before this command."""
        principal = connection.principal
        if command.role is None:
            # Somebody was logged in and is no longer: the connection is about to be closed.
            if principal is None and connection.phase is not Phase.NEW:
                raise errors.LoginAgain()
            return
        if principal is None or self._expired(principal):
            raise errors.LoginAgain()
        if command.role is not principal.person.role:
            raise errors.NotPermitted()

    def _expired(self, principal: Principal) -> bool:
        return principal.expires_at is not None and self._services.wall() >= principal.expires_at

    def _ended(self, result: Answer | Failure, work: _Work) -> None:
        connection = work.connection
        connection.running -= 1
        connection.alone = False
        try:
            if isinstance(result, Failure):
                self._failed(result, work)
            else:
                self._succeeded(result, work)
        except Exception:
            log.failure("a reply could not be made")
            connection.link.close(1011, "internal error")
        self._go_on(connection)

    def _succeeded(self, answer: Answer, work: _Work) -> None:
        connection = work.connection
        login = answer.login
        if login is not None and not self._log_in(connection, login):
            self._answer(work, None)
            self._announce(answer.events)
            return
        if answer.renewed is not None and connection.principal is not None:
            self._renew(connection, answer.renewed.exp, answer.renewed)
        self._answer(work, reply(work.frame.api_key, answer.data, work.frame.request_id))
        if login is not None:
            self._hub.release(connection, login.knows)
        if answer.close is not None:
            self._log_out(connection)
            connection.link.close(*answer.close)
        self._announce(answer.events)

    def _failed(self, result: Failure, work: _Work) -> None:
        connection, error = work.connection, result.value
        if work.command.role is None:
            self._login_failed(connection)
        if isinstance(error, errors.ConnectionEnds):
            self._answer(work, None)
            connection.link.close(error.close_code, error.reason)
            return
        if not isinstance(error, errors.ChatError):
            error = self._internal(result, work)
        self._answer(work, failure(work.frame.api_key, error, self._language, work.frame.request_id))

    def _internal(self, result: Failure, work: _Work) -> errors.ChatError:
        """Whatever is no error of the protocol: logged with an id, told without detail."""
        trace_id = secrets.token_hex(8)
        error = result.value
        data = {"trace_id": trace_id}
        if isinstance(error, errors.StorageError):
            log.error(
                "{trace_id}: {api_key} failed in the database: {error}",
                trace_id=trace_id,
                api_key=work.frame.api_key,
                error=str(error),
            )
            unknown = error.applied is None
        else:
            if not isinstance(error, CancelledError):
                log.failure("{trace_id}: {api_key} failed", result, trace_id=trace_id, api_key=work.frame.api_key)
            unknown = True
        if unknown and not work.command.reads:
            data["outcome"] = "unknown"
        return errors.Internal(**data)

    def _answer(self, work: _Work, payload: bytes | None) -> None:
        """Send the reply, unless its time was over; None leaves the request unanswered."""
        self._under_way -= 1
        if not work.answered:
            work.answered = True
            self._send(work, payload)
            queue = self._by_deadline
            while queue and queue[0].answered:
                queue.popleft()
        self._tell_drained()

    def _send(self, work: _Work, payload: bytes | None) -> None:
        connection = work.connection
        if payload is None:
            if work.slot in connection.out:
                connection.out.remove(work.slot)  # type: ignore[union-attr]
            return
        connection.sent += 1
        connection.answer(work.slot, payload)

    # Time.

    def _late(self) -> None:
        """Answer what has taken too long; one timer serves all, as all have the same time."""
        self._timer = None
        now = self._clock.seconds()
        queue = self._by_deadline
        while queue and (queue[0].answered or queue[0].deadline <= now):
            work = queue.popleft()
            if not work.answered:
                self._too_late(work)
        if queue:
            self._timer = self._clock.callLater(queue[0].deadline - now, self._late)

    def _too_late(self, work: _Work) -> None:
        trace_id = secrets.token_hex(8)
        log.error("{trace_id}: {api_key} took too long", trace_id=trace_id, api_key=work.frame.api_key)
        data = {"trace_id": trace_id}
        if work.started and not work.command.reads:
            data["outcome"] = "unknown"
        work.answered = True
        if not work.started:
            self._under_way -= 1
        error = errors.Internal(**data)
        self._send(work, failure(work.frame.api_key, error, self._language, work.frame.request_id))
        self._tell_drained()

    # Who is logged in.

    def _log_in(self, connection: ConnectionState, login: Login) -> bool:
        """False where the connection went away meanwhile."""
        principal = login.principal
        if connection.phase is Phase.CLOSING:
            self._end_session(connection, principal)
            return False
        connection.phase = Phase.ADMIN if principal.person.role is Role.ADMIN else Phase.GUEST
        connection.principal = principal
        connection.who = principal.topic
        connection.mute = False
        connection.claims = login.claims
        connection.v = login.v
        return True

    def _login_failed(self, connection: ConnectionState) -> None:
        """A failed login leaves the connection as it was."""
        if connection.principal is None:
            self._hub.leave(connection)
        elif connection.phase is Phase.CLOSING:
            # It went away meanwhile, and the login may have begun its session anew.
            self._end_session(connection, connection.principal)
        elif connection.held is not None:
            self._hub.release(connection, connection.knows)

    def _renew(self, connection: ConnectionState, expires_at: int, claims: object) -> None:
        principal = connection.principal
        assert principal is not None
        connection.principal = Principal(principal.person, principal.group_id, principal.conversation_id, expires_at)
        connection.mute = False
        connection.claims = claims

    def _log_out(self, connection: ConnectionState) -> None:
        """Nothing that still waits is done for who was here."""
        self._hub.leave(connection)
        connection.principal = None

    def _end_session(self, connection: ConnectionState, principal: Principal) -> None:
        self._hub.leave(connection)
        if self.draining:
            return

        async def end() -> None:
            self._announce(await self._services.sessions.ended(principal, connection.ix))

        ending = Deferred.fromCoroutine(end())
        ending.addErrback(lambda failure: log.failure("a session could not be ended", failure))
        self._ending.add(ending)
        ending.addBoth(lambda _: self._ending.discard(ending))

    def expire(self) -> None:
        """Connections whose token expired a while ago have to go; called every few seconds."""
        now = self._services.wall()
        for connection in self._hub.connections():
            principal = connection.principal
            if principal is not None and principal.expires_at is not None:
                connection.mute = now >= principal.expires_at
                if now >= principal.expires_at + EXPIRED_FOR:
                    connection.link.close(codes.CLOSE_REVOKED, "the token expired")

    # Stopping.

    def drain(self) -> Deferred[None]:
        """Refuse new commands; fires when those under way are answered."""
        self.draining = True
        done: Deferred[None] = Deferred()
        self._drained.append(done)
        self._tell_drained()
        return done

    def stop(self) -> None:
        """Forget the timers."""
        self._pauses.stop()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _tell_drained(self) -> None:
        if self.draining and not self._under_way:
            drained, self._drained = self._drained, []
            for done in drained:
                done.callback(None)


def _too_many(wait: float) -> errors.TooManyRequests:
    return errors.TooManyRequests(retry_after_ms=int(wait * 1000) + 1)
