"""Groups, admins and guests: who is who, and who may come in. Every look-up is scoped by the shop or the group."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chatproto import errors
from chatproto.domain.model import OFFLINE, ONLINE, SUSPENDED, Admin, Person, Role
from chatproto.storage.history import Reader
from chatproto.storage.prepared import Prepared

SHOP = 1
"""The only shop so far."""


@dataclass(frozen=True, slots=True)
class AdminRecord:
    """What a login has to know of an admin."""

    person: Person
    group_id: int
    banned: bool
    group_banned: bool


@dataclass(frozen=True, slots=True)
class GuestRecord:
    person: Person
    external_id: str | None
    banned: bool


async def admin(reader: Reader, admin_id: int) -> AdminRecord | None:
    rows = await reader.fetch(
        "SELECT a.name, a.avatar, a.group_id, a.status = 'banned', g.status = 'banned'"
        " FROM admin a JOIN service_group g ON g.id = a.group_id WHERE a.id = %s AND g.shop_id = %s",
        (admin_id, SHOP),
    )
    for name, avatar, group_id, banned, group_banned in rows:
        return AdminRecord(Person(Role.ADMIN, admin_id, name, avatar), group_id, banned, group_banned)
    return None


async def admins(reader: Reader, group_id: int, only: Sequence[int] | None = None) -> dict[int, Admin]:
    """The ``admin_list`` of a group, without those who are banned.

    With *only*, the entries of these admins, also of those who are banned or in another group by now: for the
    colleagues they are off line.
    """
    rows = await reader.fetch(
        """
        SELECT a.id, a.name, a.avatar, a.group_id, g.name, a.suspended, a.capacity,
               a.group_id = %s AND a.status = 'active' AND EXISTS (
                   SELECT FROM session s WHERE s.person_type = 3 AND s.person_id = a.id
                   AND s.group_id = a.group_id AND s.ended_at IS NULL),
               (SELECT count(*) FROM conversation c WHERE c.admin_id = a.id AND c.state = 'serving'
                AND c.group_id = a.group_id)
        FROM admin a JOIN service_group g ON g.id = a.group_id
        WHERE CASE WHEN %s THEN a.group_id = %s AND a.status = 'active' ELSE a.id = ANY(%s) END ORDER BY a.id
        """,
        (group_id, only is None, group_id, list(only or ())),
    )
    found = {}
    for id_, name, avatar, home_id, group_name, suspended, capacity, connected, load in rows:
        status = (SUSPENDED if suspended else ONLINE) if connected else OFFLINE
        found[id_] = Admin(Person(Role.ADMIN, id_, name, avatar), home_id, group_name, status, load, capacity)
    return found


_PERSONS = Prepared("SELECT id, name, avatar FROM admin WHERE id = ANY(%s)")


async def persons(reader: Reader, admin_ids: Sequence[int]) -> dict[int, Person]:
    """Admins as guests see them."""
    if not admin_ids:
        return {}
    rows = await reader.fetch(_PERSONS, (list(admin_ids),))
    return {id_: Person(Role.ADMIN, id_, name, avatar) for id_, name, avatar in rows}


async def groups(reader: Reader, only: Sequence[int] | None = None, *, limit: int | None = None) -> dict[int, bool]:
    """Group ids of the shop, and whether each is banned.

    :param only: look at these; a shop may have many.
    :param limit: not more than so many.
    """
    which = "" if only is None else "AND id = ANY(%(only)s)"
    rows = await reader.fetch(
        f"SELECT id, status = 'banned' FROM service_group WHERE shop_id = %(shop)s {which} LIMIT %(limit)s",
        {"shop": SHOP, "only": list(only or ()), "limit": limit},
    )
    return dict(rows)


def token_hash(token: str) -> bytes:
    """All that is stored of a guest_token."""
    return hashlib.sha256(token.encode()).digest()


def _guest(id_: int, name: str, avatar: str, external_id: str | None, banned: bool) -> GuestRecord:
    return GuestRecord(Person(Role.GUEST, id_, name, avatar), external_id, banned)


_GUEST = "id, name, avatar, external_id, status = 'banned'"


async def guest_by_token(reader: Reader, token: str) -> GuestRecord | None:
    """The anonymous guest whose guest_token this is; notes that it was used."""
    rows = await reader.fetch(
        "UPDATE guest_token t SET last_used_at = now_ms() FROM guest g"
        " WHERE t.hash = %s AND g.id = t.guest_id AND g.shop_id = %s"
        " RETURNING g.id, g.name, g.avatar, g.external_id, g.status = 'banned'",
        (token_hash(token), SHOP),
    )
    return _guest(*rows[0]) if rows else None


async def guest_by_external_id(reader: Reader, external_id: str) -> GuestRecord | None:
    rows = await reader.fetch(
        f"SELECT {_GUEST} FROM guest WHERE shop_id = %s AND external_id = %s", (SHOP, external_id)
    )
    return _guest(*rows[0]) if rows else None


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A guest who logs in; what is None stays as it is.

    :ivar group_id: which group, or None for the only one.
    :ivar external_id: of a customer; *token* is not looked at then.
    :ivar token: the guest_token of an anonymous guest; *anew*: who is made with it.
    :ivar profile: JSON text, as is *context*.
    """

    group_id: int | None
    external_id: str | None = None
    token: str = ""
    anew: bool = False
    name: str | None = None
    avatar: str | None = None
    profile: str | None = None
    context: str | None = None


