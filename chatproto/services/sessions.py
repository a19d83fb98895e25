"""Logging in and out, for both sides; who may come in is looked up here at every login and refresh."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from twisted.logger import Logger

from chatproto import errors
from chatproto.domain.events import Event, Expelled
from chatproto.domain.model import (
    Admin,
    Conversation,
    Handover,
    Person,
    Principal,
    Role,
    guest_topic,
)
from chatproto.domain.tokens import AdminClaims, GuestClaims
from chatproto.services.adoption import Adoption
from chatproto.services.assignment import Assignment
from chatproto.services.presence import Node
from chatproto.storage import history, people, presence
from chatproto.storage.history import Welcome
from chatproto.storage.people import GuestRecord, Newcomer
from chatproto.storage.pool import GIVEN_UP, Pool, Transaction
from chatproto.storage.presence import Session

log = Logger()

REVOKED = 4001
RECENT = 20
"""Messages in the reply to a guest's login."""
DESK = 100
"""Entries of a ``guest_list``, unless more are served."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What an admin sees after logging in: ``admin_list``, ``guest_list``, ``guests_more``.

    :ivar handovers: conversation_id → how the guest came, of those whom a colleague transferred.
    """

    admins: dict[int, Admin]
    guests: dict[int, Conversation]
    more: bool
    handovers: Mapping[int, Handover] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GuestLogin:
    """A guest who came in; *guest_token* is "" for customers."""

    principal: Principal
    guest_token: str
    events: Sequence[Event]


