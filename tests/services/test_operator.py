"""The operator's changes: what each does at once, and what of it a running daemon is told."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from chatproto.demo import seed_demo
from chatproto.domain.events import ServiceChanged
from chatproto.domain.model import ENDED, QUEUED, SERVING, Conversation, Person, Principal, Role
from chatproto.services.assignment import Assignment
from chatproto.services.operator import Operator, Refused
from chatproto.storage import control as listening
from chatproto.storage import history, people, presence, registry
from chatproto.storage.assignment import AssignmentStore
from chatproto.storage.journal import Draft
from chatproto.storage.pool import Pool, Transaction
from chatproto.storage.presence import Session
from tests.database import DatabaseTestCase
from tests.worlds import new_conversation, new_customer

T = TypeVar("T")


class ControlTestCase(DatabaseTestCase):
    """A shop with the group 1, "Sales"."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.pool = Pool(self.dsn, clock=reactor, size=2)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.pool.close()))
        await self.pool.start()
        self.assignment = Assignment(AssignmentStore(self.pool, grace=45_000))
        self.control = Operator(self.pool, self.assignment)
        self.node = await presence.join(self.pool, "test")
        self.group, _ = await self.control.add_group("Sales")

    async def admin(self, name: str = "Wang", *, group: int | None = None, capacity: int = 10) -> int:
        """A new admin who is on line."""
        group_id = group or self.group
        admin_id, _ = await self.control.add_admin(group_id, name, capacity=capacity)
        session = Session(f"admin {admin_id}", Role.ADMIN, admin_id, group_id)

        async def first(transaction: Transaction) -> None:
            await presence.begin(transaction, self.node, session)

        await self.assignment.arrive(group_id, admin_id, first)
        return admin_id

    async def guest(self, external_id: str, *, group: int | None = None) -> Principal:
        """A customer who has started service."""
        group_id = group or self.group
        person = new_customer(self.dsn, external_id, external_id.title())
        guest = Principal(person, group_id, new_conversation(self.dsn, group_id, person.id))
        await self.assignment.start(guest)
        return guest

    async def asks(self, guest: Principal) -> None:
        """The guest writes, and has no answer."""
        draft = Draft(guest.group_id, guest.person.id, guest.person, 0, '"Hello?"', None)
        await self.assignment.write_as_guest(guest, draft)

    async def entry(self, guest: Principal) -> Conversation:
        found = await history.of_guest(self.pool, guest.group_id, guest.person.id)
        assert found is not None
        return found

    async def refused(self, asked: Awaitable[Any]) -> str:
        with self.assertRaises(Refused) as caught:
            await asked
        return str(caught.exception)

    async def ears(self) -> Ears:
        ears = Ears(self.dsn)
        self.addCleanup(lambda: Deferred.fromCoroutine(ears.listener.close()))
        await ears.listener.start()
        return ears


class Ears:
    """A daemon's ears: what was told, in order."""

    def __init__(self, dsn: str) -> None:
        self._told: list[dict[str, Any]] = []
        self._awaited: tuple[int, Deferred[list[dict[str, Any]]]] | None = None
        self.listener = listening.Control(dsn, reactor, registry.CHANNEL, self._hear, lambda: None)

    def next(self, count: int) -> Deferred[list[dict[str, Any]]]:
        """The next *count* notices."""
        answer: Deferred[list[dict[str, Any]]] = Deferred()
        self._awaited = (count, answer)
        self._serve()
        return answer

    def _hear(self, payload: str) -> None:
        self._told.append(json.loads(payload))
        self._serve()

    def _serve(self) -> None:
        if self._awaited and len(self._told) >= self._awaited[0]:
            count, answer = self._awaited
            self._awaited = None
            found, self._told = self._told[:count], self._told[count:]
            answer.callback(found)


