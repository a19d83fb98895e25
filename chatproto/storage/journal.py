"""The journal: group commit of messages (docs/architecture.md, *Journal*).

One batch is in flight per process; what arrives meanwhile is the next one, so at low load a message is
committed at once. A batch is one call of ``append_messages`` (schema/0001), which never waits for a row.
Every draft carries a cmid of the client's or one made here, so a batch whose answer was lost is repeated.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import itemgetter
from typing import Any, TypeVar

import orjson
from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chatproto.clock import Clock, sleep
from chatproto.domain.model import ADMIN, Person
from chatproto.errors import StorageError
from chatproto.storage.link import Rows
from chatproto.storage.pool import Pool, Transaction

log = Logger()

APPEND = (
    "SELECT outcome, conversation_id, seq, created_at, rev, state, admin_id, admin_unread, guest_unread, place"
    " FROM append_messages(%s, %s, %s)"
)
LOCK = "SELECT id FROM conversation WHERE group_id = %s AND guest_id = %s FOR NO KEY UPDATE"

STORED, DUP, CLASH, OTHER, MISSING, BUSY, NEW = "stored", "dup", "clash", "other", "missing", "busy", "new"

RETRY_AFTER = 0.05
"""Seconds between two tries of a batch that the database could not take."""
BATCH_TEXT = 256 * 1024
"""Characters of bodies with which a batch is full: many large messages at once take some commits, but the first of them
do not wait for the last, and neither does whoever writes in between."""
WHOLE = 32
"""Messages of which it is not worth while to make two batches, as each costs something by itself."""
AT_ONCE = 128
"""After so many are told the reactor has a turn: what they get leaves, and what they write next is read, while others
are still told."""
TRIES_BEFORE_WAITING = 3
"""How often a draft finds its row locked before it waits for it, alone."""

_PLACE = itemgetter(-1)
_BY_ITSELF = nullcontext()

Thread = tuple[int, int]
"""(group_id, gid): names a conversation."""


class Draft(Struct, frozen=True):
    """A message on its way into the journal. Who waits for it may add to it what is needed then.

    :ivar file_type: None where nothing is to be stored, only to be asked whether the cmid is known.
    :ivar body: the JSON text of ``msg``.
    :ivar cmid: the client's, or None.
    """

    group_id: int
    gid: int
    sender: Person
    file_type: int | None
    body: str
    cmid: str | None

    @property
    def thread(self) -> Thread:
        return (self.group_id, self.gid)


class Outcome(Struct, frozen=True):
    """What became of a draft; the fields of ``append_messages``.

    ``kind`` is stored, dup, clash, other, missing, or new for what only asked. *state* and *admin_id* are those of
    the conversation at that moment; *rev* and the unread counts are with this message. *place* is that in its batch.
    """

    kind: str
    conversation_id: int
    seq: int
    created_at: int
    rev: int
    state: str
    admin_id: int | None
    admin_unread: int
    guest_unread: int
    place: int


D = TypeVar("D", bound=Draft)

Told = Callable[[D, Outcome | StorageError], None]


class _Entry(Struct, eq=False):
    """A draft that waits, and who waits for it. There may be many: what they hold should fit the processor's cache.

    :ivar made: the cmid that is stored, where the client gave none.
    """

    draft: Draft
    thread: Thread
    made: str | None
    told: Told[Any]
    deadline: float
    unknown: bool = False
    busy: int = 0

    @property
    def cmid(self) -> str:
        """As it is stored."""
        return self.made or stored_cmid(self.draft.cmid)

    def fail(self, error: StorageError) -> None:
        """Give up; once a try may have been stored, no later error makes that certain again."""
        if self.unknown:
            error = StorageError(str(error), sqlstate=error.sqlstate, applied=None)
        self.told(self.draft, error)


def stored_cmid(cmid: str | None) -> str:
    """As the table has it: the letter keeps what clients choose apart from what is made here."""
    return "c" + cmid if cmid is not None else "s" + secrets.token_urlsafe(12)


def shown_cmid(stored: str) -> str | None:
    return stored[1:] if stored[0] == "c" else None


def batch_of(drafts: Iterable[tuple[Draft, str]]) -> tuple[str, str]:
    """The threads and the drafts of a batch, as ``append_messages`` takes them.

    :param drafts: each with the cmid that is stored.
    """
    threads: dict[Thread, int] = {}
    rows = []
    for place, (draft, cmid) in enumerate(drafts):
        sender = draft.sender
        k = threads.setdefault((draft.group_id, draft.gid), len(threads) + 1)
        rows.append(
            {"o": place, "k": k, "t": sender.role, "s": sender.id, "f": draft.file_type, "m": cmid, "b": draft.body}
        )
    named = [{"k": k, "g": group_id, "q": gid} for (group_id, gid), k in threads.items()]
    return orjson.dumps(named).decode(), orjson.dumps(rows).decode()


async def append(transaction: Transaction, draft: Draft) -> Outcome:
    """Store *draft* in a transaction that holds the group's lock and has decided that it may be."""
    await transaction.fetch(LOCK, draft.thread)
    [row] = await transaction.fetch(APPEND, (*batch_of([(draft, stored_cmid(draft.cmid))]), True))
    return Outcome(*row)


