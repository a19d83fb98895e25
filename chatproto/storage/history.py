"""Conversations and their messages, read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from chatproto.domain.model import Conversation, Handover, Message, Person, QueuePlace, Role, Standing
from chatproto.storage.journal import shown_cmid
from chatproto.storage.prepared import Prepared


class Reader(Protocol):
    """A pool, or a transaction of one."""

    async def fetch(
        self, sql: str | Prepared, params: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]: ...


OFFLINE_AFTER = 10_000
"""Milliseconds after the last connection of a guest that colleagues still see the guest on line (2.4)."""

_MESSAGE = (
    "m.seq, m.sender_type, m.sender_id, m.created_at, m.file_type, m.cmid, m.body, m.recalls, m.recalled_by,"
    " a.name, a.avatar"
)

_COLUMNS = f"""
       c.id, c.rev, c.step_rev, c.group_id, c.guest_id, g.name, g.avatar, g.external_id,
       EXISTS (SELECT FROM session s WHERE s.person_type = 1 AND s.person_id = c.guest_id AND s.group_id = c.group_id
               AND (s.ended_at IS NULL OR s.ended_at > now_ms() - {OFFLINE_AFTER})),
       c.state, c.admin_id, c.last_admin_id, c.reason, c.last_seq, c.admin_read_seq, c.guest_read_seq, c.admin_unread,
       c.guest_unread, c.queued_at, c.ended_at, coalesce(c.last_message_at, c.created_at), g.profile, c.context,
       {_MESSAGE}
"""
_FROM = """
FROM conversation c JOIN guest g ON g.id = c.guest_id
LEFT JOIN LATERAL (
    SELECT * FROM message x WHERE x.conversation_id = c.id AND x.recalls IS NULL ORDER BY x.seq DESC LIMIT 1) m ON true
LEFT JOIN admin a ON m.sender_type = 3 AND a.id = m.sender_id
"""


_ENTRY = f"SELECT {_COLUMNS} {_FROM}"

_BY_IDS = Prepared(f"{_ENTRY} WHERE c.id = ANY(%s)")
_OF_GUEST = Prepared(f"{_ENTRY} WHERE c.group_id = %s AND c.guest_id = %s")
_MESSAGES = {
    newest: Prepared(
        f"""
        SELECT {_MESSAGE} FROM (
            SELECT * FROM message WHERE conversation_id = %s AND seq > %s AND seq < %s ORDER BY seq {order} LIMIT %s) m
        LEFT JOIN admin a ON m.sender_type = 3 AND a.id = m.sender_id ORDER BY m.seq {order}
        """
    )
    for newest, order in ((True, "DESC"), (False, "ASC"))
}
_PLACE = """
    SELECT ARRAY[
        count(*) FILTER (WHERE (w.queue_rank, w.queued_at, w.id) <= (c.queue_rank, c.queued_at, c.id)),
        count(*),
        (SELECT count(*) FROM admin a WHERE a.group_id = c.group_id AND a.status = 'active' AND EXISTS (
            SELECT FROM session s WHERE s.person_type = 3 AND s.person_id = a.id AND s.ended_at IS NULL))]
    FROM conversation w WHERE w.group_id = c.group_id AND w.state = 'queued'
