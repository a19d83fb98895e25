"""Several processes on one database, without a bus between them: nothing is lost, doubled or left behind.

What of it needs processes that can be frozen uses real ones (tests/integration/peer.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from time import monotonic
from typing import Any

import psycopg2
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater

from chatproto.domain.model import OFFLINE, ONLINE, Principal
from chatproto.services import presence as presence_service
from chatproto.storage import people, presence
from tests.integration.peer import Refused, Remote, flip, flood, peer
from tests.worlds import GRACE, WorldTestCase, age, eventually, run

CONVERSATIONS = 50
MESSAGES = 12


class ClusterTestCase(WorldTestCase):
    async def peers(self, number: int, **options: Any) -> list[Remote]:
        return await gatherResults([run(peer(self, self.dsn, f"peer {n}", **options)) for n in range(number)])

    def ids(self, guest: Principal) -> tuple[int, int, int | None]:
        """How a peer is told of a guest."""
        return guest.person.id, guest.group_id, guest.conversation_id

    def on_line(self, admin: Principal) -> bool:
        return bool(
            self.query(
                "SELECT 1 FROM session WHERE person_id = %s AND person_type = 3 AND ended_at IS NULL", admin.person.id
            )
        )


class HotConversationTests(ClusterTestCase):
    """Three send the same messages to fifty conversations, a fourth flips owners, ends services and reads."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        admins = [await self.on_duty(name, capacity=1000) for name in ("Ann", "Bob")]
        guests = [await self.guest() for _ in range(CONVERSATIONS)]
        self.guests: list[Any] = [(guest.person.id, guest.conversation_id) for guest in guests]
        self.admin_ids = [admin.person.id for admin in admins]

    def check(self, acknowledged: Sequence[Sequence[Any]]) -> None:
        """The replies against the rows, and the rows against themselves."""
        rows = self.query(
            "SELECT conversation_id, seq, sender_type, sender_id, substr(cmid, 2), body FROM message ORDER BY 1, 2"
        )
        stands = {(c, seq): (role, sender, cmid, body) for c, seq, role, sender, cmid, body in rows}
        stored: Counter[tuple[Any, ...]] = Counter()
        for conversation_id, role, sender, cmid, outcome, seq, body in acknowledged:
            self.assertEqual(stands[conversation_id, seq], (role, sender, cmid, body))
            stored[conversation_id, role, sender, cmid] += outcome == "stored"
        self.assertEqual(set(stored.values()), {1})
        self.assertEqual(len(stored), len(rows))
        guests_wrote = [name for name in stored if name[1] == 1]
        self.assertEqual(len(guests_wrote), CONVERSATIONS * MESSAGES)
        wrong = self.query(
            """
            SELECT c.id FROM conversation c LEFT JOIN LATERAL (
                SELECT count(*) AS messages, max(seq) AS last, min(seq) AS first,
                       count(*) FILTER (WHERE sender_type = 1 AND seq > c.admin_read_seq) AS for_admin,
                       count(*) FILTER (WHERE sender_type = 3 AND seq > c.guest_read_seq) AS for_guest
                FROM message WHERE conversation_id = c.id) m ON true
            WHERE (c.last_seq, c.last_seq, 1, c.admin_unread, c.guest_unread)
                  IS DISTINCT FROM (m.messages, m.last, m.first, m.for_admin, m.for_guest)
                  OR (SELECT count(*) FROM service s WHERE s.conversation_id = c.id AND s.ended_at IS NULL)
                     <> (c.state IN ('queued', 'serving'))::integer
            """
        )
        self.assertEqual(wrong, [])
        self.assertEqual(
            self.query("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"), [(0,)]
        )

    async def test_three_in_one(self) -> None:
        """Three journals of one process: no gap, nothing twice, exact counts, and replies that equal the rows."""
        servers = [await self.serve(name=f"server {n}") for n in range(3)]
        flipping = True
        flipped = run(flip(self.server, self.group, self.guests, self.admin_ids, 9, lambda: flipping))
        acknowledged = await gatherResults(
            [
                run(flood(server, self.group, self.guests, self.admin_ids, MESSAGES, seed))
                for seed, server in enumerate(servers)
            ]
        )
        flipping = False
        self.assertGreater(await flipped, 0)
        self.check([each for part in acknowledged for each in part])

    async def test_four_processes(self) -> None:
        """The same with real processes."""
        *writers, flipper = await self.peers(4)
        flipped = flipper.ask("flip", self.group, self.guests, self.admin_ids, 9)
        acknowledged = await gatherResults(
            [
                writer.ask("flood", self.group, self.guests, self.admin_ids, MESSAGES, seed)
                for seed, writer in enumerate(writers)
            ]
        )
        await flipper.ask("stop_flipping")
        self.assertGreater(await flipped, 0)
        self.check([each for part in acknowledged for each in part])


