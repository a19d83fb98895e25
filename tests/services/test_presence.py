"""A node among others: its lease, its way back, and what one node does for all."""

from __future__ import annotations

import contextlib

import psycopg2
from twisted.internet.defer import gatherResults

from chatproto.domain.events import Event, GroupChanged, GuestNoted, ServiceChanged
from chatproto.domain.model import OFFLINE, ONLINE, Principal, Role
from chatproto.errors import StorageError
from chatproto.services.presence import LEASE_SECONDS, SELDOM
from chatproto.storage import people, presence
from chatproto.storage.presence import LEASE, Session
from tests.database import OwnClusterTestCase, execute
from tests.worlds import (
    GRACE,
    QUEUE_LEAVE,
    SERVICE_IDLE,
    Server,
    WorldTestCase,
    age,
    eventually,
    new_admin,
    new_group,
    run,
    served,
)


class NodeTestCase(WorldTestCase):
    def status(self, admin: Principal) -> int:
        """As colleagues see it."""
        live = self.query(
            "SELECT 1 FROM session WHERE person_type = 3 AND person_id = %s AND ended_at IS NULL", admin.person.id
        )
        return ONLINE if live else OFFLINE

    async def on_node(self, server: Server, admin: Principal) -> str:
        """Log an admin in on a node, which knows of the connection."""
        ix, _ = await server.admin_in(admin)
        server.live.append(Session(ix, Role.ADMIN, admin.person.id, admin.group_id))
        return ix

    async def look(self, server: Server | None = None, rounds: int = SELDOM) -> list[Event]:
        """Look after the cluster as often as it takes until everything was looked at."""
        events: list[Event] = []
        for _ in range(rounds):
            events += await (server or self.server).node.look_after_cluster()
        return events

    def pass_time(self, milliseconds: int, *others: Server) -> None:
        """On every clock."""
        age(self.dsn, milliseconds)
        for server in (self.server, *others):
            server.time.advance(milliseconds / 1000)


