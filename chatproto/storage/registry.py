"""What the operator sees and changes: groups, admins, guests; and the news of a change for running daemons.

A change is told by NOTIFY in its own transaction (docs/architecture.md, *Control*). All of it is scoped by the shop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from chatproto.domain.model import OFFLINE, ONLINE, SUSPENDED
from chatproto.storage.history import Reader
from chatproto.storage.people import SHOP

CHANNEL = "chatproto"
"""The name that NOTIFY is sent to."""

DEFAULT_CAPACITY = 10

# An id has at most 19 digits, and a payload less than 8000 bytes (PostgreSQL manual, NOTIFY).
_MOST_TOLD = 300


@dataclass(frozen=True, slots=True)
class GroupRow:
    """:ivar admins: how many, banned ones not counted; *waiting* and *serving*: conversations."""

    id: int
    name: str
    banned: bool
    admins: int
    waiting: int
    serving: int


@dataclass(frozen=True, slots=True)
class AdminRow:
    """:ivar status: OFFLINE, ONLINE or SUSPENDED. :ivar guests: how many are served."""

    id: int
    name: str
    avatar: str
    group_id: int
    group_name: str
    group_banned: bool
    banned: bool
    status: int
    guests: int
    capacity: int
    has_password: bool


@dataclass(frozen=True, slots=True)
class ThreadRow:
    """A conversation of a guest. Times are Unix milliseconds."""

    conversation_id: int
    group_id: int
    group_name: str
    state: str
    admin_id: int | None
    last_seq: int
    unread: int
    last_time: int


@dataclass(frozen=True, slots=True)
class GuestRow:
    """:ivar profile: JSON text."""

    id: int
    external_id: str | None
    name: str
    avatar: str
    profile: str
    banned: bool
    online: bool
    created_at: int
    threads: Sequence[ThreadRow]


async def tell(reader: Reader, group_id: int | None, admin_ids: Sequence[int] = ()) -> None:
    """NOTIFY the daemons: ``{"group": id | null, "admins": [ids]}``.

    Guests may go from one admin of the group to another with any change, so all of the group are named, after
    *admin_ids* and up to the 300 that a payload has room for.
    """
    rows = await reader.fetch(
        "SELECT id FROM admin WHERE group_id = %s AND status = 'active' ORDER BY id LIMIT %s", (group_id, _MOST_TOLD)
    )
    admins = list(dict.fromkeys([*admin_ids, *(id_ for (id_,) in rows)]))[:_MOST_TOLD]
    payload = orjson.dumps({"group": group_id, "admins": admins}).decode()
    await reader.fetch("SELECT pg_notify(%s, %s)", (CHANNEL, payload))


# Groups.


async def groups(reader: Reader, only: int | None = None) -> list[GroupRow]:
    """All groups, or the one with this id, if there is one."""
    rows = await reader.fetch(
        """
        SELECT g.id, g.name, g.status = 'banned',
               (SELECT count(*) FROM admin a WHERE a.group_id = g.id AND a.status = 'active'),
               (SELECT count(*) FROM conversation c WHERE c.group_id = g.id AND c.state = 'queued'),
               (SELECT count(*) FROM admin a JOIN conversation c ON c.admin_id = a.id AND c.state = 'serving'
                WHERE c.group_id = g.id)
        FROM service_group g WHERE g.shop_id = %s AND (%s::bigint IS NULL OR g.id = %s) ORDER BY g.id
        """,
        (SHOP, only, only),
    )
    return [GroupRow(*row) for row in rows]


async def add_group(reader: Reader, name: str) -> int:
    [(group_id,)] = await reader.fetch(
        "INSERT INTO service_group (shop_id, name) VALUES (%s, %s) RETURNING id", (SHOP, name)
    )
    return int(group_id)


async def set_group_status(reader: Reader, group_id: int, status: str) -> None:
    await reader.fetch("UPDATE service_group SET status = %s WHERE id = %s", (status, group_id))


async def find_group(reader: Reader, name: str) -> int | None:
    """The oldest group of this name."""
    rows = await reader.fetch(
        "SELECT id FROM service_group WHERE shop_id = %s AND name = %s ORDER BY id LIMIT 1", (SHOP, name)
    )
    return int(rows[0][0]) if rows else None


# Admins.


async def admins(reader: Reader, *, group_id: int | None = None, only: int | None = None) -> list[AdminRow]:
    """All admins, those of a group, or the one with an id, if there is one; banned ones too."""
    rows = await reader.fetch(
        """
        SELECT a.id, a.name, a.avatar, a.group_id, g.name, g.status = 'banned', a.status = 'banned', a.suspended,
               EXISTS (SELECT FROM session s WHERE s.person_type = 3 AND s.person_id = a.id AND s.ended_at IS NULL),
               (SELECT count(*) FROM conversation c WHERE c.admin_id = a.id AND c.state = 'serving'),
               a.capacity, a.password_hash IS NOT NULL
        FROM admin a JOIN service_group g ON g.id = a.group_id
        WHERE g.shop_id = %s AND (%s::bigint IS NULL OR a.group_id = %s) AND (%s::bigint IS NULL OR a.id = %s)
        ORDER BY a.id
        """,
        (SHOP, group_id, group_id, only, only),
    )
    found = []
    for id_, name, avatar, of, group_name, group_banned, banned, suspended, connected, load, capacity, password in rows:
        status = OFFLINE if banned or not connected else SUSPENDED if suspended else ONLINE
        found.append(
            AdminRow(id_, name, avatar, of, group_name, group_banned, banned, status, load, capacity, password)
        )
    return found


async def add_admin(reader: Reader, group_id: int, name: str, avatar: str, capacity: int) -> int:
    [(admin_id,)] = await reader.fetch(
        "INSERT INTO admin (group_id, name, avatar, capacity) VALUES (%s, %s, %s, %s) RETURNING id",
        (group_id, name, avatar, capacity),
    )
    return int(admin_id)


async def find_admin(reader: Reader, group_id: int, name: str) -> int | None:
    """The oldest admin of this name in the group."""
    rows = await reader.fetch(
        "SELECT id FROM admin WHERE group_id = %s AND name = %s ORDER BY id LIMIT 1", (group_id, name)
    )
    return int(rows[0][0]) if rows else None


# Each of these is False where the admin is not, or no longer, in the group.


async def set_admin_status(reader: Reader, group_id: int, admin_id: int, status: str) -> bool:
    return bool(
        await reader.fetch(
            "UPDATE admin SET status = %s WHERE id = %s AND group_id = %s RETURNING id", (status, admin_id, group_id)
        )
    )


async def set_capacity(reader: Reader, group_id: int, admin_id: int, capacity: int) -> bool:
    return bool(
        await reader.fetch(
            "UPDATE admin SET capacity = %s WHERE id = %s AND group_id = %s RETURNING id",
            (capacity, admin_id, group_id),
        )
    )


async def move_admin(reader: Reader, group_id: int, admin_id: int, to_group_id: int) -> bool:
    """A suspension ends with the move."""
    return bool(
        await reader.fetch(
            "UPDATE admin SET group_id = %s, suspended = false WHERE id = %s AND group_id = %s RETURNING id",
            (to_group_id, admin_id, group_id),
        )
    )


async def set_password_hash(reader: Reader, group_id: int, admin_id: int, password_hash: str) -> bool:
    return bool(
        await reader.fetch(
            "UPDATE admin SET password_hash = %s WHERE id = %s AND group_id = %s RETURNING id",
            (password_hash, admin_id, group_id),
        )
    )


async def password_of(reader: Reader, name: str) -> tuple[int, str] | None:
    """(admin_id, PHC string) of who logs in by this name, or by the number where names repeat.

    :returns: None where that is nobody, or more than one, or is banned, or has no password.
    """
    rows = await reader.fetch(
        "SELECT a.id, a.password_hash FROM admin a JOIN service_group g ON g.id = a.group_id"
        " WHERE g.shop_id = %s AND a.status = 'active' AND g.status = 'active' AND a.password_hash IS NOT NULL"
        " AND (a.name = %s OR a.id::text = %s) LIMIT 2",
        (SHOP, name, name),
    )
    return (rows[0][0], rows[0][1]) if len(rows) == 1 else None


# Guests.


async def guest(reader: Reader, gid: int) -> GuestRow | None:
    rows = await reader.fetch(
        """
        SELECT p.id, p.external_id, p.name, p.avatar, p.profile, p.status = 'banned',
               EXISTS (SELECT FROM session s WHERE s.person_type = 1 AND s.person_id = p.id AND s.ended_at IS NULL),
               p.created_at
        FROM guest p WHERE p.id = %s AND p.shop_id = %s
        """,
        (gid, SHOP),
    )
    if not rows:
        return None
    [(id_, external_id, name, avatar, profile, banned, online, created_at)] = rows
    threads = await reader.fetch(
        """
        SELECT c.id, c.group_id, g.name, c.state, c.admin_id, c.last_seq, c.admin_unread,
               coalesce(c.last_message_at, c.created_at)
        FROM conversation c JOIN service_group g ON g.id = c.group_id WHERE c.guest_id = %s ORDER BY c.group_id
        """,
        (gid,),
    )
    conversations = [ThreadRow(*row) for row in threads]
    return GuestRow(id_, external_id, name, avatar, profile, banned, online, created_at, conversations)


async def set_guest_status(reader: Reader, gid: int, status: str) -> None:
    await reader.fetch("UPDATE guest SET status = %s WHERE id = %s", (status, gid))


# The database itself.


async def server(reader: Reader) -> tuple[int, float, bool]:
    """The server's version (180006), its clock (Unix seconds), and whether it keeps what it has acknowledged."""
    [(version, clock, safe)] = await reader.fetch(
        "SELECT current_setting('server_version_num')::integer, extract(epoch FROM clock_timestamp())::float8,"
        " current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off'"
    )
    return version, clock, safe


async def schema_version(reader: Reader) -> int:
    """Of the database; 0 for an empty one."""
    [(there,)] = await reader.fetch("SELECT to_regclass('schema_version') IS NOT NULL")
    if not there:
        return 0
    [(version,)] = await reader.fetch("SELECT coalesce(max(version), 0) FROM schema_version")
    return int(version)


async def line_up(reader: Reader) -> None:
    """One at a time, until the transaction ends: for what is looked up and made where it is missing."""
    await reader.fetch("SELECT pg_advisory_xact_lock(0, 2)")
