"""An anonymous guest turns out to be a customer: what comes along, what ends, and who is told."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import gatherResults

from chatproto import errors
from chatproto.domain.events import Event, Expelled, GroupChanged, GuestNoted, ServiceChanged
from chatproto.domain.model import QueuePlace, Standing, guest_topic
from chatproto.errors import StorageError
from chatproto.services.sessions import GuestLogin
from tests.worlds import WorldTestCase, guest_claims, new_admin, new_group, run


class AdoptionTests(WorldTestCase):
    """A token together with a guest_token: an anonymous guest turns out to be a customer (protocol, 2.2)."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.sessions = self.server.sessions
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

    async def test_two_guests_at_once(self) -> None:
        """Two anonymous guests who turn out to be the same customer at once: one service goes on, one ends."""
        other = await self.serve(name="other")
        for n in range(5):
            guests = [await self.server.guest_in(self.group) for _ in range(2)]
            for guest in guests:
                await self.server.say(guest.principal)
            claims = guest_claims(f"c-{n}")
            logins = [
                run(server.guest_in(self.group, claims=claims, token=guest.guest_token))
                for server, guest in zip((self.server, other), guests, strict=True)
            ]
            came = await gatherResults(logins)
            [(gid, conversation_id)] = {(c.principal.person.id, c.principal.conversation_id) for c in came}
            by_gid = {guest.principal.person.id: guest.principal for guest in guests}
            self.assertEqual(conversation_id, by_gid[gid].conversation_id)
            states = {guest.person.id: self.state(guest)[0] for guest in by_gid.values()}
            [ended] = by_gid.keys() - {gid}
            self.assertEqual(states, {gid: "queued", ended: "ended"})
            for guest in guests:
                with self.assertRaises(errors.GuestTokenRevoked):
                    await self.server.guest_in(self.group, token=guest.guest_token)

    async def test_customer_with_a_guest_token(self) -> None:
        """Where another tab was quicker, the guest_token is the customer's own: nothing is taken along or ended."""
        ann = await self.on_duty()
        await self.server.say(self.before, "hi")
        self.query("UPDATE guest SET external_id = 'c-1' WHERE id = %s", self.before.person.id)
        came = await self.adopt()
        self.assertEqual(came.principal.conversation_id, self.before.conversation_id)
        self.assertEqual(self.state(self.before), ("serving", ann.person.id))
        self.assertEqual(list(came.events), [])

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

    async def test_two_groups(self) -> None:
        """A customer known in one of the guest's two groups: there the service ends, from the other all comes along."""
        customer = await self.server.guest_in(self.group, claims=guest_claims("c-1"))
        gid = customer.principal.person.id
        another = new_group(self.dsn, "another")
        there = (await self.server.guest_in(another, token=self.anonymous.guest_token, ix="there")).principal
        ann, bob = await self.on_duty(), new_admin(self.dsn, another, "Bob")
        await self.server.admin_in(bob)
        await self.server.say(self.before, "hi")
        await self.server.say(there, "hello")
        await self.server.answer(bob, there, "welcome")
        came = await self.adopt()

        self.assertEqual(came.principal.conversation_id, customer.principal.conversation_id)
        self.assertEqual((self.state(self.before), self.state(there)), (("ended", None), ("serving", bob.person.id)))
        self.assertEqual((self.column(self.before, "guest_id"), self.column(there, "guest_id")), (there.person.id, gid))
        told = {change.entry.group_id: change for change in self.of_kind(came.events, ServiceChanged)}
        ended, moved = told[self.group], told[another]
        self.assertEqual(
            (ended.entry.gid, ended.entry.reason, ended.was_admin_id),
            (self.before.person.id, "ended_by_guest", ann.person.id),
        )
        self.assertEqual((moved.entry.gid, moved.entry.id), (gid, there.conversation_id))
        self.assertEqual((moved.handover.from_aix, moved.handover.to_aix), (None, bob.person.id))
        self.assertEqual([message.sender.id for message in moved.recs], [gid, bob.person.id])
        self.assertEqual(moved.standing, Standing("serving", bob.person, None))
        [old] = self.of_kind(came.events, GuestNoted)
        self.assertEqual(
            (old.entry.gid, old.entry.group_id, old.entry.state, old.admin_id),
            (there.person.id, another, "ended", bob.person.id),
        )
        topics = [guest.topic for guest in (self.before, there)]
        expected = [Expelled(topic, 4000, "you are a customer now", but_not="shop") for topic in topics]
        self.assertEqual(self.of_kind(came.events, Expelled), expected)

        arrived = await self.server.guest_in(another, claims=guest_claims("c-1"), ix="there again")
        self.assertEqual(arrived.principal.conversation_id, there.conversation_id)
        for group_id in (self.group, another):
            with self.assertRaises(errors.GuestTokenRevoked):
                await self.server.guest_in(group_id, token=self.anonymous.guest_token)

    async def test_new_customer_in_two_groups(self) -> None:
        """Who becomes the customer keeps both services; the tabs in both groups have to log in again."""
        another = new_group(self.dsn, "another")
        there = (await self.server.guest_in(another, token=self.anonymous.guest_token)).principal
        for guest in (self.before, there):
            await self.server.say(guest)
        came = await self.adopt()
        self.assertEqual([self.state(guest) for guest in (self.before, there)], [("queued", None)] * 2)
        expected = [
            Expelled(guest.topic, 4000, "you are a customer now", but_not="shop") for guest in (self.before, there)
        ]
        self.assertEqual(list(came.events), expected)

    async def test_waiting_in_another_group(self) -> None:
        """A guest who waits in another group keeps the place there, and that group's admins see who waits."""
        await self.server.guest_in(self.group, claims=guest_claims("c-1"))
        another = new_group(self.dsn, "another")
        there = (await self.server.guest_in(another, token=self.anonymous.guest_token)).principal
        await self.server.say(there)
        queued_at = self.column(there, "queued_at")
        came = await self.adopt()
        self.assertEqual((self.state(there), self.column(there, "queued_at")), (("queued", None), queued_at))
        [old] = self.of_kind(came.events, GuestNoted)
        self.assertEqual((old.entry.group_id, old.entry.state, old.admin_id), (another, "ended", None))
        waiting = GroupChanged(another, conversations=frozenset([there.conversation_id or 0]))
        self.assertIn(waiting, came.events)

    async def test_no_limit(self) -> None:
        """The tabs that have to go do not keep out the one that logs in."""
        few = await self.serve(name="few", max_connections=1)
        claims: dict[str, Any] = {"claims": guest_claims("c-1"), "token": self.anonymous.guest_token}
        came = await few.guest_in(self.group, **claims, ix="shop")
        self.assertEqual(came.principal.person.id, self.before.person.id)
        with self.assertRaises(errors.TooManyConnections):
            await few.guest_in(self.group, **claims, ix="second")

    async def test_login_fails_afterwards(self) -> None:
        """When the login fails after the adoption, whoever is concerned is told of that all the same."""
        await self.server.guest_in(self.group, claims=guest_claims("c-1"))
        ann = await self.on_duty()
        await self.server.say(self.before)
        self.query("DELETE FROM node")
        with self.assertRaises(StorageError):
            await self.adopt()
        told: list[Event] = self.server.told
        [change] = self.of_kind(told, ServiceChanged)
        self.assertEqual((change.entry.gid, change.was_admin_id), (self.before.person.id, ann.person.id))
        [expelled] = self.of_kind(told, Expelled)
        self.assertEqual((expelled.topic, expelled.code), (self.before.topic, 4000))
