from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatproto.bus.notice import PART2, Follow, Notice
from chatproto.commands import render
from chatproto.commands.news import EVERY, PLACES_EVERY, News
from chatproto.domain.events import GroupChanged
from chatproto.domain.model import (
    ENDED,
    QUEUED,
    Admin,
    Conversation,
    QueuePlace,
    admin_topic,
    group_topic,
    guest_topic,
)
from chatproto.errors import StorageError
from chatproto.services.catchup import GroupView
from tests.commands.samples import ANN, BOB, GROUP, TALK, conversation, desk, pushes, read

ADMINS = group_topic(GROUP)
NOW = 1_700_000_100_000


class Shop:
    """A group as the database has it; what stands here is what the news read.

    :ivar queue: (gid, queued_at) from the head; a guest's conversation has the id ``gid + 1000``.
    :ivar asked: (conversation ids, admin ids) of each look.
    :ivar queued: which conversations waited when it was told last, as each look said.
    :ivar fails: errors to raise, one a look.
    :ivar gate: where set, a look waits for it.
    """

    def __init__(self) -> None:
        self.queue: list[tuple[int, int]] = []
        self.conversations: dict[int, Conversation] = {}
        self.admins: dict[int, Admin] = {}
        self.admins_online = 1
        self.asked: list[tuple[list[int], list[int]]] = []
        self.queued: list[set[int] | None] = []
        self.fails: list[Exception] = []
        self.gate: Deferred[None] | None = None

    async def read(
        self,
        group_id: int,
        conversations: Collection[int],
        admins: Collection[int],
        queued: Collection[int] | None,
    ) -> GroupView:
        self.asked.append((sorted(conversations), sorted(admins)))
        self.queued.append(None if queued is None else set(queued))
        view = GroupView(
            NOW,
            {id_: self.conversations[id_] for id_ in sorted(conversations)},
            {aix: self.admins[aix] for aix in sorted(admins)},
            [(gid + 1000, gid, queued_at) for gid, queued_at in self.queue],
            self.admins_online,
        )
        if self.gate is not None:
            await self.gate
        if self.fails:
            raise self.fails.pop(0)
        return view


class NewsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.shop = Shop()
        self.notices: list[tuple[float, Notice]] = []
        self.news = News(self.shop.read, self.publish, self.clock)

    def publish(self, notices: Sequence[Notice]) -> None:
        self.notices.extend((self.clock.seconds(), notice) for notice in notices)

    def mark(self, *, admins: Iterable[int] = (), conversations: Iterable[int] = (), queue: bool = False) -> None:
        self.news.mark(GroupChanged(GROUP, frozenset(admins), frozenset(conversations), queue))

    def passes(self, seconds: float) -> None:
        """Time passes, in steps as small as a timer may be."""
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)

    def told(self) -> list[tuple[str, int, Any]]:
        """(topic, number, data) of what was told since the last look."""
        found = []
        for _, notice in self.notices:
            for number, data, audience in pushes(notice):
                self.assertEqual(audience, PART2)
                found.append((notice.topic, number, data))
        self.notices.clear()
        return found

    def numbers(self) -> list[int]:
        return [number for _, number, _ in self.told()]

    def times(self, number: int) -> list[float]:
        """When a push of this number was told, in seconds; forgets nothing."""
        return [at for at, notice in self.notices for found, _, _ in pushes(notice) if found == number]