class GroupTests(ControlTestCase):
    async def test_list(self) -> None:
        """The list shows each group with how many work there, wait and are served."""
        await self.admin(capacity=1)
        await self.guest("ann")
        await self.guest("ben")
        empty, _ = await self.control.add_group("客服二组")
        rows = [
            (row.id, row.name, row.banned, row.admins, row.waiting, row.serving) for row in await self.control.groups()
        ]
        self.assertEqual([(self.group, "Sales", False, 1, 1, 1), (empty, "客服二组", False, 0, 0, 0)], rows)

    async def test_ban(self) -> None:
        """A group that is banned lets nobody in, and keeps who serves whom."""
        admin_id = await self.admin(capacity=1)
        served, waiting = await self.guest("ann"), await self.guest("ben")
        row, events = await self.control.ban_group(self.group)
        self.assertTrue(row.banned)
        self.assertEqual([], events)
        self.assertEqual({self.group: True}, await people.groups(self.pool))
        self.assertEqual(admin_id, (await self.entry(served)).admin_id)
        self.assertEqual(QUEUED, (await self.entry(waiting)).state)

    async def test_unban(self) -> None:
        """Who has waited through the ban gets whoever can take."""
        guest = await self.guest("ann")
        await self.control.ban_group(self.group)
        admin_id, _ = await self.control.add_admin(self.group, "Wang")
        await presence.begin(self.pool, self.node, Session("ix", Role.ADMIN, admin_id, self.group))
        row, events = await self.control.unban_group(self.group)
        self.assertFalse(row.banned)
        self.assertEqual((SERVING, admin_id), ((await self.entry(guest)).state, (await self.entry(guest)).admin_id))
        self.assertEqual([guest.conversation_id], [one.entry.id for one in events if isinstance(one, ServiceChanged)])

    async def test_unknown(self) -> None:
        """A wrong number is said, and changes nothing."""
        for asked in (
            self.control.ban_group(99),
            self.control.unban_group(99),
            self.control.add_admin(99, "Wang"),
            self.control.admins(99),
        ):
            self.assertEqual("there is no group 99", await self.refused(asked))
        self.assertEqual([], await self.control.admins())


