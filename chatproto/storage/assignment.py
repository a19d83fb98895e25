"""The one transaction that changes who serves whom (docs/architecture.md, *Assignment*).

Nothing else writes ``conversation.state`` or ``conversation.admin_id``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import orjson

from chatproto.domain.model import ENDED, QUEUED, SERVING, Conversation, Message, Person, Role
from chatproto.domain.routing import Board, Desk, Thread
from chatproto.storage import history, people
from chatproto.storage.journal import Draft, Outcome, append
from chatproto.storage.pool import Pool, Transaction

T = TypeVar("T")

RECENT = 20
"""Messages that whoever gets a guest is shown."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which threads a rule is about, besides the queue.

    :ivar gid: this guest's.
    :ivar conversations: these.
    :ivar of_admin: all that this admin serves.
    """

    gid: int | None = None
    conversations: Sequence[int] = ()
    of_admin: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A conversation that has another state or admin after the transaction.

    :ivar entry: afterwards, before the message that may have been appended.
    :ivar recs: the newest messages, where somebody new serves.
    """

    was: Thread
    entry: Conversation
    recs: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """A committed transaction: what the rule returned, the board as it is now, and what differs."""

    result: T
    board: Board
    changes: Sequence[Change]
    appended: Outcome | None


class AssignmentStore:
    """Runs rules under the lock of a group.

    :param grace: milliseconds that an admin without a connection keeps the guests.
    """

    def __init__(self, pool: Pool, *, grace: int) -> None:
        self._pool = pool
        self._grace = grace

    async def decide(
        self,
        group_id: int,
        scope: Scope,
        rule: Callable[[Board], T],
        *,
        first: Callable[[Transaction], Awaitable[None]] | None = None,
        draft: Draft | None = None,
    ) -> Decision[T]:
        """Lock the group, read its board, apply what *rule* does to it, commit.

        :param first: runs under the lock before the board is read (a session, a ban).
        :param draft: a message to store after the rule, whatever the state.
        :raises ChatError: of the rule; nothing is changed then.
        :raises StorageError: ``applied`` None where the commit may have happened.
        """

        async def work(transaction: Transaction) -> Decision[T]:
            # A statement of its own: the snapshots after it are younger than the lock.
            await transaction.fetch("SELECT pg_advisory_xact_lock(1, %s)", (group_id,))
            if first is not None:
                await first(transaction)
            board = await self._read(transaction, group_id, scope)
            before = {thread.id: replace(thread) for thread in board.threads.values()}
            desks = {desk.id: replace(desk) for desk in board.desks.values()}
            result = rule(board)
            changes = await self._apply(transaction, board, before)
            await self._apply_desks(transaction, board, desks)
            appended = await append(transaction, draft) if draft is not None else None
            return Decision(result, board, changes, appended)

        return await self._pool.repeated(work)

    async def _read(self, transaction: Transaction, group_id: int, scope: Scope) -> Board:
        [(now, banned)] = await transaction.fetch(
            "SELECT now_ms(), coalesce((SELECT status = 'banned' FROM service_group WHERE id = %s), true)", (group_id,)
        )
        desks = await transaction.fetch(
            """
            SELECT a.id, a.name, a.avatar, a.status = 'banned',
                   EXISTS (SELECT FROM session s WHERE s.person_type = 3 AND s.person_id = a.id
                           AND s.group_id = a.group_id AND s.ended_at IS NULL),
                   EXISTS (SELECT FROM session s WHERE s.person_type = 3 AND s.person_id = a.id
                           AND s.group_id = a.group_id AND s.ended_at > %(since)s)
                       OR coalesce((SELECT min(n.started_at) FROM node n WHERE n.lease_until > now_ms())
                                   > %(since)s, false),
                   a.suspended, a.capacity,
                   (SELECT count(*) FROM conversation c WHERE c.admin_id = a.id AND c.state = 'serving'
                    AND c.group_id = a.group_id),
                   a.last_assigned_at
            FROM admin a WHERE a.group_id = %(group)s
            """,
            {"since": now - self._grace, "group": group_id},
        )
        threads = await transaction.fetch(
            """
            SELECT c.id, c.guest_id, c.state, c.admin_id, c.last_admin_id, c.away, c.queue_rank, c.queued_at,
                   CASE WHEN c.admin_id = %(admin)s THEN (
                       SELECT m.created_at FROM message m
                       WHERE m.conversation_id = c.id AND m.recalls IS NULL AND m.seq >= greatest(
                           (SELECT s.first_seq FROM service s WHERE s.conversation_id = c.id AND s.ended_at IS NULL),
                           (SELECT a.seq + 1 FROM message a WHERE a.conversation_id = c.id AND a.sender_type = 3
                            AND a.recalls IS NULL ORDER BY a.seq DESC LIMIT 1))
                       ORDER BY m.seq LIMIT 1) END,
                   c.reason, (SELECT g.status = 'banned' FROM guest g WHERE g.id = c.guest_id)
            FROM conversation c WHERE c.id IN (
                SELECT id FROM conversation WHERE group_id = %(group)s AND state = 'queued'
                UNION ALL SELECT id FROM conversation WHERE group_id = %(group)s AND guest_id = %(gid)s
                UNION ALL SELECT id FROM conversation WHERE group_id = %(group)s AND id = ANY(%(ids)s)
                UNION ALL SELECT id FROM conversation WHERE group_id = %(group)s AND state = 'serving'
                          AND admin_id = %(admin)s)
            ORDER BY c.queue_rank, c.queued_at, c.id
            """,
            {"group": group_id, "gid": scope.gid, "ids": list(scope.conversations), "admin": scope.of_admin},
        )
        found = {row[0]: Thread(*row) for row in threads}
        home = {id_: Desk(Person(Role.ADMIN, id_, name, avatar), *rest) for id_, name, avatar, *rest in desks}
        moved = {thread.admin_id for thread in found.values() if thread.admin_id is not None} - home.keys()
        return Board(group_id, now, banned, home, found, await people.persons(transaction, sorted(moved)))

    async def _apply(self, transaction: Transaction, board: Board, before: dict[int, Thread]) -> list[Change]:
        different = [thread for thread in board.threads.values() if thread != before[thread.id]]
        if not different:
            return []
        # A change that nobody sees (a mark "away") is no step of the conversation.
        moved = [t for t in different if (t.state, t.admin_id) != (before[t.id].state, before[t.id].admin_id)]
        rows = [
            {
                "id": t.id,
                "state": t.state,
                "admin_id": t.admin_id,
                "last_admin_id": t.last_admin_id,
                "away": t.away,
                "queue_rank": t.queue_rank,
                "queued_at": t.queued_at,
                "reason": t.reason,
                "step": int(t in moved),
            }
            for t in different
        ]
        await transaction.fetch(
            """
            UPDATE conversation c SET state = d.state, admin_id = d.admin_id, last_admin_id = d.last_admin_id,
                last_served_by = coalesce(d.admin_id, c.last_served_by),
                away = d.away, queue_rank = d.queue_rank, queued_at = d.queued_at, reason = d.reason,
                ended_at = CASE WHEN d.state <> 'ended' THEN NULL WHEN d.step = 1 THEN %s ELSE c.ended_at END,
                rev = c.rev + d.step, step_rev = CASE WHEN d.step = 1 THEN c.rev + 1 ELSE c.step_rev END
            FROM jsonb_to_recordset(%s) AS d (id bigint, state text, admin_id bigint, last_admin_id bigint,
                away boolean, queue_rank smallint, queued_at bigint, reason text, step integer)
            WHERE c.id = d.id
            """,
            (board.now, orjson.dumps(rows).decode()),
        )
        await self._apply_services(transaction, board, before, moved)
        for thread_id, handover in board.handovers.items():
            await transaction.fetch(
                "INSERT INTO transfer (conversation_id, from_admin_id, to_admin_id, note, at)"
                " VALUES (%s, %s, %s, %s, %s)",
                (thread_id, handover.from_aix, handover.to_aix, handover.note, handover.at),
            )
        entries = await history.by_ids(transaction, [t.id for t in moved])
        changes = []
        for thread in moved:
            entry, was = entries[thread.id], before[thread.id]
            arrived = thread.admin_id is not None and thread.admin_id != was.admin_id
            recs = await history.messages(transaction, entry, newest=True, limit=RECENT) if arrived else ()
            changes.append(Change(was, entry, recs))
        return changes

    async def _apply_services(
        self, transaction: Transaction, board: Board, before: dict[int, Thread], moved: Sequence[Thread]
    ) -> None:
        """One row of ``service`` per service: opened, handed on, closed."""
        open_ = (QUEUED, SERVING)
        begun = [t.id for t in moved if t.state in open_ and before[t.id].state not in open_]
        ended = [t.id for t in moved if t.state == ENDED]
        if begun:
            await transaction.fetch(
                "INSERT INTO service (conversation_id, started_at, first_seq)"
                " SELECT c.id, %s, c.last_seq + 1 FROM conversation c WHERE c.id = ANY(%s)",
                (board.now, begun),
            )
        if any(t.admin_id is not None for t in moved):
            await transaction.fetch(
                "UPDATE service s SET admin_id = c.admin_id FROM conversation c"
                " WHERE c.id = ANY(%s) AND c.admin_id IS NOT NULL AND s.conversation_id = c.id AND s.ended_at IS NULL",
                ([t.id for t in moved],),
            )
        if ended:
            await transaction.fetch(
                "UPDATE service s SET ended_at = %s, last_seq = c.last_seq, reason = c.reason FROM conversation c"
                " WHERE c.id = ANY(%s) AND s.conversation_id = c.id AND s.ended_at IS NULL",
                (board.now, ended),
            )

    async def _apply_desks(self, transaction: Transaction, board: Board, before: dict[int, Desk]) -> None:
        for desk in board.desks.values():
            was = before[desk.id]
            if (desk.suspended, desk.last_assigned_at) != (was.suspended, was.last_assigned_at):
                await transaction.fetch(
                    "UPDATE admin SET suspended = %s, last_assigned_at = %s WHERE id = %s",
                    (desk.suspended, desk.last_assigned_at, desk.id),
                )