class Content(NewsCase):
    def test_queue(self) -> None:
        """All admins see how many wait and the longest wait."""
        self.shop.queue = [(1, NOW - 500), (2, NOW - 9000)]
        self.mark(queue=True)
        self.clock.advance(0)
        [(topic, number, data)] = [found for found in self.told() if found[1] == 32098]
        self.assertEqual((topic, data), (ADMINS, {"group_id": GROUP, "waiting": 2, "longest_wait_ms": 9000}))
        self.shop.queue = []
        self.mark(queue=True)
        self.passes(EVERY)
        self.assertEqual(self.told(), [(ADMINS, 32098, {"group_id": GROUP, "waiting": 0, "longest_wait_ms": 0})])

    def test_clocks(self) -> None:
        """A queue that starts in the future has not waited."""
        self.shop.queue = [(1, NOW + 500)]
        self.mark(queue=True)
        self.clock.advance(0)
        self.assertEqual(self.told()[0][2]["longest_wait_ms"], 0)

    def test_admin(self) -> None:
        """All admins see a colleague who changed."""
        self.shop.admins = {7: desk(ANN), 8: desk(BOB)}
        self.mark(admins=[8])
        self.clock.advance(0)
        self.assertEqual(self.told(), [(ADMINS, 33099, render.admin_entry(desk(BOB)))])
        self.assertEqual(self.shop.asked, [([], [8])])

    def test_entry(self) -> None:
        """All admins see an entry of the queue, not as a step of a conversation that they follow."""
        entry = conversation(state=QUEUED, admin_id=None, queued_at=5)
        self.shop.conversations = {TALK: entry}
        self.mark(conversations=[TALK])
        self.clock.advance(0)
        [(_, notice)] = self.notices
        self.assertEqual((notice.conversation_id, notice.rev, notice.follow), (TALK, 40, Follow.ASIDE))
        self.assertIsNone(notice.but_not)
        self.assertEqual(self.told(), [(ADMINS, 32099, read(render.guest_entry(entry)))])

    def test_entry_left_the_queue(self) -> None:
        """That an entry left the queue is told to all but the one who got the guest, who has 32401."""
        self.shop.conversations = {TALK: conversation(), 51: conversation(id=51, state=ENDED, admin_id=None)}
        self.mark(conversations=[TALK, 51])
        self.clock.advance(0)
        self.assertEqual(
            {notice.conversation_id: notice.but_not for _, notice in self.notices},
            {TALK: admin_topic(ANN.id), 51: None},
        )

    def test_places(self) -> None:
        """Those who wait see their places, each the own one."""
        self.shop.queue = [(31, NOW - 9), (32, NOW - 8)]
        self.shop.admins_online = 4
        self.mark(queue=True)
        self.clock.advance(0)
        places = [found for found in self.told() if found[1] == 22098]
        self.assertEqual(
            places,
            [
                (guest_topic(GROUP, 31), 22098, {"queue": {"position": 1, "waiting": 2, "admins_online": 4}}),
                (guest_topic(GROUP, 32), 22098, {"queue": {"position": 2, "waiting": 2, "admins_online": 4}}),
            ],
        )

    def test_admins_online(self) -> None:
        """Those who wait are told when an admin comes or goes, though nobody moves up."""
        self.shop.queue = [(31, NOW - 9)]
        self.mark(queue=True)
        self.clock.advance(0)
        self.told()
        self.shop.admins_online = 2
        self.mark(queue=True)
        self.passes(PLACES_EVERY + 0.1)
        [(_, number, data)] = self.told()
        self.assertEqual((number, data["queue"]["admins_online"]), (22098, 2))


