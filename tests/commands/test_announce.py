from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from msgspec.structs import replace
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatproto.bus.notice import ALL, GIVEN, PART2, Follow, Notice
from chatproto.commands import render
from chatproto.commands.announce import Announcer, notices
from chatproto.commands.news import EVERY, News
from chatproto.domain.events import (
    Event,
    Expelled,
    GroupChanged,
    GuestNoted,
    MessageRecalled,
    MessageStored,
    ReadMoved,
    ServiceChanged,
    Typed,
)
from chatproto.domain.model import (
    EMPTY,
    ENDED,
    QUEUED,
    SERVING,
    Handover,
    Message,
    Person,
    QueuePlace,
    Role,
    Standing,
    admin_topic,
    group_topic,
    guest_topic,
)
from chatproto.services.catchup import GroupView
from chatproto.wire.codes import GIVEN_PUSHES
from tests.commands.samples import ANN, BOB, GID, GROUP, GUS, TALK, conversation, message, pushes, read

ANN_S, BOB_S, GROUP_S, GUEST_S = admin_topic(ANN.id), admin_topic(BOB.id), group_topic(GROUP), guest_topic(GROUP, GID)


class Case(SynchronousTestCase):
    def told(self, event: Event) -> list[tuple[str, list[int]]]:
        """(topic, numbers of the pushes) in their order; only the given document's are not of part 2."""
        found = []
        for notice in notices(event):
            numbers = [number for number, _, _ in pushes(notice)]
            for number, _, audience in pushes(notice):
                self.assertEqual(audience, ALL if number in GIVEN_PUSHES else PART2)
            found.append((notice.topic, numbers))
        return found

    def to(self, topic: str, event: Event) -> Notice:
        """The one notice for a topic."""
        [found] = [notice for notice in notices(event) if notice.topic == topic]
        return found


class Messages(Case):
    def stored(self, sent: Message, admin_id: int | None = ANN.id) -> MessageStored:
        topic = GUEST_S if sent.sender is GUS else admin_topic(sent.sender.id)
        return MessageStored(TALK, 41, admin_id, sent, 3, 4, "phone", topic)

    def test_of_guest(self) -> None:
        """The serving admin gets 32399 with what is unread, the guest's other tabs 22398."""
        event = self.stored(message(26))
        self.assertEqual(self.told(event), [(GUEST_S, [22398]), (ANN_S, [32399])])
        info = read(render.message_info(message(26)))
        desk, tab = self.to(ANN_S, event), self.to(GUEST_S, event)
        self.assertEqual(pushes(desk), [(32399, {"gid": GID, "message_info": info, "unread": 3}, False)])
        self.assertEqual(pushes(tab), [(22398, {"message_info": info}, True)])
        self.assertEqual((desk.but_not, tab.but_not), (None, "phone"))

    def test_of_unserved_guest(self) -> None:
        """While nobody serves, no admin gets the message."""
        self.assertEqual(self.told(self.stored(message(26), None)), [(GUEST_S, [22398])])

    def test_of_admin(self) -> None:
        """The guest gets 22399 with what is unread, the admin's other connections 32398."""
        event = self.stored(message(26, ANN))
        self.assertEqual(self.told(event), [(ANN_S, [32398]), (GUEST_S, [22399])])
        info = read(render.message_info(message(26, ANN)))
        desk, guest = self.to(ANN_S, event), self.to(GUEST_S, event)
        self.assertEqual(pushes(desk), [(32398, {"gid": GID, "message_info": info}, True)])
        self.assertEqual(pushes(guest), [(22399, {"message_info": info, "unread": 4}, True)])
        self.assertEqual((desk.but_not, guest.but_not), ("phone", None))

    def test_after_the_end(self) -> None:
        """A message to whose service has ended is delivered, and shown on the sender's other connections."""
        event = self.stored(message(26, BOB), None)
        self.assertEqual(self.told(event), [(BOB_S, [32398]), (GUEST_S, [22399])])

    def test_place(self) -> None:
        """Each carries its place, so that nobody is told twice or out of order; nobody follows by it."""
        for sent in (message(26), message(26, ANN)):
            for notice in notices(self.stored(sent)):
                place = (notice.conversation_id, notice.rev, notice.last_seq, notice.follow)
                self.assertEqual(place, (TALK, 41, 26, Follow.KEEP))


