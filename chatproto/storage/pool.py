"""A few links to PostgreSQL, shared by everything a process asks of it.

Who finds no link free waits, first come first served, in a bounded room and for a bounded time. A link that is lost is
replaced, with growing delays while PostgreSQL is away; what was under way on it fails, and nothing is repeated here:
only the caller knows what may be done twice.

Time: PostgreSQL itself ends a statement after ``timeout`` (SQLSTATE 57014). A server that does not even do that is
frozen or cut off; a tenth of ``timeout`` later the link is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from chatproto.errors import StorageError
from chatproto.storage.connect import Settings, first, kept
from chatproto.storage.link import FOREVER, Clock, Link, Params, Rows, Statement

T = TypeVar("T")

_log = Logger()


GIVEN_UP = ("40001", "40P01")
"""serialization_failure, deadlock_detected (PostgreSQL, Appendix A)."""


class _Waiting:
    """Who waits for a link: a statement, or (without one) a transaction."""

    __slots__ = ("answer", "deadline", "params", "sql")

    def __init__(self, answer: Deferred[Any], sql: Statement | None, params: Params, deadline: float) -> None:
        self.answer = answer
        self.sql = sql
        self.params = params
        self.deadline = deadline


class Pool:
    """
    :param dsn: ``postgresql://…`` or ``key=value …``. Settings it does not give have defaults of ours; the time
        limits are always ours.
    :param clock: the reactor.
    :param size: how many links.
    :param waiting: how many requests may wait for a link.
    :param timeout: seconds a request may wait for a link, and seconds a statement may then take.
    :param name: stands in the log and, after "chatproto", in ``pg_stat_activity.application_name``.
    :raises StartError: ``dsn`` cannot be read.
    """

    def __init__(
        self, dsn: str, *, clock: Clock, size: int, waiting: int = 1000, timeout: float = 5.0, name: str = "pool"
    ) -> None:
        self._settings = Settings(dsn, name=name, limit=timeout)
        self._clock = clock
        self._size = size
        self._room = waiting
        self._timeout = timeout
        self._limit = timeout * 1.1
        self._name = name
        self._links: dict[Link, Deferred[None]] = {}
        """Every live link, and what to fire when it is lost."""
        # The link used last is used next: its backend has the plans and pages at hand.
        self._idle: list[Link] = []
        self._waiting: deque[_Waiting] = deque()
        self._serving = False
        self._keepers: list[Deferred[None]] = []
        self._outage = False
        self._alarm: Any = None
        self._alarm_at = FOREVER
        self._closing = False
        self._quiet: Deferred[None] | None = None

    @property
    def ready(self) -> bool:
        """There is at least one live link."""
        return bool(self._links)

    async def start(self) -> None:
        """Connect the first link; the others follow by themselves.

        :raises StartError: one line saying why it was not possible within ten seconds.
        """
        link: Link | None = await first(self._settings, self._make, self._clock)

        async def connect() -> Link:
            nonlocal link
            ready, link = link, None
            return ready or await self._settings.open(self._make())

        for _ in range(self._size):
            self._keepers.append(kept(connect, self._clock, self._welcome))

    async def close(self) -> None:
        """Refuse what is new, let end what runs or waits (bounded by the time limit), and close the sockets."""
        if self._closing:
            return
        self._closing = True
        for keeper in self._keepers:
            keeper.cancel()
        if not self._is_quiet():
            self._quiet = Deferred()
            with suppress(TimeoutError):
                await self._quiet.addTimeout(self._limit, self._clock)  # type: ignore[arg-type]
        self._refuse_waiting("the pool is closed")
        for link in list(self._links):
            link.close()
        self._links.clear()
        self._idle.clear()
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()

    async def fetch(self, sql: Statement, params: Params = ()) -> Rows:
        """Run one statement in a transaction of its own.

        :param params: the values of ``%s`` or ``%(name)s``; without any, a ``%`` in ``sql`` is itself.
        :return: the rows; [] where the statement returns none. Of several statements in one string (one implicit
            transaction), the last one's.
        :raises StorageError: ``applied`` is None where the connection was lost before the answer.
        """
        if self._idle and not self._waiting and not self._closing:
            answer: Deferred[Rows] = Deferred()
            self._run(self._idle.pop(), sql, params, answer, applied=None)
        else:
            answer = self._wait(sql, params)
        return await answer

    async def repeated(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """As :meth:`transaction`, and once more when PostgreSQL gave it up for the sake of another (a deadlock).

        :param work: may run twice; the first time without any effect in the database.
        """
        try:
            return await self.transaction(work)
        except StorageError as error:
            if error.sqlstate not in GIVEN_UP:
                raise
            return await self.transaction(work)

    async def transaction(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run ``work`` in one READ COMMITTED transaction, and commit it.

        Any exception of ``work`` rolls back and is raised again.

        :raises StorageError: of the commit; ``applied`` is None where the connection was lost before the answer.
        """
        if self._idle and not self._waiting and not self._closing:
            link = self._idle.pop()
            link.held = True
        else:
            link = cast(Link, await self._wait(None, ()))
        transaction = Transaction(self, link)
        try:
            result = await work(transaction)
            await self._commit(link)
            return result
        except GeneratorExit:
            raise
        except BaseException:
            # Whoever is told of the failure may count on the locks being free. (A statement still under way, whose
            # caller was cancelled, is not waited for: its link cleans itself up.)
            if link.open and not link.busy and link.transacting:
                with suppress(StorageError):
                    await self.run_in(link, "ROLLBACK", (), applied=False)
            raise
        finally:
            transaction.over = True
            self._release(link)

    def run_in(
        self, link: Link, sql: Statement, params: Params, *, applied: bool | None, begin: bool = False
    ) -> Deferred[Rows]:
        """A statement of a transaction, on the link that it holds."""
        answer: Deferred[Rows] = Deferred()
        self._run(link, sql, params, answer, applied=applied, begin=begin)
        return answer

    async def _commit(self, link: Link) -> None:
        if not link.open:
            raise StorageError("the connection was lost before the commit", applied=False)
        if link.busy:
            raise RuntimeError("a statement is still under way at the end of its transaction")
        if link.aborted:
            # COMMIT would roll back, and report success.
            raise StorageError("the transaction met an error, and cannot be committed", sqlstate="25P02", applied=False)
        if link.transacting:
            await self.run_in(link, "COMMIT", (), applied=None)

    def _run(
        self,
        link: Link,
        sql: Statement,
        params: Params,
        answer: Deferred[Rows],
        *,
        applied: bool | None,
        begin: bool = False,
    ) -> None:
        deadline = self._clock.seconds() + (self._limit if link.limit is None else link.limit)
        if deadline < self._alarm_at:
            self._check_at(deadline)
        link.execute(sql, params, answer, applied=applied, deadline=deadline, begin=begin)

    def _wait(self, sql: Statement | None, params: Params) -> Deferred[Any]:
        if self._closing:
            raise StorageError("the pool is closed", applied=False)
        if len(self._waiting) >= self._room:
            raise StorageError(f"{self._room} requests wait for the database already", applied=False)
        answer: Deferred[Any] = Deferred(self._forget)
        deadline = self._clock.seconds() + self._timeout
        self._waiting.append(_Waiting(answer, sql, params, deadline))
        if deadline < self._alarm_at:
            self._check_at(deadline)
        return answer

    def _forget(self, answer: Deferred[Any]) -> None:
        """Its caller was cancelled: if it still waits, it does so no more."""
        for request in self._waiting:
            if request.answer is answer:
                self._waiting.remove(request)
                return

    def _serve(self) -> None:
        """Give free links to who waits. Not recursive, though any number of requests may fail at once."""
        if self._serving:
            return
        self._serving = True
        while self._waiting and self._idle:
            request = self._waiting.popleft()
            link = self._idle.pop()
            if request.sql is None:
                link.held = True
                request.answer.callback(link)
            else:
                self._run(link, request.sql, request.params, request.answer, applied=None)
        self._serving = False

    def _refuse_waiting(self, why: str) -> None:
        while self._waiting:
            self._waiting.popleft().answer.errback(StorageError(why, applied=False))

    def _release(self, link: Link) -> None:
        """A transaction gives its link back. If a statement is still under way there, its answer frees the link."""
        link.held = False
        link.limit = None
        if link.open and not link.busy:
            self._freed(link)

    # What links tell.

    def _make(self) -> Link:
        return Link(self._clock, freed=self._freed, lost=self._lost)

    def _welcome(self, link: Link, gone: Deferred[None]) -> None:
        self._links[link] = gone
        if self._outage:
            self._outage = False
            _log.info("database back ({name})", name=self._name)
        self._freed(link)

    def _freed(self, link: Link) -> None:
        if link.held:
            return
        if link.transacting:
            self._clean(link)
            return
        link.cleaning = False
        self._idle.append(link)
        if self._waiting:
            self._serve()
        if self._quiet is not None:
            # The answer that came last is given before.
            self._clock.callLater(0, self._end_if_quiet)

    def _clean(self, link: Link) -> None:
        """Nobody gets a link with somebody else's transaction open on it."""
        if link.cleaning:
            link.drop("a transaction could not be rolled back")
            return
        link.cleaning = True
        self.run_in(link, "ROLLBACK", (), applied=False).addErrback(lambda failure: None)

    def _lost(self, link: Link, why: str) -> None:
        gone = self._links.pop(link, None)
        if gone is None:
            return
        if link in self._idle:
            self._idle.remove(link)
        if not self._links and not self._closing:
            self._outage = True
            _log.warn("database lost ({name}): {why}", name=self._name, why=why)
        gone.callback(None)
        if self._quiet is not None:
            self._clock.callLater(0, self._end_if_quiet)

    def _end_if_quiet(self) -> None:
        quiet = self._quiet
        if quiet is not None and not quiet.called and self._is_quiet():
            quiet.callback(None)

    def _is_quiet(self) -> bool:
        return not self._links or (not self._waiting and len(self._idle) == len(self._links))

    # Time limits: one timed call for all of them, which is not touched while statements come and go.

    def _check_at(self, when: float) -> None:
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        self._alarm_at = when
        self._alarm = self._clock.callLater(max(0.0, when - self._clock.seconds()), self._check)

    def _check(self) -> None:
        # While this runs, nobody else sets the alarm.
        self._alarm_at = -FOREVER
        now = self._clock.seconds()
        for link in [link for link in self._links if link.deadline <= now]:
            # It may have been this process that stood still: the answer may be there.
            link.doRead()
            if link.deadline <= now:
                link.drop(f"no answer within {self._limit:g} s")
        while self._waiting and self._waiting[0].deadline <= now:
            request = self._waiting.popleft()
            request.answer.errback(
                StorageError(f"no connection to the database was free for {self._timeout:g} s", applied=False)
            )
        self._alarm_at = FOREVER
        deadlines = [link.deadline for link in self._links]
        if self._waiting:
            deadlines.append(self._waiting[0].deadline)
        nearest = min(deadlines, default=FOREVER)
        if nearest < FOREVER:
            self._check_at(nearest)


class Transaction:
    """What the work of :meth:`Pool.transaction` is given: statements of one transaction, one at a time.

    BEGIN travels with the first statement, so that it costs no round trip of its own.
    """

    __slots__ = ("_link", "_pool", "over")

    def __init__(self, pool: Pool, link: Link) -> None:
        self._pool = pool
        self._link = link
        self.over = False

    async def fetch(self, sql: Statement, params: Params = ()) -> Rows:
        """Run one statement; as :meth:`Pool.fetch`.

        :raises StorageError: ``applied`` is always False: without a COMMIT nothing stays.
        """
        link = self._link
        if self.over:
            raise RuntimeError("the transaction is over")
        if not link.open:
            raise StorageError("the connection was lost in the middle of a transaction", applied=False)
        if link.busy:
            raise RuntimeError("a statement of this transaction is still under way")
        begin = not link.transacting
        return await self._pool.run_in(link, sql, params, applied=False, begin=begin)

    async def lift_limits(self) -> None:
        """For work that may take its time (migrations): from now on neither PostgreSQL nor the pool ends it."""
        self._link.limit = FOREVER
        await self.fetch(
            "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;"
            "SET LOCAL idle_in_transaction_session_timeout = 0"
        )
