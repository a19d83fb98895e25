"""Messages: sent, repeated, read back, marked read."""

from __future__ import annotations

from typing import Any

import psycopg2
from twisted.internet.defer import gatherResults

from chatproto import errors
from chatproto.domain.events import GroupChanged, MessageStored, ReadMoved, ServiceChanged
from chatproto.domain.model import Message, QueuePlace, Standing
from chatproto.errors import StorageError
from chatproto.services.messaging import Messaging
from tests.worlds import TEXT, WorldTestCase, by_admin, by_guest, eventually, new_group, run


class MessagingTestCase(WorldTestCase):
    messaging: Messaging

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.messaging = self.server.messaging


class GuestSendTests(MessagingTestCase):
    async def test_served(self) -> None:
        """The admin who serves is told of the message; the event says what the row says."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        sent, standing = await by_guest(self.messaging, guest, "a", (TEXT, '"hi"'), "tab")
        self.assertEqual((sent.dup, standing.state), (False, "serving"))
        message = Message(self.group, guest.person.id, 1, guest.person, '"hi"', TEXT, "a", sent.message.created_at)
        self.assertEqual(sent.message, message)
        rev = self.column(guest, "rev")
        stored = MessageStored(guest.conversation_id or 0, rev, ann.person.id, message, 1, 0, "tab", guest.topic)
        self.assertEqual(list(sent.events), [stored])

    async def test_queued(self) -> None:
        """To a waiting guest the place is said, and all admins see the new message in the queue."""
        await self.customer()
        guest = await self.customer()
        sent, standing = await by_guest(self.messaging, guest, None, (TEXT, '"hi"'), "tab")
        self.assertEqual(standing, Standing("queued", None, QueuePlace(2, 2, 0)))
        [stored] = self.of_kind(sent.events, MessageStored)
        self.assertIsNone(stored.admin_id)
        self.assertIsNone(stored.message.cmid)
        [group] = self.of_kind(sent.events, GroupChanged)
        self.assertEqual(group.conversations, {guest.conversation_id})

    async def test_queued_without_a_place(self) -> None:
        """A message that stands is no failure because the place in the queue cannot be read; so it is for a repeat."""
        guest = await self.customer()
        server = await self.serve(name="hasty")
        await server.pool.close()
        for dup in (False, True):
            sent, standing = await server.say(guest, "hi", "a")
            self.assertEqual((sent.dup, sent.message.seq, standing), (dup, 1, Standing("queued", None, None)))
            self.assertEqual([type(event) for event in sent.events], [] if dup else [MessageStored, GroupChanged])
        self.assertEqual(self.bodies(guest), ['"hi"'])

    async def test_starts(self) -> None:
        """Messages without a service start one, once, and follow each other in order."""
        ann = await self.on_duty()
        guest = await self.guest()
        results = await gatherResults([self.server.say(guest, f"{n}") for n in range(5)])
        self.assertEqual([sent.message.seq for sent, _ in results], [1, 2, 3, 4, 5])
        self.assertEqual(self.bodies(guest), [f'"{n}"' for n in range(5)])
        self.assertEqual({standing.state for _, standing in results}, {"serving"})
        changes = [event for sent, _ in results for event in self.of_kind(sent.events, ServiceChanged)]
        self.assertEqual([change.entry.admin_id for change in changes], [ann.person.id])
        self.assertEqual(self.query("SELECT count(*) FROM service"), [(1,)])

    async def test_not_decided(self) -> None:
        """When the start fails the message is not stored, and the next one of the conversation is tried."""
        guest = await self.guest()
        self.query("UPDATE service_group SET status = 'banned'")
        refused = [run(self.refused(self.server.say(guest, f"{n}"))) for n in range(3)]
        self.assertEqual(await gatherResults(refused), [errors.LoginAgain] * 3)
        self.query("UPDATE service_group SET status = 'active'")
        sent, _ = await self.server.say(guest)
        self.assertEqual(sent.message.seq, 1)

    async def refused(self, waiting: Any) -> type[Exception]:
        try:
            await waiting
        except Exception as error:
            return type(error)
        raise AssertionError("it was sent")

    async def test_banned(self) -> None:
        """A banned guest has to log in again, and starts nothing."""
        guest = await self.guest()
        self.query("UPDATE guest SET status = 'banned'")
        with self.assertRaises(errors.LoginAgain):
            await self.server.say(guest)
        self.assertEqual(self.state(guest), ("new", None))


class AdminSendTests(MessagingTestCase):
    async def test_to_own_guest(self) -> None:
        """The guest's unread count comes with the event."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        await self.server.answer(ann, guest)
        sent = await self.server.answer(ann, guest)
        [stored] = sent.events
        self.assertEqual((stored.guest_unread, stored.admin_unread, stored.message.sender), (2, 0, ann.person))

    async def test_takes(self) -> None:
        """To write to a guest who waits takes the guest; both are told, the change before the message."""
        ann = self.admin(capacity=0)
        await self.server.admin_in(ann)
        guest = await self.customer()
        sent = await self.server.answer(ann, guest)
        kinds = [type(event) for event in sent.events if not isinstance(event, GroupChanged)]
        self.assertEqual(kinds, [ServiceChanged, MessageStored])
        [stored] = self.of_kind(sent.events, MessageStored)
        self.assertEqual(stored.admin_id, ann.person.id)
        [change] = self.of_kind(sent.events, ServiceChanged)
        self.assertEqual(stored.rev, change.entry.rev + 1)

    async def test_to_an_ended_service(self) -> None:
        """Nobody serves then: the message is delivered to the guest, and to no admin."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        await self.server.assignment.end_by_guest(guest)
        sent = await self.server.answer(ann, guest)
        [stored] = sent.events
        self.assertIsNone(stored.admin_id)

    async def test_refused(self) -> None:
        """Guests of others, of another group, unknown and banned ones are refused, each by its code."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        bob = await self.on_duty("Bob")
        with self.assertRaises(errors.SendServedByAnother) as caught:
            await self.server.answer(bob, guest)
        self.assertEqual(caught.exception.data, {"admin_id": ann.person.id})
        stranger = await self.server.guest(new_group(self.dsn, "another"))
        with self.assertRaises(errors.SendNoSuchGuest):
            await self.server.answer(ann, stranger)
        self.query("UPDATE guest SET status = 'banned' WHERE id = %s", guest.person.id)
        with self.assertRaises(errors.SendNoSuchGuest):
            await self.server.answer(ann, guest)