class Recalls(Case):
    def recalled(self, by: Person, admin_id: int | None = ANN.id) -> MessageRecalled:
        return MessageRecalled(TALK, 41, admin_id, self.recall(by), 3, 4, "phone")

    def recall(self, by: Person) -> Message:
        return message(26, by, body=EMPTY, recalls=25)

    def told2(self, event: Event) -> list[tuple[str, list[int]]]:
        """As :meth:`told`; all of it is of part 2."""
        for notice in notices(event):
            self.assertEqual({audience for _, audience in notice.frames}, {PART2})
        return [(notice.topic, [number for number, _, _ in pushes(notice)]) for notice in notices(event)]

    def test_of_guest(self) -> None:
        """The guest's other tabs and who serves are told as of a message, but not clients of the given document."""
        event = self.recalled(GUS)
        self.assertEqual(self.told2(event), [(GUEST_S, [22398]), (ANN_S, [32399])])
        info = read(render.message_info(self.recall(GUS)))
        desk, tab = self.to(ANN_S, event), self.to(GUEST_S, event)
        self.assertEqual(pushes(desk), [(32399, {"gid": GID, "message_info": info, "unread": 3}, PART2)])
        self.assertEqual(pushes(tab), [(22398, {"message_info": info}, PART2)])
        self.assertEqual((desk.but_not, tab.but_not), (None, "phone"))

    def test_of_unserved_guest(self) -> None:
        """While nobody serves, no admin is told."""
        self.assertEqual(self.told2(self.recalled(GUS, None)), [(GUEST_S, [22398])])

    def test_of_admin(self) -> None:
        """The guest and the admin's other connections are told."""
        for admin_id in (ANN.id, None):
            event = self.recalled(ANN, admin_id)
            self.assertEqual(self.told2(event), [(ANN_S, [32398]), (GUEST_S, [22399])])
            info = read(render.message_info(self.recall(ANN)))
            desk, guest = self.to(ANN_S, event), self.to(GUEST_S, event)
            self.assertEqual(pushes(desk), [(32398, {"gid": GID, "message_info": info}, PART2)])
            self.assertEqual(pushes(guest), [(22399, {"message_info": info, "unread": 4}, PART2)])
            self.assertEqual((desk.but_not, guest.but_not), ("phone", None))

    def test_of_a_colleague(self) -> None:
        """Who serves the guest by now sees the colleague's message go."""
        event = self.recalled(BOB)
        self.assertEqual(self.told2(event), [(BOB_S, [32398]), (GUEST_S, [22399]), (ANN_S, [32398])])
        self.assertIsNone(self.to(ANN_S, event).but_not)

    def test_place(self) -> None:
        """It has its place among the messages."""
        for by in (GUS, ANN, BOB):
            for notice in notices(self.recalled(by)):
                place = (notice.conversation_id, notice.rev, notice.last_seq, notice.follow)
                self.assertEqual(place, (TALK, 41, 26, Follow.KEEP))


class Hints(Case):
    def test_of_guest(self) -> None:
        """That a guest types is for whoever follows the conversation, and says which it is."""
        [notice] = notices(Typed(TALK, GROUP, GID, Role.GUEST, True))
        self.assertEqual((notice.topic, notice.conversation_id, notice.follow), (GROUP_S, TALK, Follow.HINT))
        self.assertEqual(pushes(notice), [(32397, {"gid": GID, "group_id": GROUP, "typing": True}, PART2)])

    def test_of_admin(self) -> None:
        """That the admin types is for the guest."""
        [notice] = notices(Typed(TALK, GROUP, GID, Role.ADMIN, False))
        self.assertEqual((notice.topic, notice.conversation_id, notice.follow), (GUEST_S, TALK, Follow.HINT))
        self.assertEqual(pushes(notice), [(22397, {"typing": False}, PART2)])


class ReadMarks(Case):
    event = ReadMoved(TALK, GROUP, GID, 41, ANN.id, 21, 22, 2, 1)
    unserved = ReadMoved(TALK, GROUP, GID, 41, None, 21, 22, 2, 1)

    def test_both(self) -> None:
        """Both sides see how far each has read, and what is left to themselves."""
        self.assertEqual(self.told(self.event), [(ANN_S, [32299]), (GUEST_S, [22299])])
        [(_, desk, _)] = pushes(self.to(ANN_S, self.event))
        self.assertEqual(desk, {"gid": GID, "group_id": GROUP, "guest_read_seq": 22, "read_seq": 21, "unread": 2})
        [(_, tab, _)] = pushes(self.to(GUEST_S, self.event))
        self.assertEqual(tab, {"admin_read_seq": 21, "read_seq": 22, "unread": 1})

    def test_nobody_serves(self) -> None:
        """Without an admin only the guest's tabs are told."""
        self.assertEqual(self.told(self.unserved), [(GUEST_S, [22299])])

    def test_place(self) -> None:
        """A read mark is a step of the conversation, and no message."""
        for notice in notices(self.event):
            self.assertEqual((notice.conversation_id, notice.rev, notice.last_seq), (TALK, 41, 0))
            self.assertIsNone(notice.but_not)


