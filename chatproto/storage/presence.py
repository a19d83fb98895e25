"""Who is connected where (docs/architecture.md, *Presence*). The database's clock only.

A node holds a lease; a session is one logged-in connection. Sessions are ended, not deleted: connected and
in grace are derived from them in the query that needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chatproto.domain.model import Role
from chatproto.errors import StorageError
from chatproto.storage.history import OFFLINE_AFTER, Reader

LEASE = 20_000
"""Milliseconds that a node is believed to live after it said so."""
KEEP_SESSIONS = 86_400_000
"""Milliseconds that ended sessions are kept for."""


@dataclass(frozen=True, slots=True)
class Session:
    """One logged-in connection."""

    ix: str
    role: Role
    person_id: int
    group_id: int


async def join(reader: Reader, name: str) -> int:
    """A new incarnation of the node *name*; what an earlier one left is ended now. Returns its id."""
    await reader.fetch(
        "WITH gone AS (DELETE FROM node WHERE name = %s RETURNING id)"
        " UPDATE session SET ended_at = now_ms() FROM gone WHERE node_id = gone.id AND ended_at IS NULL",
        (name,),
    )
    [(node_id,)] = await reader.fetch(
        "INSERT INTO node (name, lease_until) VALUES (%s, now_ms() + %s) RETURNING id", (name, LEASE)
    )
    return int(node_id)


async def renew(reader: Reader, node_id: int) -> bool:
    """Whether the node still had its lease, which is renewed then."""
    return bool(
        await reader.fetch(
            "UPDATE node SET lease_until = now_ms() + %s WHERE id = %s AND lease_until > now_ms() RETURNING id",
            (LEASE, node_id),
        )
    )


async def leave(reader: Reader, node_id: int) -> None:
    """The node stops: its sessions end, its lease is given back."""
    await reader.fetch("UPDATE session SET ended_at = now_ms() WHERE node_id = %s AND ended_at IS NULL", (node_id,))
    await reader.fetch("DELETE FROM node WHERE id = %s", (node_id,))


async def begin(reader: Reader, node_id: int, session: Session, limit: int | None = None) -> bool:
    """A connection has logged in, or again; False, and nothing done, where the person has *limit* others already.

    :raises StorageError: the node has lost its lease.
    """
    rows = await reader.fetch(
        """
        WITH others AS (SELECT count(*) AS live FROM session WHERE person_type = %(type)s AND person_id = %(person)s
                        AND ended_at IS NULL AND ix <> %(ix)s),
        begun AS (
            INSERT INTO session (ix, node_id, person_type, person_id, group_id)
            SELECT %(ix)s, n.id, %(type)s, %(person)s, %(group)s FROM node n, others
            WHERE n.id = %(node)s AND (%(limit)s::bigint IS NULL OR others.live < %(limit)s)
            ON CONFLICT (ix) DO UPDATE
                SET ended_at = NULL, settled = false, node_id = excluded.node_id, group_id = excluded.group_id
            RETURNING ix)
        SELECT EXISTS (SELECT FROM begun), EXISTS (SELECT FROM node WHERE id = %(node)s)
        """,
        {
            "ix": session.ix,
            "type": int(session.role),
            "person": session.person_id,
            "group": session.group_id,
            "node": node_id,
            "limit": limit,
        },
    )
    [(begun, alive)] = rows
    if not alive:
        raise StorageError("this node was given up and has not come back yet")
    return bool(begun)


async def again(reader: Reader, node_id: int, sessions: Sequence[Session]) -> None:
    """A node that was given up is back: its open connections are sessions again."""
    await reader.fetch(
        "INSERT INTO session (ix, node_id, person_type, person_id, group_id)"
        " SELECT ix, %s, t, p, g FROM unnest(%s::text[], %s::smallint[], %s::bigint[], %s::bigint[]) AS s (ix, t, p, g)"
        " ON CONFLICT (ix) DO UPDATE SET ended_at = NULL, settled = false, node_id = excluded.node_id",
        (
            node_id,
            [s.ix for s in sessions],
            [int(s.role) for s in sessions],
            [s.person_id for s in sessions],
            [s.group_id for s in sessions],
        ),
    )


async def end(reader: Reader, ix: str) -> None:
    await reader.fetch("UPDATE session SET ended_at = now_ms() WHERE ix = %s AND ended_at IS NULL", (ix,))


# What one node of the cluster does for all.


async def elected(reader: Reader) -> bool:
    """Whether this transaction is the one that looks after the cluster in this round."""
    [(mine,)] = await reader.fetch("SELECT pg_try_advisory_xact_lock(2, 0)")
    return bool(mine)


async def give_up_dead(reader: Reader) -> list[tuple[int, int]]:
    """End the sessions of nodes whose lease is over; returns (group_id, admin_id) of the admins among them."""
    rows = await reader.fetch(
        "WITH dead AS (DELETE FROM node WHERE lease_until < now_ms() RETURNING id)"
        " UPDATE session SET ended_at = now_ms() FROM dead WHERE node_id = dead.id AND ended_at IS NULL"
        " RETURNING group_id, person_id, person_type"
    )
    return [(group_id, person_id) for group_id, person_id, role in rows if role == Role.ADMIN]


async def lost_admins(reader: Reader, grace: int) -> list[tuple[int, int]]:
    """(group_id, admin_id) of who has been without a connection for *grace* ms and still has guests or a suspension.

    After a restart of all nodes the time counts from there. A banned group is left as it is.
    """
    rows = await reader.fetch(
        """
        SELECT w.group_id, w.admin_id FROM (
            SELECT group_id, admin_id FROM conversation WHERE state = 'serving' AND NOT away
            UNION SELECT group_id, id FROM admin WHERE suspended) w
        WHERE NOT EXISTS (SELECT FROM session s WHERE s.person_type = 3 AND s.person_id = w.admin_id
                          AND (s.ended_at IS NULL OR s.ended_at > now_ms() - %(grace)s))
        AND (SELECT g.status = 'active' FROM service_group g WHERE g.id = w.group_id)
        AND NOT coalesce((SELECT min(n.started_at) FROM node n WHERE n.lease_until > now_ms())
                         > now_ms() - %(grace)s, false)
        """,
        {"grace": grace},
    )
    return [(group_id, admin_id) for group_id, admin_id in rows]


_IDLE = """
    c.state = 'serving'
    AND greatest(c.last_message_at, (SELECT s.started_at FROM service s
        WHERE s.conversation_id = c.id AND s.ended_at IS NULL)) < now_ms() - %(idle)s
    AND NOT coalesce((SELECT m.sender_type = 1
            AND m.seq >= (SELECT s.first_seq FROM service s WHERE s.conversation_id = c.id AND s.ended_at IS NULL)
        FROM message m WHERE m.conversation_id = c.id AND m.recalls IS NULL ORDER BY m.seq DESC LIMIT 1), false)