class Throttling(NewsCase):
    def test_after_the_commit(self) -> None:
        """What one commit changed is told once, after its own pushes, at the next turn."""
        self.shop.queue = [(31, NOW)]
        self.mark(queue=True)
        self.mark(queue=True)
        self.assertEqual(self.shop.asked, [])
        self.clock.advance(0)
        self.assertEqual(len(self.shop.asked), 1)

    def test_once_a_second(self) -> None:
        """32098, 33099 and 32099 about the same thing come at most once a second, and the newest wins."""
        for step in range(100):
            self.shop.queue = [(gid, NOW - 1000) for gid in range(step + 1)]
            self.shop.admins = {7: desk(guest_count=step)}
            self.shop.conversations = {TALK: conversation(rev=step, last_seq=step)}
            self.mark(admins=[7], conversations=[TALK], queue=True)
            self.clock.advance(0.05)
        self.passes(2)
        for number in (32098, 33099, 32099):
            times = self.times(number)
            self.assertGreater(len(times), 4)
            for before, after in zip(times, times[1:], strict=False):
                self.assertGreaterEqual(round(after - before, 6), EVERY)
        newest = {number: data for _, number, data in self.told()}
        self.assertEqual(newest[32098]["waiting"], 100)
        self.assertEqual(newest[33099]["guest_count"], 99)
        self.assertEqual(newest[32099]["last_seq"], 99)

    def test_at_once_after_a_rest(self) -> None:
        """Where nothing was told lately, nobody waits a second."""
        self.shop.admins = {7: desk()}
        self.mark(admins=[7])
        self.passes(1)
        self.told()
        self.passes(5)
        self.shop.admins = {7: desk(guest_count=9)}
        self.mark(admins=[7])
        self.clock.advance(0)
        self.assertEqual(self.numbers(), [33099])

    def test_slow_database(self) -> None:
        """Also where a look takes its time there is a second between two; what changed meanwhile comes after it."""
        self.shop.admins = {7: desk(), 8: desk(BOB)}
        gate: Deferred[None] = Deferred()
        self.shop.gate = gate
        self.mark(admins=[7])
        self.clock.advance(0)
        self.passes(0.9)
        self.shop.admins[7] = desk(guest_count=5)
        self.mark(admins=[7])
        self.shop.gate = None
        gate.callback(None)
        self.passes(EVERY * 2)
        first, second = self.times(33099)
        self.assertGreaterEqual(round(second - first, 6), EVERY)
        self.assertEqual(len(self.shop.asked), 2)

    def test_groups(self) -> None:
        """A busy group does not slow another down."""
        self.shop.admins = {7: desk()}
        self.mark(admins=[7])
        self.clock.advance(0.5)
        self.told()
        self.news.mark(GroupChanged(4, frozenset([7])))
        self.clock.advance(0)
        self.assertEqual([topic for topic, _, _ in self.told()], [group_topic(4)])

    def test_places(self) -> None:
        """22098 comes at most once in three seconds, and in the end the place is right."""
        for step in range(100):
            self.shop.queue = [(gid, NOW - 1000) for gid in range(step, 130)]
            self.mark(queue=True)
            self.clock.advance(0.05)
        self.passes(PLACES_EVERY + EVERY)
        mine = [
            (at, pushes(notice)[0][1]["queue"])
            for at, notice in self.notices
            if notice.topic == guest_topic(GROUP, 120)
        ]
        self.assertGreater(len(mine), 1)
        for (before, _), (after, _) in zip(mine, mine[1:], strict=False):
            self.assertGreaterEqual(round(after - before, 6), PLACES_EVERY)
        self.assertEqual(mine[-1][1], {"position": 22, "waiting": 31, "admins_online": 1})
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Changes(NewsCase):
    def test_nothing_twice(self) -> None:
        """What is the same as before is not told again."""
        self.shop.queue = [(31, NOW - 9)]
        self.shop.admins = {7: desk()}
        self.mark(admins=[7], queue=True)
        self.passes(5)
        self.assertEqual(sorted(self.numbers()), [22098, 32098, 33099])
        self.mark(admins=[7], queue=True)
        self.passes(5)
        self.assertEqual(self.told(), [])

    def test_empty(self) -> None:
        """Where nobody waits and nobody did, no queue is told."""
        self.mark(queue=True)
        self.passes(5)
        self.assertEqual(self.told(), [])

    def test_only_who_moved(self) -> None:
        """Who stands where they stood, among as many, is not told; who comes to the head moves all."""
        self.shop.queue = [(31, NOW - 9), (32, NOW - 8)]
        self.mark(queue=True)
        self.passes(5)
        self.told()
        self.shop.queue = [(31, NOW - 9), (33, NOW - 2)]
        self.mark(queue=True)
        self.passes(5)
        self.assertEqual([topic for topic, number, _ in self.told() if number == 22098], [guest_topic(GROUP, 33)])
        self.shop.queue = [(33, NOW - 20), (31, NOW - 9)]
        self.mark(queue=True)
        self.passes(5)
        self.assertEqual(
            {topic: data["queue"]["position"] for topic, number, data in self.told() if number == 22098},
            {guest_topic(GROUP, 33): 1, guest_topic(GROUP, 31): 2},
        )

    def test_another_of_as_many(self) -> None:
        """One went and one came: as many wait, but not as long, and the admins are told."""
        self.shop.queue = [(31, NOW - 9)]
        self.mark(queue=True)
        self.passes(5)
        self.told()
        self.shop.queue = [(32, NOW - 1)]
        self.mark(queue=True)
        self.passes(5)
        self.assertEqual([data for _, number, data in self.told() if number == 32098][0]["longest_wait_ms"], 1)

    def test_what_waited(self) -> None:
        """Each look is told who waited at the one before, so that it finds who came and went; the first knows nothing.

        A look that failed has told nobody.
        """
        for queue in ([(31, NOW - 9), (32, NOW - 8)], [(32, NOW - 8)], []):
            self.shop.queue = queue
            self.mark(queue=True)
            self.passes(EVERY)
        self.shop.fails = [StorageError("away")]
        self.shop.queue = [(33, NOW)]
        self.mark(queue=True)
        self.passes(EVERY * 2)
        self.assertEqual(self.shop.queued, [None, {1031, 1032}, {1032}, set(), set()])

    def test_told_with_the_state(self) -> None:
        """A place that came with 22099 is not told again with 22098; another one is."""
        self.shop.queue = [(31, NOW - 9), (32, NOW - 8)]
        self.news.placed(GROUP, 32, QueuePlace(2, 2, 1))
        self.mark(queue=True)
        self.passes(5)
        self.assertEqual([topic for topic, number, _ in self.told() if number == 22098], [guest_topic(GROUP, 31)])
        self.news.placed(4, 31, QueuePlace(1, 1, 1))
        self.news.placed(GROUP, 31, QueuePlace(1, 2, 1))
        self.mark(queue=True)
        self.passes(5)
        self.assertEqual(self.told(), [])
        self.shop.queue = [(32, NOW - 8)]
        self.mark(queue=True)
        self.passes(5)
        self.assertEqual([topic for topic, number, _ in self.told() if number == 22098], [guest_topic(GROUP, 32)])

    def test_told_while_waiting(self) -> None:
        """So is one that came while 22098 had to wait for its three seconds."""
        self.shop.queue = [(31, NOW - 9)]
        self.mark(queue=True)
        self.passes(1)
        self.told()
        self.shop.queue = [(31, NOW - 9), (32, NOW)]
        self.news.placed(GROUP, 32, QueuePlace(2, 2, 1))
        self.mark(queue=True)
        self.passes(5)
        self.assertEqual([topic for topic, number, _ in self.told() if number == 22098], [guest_topic(GROUP, 31)])

    def test_told_while_reading(self) -> None:
        """So is one that came while the queue was being read, which may be older; then the newest counts again."""
        for before in ([(31, NOW - 9)], [(30, NOW - 20), (31, NOW - 9), (32, NOW - 8)]):
            self.shop.queue = before
            gate: Deferred[None] = Deferred()
            self.shop.gate = gate
            self.mark(queue=True)
            self.passes(5)
            self.shop.queue = [(31, NOW - 9), (32, NOW - 8)]
            self.shop.gate = None
            self.news.placed(GROUP, 31, QueuePlace(1, 2, 1))
            self.news.placed(GROUP, 32, QueuePlace(2, 2, 1))
            self.mark(queue=True)
            gate.callback(None)
            self.passes(5)
            self.assertEqual(
                [topic for topic, number, _ in self.told() if number == 22098],
                [guest_topic(GROUP, gid) for gid, _ in before if gid == 30],
            )
        self.shop.queue = [(32, NOW - 8)]
        self.mark(queue=True)
        self.passes(5)
        self.assertEqual([topic for topic, number, _ in self.told() if number == 22098], [guest_topic(GROUP, 32)])

    def test_back_again(self) -> None:
        """Who left the queue and comes back is told the place again."""
        for queue in ([(31, NOW - 9)], [], [(31, NOW - 1)]):
            self.told()
            self.shop.queue = queue
            self.mark(queue=True)
            self.passes(5)
        self.assertEqual(sorted(self.numbers()), [22098, 32098])