class Services(Case):
    def test_assigned(self) -> None:
        """Who gets a guest has 32401, from nobody; the guest has 22099 with the admin."""
        handover = Handover(None, ANN.id, None, 99)
        event = ServiceChanged(conversation(), Standing(SERVING, ANN, None), None, [message(25)], handover)
        self.assertEqual(self.told(event), [(ANN_S, [32401]), (GUEST_S, [22099])])
        desk, guest = self.to(ANN_S, event), self.to(GUEST_S, event)
        [(_, arrived, _)] = pushes(desk)
        self.assertEqual(arrived, read(render.handed(handover, conversation(), [message(25)])))
        self.assertIsNone(arrived["data"]["from_aix"])
        [(_, state, _)] = pushes(guest)
        self.assertEqual(state, {**render.standing(Standing(SERVING, ANN, None)), "reason": "assigned"})
        self.assertEqual((desk.follow, guest.follow), (Follow.BEGIN, Follow.KEEP))
        for notice in (desk, guest):
            self.assertEqual((notice.conversation_id, notice.rev, notice.last_seq), (TALK, 40, 25))

    def test_transferred(self) -> None:
        """The handing admin has 32402 and the entry, the receiver 32401, all with the same data; the guest 22099."""
        handover = Handover(BOB.id, ANN.id, "wants a refund", 99)
        entry = conversation(reason="transferred")
        event = ServiceChanged(entry, Standing(SERVING, ANN, None), BOB.id, [message(25)], handover)
        self.assertEqual(self.told(event), [(BOB_S, [32402, 32099]), (ANN_S, [32401]), (GUEST_S, [22099])])
        handing, receiving, guest = (self.to(topic, event) for topic in (BOB_S, ANN_S, GUEST_S))
        [(_, gone, _), (_, changed, _)] = pushes(handing)
        [(_, arrived, _)] = pushes(receiving)
        self.assertEqual(gone, arrived)
        self.assertEqual(gone["data"], {"from_aix": 8, "to_aix": 7, "note": "wants a refund", "at": 99})
        self.assertEqual(changed, read(render.guest_entry(entry)))
        self.assertEqual((handing.follow, receiving.follow), (Follow.END, Follow.BEGIN))
        [(_, state, _)] = pushes(guest)
        self.assertEqual(state["reason"], "transferred")
        self.assertNotIn("refund", str(state))

    def test_with_a_recall(self) -> None:
        """A guest who comes with a recall is shown to old clients without it, and told once to each."""
        found = [message(23, body=EMPTY, recalled=True), message(24), message(25, body=EMPTY, recalls=23)]
        handover = Handover(BOB.id, ANN.id, None, 99)
        event = ServiceChanged(conversation(), Standing(SERVING, ANN, None), BOB.id, found, handover)
        for topic, wanted in (
            (BOB_S, [(32402, PART2, 3), (32402, GIVEN, 2), (32099, PART2, 0)]),
            (ANN_S, [(32401, PART2, 3), (32401, GIVEN, 2)]),
        ):
            told = [(number, to, len(data.get("recs", ()))) for number, data, to in pushes(self.to(topic, event))]
            self.assertEqual(told, wanted)
            forms = [data["recs"] for _, data, _ in pushes(self.to(topic, event)) if "recs" in data]
            self.assertEqual(forms[1], {seq: info for seq, info in forms[0].items() if "recalls" not in info})

    def test_lost_to_another(self) -> None:
        """Whose guest the server gave to a colleague has the entry, but no 32402: nobody transferred."""
        handover = Handover(None, ANN.id, None, 99)
        event = ServiceChanged(conversation(), Standing(SERVING, ANN, None), BOB.id, [], handover)
        self.assertEqual(self.told(event), [(BOB_S, [32099]), (ANN_S, [32401]), (GUEST_S, [22099])])
        self.assertEqual(self.to(BOB_S, event).follow, Follow.END)

    def test_ended(self) -> None:
        """Who served has the entry, the guest the reason."""
        for reason in ("ended_by_admin", "ended_by_guest", "timeout", "banned"):
            entry = conversation(state=ENDED, admin_id=None, ended_at=9, reason=reason)
            event = ServiceChanged(entry, Standing(ENDED, None, None), ANN.id)
            self.assertEqual(self.told(event), [(ANN_S, [32099]), (GUEST_S, [22099])])
            desk = self.to(ANN_S, event)
            self.assertEqual(desk.follow, Follow.END)
            self.assertEqual(pushes(desk)[0][1]["state"], "ended")
            [(_, state, _)] = pushes(self.to(GUEST_S, event))
            self.assertEqual(state, {"state": "ended", "admin": None, "queue": None, "reason": reason})

    def test_queued(self) -> None:
        """A guest who waits is told the place; no admin by this way (the group's news does it)."""
        entry = conversation(state=QUEUED, admin_id=None, queued_at=5, reason="started")
        event = ServiceChanged(entry, Standing(QUEUED, None, QueuePlace(2, 2, 1)), None)
        self.assertEqual(self.told(event), [(GUEST_S, [22099])])
        [(_, state, _)] = pushes(self.to(GUEST_S, event))
        self.assertEqual(
            state,
            {
                "state": "queued",
                "admin": None,
                "queue": {"position": 2, "waiting": 2, "admins_online": 1},
                "reason": "started",
            },
        )

    def test_put_back(self) -> None:
        """Whose admin is lost and who waits again: the admin's connections, if any, see the entry."""
        entry = conversation(state=QUEUED, admin_id=None, queued_at=5, reason="admin_lost")
        event = ServiceChanged(entry, Standing(QUEUED, None, QueuePlace(1, 1, 0)), ANN.id)
        self.assertEqual(self.told(event), [(ANN_S, [32099]), (GUEST_S, [22099])])