class LockTests(ClusterTestCase):
    async def test_stuck_row(self) -> None:
        """A row that a stranger keeps locked for longer than any time limit stops no other conversation."""
        servers = [await self.serve(name=f"server {n}", timeout=1.0) for n in range(2)]
        stuck, others = await self.customer(), [await self.customer() for _ in range(10)]
        stranger = psycopg2.connect(self.dsn)
        self.addCleanup(stranger.close)
        stranger.cursor().execute("SELECT FROM conversation WHERE id = %s FOR UPDATE", (stuck.conversation_id,))
        waiting = [run(self.failing(server.say(stuck))) for server in servers]
        rounds = 0
        while not all(each.called for each in waiting):
            await gatherResults([server.say(other) for server in servers for other in others])
            rounds += 1
        self.assertEqual(await gatherResults(waiting), ["StorageError"] * 2)
        for other in others:
            self.assertEqual(len(self.bodies(other)), 2 * rounds)
        stranger.rollback()
        sent, _ = await servers[0].say(stuck)
        self.assertEqual(sent.message.seq, 1)

    async def failing(self, waiting: Deferred[Any]) -> str:
        try:
            await waiting
        except Exception as error:
            return type(error).__name__
        return "nothing"

    async def test_frozen_holder(self) -> None:
        """A process frozen while it holds the group's lock loses it in time, and what it had decided with it."""
        [frozen] = await self.peers(1, timeout=1.5)
        server = await self.serve(name="waiting", timeout=1.5)
        ended, guest = await self.customer(), await self.guest()
        slow = frozen.ask("end_slowly", ended.conversation_id, self.group, 1.0)
        await frozen.event("locked")
        frozen.freeze()
        standing, _ = await server.assignment.start(guest)
        self.assertEqual(standing.state, "queued")
        frozen.thaw()
        outcome = await self.failing(slow)
        self.assertEqual(
            (outcome == "nothing", self.state(ended)[0]),
            (outcome == "nothing", "ended" if outcome == "nothing" else "queued"),
        )
        await frozen.ask("end", *self.ids(guest))
        self.assertEqual(self.state(guest)[0], "ended")


class AssignmentTests(ClusterTestCase):
    async def test_no_lost_wake_up(self) -> None:
        """One process ends a service while another queues a guest: the admin who is free then gets the guest."""
        ending, starting = await self.peers(2)
        ann = await self.on_duty(capacity=1)
        served, other = await self.customer("serving"), await self.guest()
        for _ in range(60):
            await gatherResults([ending.ask("end", *self.ids(served)), starting.ask("start", *self.ids(other))])
            self.assertEqual((self.state(served)[0], self.state(other)), ("ended", ("serving", ann.person.id)))
            served, other = other, served

    async def test_one_place(self) -> None:
        """Of many guests who start through several processes at once, the one place goes to one, the rest wait."""
        peers = await self.peers(2)
        ann = await self.on_duty(capacity=1)
        guests = [await self.guest() for _ in range(12)]
        await gatherResults([peers[n % 2].ask("start", *self.ids(guest)) for n, guest in enumerate(guests)])
        self.assertEqual(
            Counter(self.state(guest) for guest in guests), {("serving", ann.person.id): 1, ("queued", None): 11}
        )
        ranks = self.query("SELECT count(*), count(DISTINCT queued_at) FROM conversation WHERE state = 'queued'")
        self.assertEqual(ranks, [(11, 11)])


