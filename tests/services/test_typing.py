"""Typing: who may, how often, and what it costs."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from chatproto import errors
from chatproto.domain.events import Typed
from chatproto.domain.model import Principal, Role
from chatproto.services import typing
from chatproto.services.typing import EVERY, Typing
from tests.worlds import WorldTestCase


class TypingTests(WorldTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.clock = Clock()
        self.followed: set[tuple[str, int | None]] = set()
        self.typing = Typing(self.server.pool, self.clock, lambda topic, id_: (topic, id_) in self.followed)
        self.ann, self.lee = self.admin(), await self.guest()
        self.serves(self.ann, self.lee)

    def serves(self, admin: Principal, guest: Principal) -> None:
        """As the hub knows it."""
        self.followed.add((admin.topic, guest.conversation_id))

    def hint(self, guest: Principal, role: Role, typing: bool = True) -> list[Any]:
        return [Typed(guest.conversation_id or 0, self.group, guest.person.id, role, typing)]

    async def test_both_sides(self) -> None:
        """Each side's hint names the conversation, and says whether somebody types."""
        self.assertEqual(self.typing.by_guest(self.lee, True), self.hint(self.lee, Role.GUEST))
        self.assertEqual(
            await self.typing.by_admin(self.ann, self.lee.person.id, False), self.hint(self.lee, Role.ADMIN, False)
        )

    async def test_once_a_second(self) -> None:
        """One hint a second is passed on, to the edge, and whatever it says."""
        self.assertEqual(len(self.typing.by_guest(self.lee, True)), 1)
        for step in (0, EVERY / 2, EVERY / 2 - 0.001):
            self.clock.advance(step)
            self.assertEqual(self.typing.by_guest(self.lee, False), [])
        self.clock.advance(0.001)
        self.assertEqual(self.typing.by_guest(self.lee, True), self.hint(self.lee, Role.GUEST))
        self.assertEqual(self.typing.by_guest(self.lee, True), [])

    async def test_each_for_itself(self) -> None:
        """Others who type, and the same admin in another conversation, have a second of their own."""
        mia = await self.guest()
        self.serves(self.ann, mia)
        self.assertEqual(len(self.typing.by_guest(self.lee, True)), 1)
        self.assertEqual(len(self.typing.by_guest(mia, True)), 1)
        for guest in (self.lee, mia):
            self.assertEqual(len(await self.typing.by_admin(self.ann, guest.person.id, True)), 1)
            self.assertEqual(len(await self.typing.by_admin(self.ann, guest.person.id, True)), 0)

    async def test_not_your_guest(self) -> None:
        """Whom somebody else serves, whom nobody serves, who is of another group or not there: always the same."""
        bob, mia = self.admin("Bob"), await self.guest()
        elsewhere = Principal(self.ann.person, self.group + 1)
        for admin, gid in ((bob, self.lee.person.id), (self.ann, mia.person.id), (self.ann, 2**40)):
            await self.refused(admin, gid)
        await self.refused(elsewhere, self.lee.person.id)

    async def refused(self, admin: Principal, gid: int) -> None:
        with self.assertRaises(errors.TypingNotYourGuest):
            await self.typing.by_admin(admin, gid, True)

    async def test_no_more(self) -> None:
        """From the moment that the guest has another admin, the former one is refused, in the same second too."""
        await self.typing.by_admin(self.ann, self.lee.person.id, True)
        self.followed.clear()
        await self.refused(self.ann, self.lee.person.id)

    async def test_without_the_database(self) -> None:
        """After the first time nothing is asked of the database."""
        await self.typing.by_admin(self.ann, self.lee.person.id, True)
        await self.server.pool.close()
        self.clock.advance(EVERY)
        self.assertEqual(len(await self.typing.by_admin(self.ann, self.lee.person.id, True)), 1)
        self.assertEqual(len(self.typing.by_guest(self.lee, True)), 1)

    async def test_bounded(self) -> None:
        """Not more guests are kept in mind than there is room for, those asked for last; nobody types for ever."""
        self.patch(typing, "REMEMBERED", 2)
        guests = [self.lee, *[await self.guest() for _ in range(2)]]
        for guest in guests:
            self.serves(self.ann, guest)
        for guest in (*guests[:2], guests[0], guests[2]):
            await self.typing.by_admin(self.ann, guest.person.id, True)
        self.assertEqual(
            list(self.typing._conversations), [(self.group, guests[0].person.id), (self.group, guests[2].person.id)]
        )
        self.assertEqual(len(self.typing._told), 3)
        self.clock.advance(EVERY)
        self.typing.by_guest(self.lee, True)
        self.assertEqual(len(self.typing._told), 1)
