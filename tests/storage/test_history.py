"""What is read back: entries, desk lists, messages, the queue."""

from __future__ import annotations

from chatproto.domain.model import Conversation, Known, Message, Person, Principal, QueuePlace, Role
from chatproto.storage import history, people
from tests.worlds import WorldTestCase, age, guest_draft, new_admin, new_group


class EntryTests(WorldTestCase):
    async def entry(self, guest: Principal) -> Conversation:
        assert guest.conversation_id is not None
        [entry] = (await history.by_ids(self.server.pool, [guest.conversation_id])).values()
        self.assertEqual(await history.of_guest(self.server.pool, self.group, guest.person.id), entry)
        return entry

    async def test_new(self) -> None:
        """A guest who only looked in has an empty conversation."""
        guest = await self.guest(context='{"page_url": "https://shop.example/1"}')
        entry = await self.entry(guest)
        self.assertEqual((entry.state, entry.admin_id, entry.last_seq, entry.last_message), ("new", None, 0, None))
        self.assertEqual((entry.gid, entry.guest, entry.external_id), (guest.person.id, guest.person, None))
        self.assertEqual((entry.profile, entry.context), ("{}", '{"page_url": "https://shop.example/1"}'))
        self.assertEqual(entry.last_time, self.column(guest, "created_at"))

    async def test_last_message(self) -> None:
        """The entry shows the newest message with its sender, and its time is the entry's."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        sent, _ = await self.server.say(guest, "hi", "a")
        entry = await self.entry(guest)
        self.assertEqual(entry.last_message, sent.message)
        self.assertEqual((entry.last_time, entry.rev), (sent.message.created_at, sent.events[0].rev))
        answered = await self.server.answer(ann, guest, "welcome")
        entry = await self.entry(guest)
        self.assertEqual(entry.last_message, answered.message)
        assert entry.last_message is not None
        self.assertEqual((entry.last_message.sender, entry.last_message.cmid), (ann.person, None))
        self.assertEqual((entry.admin_unread, entry.guest_unread), (1, 1))

    async def test_online(self) -> None:
        """A guest is seen on line until ten seconds after the last connection."""
        guest = await self.guest(ix="tab")
        self.assertTrue((await self.entry(guest)).online)
        await self.server.sessions.ended(guest, "tab")
        self.assertTrue((await self.entry(guest)).online)
        age(self.dsn, history.OFFLINE_AFTER)
        self.assertFalse((await self.entry(guest)).online)

    async def test_none(self) -> None:
        """Who is not there is not found."""
        self.assertEqual(await history.by_ids(self.server.pool, []), {})
        self.assertEqual(await history.by_ids(self.server.pool, [10**12]), {})
        self.assertIsNone(await history.of_guest(self.server.pool, self.group, 10**12))
        guest = await self.guest()
        self.assertIsNone(await history.of_guest(self.server.pool, new_group(self.dsn, "another"), guest.person.id))


class DeskTests(WorldTestCase):
    """``guest_list``: who is served, the queue from its head, the latest ended."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.ann = await self.on_duty(capacity=2)
        self.ended: list[Principal] = []
        for _ in range(4):
            guest = await self.customer("serving")
            await self.server.assignment.end_by_guest(guest)
            age(self.dsn, 1000)
            self.ended.append(guest)
        self.served = [await self.customer("serving") for _ in range(2)]
        self.queue = [await self.customer() for _ in range(3)]

    async def listed(self, limit: int, admin: Principal | None = None) -> tuple[set[int], bool]:
        admin = admin or self.ann
        found, more = await history.desk_list(self.server.pool, admin.group_id, admin.person.id, limit=limit)
        self.assertEqual(set(found), {entry.id for entry in found.values()})
        return {entry.gid for entry in found.values()}, more

    def gids(self, *guests: Principal) -> set[int]:
        return {guest.person.id for guest in guests}

    async def test_all(self) -> None:
        """Everybody is listed where there is room, and there is no more."""
        self.assertEqual(await self.listed(9), (self.gids(*self.served, *self.queue, *self.ended), False))

    async def test_cut(self) -> None:
        """Where there is less room, first the ended go, the oldest first, then the end of the queue."""
        newest = self.ended[-1]
        self.assertEqual(await self.listed(8), (self.gids(*self.served, *self.queue, *self.ended[1:]), True))
        self.assertEqual(await self.listed(6), (self.gids(*self.served, *self.queue, newest), True))
        self.assertEqual(await self.listed(4), (self.gids(*self.served, *self.queue[:2]), True))

    async def test_served_are_all_there(self) -> None:
        """All who are served are listed, whatever the limit."""
        self.assertEqual(await self.listed(1), (self.gids(*self.served), True))

    async def test_colleague(self) -> None:
        """A colleague sees the group's queue, not others' guests; another group nothing of it."""
        bob = self.admin("Bob")
        self.assertEqual(await self.listed(9, bob), (self.gids(*self.queue), False))
        another = new_admin(self.dsn, new_group(self.dsn, "another"))
        self.assertEqual(await self.listed(9, another), (set(), False))

    async def test_served_last(self) -> None:
        """An ended conversation stays in the list of who served last, also when a colleague writes to the guest."""
        bob = await self.on_duty("Bob", capacity=0)
        for guest in self.ended:
            await self.server.answer(bob, guest)
        self.assertEqual(await self.listed(9), (self.gids(*self.served, *self.queue, *self.ended), False))
        self.assertEqual(await self.paged("ended", 1, 9), (sorted(self.gids(*self.ended)), False))
        self.assertEqual(await self.listed(9, bob), (self.gids(*self.queue), False))
        self.assertEqual(await self.paged("ended", 1, 9, bob), ([], False))

    async def test_moved_admin(self) -> None:
        """An admin who was moved to another group sees no guest of the old one any more."""
        another = new_group(self.dsn, "another")

        async def move(transaction: object) -> None:
            self.query("UPDATE admin SET group_id = %s WHERE id = %s", another, self.ann.person.id)

        await self.server.assignment.lose(self.group, self.ann.person.id, move)
        moved = Principal(self.ann.person, another)
        self.assertEqual(await self.listed(9, moved), (set(), False))
        self.assertEqual(await self.paged("serving", 1, 9, moved), ([], False))
        self.assertEqual(await history.served_by(self.server.pool, [moved.person.id]), [])
        [entry] = (await people.admins(self.server.pool, another)).values()
        self.assertEqual(entry.guest_count, 0)

    async def paged(
        self, state: str, page_index: int, limit: int, admin: Principal | None = None
    ) -> tuple[list[int], bool]:
        admin = admin or self.ann
        found, more = await history.desk_page(
            self.server.pool, admin.group_id, admin.person.id, state, page_index, limit=limit
        )
        return sorted(entry.gid for entry in found.values()), more

    async def test_pages(self) -> None:
        """By pages everybody in a state is found once, the newest first."""
        for state, guests in (("queued", self.queue), ("serving", self.served), ("ended", self.ended)):
            newest = sorted(self.gids(*guests[-2:]))
            rest = sorted(self.gids(*guests[:-2]))
            self.assertEqual(await self.paged(state, 1, 2), (newest, bool(rest)), state)
            self.assertEqual(await self.paged(state, 2, 2), (rest, False), state)
            self.assertEqual(await self.paged(state, 3, 2), ([], False), state)


