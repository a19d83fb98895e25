"""Logging in and out: who may come in, as whom, and what becomes of what was there before."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import gatherResults

from chatproto import errors
from chatproto.domain.events import Event, Expelled, GroupChanged, GuestNoted, ServiceChanged, noted
from chatproto.domain.model import OFFLINE, ONLINE, SERVING, Principal, QueuePlace, Standing
from chatproto.errors import StorageError
from chatproto.storage import people
from tests.database import OwnClusterTestCase, execute
from tests.worlds import GRACE, WorldTestCase, admin_claims, age, guest_claims, new_admin, new_group, served


class SessionsTestCase(WorldTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.sessions = self.server.sessions

    def live(self) -> set[str]:
        return {ix for (ix,) in self.query("SELECT ix FROM session WHERE ended_at IS NULL")}

    async def status(self, admin: Principal) -> int:
        return (await people.admins(self.server.pool, self.group))[admin.person.id].status


class AdminTests(SessionsTestCase):
    async def test_login(self) -> None:
        """An admin who logs in is on line, gets who waits, and colleagues see it."""
        ann = self.admin(capacity=1)
        first, second = await self.customer(), await self.customer()
        principal = await self.sessions.admin(admin_claims(ann.person.id))
        self.assertEqual(principal, ann)
        events = await self.sessions.admin_login(principal, "desk")
        [change] = self.of_kind(events, ServiceChanged)
        self.assertEqual((change.entry.gid, change.entry.admin_id), (first.person.id, ann.person.id))
        [group] = self.of_kind(events, GroupChanged)
        self.assertEqual((group.admins, group.queue), ({ann.person.id}, True))
        self.assertEqual((await self.status(ann), self.state(second)), (ONLINE, ("queued", None)))

    async def test_refused(self) -> None:
        """Banned and unknown admins, and those of a banned group, do not come in and are not on line."""
        ann = self.admin()
        with self.assertRaises(errors.AdminBanned):
            await self.sessions.admin(admin_claims(10**12))
        for table, error in (("admin", errors.AdminBanned), ("service_group", errors.AdminGroupBanned)):
            self.query(f"UPDATE {table} SET status = 'banned'")
            with self.assertRaises(error):
                await self.sessions.admin(admin_claims(ann.person.id))
            with self.assertRaises(error):  # banned between the two steps
                await self.sessions.admin_login(ann, "desk")
            self.query(f"UPDATE {table} SET status = 'active'")
        self.assertEqual(self.query("SELECT * FROM session"), [])

    async def test_too_many(self) -> None:
        """An admin has so many connections at most, on all nodes together; a login again is no new one."""
        other = await self.serve(name="other", max_connections=2)
        few = await self.serve(name="few", max_connections=2)
        ann = self.admin()
        await few.admin_in(ann, "one")
        await other.admin_in(ann, "two")
        with self.assertRaises(errors.TooManyConnections):
            await few.admin_in(ann, "three")
        await few.admin_in(ann, "one")
        await few.sessions.ended(ann, "one")
        await few.admin_in(ann, "three")
        self.assertEqual(self.live(), {"two", "three"})

    async def test_several_connections(self) -> None:
        """With one of several connections gone the admin is on line; with the last, off line at once, guests stay."""
        ann = self.admin()
        for ix in ("phone", "desk"):
            await self.server.admin_in(ann, ix)
        guest = await self.customer("serving")
        await self.sessions.ended(ann, "phone")
        self.assertEqual(await self.status(ann), ONLINE)
        events = await self.sessions.ended(ann, "desk")
        self.assertEqual(events, [GroupChanged(self.group, frozenset([ann.person.id]), queue=True)])
        self.assertEqual((await self.status(ann), self.state(guest)), (OFFLINE, ("serving", ann.person.id)))
        waiting = await self.customer()
        self.assertEqual(self.state(waiting), ("queued", None))

    async def test_log_out(self) -> None:
        """Logging out with the last connection hands the guests on at once, and ends a suspension."""
        ann = self.admin()
        for ix in ("phone", "desk"):
            await self.server.admin_in(ann, ix)
        guest = await self.customer("serving")
        await self.server.say(guest)
        bob = await self.on_duty("Bob")
        await self.server.assignment.suspend(ann, True)
        await self.sessions.ended(ann, "phone", for_good=True)
        self.assertEqual(self.state(guest), ("serving", ann.person.id))
        events = await self.sessions.ended(ann, "desk", for_good=True)
        self.assertEqual(self.state(guest), ("serving", bob.person.id))
        [change] = self.of_kind(events, ServiceChanged)
        self.assertEqual((change.was_admin_id, change.entry.reason), (ann.person.id, "assigned"))
        self.assertEqual(self.query("SELECT suspended FROM admin WHERE id = %s", ann.person.id), [(False,)])

    async def test_log_out_in_grace(self) -> None:
        """Who logs out while another connection was lost just before is gone for good."""
        ann = self.admin()
        for ix in ("phone", "desk"):
            await self.server.admin_in(ann, ix)
        guest = await self.customer("serving")
        await self.server.say(guest)
        await self.sessions.ended(ann, "phone")
        await self.sessions.ended(ann, "desk", for_good=True)
        self.assertEqual(self.state(guest), ("queued", None))

    async def test_desk(self) -> None:
        """The lists of a login: colleagues, own guests, the queue, and pages by state."""
        ann, bob = await self.on_duty(capacity=1), self.admin("Bob")
        mine, waiting = await self.customer("serving"), await self.customer()
        desk = await self.sessions.desk(ann)
        self.assertEqual(list(desk.admins), [ann.person.id, bob.person.id])
        self.assertEqual({entry.gid for entry in desk.guests.values()}, {mine.person.id, waiting.person.id})
        self.assertFalse(desk.more)
        page = await self.sessions.desk_page(ann, SERVING, 1)
        self.assertEqual([entry.gid for entry in page.guests.values()], [mine.person.id])
        self.assertEqual(list(await self.sessions.admins_online(ann)), [ann.person.id])

    async def test_hundred(self) -> None:
        """A list has a hundred entries, and says that there are more."""
        ann = await self.on_duty(capacity=0)
        self.query("INSERT INTO guest (id) SELECT n FROM generate_series(1001, 1101) n")
        self.query(
            "INSERT INTO conversation (group_id, guest_id, state, queue_rank, queued_at)"
            " SELECT %s, n, 'queued', 1, n FROM generate_series(1001, 1101) n",
            self.group,
        )
        desk = await self.sessions.desk(ann)
        self.assertEqual((len(desk.guests), desk.more), (100, True))
        self.assertNotIn(1101, {entry.gid for entry in desk.guests.values()})
        page = await self.sessions.desk_page(ann, "queued", 2)
        self.assertEqual(([entry.gid for entry in page.guests.values()], page.more), ([1001], False))


class GuestTests(SessionsTestCase):
    async def test_anonymous(self) -> None:
        """An anonymous guest gets a guest_token, and is the same one with it; each login echoes it."""
        first = await self.server.guest_in(self.group)
        self.assertEqual(len(first.guest_token), 43)
        again = await self.server.guest_in(self.group, token=first.guest_token)
        self.assertEqual((again.guest_token, again.principal), (first.guest_token, first.principal))
        other = await self.server.guest_in(self.group)
        self.assertNotEqual(other.principal.person.id, first.principal.person.id)
        self.assertIsNone(first.principal.expires_at)

    async def test_anonymous_not_allowed(self) -> None:
        """Where they are not allowed, new anonymous guests are refused; those who have a token come in."""
        came = await self.server.guest_in(self.group)
        strict = await self.serve(name="strict", anonymous_guests=False)
        with self.assertRaises(errors.AnonymousNotAllowed):
            await strict.guest_in(self.group)
        again = await strict.guest_in(self.group, token=came.guest_token)
        self.assertEqual(again.principal, came.principal)

    async def test_unknown_token(self) -> None:
        """A guest_token that nobody has is said to be revoked; no guest is made."""
        with self.assertRaises(errors.GuestTokenRevoked):
            await self.server.guest_in(self.group, token="x" * 43)
        self.assertEqual(self.query("SELECT * FROM guest"), [])

    async def test_customer(self) -> None:
        """A customer of the shop is the same guest at every login; what the token says overwrites."""
        first = await self.server.guest_in(
            self.group, claims=guest_claims("c-1", name="Lee", avatar="a.png", profile={"vip": True})
        )
        self.assertEqual(first.guest_token, "")
        self.assertEqual((first.principal.person.name, first.principal.expires_at), ("Lee", 2**40))
        again = await self.server.guest_in(self.group, claims=guest_claims("c-1", name="Lee Wong"))
        self.assertEqual(again.principal.person.id, first.principal.person.id)
        self.assertEqual(self.query("SELECT name, avatar, profile FROM guest"), [("Lee Wong", "a.png", '{"vip":true}')])

    async def test_group(self) -> None:
        """The only group need not be named; of several one must be, and a token's group opens that one only."""
        self.assertEqual((await self.server.guest_in()).principal.group_id, self.group)
        another = new_group(self.dsn, "another")
        bound = guest_claims("c-1", group_id=another)
        self.assertEqual((await self.server.guest_in(claims=bound)).principal.group_id, another)
        self.assertEqual((await self.server.guest_in(another, claims=bound)).principal.group_id, another)
        for group_id, claims in ((None, None), (10**12, None), (self.group, bound), (None, guest_claims("c-1"))):
            with self.assertRaises(errors.GuestGroupBanned):
                await self.server.guest_in(group_id, claims=claims)
        self.query("UPDATE service_group SET status = 'banned' WHERE id = %s", another)
        with self.assertRaises(errors.GuestGroupBanned):
            await self.server.guest_in(claims=bound)

    async def test_banned(self) -> None:
        """A banned guest is refused, by token and by guest_token."""
        came = await self.server.guest_in(self.group)
        await self.server.guest_in(self.group, claims=guest_claims("c-1"))
        self.query("UPDATE guest SET status = 'banned'")
        for kind in ({"token": came.guest_token}, {"claims": guest_claims("c-1")}):
            with self.assertRaises(errors.GuestBanned):
                await self.server.guest_in(self.group, **kind)

    async def test_too_many(self) -> None:
        """A guest has so many tabs at most; a login that is refused leaves nothing behind."""
        few = await self.serve(name="few", max_connections=2)
        came = await few.guest_in(self.group, ix="one")
        await few.guest_in(self.group, token=came.guest_token, ix="two")
        with self.assertRaises(errors.TooManyConnections):
            await few.guest_in(self.group, token=came.guest_token, context='{"title":"x"}', ix="three")
        self.assertEqual(self.query("SELECT context FROM conversation"), [("{}",)])
        await few.guest_in(self.group, token=came.guest_token, ix="two")

    async def test_same_identity(self) -> None:
        """A login on a logged-in connection is for the same guest in the same group, else it is refused."""
        came = await self.server.guest_in(self.group, ix="tab")
        customer = await self.server.guest_in(self.group, claims=guest_claims("c-1"), ix="shop")
        another = new_group(self.dsn, "another")
        current = came.principal
        again = await self.server.guest_in(self.group, token=came.guest_token, ix="tab", current=current)
        self.assertEqual(again.principal, current)
        again = await self.server.guest_in(
            self.group, claims=guest_claims("c-1"), ix="shop", current=customer.principal
        )
        self.assertEqual(again.principal, customer.principal)
        cases: list[dict[str, Any]] = [
            {"group_id": self.group, "claims": guest_claims("c-1")},
            {"group_id": self.group, "claims": guest_claims("c-2")},
            {"group_id": another, "token": came.guest_token},
            {"group_id": self.group},
        ]
        for case in cases:
            with self.assertRaises(errors.NotPermitted):
                await self.server.guest_in(**case, ix="tab", current=current)
        self.assertEqual(self.query("SELECT count(*) FROM guest"), [(2,)])

    async def test_noted(self) -> None:
        """Who serves the guest, or all admins where the guest waits, see that somebody is here with a new context."""
        came = await self.server.guest_in(self.group)

        async def seen(**login: Any) -> list[Event]:
            again = await self.server.guest_in(self.group, token=came.guest_token, **login)
            self.assertEqual(list(again.events), [])
            return noted((await self.sessions.welcome(again.principal)).entry)

        self.assertEqual(await seen(), [])
        await self.server.assignment.start(came.principal)
        waiting = GroupChanged(self.group, conversations=frozenset([came.principal.conversation_id or 0]))
        self.assertEqual(await seen(context='{"title":"b"}'), [waiting])
        ann = await self.on_duty()
        [event] = self.of_kind(await seen(), GuestNoted)
        self.assertEqual((event.admin_id, event.entry.context), (ann.person.id, '{"title":"b"}'))
        self.assertTrue(event.entry.online)

    async def test_welcome(self) -> None:
        """The reply to a login: the newest twenty messages, who serves or the place in the queue."""
        guest = await self.guest()
        welcome = await self.sessions.welcome(guest)
        self.assertEqual((welcome.standing, welcome.recs), (Standing("new", None, None), []))
        await gatherResults([self.server.say(guest, f"{n}") for n in range(25)])
        welcome = await self.sessions.welcome(guest)
        self.assertEqual(welcome.standing, Standing("queued", None, QueuePlace(1, 1, 0)))
        self.assertEqual([message.seq for message in welcome.recs], list(range(6, 26)))
        ann = await self.on_duty()
        welcome = await self.sessions.welcome(guest)
        self.assertEqual(welcome.standing, Standing("serving", ann.person, None))

    async def test_refresh(self) -> None:
        """At a refresh (a login on the same connection) it is looked up again whether the guest may be here."""
        customer: dict[str, Any] = {"group_id": self.group, "claims": guest_claims("c-1"), "ix": "tab"}
        came = await self.server.guest_in(**customer)
        for table, error in (("guest", errors.GuestBanned), ("service_group", errors.GuestGroupBanned)):
            self.query(f"UPDATE {table} SET status = 'banned'")
            with self.assertRaises(error):
                await self.server.guest_in(**customer, current=came.principal)
            self.query(f"UPDATE {table} SET status = 'active'")
        again = await self.server.guest_in(**customer, current=came.principal)
        self.assertEqual(again.principal, came.principal)

    async def test_log_out(self) -> None:
        """An anonymous guest who logs out is forgotten: the service ends, the guest_token opens nothing."""
        came = await self.server.guest_in(self.group)
        guest = came.principal
        await self.server.assignment.start(guest)
        events = await self.sessions.forget_anonymous(guest, "tab")
        [change] = self.of_kind(events, ServiceChanged)
        self.assertEqual((change.entry.state, change.entry.reason), ("ended", "ended_by_guest"))
        self.assertEqual(self.of_kind(events, Expelled), [Expelled(guest.topic, 4001, "logged out", but_not="tab")])
        with self.assertRaises(errors.GuestTokenRevoked):
            await self.server.guest_in(self.group, token=came.guest_token)
        fresh = await self.guest()
        told = await self.sessions.forget_anonymous(fresh, "tab")
        self.assertEqual(told, [Expelled(fresh.topic, 4001, "logged out", but_not="tab")])

    async def test_log_out_of_all_groups(self) -> None:
        """What an anonymous guest has with another group ends too, for its admin, and the tabs there have to go."""
        another = new_group(self.dsn, "another")
        ann = new_admin(self.dsn, another)
        await self.server.admin_in(ann)
        here = await self.server.guest_in(self.group, ix="here")
        there = await self.server.guest_in(another, token=here.guest_token, ix="there")
        for guest in (here.principal, there.principal):
            await self.server.say(guest)
        events = await self.sessions.forget_anonymous(here.principal, "here")
        told = {change.entry.group_id: change for change in self.of_kind(events, ServiceChanged)}
        self.assertEqual(set(told), {self.group, another})
        self.assertEqual(
            {(change.entry.state, change.entry.reason) for change in told.values()}, {("ended", "ended_by_guest")}
        )
        self.assertEqual((told[self.group].was_admin_id, told[another].was_admin_id), (None, ann.person.id))
        self.assertEqual([self.state(guest) for guest in (here.principal, there.principal)], [("ended", None)] * 2)
        topics = [here.principal.topic, there.principal.topic]
        expected = [Expelled(topic, 4001, "logged out", but_not="here") for topic in topics]
        self.assertEqual(self.of_kind(events, Expelled), expected)
        for group_id in (self.group, another):
            with self.assertRaises(errors.GuestTokenRevoked):
                await self.server.guest_in(group_id, token=here.guest_token)

    async def test_tab_closed(self) -> None:
        """A tab that is closed ends its session, and nothing else."""
        guest = await self.guest(ix="tab")
        await self.server.assignment.start(guest)
        self.assertEqual(await self.sessions.ended(guest, "tab"), [])
        self.assertEqual((self.live(), self.state(guest)), (set(), ("queued", None)))


