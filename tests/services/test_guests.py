"""What guests say about themselves and about the service."""

from __future__ import annotations

from chatproto import errors
from chatproto.domain.events import GroupChanged, GuestNoted
from chatproto.errors import StorageError
from chatproto.services.guests import RATE_WITHIN
from tests.worlds import WorldTestCase, age


class ContextTests(WorldTestCase):
    async def test_told(self) -> None:
        """Who serves sees where the guest is; of one who waits all admins do, of others nobody, until they come."""
        guest = await self.guest()
        context = self.server.guests.context
        self.assertEqual(await context(guest, '{"title":"a"}'), [])
        self.assertEqual(self.column(guest, "context"), '{"title":"a"}')
        await self.server.assignment.start(guest)
        waiting = GroupChanged(self.group, conversations=frozenset([guest.conversation_id or 0]))
        self.assertEqual(await context(guest, '{"title":"b"}'), [waiting])
        ann = await self.on_duty()
        [event] = self.of_kind(await context(guest, '{"title": "c"}'), GuestNoted)
        self.assertEqual((event.admin_id, event.entry.gid), (ann.person.id, guest.person.id))
        self.assertEqual(event.entry.context, '{"title": "c"}')
        await self.server.assignment.end_by_guest(guest)
        self.assertEqual(await context(guest, "{}"), [])

    async def test_not_read_back(self) -> None:
        """A context that is set is no failure because it cannot be read back: it shows with the next step."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        self.query("ALTER TABLE message RENAME TO gone")
        self.assertEqual(await self.server.guests.context(guest, '{"title":"a"}'), [])
        self.query("ALTER TABLE gone RENAME TO message")
        desk = await self.server.sessions.desk(ann)
        self.assertEqual([entry.context for entry in desk.guests.values()], ['{"title":"a"}'])

    async def test_not_set(self) -> None:
        """A context that could not be set is said to be so."""
        guest = await self.guest()
        await self.server.pool.close()
        with self.assertRaises(StorageError):
            await self.server.guests.context(guest, '{"title":"a"}')
        self.assertEqual(self.column(guest, "context"), "{}")


class RatingTests(WorldTestCase):
    async def test_rated(self) -> None:
        """A service in which an admin wrote is rated once, within a day of its end."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        rate = self.server.guests.rate
        with self.assertRaises(errors.NothingToRate):
            await rate(guest, 5, None)
        await self.server.answer(ann, guest)
        await rate(guest, 4, "quick")
        self.assertEqual(self.query("SELECT score, score_text FROM service"), [(4, "quick")])
        with self.assertRaises(errors.AlreadyRated):
            await rate(guest, 1, None)
        await self.server.assignment.end_by_guest(guest)
        age(self.dsn, RATE_WITHIN)
        with self.assertRaises(errors.NothingToRate):
            await rate(guest, 1, None)