class MessageTests(WorldTestCase):
    """Ranges of a conversation with messages 1 to 12."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.lee = await self.customer()
        for n in range(1, 13):
            await self.server.journal.append(guest_draft(self.lee, f'"{"客" * 10}{n:04}"'))
        entry = await history.of_guest(self.server.pool, self.group, self.lee.person.id)
        assert entry is not None
        self.entry = entry

    async def seqs(self, **which: object) -> list[int]:
        found = await history.messages(self.server.pool, self.entry, **which)  # type: ignore[arg-type]
        return [message.seq for message in found]

    async def test_newest(self) -> None:
        """The newest, or those just before a seq, come in order of seq."""
        self.assertEqual(await self.seqs(newest=True, limit=3), [10, 11, 12])
        self.assertEqual(await self.seqs(newest=True, limit=3, before=5), [2, 3, 4])
        self.assertEqual(await self.seqs(newest=True, limit=3, before=2), [1])
        self.assertEqual(await self.seqs(newest=True, limit=3, before=1), [])
        self.assertEqual(await self.seqs(newest=True, limit=9, after=3, before=6), [4, 5])

    async def test_oldest(self) -> None:
        """Those just after a seq come in order of seq; past the last there are none."""
        self.assertEqual(await self.seqs(newest=False, limit=3), [1, 2, 3])
        self.assertEqual(await self.seqs(newest=False, limit=3, after=10), [11, 12])
        self.assertEqual(await self.seqs(newest=False, limit=3, after=12), [])

    async def test_bytes(self) -> None:
        """A page ends before its bodies (36 bytes of UTF-8 each) grow past a bound, but is never empty."""
        self.assertEqual(await self.seqs(newest=False, limit=9, max_bytes=108), [1, 2, 3])
        self.assertEqual(await self.seqs(newest=False, limit=9, max_bytes=107), [1, 2])
        self.assertEqual(await self.seqs(newest=True, limit=9, max_bytes=72), [11, 12])
        self.assertEqual(await self.seqs(newest=True, limit=9, max_bytes=1), [12])

    async def test_whole(self) -> None:
        """A message is read back with everything it was sent with."""
        outcome = await self.server.journal.append(guest_draft(self.lee, '{"url": "x"}', "客", file_type=5))
        [message] = await history.messages(self.server.pool, self.entry, newest=True, limit=1)
        gid = self.lee.person.id
        sender = Person(Role.GUEST, gid, "", "")
        self.assertEqual(message, Message(self.group, gid, 13, sender, '{"url": "x"}', 5, "客", outcome.created_at))


class QueueTests(WorldTestCase):
    async def test_places(self) -> None:
        """Everybody who waits has a place, from 1; who was put back stands before who is new."""
        guests = [await self.customer() for _ in range(3)]
        self.query("UPDATE conversation SET queue_rank = 0 WHERE id = %s", guests[2].conversation_id)
        bob = self.admin("Bob", capacity=0)
        await self.server.admin_in(bob)
        pool = self.server.pool
        places = [await history.queue_place(pool, self.group, guest.person.id) for guest in guests]
        self.assertEqual(places, [QueuePlace(2, 3, 1), QueuePlace(3, 3, 1), QueuePlace(1, 3, 1)])
        order = [gid for _, gid, _ in await history.queue_order(pool, self.group)]
        self.assertEqual(order, [guests[n].person.id for n in (2, 0, 1)])
        self.assertIsNone(await history.queue_place(pool, self.group, (await self.guest()).person.id))
        self.assertEqual(await history.queue_order(pool, new_group(self.dsn, "another")), [])

    async def test_admins_online(self) -> None:
        """Suspended admins count as on line; banned ones and those without a connection do not."""
        ann, bob = await self.on_duty(), await self.on_duty("Bob")
        self.admin("Off line")
        await self.server.assignment.suspend(bob, True)
        self.assertEqual(await history.admins_online(self.server.pool, self.group), 2)
        self.query("UPDATE admin SET status = 'banned' WHERE id = %s", ann.person.id)
        self.assertEqual(await history.admins_online(self.server.pool, self.group), 1)


class FollowingTests(WorldTestCase):
    async def test_changed_revs(self) -> None:
        """Of what somebody follows, exactly what moved since is named."""
        guests = [await self.customer() for _ in range(3)]
        known = {guest.conversation_id: Known(self.column(guest, "rev"), 0).rev for guest in guests}
        self.assertEqual(await history.changed_revs(self.server.pool, known), {})  # type: ignore[arg-type]
        await self.server.say(guests[1])
        changed = await history.changed_revs(self.server.pool, known)  # type: ignore[arg-type]
        self.assertEqual(changed, {guests[1].conversation_id: self.column(guests[1], "rev")})
        self.assertEqual(await history.changed_revs(self.server.pool, {}), {})

    async def test_served_by(self) -> None:
        """Whom admins serve is found for all of them at once."""
        ann, bob = await self.on_duty(), await self.on_duty("Bob")
        guests = [await self.customer("serving") for _ in range(3)]
        found = await history.served_by(self.server.pool, [ann.person.id, bob.person.id])
        self.assertEqual(sorted(found), sorted((self.state(guest)[1], guest.conversation_id) for guest in guests))
        self.assertEqual(await history.served_by(self.server.pool, []), [])

    async def test_last_transfers(self) -> None:
        """The newest transfer of each conversation is the one that counts; who never was handed on has none."""
        ann = await self.on_duty()
        guests = [await self.customer("serving") for _ in range(3)]
        ids = [guest.conversation_id for guest in guests]
        self.assertEqual(await history.last_transfers(self.server.pool, ids), {})  # type: ignore[arg-type]
        bob = await self.on_duty("Bob")
        gid = guests[0].person.id
        await self.server.assignment.transfer(ann, gid, bob.person.id, "speaks French")
        handed, _ = await self.server.assignment.transfer(bob, gid, ann.person.id, None)
        other, _ = await self.server.assignment.transfer(ann, guests[1].person.id, bob.person.id, "in a hurry")
        found = await history.last_transfers(self.server.pool, ids)  # type: ignore[arg-type]
        self.assertEqual(found, {ids[0]: handed.handover, ids[1]: other.handover})
        self.assertEqual(await history.last_transfers(self.server.pool, []), {})