"""
_QUEUE_PLACE = Prepared(
    f"SELECT ({_PLACE}) FROM conversation c WHERE c.group_id = %s AND c.guest_id = %s AND c.state = 'queued'"
)
_WELCOME = Prepared(
    f"""
    SELECT {_COLUMNS}, g.status = 'banned', s.name, s.avatar, CASE WHEN c.state = 'queued' THEN ({_PLACE}) END,
           (SELECT json_agg(json_build_array({_MESSAGE}) ORDER BY m.seq)::text
            FROM (SELECT * FROM message x WHERE x.conversation_id = c.id ORDER BY x.seq DESC LIMIT %(limit)s) m
            LEFT JOIN admin a ON m.sender_type = 3 AND a.id = m.sender_id)
    {_FROM}
    LEFT JOIN admin s ON c.state = 'serving' AND s.id = c.admin_id
    WHERE c.group_id = %(group)s AND c.guest_id = %(gid)s
    """
)


def _message(group_id: int, guest: Person, fields: Sequence[Any]) -> Message:
    seq, sender_type, sender_id, created_at, file_type, cmid, body, recalls, recalled_by, name, avatar = fields
    sender = guest if sender_type == Role.GUEST else Person(Role.ADMIN, sender_id, name or "", avatar or "")
    recalled = recalled_by is not None
    return Message(group_id, guest.id, seq, sender, body, file_type, shown_cmid(cmid), created_at, recalls, recalled)


def _conversation(row: Sequence[Any]) -> Conversation:
    id_, rev, step_rev, group_id, gid, name, avatar, external_id, online, *middle = row[:23]
    guest = Person(Role.GUEST, gid, name, avatar)
    last = _message(group_id, guest, row[23:34]) if row[23] is not None else None
    entry: tuple[Any, ...] = (id_, rev, step_rev, group_id, guest, external_id, online, *middle, last)
    return Conversation(*entry)


async def by_ids(reader: Reader, ids: Sequence[int]) -> dict[int, Conversation]:
    """The conversations with these ids."""
    if not ids:
        return {}
    rows = await reader.fetch(_BY_IDS, (list(ids),))
    return {row[0]: _conversation(row) for row in rows}


async def of_guest(reader: Reader, group_id: int, gid: int) -> Conversation | None:
    """The conversation of a guest with a group."""
    rows = await reader.fetch(_OF_GUEST, (group_id, gid))
    return _conversation(rows[0]) if rows else None


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a guest sees after logging in.

    :ivar banned: the guest, by now.
    """

    entry: Conversation
    standing: Standing
    recs: Sequence[Message]
    banned: bool


async def welcome(reader: Reader, group_id: int, gid: int, *, limit: int) -> Welcome | None:
    """The conversation of a guest with a group, where the guest stands, and the newest *limit* messages."""
    rows = await reader.fetch(_WELCOME, {"group": group_id, "gid": gid, "limit": limit})
    if not rows:
        return None
    [row] = rows
    banned, name, avatar, place, recs = row[34:]
    entry = _conversation(row)
    admin = Person(Role.ADMIN, entry.admin_id, name, avatar) if entry.admin_id is not None else None
    standing = Standing(entry.state, admin, QueuePlace(*place) if place else None)
    messages = [_message(group_id, entry.guest, fields) for fields in orjson.loads(recs or "[]")]
    return Welcome(entry, standing, messages, banned)


async def conversation_id(reader: Reader, group_id: int, gid: int) -> int | None:
    """Which conversation a guest has with a group."""
    rows = await reader.fetch("SELECT id FROM conversation WHERE group_id = %s AND guest_id = %s", (group_id, gid))
    return int(rows[0][0]) if rows else None


async def desk_list(
    reader: Reader, group_id: int, admin_id: int, *, limit: int
) -> tuple[dict[int, Conversation], bool]:
    """The ``guest_list`` of an admin, and whether there is more.

    All whom the admin serves, then the queue from its head, then the latest ended; up to *limit* unless more
    are served.
    """
    chosen = await reader.fetch(
        """
        (SELECT id, 0 AS part FROM conversation WHERE admin_id = %s AND group_id = %s AND state = 'serving')
        UNION ALL (SELECT id, 1 FROM conversation WHERE group_id = %s AND state = 'queued'
                   ORDER BY queue_rank, queued_at, id LIMIT %s)
        UNION ALL (SELECT id, 2 FROM conversation WHERE last_served_by = %s AND state = 'ended'
                   AND group_id = %s ORDER BY ended_at DESC LIMIT %s)
        """,
        (admin_id, group_id, group_id, limit + 1, admin_id, group_id, limit + 1),
    )
    served = sum(part == 0 for _, part in chosen)
    keep = max(limit, served)
    ordered = [id_ for id_, _ in sorted(chosen, key=lambda row: row[1])]
    return await by_ids(reader, ordered[:keep]), len(ordered) > keep


async def desk_page(
    reader: Reader, group_id: int, admin_id: int, state: str, page_index: int, *, limit: int
) -> tuple[dict[int, Conversation], bool]:
    """One page of the admin's own conversations in *state* (queued: the group's), the newest first."""
    whose = {
        "queued": ("group_id = %s", "queue_rank DESC, queued_at DESC, id DESC", [group_id]),
        "serving": (
            "admin_id = %s AND group_id = %s",
            "coalesce(last_message_at, created_at) DESC, id DESC",
            [admin_id, group_id],
        ),
        "ended": ("last_served_by = %s AND group_id = %s", "ended_at DESC, id DESC", [admin_id, group_id]),
    }
    where, order, params = whose[state]
    rows = await reader.fetch(
        f"SELECT id FROM conversation WHERE {where} AND state = '{state}' ORDER BY {order} LIMIT %s OFFSET %s",
        (*params, limit + 1, (page_index - 1) * limit),
    )
    ids = [row[0] for row in rows]
    return await by_ids(reader, ids[:limit]), len(ids) > limit


