"""The one transaction that changes who serves whom (docs/architecture.md, *Assignment*).

Nothing else writes ``conversation.state`` or ``conversation.admin_id``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import orjson

from chatproto.domain.model import QUEUED, SERVING, Conversation, Message, Person, Role
from chatproto.domain.routing import Board, Desk, Thread
from chatproto.storage import history, people
from chatproto.storage.journal import Draft, Outcome, append
from chatproto.storage.pool import Pool, Transaction
from chatproto.storage.prepared import Prepared

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


_MOMENT = Prepared("SELECT now_ms(), coalesce((SELECT status = 'banned' FROM service_group WHERE id = %s), true)")
# A statement of its own: with a time that is a value, whose sessions ended since is looked up once for all admins.
_DESKS = Prepared(
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
    """
)
_THREADS = Prepared(
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
    """
)
# What differs of conversations and desks; and one row of service for each service: begun, handed on, ended.
_WRITE = Prepared(
    """
    WITH moved AS (
        UPDATE conversation c SET state = d.state, admin_id = d.admin_id, last_admin_id = d.last_admin_id,
            last_served_by = coalesce(d.admin_id, c.last_served_by),
            away = d.away, queue_rank = d.queue_rank, queued_at = d.queued_at, reason = d.reason,
            ended_at = CASE WHEN d.state <> 'ended' THEN NULL WHEN d.step = 1 THEN %(now)s::bigint
                       ELSE c.ended_at END,
            rev = c.rev + d.step, step_rev = CASE WHEN d.step = 1 THEN c.rev + 1 ELSE c.step_rev END
        FROM jsonb_to_recordset(%(threads)s::jsonb) AS d (id bigint, state text, admin_id bigint,
            last_admin_id bigint, away boolean, queue_rank smallint, queued_at bigint, reason text, step integer,
            begun boolean)
        WHERE c.id = d.id RETURNING c.id, c.state, c.admin_id, c.last_seq, c.reason, d.step, d.begun
    ), begun AS (
        INSERT INTO service (conversation_id, admin_id, started_at, first_seq)
        SELECT m.id, m.admin_id, %(now)s::bigint, m.last_seq + 1 FROM moved m WHERE m.begun
    ), went_on AS (
        UPDATE service s SET admin_id = coalesce(m.admin_id, s.admin_id),
            ended_at = CASE WHEN m.state = 'ended' THEN %(now)s::bigint END,
            last_seq = CASE WHEN m.state = 'ended' THEN m.last_seq END,
            reason = CASE WHEN m.state = 'ended' THEN m.reason END
        FROM moved m
        WHERE m.step = 1 AND NOT m.begun AND s.conversation_id = m.id AND s.ended_at IS NULL
    ), on_duty AS (
        UPDATE admin a SET suspended = d.suspended, last_assigned_at = d.last_assigned_at
        FROM jsonb_to_recordset(%(desks)s::jsonb) AS d (id bigint, suspended boolean, last_assigned_at bigint)
        WHERE a.id = d.id
    )
    INSERT INTO transfer (conversation_id, from_admin_id, to_admin_id, note, at)
    SELECT h.id, h."from", h."to", h.note, h.at
    FROM jsonb_to_recordset(%(handovers)s::jsonb)
        AS h (id bigint, "from" bigint, "to" bigint, note text, at bigint)
    """
)


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
            changes = await self._apply(transaction, board, before, desks)
            appended = await append(transaction, draft) if draft is not None else None
            return Decision(result, board, changes, appended)

        return await self._pool.repeated(work)

    async def _read(self, transaction: Transaction, group_id: int, scope: Scope) -> Board:
        [(now, banned)] = await transaction.fetch(_MOMENT, (group_id,))
        desks = await transaction.fetch(_DESKS, {"since": now - self._grace, "group": group_id})
        threads = await transaction.fetch(
            _THREADS,
            {"group": group_id, "gid": scope.gid, "ids": list(scope.conversations), "admin": scope.of_admin},
        )
        found = {row[0]: Thread(*row) for row in threads}
        home = {id_: Desk(Person(Role.ADMIN, id_, name, avatar), *rest) for id_, name, avatar, *rest in desks}
        moved = {thread.admin_id for thread in found.values() if thread.admin_id is not None} - home.keys()
        return Board(group_id, now, banned, home, found, await people.persons(transaction, sorted(moved)))

    async def _apply(
        self, transaction: Transaction, board: Board, before: dict[int, Thread], desks: dict[int, Desk]
    ) -> list[Change]:
        different = [thread for thread in board.threads.values() if thread != before[thread.id]]
        # A change that nobody sees (a mark "away") is no step of the conversation.
        moved = [t for t in different if (t.state, t.admin_id) != (before[t.id].state, before[t.id].admin_id)]
        touched = [
            desk
            for desk in board.desks.values()
            if (desk.suspended, desk.last_assigned_at) != (desks[desk.id].suspended, desks[desk.id].last_assigned_at)
        ]
        if not different and not touched:
            return []
        open_ = (QUEUED, SERVING)
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
                "begun": t.state in open_ and before[t.id].state not in open_,
            }
            for t in different
        ]
        handed = [
            {"id": id_, "from": h.from_aix, "to": h.to_aix, "note": h.note, "at": h.at}
            for id_, h in board.handovers.items()
        ]
        duties = [{"id": d.id, "suspended": d.suspended, "last_assigned_at": d.last_assigned_at} for d in touched]
        await transaction.fetch(
            _WRITE,
            {
                "now": board.now,
                "threads": orjson.dumps(rows).decode(),
                "handovers": orjson.dumps(handed).decode(),
                "desks": orjson.dumps(duties).decode(),
            },
        )
        entries = await history.by_ids(transaction, [t.id for t in moved])
        changes = []
        for thread in moved:
            entry, was = entries[thread.id], before[thread.id]
            arrived = thread.admin_id is not None and thread.admin_id != was.admin_id
            recs = await history.messages(transaction, entry, newest=True, limit=RECENT) if arrived else ()
            changes.append(Change(was, entry, recs))
        return changes