class RepeatTests(MessagingTestCase):
    async def test_dup(self) -> None:
        """A repeat gets the first one's message and tells nobody, for both sides."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        first, _ = await self.server.say(guest, "hi", "a")
        again, standing = await self.server.say(guest, "hi", "a")
        self.assertEqual((again.dup, again.message, list(again.events)), (True, first.message, []))
        self.assertEqual(standing.state, "serving")
        first = await self.server.answer(ann, guest, "hi", "a")
        again = await self.server.answer(ann, guest, "hi", "a")
        self.assertEqual((again.dup, again.message, list(again.events)), (True, first.message, []))

    async def test_before_anything_else(self) -> None:
        """A repeat is answered also when a colleague serves by now, or the service has ended; it starts none."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        await self.server.say(guest, "hi", "a")
        await self.server.answer(ann, guest, "hi", "b")
        bob = await self.on_duty("Bob")
        await self.server.assignment.transfer(ann, guest.person.id, bob.person.id, None)
        self.assertTrue((await self.server.answer(ann, guest, "hi", "b")).dup)
        await self.server.assignment.end_by_guest(guest)
        sent, standing = await self.server.say(guest, "hi", "a")
        self.assertEqual((sent.dup, standing.state, self.state(guest)[0]), (True, "ended", "ended"))

    async def test_clash(self) -> None:
        """Another content under the same cmid is said to be just that, for both sides."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        await self.server.say(guest, "hi", "a")
        await self.server.answer(ann, guest, "hi", "a")
        with self.assertRaises(errors.GuestCmidClash):
            await self.server.say(guest, "other", "a")
        with self.assertRaises(errors.SendCmidClash):
            await self.server.answer(ann, guest, "other", "a")

    async def test_bad_content(self) -> None:
        """Content that is wrong or missing is a clash under a known cmid, under a new one or none its own error."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        await self.server.say(guest, "hi", "a")
        await self.server.answer(ann, guest, "hi", "a")
        gid = guest.person.id
        for cmid, guests, admins in (
            ("a", errors.GuestCmidClash, errors.SendCmidClash),
            ("b", errors.GuestMsgMissing, errors.SendMsgMissing),
            (None, errors.GuestMsgMissing, errors.SendMsgMissing),
        ):
            with self.assertRaises(guests):
                await by_guest(self.messaging, guest, cmid, errors.GuestMsgMissing(), "tab")
            with self.assertRaises(admins):
                await by_admin(self.messaging, ann, gid, cmid, errors.SendMsgMissing(), "desk")
        self.assertEqual(len(self.bodies(guest)), 2)

    async def test_bad_content_behind_a_send(self) -> None:
        """Bad content is a clash also when the message with its cmid was sent just before and is still under way."""
        ann = await self.on_duty()
        guest = await self.guest()
        sent = self.server.say(guest, "hi", "a")
        with self.assertRaises(errors.GuestCmidClash):
            await by_guest(self.messaging, guest, "a", errors.GuestMsgMissing(), "tab")
        await sent
        answered = self.server.answer(ann, guest, "hi", "a")
        with self.assertRaises(errors.SendCmidClash):
            await by_admin(self.messaging, ann, guest.person.id, "a", errors.SendMsgMissing(), "desk")
        await answered
        self.assertEqual(len(self.bodies(guest)), 2)

    async def test_bad_content_to_nobody(self) -> None:
        """Bad content to a guest of nobody is said to be bad, not whether the guest exists; it starts no service."""
        ann, guest = await self.on_duty(), await self.guest()
        with self.assertRaises(errors.SendMsgMissing):
            await by_admin(self.messaging, ann, 10**12, "a", errors.SendMsgMissing(), "desk")
        with self.assertRaises(errors.GuestMsgMissing):
            await by_guest(self.messaging, guest, "a", errors.GuestMsgMissing(), "tab")
        self.assertEqual((self.state(guest), self.bodies(guest)), (("new", None), []))

    async def test_twice_at_once_without_a_service(self) -> None:
        """A first message that is sent twice in one go starts one service and is stored once."""
        guest = await self.guest()
        results = await gatherResults([self.server.say(guest, "hi", "a") for _ in range(3)])
        self.assertEqual(sorted(sent.dup for sent, _ in results), [False, True, True])
        self.assertEqual({sent.message.seq for sent, _ in results}, {1})
        self.assertEqual(self.bodies(guest), ['"hi"'])

    async def test_two_processes(self) -> None:
        """The same first message through two processes at once is stored once, and starts one service."""
        other = await self.serve(name="other")
        for _ in range(10):
            guest = await self.guest()
            results = await gatherResults([server.say(guest, "hi", "a") for server in (self.server, other)])
            self.assertEqual(sorted(sent.dup for sent, _ in results), [False, True])
            self.assertEqual(self.bodies(guest), ['"hi"'])
        self.assertEqual(self.query("SELECT count(*) FROM service"), [(10,)])