class Failing(NewsCase):
    def test_retried(self) -> None:
        """While the database is away nothing is forgotten: it is read again each second, and told."""
        self.shop.queue = [(31, NOW - 9)]
        self.shop.admins = {7: desk(), 8: desk(BOB)}
        self.shop.conversations = {TALK: conversation(state=QUEUED, admin_id=None, queued_at=NOW - 9)}
        self.shop.fails = [StorageError("away"), StorageError("away")]
        self.mark(admins=[7], conversations=[TALK], queue=True)
        self.clock.advance(0)
        self.mark(admins=[8])
        self.assertEqual(self.told(), [])
        self.passes(1.9)
        self.assertEqual(len(self.shop.asked), 2)
        self.passes(0.2)
        self.assertEqual(self.shop.asked[-1], ([TALK], [7, 8]))
        self.assertEqual(sorted(self.numbers()), [22098, 32098, 32099, 33099, 33099])
        self.passes(5)
        self.assertEqual(len(self.shop.asked), 3)

    def test_queue_retried(self) -> None:
        """Also where nothing but the queue changed."""
        self.shop.queue = [(31, NOW - 9)]
        self.shop.fails = [StorageError("away")]
        self.mark(queue=True)
        self.passes(EVERY + 0.1)
        self.assertEqual(sorted(self.numbers()), [22098, 32098])

    def test_defect(self) -> None:
        """A defect in one look is logged, and the next change is told all the same."""
        self.shop.admins = {7: desk()}
        self.shop.fails = [ZeroDivisionError()]
        self.mark(admins=[7])
        self.clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.mark(admins=[7])
        self.passes(EVERY)
        self.assertEqual(self.numbers(), [33099])
