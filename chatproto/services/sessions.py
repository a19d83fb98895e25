"""Logging in and out, for both sides; who may come in is looked up here at every login and refresh."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson
from twisted.logger import Logger

from chatproto import errors
from chatproto.domain.events import Event, Expelled, GroupChanged, GuestNoted, ServiceChanged, noted
from chatproto.domain.model import (
    ENDED,
    QUEUED,
    SERVING,
    Admin,
    Conversation,
    Handover,
    Message,
    Principal,
    Role,
    Standing,
    guest_topic,
)
from chatproto.domain.tokens import AdminClaims, GuestClaims
from chatproto.services.assignment import Assignment
from chatproto.services.presence import Node
from chatproto.storage import history, people, presence
from chatproto.storage.people import GuestRecord
from chatproto.storage.pool import Pool, Transaction
from chatproto.storage.presence import Session

log = Logger()

CHANGED_ACCOUNT = 4000
RECENT = 20
"""Messages in the reply to a guest's login."""
DESK = 100
"""Entries of a ``guest_list``, unless more are served."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What an admin sees after logging in: ``admin_list``, ``guest_list``, ``guests_more``."""

    admins: dict[int, Admin]
    guests: dict[int, Conversation]
    more: bool


@dataclass(frozen=True, slots=True)
class GuestLogin:
    """A guest who came in; *guest_token* is "" for customers."""

    principal: Principal
    guest_token: str
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a guest sees after logging in."""

    entry: Conversation
    standing: Standing
    recs: Sequence[Message]


class Sessions:
    """Who is logged in through this node.

    :param max_connections: of one guest or admin, on all nodes together.
    """

    def __init__(
        self, pool: Pool, assignment: Assignment, node: Node, *, anonymous_guests: bool, max_connections: int
    ) -> None:
        self._pool = pool
        self._assignment = assignment
        self._node = node
        self._anonymous_guests = anonymous_guests
        self._max_connections = max_connections
        self._owed: dict[str, tuple[Principal, bool]] = {}

    async def _begin(self, transaction: Transaction, session: Session) -> None:
        live = set(await presence.live(transaction, session.role, session.person_id)) - {session.ix}
        if len(live) >= self._max_connections:
            raise errors.TooManyConnections()
        await presence.begin(transaction, self._node.id, session)

    # Admins.

    async def admin_login(self, claims: AdminClaims, ix: str) -> tuple[Principal, list[Event]]:
        """31000.

        :raises ChatError: AdminBanned, AdminGroupBanned.
        :raises TooManyConnections: the connection ends.
        """
        principal = await self.admin(claims)
        session = Session(ix, Role.ADMIN, principal.person.id, principal.group_id)
        events = await self._assignment.arrive(
            principal.group_id, principal.person.id, lambda transaction: self._begin(transaction, session)
        )
        return principal, events

    async def admin(self, claims: AdminClaims) -> Principal:
        """Who the claims speak of, as of now: at every login and refresh."""
        record = await people.admin(self._pool, claims.admin_id)
        if record is None or record.banned:
            raise errors.AdminBanned()
        if record.group_banned:
            raise errors.AdminGroupBanned()
        return Principal(record.person, record.group_id, expires_at=claims.exp)

    async def desk(self, admin: Principal) -> Desk:
        """``admin_list`` and ``guest_list`` of 31000 and 32000."""
        admins = await people.admins(self._pool, admin.group_id)
        guests, more = await history.desk_list(self._pool, admin.group_id, admin.person.id, limit=DESK)
        return Desk(admins, guests, more)

    async def desk_page(self, admin: Principal, state: str, page_index: int) -> Desk:
        """32000 with ``state``."""
        admins = await people.admins(self._pool, admin.group_id)
        guests, more = await history.desk_page(
            self._pool, admin.group_id, admin.person.id, state, page_index, limit=DESK
        )
        return Desk(admins, guests, more)

    async def admins_online(self, admin: Principal) -> dict[int, Admin]:
        """33000."""
        found = await people.admins(self._pool, admin.group_id)
        return {aix: entry for aix, entry in found.items() if entry.status}

    # Guests.

    async def guest_login(
        self,
        claims: GuestClaims | None,
        guest_token: str | None,
        group_id: int | None,
        context: str | None,
        ix: str,
        current: Principal | None,
    ) -> GuestLogin:
        """21000 with the claims of a token, a guest_token, both, or neither.

        :param current: who the connection is logged in as: the login has to be by the same guest.
        :raises ChatError: as listed for 21000; NotPermitted for another identity.
        """
        group_id = await self._group(claims, group_id)
        anonymous = await people.guest_by_token(self._pool, guest_token) if guest_token else None
        if claims is None:
            self._same(current, group_id, anonymous)
            return await self._anonymous_login(anonymous, guest_token, group_id, context, ix)
        known = await people.guest_by_external_id(self._pool, claims.external_id)
        if anonymous is not None and known is not None and anonymous.person.id == known.person.id:
            # Another tab has logged in meanwhile: there is nothing to take along any more.
            anonymous = None
        self._same(current, group_id, known or anonymous)
        adopted: list[Event] = []
        if anonymous is not None and not anonymous.banned and not (known is not None and known.banned):
            adopted = await self._adopt(anonymous, known, claims.external_id, group_id, ix)
        profile = None if claims.profile is None else orjson.dumps(claims.profile).decode()

        async def work(transaction: Transaction) -> Principal:
            guest = await people.save_customer(transaction, claims.external_id, claims.name, claims.avatar, profile)
            return await self._come_in(transaction, guest, group_id, context, ix, claims.exp)

        principal = await self._pool.transaction(work)
        return GuestLogin(principal, "", [*adopted, *await self._noted(principal)])

    def _same(self, current: Principal | None, group_id: int, guest: GuestRecord | None) -> None:
        if current is None:
            return
        if guest is None or current.topic != guest_topic(group_id, guest.person.id):
            raise errors.NotPermitted()

    async def _anonymous_login(
        self, guest: GuestRecord | None, token: str | None, group_id: int, context: str | None, ix: str
    ) -> GuestLogin:
        if token and guest is None:
            raise errors.GuestTokenRevoked()
        if guest is None and not self._anonymous_guests:
            raise errors.AnonymousNotAllowed()
        token = token or secrets.token_urlsafe(32)

        async def work(transaction: Transaction) -> Principal:
            record = guest or await people.new_anonymous(transaction, token)
            return await self._come_in(transaction, record, group_id, context, ix, None)

        principal = await self._pool.transaction(work)
        return GuestLogin(principal, token, await self._noted(principal))

    async def _come_in(
        self,
        transaction: Transaction,
        guest: GuestRecord,
        group_id: int,
        context: str | None,
        ix: str,
        expires_at: int | None,
    ) -> Principal:
        if guest.banned:
            raise errors.GuestBanned()
        gid = guest.person.id
        conversation_id = await people.open_conversation(transaction, group_id, gid, context)
        await self._begin(transaction, Session(ix, Role.GUEST, gid, group_id))
        return Principal(guest.person, group_id, conversation_id, expires_at)

    async def _group(self, claims: GuestClaims | None, wanted: int | None) -> int:
        """The group that is opened: the token's, the one asked for, or the only one there is."""
        groups = await people.groups(self._pool)
        bound = claims.group_id if claims is not None else None
        if bound is not None and wanted is not None and bound != wanted:
            raise errors.GuestGroupBanned()
        group_id = bound or wanted
        if group_id is None:
            if len(groups) != 1:
                raise errors.GuestGroupBanned()
            [group_id] = groups
        if groups.get(group_id, True):
            raise errors.GuestGroupBanned()
        return group_id

    async def _adopt(
        self, anonymous: GuestRecord, known: GuestRecord | None, external_id: str, group_id: int, ix: str
    ) -> list[Event]:
        """An anonymous guest turned out to be a customer (2.2): the conversation goes along where it can."""
        gid = anonymous.person.id
        topics = [guest_topic(group, gid) for group in await people.groups_of_guest(self._pool, gid)]
        expelled = [Expelled(topic, CHANGED_ACCOUNT, "you are a customer now", but_not=ix) for topic in topics]
        if known is None:

            async def become(transaction: Transaction) -> None:
                await people.become_customer(transaction, gid, external_id)
                await people.revoke_tokens(transaction, gid)

            await self._pool.transaction(become)
            return list(expelled)
        theirs = await history.of_guest(self._pool, group_id, gid)
        events: list[Event] = []
        if theirs is not None:
            if await history.of_guest(self._pool, group_id, known.person.id) is None:
                events = await self._move(theirs, known)
            else:
                events = await self._assignment.end(group_id, [theirs.id], "ended_by_guest")
        await people.revoke_tokens(self._pool, gid)
        return [*events, *expelled]

    async def _move(self, theirs: Conversation, customer: GuestRecord) -> list[Event]:
        """Give a conversation to the customer; for the desk the old guest's ends and the customer's arrives."""

        async def first(transaction: Transaction) -> None:
            await people.move_conversation(transaction, theirs.id, customer.person.id)

        events = await self._assignment.drain(theirs.group_id, first)
        entry = (await history.by_ids(self._pool, [theirs.id]))[theirs.id]
        old = replace(theirs, state=ENDED, admin_id=None, queued_at=None, ended_at=entry.last_time)
        if theirs.admin_id is not None and entry.admin_id is not None:
            recs = await history.messages(self._pool, entry, newest=True, limit=RECENT)
            standing = await self._standing(entry)
            handover = Handover(None, entry.admin_id, None, entry.last_time)
            events += [
                GuestNoted(old, theirs.admin_id),
                ServiceChanged(entry, standing, None, recs, handover),
            ]
        elif theirs.state == QUEUED:
            events += [GuestNoted(old, None), GroupChanged(entry.group_id, conversations=frozenset([entry.id]))]
        return events

    async def _noted(self, guest: Principal) -> list[Event]:
        """Colleagues see that the guest is here, with another context, name or profile."""
        entry = await history.of_guest(self._pool, guest.group_id, guest.person.id)
        if entry is None:
            return []
        return noted(entry)

    async def welcome(self, guest: Principal) -> Welcome:
        """The rest of the reply to 21000."""
        entry = await history.of_guest(self._pool, guest.group_id, guest.person.id)
        if entry is None:
            raise errors.LoginAgain()
        recs = await history.messages(self._pool, entry, newest=True, limit=RECENT)
        return Welcome(entry, await self._standing(entry), recs)

    async def _standing(self, entry: Conversation) -> Standing:
        if entry.state == SERVING and entry.admin_id is not None:
            persons = await people.persons(self._pool, [entry.admin_id])
            return Standing(SERVING, persons.get(entry.admin_id), None)
        if entry.state == QUEUED:
            return Standing(QUEUED, None, await history.queue_place(self._pool, entry.group_id, entry.gid))
        return Standing(entry.state, None, None)

    async def guest(self, guest: Principal) -> None:
        """At a refresh: whether the guest may still be here.

        :raises LoginAgain: banned, or the group is.
        """
        record = await people.guest_by_id(self._pool, guest.person.id)
        if record is None or record.banned or (await people.groups(self._pool)).get(guest.group_id, True):
            raise errors.LoginAgain()

    # Leaving.

    async def ended(self, principal: Principal, ix: str, *, for_good: bool = False) -> list[Event]:
        """A connection is gone, or logged out (*for_good*). What the database cannot take now is owed."""
        try:
            return await self._end(principal, ix, for_good)
        except errors.StorageError:
            self._owed[ix] = (principal, for_good)
            return []

    async def _end(self, principal: Principal, ix: str, for_good: bool) -> list[Event]:
        if principal.person.role is Role.ADMIN:
            return await self._assignment.depart(principal, ix, for_good=for_good)
        await presence.end(self._pool, ix)
        return []

    async def settle_owed(self) -> list[Event]:
        """End the sessions that could not be ended while the database was away."""
        events: list[Event] = []
        for ix, (principal, for_good) in list(self._owed.items()):
            events += await self._end(principal, ix, for_good)
            del self._owed[ix]
        return events

    async def forget_anonymous(self, guest: Principal) -> list[Event]:
        """21020 of an anonymous guest: the token is revoked, the service ends, other tabs have to go."""

        async def first(transaction: Transaction) -> None:
            await people.revoke_tokens(transaction, guest.person.id)

        return await self._assignment.leave(guest, first)