class Others(Case):
    def test_noted(self) -> None:
        """Another context, on line or off line: who serves sees the entry, else all admins of the group."""
        for admin_id, topic in ((ANN.id, ANN_S), (None, GROUP_S)):
            event = GuestNoted(conversation(online=False), admin_id)
            self.assertEqual(self.told(event), [(topic, [32099])])
            notice = self.to(topic, event)
            self.assertEqual(pushes(notice)[0][1], read(render.guest_entry(conversation(online=False))))
            # No step of the conversation: a rev would make the hub drop it.
            self.assertIsNone(notice.conversation_id)

    def test_expelled(self) -> None:
        """Connections that have to go are told by the close alone; the one that stays is named."""
        self.assertEqual(
            list(notices(Expelled(GUEST_S, 4000, "you are a customer now", but_not="tab"))),
            [Notice(GUEST_S, but_not="tab", close=(4000, "you are a customer now"))],
        )


class Announcing(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.published: list[list[Notice]] = []
        self.looks: list[tuple[int, set[int], set[int]]] = []
        self.queue: list[tuple[int, int, int]] = []
        self.announce = Announcer(self.publish, lambda *news: False, News(self.read, self.publish, self.clock))

    def publish(self, found: Sequence[Notice]) -> None:
        if found:
            self.published.append(list(found))

    async def read(
        self, group_id: int, conversations: Collection[int], admins: Collection[int], queued: Collection[int] | None
    ) -> GroupView:
        self.looks.append((group_id, set(conversations), set(admins)))
        return GroupView(0, {}, {}, self.queue, 0)

    def test_commit(self) -> None:
        """All of a commit goes to the bus at once and in order; what groups are told goes to the news."""
        group = GroupChanged(GROUP, frozenset([ANN.id]), queue=True)
        taken = ServiceChanged(conversation(), Standing(SERVING, ANN, None), None, [], Handover(None, ANN.id, None, 9))
        stored = MessageStored(TALK, 41, ANN.id, message(26, ANN), 0, 1, "phone", ANN_S)
        self.announce([taken, group, stored, Expelled(GUEST_S, 4001, "banned")])
        told = [[notice.topic for notice in found] for found in self.published]
        self.assertEqual(told, [[ANN_S, GUEST_S, ANN_S, GUEST_S, GUEST_S]])
        self.clock.advance(0)
        self.assertEqual(self.looks, [(GROUP, set(), {ANN.id})])
        self.announce([])
        self.announce([group])
        self.clock.advance(EVERY)
        self.assertEqual(len(self.published), 1)
        self.assertEqual(self.looks, [(GROUP, set(), {ANN.id})] * 2)

    def sent(self, rev: int, sender: Person = GUS, **fields: Any) -> MessageStored:
        """A message, whose seq is its rev here."""
        topic = GUEST_S if sender is GUS else admin_topic(sender.id)
        event = MessageStored(TALK, rev, ANN.id, message(rev, sender), rev, 0, "phone", topic)
        return replace(event, **fields)

    def told(self) -> list[tuple[str, int, int, list[int]]]:
        """Of what was published since the last look: topic, rev, steps and seqs."""
        found = [
            (notice.topic, notice.rev, notice.steps, [data["message_info"]["seq"] for _, data, _ in pushes(notice)])
            for notices in self.published
            for notice in notices
        ]
        self.published.clear()
        return found

    def test_one_by_one(self) -> None:
        """What is not told together is told at once."""
        self.announce([self.sent(5)])
        self.assertEqual(self.told(), [(GUEST_S, 5, 1, [5]), (ANN_S, 5, 1, [5])])

    def test_together(self) -> None:
        """Messages that follow each other are told in one notice for each side, when no more can come."""
        for sender, sides in ((GUS, (GUEST_S, ANN_S)), (ANN, (ANN_S, GUEST_S))):
            with self.announce:
                for rev in (5, 6, 7):
                    self.announce([self.sent(rev, sender)])
                    self.announce([])
                self.assertEqual(self.published, [])
            self.assertEqual(self.told(), [(side, 7, 3, [5, 6, 7]) for side in sides])
            self.announce([self.sent(8, sender)])
            self.assertEqual(self.told(), [(side, 8, 1, [8]) for side in sides])

    def test_same_frames(self) -> None:
        """Together, each message is told as it would be alone."""
        events = [self.sent(5), self.sent(6)]
        for event in events:
            self.announce([event])
        alone = [notice for notices in self.published for notice in notices]
        self.published.clear()
        with self.announce:
            self.announce(events)
        together = [single for notice in self.published[0] for single in notice.singly()]
        self.assertEqual(together, sorted(alone, key=lambda notice: notice.topic == ANN_S))

    def test_not_together(self) -> None:
        """What does not follow is told by itself, and in its order."""
        others = (self.sent(7), self.sent(6, conversation_id=51), self.sent(6, origin="desk"))
        for other in others:
            with self.announce:
                self.announce([self.sent(5)])
                self.announce([other])
            first, then = (GUEST_S, 5, 1, [5]), (GUEST_S, other.rev, 1, [other.rev])
            self.assertEqual(self.told()[::2], [first, then])

    def test_unserved(self) -> None:
        """Nobody is told on the other side while nobody serves."""
        with self.announce:
            self.announce([self.sent(5, admin_id=None), self.sent(6, admin_id=None)])
        self.assertEqual(self.told(), [(GUEST_S, 6, 2, [5, 6])])

    def test_before_anything_else(self) -> None:
        """Whatever else happens meanwhile is told behind the messages before it, and before those after it."""
        with self.announce:
            self.announce([self.sent(5)])
            self.announce([GroupChanged(GROUP, queue=True)])
            self.assertEqual(self.published, [])
            self.announce([Expelled(BOB_S, 4001, "banned")])
            self.announce([self.sent(6)])
        topics = [[notice.topic for notice in found] for found in self.published]
        self.assertEqual(topics, [[GUEST_S, ANN_S, BOB_S], [GUEST_S, ANN_S]])

    def test_needless(self) -> None:
        """Whether the sender's side has to be told is asked for all of them."""
        asked: list[tuple[Any, ...]] = []

        def skip(*news: Any) -> bool:
            asked.append(news)
            return True

        announce = Announcer(self.publish, skip, News(self.read, self.publish, self.clock))
        with announce:
            announce([self.sent(5)])
            announce([self.sent(6)])
        self.assertEqual(asked, [(GUEST_S, "phone", TALK, 6, 6, 2)])
        self.assertEqual(self.told(), [(ANN_S, 6, 2, [5, 6])])

    def test_place(self) -> None:
        """The place in the queue comes with 22099 and is not repeated by 22098."""
        entry = conversation(state=QUEUED, admin_id=None, queued_at=5, reason="started")
        waits = ServiceChanged(entry, Standing(QUEUED, None, QueuePlace(1, 1, 0)), None)
        self.queue = [(TALK, GID, 0)]
        self.announce([waits, GroupChanged(GROUP, conversations=frozenset([TALK]), queue=True)])
        self.clock.advance(0)
        self.assertEqual(self.looks, [(GROUP, {TALK}, set())])
        numbers = [number for found in self.published for notice in found for number, _, _ in pushes(notice)]
        self.assertEqual(numbers, [22099, 32098])