async def messages(
    reader: Reader,
    conversation: Conversation,
    *,
    after: int = 0,
    before: int | None = None,
    newest: bool,
    limit: int,
    max_bytes: int | None = None,
) -> list[Message]:
    """Messages with ``after < seq < before``, sorted by seq.

    :param newest: the end of the range that is nearest to *before*; else the one nearest to *after*.
    :param max_bytes: stop before the bodies grow past this, but never with nothing.
    """
    rows = await reader.fetch(
        _MESSAGES[newest], (conversation.id, after, before if before is not None else 2**62, limit)
    )
    kept: list[Message] = []
    size = 0
    for row in rows:
        message = _message(conversation.group_id, conversation.guest, row)
        size += len(message.body.encode())
        if max_bytes is not None and kept and size > max_bytes:
            break
        kept.append(message)
    return kept[::-1] if newest else kept


async def queue_order(reader: Reader, group_id: int) -> list[tuple[int, int, int]]:
    """(conversation_id, gid, queued_at) of who waits, the head first."""
    rows = await reader.fetch(
        "SELECT id, guest_id, queued_at FROM conversation WHERE group_id = %s AND state = 'queued'"
        " ORDER BY queue_rank, queued_at, id",
        (group_id,),
    )
    return [(conversation_id, gid, queued_at) for conversation_id, gid, queued_at in rows]


async def changed_revs(reader: Reader, revs: dict[int, int]) -> dict[int, int]:
    """Of conversations with these revs, those that have another one now."""
    rows = await reader.fetch(
        "SELECT c.id, c.rev FROM unnest(%s::bigint[], %s::bigint[]) AS known (id, rev)"
        " JOIN conversation c ON c.id = known.id WHERE c.rev <> known.rev",
        (list(revs), list(revs.values())),
    )
    return dict(rows)


async def served_by(reader: Reader, admin_ids: Sequence[int]) -> list[tuple[int, int]]:
    """(admin_id, conversation_id) of all whom these admins serve in their group."""
    rows = await reader.fetch(
        "SELECT c.admin_id, c.id FROM conversation c JOIN admin a ON a.id = c.admin_id AND a.group_id = c.group_id"
        " WHERE c.state = 'serving' AND c.admin_id = ANY(%s)",
        (list(admin_ids),),
    )
    return [(admin_id, conversation_id) for admin_id, conversation_id in rows]


async def last_transfers(reader: Reader, ids: Sequence[int]) -> dict[int, Handover]:
    """The newest transfer of each of these conversations that ever was transferred."""
    if not ids:
        return {}
    rows = await reader.fetch(
        "SELECT c.id, t.from_admin_id, t.to_admin_id, t.note, t.at FROM unnest(%s::bigint[]) AS c (id), LATERAL ("
        "SELECT * FROM transfer x WHERE x.conversation_id = c.id ORDER BY x.at DESC, x.id DESC LIMIT 1) t",
        (list(ids),),
    )
    return {id_: Handover(*fields) for id_, *fields in rows}


async def queue_place(reader: Reader, group_id: int, gid: int) -> QueuePlace | None:
    """Where a guest stands in the queue; None for who does not wait."""
    rows = await reader.fetch(_QUEUE_PLACE, (group_id, gid))
    return QueuePlace(*rows[0][0]) if rows else None


async def admins_online(reader: Reader, group_id: int) -> int:
    """How many admins of a group have a live session."""
    [(number,)] = await reader.fetch(
        "SELECT count(*) FROM admin a WHERE a.group_id = %s AND a.status = 'active' AND EXISTS ("
        "SELECT FROM session s WHERE s.person_type = 3 AND s.person_id = a.id AND s.ended_at IS NULL)",
        (group_id,),
    )
    return int(number)


async def now(reader: Reader) -> int:
    """The database's clock, in Unix milliseconds."""
    [(milliseconds,)] = await reader.fetch("SELECT now_ms()")
    return int(milliseconds)