class AdminTests(ControlTestCase):
    async def test_add(self) -> None:
        """A new admin is off line, serves nobody and has no password."""
        admin_id, _ = await self.control.add_admin(self.group, "小王", avatar="https://x/a.png", capacity=3)
        [row] = await self.control.admins(self.group)
        self.assertEqual(
            (admin_id, "小王", "https://x/a.png", self.group, "Sales"),
            (row.id, row.name, row.avatar, row.group_id, row.group_name),
        )
        self.assertEqual((0, 0, 3, False, False), (row.status, row.guests, row.capacity, row.banned, row.has_password))

    async def test_ban(self) -> None:
        """Whoever waits for an answer of a banned admin goes to a colleague at once; the others when they write."""
        banned = await self.admin("Wang")
        asking, quiet = await self.guest("ann"), await self.guest("ben")
        await self.asks(asking)
        colleague = await self.admin("Li")
        row, events = await self.control.ban_admin(banned)
        self.assertTrue(row.banned)
        self.assertEqual(1, row.guests)
        self.assertEqual(colleague, (await self.entry(asking)).admin_id)
        self.assertEqual(banned, (await self.entry(quiet)).admin_id)
        self.assertEqual([asking.conversation_id], [one.entry.id for one in events if isinstance(one, ServiceChanged)])
        await self.asks(quiet)
        self.assertEqual(colleague, (await self.entry(quiet)).admin_id)

    async def test_ban_without_colleague(self) -> None:
        """Where nobody else can take them, they wait at the head of the queue."""
        banned = await self.admin(capacity=1)
        guest = await self.guest("ann")
        await self.asks(guest)
        later = await self.guest("ben")
        await self.control.ban_admin(banned)
        order = await history.queue_order(self.pool, self.group)
        self.assertEqual([guest.person.id, later.person.id], [gid for _, gid, _ in order])
        self.assertEqual("admin_lost", (await self.entry(guest)).reason)

    async def test_unban(self) -> None:
        """An admin who is let in again, and is still connected, gets who waits."""
        admin_id = await self.admin()
        await self.control.ban_admin(admin_id)
        guest = await self.guest("ann")
        self.assertEqual(QUEUED, (await self.entry(guest)).state)
        row, _ = await self.control.unban_admin(admin_id)
        self.assertFalse(row.banned)
        self.assertEqual((1, admin_id), (row.guests, (await self.entry(guest)).admin_id))

    async def test_capacity(self) -> None:
        """More capacity serves the queue at once; less takes nobody away."""
        admin_id = await self.admin(capacity=1)
        guests = [await self.guest(name) for name in ("ann", "ben", "cay")]
        row, events = await self.control.set_capacity(admin_id, 2)
        self.assertEqual((2, 2), (row.capacity, row.guests))
        self.assertEqual(
            [guests[1].conversation_id], [one.entry.id for one in events if isinstance(one, ServiceChanged)]
        )
        row, events = await self.control.set_capacity(admin_id, 0)
        self.assertEqual((0, 2), (row.capacity, row.guests))
        self.assertEqual([], events)

    async def test_move(self) -> None:
        """Who moves leaves the guests to the group, and a suspension behind."""
        other, _ = await self.control.add_group("Support")
        admin_id = await self.admin("Wang")
        guest = await self.guest("ann")
        await self.asks(guest)
        me = Principal(Person(Role.ADMIN, admin_id, "Wang", ""), self.group)
        await self.assignment.suspend(me, True)
        row, events = await self.control.move_admin(admin_id, other)
        self.assertEqual((other, "Support"), (row.group_id, row.group_name))
        self.assertNotEqual("suspended", row.status)
        self.assertEqual((QUEUED, None), ((await self.entry(guest)).state, (await self.entry(guest)).admin_id))
        self.assertEqual([guest.conversation_id], [one.entry.id for one in events if isinstance(one, ServiceChanged)])
        self.assertEqual([], await self.control.admins(self.group))

    async def test_move_to_where_one_is(self) -> None:
        """A move to one's own group disturbs nobody."""
        admin_id = await self.admin()
        guest = await self.guest("ann")
        await self.asks(guest)
        row, events = await self.control.move_admin(admin_id, self.group)
        self.assertEqual((self.group, 1), (row.group_id, row.guests))
        self.assertEqual([], events)

    async def test_moves_at_once(self) -> None:
        """Of two operators who move the same admin both are obeyed, one after the other, and no guest is lost."""
        others = [(await self.control.add_group(name))[0] for name in ("Support", "Returns")]
        admin_id = await self.admin()
        guest = await self.guest("ann")
        await self.asks(guest)
        second = Operator(self.pool, Assignment(AssignmentStore(self.pool, grace=45_000)))
        await gatherResults(
            [
                Deferred.fromCoroutine(self.control.move_admin(admin_id, others[0])),
                Deferred.fromCoroutine(second.move_admin(admin_id, others[1])),
            ],
            consumeErrors=True,
        )
        self.assertIn((await self.control.admin(admin_id)).group_id, others)
        self.assertEqual(QUEUED, (await self.entry(guest)).state)

    async def test_password(self) -> None:
        """What the log-in by password will compare with is kept, and shown to nobody."""
        admin_id = await self.admin()
        row, _ = await self.control.set_password(admin_id, "$scrypt$…")
        self.assertTrue(row.has_password)
        self.assertNotIn("scrypt", repr(row))
        self.assertEqual((admin_id, "$scrypt$…"), await registry.password_of(self.pool, str(admin_id)))

    async def test_unknown(self) -> None:
        """A wrong number is said, and changes nothing."""
        for asked in (
            self.control.ban_admin(99),
            self.control.unban_admin(99),
            self.control.set_capacity(99, 1),
            self.control.move_admin(99, self.group),
            self.control.set_password(99, "x"),
            self.control.admin(99),
        ):
            self.assertEqual("there is no admin 99", await self.refused(asked))
        admin_id = await self.admin()
        self.assertEqual("there is no group 99", await self.refused(self.control.move_admin(admin_id, 99)))
        self.assertEqual(self.group, (await self.control.admin(admin_id)).group_id)


class GuestTests(ControlTestCase):
    async def test_ban(self) -> None:
        """A banned guest's services end in every group, and whoever waited next is served."""
        other, _ = await self.control.add_group("Support")
        admin_id = await self.admin(capacity=1)
        here, there = await self.guest("ann"), await self.guest("ann", group=other)
        next_one = await self.guest("ben")
        row, events = await self.control.ban_guest(here.person.id)
        self.assertTrue(row.banned)
        for principal in (here, there):
            entry = await self.entry(principal)
            self.assertEqual((ENDED, "banned"), (entry.state, entry.reason))
        self.assertEqual(admin_id, (await self.entry(next_one)).admin_id)
        changed = {one.entry.id for one in events if isinstance(one, ServiceChanged)}
        self.assertEqual({here.conversation_id, there.conversation_id, next_one.conversation_id}, changed)

    async def test_ban_without_conversation(self) -> None:
        """A guest who never opened a conversation can be banned too, and let in again."""
        gid = new_customer(self.dsn, "ann").id
        row, events = await self.control.ban_guest(gid)
        self.assertTrue(row.banned)
        self.assertEqual([], events)
        row, _ = await self.control.unban_guest(gid)
        self.assertFalse(row.banned)
        self.assertEqual(set(), await people.banned_guests(self.pool, [gid]))

    async def test_show(self) -> None:
        """The operator sees who a guest is and where the guest's conversations stand."""
        admin_id = await self.admin()
        guest = await self.guest("ann")
        await self.asks(guest)
        row = await self.control.guest(guest.person.id)
        self.assertEqual(
            ("ann", "Ann", "{}", False, False), (row.external_id, row.name, row.profile, row.banned, row.online)
        )
        [thread] = row.threads
        self.assertEqual(
            (self.group, "Sales", SERVING, admin_id),
            (thread.group_id, thread.group_name, thread.state, thread.admin_id),
        )
        self.assertEqual((1, 1), (thread.last_seq, thread.unread))

    async def test_unknown(self) -> None:
        """A wrong number is said."""
        for asked in (self.control.ban_guest(99), self.control.unban_guest(99), self.control.guest(99)):
            self.assertEqual("there is no guest 99", await self.refused(asked))