class PresenceTests(ClusterTestCase):
    async def test_last_two_connections(self) -> None:
        """An admin's last two connections end on two nodes at once: guests see nothing until the grace is over."""
        peers = await self.peers(2)
        ann = self.admin()
        where = (ann.person.id, self.group)
        ixes = [await each.ask("admin_in", *where) for each in peers]
        silent, unanswered = await self.customer("serving"), await self.customer("serving")
        await self.server.say(unanswered)
        await gatherResults([each.ask("admin_out", *where, ix, False) for each, ix in zip(peers, ixes, strict=True)])
        [entry] = (await people.admins(self.server.pool, self.group)).values()
        self.assertEqual((entry.status, entry.guest_count), (OFFLINE, 2))
        await self.server.node.look_after_cluster()
        self.assertEqual(self.state(unanswered)[0], "serving")
        age(self.dsn, GRACE + 1000)
        await self.server.node.look_after_cluster()
        self.assertEqual((self.state(unanswered), self.column(silent, "away")), (("queued", None), True))

    async def test_last_two_log_out(self) -> None:
        """An admin who logs out on two nodes at once is gone at once, whichever comes last."""
        peers = await self.peers(2)
        ann = self.admin()
        where = (ann.person.id, self.group)
        guest = await self.guest()
        for _ in range(10):
            ixes = [await each.ask("admin_in", *where) for each in peers]
            await self.server.say(guest)
            self.assertEqual(self.state(guest), ("serving", ann.person.id))
            await gatherResults([each.ask("admin_out", *where, ix, True) for each, ix in zip(peers, ixes, strict=True)])
            self.assertEqual(self.state(guest), ("queued", None))

    async def test_frozen_node(self) -> None:
        """A node that stood still for longer than its lease was given up; it writes nothing stale, and comes back."""
        self.patch(presence, "LEASE", 1000)
        self.patch(presence_service, "LEASE_SECONDS", 1.0)
        [frozen] = await self.peers(1, timeout=1.0, lease=1000)
        await frozen.ask("keep_lease", 0.2)
        server = await self.serve(name="watching", time=reactor)
        renewing = LoopingCall(lambda: run(server.node.renew()))
        self.addCleanup(renewing.stop)
        renewing.start(0.2)
        ann = self.admin()
        await frozen.ask("admin_in", ann.person.id, self.group)
        silent, unanswered, locked = [await self.customer("serving") for _ in range(3)]
        await server.say(unanswered)
        stranger = psycopg2.connect(self.dsn)
        self.addCleanup(stranger.close)
        stranger.cursor().execute("SELECT FROM conversation WHERE id = %s FOR UPDATE", (locked.conversation_id,))
        too_late = monotonic() + 1.1
        late = run(self.refused(frozen.ask("say", *self.ids(locked), "late")))
        await eventually(lambda: self.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
        slow = run(self.refused(frozen.ask("end_slowly", silent.conversation_id, self.group, 0.6)))
        await frozen.event("locked")
        frozen.freeze()
        stranger.rollback()
        while self.on_line(ann):
            await server.node.look_after_cluster()
        self.assertEqual(self.state(unanswered), ("serving", ann.person.id))
        self.query("UPDATE session SET ended_at = ended_at - %s", GRACE)
        self.query("UPDATE node SET started_at = started_at - %s", GRACE)
        await server.node.look_after_cluster()
        self.assertEqual((self.state(unanswered), self.column(silent, "away")), (("queued", None), True))

        await deferLater(reactor, max(0.0, too_late - monotonic()))
        frozen.thaw()
        self.assertEqual(await gatherResults([late, slow]), ["StorageError"] * 2)
        await eventually(lambda: self.on_line(ann))
        await eventually(lambda: self.state(unanswered)[0] == "serving")
        self.assertEqual(await frozen.ask("came_back"), 1)
        self.assertEqual(self.bodies(locked), [])
        self.assertEqual((self.state(silent), self.column(silent, "away")), (("serving", ann.person.id), False))
        [entry] = (await people.admins(self.server.pool, self.group)).values()
        self.assertEqual((entry.status, entry.guest_count), (ONLINE, 3))

    async def refused(self, answer: Deferred[Any]) -> str:
        try:
            await answer
        except Refused as error:
            return str(error)
        return "nothing"