class LeaseTests(NodeTestCase):
    async def test_renewed(self) -> None:
        """A node that renews in time stays what it is."""
        before = self.server.node.id
        for _ in range(10):
            self.pass_time(5000)
            self.assertEqual(await self.server.node.renew(), [])
        self.assertEqual((self.server.node.id, self.server.came_back), (before, 0))

    async def test_froze(self) -> None:
        """By its own clock a node knows at once that it stood still for too long."""
        self.server.time.advance(LEASE_SECONDS - 0.1)
        self.assertTrue(self.server.node.alive())
        self.server.time.advance(0.1)
        self.assertFalse(self.server.node.alive())

    async def test_stop(self) -> None:
        """A node that stops leaves no session, and others do not have to give it up."""
        ann = self.admin()
        await self.on_node(self.server, ann)
        await self.server.node.stop()
        self.assertEqual(self.status(ann), OFFLINE)
        self.assertEqual(self.query("SELECT * FROM node"), [])

    async def test_restart(self) -> None:
        """After a restart everybody has the whole grace again, counted from the start."""
        ann = self.admin()
        await self.on_node(self.server, ann)
        guest = await self.customer("serving")
        await self.server.say(guest)
        age(self.dsn, 10 * GRACE)
        restarted = await self.serve()
        self.assertEqual(self.status(ann), OFFLINE)
        await self.look(restarted)
        self.assertEqual(self.state(guest), ("serving", ann.person.id))
        age(self.dsn, GRACE + 1000)
        await self.look(restarted)
        self.assertEqual(self.state(guest), ("queued", None))

    async def live_on(self, seconds: int, *servers: Server) -> None:
        """Time passes, and these nodes renew their leases."""
        for _ in range(seconds // 5):
            age(self.dsn, 5000)
            for server in servers:
                server.time.advance(5)
                await server.node.renew()

    async def lost_for_long(self) -> tuple[Principal, Principal, Principal]:
        """An admin who has been away for longer than the grace, one guest who waits for an answer, and a silent one."""
        ann = self.admin()
        ix, _ = await self.server.admin_in(ann)
        guest, silent = await self.customer("serving"), await self.customer("serving")
        await self.server.say(guest)
        await self.server.sessions.ended(ann, ix)
        await self.live_on(60, self.server)
        return ann, guest, silent

    async def test_start_after_an_outage(self) -> None:
        """While no node ran no grace was over: it counts from the start, and who comes back in it keeps everybody."""
        ann, guest, silent = await self.lost_for_long()
        await self.server.node.stop()
        age(self.dsn, 10 * GRACE)
        started = await self.serve()
        await self.look(started)
        await self.live_on(40, started)
        self.assertEqual(await self.look(started), [])
        self.assertEqual((self.state(guest), self.column(silent, "away")), (("serving", ann.person.id), False))
        await self.live_on(10, started)
        events = await self.look(started)
        self.assertEqual((self.state(guest), self.column(silent, "away")), (("queued", None), True))
        self.assertEqual(len(self.of_kind(events, ServiceChanged)), 1)

    async def test_back_after_an_outage(self) -> None:
        """Who comes back within the grace after the start keeps everybody, and the suspension."""
        ann, guest, _ = await self.lost_for_long()
        await self.server.assignment.suspend(ann, True)
        await self.server.node.stop()
        age(self.dsn, 10 * GRACE)
        started = await self.serve()
        await self.live_on(40, started)
        await started.admin_in(ann)
        await self.live_on(60, started)
        await self.look(started)
        self.assertEqual(self.state(guest), ("serving", ann.person.id))
        self.assertEqual(self.query("SELECT suspended FROM admin"), [(True,)])

    async def test_start_of_a_second_node(self) -> None:
        """A node that starts beside one that lives grants no grace anew."""
        _, guest, silent = await self.lost_for_long()
        second = await self.serve(name="second")
        await self.look(second)
        self.assertEqual((self.state(guest), self.column(silent, "away")), (("queued", None), True))

    async def test_restart_of_a_second_node(self) -> None:
        """Of a node that restarts beside another, the admins have the grace from when that was noticed, once."""
        second = await self.serve(name="second")
        await self.live_on(60, self.server, second)
        ann = self.admin()
        await self.on_node(second, ann)
        guest = await self.customer("serving")
        await self.server.say(guest)
        again = await self.serve(name="second")
        await self.live_on(40, self.server, again)
        await self.look(again)
        self.assertEqual(self.state(guest), ("serving", ann.person.id))
        await self.live_on(10, self.server, again)
        await self.look(again)
        self.assertEqual(self.state(guest), ("queued", None))

    async def test_banned_group(self) -> None:
        """A banned group stays as it is, however long nobody is there; when the ban is lifted things go on."""
        ann, guest, silent = await self.lost_for_long()
        left = await self.guest(ix="left")
        await self.server.assignment.start(left)
        await self.server.sessions.ended(left, "left")
        await self.server.assignment.suspend(ann, True)
        self.query("UPDATE service_group SET status = 'banned'")
        before = self.query("SELECT * FROM conversation ORDER BY id"), self.query("SELECT suspended FROM admin")
        self.query("UPDATE node SET started_at = 0")
        self.query("UPDATE session SET ended_at = 0, settled = true")
        self.query("UPDATE service SET started_at = 0")
        self.assertEqual(await self.look(), [])
        after = self.query("SELECT * FROM conversation ORDER BY id"), self.query("SELECT suspended FROM admin")
        self.assertEqual(after, before)
        self.query("UPDATE service_group SET status = 'active'")
        await self.look()
        states = [self.state(each)[0] for each in (guest, silent, left)]
        self.assertEqual(states, ["queued", "ended", "ended"])
        self.assertEqual(self.query("SELECT suspended FROM admin"), [(False,)])


class ComeBackTests(NodeTestCase):
    async def given_up(self, server: Server) -> None:
        """Let time pass, and another node that is steady take the dead ones away."""
        watching = await self.serve(name="watching")
        await self.steady(watching)
        self.assertEqual(self.query("SELECT 1 FROM node WHERE id = %s", server.node.id), [])

    async def steady(self, server: Server) -> list[Event]:
        """A node that has renewed for more than a whole lease looks after the cluster."""
        for _ in range(5):
            age(self.dsn, 5000)
            server.time.advance(5)
            await server.node.renew()
        return await self.look(server)

    async def test_given_up(self) -> None:
        """A node that was given up comes back with all its connections, and says that pushes may be lost."""
        ann, lee = self.admin(), await self.guest()
        await self.on_node(self.server, ann)
        self.server.live.append(Session("tab", Role.GUEST, lee.person.id, self.group))
        before = self.server.node.id
        await self.given_up(self.server)
        self.assertEqual(self.status(ann), OFFLINE)
        with self.assertRaises(StorageError):
            await self.server.admin_in(ann)
        events = await self.server.node.renew()
        self.assertNotEqual(self.server.node.id, before)
        self.assertEqual((self.status(ann), self.server.came_back), (ONLINE, 1))
        self.assertEqual(self.query("SELECT ended_at FROM session WHERE ix = 'tab'"), [(None,)])
        self.assertEqual(
            self.of_kind(events, GroupChanged), [GroupChanged(self.group, frozenset([ann.person.id]), queue=True)]
        )
        self.assertEqual(await self.server.node.renew(), [])
        await self.server.admin_in(ann)

    async def test_keeps_guests(self) -> None:
        """An admin whose node was given up for longer than the grace keeps, once back, who is still there."""
        ann = self.admin()
        await self.on_node(self.server, ann)
        silent, unanswered = await self.customer("serving"), await self.customer("serving")
        await self.server.say(unanswered)
        await self.given_up(self.server)
        watching = await self.serve(name="another")
        age(self.dsn, GRACE)
        await self.look(watching)
        self.assertEqual((self.column(silent, "away"), self.state(unanswered)), (True, ("queued", None)))
        events = await self.server.node.renew()
        self.assertFalse(self.column(silent, "away"))
        self.assertEqual(self.state(unanswered), ("serving", ann.person.id))
        [change] = self.of_kind(events, ServiceChanged)
        self.assertEqual((change.entry.id, change.was_admin_id), (unanswered.conversation_id, None))

    async def test_froze(self) -> None:
        """A node that stood still past its lease takes a new incarnation although nobody has given it up yet."""
        ann = self.admin()
        await self.on_node(self.server, ann)
        before = self.server.node.id
        self.server.time.advance(LEASE_SECONDS)
        await self.server.node.renew()
        self.assertTrue(self.server.node.alive())
        self.assertEqual(self.query("SELECT id FROM node"), [(self.server.node.id,)])
        self.assertNotEqual(self.server.node.id, before)
        self.assertEqual(self.status(ann), ONLINE)

    async def test_ended_meanwhile(self) -> None:
        """A connection that ends while the node comes back does not stay behind as a session."""
        ann = self.admin()
        ix = await self.on_node(self.server, ann)
        self.server.time.advance(LEASE_SECONDS)
        stranger = psycopg2.connect(self.dsn)
        self.addCleanup(stranger.close)
        stranger.cursor().execute("SELECT FROM node FOR UPDATE")
        renewed = run(self.server.node.renew())
        await eventually(lambda: self.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
        self.server.live.clear()
        await self.server.sessions.ended(ann, ix)
        stranger.rollback()
        await renewed
        self.assertEqual(self.status(ann), OFFLINE)

    async def test_banned_meanwhile(self) -> None:
        """Who was banned while the node was away does not keep the others from coming back."""
        ann, bob = self.admin(), self.admin("Bob")
        for admin in (ann, bob):
            await self.on_node(self.server, admin)
        self.query("UPDATE admin SET status = 'banned' WHERE id = %s", ann.person.id)
        self.server.time.advance(LEASE_SECONDS)
        events = await self.server.node.renew()
        self.assertEqual([event.admins for event in self.of_kind(events, GroupChanged)], [{bob.person.id}])

    async def test_not_steady(self) -> None:
        """A node that has not renewed for a whole lease itself gives nobody up: maybe the database was away."""
        other = await self.serve(name="other")
        ann = self.admin()
        await self.on_node(other, ann)
        self.pass_time(LEASE + 1000)
        await self.server.node.renew()
        for _ in range(3):
            self.server.time.advance(5)
            await self.server.node.renew()
            await self.look()
        self.assertEqual(self.status(ann), ONLINE)
        events = await self.steady(self.server)
        self.assertEqual(self.status(ann), OFFLINE)
        self.assertIn(GroupChanged(self.group, frozenset([ann.person.id]), queue=True), events)

    async def test_a_gap(self) -> None:
        """A node that could not renew for half a lease starts counting anew before it gives others up."""
        await self.steady(self.server)
        other = await self.serve(name="other")
        ann = self.admin()
        await self.on_node(other, ann)
        self.query("UPDATE node SET lease_until = 0 WHERE id = %s", other.node.id)
        self.server.time.advance(LEASE_SECONDS / 2 + 1)
        await self.server.node.renew()
        await self.look()
        self.assertEqual(self.status(ann), ONLINE)


class LookingAfterTests(NodeTestCase):
    async def test_one_at_a_time(self) -> None:
        """While another node looks after the cluster, this one does nothing."""
        stranger = psycopg2.connect(self.dsn)
        self.addCleanup(stranger.close)
        stranger.cursor().execute("SELECT pg_advisory_xact_lock(2, 0)")
        ann = self.admin()
        ix, _ = await self.server.admin_in(ann)
        guest = await self.customer("serving")
        await self.server.say(guest)
        await self.server.sessions.ended(ann, ix)
        age(self.dsn, GRACE + 1000)
        self.assertEqual(await self.look(), [])
        stranger.rollback()
        await self.look(rounds=1)
        self.assertEqual(self.state(guest), ("queued", None))

    async def test_lost(self) -> None:
        """When the grace is over, who wrote last goes to the head of the queue, the longest unanswered first."""
        ann = self.admin()
        ix, _ = await self.server.admin_in(ann)
        first, second, silent = [await self.customer("serving") for _ in range(3)]
        await self.server.say(second)
        await self.server.say(first)
        await self.server.answer(ann, first)
        await self.server.say(first)
        await self.server.answer(ann, silent)
        await self.server.assignment.suspend(ann, True)
        waiting = await self.customer()
        await self.server.sessions.ended(ann, ix)
        self.assertEqual(await self.look(rounds=1), [])
        age(self.dsn, GRACE + 1000)
        events = await self.look(rounds=1)
        told = [(change.entry.gid, change.entry.reason) for change in self.of_kind(events, ServiceChanged)]
        self.assertEqual(sorted(told), [(first.person.id, "admin_lost"), (second.person.id, "admin_lost")])
        queue = self.query(
            "SELECT guest_id FROM conversation WHERE state = 'queued' ORDER BY queue_rank, queued_at, id"
        )
        self.assertEqual([gid for (gid,) in queue], [g.person.id for g in (second, first, waiting)])
        self.assertEqual((self.state(silent), self.column(silent, "away")), (("serving", ann.person.id), True))
        self.assertEqual(self.query("SELECT suspended FROM admin"), [(False,)])
        self.assertEqual(await self.look(rounds=1), [])

    async def test_back_in_time(self) -> None:
        """Who comes back within the grace keeps everybody and the suspension."""
        ann = self.admin()
        ix, _ = await self.server.admin_in(ann)
        guest = await self.customer("serving")
        await self.server.say(guest)
        await self.server.assignment.suspend(ann, True)
        await self.server.sessions.ended(ann, ix)
        age(self.dsn, GRACE - 5000)
        await self.look()
        await self.server.admin_in(ann)
        age(self.dsn, GRACE)
        await self.look()
        self.assertEqual(self.state(guest), ("serving", ann.person.id))
        self.assertEqual(self.query("SELECT suspended FROM admin"), [(True,)])

    async def test_back_later(self) -> None:
        """Who comes back after the grace keeps those who stayed, who are answered as before."""
        ann = self.admin()
        ix, _ = await self.server.admin_in(ann)
        silent = await self.customer("serving")
        await self.server.sessions.ended(ann, ix)
        age(self.dsn, GRACE + 1000)
        await self.look()
        self.assertTrue(self.column(silent, "away"))
        await self.server.admin_in(ann)
        self.assertFalse(self.column(silent, "away"))
        _, standing = await self.server.say(silent)
        self.assertEqual((standing.state, self.state(silent)), ("serving", ("serving", ann.person.id)))

    async def test_services_end(self) -> None:
        """A silent service ends by itself, and the guest is told why; who waits then gets the place."""
        ann = await self.on_duty(capacity=1)
        silent = await self.customer("serving")
        age(self.dsn, SERVICE_IDLE)
        waiting = await self.customer()
        self.assertEqual(await self.look(rounds=SELDOM - 1), [])
        events = await self.look(rounds=1)
        told = {
            change.entry.gid: (change.entry.state, change.entry.reason)
            for change in self.of_kind(events, ServiceChanged)
        }
        self.assertEqual(told, {silent.person.id: ("ended", "timeout"), waiting.person.id: ("serving", "assigned")})
        self.assertEqual(self.state(waiting), ("serving", ann.person.id))
        self.assertEqual(self.query("SELECT reason FROM service WHERE ended_at IS NOT NULL"), [("timeout",)])

    async def test_queue_left(self) -> None:
        """A guest who wrote nothing and went away leaves the queue; who wrote stays."""
        left, wrote = await self.guest(ix="one"), await self.guest(ix="two")
        await self.server.assignment.start(left)
        await self.server.say(wrote)
        for guest, ix in ((left, "one"), (wrote, "two")):
            await self.server.sessions.ended(guest, ix)
        age(self.dsn, QUEUE_LEAVE + 1000)
        await self.look()
        self.assertEqual((self.state(left)[0], self.state(wrote)[0]), ("ended", "queued"))

    async def test_safety_net(self) -> None:
        """A free place that no event told of is found within a few rounds."""
        ann = self.admin(capacity=0)
        await self.server.admin_in(ann)
        guest = await self.customer()
        self.query("UPDATE admin SET capacity = 1")
        events = await self.look()
        self.assertEqual(self.state(guest), ("serving", ann.person.id))
        self.assertEqual(len(self.of_kind(events, ServiceChanged)), 1)

    async def test_off_line(self) -> None:
        """Who serves a guest who went off line is told so once; of one who waits all are told; of others nobody."""
        ann = await self.on_duty(capacity=1)
        served_, waiting, ended = [await self.guest(ix=ix) for ix in ("one", "two", "three")]
        for guest in (served_, waiting):
            await self.server.assignment.start(guest)
        for guest, ix in ((served_, "one"), (waiting, "two"), (ended, "three")):
            await self.server.sessions.ended(guest, ix)
        self.assertEqual(await self.look(rounds=1), [])
        age(self.dsn, 10_000)
        events = await self.look(rounds=1)
        [noted] = self.of_kind(events, GuestNoted)
        self.assertEqual(
            (noted.entry.gid, noted.admin_id, noted.entry.online), (served_.person.id, ann.person.id, False)
        )
        changed = self.of_kind(events, GroupChanged)
        self.assertEqual([event.conversations for event in changed], [{waiting.conversation_id}])
        self.assertEqual(await self.look(rounds=1), [])

    async def test_forgotten(self) -> None:
        """Sessions of yesterday are deleted."""
        await self.guest(ix="tab")
        await presence.end(self.server.pool, "tab")
        age(self.dsn, presence.KEEP_SESSIONS + 1000)
        await self.look()
        self.assertEqual(self.query("SELECT ix FROM session"), [])


class OutageTests(OwnClusterTestCase):
    async def test_nobody_is_given_up(self) -> None:
        """PostgreSQL away for longer than any lease re-assigns nobody, whichever node is back first."""
        group = new_group(self.dsn)
        servers = [await served(self, self.dsn, name=name, timeout=1.0) for name in ("a", "b")]
        first, second = servers
        admins = [new_admin(self.dsn, group, name) for name in ("Ann", "Bob")]
        guests = []
        for server, admin in zip(servers, admins, strict=True):
            ix, _ = await server.admin_in(admin)
            server.live.append(Session(ix, Role.ADMIN, admin.person.id, group))
            guest = await server.guest(group)
            await server.say(guest)
            guests.append(guest)
        for _ in range(5):
            for server in servers:
                server.time.advance(5)
                await server.node.renew()
        states = "SELECT guest_id, state, admin_id, away, step_rev FROM conversation ORDER BY id"
        before = execute(self.dsn, states)
        self.assertEqual({admin_id for _, _, admin_id, _, _ in before}, {admin.person.id for admin in admins})

        self.cluster.stop()
        for server in servers:
            server.time.advance(30)
            self.assertFalse(server.node.alive())
            with self.assertRaises(StorageError):
                await server.node.renew()
        self.cluster.start()
        age(self.dsn, 30_000)
        await gatherResults([run(self.back(server)) for server in servers])
        for server in (first, first, second, first, second):
            await server.node.renew()
            for _ in range(SELDOM):
                await server.node.look_after_cluster()
            first.time.advance(1)
        self.assertEqual(execute(self.dsn, states), before)
        listed = await people.admins(first.pool, group)
        self.assertEqual([entry.status for entry in listed.values()], [ONLINE, ONLINE])

    async def back(self, server: Server) -> None:
        """Connected again."""
        connected = False
        while not connected:
            with contextlib.suppress(StorageError):
                connected = bool(await server.pool.fetch("SELECT 1"))
