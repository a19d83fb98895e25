"""One connection to PostgreSQL: one statement at a time, a Deferred for each, and word when it is gone.

txpostgres and psycopg2 are met here and in :mod:`chatproto.storage.connect`, and their exceptions end here. What this
class changes about txpostgres' connection, and why:

- The reactor watches an ``os.dup`` of the descriptor: libpq closes its own while the reactor still knows the number,
  and the next client that is given the same number would lose its connection.
- The reader stays, instead of being removed and added around each statement, and an answer is given in the turn of
  the reactor in which it came.
- Nothing is ever cancelled on the server: PQcancel blocks, and a late one hits the next statement.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_WRITE, TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from txpostgres.txpostgres import Connection

from chatproto.errors import StorageError
from chatproto.storage.prepared import Prepared

FOREVER = float("inf")

# A statement of this size fits the empty send buffer of an idle connection, so that libpq has sent it whole and the
# system call that asks for the rest is spared.
_SENT_AT_ONCE = 4096

# A plan is made for the size that tables have at the time, and PostgreSQL keeps it until somebody analyses them: what
# was right for the first guests of a shop is dear for the ten thousandth. So plans are made anew after so many calls.
_FIRST_PLANS = 50
_LATER_PLANS = 2000

Rows = list[tuple[Any, ...]]
Params = Sequence[Any] | Mapping[str, Any]
"""The values of ``%s``, or of ``%(name)s``."""
Statement = str | Prepared


class Clock(Protocol):
    """What storage needs of the reactor: IReactorTime, IReactorFDSet and the name resolver."""

    @property
    def nameResolver(self) -> Any: ...
    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> Any: ...
    def addReader(self, reader: Any) -> Any: ...
    def removeReader(self, reader: Any) -> Any: ...
    def addWriter(self, writer: Any) -> Any: ...
    def removeWriter(self, writer: Any) -> Any: ...


class Link(Connection):
    """A connection. It is *open* from the end of ``connect`` until it is *lost*, then never again.

    :param freed: called with the link when a statement has ended and the link is still open, before the statement's
        own Deferred fires.
    :param lost: called once with the link and one line saying why, when an open link ends; before the Deferred of the
        statement that was under way fires.
    :param notified: called with the payload of each NOTIFY.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        freed: Callable[[Link], None] = lambda link: None,
        lost: Callable[[Link, str], None] = lambda link, why: None,
        notified: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(clock)
        self._freed = freed
        self._lost = lost
        self._notified = notified
        self._fd = -1
        self._cursor: Any = None
        self._connecting: Deferred[Link] | None = None
        self._applied: bool | None = False
        self._answer: Deferred[Rows] | None = None
        self._calls: dict[Prepared, str] = {}
        """How to run what has been prepared here."""
        self._preparing: Prepared | None = None
        self._names = 0
        self._planned_for = _FIRST_PLANS
        self._left = _FIRST_PLANS
        """Calls until plans are made anew."""
        self.open = False
        self.busy = False
        """A statement is under way, whether anybody waits for its answer or not."""
        self.held = False
        """It belongs to a transaction, also between two statements."""
        self.cleaning = False
        """The statement under way is the ROLLBACK of a transaction that somebody left open."""
        self.limit: float | None = None
        """Seconds a statement may take while it is held; None: what its owner gives everybody."""
        self.deadline = FOREVER

    # The words of txpostgres' Connection and of the reactor's IReadWriteDescriptor.

    def poll(self) -> Deferred[Link]:
        """Finish connecting. Cancelling the Deferred drops the connection."""
        self._connecting = Deferred(self._give_up)
        self._fd = os.dup(self._connection.fileno())
        connecting = self._connecting
        self.continuePolling()
        return connecting

    def continuePolling(self, swallowErrors: bool = False) -> None:
        # Nothing is raised inside the except clause: psycopg2's errors hold parameters, and must not be chained.
        error: Exception | None = None
        try:
            state = self._connection.poll()
        except Exception as caught:
            error = caught
        if error is not None:
            self._failed(error)
        elif self._connecting is not None:
            self._connect_on(state)
        elif state == POLL_WRITE:
            self.reactor.addWriter(self)
        elif state == POLL_OK and self.busy:
            self._answered()

    def doRead(self) -> None:
        self.continuePolling()
        if self._notified is not None and self.open:
            self._tell()

    def doWrite(self) -> None:
        self.reactor.removeWriter(self)
        self.continuePolling()

    def fileno(self) -> int:
        return self._fd

    def connectionLost(self, reason: Failure) -> None:
        # libpq knows better why, and may still hold the answer that came before the end.
        if self._fd != -1:
            self.doRead()
        self.drop(reason.getErrorMessage())

    def close(self) -> None:
        """Close the socket, without a word to ``lost``. A statement under way fails."""
        self._lost = lambda link, why: None
        self.drop("the connection was closed")

    # Our own.

    @property
    def transacting(self) -> bool:
        """A transaction is open on the server."""
        return bool(self._connection.get_transaction_status() != TRANSACTION_STATUS_IDLE)

    @property
    def aborted(self) -> bool:
        """The transaction has met an error, and can only be rolled back."""
        return bool(self._connection.get_transaction_status() == TRANSACTION_STATUS_INERROR)

    @property
    def server_version(self) -> int:
        """As libpq counts: 180006 is 18.6."""
        return int(self._connection.server_version)

    def execute(
        self,
        sql: Statement,
        params: Params,
        answer: Deferred[Rows],
        *,
        applied: bool | None,
        deadline: float,
        begin: bool = False,
    ) -> None:
        """Run one statement. The link must be open and not busy.

        :param params: where it is empty, a ``%`` in ``sql`` is itself.
        :param answer: fires with the rows ([] where the statement returns none), or fails with StorageError.
        :param applied: what StorageError says where the connection ends before the answer.
        :param deadline: kept for the owner, who drops the link when the time has come.
        :param begin: a transaction begins with it.
        """
        text = sql if isinstance(sql, str) else self._call(sql)
        if begin:
            text = f"BEGIN;{text}"
        self._answer = answer
        self.busy = True
        self._applied = applied
        self.deadline = deadline
        error: Exception | None = None
        try:
            self._cursor.execute(text, params or None)
        except Exception as caught:
            error = caught
        if error is not None:
            # Whatever fails here fails before the statement has left whole.
            self._applied = False
            self._failed(error)
        elif len(self._cursor.query) > _SENT_AT_ONCE:
            # Not polled here: the answer may be there already, and nobody expects it before this returns.
            self.reactor.addWriter(self)

    def _call(self, statement: Prepared) -> str:
        """How to run it here, prepared with the first call."""
        call = self._calls.get(statement)
        if call is not None:
            self._left -= 1
            if self._left:
                return call
            self._left = self._planned_for = min(2 * self._planned_for, _LATER_PLANS)
            return f"DISCARD PLANS;{call}"
        # One that fails may be there or not: the next try has another name.
        self._names += 1
        call = f"EXECUTE p{self._names}{statement.values}"
        self._preparing = statement
        return f"PREPARE p{self._names} AS {statement.sql};{call}"

    def drop(self, why: str) -> None:
        """End the connection at once. A statement under way fails; what it did on the server is not known here."""
        if self._fd == -1:
            return
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)
        os.close(self._fd)
        self._fd = -1
        self._cursor = None
        self._connection.close()
        was_open, self.open = self.open, False
        connecting, self._connecting = self._connecting, None
        if was_open:
            self._lost(self, why)
        if connecting is not None:
            connecting.errback(StorageError(why, applied=False))
        if self.busy:
            self._settle(Failure(StorageError(why, applied=self._applied)))

    def _give_up(self, connecting: Deferred[Link]) -> None:
        self._connecting = None
        self.drop("connecting was given up")

    def _connect_on(self, state: int) -> None:
        # libpq may have gone on to another address, or from TLS to none: that is another socket, perhaps under the
        # same number, and the reactor must be told about it while our copy of the old one still exists.
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)
        os.dup2(self._connection.fileno(), self._fd, inheritable=False)
        if state == POLL_WRITE:
            self.reactor.addWriter(self)
            return
        self.reactor.addReader(self)
        if state == POLL_OK:
            connecting, self._connecting = self._connecting, None
            self._cursor = self._connection.cursor()
            self.open = True
            if connecting is not None:
                connecting.callback(self)

    def _answered(self) -> None:
        cursor = self._cursor
        result: Rows | Failure
        try:
            result = cursor.fetchall() if cursor.description is not None else []
        except Exception:
            result = Failure()
        self._settle(result)

    def _failed(self, error: Exception) -> None:
        """psycopg2 has raised: the end of the statement, or of the connection."""
        if self._connection.closed or not self.busy:
            self.drop(first_line(error))
        else:
            self._settle(Failure(translated(error)))

    def _settle(self, result: Rows | Failure) -> None:
        answer, self._answer = self._answer, None
        if self._preparing is not None:
            if not isinstance(result, Failure):
                self._calls[self._preparing] = f"EXECUTE p{self._names}{self._preparing.values}"
            self._preparing = None
        self.busy = False
        self.deadline = FOREVER
        if self.open:
            self._freed(self)
        if answer is None or answer.called:
            return  # cancelled: nobody waits any more
        if isinstance(result, Failure):
            answer.errback(result)
        else:
            answer.callback(result)

    def _tell(self) -> None:
        notifies = self._connection.notifies
        while notifies and self._notified is not None:
            self._notified(notifies.pop(0).payload)


def translated(error: Exception) -> Exception:
    """What PostgreSQL or psycopg2 refused, as StorageError; a mistake in our own code stays what it is.

    Only the first line of PostgreSQL's message is kept: the others quote the statement and the row.
    """
    if isinstance(error, psycopg2.Error):
        return StorageError(first_line(error), sqlstate=error.pgcode, applied=False)
    if isinstance(error, ValueError):
        return StorageError("a parameter holds NUL or a lone surrogate", applied=False)
    return error


def first_line(error: Exception) -> str:
    """What may be logged of an exception of psycopg2."""
    told = error.diag.message_primary if isinstance(error, psycopg2.Error) else None
    lines = (told or str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__
