"""The transaction that changes who serves whom: what rules are shown, and what of their changes is written."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from chatproto import errors
from chatproto.domain import routing
from chatproto.domain.model import Principal, Standing
from chatproto.domain.routing import Board, Desk
from chatproto.errors import StorageError
from chatproto.storage.assignment import RECENT, AssignmentStore, Scope
from tests.worlds import GRACE, WorldTestCase, age, eventually, guest_draft, new_admin, new_group, run


def look(board: Board) -> Board:
    """A rule that changes nothing."""
    return board


class StoreTestCase(WorldTestCase):
    store: AssignmentStore

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.store = self.server.store

    async def board(self, scope: Scope | None = None) -> Board:
        return (await self.store.decide(self.group, scope or Scope(), look)).board


class BoardTests(StoreTestCase):
    async def desk(self, admin: Principal) -> Desk:
        return (await self.board()).desks[admin.person.id]

    async def test_desks(self) -> None:
        """A desk is connected with a live session, in grace after the last one, and has the guests it serves."""
        ann = self.admin(capacity=3)
        self.long_up()
        desk = await self.desk(ann)
        self.assertEqual((desk.person, desk.connected, desk.in_grace, desk.load), (ann.person, False, False, 0))
        self.assertEqual((desk.capacity, desk.suspended, desk.banned, desk.last_assigned_at), (3, False, False, 0))
        ix, _ = await self.server.admin_in(ann)
        await self.customer("serving")
        desk = await self.desk(ann)
        self.assertEqual((desk.connected, desk.in_grace, desk.load), (True, False, 1))
        self.assertGreater(desk.last_assigned_at, 0)
        await self.server.sessions.ended(ann, ix)
        desk = await self.desk(ann)
        self.assertEqual((desk.connected, desk.in_grace), (False, True))
        age(self.dsn, GRACE + 1000)
        self.long_up()
        desk = await self.desk(ann)
        self.assertEqual((desk.connected, desk.in_grace), (False, False))

    async def test_grace_from_the_start(self) -> None:
        """After a start of all nodes everybody is in grace, counted from there; a second node changes nothing."""
        ann = self.admin()
        self.assertTrue((await self.desk(ann)).in_grace)
        age(self.dsn, GRACE - 5000)
        self.query("UPDATE node SET lease_until = now_ms() + 1000")
        self.assertTrue((await self.desk(ann)).in_grace)
        age(self.dsn, 5000)
        self.query("UPDATE node SET lease_until = now_ms() + 1000")
        self.assertFalse((await self.desk(ann)).in_grace)
        await self.serve(name="second")
        self.assertFalse((await self.desk(ann)).in_grace)
        self.query("UPDATE node SET lease_until = 0 WHERE name <> 'second'")
        self.assertTrue((await self.desk(ann)).in_grace)

    async def test_group(self) -> None:
        """A board is of one group, whose ban it shows; of a group that does not exist it says the same."""
        another = new_group(self.dsn, "another")
        new_admin(self.dsn, another)
        self.query("UPDATE service_group SET status = 'banned' WHERE id = %s", another)
        board = await self.board()
        self.assertEqual((board.group_id, board.banned, board.desks), (self.group, False, {}))
        self.assertTrue((await self.store.decide(another, Scope(), look)).board.banned)
        self.assertTrue((await self.store.decide(10**6, Scope(), look)).board.banned)

    async def test_scope(self) -> None:
        """The queue is always there; besides it only those asked for, and none of another group."""
        stranger = await self.server.guest(new_group(self.dsn, "another"))
        ann = await self.on_duty(capacity=1)
        mine, left = await self.customer("serving"), await self.customer()
        idle, named = await self.guest(), await self.guest()
        self.assertEqual(self.gids(await self.board()), {left.person.id})
        scope = Scope(gid=idle.person.id, conversations=[named.conversation_id or 0], of_admin=ann.person.id)
        expected = {guest.person.id for guest in (left, idle, named, mine)}
        self.assertEqual(self.gids(await self.board(scope)), expected)
        foreign = Scope(gid=stranger.person.id, conversations=[stranger.conversation_id or 0])
        self.assertEqual(self.gids(await self.board(foreign)), {left.person.id})

    def gids(self, board: Board) -> set[int]:
        return {thread.gid for thread in board.threads.values()}

    async def test_served_from_another_group(self) -> None:
        """Who was moved to another group and still serves has no desk here, but a name that guests are told."""
        ann, bob = await self.on_duty(), self.admin("Bob")
        guest, _ = await self.customer("serving"), await self.guest()
        scope = Scope(gid=guest.person.id)
        self.assertEqual((await self.board(scope)).others, {})
        another = new_group(self.dsn, "another")
        self.query("UPDATE admin SET group_id = %s WHERE id = %s", another, ann.person.id)
        board = await self.board(scope)
        self.assertEqual((list(board.desks), board.others), ([bob.person.id], {ann.person.id: ann.person}))
        [thread] = board.threads.values()
        self.assertEqual(board.standing(thread), Standing("serving", ann.person, None))
        self.assertEqual((await self.board()).others, {})

    async def test_unanswered(self) -> None:
        """A guest is unanswered since the first message after the admin's last one, within this service."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        scope = Scope(of_admin=ann.person.id)

        async def since() -> int | None:
            [thread] = (await self.board(scope)).threads.values()
            return thread.unanswered_since

        self.assertIsNone(await since())
        first, _ = await self.server.say(guest)
        age(self.dsn, 1000)
        await self.server.say(guest)
        self.assertEqual(await since(), first.message.created_at - 1000)
        await self.server.answer(ann, guest)
        self.assertIsNone(await since())
        last, _ = await self.server.say(guest)
        self.assertEqual(await since(), last.message.created_at)
        await self.server.assignment.end_by_guest(guest)
        await self.server.assignment.start(guest)
        self.assertIsNone(await since())