"""
# That nothing was written but recalls is asked of the row, too: while it is waited for, a message may come that the
# snapshot does not have.
_LEFT = """
    c.state = 'queued'
    AND EXISTS (SELECT FROM service s WHERE s.conversation_id = c.id AND s.ended_at IS NULL AND (
        c.last_seq < s.first_seq
        OR coalesce(c.last_message_at, 0) < s.started_at AND NOT EXISTS (SELECT FROM message m
            WHERE m.conversation_id = c.id AND m.seq >= s.first_seq AND m.recalls IS NULL)))
    AND NOT EXISTS (SELECT FROM session s WHERE s.person_type = 1 AND s.person_id = c.guest_id
                    AND s.group_id = c.group_id AND (s.ended_at IS NULL OR s.ended_at > now_ms() - %(leave)s))
    AND (SELECT s.started_at FROM service s WHERE s.conversation_id = c.id AND s.ended_at IS NULL)
        < now_ms() - %(leave)s
"""


async def finished(
    reader: Reader, *, idle: int | None, leave: int | None, among: tuple[int, Sequence[int]] | None = None
) -> list[tuple[int, int]]:
    """(group_id, conversation_id) of the services that end by themselves (2.3); a banned group is left as it is.

    :param idle: milliseconds of silence after which one that is served ends, unless the guest wrote last.
    :param leave: milliseconds off line after which a guest who has written nothing leaves the queue.
    :param among: (group_id, conversation_ids): look only at these, and lock them against messages.
    """
    found: list[tuple[int, int]] = []
    for milliseconds, name, condition in ((idle, "idle", _IDLE), (leave, "leave", _LEFT)):
        if milliseconds is None:
            continue
        params: dict[str, object] = {name: milliseconds}
        scope = ""
        if among is not None:
            params.update(group=among[0], ids=list(among[1]))
            scope = "AND c.group_id = %(group)s AND c.id = ANY(%(ids)s) FOR NO KEY UPDATE"
        rows = await reader.fetch(
            f"SELECT c.group_id, c.id FROM conversation c WHERE {condition}"
            f" AND (SELECT g.status = 'active' FROM service_group g WHERE g.id = c.group_id) {scope}",
            params,
        )
        found += [(group_id, conversation_id) for group_id, conversation_id in rows]
    return found


async def gone_guests(reader: Reader) -> list[tuple[int, int]]:
    """(group_id, gid) of guests who went off line just now, each once; only those without another session."""
    rows = await reader.fetch(
        f"""
        WITH moment AS MATERIALIZED (SELECT now_ms() - {OFFLINE_AFTER} AS at), told AS (
            UPDATE session SET settled = true FROM moment
            WHERE ended_at < moment.at AND NOT settled AND person_type = 1
            RETURNING person_id, group_id)
        SELECT DISTINCT t.group_id, t.person_id FROM told t, moment
        WHERE NOT EXISTS (SELECT FROM session s WHERE s.person_type = 1 AND s.person_id = t.person_id
                          AND s.group_id = t.group_id AND (s.ended_at IS NULL OR s.ended_at >= moment.at))
        """
    )
    return [(group_id, gid) for group_id, gid in rows]


async def forget_sessions(reader: Reader) -> None:
    """Delete sessions that nothing can be derived from any more."""
    await reader.fetch("DELETE FROM session WHERE ended_at < now_ms() - %s", (KEEP_SESSIONS,))


async def queued_groups(reader: Reader) -> list[int]:
    """Groups in which somebody waits: for the safety net."""
    rows = await reader.fetch("SELECT DISTINCT group_id FROM conversation WHERE state = 'queued'")
    return [group_id for (group_id,) in rows]