class OutageTests(OwnClusterTestCase):
    async def test_owed(self) -> None:
        """Connections that end while the database is away are ended when it is back, those of admins too."""
        group = new_group(self.dsn)
        server = await served(self, self.dsn, timeout=0.5)
        ann = new_admin(self.dsn, group)
        await server.admin_in(ann, "desk")
        guest = await server.guest(group, ix="tab")
        await server.say(guest)
        self.cluster.stop()
        events: list[Event] = []
        for principal, ix in ((ann, "desk"), (guest, "tab")):
            events += await server.sessions.ended(principal, ix)
        self.assertEqual(events, [])
        with self.assertRaises(StorageError):
            await server.sessions.settle_owed()
        self.cluster.start()
        live = "SELECT ix FROM session WHERE ended_at IS NULL ORDER BY ix"
        self.assertEqual(execute(self.dsn, live), [("desk",), ("tab",)])
        connected = False
        while not connected:
            try:
                events = await server.sessions.settle_owed()
                connected = True
            except StorageError:
                continue
        self.assertEqual(events, [GroupChanged(group, frozenset([ann.person.id]), queue=True)])
        self.assertEqual(execute(self.dsn, live), [])
        self.assertEqual(await server.sessions.settle_owed(), [])
        self.assertEqual(execute(self.dsn, "SELECT state FROM conversation"), [("serving",)])
        age(self.dsn, GRACE + 1000)
        await server.node.look_after_cluster()
        self.assertEqual(execute(self.dsn, "SELECT state FROM conversation"), [("queued",)])


class RoleTests(SessionsTestCase):
    async def test_same_number(self) -> None:
        """A guest and an admin with the same number are two people."""
        ann = self.admin()
        self.query("INSERT INTO guest (id) VALUES (%s)", ann.person.id)
        self.query(
            "INSERT INTO session (ix, node_id, person_type, person_id, group_id) VALUES ('tab', %s, 1, %s, %s)",
            *(self.server.node.id, ann.person.id, self.group),
        )
        self.assertEqual(await self.status(ann), OFFLINE)