class PageTests(MessagingTestCase):
    """32100 and 22100 over a conversation of 25 messages."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.lee = await self.customer()
        await gatherResults([self.server.say(self.lee, f"{n:02}") for n in range(1, 26)])
        entry = await self.messaging.conversation(self.group, self.lee.person.id)
        assert entry is not None
        self.entry = entry

    def seqs(self, page: tuple[list[Message], bool]) -> tuple[list[int], bool]:
        messages, more = page
        return [message.seq for message in messages], more

    async def test_pages(self) -> None:
        """Page 1 holds the newest; the last page what is left; then nothing comes."""
        for index, first, last, more in ((1, 16, 25, True), (2, 6, 15, True), (3, 1, 5, False)):
            page = self.seqs(await self.messaging.page(self.entry, index, 10))
            self.assertEqual(page, (list(range(first, last + 1)), more))
        for index in (4, 2**53 - 1):
            self.assertEqual(await self.messaging.page(self.entry, index, 10), ([], False))

    async def test_exact_pages(self) -> None:
        """Where the pages come out even, the last one says so."""
        self.assertEqual(self.seqs(await self.messaging.page(self.entry, 5, 5)), ([1, 2, 3, 4, 5], False))
        self.assertEqual(self.seqs(await self.messaging.page(self.entry, 1, 25)), (list(range(1, 26)), False))
        self.assertEqual(self.seqs(await self.messaging.page(self.entry, 1, 100)), (list(range(1, 26)), False))
        self.assertEqual(self.seqs(await self.messaging.page(self.entry, 25, 1)), ([1], False))

    async def test_empty(self) -> None:
        """A conversation without messages has one empty page in each way."""
        guest = await self.guest()
        entry = await self.messaging.conversation(self.group, guest.person.id)
        assert entry is not None
        self.assertEqual(await self.messaging.page(entry, 1, 10), ([], False))
        self.assertEqual(await self.messaging.before(entry, None, 10, 1000), ([], False))
        self.assertEqual(await self.messaging.after(entry, 0, 10, 1000), ([], False))

    async def test_before(self) -> None:
        """The nearest below a seq, and whether there are more below."""
        before = self.messaging.before
        self.assertEqual(self.seqs(await before(self.entry, None, 3, 1000)), ([23, 24, 25], True))
        self.assertEqual(self.seqs(await before(self.entry, 23, 3, 1000)), ([20, 21, 22], True))
        self.assertEqual(self.seqs(await before(self.entry, 4, 3, 1000)), ([1, 2, 3], False))
        self.assertEqual(self.seqs(await before(self.entry, 1, 3, 1000)), ([], False))
        self.assertEqual(self.seqs(await before(self.entry, 10, 9, 8)), ([8, 9], True))

    async def test_after(self) -> None:
        """The nearest above a seq, and whether there are more above, also where bytes end the page."""
        after = self.messaging.after
        self.assertEqual(self.seqs(await after(self.entry, 0, 3, 1000)), ([1, 2, 3], True))
        self.assertEqual(self.seqs(await after(self.entry, 21, 3, 1000)), ([22, 23, 24], True))
        self.assertEqual(self.seqs(await after(self.entry, 22, 3, 1000)), ([23, 24, 25], False))
        self.assertEqual(self.seqs(await after(self.entry, 25, 3, 1000)), ([], False))
        self.assertEqual(self.seqs(await after(self.entry, 0, 9, 8)), ([1, 2], True))
        self.assertEqual(self.seqs(await after(self.entry, 24, 9, 1)), ([25], False))

    async def test_while_messages_arrive(self) -> None:
        """Going through by ``after_seq`` while messages arrive neither skips nor repeats any."""
        found: list[int] = []
        more = True
        while more:
            entry = await self.messaging.conversation(self.group, self.lee.person.id)
            assert entry is not None
            arriving = [self.server.say(self.lee) for _ in range(4 if len(found) < 40 else 0)]
            messages, more = await self.messaging.after(entry, found[-1] if found else 0, 7, 1000)
            found += [message.seq for message in messages]
            await gatherResults(arriving)
        self.assertGreater(len(found), 40)
        self.assertEqual(found, list(range(1, len(found) + 1)))

    async def test_writers(self) -> None:
        """``admin_list`` of a page holds who wrote in it."""
        ann, _ = await self.on_duty(), await self.on_duty("Bob")
        found = await self.messaging.writers([ann.person.id], self.group)
        self.assertEqual([admin.person for admin in found.values()], [ann.person])
        self.assertEqual(await self.messaging.writers([], self.group), {})


class ReadTests(MessagingTestCase):
    async def test_moved(self) -> None:
        """Who reads is told the new counts, and so is the other side; a mark that moves nothing tells nobody."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        await self.server.say(guest)
        await self.server.answer(ann, guest)
        gid = guest.person.id
        marked, events = await self.messaging.read_as_admin(ann, gid, None)
        self.assertEqual((marked.admin_read_seq, marked.admin_unread), (2, 0))
        [moved] = self.of_kind(events, ReadMoved)
        self.assertEqual((moved.gid, moved.rev, moved.admin_read_seq), (gid, self.column(guest, "rev"), 2))
        self.assertEqual((moved.admin_id, moved.guest_unread), (ann.person.id, 1))
        self.assertEqual((await self.messaging.read_as_admin(ann, gid, 1))[1], [])
        marked, events = await self.messaging.read_as_guest(guest, 2)
        self.assertEqual((marked.guest_read_seq, marked.guest_unread, len(events)), (2, 0, 1))

    async def test_denied(self) -> None:
        """Who does not serve the guest may not mark; whether the guest exists is not told."""
        await self.on_duty()
        guest = await self.customer("serving")
        bob = await self.on_duty("Bob")
        for gid in (guest.person.id, 10**12):
            with self.assertRaises(errors.NotPermitted):
                await self.messaging.read_as_admin(bob, gid, None)


class LateTests(MessagingTestCase):
    async def test_lock_of_the_group(self) -> None:
        """Where the group's lock cannot be had in time, the start fails certainly; then everything works again."""
        server = await self.serve(name="hasty", timeout=0.5)
        guest = await self.guest()
        stranger = psycopg2.connect(self.dsn)
        self.addCleanup(stranger.close)
        stranger.cursor().execute("SELECT pg_advisory_xact_lock(1, %s)", (self.group,))
        waiting = server.say(guest, "hi", "a")
        await eventually(lambda: self.query("SELECT 1 FROM pg_locks WHERE NOT granted"))
        with self.assertRaises(StorageError) as caught:
            await waiting
        self.assertEqual((caught.exception.sqlstate, caught.exception.applied), ("55P03", False))
        stranger.rollback()
        sent, _ = await server.say(guest, "hi", "a")
        self.assertEqual((sent.dup, sent.message.seq), (False, 1))
