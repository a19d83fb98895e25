"""Read marks: they move forward only, and the unread counts are exact."""

from __future__ import annotations

from typing import Any, cast

import psycopg2
from twisted.internet.defer import Deferred, gatherResults

from chatproto.domain.model import Principal
from chatproto.errors import StorageError
from chatproto.storage.marks import Marked
from tests.worlds import Server, WorldTestCase, new_group


class MarkTests(WorldTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.ann = await self.on_duty()
        self.lee = await self.customer("serving")
        for _ in range(3):
            await self.server.say(self.lee)
            await self.server.answer(self.ann, self.lee)

    def mark(
        self, who: Principal, seq: int | None, server: Server | None = None, gid: int | None = None
    ) -> Deferred[Marked]:
        marks = (server or self.server).marks
        return marks.mark(self.group, gid or self.lee.person.id, who.person.role, who.person.id, seq)

    async def test_everything(self) -> None:
        """Without a seq everything is read; the other side's count stays, the conversation has a new rev."""
        before = self.column(self.lee, "rev")
        marked = await self.mark(self.ann, None)
        self.assertEqual((marked.kind, marked.rev, marked.admin_id), ("moved", before + 1, self.ann.person.id))
        self.assertEqual((marked.admin_read_seq, marked.admin_unread), (6, 0))
        self.assertEqual((marked.guest_read_seq, marked.guest_unread), (0, 3))
        self.assertEqual(self.column(self.lee, "rev"), marked.rev)

    async def test_up_to(self) -> None:
        """Up to a seq only what the other side wrote up to there is read."""
        for seq, unread in ((1, 2), (2, 2), (3, 1)):
            self.assertEqual((await self.mark(self.ann, seq)).admin_unread, unread)
        for seq, unread in ((1, 3), (2, 2), (5, 1)):
            self.assertEqual((await self.mark(self.lee, seq)).guest_unread, unread)

    async def test_past_the_last(self) -> None:
        """A seq past the last message counts as the last: what comes later is unread."""
        marked = await self.mark(self.lee, 2**53 - 1)
        self.assertEqual((marked.kind, marked.guest_read_seq, marked.guest_unread), ("moved", 6, 0))
        await self.server.answer(self.ann, self.lee)
        self.assertEqual(self.column(self.lee, "guest_unread"), 1)

    async def test_never_back(self) -> None:
        """A mark that does not go further moves nothing, and says what stands."""
        first = await self.mark(self.ann, 4)
        for seq in (4, 2, 0):
            again = await self.mark(self.ann, seq)
            self.assertEqual((again.kind, again[1:]), ("same", first[1:]))

    async def test_nothing_to_read(self) -> None:
        """In a conversation without a message nothing moves."""
        guest = await self.guest()
        marked = await self.mark(guest, None, gid=guest.person.id)
        self.assertEqual((marked.kind, marked.guest_read_seq, marked.guest_unread), ("same", 0, 0))

    async def test_who_may(self) -> None:
        """Only who serves the guest marks as an admin; after the end, who served last."""
        bob = await self.on_duty("Bob")
        self.assertEqual((await self.mark(bob, None)).kind, "denied")
        self.assertEqual(self.column(self.lee, "admin_unread"), 3)
        await self.server.assignment.end_by_guest(self.lee)
        self.assertEqual((await self.mark(bob, None)).kind, "denied")
        marked = await self.mark(self.ann, None)
        self.assertEqual((marked.kind, marked.admin_id), ("moved", None))

    async def test_served_last(self) -> None:
        """After the end it is who served last that marks, not who wrote last: writing to the guest gives no right."""
        bob = await self.on_duty("Bob")
        await self.server.assignment.end_by_guest(self.lee)
        await self.server.answer(bob, self.lee)
        self.assertEqual((await self.mark(bob, None)).kind, "denied")
        self.assertEqual((await self.mark(self.ann, None)).kind, "moved")

    async def test_never_served(self) -> None:
        """Nobody has served a new guest: who wrote to such a one may not mark."""
        guest = await self.guest()
        await self.server.answer(self.ann, guest)
        self.assertEqual((await self.mark(self.ann, None, gid=guest.person.id)).kind, "denied")

    async def test_waiting_guest(self) -> None:
        """While a guest waits no admin may mark, the guest may."""
        await self.server.assignment.suspend(self.ann, True)
        guest = await self.customer()
        await self.server.say(guest)
        self.assertEqual((await self.mark(self.ann, None, gid=guest.person.id)).kind, "denied")
        self.assertEqual((await self.mark(guest, None, gid=guest.person.id)).kind, "moved")

    async def test_missing(self) -> None:
        """Nobody marks a guest of another group, or one who does not exist."""
        stranger = await self.server.guest(new_group(self.dsn, "another"))
        for gid in (stranger.person.id, 10**12):
            self.assertEqual((await self.mark(self.ann, None, gid=gid)).kind, "missing")

    async def test_one_batch(self) -> None:
        """Marks that come at once travel together; of one side's the furthest counts, the sides do not mix."""
        bob = await self.on_duty("Bob")
        before = self.column(self.lee, "rev")
        opener = self.mark(self.lee, 1)
        marked = await gatherResults(
            [
                opener,
                self.mark(self.ann, 1),
                self.mark(self.ann, 5),
                self.mark(self.lee, 4),
                self.mark(bob, 6),
                self.mark(self.ann, 0),
            ]
        )
        self.assertEqual([each.kind for each in marked[1:]], ["moved", "moved", "moved", "denied", "same"])
        self.assertEqual({(each.admin_read_seq, each.admin_unread) for each in marked[1:4]}, {(5, 0)})
        self.assertEqual({(each.guest_read_seq, each.guest_unread) for each in marked[1:4]}, {(4, 1)})
        self.assertEqual(self.column(self.lee, "rev"), before + 2)

    async def test_locked(self) -> None:
        """A mark of a conversation whose row is locked waits for it, while others go on."""
        other = await self.customer("serving")
        await self.server.say(other)
        stranger = psycopg2.connect(self.dsn)
        self.addCleanup(stranger.close)
        stranger.cursor().execute("SELECT FROM conversation WHERE id = %s FOR UPDATE", (self.lee.conversation_id,))
        waiting = self.mark(self.ann, None)
        self.assertEqual((await self.mark(self.ann, None, gid=other.person.id)).kind, "moved")
        self.assertNoResult(waiting)
        stranger.rollback()
        self.assertEqual((await waiting).kind, "moved")

    async def test_locked_too_long(self) -> None:
        """A mark whose row stays locked is given up in time, certainly not carried out."""
        server = await self.serve(name="hasty", timeout=0.3)
        stranger = psycopg2.connect(self.dsn)
        self.addCleanup(stranger.close)
        stranger.cursor().execute("SELECT FROM conversation WHERE id = %s FOR UPDATE", (self.lee.conversation_id,))
        with self.assertRaises(StorageError) as caught:
            await self.mark(self.ann, None, server)
        self.assertEqual((caught.exception.sqlstate, caught.exception.applied), ("55P03", False))
        stranger.rollback()
        self.assertEqual((await self.mark(self.ann, None, server)).kind, "moved")

    async def test_no_database(self) -> None:
        """Without a database the mark fails, for each who waits; and the next one is tried again."""
        server = await self.serve(name="cut off")
        await server.pool.close()
        for waiting in (self.mark(self.ann, None, server), self.mark(self.ann, 1, server)):
            self.assertIs(cast(Any, self.failureResultOf(waiting, StorageError)).value.applied, False)
