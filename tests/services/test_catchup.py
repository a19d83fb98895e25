"""What somebody missed, read from the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from chatproto.domain.model import Handover, Principal, QueuePlace, Standing
from chatproto.services.catchup import RECENT, CatchUp, Snapshot
from chatproto.storage.link import Params, Rows
from chatproto.storage.pool import Pool
from tests.worlds import WorldTestCase, new_group


class Meanwhile:
    """The pool, and what somebody else does after the first statement."""

    def __init__(self, pool: Pool, work: Callable[[], Awaitable[object]]) -> None:
        self._pool = pool
        self._work: Callable[[], Awaitable[object]] | None = work

    async def fetch(self, sql: str, params: Params = ()) -> Rows:
        rows = await self._pool.fetch(sql, params)
        work, self._work = self._work, None
        if work is not None:
            await work()
        return rows


class CatchUpTestCase(WorldTestCase):
    catch_up: CatchUp

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.catch_up = self.server.catch_up


class SnapshotTests(CatchUpTestCase):
    async def snapshot(self, guest: Principal, after: int | None, limit: int = 200) -> Snapshot:
        assert guest.conversation_id is not None
        found = await self.catch_up.snapshot(guest.conversation_id, after, limit=limit)
        assert found is not None
        self.assertEqual(found.entry.rev, self.column(guest, "rev"))
        return found

    async def test_waiting(self) -> None:
        """Who waits is told the place, and what was written after the last known message."""
        await self.customer()
        guest = await self.customer()
        for n in range(4):
            await self.server.say(guest, f"{n}")
        found = await self.snapshot(guest, 2)
        self.assertEqual([message.seq for message in found.messages], [3, 4])
        self.assertEqual(found.standing, Standing("queued", None, QueuePlace(2, 2, 0)))
        self.assertIsNone(found.handover)
        self.assertEqual((await self.snapshot(guest, 4)).messages, [])

    async def test_limit(self) -> None:
        """Where more is missing than the limit, one more than that says so."""
        guest = await self.customer()
        for _ in range(5):
            await self.server.say(guest)
        for limit, expected in ((5, 5), (4, 5), (3, 4)):
            self.assertEqual(len((await self.snapshot(guest, 0, limit)).messages), expected)

    async def test_newest(self) -> None:
        """Who did not follow the conversation gets the newest messages."""
        guest = await self.customer()
        for _ in range(RECENT + 2):
            await self.server.say(guest)
        found = await self.snapshot(guest, None)
        self.assertEqual([message.seq for message in found.messages], list(range(3, RECENT + 3)))

    async def test_written_meanwhile(self) -> None:
        """What is written while somebody catches up comes as news afterwards, and so is not among what was missed."""
        guest = await self.customer()
        await self.server.say(guest)
        assert guest.conversation_id is not None
        for after in (0, None):
            pool = cast(Pool, Meanwhile(self.server.pool, lambda: self.server.say(guest)))
            found = await CatchUp(pool).snapshot(guest.conversation_id, after, limit=200)
            assert found is not None
            self.assertEqual([message.seq for message in found.messages][-1], found.entry.last_seq)
            self.assertEqual(self.column(guest, "last_seq"), found.entry.last_seq + 1)

    async def test_served(self) -> None:
        """Who serves, and how the guest came there: by assignment or by the newest transfer."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        found = await self.snapshot(guest, 0)
        self.assertEqual(found.standing, Standing("serving", ann.person, None))
        self.assertEqual(found.handover, Handover(None, ann.person.id, None, found.entry.last_time))
        bob = await self.on_duty("Bob")
        handed, _ = await self.server.assignment.transfer(ann, guest.person.id, bob.person.id, "urgent")
        found = await self.snapshot(guest, 0)
        self.assertEqual((found.standing.admin, found.handover), (bob.person, handed.handover))

    async def test_ended(self) -> None:
        """After the end nobody serves, and the reason of the last step is there."""
        guest = await self.customer()
        await self.server.assignment.end_by_guest(guest)
        found = await self.snapshot(guest, 0)
        self.assertEqual((found.standing, found.handover), (Standing("ended", None, None), None))
        self.assertEqual(found.entry.reason, "ended_by_guest")

    async def test_none(self) -> None:
        """What is not there is not found."""
        self.assertIsNone(await self.catch_up.snapshot(10**12, None, limit=9))