class NoticeTests(ControlTestCase):
    async def test_each_change_is_told(self) -> None:
        """Running daemons hear of every change, with the group, who changed first and then the colleagues."""
        one, two = await self.admin("Wang"), await self.admin("Li")
        other, _ = await self.control.add_group("Support")
        guest = await self.guest("ann")
        lonely = new_customer(self.dsn, "ben").id
        ears = await self.ears()
        here, both = self.group, [one, two]
        await self.control.set_capacity(two, 3)
        await self.control.set_password(two, "x")
        await self.control.ban_group(here)
        await self.control.unban_group(here)
        self.assertEqual(
            [
                {"group": here, "admins": [two, one]},
                {"group": here, "admins": [two, one]},
                {"group": here, "admins": both},
                {"group": here, "admins": both},
            ],
            await ears.next(4),
        )
        await self.control.ban_guest(guest.person.id)
        await self.control.ban_guest(lonely)
        await self.control.unban_guest(guest.person.id)
        nobody: dict[str, Any] = {"group": None, "admins": []}
        self.assertEqual([{"group": here, "admins": both}, nobody, nobody], await ears.next(3))
        await self.control.move_admin(two, other)
        await self.control.ban_admin(two)
        await self.control.unban_admin(two)
        three, _ = await self.control.add_admin(other, "Zhao")
        new, _ = await self.control.add_group("Returns")
        self.assertEqual(
            [
                {"group": here, "admins": [two, one]},
                {"group": other, "admins": [two]},
                {"group": other, "admins": [two]},
                {"group": other, "admins": [two]},
                {"group": other, "admins": [three, two]},
                {"group": new, "admins": []},
            ],
            await ears.next(6),
        )

    async def test_nothing_is_told_of_what_failed(self) -> None:
        """A change that could not be made disturbs no daemon."""
        admin_id = await self.admin()
        ears = await self.ears()
        await self.refused(self.control.ban_admin(99))
        await self.control.set_capacity(admin_id, 4)
        self.assertEqual([{"group": self.group, "admins": [admin_id]}], await ears.next(1))

    async def test_large_group(self) -> None:
        """A group with more admins than a notice has room for is told of all the same, who changed first."""
        await self.pool.fetch(
            "INSERT INTO admin (id, group_id, name)"
            " SELECT 9000000000000000000 + n, %s, 'x' FROM generate_series(1, 400) n",
            (self.group,),
        )
        ears = await self.ears()
        await self.control.set_capacity(9000000000000000400, 1)
        [told] = await ears.next(1)
        self.assertEqual(300, len(told["admins"]))
        self.assertEqual(9000000000000000400, told["admins"][0])


class DemoTests(ControlTestCase):
    async def test_found_again(self) -> None:
        """The demo of yesterday is there today, with the same people and not a second time."""
        first = await seed_demo(self.control)
        self.assertEqual(first, await seed_demo(self.control))
        rows = await self.control.admins(first.group_id)
        self.assertEqual(
            [(id_, name) for id_, name in zip(first.admin_ids, ("Alice", "Bob"), strict=True)],
            [(row.id, row.name) for row in rows],
        )
        self.assertEqual("Demo", (await self.control.group(first.group_id)).name)

    async def test_started_at_once(self) -> None:
        """Two processes that start the demo together serve the same one."""
        both = await gatherResults([Deferred.fromCoroutine(seed_demo(self.control)) for _ in range(2)])
        self.assertEqual(both[0], both[1])
        self.assertEqual(2, len(await self.control.admins(both[0].group_id)))
