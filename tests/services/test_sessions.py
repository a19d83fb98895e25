"""Logging in and out: who may come in, as whom, and what becomes of what was there before."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import gatherResults

from chatproto import errors
from chatproto.domain.events import Event, Expelled, GroupChanged, GuestNoted, ServiceChanged
from chatproto.domain.model import OFFLINE, ONLINE, SERVING, Principal, QueuePlace, Standing, guest_topic
from chatproto.errors import StorageError
from chatproto.services.sessions import GuestLogin
from chatproto.storage import people
from tests.database import OwnClusterTestCase, execute
from tests.worlds import GRACE, WorldTestCase, admin_claims, age, guest_claims, new_admin, new_group, run, served


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
        principal, events = await self.sessions.admin_login(admin_claims(ann.person.id), "desk")
        self.assertEqual(principal, ann)
        [change] = self.of_kind(events, ServiceChanged)
        self.assertEqual((change.entry.gid, change.entry.admin_id), (first.person.id, ann.person.id))
        [group] = self.of_kind(events, GroupChanged)
        self.assertEqual((group.admins, group.queue), ({ann.person.id}, True))
        self.assertEqual((await self.status(ann), self.state(second)), (ONLINE, ("queued", None)))

    async def test_refused(self) -> None:
        """Banned and unknown admins, and those of a banned group, do not come in and are not on line."""
        ann = self.admin()
        with self.assertRaises(errors.AdminBanned):
            await self.sessions.admin_login(admin_claims(10**12), "desk")
        self.query("UPDATE admin SET status = 'banned'")
        with self.assertRaises(errors.AdminBanned):
            await self.sessions.admin_login(admin_claims(ann.person.id), "desk")
        self.query("UPDATE admin SET status = 'active'")
        self.query("UPDATE service_group SET status = 'banned'")
        with self.assertRaises(errors.AdminGroupBanned):
            await self.sessions.admin_login(admin_claims(ann.person.id), "desk")
        self.assertEqual(self.live(), set())

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
        self.assertEqual(list(came.events), [])
        await self.server.assignment.start(came.principal)
        again = await self.server.guest_in(self.group, token=came.guest_token, context='{"title":"b"}')
        self.assertEqual(
            list(again.events),
            [GroupChanged(self.group, conversations=frozenset([came.principal.conversation_id or 0]))],
        )
        ann = await self.on_duty()
        again = await self.server.guest_in(self.group, token=came.guest_token)
        [noted] = self.of_kind(again.events, GuestNoted)
        self.assertEqual((noted.admin_id, noted.entry.context), (ann.person.id, '{"title":"b"}'))

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
        """At a refresh it is looked up again whether the guest may be here."""
        guest = await self.guest()
        await self.sessions.guest(guest)
        for table in ("guest", "service_group"):
            self.query(f"UPDATE {table} SET status = 'banned'")
            with self.assertRaises(errors.LoginAgain):
                await self.sessions.guest(guest)
            self.query(f"UPDATE {table} SET status = 'active'")

    async def test_log_out(self) -> None:
        """An anonymous guest who logs out is forgotten: the service ends, the guest_token opens nothing."""
        came = await self.server.guest_in(self.group)
        await self.server.assignment.start(came.principal)
        events = await self.sessions.forget_anonymous(came.principal)
        [change] = self.of_kind(events, ServiceChanged)
        self.assertEqual((change.entry.state, change.entry.reason), ("ended", "ended_by_guest"))
        with self.assertRaises(errors.GuestTokenRevoked):
            await self.server.guest_in(self.group, token=came.guest_token)
        self.assertEqual(await self.sessions.forget_anonymous(await self.guest()), [])

    async def test_tab_closed(self) -> None:
        """A tab that is closed ends its session, and nothing else."""
        guest = await self.guest(ix="tab")
        await self.server.assignment.start(guest)
        self.assertEqual(await self.sessions.ended(guest, "tab"), [])
        self.assertEqual((self.live(), self.state(guest)), (set(), ("queued", None)))


class AdoptionTests(SessionsTestCase):
    """A token together with a guest_token: an anonymous guest turns out to be a customer (protocol, 2.2)."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.anonymous = await self.server.guest_in(self.group)
        self.before = self.anonymous.principal

    async def adopt(self, external_id: str = "c-1", ix: str = "shop") -> GuestLogin:
        claims = guest_claims(external_id, name="Lee")
        return await self.server.guest_in(self.group, claims=claims, token=self.anonymous.guest_token, ix=ix)

    async def assert_revoked(self, came: GuestLogin) -> None:
        """The guest_token opens nothing any more, other tabs have to log in again."""
        self.assertEqual(came.guest_token, "")
        with self.assertRaises(errors.GuestTokenRevoked):
            await self.server.guest_in(self.group, token=self.anonymous.guest_token)
        [expelled] = self.of_kind(came.events, Expelled)
        self.assertEqual((expelled.topic, expelled.code), (guest_topic(self.group, self.before.person.id), 4000))
        self.assertEqual(expelled.but_not, "shop")

    async def test_new_customer(self) -> None:
        """A customer not known yet: the anonymous guest becomes the customer, same gid, the service goes on."""
        ann = await self.on_duty()
        await self.server.say(self.before, "hi")
        came = await self.adopt()
        self.assertEqual(came.principal.person.id, self.before.person.id)
        self.assertEqual(came.principal.conversation_id, self.before.conversation_id)
        self.assertEqual(self.query("SELECT external_id, name FROM guest"), [("c-1", "Lee")])
        self.assertEqual((self.state(self.before), self.bodies(self.before)), (("serving", ann.person.id), ['"hi"']))
        await self.assert_revoked(came)

    async def test_known_without_conversation(self) -> None:
        """A known customer new to this group: the conversation moves to the customer, the admin keeps it."""
        customer = await self.server.guest_in(new_group(self.dsn, "another"), claims=guest_claims("c-1"))
        ann = await self.on_duty()
        await self.server.say(self.before, "hi")
        came = await self.adopt()
        gid = customer.principal.person.id
        self.assertEqual((came.principal.person.id, came.principal.conversation_id), (gid, self.before.conversation_id))
        self.assertEqual((self.state(self.before), self.bodies(self.before)), (("serving", ann.person.id), ['"hi"']))
        [old] = [e for e in self.of_kind(came.events, GuestNoted) if e.entry.gid == self.before.person.id]
        self.assertEqual((old.entry.state, old.admin_id), ("ended", ann.person.id))
        [arrived] = self.of_kind(came.events, ServiceChanged)
        self.assertEqual((arrived.entry.gid, arrived.entry.admin_id), (gid, ann.person.id))
        self.assertEqual((arrived.handover.to_aix, arrived.handover.from_aix), (ann.person.id, None))
        self.assertEqual([message.sender.id for message in arrived.recs], [gid])
        await self.assert_revoked(came)
        sent, _ = await self.server.say(came.principal, "here again")
        self.assertEqual(sent.message.seq, 2)

    async def test_known_and_waiting(self) -> None:
        """The same while the guest waits: the place in the queue stays, all admins see who waits now."""
        await self.server.guest_in(new_group(self.dsn, "another"), claims=guest_claims("c-1"))
        await self.server.assignment.start(self.before)
        await self.customer()
        came = await self.adopt()
        welcome = await self.sessions.welcome(came.principal)
        self.assertEqual(welcome.standing.queue, QueuePlace(1, 2, 0))
        [old] = self.of_kind(came.events, GuestNoted)
        self.assertEqual((old.entry.gid, old.entry.state, old.admin_id), (self.before.person.id, "ended", None))
        await self.assert_revoked(came)

    async def test_known_with_conversation(self) -> None:
        """A customer with a conversation in this group: that one is taken, the anonymous service ends."""
        customer = await self.server.guest_in(self.group, claims=guest_claims("c-1"))
        ann = await self.on_duty()
        await self.server.say(self.before, "hi")
        came = await self.adopt()
        self.assertEqual(came.principal.person.id, customer.principal.person.id)
        self.assertEqual(came.principal.conversation_id, customer.principal.conversation_id)
        self.assertEqual((self.state(self.before), self.state(came.principal)), (("ended", None), ("new", None)))
        [change] = self.of_kind(came.events, ServiceChanged)
        self.assertEqual((change.entry.gid, change.was_admin_id), (self.before.person.id, ann.person.id))
        await self.assert_revoked(came)

    async def test_bad_guest_token(self) -> None:
        """A bad guest_token beside a good token is ignored."""
        claims = guest_claims("c-1")
        came = await self.server.guest_in(self.group, claims=claims, token="x" * 43)
        self.assertNotEqual(came.principal.person.id, self.before.person.id)
        self.assertEqual(self.of_kind(came.events, Expelled), [])

    async def test_again(self) -> None:
        """A client that goes on sending both is the customer; nothing ends."""
        ann = await self.on_duty()
        await self.server.say(self.before, "hi")
        first = await self.adopt()
        again = await self.adopt(ix="second")
        self.assertEqual(again.principal.person.id, first.principal.person.id)
        self.assertEqual(self.state(self.before), ("serving", ann.person.id))
        self.assertEqual(self.of_kind(again.events, Expelled), [])

    async def test_two_tabs_at_once(self) -> None:
        """Two tabs that say so at once are both the customer, and the service goes on."""
        ann = await self.on_duty()
        await self.server.say(self.before, "hi")
        other = await self.serve(name="other")
        claims = guest_claims("c-1")
        logins = [
            run(server.guest_in(self.group, claims=claims, token=self.anonymous.guest_token))
            for server in (self.server, other)
        ]
        came = await gatherResults(logins)
        self.assertEqual({login.principal.person.id for login in came}, {self.before.person.id})
        self.assertEqual(self.state(self.before), ("serving", ann.person.id))

    async def test_customer_with_a_guest_token(self) -> None:
        """Where another tab was quicker, the guest_token is the customer's own: nothing is taken along or ended."""
        ann = await self.on_duty()
        await self.server.say(self.before, "hi")
        self.query("UPDATE guest SET external_id = 'c-1' WHERE id = %s", self.before.person.id)
        came = await self.adopt()
        self.assertEqual(came.principal.conversation_id, self.before.conversation_id)
        self.assertEqual(self.state(self.before), ("serving", ann.person.id))
        self.assertEqual([type(event) for event in came.events], [GuestNoted])

    async def test_banned_customer(self) -> None:
        """A banned customer is refused, and the anonymous guest stays what it is."""
        await self.server.guest_in(self.group, claims=guest_claims("c-1"))
        self.query("UPDATE guest SET status = 'banned' WHERE external_id = 'c-1'")
        with self.assertRaises(errors.GuestBanned):
            await self.adopt()
        again = await self.server.guest_in(self.group, token=self.anonymous.guest_token)
        self.assertEqual(again.principal, self.before)

    async def test_banned_anonymous(self) -> None:
        """What a banned anonymous guest left does not come along."""
        self.query("UPDATE guest SET status = 'banned'")
        came = await self.adopt()
        self.assertNotEqual(came.principal.person.id, self.before.person.id)


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