_COME_IN = Prepared(
    "SELECT * FROM guest_comes_in(%(shop)s, %(home)s, %(external)s, %(token)s, %(anew)s, %(name)s, %(avatar)s,"
    " %(profile)s, %(context)s, %(ix)s, %(node)s, %(limit)s)"
)
_REFUSED: Mapping[str, type[errors.ChatError]] = {
    "group": errors.GuestGroupBanned,
    "revoked": errors.GuestTokenRevoked,
    "banned": errors.GuestBanned,
}


async def come_in(reader: Reader, guest: Newcomer, node_id: int, ix: str, limit: int | None) -> tuple[int, Person, int]:
    """Find or make the guest and the conversation, and begin the session *ix*, all at once.

    :param limit: sessions that the guest may have; None for any number.
    :returns: group_id, the guest, conversation_id.
    :raises ChatError: GuestGroupBanned, GuestTokenRevoked, GuestBanned: nothing is done.
    :raises TooManyConnections: the guest has *limit* other sessions.
    :raises StorageError: the node has lost its lease.
    """
    [(outcome, group_id, gid, name, avatar, conversation_id)] = await reader.fetch(
        _COME_IN,
        {
            "shop": SHOP,
            "home": guest.group_id,
            "external": guest.external_id,
            "token": token_hash(guest.token) if guest.external_id is None else None,
            "anew": guest.anew,
            "name": guest.name,
            "avatar": guest.avatar,
            "profile": guest.profile,
            "context": guest.context,
            "ix": ix,
            "node": node_id,
            "limit": limit,
        },
    )
    if outcome in _REFUSED:
        raise _REFUSED[outcome]()
    if outcome == "full":
        raise errors.TooManyConnections()
    if outcome == "dead":
        raise errors.StorageError("this node was given up and has not come back yet")
    return group_id, Person(Role.GUEST, gid, name, avatar), conversation_id


async def become_customer(reader: Reader, gid: int, external_id: str) -> bool:
    """An anonymous guest turns out to be a customer not known yet: same gid. False: is a customer by now.

    :raises StorageError: sqlstate 23505: the customer is known by now.
    """
    rows = await reader.fetch(
        "UPDATE guest SET external_id = %s WHERE id = %s AND external_id IS NULL RETURNING id", (external_id, gid)
    )
    return bool(rows)


async def revoke_tokens(reader: Reader, gid: int) -> None:
    await reader.fetch("DELETE FROM guest_token WHERE guest_id = %s", (gid,))


async def set_context(reader: Reader, conversation_id: int, context: str) -> None:
    await reader.fetch("UPDATE conversation SET context = %s WHERE id = %s", (context, conversation_id))


async def conversations_of_guest(reader: Reader, gid: int) -> list[tuple[int, int]]:
    """(group_id, conversation_id) of all that the guest has."""
    rows = await reader.fetch("SELECT group_id, id FROM conversation WHERE guest_id = %s ORDER BY id", (gid,))
    return [(group_id, conversation_id) for group_id, conversation_id in rows]


async def move_conversation(reader: Reader, conversation_id: int, gid: int) -> None:
    """Give a conversation, and what its guest wrote, to another guest of the same person."""
    await reader.fetch(
        "UPDATE conversation SET guest_id = %s, rev = rev + 1, step_rev = rev + 1 WHERE id = %s", (gid, conversation_id)
    )
    await reader.fetch(
        "UPDATE message SET sender_id = %s WHERE conversation_id = %s AND sender_type = 1", (gid, conversation_id)
    )


async def rate(reader: Reader, conversation_id: int, score: int, text: str | None, within: int) -> bool | None:
    """Rate the newest service in which an admin wrote, going on or ended less than *within* ms ago.

    :returns: None where there is none, False where it is rated already.
    """
    rows = await reader.fetch(
        """
        SELECT s.id, s.score IS NOT NULL FROM service s
        WHERE s.conversation_id = %s AND (s.ended_at IS NULL OR s.ended_at > now_ms() - %s)
        AND EXISTS (SELECT FROM message m WHERE m.conversation_id = s.conversation_id AND m.sender_type = 3
                    AND m.recalls IS NULL
                    AND m.seq BETWEEN s.first_seq AND coalesce(s.last_seq, 9223372036854775807))
        ORDER BY s.id DESC LIMIT 1
        """,
        (conversation_id, within),
    )
    for service_id, rated in rows:
        if rated:
            return False
        done = await reader.fetch(
            "UPDATE service SET score = %s, score_text = %s, rated_at = now_ms() WHERE id = %s AND score IS NULL"
            " RETURNING id",
            (score, text, service_id),
        )
        return bool(done)
    return None


async def admin_groups(reader: Reader, admin_ids: Sequence[int]) -> dict[int, int]:
    """The group of each of these admins that is not banned."""
    rows = await reader.fetch(
        "SELECT id, group_id FROM admin WHERE id = ANY(%s) AND status = 'active'", (list(admin_ids),)
    )
    return dict(rows)


async def banned_guests(reader: Reader, gids: Sequence[int]) -> set[int]:
    """Which of these guests are banned."""
    rows = await reader.fetch("SELECT id FROM guest WHERE id = ANY(%s) AND status = 'banned'", (list(gids),))
    return {gid for (gid,) in rows}