class ApplyTests(StoreTestCase):
    async def test_nothing(self) -> None:
        """A rule that changes nothing writes nothing."""
        guest = await self.customer()
        before = self.query("SELECT * FROM conversation")
        decision = await self.store.decide(self.group, Scope(gid=guest.person.id), look)
        self.assertEqual((decision.changes, decision.appended), ([], None))
        self.assertEqual(self.query("SELECT * FROM conversation"), before)

    async def test_refused(self) -> None:
        """What a refused rule had changed on its board is not written, nor what came before it."""
        guest = await self.customer()

        async def first(transaction: Any) -> None:
            await transaction.fetch("UPDATE conversation SET context = 'lost'")

        def rule(board: Board) -> None:
            routing.end_by_guest(board, guest.person.id)
            raise errors.NothingToEnd()

        with self.assertRaises(errors.NothingToEnd):
            await self.store.decide(self.group, Scope(), rule, first=first)
        self.assertEqual((self.state(guest), self.column(guest, "context")), (("queued", None), "{}"))

    async def test_away_is_no_step(self) -> None:
        """That an admin is away is written, but nobody sees a change of the conversation."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        before = self.column(guest, "rev")
        decision = await self.store.decide(
            self.group, Scope(of_admin=ann.person.id), lambda board: routing.lose(board, ann.person.id)
        )
        self.assertEqual(decision.changes, [])
        self.assertEqual((self.column(guest, "away"), self.column(guest, "rev")), (True, before))

    async def test_steps(self) -> None:
        """A change of state or admin is one step of the conversation, however many a rule took to get there."""
        ann = await self.on_duty()
        guest = await self.guest()
        await self.server.say(guest)
        await self.server.assignment.end_by_guest(guest)
        before = self.column(guest, "rev")
        decision = await self.store.decide(
            self.group, Scope(gid=guest.person.id), lambda board: routing.start(board, guest.person.id)
        )
        [change] = decision.changes
        self.assertEqual(
            (change.was.state, change.entry.state, change.entry.admin_id), ("ended", "serving", ann.person.id)
        )
        self.assertEqual((change.entry.rev, change.entry.step_rev), (before + 1, before + 1))
        self.assertEqual([message.seq for message in change.recs], [1])

    async def test_last_served_by(self) -> None:
        """Who served last is kept through the end and the queue, whoever writes afterwards."""
        ann = await self.on_duty()
        guest = await self.guest()
        self.assertIsNone(self.column(guest, "last_served_by"))
        await self.server.assignment.start(guest)
        self.assertEqual(self.column(guest, "last_served_by"), ann.person.id)
        await self.server.assignment.end_by_guest(guest)
        bob = await self.on_duty("Bob")
        await self.server.answer(bob, guest)
        self.assertEqual(
            (self.column(guest, "last_admin_id"), self.column(guest, "last_served_by")), (bob.person.id, ann.person.id)
        )
        for admin in (ann, bob):
            await self.server.assignment.suspend(admin, True)
        await self.server.assignment.start(guest)
        self.assertEqual((self.state(guest), self.column(guest, "last_served_by")), (("queued", None), ann.person.id))
        await self.server.assignment.take(bob, guest.person.id)
        self.assertEqual(self.column(guest, "last_served_by"), bob.person.id)

    async def test_recent(self) -> None:
        """Whoever gets a guest is shown the newest messages only."""
        guest = await self.customer()
        await gatherResults([self.server.say(guest) for _ in range(RECENT + 5)])
        ann = self.admin()
        await self.server.admin_in(ann)
        await self.server.assignment.end_by_admin(ann, guest.person.id)
        decision = await self.store.decide(
            self.group, Scope(gid=guest.person.id), lambda board: routing.start(board, guest.person.id)
        )
        self.assertEqual([m.seq for m in decision.changes[0].recs], list(range(6, RECENT + 6)))

    async def test_draft(self) -> None:
        """A message is stored with the change, whatever the state; with a known cmid it is not stored twice."""
        guest = await self.guest()
        for kind in ("stored", "dup"):
            decision = await self.store.decide(self.group, Scope(), look, draft=guest_draft(guest, cmid="a"))
            assert decision.appended is not None
            self.assertEqual((decision.appended.kind, decision.appended.seq), (kind, 1))
        self.assertEqual((self.bodies(guest), self.state(guest)), (['"hello"'], ("new", None)))

    async def test_draft_waits_for_the_row(self) -> None:
        """A batch of the journal that holds the row just then is waited for."""
        guest = await self.customer()
        locked: Deferred[None] = Deferred()
        held: Deferred[None] = Deferred()

        async def batch(transaction: Any) -> None:
            await transaction.fetch("SELECT FROM conversation WHERE id = %s FOR UPDATE", (guest.conversation_id,))
            locked.callback(None)
            await held

        holding = run(self.server.pool.transaction(batch))
        await locked
        deciding = run(self.store.decide(self.group, Scope(), look, draft=guest_draft(guest)))
        await eventually(lambda: self.query("SELECT 1 FROM pg_locks WHERE NOT granted"))
        held.callback(None)
        await holding
        self.assertEqual((await deciding).appended.kind, "stored")
        self.assertEqual(self.bodies(guest), ['"hello"'])

    async def test_last_guard(self) -> None:
        """Should anything else ever open a second service, the database refuses it, and nothing is changed."""
        guest = await self.guest()
        self.query(
            "INSERT INTO service (conversation_id, started_at, first_seq) VALUES (%s, 1, 1)", guest.conversation_id
        )
        with self.assertRaises(StorageError) as caught:
            await self.server.assignment.start(guest)
        self.assertEqual((caught.exception.sqlstate, self.state(guest)), ("23505", ("new", None)))


class LockTests(StoreTestCase):
    async def test_younger_than_the_lock(self) -> None:
        """Who waited for the group's lock decides on what the one before has committed."""
        guest = await self.customer()
        held: Deferred[None] = Deferred()

        locked: Deferred[None] = Deferred()

        async def first(transaction: Any) -> None:
            locked.callback(None)
            await held

        other = await self.serve(name="other")
        ending = run(other.assignment.end(self.group, [guest.conversation_id or 0], "timeout", first))
        await locked
        looking = run(self.board(Scope(gid=guest.person.id)))
        await eventually(lambda: self.query("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"))
        held.callback(None)
        await ending
        [thread] = (await looking).threads.values()
        self.assertEqual(thread.state, "ended")

    async def test_other_groups(self) -> None:
        """One group's lock stops no other group."""
        held: Deferred[None] = Deferred()

        async def first(transaction: Any) -> None:
            await held

        holding = run(self.store.decide(self.group, Scope(), look, first=first))
        await self.store.decide(new_group(self.dsn, "another"), Scope(), look)
        self.assertNoResult(holding)
        held.callback(None)
        await holding