class MovedTests(CatchUpTestCase):
    async def test_moved(self) -> None:
        """Every message, change of state and read mark moves a conversation; an admin has the present guests."""
        ann = await self.on_duty()
        guests = [await self.customer("serving") for _ in range(4)]
        ids = [guest.conversation_id or 0 for guest in guests]
        revs = {id_: int(self.column(guest, "rev")) for id_, guest in zip(ids, guests, strict=True)}
        self.assertEqual(await self.catch_up.moved(revs, [ann.person.id]), (set(), {ann.person.id: set(ids)}))
        await self.server.answer(ann, guests[0])
        await self.server.messaging.read_as_guest(guests[0], None)
        await self.server.say(guests[1])
        await self.server.assignment.end_by_guest(guests[2])
        changed, served = await self.catch_up.moved(revs, [ann.person.id])
        self.assertEqual(changed, set(ids[:3]))
        self.assertEqual(served, {ann.person.id: {ids[0], ids[1], ids[3]}})
        before = {ids[0]: int(self.column(guests[0], "rev"))}
        await self.server.messaging.read_as_admin(ann, guests[0].person.id, None)
        self.assertEqual((await self.catch_up.moved(before, []))[0], {ids[0]})
        self.assertEqual(await self.catch_up.moved({}, []), (set(), {}))


class GroupTests(CatchUpTestCase):
    async def test_view(self) -> None:
        """The news of a group: what changed of conversations and admins, the whole queue, who is on line."""
        ann, bob = await self.on_duty(capacity=0), self.admin("Bob")
        first, second = await self.customer(), await self.customer()
        view = await self.catch_up.group(self.group, [second.conversation_id or 0], [bob.person.id], None)
        self.assertEqual([entry.gid for entry in view.conversations.values()], [second.person.id])
        self.assertEqual([admin.person for admin in view.admins.values()], [bob.person])
        expected = [(g.conversation_id, g.person.id, self.column(g, "queued_at")) for g in (first, second)]
        self.assertEqual(list(view.queue), expected)
        self.assertEqual(view.admins_online, 1)
        self.assertGreaterEqual(view.now, self.column(second, "queued_at"))
        empty = await self.catch_up.group(new_group(self.dsn, "another"), [], [], None)
        self.assertEqual((empty.conversations, empty.admins, list(empty.queue), empty.admins_online), ({}, {}, [], 0))
        self.assertNotEqual(ann, bob)

    async def test_queue_changed_elsewhere(self) -> None:
        """Whoever entered or left the queue since the last look is shown, although nothing was said of them."""
        stays, leaves = await self.customer(), await self.customer()
        before = [guest.conversation_id or 0 for guest in (stays, leaves)]
        self.assertEqual((await self.catch_up.group(self.group, [], [], before)).conversations, {})
        other = await self.serve(name="other")
        await other.assignment.end_by_guest(leaves)
        enters = await other.guest(self.group)
        await other.assignment.start(enters)
        view = await self.catch_up.group(self.group, [], [], before)
        states = {entry.gid: entry.state for entry in view.conversations.values()}
        self.assertEqual(states, {leaves.person.id: "ended", enters.person.id: "queued"})
        self.assertEqual([gid for _, gid, _ in view.queue], [stays.person.id, enters.person.id])
        marked = await self.catch_up.group(self.group, [stays.conversation_id or 0], [], before)
        self.assertEqual(set(marked.conversations), {*view.conversations, stays.conversation_id})
        self.assertEqual((await self.catch_up.group(self.group, [], [], None)).conversations, {})


class ExpelledTests(CatchUpTestCase):
    async def test_expelled(self) -> None:
        """Banned people and everybody of a banned group have to go, who was moved has to log in again; others stay."""
        ann, banned, moved = self.admin(), self.admin("Banned"), self.admin("Moved")
        guest, troll = await self.guest(), await self.guest()
        everybody = [ann, banned, moved, guest, troll]
        self.assertEqual(await self.catch_up.expelled(everybody), {})
        another = new_group(self.dsn, "another")
        self.query("UPDATE admin SET status = 'banned' WHERE id = %s", banned.person.id)
        self.query("UPDATE admin SET group_id = %s WHERE id = %s", another, moved.person.id)
        self.query("UPDATE guest SET status = 'banned' WHERE id = %s", troll.person.id)
        codes = {who: code for who, (code, _) in (await self.catch_up.expelled(everybody)).items()}
        self.assertEqual(codes, {banned: 4001, moved: 4000, troll: 4001})
        self.query("UPDATE service_group SET status = 'banned' WHERE id = %s", self.group)
        codes = {who: code for who, (code, _) in (await self.catch_up.expelled(everybody)).items()}
        self.assertEqual(set(codes), set(everybody))
        self.assertEqual({codes[ann], codes[guest]}, {4001})
        self.assertEqual(await self.catch_up.expelled([]), {})
