"""Recalls: who may, what is told, and that nothing else takes them for something written."""

from __future__ import annotations

import json
from typing import Any

import psycopg2

from chatproto import errors
from chatproto.domain.events import GroupChanged, MessageRecalled, MessageStored
from chatproto.services.presence import SELDOM
from chatproto.services.recall import Recalls
from chatproto.storage import presence
from tests.worlds import GRACE, QUEUE_LEAVE, SERVICE_IDLE, WorldTestCase, age, by_guest, eventually, guest_claims, run

WITHIN = 120_000


class RecallCase(WorldTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.recalls = Recalls(self.server.pool, WITHIN)

    async def refused(self, recalling: Any) -> errors.ChatError:
        with self.assertRaises(errors.ChatError) as caught:
            await recalling
        return caught.exception

    async def look(self) -> list[Any]:
        """Look after the cluster until everything was looked at."""
        events: list[Any] = []
        for _ in range(SELDOM):
            events += await self.server.node.look_after_cluster()
        return events


class ToldTests(RecallCase):
    async def test_guest(self) -> None:
        """Who serves is named, with what is unread; nobody else hears of it."""
        ann = await self.on_duty()
        lee = await self.customer("serving")
        await self.server.say(lee, "one")
        message, events = await self.recalls.by_guest(lee, 1, "tab")
        self.assertEqual((message.seq, message.recalls, message.body, message.cmid), (2, 1, '""', None))
        self.assertEqual((message.gid, message.group_id, message.sender), (lee.person.id, self.group, lee.person))
        rev = self.column(lee, "rev")
        self.assertEqual(events, [MessageRecalled(lee.conversation_id or 0, rev, ann.person.id, message, 0, 0, "tab")])

    async def test_again(self) -> None:
        """The second time the same message is the answer, and nobody is told."""
        await self.on_duty()
        lee = await self.customer("serving")
        await self.server.say(lee, "one")
        first, _ = await self.recalls.by_guest(lee, 1, "tab")
        self.assertEqual(await self.recalls.by_guest(lee, 1, "other tab", now=first.created_at * 2), (first, ()))

    async def test_queued(self) -> None:
        """All admins of the group see the newest message of who waits: they are told."""
        lee = await self.customer()
        await self.server.say(lee, "one")
        _, (recalled, changed) = await self.recalls.by_guest(lee, 1, "tab")
        assert isinstance(recalled, MessageRecalled) and lee.conversation_id is not None
        self.assertIsNone(recalled.admin_id)
        self.assertEqual(changed, GroupChanged(self.group, conversations=frozenset([lee.conversation_id])))

    async def test_after_a_transfer(self) -> None:
        """An admin recalls what that one wrote, though a colleague has the guest by now; who serves is named."""
        ann, bob = await self.on_duty("Ann"), self.admin("Bob")
        lee = await self.customer("serving")
        await self.server.answer(ann, lee, "one")
        await self.server.admin_in(bob)
        await self.server.assignment.transfer(ann, lee.person.id, bob.person.id, None)
        _, (recalled,) = await self.recalls.by_admin(ann, lee.person.id, 1, "desk")
        assert isinstance(recalled, MessageRecalled)
        self.assertEqual((recalled.admin_id, recalled.message.sender.id), (bob.person.id, ann.person.id))
        error = await self.refused(self.recalls.by_admin(bob, lee.person.id, 1, "desk"))
        self.assertIsInstance(error, errors.RecallNoSuchMessage)

    async def test_after_the_end(self) -> None:
        """What was written can be recalled when nobody serves any more."""
        ann = await self.on_duty()
        lee = await self.customer("serving")
        await self.server.answer(ann, lee, "one")
        await self.server.assignment.end_by_guest(lee)
        _, (recalled,) = await self.recalls.by_admin(ann, lee.person.id, 1, "desk")
        assert isinstance(recalled, MessageRecalled)
        self.assertIsNone(recalled.admin_id)

    async def test_refused(self) -> None:
        """Each side has its own codes, and hears for how long a message may be recalled."""
        ann = await self.on_duty()
        lee = await self.customer("serving")
        await self.server.say(lee, "one")
        await self.server.answer(ann, lee, "two")
        gid = lee.person.id
        self.assertIsInstance(await self.refused(self.recalls.by_guest(lee, 2, "tab")), errors.GuestRecallNoSuchMessage)
        self.assertIsInstance(await self.refused(self.recalls.by_admin(ann, gid, 1, "x")), errors.RecallNoSuchMessage)
        age(self.dsn, WITHIN + 1)
        for refused, kind in (
            (self.recalls.by_guest(lee, 1, "tab"), errors.GuestRecallTooLate),
            (self.recalls.by_admin(ann, gid, 2, "desk"), errors.RecallTooLate),
        ):
            error = await self.refused(refused)
            self.assertIsInstance(error, kind)
            self.assertEqual(error.data, {"within_ms": WITHIN})
        self.assertEqual(self.bodies(lee), ['"one"', '"two"'])

    async def test_never(self) -> None:
        """Where recalls are switched off it is always too late."""
        await self.on_duty()
        lee = await self.customer("serving")
        await self.server.say(lee, "one")
        error = await self.refused(Recalls(self.server.pool, 0).by_guest(lee, 1, "tab"))
        self.assertEqual((type(error), error.data), (errors.GuestRecallTooLate, {"within_ms": 0}))


class RepeatTests(RecallCase):
    async def test_repeat_of_a_guest(self) -> None:
        """Whoever sends the recalled message again, as after a lost reply, brings nothing back and tells nobody."""
        await self.on_duty()
        lee = await self.customer("serving")
        await self.server.say(lee, "secret", "c1")
        await self.recalls.by_guest(lee, 1, "tab")
        for text in ("secret", "something else"):
            sent, standing = await self.server.say(lee, text, "c1")
            self.assertEqual((sent.dup, tuple(sent.events), standing.state), (True, (), "serving"))
            message = sent.message
            self.assertEqual((message.seq, message.body, message.recalled, message.cmid), (1, '""', True, "c1"))
        self.assertEqual(self.bodies(lee), ['""', '""'])

    async def test_repeat_of_who_waits(self) -> None:
        """A guest in the queue is told the place with the repeat, as with any other."""
        lee = await self.customer()
        await self.server.say(lee, "secret", "c1")
        await self.recalls.by_guest(lee, 1, "tab")
        sent, standing = await self.server.say(lee, "secret", "c1")
        self.assertEqual((sent.dup, standing.state), (True, "queued"))
        self.assertEqual((standing.queue.position, standing.queue.waiting), (1, 1))

    async def test_repeat_of_an_admin(self) -> None:
        """The same for admins, also when the service has ended."""
        ann = await self.on_duty()
        lee = await self.customer("serving")
        await self.server.answer(ann, lee, "secret", "c1")
        await self.recalls.by_admin(ann, lee.person.id, 1, "desk")
        await self.server.assignment.end_by_guest(lee)
        sent = await self.server.answer(ann, lee, "secret", "c1")
        self.assertEqual((sent.dup, sent.message.seq, sent.message.body, sent.message.recalled), (True, 1, '""', True))
        self.assertEqual(self.bodies(lee), ['""', '""'])

    async def test_other_clashes_stay(self) -> None:
        """Other content under the cmid of a message that was not recalled is refused as before."""
        ann = await self.on_duty()
        lee = await self.customer("serving")
        await self.server.say(lee, "one", "c1")
        await self.server.answer(ann, lee, "two", "c1")
        await self.server.say(lee, "three", "c3")
        await self.recalls.by_guest(lee, 3, "tab")
        self.assertIsInstance(await self.refused(self.server.say(lee, "x", "c1")), errors.GuestCmidClash)
        self.assertIsInstance(await self.refused(self.server.answer(ann, lee, "x", "c1")), errors.SendCmidClash)

    async def test_no_content(self) -> None:
        """A repeat that says nothing at all stays a mistake."""
        await self.on_duty()
        lee = await self.customer("serving")
        await self.server.say(lee, "one", "c1")
        await self.recalls.by_guest(lee, 1, "tab")
        sending = run(by_guest(self.server.messaging, lee, "c1", errors.GuestMsgMissing(), "tab"))
        self.assertIsInstance(await self.refused(sending), errors.GuestCmidClash)


class NothingWrittenTests(RecallCase):
    """For who serves whom a recall is nothing that somebody wrote."""

    async def test_idle_service(self) -> None:
        """A guest who takes back something old has not written last: the silent service ends."""
        ann = await self.on_duty()
        lee = await self.customer("serving")
        await self.server.say(lee, "one")
        await self.server.answer(ann, lee, "two")
        await self.recalls.by_guest(lee, 1, "tab")
        age(self.dsn, SERVICE_IDLE + 1000)
        await self.look()
        self.assertEqual(self.state(lee)[0], "ended")

    async def test_unanswered(self) -> None:
        """An admin who takes back something old has not answered: who wrote last is not ended."""
        ann = await self.on_duty()
        lee = await self.customer("serving")
        await self.server.answer(ann, lee, "one")
        await self.server.say(lee, "two")
        await self.recalls.by_admin(ann, lee.person.id, 1, "desk")
        age(self.dsn, SERVICE_IDLE + 1000)
        await self.look()
        self.assertEqual(self.state(lee)[0], "serving")

    async def test_longest_unanswered(self) -> None:
        """When the admin is lost, those who wrote last are put back, whatever was recalled after it."""
        ann = self.admin()
        ix, _ = await self.server.admin_in(ann)
        asked, answered = await self.customer("serving"), await self.customer("serving")
        await self.server.answer(ann, asked, "one")
        await self.server.say(asked, "two")
        await self.recalls.by_admin(ann, asked.person.id, 1, "desk")
        await self.server.say(answered, "one")
        await self.server.answer(ann, answered, "two")
        await self.recalls.by_guest(answered, 1, "tab")
        await self.server.sessions.ended(ann, ix)
        self.long_up()
        age(self.dsn, GRACE + 1000)
        self.long_up()
        await self.look()
        self.assertEqual((self.state(asked)[0], self.state(answered)[0]), ("queued", "serving"))

    async def test_left_queue(self) -> None:
        """A guest who in this service has only taken something back has written nothing, and leaves the queue."""
        ann = self.admin()
        desk, _ = await self.server.admin_in(ann)
        took_back, wrote = await self.guest(ix="one"), await self.guest(ix="two")
        for guest in (took_back, wrote):
            await self.server.say(guest, "one")
            await self.server.assignment.end_by_guest(guest)
        await self.server.sessions.ended(ann, desk, for_good=True)
        for guest, ix in ((took_back, "one"), (wrote, "two")):
            await self.server.assignment.start(guest)
            if guest is wrote:
                await self.server.say(guest, "two")
            await self.recalls.by_guest(guest, 2 if guest is wrote else 1, "tab")
            await self.server.sessions.ended(guest, ix)
        age(self.dsn, QUEUE_LEAVE + 1000)
        await self.look()
        self.assertEqual((self.state(took_back)[0], self.state(wrote)[0]), ("ended", "queued"))

    async def test_writes_while_the_queue_is_swept(self) -> None:
        """A guest of whom there is only a recall, and who writes just when the sweep comes by, stays in the queue."""
        lee = await self.guest(ix="one")
        await self.server.say(lee, "one")
        await self.server.assignment.end_by_guest(lee)
        await self.server.assignment.start(lee)
        await self.recalls.by_guest(lee, 1, "tab")
        await self.server.sessions.ended(lee, "one")
        age(self.dsn, QUEUE_LEAVE + 1000)
        stranger = psycopg2.connect(self.dsn)
        self.addCleanup(stranger.close)
        draft = {"o": 0, "k": 1, "t": 1, "s": lee.person.id, "f": 0, "m": "cx", "b": '"two"'}
        stranger.cursor().execute(
            "SELECT append_messages(%s, %s, false)",
            (json.dumps([{"k": 1, "g": self.group, "q": lee.person.id}]), json.dumps([draft])),
        )
        sweep = run(
            presence.finished(
                self.server.pool, idle=None, leave=QUEUE_LEAVE, among=(self.group, [lee.conversation_id or 0])
            )
        )
        await eventually(lambda: self.query("SELECT 1 FROM pg_locks WHERE NOT granted"))
        stranger.commit()
        self.assertEqual(await sweep, [])

    async def test_rating(self) -> None:
        """A service in which an admin has only taken something back cannot be rated."""
        ann = await self.on_duty()
        lee = await self.customer("serving")
        await self.server.answer(ann, lee, "one")
        await self.server.assignment.end_by_guest(lee)
        age(self.dsn, WITHIN // 2)
        await self.server.assignment.start(lee)
        await self.recalls.by_admin(ann, lee.person.id, 1, "desk")
        self.query("UPDATE service SET ended_at = 1 WHERE ended_at IS NOT NULL")
        self.assertIsInstance(await self.refused(self.server.guests.rate(lee, 5, None)), errors.NothingToRate)

    async def test_who_wrote_last(self) -> None:
        """The guest goes on with who wrote last, not with who recalled last."""
        ann = await self.on_duty("Ann")
        lee = await self.customer("serving")
        await self.server.answer(ann, lee, "one")
        bob = await self.on_duty("Bob")
        await self.server.assignment.transfer(ann, lee.person.id, bob.person.id, None)
        await self.server.answer(bob, lee, "two")
        await self.server.assignment.end_by_guest(lee)
        await self.recalls.by_admin(ann, lee.person.id, 1, "desk")
        await self.server.assignment.start(lee)
        self.assertEqual(self.state(lee), ("serving", bob.person.id))


class CustomerTests(RecallCase):
    async def test_adopted(self) -> None:
        """An anonymous guest who became a customer recalls what was written before, once."""
        await self.on_duty()
        came = await self.server.guest_in(self.group)
        await self.server.say(came.principal, "one")
        await self.server.say(came.principal, "two")
        first, _ = await self.recalls.by_guest(came.principal, 1, "tab")
        customer = (
            await self.server.guest_in(self.group, claims=guest_claims("c-1"), token=came.guest_token)
        ).principal
        again, events = await self.recalls.by_guest(customer, 1, "tab")
        self.assertEqual((again.seq, again.created_at, events), (first.seq, first.created_at, ()))
        second, _ = await self.recalls.by_guest(customer, 2, "tab")
        self.assertEqual(second.seq, 4)


class SendRaceTests(RecallCase):
    async def test_sent_and_recalled_at_once(self) -> None:
        """While a tab repeats a message, another recalls it: the text is gone in the end, whichever was first."""
        await self.on_duty()
        lee = await self.customer("serving")
        for n in range(1, 20, 2):
            await self.server.say(lee, "secret", f"c{n}")
            repeated, recalling = self.server.say(lee, "secret", f"c{n}"), run(self.recalls.by_guest(lee, n, "tab"))
            sent, _ = await repeated
            _, events = await recalling
            self.assertEqual((sent.dup, sent.message.seq, len(events)), (True, n, 1))
            self.assertEqual(self.of_kind(sent.events, MessageStored), [])
        self.assertEqual(set(self.bodies(lee)), {'""'})