class Sessions:
    """Who is logged in through this node.

    :param max_connections: of one guest or admin, on all nodes together.
    """

    def __init__(
        self, pool: Pool, assignment: Assignment, node: Node, *, anonymous_guests: bool, max_connections: int
    ) -> None:
        self._pool = pool
        self._assignment = assignment
        self._adoption = Adoption(pool, assignment)
        self._node = node
        self._anonymous_guests = anonymous_guests
        self._max_connections = max_connections
        self._owed: dict[str, tuple[Principal, bool]] = {}

    async def _begin(self, transaction: Transaction, session: Session, limit: int | None) -> None:
        if not await presence.begin(transaction, self._node.id, session, limit):
            raise errors.TooManyConnections()

    # Admins.

    async def admin_login(self, admin: Principal, ix: str) -> list[Event]:
        """31000: begin the session of whom :meth:`admin` found.

        :raises ChatError: AdminBanned, AdminGroupBanned.
        :raises TooManyConnections: the connection ends.
        """
        session = Session(ix, Role.ADMIN, admin.person.id, admin.group_id)

        async def first(transaction: Transaction) -> None:
            await self._begin(transaction, session, self._max_connections)

        return await self._assignment.arrive(admin.group_id, admin.person.id, first)

    async def admin(self, claims: AdminClaims) -> Principal:
        """Who the claims speak of, as of now: at every login and refresh.

        :raises ChatError: AdminBanned, AdminGroupBanned.
        """
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
        return Desk(admins, guests, more, await self._handovers(guests))

    async def desk_page(self, admin: Principal, state: str, page_index: int) -> Desk:
        """32000 with ``state``."""
        admins = await people.admins(self._pool, admin.group_id)
        guests, more = await history.desk_page(
            self._pool, admin.group_id, admin.person.id, state, page_index, limit=DESK
        )
        return Desk(admins, guests, more, await self._handovers(guests))

    async def _handovers(self, guests: dict[int, Conversation]) -> dict[int, Handover]:
        """Of those who were transferred to whoever serves them: mostly nobody was, and nothing is asked."""
        came = [id_ for id_, entry in guests.items() if entry.transferred]
        found = await history.last_transfers(self._pool, came)
        # Who was handed on between the two statements is told by a push.
        return {id_: handover for id_, handover in found.items() if handover.to_aix == guests[id_].admin_id}

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
        tell: Callable[[Sequence[Event]], None],
    ) -> GuestLogin:
        """21000 with the claims of a token, a guest_token, both, or neither.

        :param current: who the connection is logged in as: the login has to be by the same guest.
        :param tell: told what was done already when a later step fails.
        :raises ChatError: as listed for 21000; NotPermitted for another identity.
        """
        wanted = self._wanted(claims, group_id)
        if claims is None:
            return await self._anonymous_login(guest_token, wanted, context, ix, current)
        adopted: list[Event] = []
        if guest_token or current is not None:
            wanted = await self._group(wanted)
            anonymous = await people.guest_by_token(self._pool, guest_token) if guest_token else None
            known = await people.guest_by_external_id(self._pool, claims.external_id)
            if anonymous is not None and known is not None and anonymous.person.id == known.person.id:
                # Another tab has logged in meanwhile: there is nothing to take along any more.
                anonymous = None
            self._same(current, wanted, known or anonymous)
            if anonymous is not None and not anonymous.banned and not (known is not None and known.banned):
                adopted = await self._adoption.adopt(anonymous, known, claims.external_id, ix)
        customer = Newcomer(
            wanted,
            claims.external_id,
            name=claims.name,
            avatar=claims.avatar,
            profile=None if claims.profile is None else orjson.dumps(claims.profile).decode(),
            context=context,
        )
        try:
            # The tabs that an adoption closes still count here: whoever adopts comes in all the same.
            principal = await self._come_in(customer, ix, claims.exp, None if adopted else self._max_connections)
        except BaseException:
            tell(adopted)
            raise
        return GuestLogin(principal, "", adopted)

    async def known_guest(self, claims: GuestClaims | None, guest_token: str) -> Person:
        """The guest whom a token stands for, beside a connection: somebody who has logged in before.

        :raises ChatError: GuestTokenRevoked, GuestBanned, GuestGroupBanned.
        """
        if claims is None:
            guest = await people.guest_by_token(self._pool, guest_token)
        else:
            guest = await people.guest_by_external_id(self._pool, claims.external_id)
        if guest is None:
            raise errors.GuestTokenRevoked()
        if guest.banned:
            raise errors.GuestBanned()
        conversations = await people.conversations_of_guest(self._pool, guest.person.id)
        groups = await people.groups(self._pool, [id_ for id_, _ in conversations])
        open_groups = {id_ for id_, banned in groups.items() if not banned}
        bound = claims.group_id if claims is not None else None
        if not any(id_ in open_groups and bound in (None, id_) for id_, _ in conversations):
            raise errors.GuestGroupBanned()
        return guest.person

    def _same(self, current: Principal | None, group_id: int, guest: GuestRecord | None) -> None:
        if current is None:
            return
        if guest is None or current.topic != guest_topic(group_id, guest.person.id):
            raise errors.NotPermitted()

    async def _anonymous_login(
        self, token: str | None, wanted: int | None, context: str | None, ix: str, current: Principal | None
    ) -> GuestLogin:
        if current is not None:
            wanted = await self._group(wanted)
            self._same(current, wanted, await people.guest_by_token(self._pool, token) if token else None)
        if not token and not self._anonymous_guests:
            await self._group(wanted)
            raise errors.AnonymousNotAllowed()
        guest = Newcomer(wanted, token=token or secrets.token_urlsafe(32), anew=not token, context=context)
        principal = await self._come_in(guest, ix, None, self._max_connections)
        return GuestLogin(principal, guest.token, [])

    async def _come_in(self, guest: Newcomer, ix: str, expires_at: int | None, limit: int | None) -> Principal:
        try:
            came = await people.come_in(self._pool, guest, self._node.id, ix, limit)
        except errors.StorageError as error:
            if error.sqlstate not in GIVEN_UP:
                raise
            # Nothing is done, for the sake of another one.
            came = await people.come_in(self._pool, guest, self._node.id, ix, limit)
        group_id, person, conversation_id = came
        return Principal(person, group_id, conversation_id, expires_at)

    @staticmethod
    def _wanted(claims: GuestClaims | None, wanted: int | None) -> int | None:
        """The group of the token or of the request; None for the only one there is."""
        bound = claims.group_id if claims is not None else None
        if bound is not None and wanted is not None and bound != wanted:
            raise errors.GuestGroupBanned()
        return bound or wanted

    async def _group(self, group_id: int | None) -> int:
        """The group that is opened, if it may be."""
        if group_id is None:
            # Whether there is one, and one only.
            groups = await people.groups(self._pool, limit=2)
            if len(groups) != 1:
                raise errors.GuestGroupBanned()
            [group_id] = groups
        else:
            groups = await people.groups(self._pool, [group_id])
        if groups.get(group_id, True):
            raise errors.GuestGroupBanned()
        return group_id

    async def welcome(self, guest: Principal) -> Welcome:
        """The rest of the reply to 21000."""
        found = await history.welcome(self._pool, guest.group_id, guest.person.id, limit=RECENT)
        if found is None:
            raise errors.LoginAgain()
        if found.banned:
            # Between the login and now: who was told to go had not joined yet.
            raise errors.GuestBanned()
        return found

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

    async def forget_anonymous(self, guest: Principal, ix: str) -> list[Event]:
        """21020 of an anonymous guest: the token is revoked, all services end, other tabs have to go."""
        gid = guest.person.id
        await people.revoke_tokens(self._pool, gid)
        events: list[Event] = []
        for group_id, conversation_id in await people.conversations_of_guest(self._pool, gid):
            events += await self._assignment.end(group_id, [conversation_id], "ended_by_guest")
            events.append(Expelled(guest_topic(group_id, gid), REVOKED, "logged out", but_not=ix))
        return events
