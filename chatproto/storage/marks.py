"""Read marks, in batches like messages: one call of ``mark_read`` (schema/0001) for all that came meanwhile."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import orjson
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chatproto.clock import Clock, sleep
from chatproto.domain.model import Role
from chatproto.errors import StorageError
from chatproto.storage.pool import Pool

log = Logger()

MARK = (
    "SELECT place, outcome, conversation_id, rev, admin_id, admin_read_seq, guest_read_seq, admin_unread, guest_unread"
    " FROM mark_read(%s)"
)

MOVED, SAME, DENIED, MISSING, BUSY = "moved", "same", "denied", "missing", "busy"

RETRY_AFTER = 0.05
"""Seconds until a mark whose row was locked is tried again."""


class Marked(NamedTuple):
    """What became of a mark: *kind* is moved, same, denied or missing; the rest is as it stands afterwards."""

    kind: str
    conversation_id: int
    rev: int
    admin_id: int | None
    admin_read_seq: int
    guest_read_seq: int
    admin_unread: int
    guest_unread: int


class _Entry:
    __slots__ = ("row", "deadline", "done")

    def __init__(self, row: dict[str, int | None], deadline: float) -> None:
        self.row = row
        self.deadline = deadline
        self.done: Deferred[Marked] = Deferred()


class ReadMarks:
    """Moves read marks.

    :param timeout: seconds until a mark whose row stays locked is given up.
    """

    def __init__(self, pool: Pool, clock: Clock, *, timeout: float, batch_size: int) -> None:
        self._pool = pool
        self._clock = clock
        self._timeout = timeout
        self._batch_size = batch_size
        self._queue: deque[_Entry] = deque()
        self._running = False

    def mark(self, group_id: int, gid: int, role: Role, person_id: int, seq: int | None) -> Deferred[Marked]:
        """Mark read up to *seq*, None for the last message; a mark never moves back.

        :raises StorageError: through the Deferred.
        """
        row = {"g": group_id, "q": gid, "t": int(role), "s": person_id, "r": seq}
        entry = _Entry(row, self._clock.seconds() + self._timeout)
        self._queue.append(entry)
        if not self._running:
            self._running = True
            running = Deferred.fromCoroutine(self._loop())
            running.addErrback(lambda failure: log.failure("the read marks stopped", failure))
        return entry.done

    async def _loop(self) -> None:
        queue = self._queue
        try:
            while queue:
                batch = [queue.popleft() for _ in range(min(len(queue), self._batch_size))]
                busy = await self._commit(batch)
                queue.extend(busy)
                if busy and len(queue) == len(busy):
                    await sleep(self._clock, RETRY_AFTER)
        finally:
            self._running = False

    async def _commit(self, batch: list[_Entry]) -> list[_Entry]:
        """Returns those whose row was locked and who have time left."""
        rows = orjson.dumps([{"o": place, **entry.row} for place, entry in enumerate(batch)]).decode()
        try:
            answers = await self._pool.fetch(MARK, (rows,))
        except StorageError as error:
            for entry in batch:
                entry.done.errback(StorageError(str(error), sqlstate=error.sqlstate, applied=error.applied))
            return []
        busy = []
        for place, *fields in answers:
            entry = batch[place]
            if fields[0] != BUSY:
                entry.done.callback(Marked(*fields))
            elif entry.deadline > self._clock.seconds():
                busy.append(entry)
            else:
                entry.done.errback(StorageError("the conversation stayed locked", sqlstate="55P03"))
        return busy
