"""Leases and sessions, as they stand in the database."""

from __future__ import annotations

from chatproto.domain.model import Principal, Role
from chatproto.errors import StorageError
from chatproto.storage import presence
from chatproto.storage.history import Reader
from chatproto.storage.presence import LEASE, Session
from tests.worlds import GRACE, QUEUE_LEAVE, SERVICE_IDLE, WorldTestCase, age, guest_draft


class PresenceTestCase(WorldTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.pool = self.server.pool

    def session(self, ix: str, admin_id: int = 7) -> Session:
        return Session(ix, Role.ADMIN, admin_id, self.group)

    def live(self) -> set[str]:
        return {ix for (ix,) in self.query("SELECT ix FROM session WHERE ended_at IS NULL")}


class NodeTests(PresenceTestCase):
    async def test_renew(self) -> None:
        """A node keeps its lease as long as it says so in time; too late is too late."""
        node = await presence.join(self.pool, "a")
        age(self.dsn, LEASE - 5000)
        self.assertTrue(await presence.renew(self.pool, node))
        age(self.dsn, LEASE)
        self.assertFalse(await presence.renew(self.pool, node))
        self.assertFalse(await presence.renew(self.pool, 10**12))

    async def test_join_again(self) -> None:
        """What a killed process left is ended when it starts again under its name; others' connections are not."""
        first, other = await presence.join(self.pool, "a"), await presence.join(self.pool, "b")
        await presence.begin(self.pool, first, self.session("old"))
        await presence.begin(self.pool, other, self.session("others"))
        second = await presence.join(self.pool, "a")
        self.assertNotEqual(first, second)
        self.assertEqual(self.live(), {"others"})
        with self.assertRaises(StorageError):
            await presence.begin(self.pool, first, self.session("late"))

    async def test_leave(self) -> None:
        """A node that stops ends its sessions and is a node no more."""
        node, other = await presence.join(self.pool, "a"), await presence.join(self.pool, "b")
        await presence.begin(self.pool, node, self.session("mine"))
        await presence.begin(self.pool, other, self.session("others"))
        await presence.leave(self.pool, node)
        self.assertEqual(self.live(), {"others"})
        self.assertFalse(await presence.renew(self.pool, node))

    async def test_give_up_dead(self) -> None:
        """Nodes whose lease is over lose their sessions, and it is said which admins had one there."""
        dead = await presence.join(self.pool, "dead")
        await presence.begin(self.pool, dead, self.session("admin", 7))
        await presence.begin(self.pool, dead, Session("guest", Role.GUEST, 9, self.group))
        age(self.dsn, LEASE + 1000)
        alive = await presence.join(self.pool, "alive")
        await presence.begin(self.pool, alive, self.session("alive", 8))
        self.assertEqual(await presence.give_up_dead(self.pool), [(self.group, 7)])
        self.assertEqual(self.live(), {"alive"})
        self.assertEqual(await presence.give_up_dead(self.pool), [])

    async def test_elected(self) -> None:
        """One node at a time looks after the cluster."""

        async def while_one_does(transaction: Reader) -> bool:
            return await presence.elected(transaction) and not await presence.elected(self.pool)

        self.assertTrue(await self.pool.transaction(while_one_does))
        self.assertTrue(await presence.elected(self.pool))


class SessionTests(PresenceTestCase):
    async def test_live(self) -> None:
        """Sessions of one person are live from login to end, and again at the next login."""
        node = self.server.node.id
        for session in (self.session("a"), self.session("b"), self.session("c", 8)):
            await presence.begin(self.pool, node, session)
        await presence.begin(self.pool, node, self.session("a"))
        self.assertEqual(self.live(), {"a", "b", "c"})
        await presence.end(self.pool, "a")
        self.assertEqual(self.live(), {"b", "c"})
        await presence.begin(self.pool, node, self.session("a"))
        self.assertEqual(self.live(), {"a", "b", "c"})

    async def test_limit(self) -> None:
        """Past the limit of one person nothing begins; the same session again does, and other people do not count."""
        node = self.server.node.id
        for session in (self.session("a"), self.session("b"), Session("g", Role.GUEST, 7, self.group)):
            self.assertTrue(await presence.begin(self.pool, node, session, 2))
        self.assertFalse(await presence.begin(self.pool, node, self.session("c"), 2))
        self.assertTrue(await presence.begin(self.pool, node, self.session("a"), 2))
        self.assertTrue(await presence.begin(self.pool, node, self.session("other", 8), 2))
        self.assertEqual(self.live(), {"a", "b", "g", "other"})
        await presence.end(self.pool, "b")
        self.assertTrue(await presence.begin(self.pool, node, self.session("c"), 2))

    async def test_ended_once(self) -> None:
        """A session that has ended keeps the time of its end."""
        await presence.begin(self.pool, self.server.node.id, self.session("a"))
        await presence.end(self.pool, "a")
        age(self.dsn, 1000)
        before = self.query("SELECT ended_at FROM session")
        await presence.end(self.pool, "a")
        self.assertEqual(self.query("SELECT ended_at FROM session"), before)

    async def test_again(self) -> None:
        """A node that is back brings its open connections with it, known ones and such as never got through."""
        old = await presence.join(self.pool, "a")
        await presence.begin(self.pool, old, self.session("known"))
        new = await presence.join(self.pool, "a")
        await presence.again(self.pool, new, [self.session("known"), self.session("new")])
        self.assertEqual(self.live(), {"known", "new"})
        await presence.leave(self.pool, new)
        self.assertEqual(self.live(), set())
        await presence.again(self.pool, new, [])

    async def test_forgotten(self) -> None:
        """Sessions are deleted a day after their end, not before, and never while they live."""
        for ix in ("live", "ended", "old"):
            await presence.begin(self.pool, self.server.node.id, self.session(ix))
        await presence.end(self.pool, "old")
        age(self.dsn, presence.KEEP_SESSIONS + 1000)
        await presence.end(self.pool, "ended")
        await presence.forget_sessions(self.pool)
        self.assertEqual(self.query("SELECT ix FROM session ORDER BY ix"), [("ended",), ("live",)])


class LostAdminTests(PresenceTestCase):
    async def lost(self) -> list[tuple[int, int]]:
        return await presence.lost_admins(self.pool, GRACE)

    async def test_grace(self) -> None:
        """An admin with guests is lost when the last connection ended before the grace, not earlier."""
        ann = self.admin()
        phone, _ = await self.server.admin_in(ann)
        desk, _ = await self.server.admin_in(ann)
        await self.customer("serving")
        await presence.end(self.pool, phone)
        age(self.dsn, GRACE + 1000)
        self.assertEqual(await self.lost(), [])
        await presence.end(self.pool, desk)
        age(self.dsn, GRACE - 5000)
        self.assertEqual(await self.lost(), [])
        age(self.dsn, 5000)
        self.assertEqual(await self.lost(), [(self.group, ann.person.id)])

    async def test_nothing_to_lose(self) -> None:
        """Who has no guests, or only such as stay, need not be looked after; who is suspended must be."""
        ann = self.admin()
        ix, _ = await self.server.admin_in(ann)
        await presence.end(self.pool, ix)
        age(self.dsn, GRACE + 1000)
        self.assertEqual(await self.lost(), [])
        self.query("UPDATE admin SET suspended = true")
        self.assertEqual(await self.lost(), [(self.group, ann.person.id)])

    async def gone(self) -> Principal:
        """An admin with a guest, who has been away for longer than the grace; the only node has stopped."""
        ann = await self.on_duty()
        await self.customer("serving")
        await presence.leave(self.pool, self.server.node.id)
        age(self.dsn, GRACE + 1000)
        return ann

    async def test_after_a_restart(self) -> None:
        """After a start of the only node nobody is lost before the whole grace, counted from there."""
        ann = await self.gone()
        node = await presence.join(self.pool, "node")
        self.assertEqual(await self.lost(), [])
        for _ in range(4):
            age(self.dsn, GRACE // 4 - 1000)
            self.assertTrue(await presence.renew(self.pool, node))
        self.assertEqual(await self.lost(), [])
        age(self.dsn, 4000)
        self.assertEqual(await self.lost(), [(self.group, ann.person.id)])

    async def test_another_node_lives(self) -> None:
        """A node that starts beside another one that has been up for long grants no grace anew; a dead one is none."""
        ann = await self.gone()
        await presence.join(self.pool, "old")
        self.long_up()
        await presence.join(self.pool, "new")
        self.assertEqual(await self.lost(), [(self.group, ann.person.id)])
        self.query("UPDATE node SET lease_until = 0 WHERE name = 'old'")
        self.assertEqual(await self.lost(), [])

    async def test_banned_group(self) -> None:
        """In a banned group everything stays as it is, until the ban is lifted."""
        ann = await self.gone()
        self.query("UPDATE admin SET suspended = true")
        self.query("UPDATE service_group SET status = 'banned'")
        self.assertEqual(await self.lost(), [])
        self.query("UPDATE service_group SET status = 'active'")
        self.assertEqual(await self.lost(), [(self.group, ann.person.id)])


class FinishedTests(PresenceTestCase):
    """Services that end by themselves."""

    async def finished(self, *guests: Principal) -> set[int]:
        """Conversation ids, asked for in general and for these guests, which must be the same."""
        found = await presence.finished(self.pool, idle=SERVICE_IDLE, leave=QUEUE_LEAVE)
        ids = [guest.conversation_id for guest in guests if guest.conversation_id is not None]
        narrowed = await presence.finished(self.pool, idle=SERVICE_IDLE, leave=QUEUE_LEAVE, among=(self.group, ids))
        self.assertEqual(found, narrowed)
        self.assertEqual({group_id for group_id, _ in found}, {self.group} if found else set())
        return {conversation_id for _, conversation_id in found}

    async def test_silence(self) -> None:
        """A service ends after 30 minutes of silence, counted from the last message or the start."""
        ann = await self.on_duty()
        lee, kim = await self.customer("serving"), await self.customer("serving")
        age(self.dsn, SERVICE_IDLE - 60_000)
        self.assertEqual(await self.finished(lee, kim), set())
        await self.server.say(kim)
        await self.server.answer(ann, kim)
        age(self.dsn, 60_000)
        self.assertEqual(await self.finished(lee, kim), {lee.conversation_id})
        age(self.dsn, SERVICE_IDLE)
        self.assertEqual(await self.finished(lee, kim), {lee.conversation_id, kim.conversation_id})

    async def test_guest_wrote_last(self) -> None:
        """A guest who waits for an answer is never ended."""
        ann = await self.on_duty()
        lee = await self.customer("serving")
        await self.server.answer(ann, lee)
        await self.server.say(lee)
        age(self.dsn, 10 * SERVICE_IDLE)
        self.assertEqual(await self.finished(lee), set())

    async def test_an_earlier_service(self) -> None:
        """What the guest wrote in an earlier service is no question in this one."""
        await self.on_duty()
        lee = await self.customer("serving")
        await self.server.say(lee)
        await self.server.assignment.end_by_guest(lee)
        await self.server.assignment.start(lee)
        self.assertEqual(await self.finished(lee), set())
        age(self.dsn, SERVICE_IDLE)
        self.assertEqual(await self.finished(lee), {lee.conversation_id})

    async def test_never(self) -> None:
        """Both limits can be switched off."""
        lee = await self.customer()
        await presence.leave(self.pool, self.server.node.id)
        age(self.dsn, 10 * SERVICE_IDLE)
        self.assertEqual(await presence.finished(self.pool, idle=None, leave=None), [])
        self.assertEqual(await presence.finished(self.pool, idle=1, leave=None), [])
        self.assertEqual(await presence.finished(self.pool, idle=None, leave=1), [(self.group, lee.conversation_id)])

    async def test_left_the_queue(self) -> None:
        """A guest who wrote nothing leaves the queue ten minutes after the last connection; who wrote stays."""
        lee, kim, here = await self.customer(), await self.customer(), await self.customer()
        await self.server.say(kim)
        for guest in (lee, kim):
            self.query("UPDATE session SET ended_at = now_ms() WHERE person_id = %s", guest.person.id)
        age(self.dsn, QUEUE_LEAVE - 60_000)
        self.assertEqual(await self.finished(lee, kim, here), set())
        age(self.dsn, 60_000)
        self.assertEqual(await self.finished(lee, kim, here), {lee.conversation_id})

    async def test_banned_group(self) -> None:
        """In a banned group no service ends and nobody leaves the queue, until the ban is lifted."""
        await self.on_duty(capacity=1)
        silent, left = await self.customer("serving"), await self.customer()
        self.query("UPDATE session SET ended_at = now_ms()")
        age(self.dsn, SERVICE_IDLE)
        self.query("UPDATE service_group SET status = 'banned'")
        self.assertEqual(await self.finished(silent, left), set())
        self.query("UPDATE service_group SET status = 'active'")
        self.assertEqual(await self.finished(silent, left), {silent.conversation_id, left.conversation_id})

    async def test_a_message_just_then(self) -> None:
        """A message that comes between the look and the end keeps the service open."""
        lee = await self.customer()
        await self.on_duty()
        self.query("UPDATE session SET ended_at = now_ms() WHERE person_type = 1")
        await self.server.assignment.drain(self.group)
        age(self.dsn, SERVICE_IDLE)
        self.assertEqual(await self.finished(lee), {lee.conversation_id})
        await self.server.journal.append(guest_draft(lee))
        self.assertEqual(await self.finished(lee), set())


class GoneGuestTests(PresenceTestCase):
    async def test_once(self) -> None:
        """That a guest went off line is told once, ten seconds after the last connection, and again next time."""
        lee = await self.guest(ix="tab")
        gone = (self.group, lee.person.id)
        self.assertEqual(await presence.gone_guests(self.pool), [])
        await presence.end(self.pool, "tab")
        self.assertEqual(await presence.gone_guests(self.pool), [])
        age(self.dsn, 10_000)
        self.assertEqual(await presence.gone_guests(self.pool), [gone])
        self.assertEqual(await presence.gone_guests(self.pool), [])
        await presence.begin(self.pool, self.server.node.id, Session("tab", Role.GUEST, lee.person.id, self.group))
        await presence.end(self.pool, "tab")
        age(self.dsn, 11_000)
        self.assertEqual(await presence.gone_guests(self.pool), [gone])

    async def test_other_tabs(self) -> None:
        """While another tab is open, or was closed just now, a guest is not off line."""
        lee = await self.guest(ix="one")
        await presence.begin(self.pool, self.server.node.id, Session("two", Role.GUEST, lee.person.id, self.group))
        await presence.end(self.pool, "one")
        age(self.dsn, 11_000)
        self.assertEqual(await presence.gone_guests(self.pool), [])
        await presence.end(self.pool, "two")
        self.assertEqual(await presence.gone_guests(self.pool), [])
        age(self.dsn, 11_000)
        self.assertEqual(await presence.gone_guests(self.pool), [(self.group, lee.person.id)])

    async def test_several_at_once(self) -> None:
        """Two tabs that ended together are one guest who left; admins are not told of here."""
        lee = await self.guest(ix="one")
        node = self.server.node.id
        await presence.begin(self.pool, node, Session("two", Role.GUEST, lee.person.id, self.group))
        await presence.begin(self.pool, node, self.session("desk"))
        await presence.leave(self.pool, node)
        age(self.dsn, 11_000)
        self.assertEqual(await presence.gone_guests(self.pool), [(self.group, lee.person.id)])

    async def test_queued_groups(self) -> None:
        """The safety net looks at groups in which somebody waits."""
        self.assertEqual(await presence.queued_groups(self.pool), [])
        for _ in range(2):
            await self.customer()
        self.assertEqual(await presence.queued_groups(self.pool), [self.group])
