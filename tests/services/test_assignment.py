"""Who serves whom, as committed, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg2
from twisted.internet.defer import gatherResults

from chatproto import errors
from chatproto.domain.events import Event, GroupChanged, ServiceChanged
from chatproto.domain.model import Handover, Principal, QueuePlace, Standing
from chatproto.errors import StorageError
from tests.worlds import WorldTestCase, age, draft, guest_draft, new_admin, new_group, run


class AssignmentTestCase(WorldTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.assignment = self.server.assignment

    def changes(self, events: Sequence[Event]) -> list[tuple[int, str, int | None, int | None, str]]:
        """(gid, state, admin_id, who served before, reason) of each change told, each as it stands in the database."""
        told = []
        for event in self.of_kind(events, ServiceChanged):
            entry = event.entry
            [row] = self.query("SELECT state, admin_id, reason, rev FROM conversation WHERE id = %s", entry.id)
            self.assertEqual((entry.state, entry.admin_id, entry.reason, entry.rev), row)
            self.assertEqual(event.standing.state, entry.state)
            self.assertEqual(entry.step_rev, entry.rev)
            told.append((entry.gid, entry.state, entry.admin_id, event.was_admin_id, entry.reason))
        return told

    def services(self, guest: Principal) -> list[tuple[Any, ...]]:
        """(admin_id, first_seq, last_seq, reason) of each service of the guest, going on: reason None."""
        return self.query(
            "SELECT admin_id, first_seq, last_seq, reason FROM service WHERE conversation_id = %s ORDER BY id",
            guest.conversation_id,
        )


class StartTests(AssignmentTestCase):
    async def test_queued(self) -> None:
        """With nobody there the guest waits, is told the place, and all admins that the queue changed."""
        guests = [await self.guest() for _ in range(2)]
        for place, guest in enumerate(guests, 1):
            standing, events = await self.assignment.start(guest)
            self.assertEqual(standing, Standing("queued", None, QueuePlace(place, place, 0)))
            self.assertEqual(self.changes(events), [(guest.person.id, "queued", None, None, "started")])
            group = GroupChanged(self.group, frozenset(), frozenset([guest.conversation_id or 0]), queue=True)
            self.assertEqual(self.of_kind(events, GroupChanged), [group])
        self.assertEqual(self.services(guests[0]), [(None, 1, None, None)])

    async def test_assigned(self) -> None:
        """With an admin there the guest is served at once; whoever gets the guest is shown the recent messages."""
        ann = await self.on_duty()
        guest = await self.guest()
        standing, events = await self.assignment.start(guest)
        self.assertEqual(standing, Standing("serving", ann.person, None))
        self.assertEqual(self.changes(events), [(guest.person.id, "serving", ann.person.id, None, "assigned")])
        [change] = self.of_kind(events, ServiceChanged)
        self.assertEqual(change.handover, Handover(None, ann.person.id, None, change.handover.at))
        self.assertEqual(change.recs, [])
        self.assertIn(ann.person.id, self.of_kind(events, GroupChanged)[0].admins)
        self.assertEqual(self.services(guest), [(ann.person.id, 1, None, None)])

    async def test_again(self) -> None:
        """Who waits or is served already is told the present state, and nothing changes."""
        guest = await self.customer()
        standing, events = await self.assignment.start(guest)
        self.assertEqual((standing.state, events), ("queued", []))
        self.assertEqual(len(self.services(guest)), 1)

    async def test_fewest_guests(self) -> None:
        """Guests go to who has the fewest, among equals to who has been without one for the longest."""
        ann, bob = await self.on_duty(), await self.on_duty("Bob")
        guests = [await self.customer("serving") for _ in range(4)]
        served = [self.state(guest)[1] for guest in guests]
        self.assertEqual(served, [ann.person.id, bob.person.id, ann.person.id, bob.person.id])
        for guest in guests:
            await self.assignment.end_by_guest(guest)
        self.assertEqual(self.state(await self.customer("serving"))[1], ann.person.id)

    async def test_known(self) -> None:
        """A guest goes to who served last, although a colleague has fewer guests."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        await self.assignment.end_by_guest(guest)
        await self.customer("serving")
        await self.on_duty("Bob")
        await self.assignment.start(guest)
        self.assertEqual(self.state(guest), ("serving", ann.person.id))

    async def test_banned_group(self) -> None:
        """In a banned group nobody starts anything."""
        guest = await self.guest()
        self.query("UPDATE service_group SET status = 'banned'")
        with self.assertRaises(errors.LoginAgain):
            await self.assignment.start(guest)
        self.assertEqual(self.state(guest), ("new", None))

    async def test_served_from_another_group(self) -> None:
        """Whose admin was moved to another group is told who that is, as long as nobody else serves."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        another = new_group(self.dsn, "another")

        async def move(transaction: Any) -> None:
            await transaction.fetch("UPDATE admin SET group_id = %s WHERE id = %s", (another, ann.person.id))

        await self.assignment.lose(self.group, ann.person.id, move)
        standing, events = await self.assignment.start(guest)
        self.assertEqual((standing, events), (Standing("serving", ann.person, None), []))
        self.assertEqual((await self.server.sessions.welcome(guest)).standing, standing)
        bob = await self.on_duty("Bob")
        _, standing, _ = await self.assignment.write_as_guest(guest, guest_draft(guest))
        self.assertEqual(standing, Standing("serving", bob.person, None))

    async def test_at_once(self) -> None:
        """Guests who start at once queue in some order, each with a place of its own."""
        guests = [await self.guest() for _ in range(8)]
        results = await gatherResults([run(self.assignment.start(guest)) for guest in guests])
        self.assertEqual(sorted(standing.queue.position for standing, _ in results), list(range(1, 9)))


class WriteTests(AssignmentTestCase):
    async def test_guest_starts_by_writing(self) -> None:
        """A message without a service starts one, in one transaction: the message belongs to it."""
        guest = await self.guest()
        outcome, standing, events = await self.assignment.write_as_guest(guest, guest_draft(guest))
        self.assertEqual((outcome.kind, outcome.seq, outcome.state), ("stored", 1, "queued"))
        self.assertEqual(standing.queue, QueuePlace(1, 1, 0))
        self.assertEqual(len(self.of_kind(events, ServiceChanged)), 1)
        self.assertEqual(self.services(guest), [(None, 1, None, None)])

    async def test_admin_takes_by_writing(self) -> None:
        """To write to a guest who waits takes the guest, also past one's capacity."""
        ann = self.admin(capacity=0)
        await self.server.admin_in(ann)
        guest, other = await self.customer(), await self.customer()
        outcome, events = await self.assignment.write_as_admin(ann, draft(ann, guest.person.id))
        self.assertEqual((outcome.kind, outcome.state, outcome.admin_id), ("stored", "serving", ann.person.id))
        self.assertEqual((self.state(guest), self.state(other)), (("serving", ann.person.id), ("queued", None)))
        [change] = self.of_kind(events, ServiceChanged)
        self.assertEqual(change.handover.to_aix, ann.person.id)

    async def test_only_delivers(self) -> None:
        """To write to a guest whose service has ended starts none; the answer does, with the writer first."""
        ann, bob = await self.on_duty(), await self.on_duty("Bob")
        guest = await self.guest()
        outcome, events = await self.assignment.write_as_admin(bob, draft(bob, guest.person.id))
        self.assertEqual((outcome.kind, outcome.state, events), ("stored", "new", []))
        self.assertEqual((self.services(guest), self.column(guest, "guest_unread")), ([], 1))
        await self.assignment.write_as_guest(guest, guest_draft(guest))
        self.assertEqual(self.state(guest), ("serving", bob.person.id))
        self.assertEqual(self.services(guest), [(bob.person.id, 2, None, None)])
        self.assertEqual(self.column(guest, "last_admin_id"), bob.person.id)
        self.assertNotEqual(ann, bob)

    async def test_served_by_another(self) -> None:
        """Nobody writes into a colleague's service; nothing is stored."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        bob = await self.on_duty("Bob")
        with self.assertRaises(errors.SendServedByAnother) as caught:
            await self.assignment.write_as_admin(bob, draft(bob, guest.person.id))
        self.assertEqual(caught.exception.data, {"admin_id": ann.person.id})
        self.assertEqual(self.bodies(guest), [])

    async def test_routed_anew(self) -> None:
        """A guest whose admin was lost is routed anew by writing, as if starting; the service goes on as another."""
        ann = self.admin()
        ix, _ = await self.server.admin_in(ann)
        guest = await self.customer("serving")
        await self.server.sessions.ended(ann, ix, for_good=True)
        self.assertEqual((self.state(guest), self.column(guest, "away")), (("serving", ann.person.id), True))
        bob = await self.on_duty("Bob")
        _, standing, events = await self.assignment.write_as_guest(guest, guest_draft(guest))
        self.assertEqual(standing.admin, bob.person)
        [change] = self.of_kind(events, ServiceChanged)
        self.assertEqual((change.was_admin_id, change.entry.admin_id), (ann.person.id, bob.person.id))
        self.assertFalse(self.column(guest, "away"))
        self.assertEqual(self.services(guest), [(bob.person.id, 1, None, None)])


class TakeTests(AssignmentTestCase):
    async def test_longest_waiting(self) -> None:
        """Without a gid the head of the queue is taken; a suspended admin may."""
        ann = await self.on_duty()
        await self.assignment.suspend(ann, True)
        guests = [await self.customer() for _ in range(2)]
        await self.server.say(guests[0], "hi")
        handed, events = await self.assignment.take(ann, None)
        self.assertEqual((handed.entry.gid, handed.handover.to_aix), (guests[0].person.id, ann.person.id))
        self.assertEqual([message.body for message in handed.recs], ['"hi"'])
        self.assertEqual(self.changes(events), [(guests[0].person.id, "serving", ann.person.id, None, "assigned")])
        self.assertEqual((await self.assignment.take(ann, guests[1].person.id))[0].entry.gid, guests[1].person.id)

    async def test_refused(self) -> None:
        """Nobody waits, another was quicker, or one is full: each is said, and nothing changes."""
        ann = await self.on_duty(capacity=1)
        with self.assertRaises(errors.NobodyWaits):
            await self.assignment.take(ann, None)
        mine = await self.customer("serving")
        waiting = await self.customer()
        with self.assertRaises(errors.TakenByAnother) as caught:
            await self.assignment.take(ann, mine.person.id)
        self.assertEqual(caught.exception.data, {"admin_id": ann.person.id})
        with self.assertRaises(errors.TakerFull):
            await self.assignment.take(ann, waiting.person.id)
        with self.assertRaises(errors.NobodyWaits):
            await self.assignment.take(ann, 10**12)
        self.assertEqual(self.state(waiting), ("queued", None))

    async def test_both_at_once(self) -> None:
        """Of two admins who take the same guest at once, one gets the guest and the other is told who."""
        guest = await self.customer()
        admins = [self.admin(name, capacity=1) for name in ("Ann", "Bob")]
        self.query("UPDATE admin SET suspended = true")
        for admin in admins:
            await self.server.admin_in(admin)
        other = await self.serve(name="other")

        async def taken(server: Any, admin: Principal) -> Any:
            try:
                return (await server.assignment.take(admin, guest.person.id))[0].handover.to_aix
            except errors.TakenByAnother as error:
                return error.data

        results = await gatherResults(
            [run(taken(server, admin)) for server, admin in zip((self.server, other), admins, strict=True)]
        )
        winner = self.state(guest)[1]
        self.assertIn(winner, results)
        self.assertIn({"admin_id": winner}, results)


class TransferTests(AssignmentTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.ann = await self.on_duty(capacity=1)
        self.lee = await self.customer("serving")
        self.bob = await self.on_duty("Bob", capacity=1)

    async def test_handed(self) -> None:
        """The guest has exactly one admin before and after; both get the same content, the free place is used."""
        await self.server.say(self.lee, "hi")
        self.query("UPDATE admin SET capacity = 0 WHERE id = %s", self.ann.person.id)
        waiting = await self.customer("serving")
        await self.assignment.end_by_guest(waiting)
        handed, events = await self.assignment.transfer(self.ann, self.lee.person.id, self.bob.person.id, "urgent")
        self.assertEqual(self.state(self.lee), ("serving", self.bob.person.id))
        self.assertEqual(
            (handed.handover.from_aix, handed.handover.to_aix, handed.handover.note),
            (self.ann.person.id, self.bob.person.id, "urgent"),
        )
        self.assertEqual([message.body for message in handed.recs], ['"hi"'])
        change = (self.lee.person.id, "serving", self.bob.person.id, self.ann.person.id, "transferred")
        self.assertEqual(self.changes(events), [change])
        [group] = self.of_kind(events, GroupChanged)
        self.assertEqual(group.admins, {self.ann.person.id, self.bob.person.id})
        self.assertEqual(
            self.query("SELECT from_admin_id, to_admin_id, note, at FROM transfer"),
            [(self.ann.person.id, self.bob.person.id, "urgent", handed.handover.at)],
        )
        self.assertEqual(self.services(self.lee), [(self.bob.person.id, 1, None, None)])

    async def test_drains(self) -> None:
        """Who waits gets the place that a transfer freed."""
        await self.assignment.suspend(self.bob, True)
        waiting = await self.customer()
        self.query("UPDATE admin SET suspended = false")
        await self.assignment.transfer(self.ann, self.lee.person.id, self.bob.person.id, None)
        self.assertEqual(self.state(waiting), ("serving", self.ann.person.id))

    async def test_refused(self) -> None:
        """Each reason is said by its own code, and the guest stays."""
        gid, bob = self.lee.person.id, self.bob.person.id
        off_line, stranger = self.admin("Cleo"), await self.customer("serving")
        cases = [
            (self.bob, gid, self.ann.person.id, errors.TransferNotYourGuest),
            (self.ann, 10**12, bob, errors.TransferNotYourGuest),
            (self.ann, gid, self.ann.person.id, errors.TransferNoSuchAdmin),
            (self.ann, gid, 10**12, errors.TransferNoSuchAdmin),
            (self.ann, gid, off_line.person.id, errors.TransferAdminOffline),
            (self.ann, gid, bob, errors.TransferAdminFull),
        ]
        for admin, guest, to, error in cases:
            with self.assertRaises(error):
                await self.assignment.transfer(admin, guest, to, None)
        await self.assignment.suspend(self.bob, True)
        with self.assertRaises(errors.TransferAdminSuspended):
            await self.assignment.transfer(self.ann, gid, bob, None)
        self.assertEqual(self.state(self.lee), ("serving", self.ann.person.id))
        self.assertEqual((self.state(stranger), self.query("SELECT * FROM transfer")), (("serving", bob), []))


class SuspendTests(AssignmentTestCase):
    async def test_suspend(self) -> None:
        """Who is suspended keeps the guests and is given none; resuming drains the queue."""
        ann = await self.on_duty()
        mine = await self.customer("serving")
        events = await self.assignment.suspend(ann, True)
        self.assertEqual(events, [GroupChanged(self.group, frozenset([ann.person.id]), queue=True)])
        waiting = await self.customer()
        self.assertEqual(self.state(mine), ("serving", ann.person.id))
        events = await self.assignment.suspend(ann, False)
        self.assertEqual(self.changes(events), [(waiting.person.id, "serving", ann.person.id, None, "assigned")])

    async def test_again(self) -> None:
        """To suspend or resume twice tells nobody anything."""
        ann = await self.on_duty()
        self.assertEqual(await self.assignment.suspend(ann, False), [])
        await self.assignment.suspend(ann, True)
        self.assertEqual(await self.assignment.suspend(ann, True), [])


class EndTests(AssignmentTestCase):
    async def test_by_guest(self) -> None:
        """A guest ends the service, or leaves the queue; then there is nothing to end."""
        ann = await self.on_duty(capacity=1)
        served, waiting, leaving = await self.customer("serving"), await self.customer(), await self.customer()
        ended_at, events = await self.assignment.end_by_guest(leaving)
        self.assertEqual(self.changes(events), [(leaving.person.id, "ended", None, None, "ended_by_guest")])
        self.assertEqual(self.column(leaving, "ended_at"), ended_at)
        _, events = await self.assignment.end_by_guest(served)
        self.assertEqual(
            sorted(self.changes(events)),
            [
                (served.person.id, "ended", None, ann.person.id, "ended_by_guest"),
                (waiting.person.id, "serving", ann.person.id, None, "assigned"),
            ],
        )
        for guest in (leaving, await self.guest()):
            with self.assertRaises(errors.NothingToEnd):
                await self.assignment.end_by_guest(guest)

    async def test_by_admin(self) -> None:
        """An admin ends the own services only; the figures know who, from where to where and why."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        bob = await self.on_duty("Bob")
        await self.server.say(guest)
        with self.assertRaises(errors.EndNotYourGuest):
            await self.assignment.end_by_admin(bob, guest.person.id)
        ended_at, events = await self.assignment.end_by_admin(ann, guest.person.id)
        self.assertEqual(self.changes(events), [(guest.person.id, "ended", None, ann.person.id, "ended_by_admin")])
        self.assertEqual(self.services(guest), [(ann.person.id, 1, 1, "ended_by_admin")])
        self.assertEqual(self.query("SELECT ended_at FROM service"), [(ended_at,)])
        with self.assertRaises(errors.EndNotYourGuest):
            await self.assignment.end_by_admin(ann, guest.person.id)

    async def test_end_time_stays(self) -> None:
        """What is written after the end does not move the end."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        await self.assignment.end_by_admin(ann, guest.person.id)
        age(self.dsn, 1000)
        before = self.column(guest, "ended_at")
        await self.server.answer(ann, guest)
        self.assertEqual((self.column(guest, "ended_at"), self.state(guest)), (before, ("ended", None)))

    async def test_without_being_asked(self) -> None:
        """Services may be ended by the server; what is open no more is left alone, and *first* may narrow it down."""
        guests = [await self.customer() for _ in range(3)]
        ids = [guest.conversation_id or 0 for guest in guests]
        await self.assignment.end_by_guest(guests[0])

        async def first(transaction: Any) -> list[int]:
            return ids[:2]

        events = await self.assignment.end(self.group, ids, "timeout", first)
        self.assertEqual(self.changes(events), [(guests[1].person.id, "ended", None, None, "timeout")])
        self.assertEqual([self.state(guest)[0] for guest in guests], ["ended", "ended", "queued"])
        await self.assignment.end(self.group, ids, "banned")
        self.assertEqual(self.column(guests[2], "reason"), "banned")


class LineTests(AssignmentTestCase):
    async def test_a_busy_group(self) -> None:
        """However many wait in one group, another group is served: they line up before they take a connection."""
        other = new_group(self.dsn, "another")
        ann = new_admin(self.dsn, other)
        await self.server.admin_in(ann)
        guest = await self.server.guest(other)
        guests = [await self.guest() for _ in range(10)]
        stranger = psycopg2.connect(self.dsn)
        self.addCleanup(stranger.close)
        stranger.cursor().execute("SELECT pg_advisory_xact_lock(1, %s)", (self.group,))
        waiting = [run(self.assignment.start(each)) for each in guests]
        standing, _ = await self.assignment.start(guest)
        self.assertEqual(standing.state, "serving")
        self.assertFalse(any(each.called for each in waiting))
        stranger.rollback()
        await gatherResults(waiting)

    async def test_after_a_failure(self) -> None:
        """A step that failed changes nothing, and the group goes on."""
        guest = await self.guest()

        async def first(transaction: Any) -> None:
            await transaction.fetch("UPDATE conversation SET context = 'lost'")
            await transaction.fetch("SELECT 1 / 0")

        with self.assertRaises(StorageError):
            await self.assignment.drain(self.group, first)
        self.assertEqual(self.column(guest, "context"), "{}")
        standing, _ = await self.assignment.start(guest)
        self.assertEqual(standing.state, "queued")