class Journal:
    """Stores messages in batches.

    :param batches: a pool of one link: two commits in flight were slower than one.
    :param waiters: a pool for the few that have to wait for a locked row.
    :param timeout: seconds from :meth:`append` until a draft is given up.
    :param together: is entered while what one sender has in a row in a batch is told.
    """

    def __init__(
        self,
        batches: Pool,
        waiters: Pool,
        clock: Clock,
        *,
        timeout: float,
        batch_size: int,
        queue_size: int,
        together: AbstractContextManager[None] = _BY_ITSELF,
    ) -> None:
        self._batches = batches
        self._waiters = waiters
        self._clock = clock
        self._timeout = timeout
        self._batch_size = batch_size
        self._queue_size = queue_size
        self._together = together
        self._queue: deque[_Entry] = deque()
        self._held: dict[Thread, deque[_Entry]] = {}
        self._waiting = 0
        self._running = False
        self._idle: list[Deferred[None]] = []

    def append(self, draft: Draft) -> Deferred[Outcome]:
        """As :meth:`put`; the Deferred fires with what is told, or fails with it.

        :raises StorageError: through the Deferred; ``applied`` None where it may be stored.
        """
        done: Deferred[Outcome] = Deferred()

        def told(draft: Draft, result: Outcome | StorageError) -> None:
            if isinstance(result, StorageError):
                done.errback(result)
            else:
                done.callback(result)

        self.put(draft, told)
        return done

    def put(self, draft: D, told: Told[D]) -> None:
        """Store *draft*.

        With ``other`` the conversation is held until :meth:`release`: later drafts for it wait.

        :param told: called with the draft and the outcome once it is committed, or the error when it was not
            (``applied`` None where it may be stored). It must not raise.
        """
        if self._waiting >= self._queue_size:
            told(draft, StorageError("the journal is full"))
            return
        self._waiting += 1
        deadline, made = self._clock.seconds() + self._timeout, stored_cmid(None) if draft.cmid is None else None
        self._queue.append(_Entry(draft, draft.thread, made, told, deadline))
        if not self._running:
            self._run()

    def release(self, thread: Thread) -> None:
        """What :meth:`append` answered ``other`` for is decided: go on with the conversation."""
        self._queue.extendleft(reversed(self._held.pop(thread, ())))
        self._run()

    def idle(self) -> Deferred[None]:
        """Fires when nothing waits."""
        done: Deferred[None] = Deferred()
        self._idle.append(done)
        self._told_idle()
        return done

    def _told_idle(self) -> None:
        if not self._waiting:
            told, self._idle = self._idle, []
            for done in told:
                done.callback(None)

    def _run(self) -> None:
        if not self._running:
            self._running = True
            running = Deferred.fromCoroutine(self._loop())
            running.addErrback(lambda failure: log.failure("the journal stopped", failure))

    async def _loop(self) -> None:
        """Batch after batch: the database has the next one before anybody is told what became of the last."""
        told: deque[tuple[_Entry, Outcome]] = deque()
        most = self._batch_size
        try:
            while (batch := self._take(min(most, self._half(len(told))))) or told:
                answer = Deferred.fromCoroutine(self._send(batch)) if batch else None
                while told:
                    self._tell(told)
                    if told:
                        await sleep(self._clock, 0)
                most = self._batch_size
                if answer is None:
                    continue
                try:
                    told = self._sort_out(batch, await answer)
                except StorageError as error:
                    most = await self._failed(batch, error)
        finally:
            self._running = False
        self._told_idle()

    def _tell(self, told: deque[tuple[_Entry, Outcome]]) -> None:
        """Those of one turn; what one sender has in a row is told together, and never in two turns."""
        count = 0
        while told and count < AT_ONCE:
            first = told[0][0]
            sender, thread = first.draft.sender, first.thread
            try:
                with self._together:
                    while told and (entry := told[0][0]).draft.sender is sender and entry.thread == thread:
                        _, outcome = told.popleft()
                        self._settle(entry, outcome)
                        count += 1
            except Exception:
                log.failure("what became of messages could not be told to others")

    def _half(self, told: int) -> int:
        """Of what is under way, of which *told* are about to be told: while one half is stored, the other is talked of.

        Else there would soon be one large batch and a small one, and PostgreSQL and this process took turns.
        """
        under_way = len(self._queue) + told
        return under_way if under_way <= WHOLE else (under_way + 1) // 2

    def _take(self, most: int) -> list[_Entry]:
        """The next batch: so many at most, no conversation that is held, no cmid twice, nothing that is too late."""
        batch: list[_Entry] = []
        again: list[_Entry] = []
        taken: set[tuple[Thread, bool, int, str | None]] = set()
        now = self._clock.seconds()
        queue, held = self._queue, self._held
        room = BATCH_TEXT
        while queue and room > 0 and len(batch) < most:
            entry = queue.popleft()
            thread, draft = entry.thread, entry.draft
            if entry.deadline <= now:
                self._settle(entry, StorageError("the message was not stored in time"))
            elif held and thread in held:
                held[thread].append(entry)
            else:
                # A role has a hash of Python's, which takes its time.
                taken.add((thread, draft.sender.role is ADMIN, draft.sender.id, entry.made or draft.cmid))
                if len(taken) > len(batch):
                    batch.append(entry)
                    room -= len(draft.body)
                else:
                    again.append(entry)
        queue.extendleft(reversed(again))
        return batch

    async def _send(self, batch: list[_Entry]) -> Rows:
        threads, drafts = batch_of([(entry.draft, entry.cmid) for entry in batch])
        return await self._batches.fetch(APPEND, (threads, drafts, False))

    def _sort_out(self, batch: list[_Entry], answers: Rows) -> deque[tuple[_Entry, Outcome]]:
        """Hold the conversations that have to wait, before the next batch is taken.

        :returns: who is to be told what.
        """
        told: deque[tuple[_Entry, Outcome]] = deque()
        again = []
        for entry, row in zip(batch, sorted(answers, key=_PLACE), strict=True):
            outcome = Outcome(*row)
            if outcome.kind == STORED:
                told.append((entry, outcome))
                continue
            thread = entry.thread
            if thread in self._held:
                if outcome.kind in (OTHER, BUSY):
                    self._held[thread].append(entry)
                    continue
            elif outcome.kind == BUSY:
                entry.busy += 1
                if entry.busy < TRIES_BEFORE_WAITING:
                    again.append(entry)
                else:
                    self._held[thread] = deque()
                    self._wait_for_row(entry)
                continue
            elif outcome.kind == OTHER:
                self._held[thread] = deque()
            told.append((entry, outcome))
        self._queue.extendleft(reversed(again))
        return told

    async def _failed(self, batch: list[_Entry], error: StorageError) -> int:
        """Repeat what may succeed later; halve what some draft made impossible, until the culprit stands alone.

        :returns: how many to try next.
        """
        if (error.sqlstate or "")[:2] in ("22", "23") and len(batch) > 1:
            self._queue.extendleft(reversed(batch))
            return len(batch) // 2
        if (error.sqlstate or "40")[:2] in ("40", "53", "55", "57", "08"):
            for entry in batch:
                entry.unknown = entry.unknown or error.applied is None
            self._queue.extendleft(reversed(batch))
            await sleep(self._clock, RETRY_AFTER)
        else:
            for entry in batch:
                self._settle(entry, error)
        return self._batch_size

    def _wait_for_row(self, entry: _Entry) -> None:
        waiting = Deferred.fromCoroutine(self._alone(entry))
        waiting.addErrback(lambda failure: log.failure("a message that waited for its row was lost", failure))

    async def _alone(self, entry: _Entry) -> None:
        """Wait for one locked row on another link; the conversation is held meanwhile."""
        draft = entry.draft
        threads, drafts = batch_of([(draft, entry.cmid)])

        async def work(transaction: Transaction) -> Sequence[Any]:
            await transaction.fetch(LOCK, draft.thread)
            [row] = await transaction.fetch(APPEND, (threads, drafts, False))
            return row

        result: Outcome | StorageError
        while True:
            try:
                row = await self._waiters.transaction(work)
                result = Outcome(*row)
                break
            except StorageError as error:
                entry.unknown = entry.unknown or error.applied is None
                result = error
            if self._clock.seconds() + RETRY_AFTER >= entry.deadline:
                break
            await sleep(self._clock, RETRY_AFTER)
        self._settle(entry, result)
        if isinstance(result, StorageError) or result.kind != OTHER:
            self.release(draft.thread)

    def _settle(self, entry: _Entry, result: Outcome | StorageError) -> None:
        """Tell one of them, whatever comes of it: the next batch is on its way, and others wait for both."""
        self._waiting -= 1
        try:
            if isinstance(result, StorageError):
                entry.fail(result)
            else:
                if entry.unknown and result.kind == DUP:
                    # Most likely a try of our own, of which nobody has been told. If not, telling twice does no harm.
                    result = replace(result, kind=STORED)
                entry.told(entry.draft, result)
        except Exception:
            log.failure("what became of a message could not be told")
