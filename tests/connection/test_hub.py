from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatproto.bus.local import LocalBus
from chatproto.bus.notice import ALL, GIVEN, PART2, Follow, Missed, Notice
from chatproto.connection.hub import PATIENCE, Hub
from chatproto.connection.state import ConnectionState, Phase
from chatproto.domain.model import Known, Person, Principal, Role
from chatproto.errors import StorageError
from tests.connection.test_state import MemoryLink, connect

ANN = Principal(Person(Role.ADMIN, 7, "Ann", ""), 3)
BOB = Principal(Person(Role.ADMIN, 8, "Bob", ""), 3)
GUS = Principal(Person(Role.GUEST, 12, "Gus", ""), 3, conversation_id=50)

TALK = 50
"""The conversation that most tests are about."""


class SlowBus(LocalBus):
    """Confirms a subscription when the test says so, as a bus behind a network does."""

    def __init__(self) -> None:
        super().__init__()
        self.subscribing: list[tuple[str, Deferred[None]]] = []
        self.left: list[str] = []

    async def subscribe(self, topic: str) -> None:
        confirmed: Deferred[None] = Deferred()
        self.subscribing.append((topic, confirmed))
        await confirmed

    def unsubscribe(self, topic: str) -> None:
        self.left.append(topic)


class Database:
    """What the hub may ask: its answers, and what it was asked.

    :ivar missed: an answer, or an error to raise, for each question in turn.
    :ivar gate: where set, questions wait for it.
    """

    def __init__(self) -> None:
        self.missed: list[Missed | Exception] = []
        self.asked: list[tuple[Principal, int, Known | None]] = []
        self.compared: list[tuple[dict[int, int], list[int]]] = []
        self.moved: set[int] = set()
        self.served: dict[int, set[int]] = {}
        self.gate: Deferred[None] | None = None

    async def catch(self, who: Principal, conversation_id: int, known: Known | None) -> Missed:
        self.asked.append((who, conversation_id, known))
        answer = self.missed.pop(0)
        if self.gate is not None:
            await self.gate
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def compare(self, revs: dict[int, int], admins: Sequence[int]) -> tuple[set[int], dict[int, set[int]]]:
        self.compared.append((revs, list(admins)))
        return self.moved, self.served


class HubCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wall = 1_700_000_000.0
        self.bus = LocalBus()
        self.database = Database()
        self.hub = Hub(self.bus, self.clock, self.database.catch, self.database.compare, lambda: self.wall)

    def come(
        self,
        who: Principal,
        knows: dict[int, Known] | None = None,
        *,
        ix: str = "c1",
        v: int = 2,
    ) -> tuple[ConnectionState, MemoryLink]:
        """Log in."""
        connection, link = connect(ix)
        self.successResultOf(Deferred.fromCoroutine(self.hub.join(connection, who)))
        self.become(connection, who, v)
        self.hub.release(connection, knows or {})
        return connection, link

    def become(self, connection: ConnectionState, who: Principal, v: int = 2) -> None:
        connection.principal = who
        connection.phase = Phase.ADMIN if who.person.role is Role.ADMIN else Phase.GUEST
        connection.v = v

    def tell(self, topic: str, *words: str, **fields: Any) -> None:
        """Publish pushes, all of part 2 unless said otherwise."""
        audiences = fields.pop("audiences", [PART2] * len(words))
        frames = tuple((word.encode(), audience) for word, audience in zip(words, audiences, strict=True))
        self.bus.publish([Notice(topic, frames, **fields)])

    def talk(self, rev: int, topic: str = ANN.topic, **fields: Any) -> None:
        """News of the conversation, named by its rev."""
        self.tell(topic, str(rev), conversation_id=TALK, rev=rev, last_seq=rev, **fields)

    def told(self, link: MemoryLink) -> list[str]:
        """What was pushed since the last look; nothing goes out as a reply."""
        self.assertTrue(all(push for _, push in link.frames))
        words = [payload.decode() for payload, _ in link.frames]
        link.frames.clear()
        return words

    def numbers(self, link: MemoryLink) -> list[int]:
        """The api_keys of what was pushed."""
        return [orjson.loads(word)["api_key"] for word in self.told(link)]

    def missing(self, *words: str, rev: int, last_seq: int | None = None) -> Missed:
        """What the database answers to who still follows the conversation."""
        last = rev if last_seq is None else last_seq
        return Missed([(word.encode(), PART2) for word in words], Known(rev, last))


class Topics(HubCase):
    def test_who_gets_it(self) -> None:
        """News reaches every connection of whom it is for, and nobody else."""
        (_, phone), (_, desk) = self.come(ANN, ix="phone"), self.come(ANN, ix="desk")
        (_, bob), (_, gus) = self.come(BOB), self.come(GUS)
        self.tell(ANN.topic, "for Ann")
        self.tell("group:3", "for all admins")
        self.tell(GUS.topic, "for Gus")
        self.tell("admin:12", "for somebody else")
        self.tell("group:4", "for others")
        for link in (phone, desk):
            self.assertEqual(self.told(link), ["for Ann", "for all admins"])
        self.assertEqual(self.told(bob), ["for all admins"])
        self.assertEqual(self.told(gus), ["for Gus"])

    def test_leaving(self) -> None:
        """Who has left gets nothing; the other connection of the same person does."""
        bus = SlowBus()
        hub = Hub(bus, self.clock, self.database.catch, self.database.compare, lambda: self.wall)
        links = []
        for ix in ("a", "b"):
            connection, link = connect(ix)
            joining = Deferred.fromCoroutine(hub.join(connection, GUS))
            for _, confirmed in bus.subscribing:
                confirmed.callback(None)
            bus.subscribing.clear()
            self.successResultOf(joining)
            self.become(connection, GUS)
            hub.release(connection, {})
            links.append((connection, link))
        (first, first_link), (second, second_link) = links
        self.assertEqual(hub.connections(), [first, second])
        hub.leave(first)
        self.assertEqual(bus.left, [])
        bus.publish([Notice(GUS.topic, ((b"x", PART2),))])
        self.assertEqual((self.told(first_link), self.told(second_link)), ([], ["x"]))
        hub.leave(second)
        hub.leave(second)
        self.assertEqual(bus.left, [GUS.topic])
        self.assertEqual(hub.connections(), [])

    def test_never_joined(self) -> None:
        """A connection that fails to log in leaves without a trace."""
        self.hub.leave(connect()[0])
        self.assertEqual(self.hub.connections(), [])

    def test_but_not(self) -> None:
        """What somebody sent comes to the other connections, not to the one that sent it, nor to a topic left out."""
        (_, phone), (_, desk) = self.come(ANN, ix="phone"), self.come(ANN, ix="desk")
        _, bob = self.come(BOB)
        self.tell(ANN.topic, "own", but_not="phone")
        self.assertEqual((self.told(phone), self.told(desk)), ([], ["own"]))
        self.tell("group:3", "entry", but_not=ANN.topic)
        self.assertEqual((self.told(phone), self.told(desk), self.told(bob)), ([], [], ["entry"]))

    def test_but_not_moves_on(self) -> None:
        """The connection that sent still takes the step: the next message finds it where it has to be."""
        _, link = self.come(ANN, {TALK: Known(4, 4)}, ix="phone")
        self.talk(5, but_not="phone")
        self.talk(6)
        self.assertEqual(self.told(link), ["6"])

    def skips(self, rev: int, *, ix: str = "phone", topic: str = ANN.topic, steps: int = 1) -> bool:
        return self.hub.skip(topic, ix, TALK, rev, rev, steps)

    def test_needless(self) -> None:
        """What the only connection of somebody sent needs no notice; what comes next finds it where it has to be."""
        self.assertFalse(self.skips(5))
        connection, link = self.come(ANN, {TALK: Known(4, 4)}, ix="phone")
        self.assertTrue(self.skips(5))
        self.assertEqual(connection.knows, {TALK: Known(5, 5)})
        self.talk(6)
        self.assertEqual(self.told(link), ["6"])

    def test_needed(self) -> None:
        """A notice is needed where anybody else listens, or where the connection missed something before."""
        connection, _ = self.come(ANN, {TALK: Known(4, 4)}, ix="phone")
        for rev in (3, 4, 6):
            self.assertFalse(self.skips(rev))
        self.assertFalse(self.skips(5, ix="elsewhere"))
        connection.held = []
        self.assertFalse(self.skips(5))
        connection.held = None
        self.talk(6)
        self.assertFalse(self.skips(5))
        self.come(ANN, {TALK: Known(4, 4)}, ix="desk")
        self.assertFalse(self.skips(5))
        self.come(BOB, ix="phone")
        self.assertFalse(self.skips(5, topic=BOB.topic))
        self.assertEqual(connection.knows, {TALK: Known(4, 4)})

    def test_several_needless(self) -> None:
        """Of several messages of one connection all are new to it, or a notice is needed."""
        connection, _ = self.come(ANN, {TALK: Known(4, 4)}, ix="phone")
        for rev in (5, 6, 8):
            self.assertFalse(self.skips(rev, steps=3))
        self.assertTrue(self.skips(7, steps=3))
        self.assertEqual(connection.knows, {TALK: Known(7, 7)})

    def test_given_only(self) -> None:
        """An admin's client that knows only the given document gets its pushes only; guests get all."""
        _, old = self.come(ANN, v=1)
        _, new = self.come(ANN, v=2)
        _, gus = self.come(GUS, v=1)
        self.tell(ANN.topic, "32402", "32099", audiences=(ALL, PART2))
        self.assertEqual(self.told(old), ["32402"])
        self.assertEqual(self.told(new), ["32402", "32099"])
        self.tell(GUS.topic, "22099")
        self.assertEqual(self.told(gus), ["22099"])

    def test_two_forms(self) -> None:
        """What is told in two forms reaches each client in the one that it knows; all guests know part 2."""
        _, old = self.come(ANN, v=1)
        _, new = self.come(ANN, v=2)
        _, gus = self.come(GUS, v=1)
        for topic in (ANN.topic, GUS.topic):
            self.tell(topic, "all", "new", "old", audiences=(ALL, PART2, GIVEN))
        self.assertEqual(self.told(old), ["all", "old"])
        self.assertEqual(self.told(new), ["all", "new"])
        self.assertEqual(self.told(gus), ["all", "new"])

    def test_silent(self) -> None:
        """After the token expired, to the moment, no push goes out; nor while closing."""
        connection, link = self.come(replace(ANN, expires_at=1_700_000_010))
        self.wall += 9.999
        self.tell(ANN.topic, "just before")
        self.assertEqual(self.told(link), ["just before"])
        self.wall = 1_700_000_010.0
        self.tell(ANN.topic, "x")
        self.hub.gap(connection)
        self.assertEqual(self.told(link), [])
        connection.principal = replace(ANN, expires_at=1_700_000_020)
        self.tell(ANN.topic, "renewed")
        self.assertEqual(self.told(link), ["renewed"])
        connection.phase = Phase.CLOSING
        self.tell(ANN.topic, "x")
        self.assertEqual(self.told(link), [])

    def test_expired_others(self) -> None:
        """One whose token expired does not silence the others; anonymous guests have none that could."""
        _, phone = self.come(replace(ANN, expires_at=1_700_000_010), ix="phone")
        _, desk = self.come(replace(ANN, expires_at=1_700_000_011), ix="desk")
        _, gus = self.come(GUS)
        self.wall += 10.5
        self.tell(ANN.topic, "x")
        self.tell(GUS.topic, "x")
        self.assertEqual((self.told(phone), self.told(desk), self.told(gus)), ([], ["x"], ["x"]))

    def test_close(self) -> None:
        """Connections that have to go are closed with the code and reason, also while logging in; one may stay."""
        _, stays = self.come(GUS, ix="stays")
        _, goes = self.come(GUS, ix="goes")
        joining, joining_link = connect("joining")
        self.successResultOf(Deferred.fromCoroutine(self.hub.join(joining, GUS)))
        self.tell(GUS.topic, close=(4000, "you are a customer now"), but_not="stays")
        self.assertEqual(stays.closed, [])
        for link in (goes, joining_link):
            self.assertEqual(link.closed, [(4000, "you are a customer now")])


class LoggingIn(HubCase):
    def test_held(self) -> None:
        """What comes during a login waits for its reply; what the reply holds already is not told again."""
        connection, link = connect()
        self.successResultOf(Deferred.fromCoroutine(self.hub.join(connection, ANN)))
        self.talk(5)
        self.talk(6)
        self.tell(ANN.topic, "other")
        self.become(connection, ANN)
        self.assertEqual(self.told(link), [])
        self.hub.release(connection, {TALK: Known(5, 5)})
        self.assertEqual(self.told(link), ["6", "other"])
        self.talk(7)
        self.assertEqual(self.told(link), ["7"])

    def test_subscribed_first(self) -> None:
        """The reply is not read before the bus has confirmed: in between nothing can be lost."""
        bus = SlowBus()
        hub = Hub(bus, self.clock, self.database.catch, self.database.compare, lambda: self.wall)
        connection, link = connect()
        joining = Deferred.fromCoroutine(hub.join(connection, ANN))
        for topic in (ANN.topic, "group:3"):
            self.assertNoResult(joining)
            self.assertEqual(bus.subscribing[-1][0], topic)
            bus.subscribing[-1][1].callback(None)
        self.successResultOf(joining)

    def test_again(self) -> None:
        """A login on a logged-in connection holds the news in the same way, and starts from its reply."""
        connection, link = self.come(ANN, {TALK: Known(4, 4)})
        self.successResultOf(Deferred.fromCoroutine(self.hub.join(connection, ANN)))
        self.talk(5)
        self.talk(6)
        self.assertEqual(self.told(link), [])
        self.hub.release(connection, {TALK: Known(5, 5)})
        self.assertEqual(self.told(link), ["6"])

    def test_failed_again(self) -> None:
        """A failed login leaves the connection as it was: what waited before it is told."""
        connection, link = self.come(ANN, {TALK: Known(4, 4)})
        self.talk(6)
        self.successResultOf(Deferred.fromCoroutine(self.hub.join(connection, ANN)))
        self.clock.advance(PATIENCE)
        self.hub.release(connection, connection.knows)
        self.database.missed = [self.missing("5 and 6", rev=6)]
        self.clock.advance(PATIENCE)
        self.assertEqual(self.told(link), ["5 and 6"])

    def test_failed_again_with_news(self) -> None:
        """So is what came meanwhile."""
        connection, link = self.come(ANN, {TALK: Known(4, 4)})
        self.talk(6)
        self.successResultOf(Deferred.fromCoroutine(self.hub.join(connection, ANN)))
        self.clock.advance(PATIENCE)
        self.assertEqual(self.database.asked, [])
        self.talk(7)
        self.hub.release(connection, connection.knows)
        self.assertEqual(self.told(link), [])
        self.database.missed = [self.missing("5, 6, 7", rev=7)]
        self.clock.advance(PATIENCE)
        self.assertEqual(self.told(link), ["5, 6, 7"])
        self.talk(8)
        self.assertEqual(self.told(link), ["8"])


class Revs(HubCase):
    def setUp(self) -> None:
        super().setUp()
        self.connection, self.link = self.come(ANN, {TALK: Known(4, 4)})

    def known(self) -> Known | None:
        return self.connection.knows.get(TALK)

    def test_in_order(self) -> None:
        """What is next is told at once, what is known is dropped."""
        for rev in (3, 4, 5, 5, 6, 4):
            self.talk(rev)
        self.assertEqual(self.told(self.link), ["5", "6"])
        self.assertEqual(self.known(), Known(6, 6))

    def test_seq_stays(self) -> None:
        """A step without a message does not forget which messages are known."""
        self.tell(ANN.topic, "read", conversation_id=TALK, rev=5)
        self.assertEqual(self.known(), Known(5, 4))

    def test_early(self) -> None:
        """What overtook on the bus is told in its order as soon as what precedes it is here."""
        self.talk(7)
        self.talk(6)
        self.assertEqual(self.told(self.link), [])
        self.talk(5)
        self.assertEqual(self.told(self.link), ["5", "6", "7"])
        self.clock.advance(PATIENCE)
        self.assertEqual((self.told(self.link), self.database.asked), ([], []))

    def several(self, *revs: int, **fields: Any) -> None:
        """One notice of messages that follow each other."""
        words = map(str, revs)
        self.tell(ANN.topic, *words, conversation_id=TALK, rev=revs[-1], last_seq=revs[-1], steps=len(revs), **fields)

    def test_several(self) -> None:
        """What was sent in one go is told in one go, and what is told then is next."""
        self.several(5, 6, 7)
        self.assertEqual((self.told(self.link), self.known()), (["5", "6", "7"], Known(7, 7)))
        self.talk(8)
        self.several(9, 10)
        self.assertEqual((self.told(self.link), self.known()), (["8", "9", "10"], Known(10, 10)))

    def test_several_in_part(self) -> None:
        """Of several messages those that are known are dropped, the others told."""
        self.several(3, 4)
        self.several(3, 4, 5, 6)
        self.several(5, 6)
        self.assertEqual((self.told(self.link), self.known()), (["5", "6"], Known(6, 6)))

    def test_several_early(self) -> None:
        """What came too early in one go waits like any other, also where it meets what it repeats."""
        self.several(7, 8)
        self.several(6, 7)
        self.assertEqual(self.told(self.link), [])
        self.several(5)
        self.assertEqual((self.told(self.link), self.known()), (["5", "6", "7", "8"], Known(8, 8)))

    def test_several_of_the_own(self) -> None:
        """The connection that sent them takes all the steps, and is told none."""
        self.several(5, 6, but_not="c1")
        self.several(6, 7, but_not="c1")
        self.talk(8)
        self.assertEqual(self.told(self.link), ["8"])

    def test_several_while_logging_in(self) -> None:
        """Of what came in one go during a login, the reply may know a part."""
        self.successResultOf(Deferred.fromCoroutine(self.hub.join(self.connection, ANN)))
        self.several(5, 6, 7)
        self.hub.release(self.connection, {TALK: Known(6, 6)})
        self.assertEqual((self.told(self.link), self.known()), (["7"], Known(7, 7)))

    def test_patience(self) -> None:
        """What is missing is read after 200 ms, not before; then all goes on in order."""
        self.database.missed = [self.missing("5 and 6", rev=6)]
        self.talk(6)
        self.clock.advance(PATIENCE - 0.01)
        self.assertEqual(self.database.asked, [])
        self.talk(7)
        self.clock.advance(0.01)
        self.assertEqual(self.database.asked, [(ANN, TALK, Known(4, 4))])
        self.assertEqual(self.told(self.link), ["5 and 6", "7"])
        self.assertEqual(self.known(), Known(7, 7))
        self.clock.advance(1)
        self.assertEqual(len(self.database.asked), 1)

    def test_other_conversations_go_on(self) -> None:
        """A hole in one conversation does not hold up another."""
        self.connection.knows[51] = Known(1, 1)
        self.talk(6)
        self.tell(ANN.topic, "else", conversation_id=51, rev=2)
        self.assertEqual(self.told(self.link), ["else"])

    def test_arrives_while_reading(self) -> None:
        """What was missing comes while it is being read: it is told once."""
        gate: Deferred[None] = Deferred()
        self.database.gate = gate
        self.database.missed = [self.missing("5 and 6", rev=6)]
        self.talk(6)
        self.clock.advance(PATIENCE)
        self.talk(5)
        gate.callback(None)
        self.assertEqual(self.told(self.link), ["5", "6"])
        self.assertEqual(self.known(), Known(6, 6))

    def test_another_hole_while_reading(self) -> None:
        """A second hole is read in its turn."""
        self.database.missed = [self.missing("5 and 6", rev=6), self.missing("7 and 8", rev=8)]
        self.talk(6)
        self.clock.advance(PATIENCE)
        self.talk(8)
        self.assertEqual(self.told(self.link), ["5 and 6"])
        self.clock.advance(PATIENCE)
        self.assertEqual(self.told(self.link), ["7 and 8"])

    def test_database_away(self) -> None:
        """Where reading fails, the next news tries again."""
        self.database.missed = [StorageError("away"), self.missing("5, 6 and 7", rev=7)]
        self.talk(6)
        self.clock.advance(PATIENCE)
        self.assertEqual(self.told(self.link), [])
        self.talk(7)
        self.clock.advance(PATIENCE)
        self.assertEqual(self.told(self.link), ["5, 6 and 7"])

    def test_defect(self) -> None:
        """A defect while reading is logged, and the connection lives on."""
        self.database.missed = [ZeroDivisionError()]
        self.talk(6)
        self.clock.advance(PATIENCE)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.talk(5)
        self.assertEqual(self.told(self.link), ["5", "6"])

    def test_gone_meanwhile(self) -> None:
        """A connection that closes is not read for."""
        self.talk(6)
        self.connection.phase = Phase.CLOSING
        self.clock.advance(PATIENCE)
        self.assertEqual(self.database.asked, [])

    def test_too_many(self) -> None:
        """Where more than 200 messages are missing, the client is told to fetch them, and goes on from there."""
        guest, guest_link = self.come(GUS, {TALK: Known(4, 4)})
        for topic, link, gap in ((ANN.topic, self.link, 39099), (GUS.topic, guest_link, 29099)):
            self.database.missed = [Missed((), Known(300, 300), too_many=True)]
            self.talk(300, topic)
            self.clock.advance(PATIENCE)
            self.assertEqual(self.numbers(link), [gap])
            self.talk(301, topic)
            self.assertEqual(self.told(link), ["301"])

    def test_everywhere(self) -> None:
        """After the node was given up, everybody is told that pushes may have been lost, if the client knows how.

        Not all at once, but within ten seconds.
        """
        _, guest = self.come(GUS)
        _, old = self.come(BOB, v=1)
        self.hub.gap_everywhere()
        self.clock.advance(1)
        self.assertEqual(orjson.loads(self.link.frames[0][0])["data"], {})
        self.assertEqual([self.numbers(link) for link in (self.link, guest, old)], [[39099], [], []])
        self.clock.pump([1] * 8)
        self.assertEqual([self.numbers(link) for link in (self.link, guest, old)], [[], [29099], []])


class Following(HubCase):
    def setUp(self) -> None:
        super().setUp()
        self.connection, self.link = self.come(ANN)

    def begin(self, rev: int) -> None:
        self.talk(rev, follow=Follow.BEGIN)

    def end(self, rev: int) -> None:
        self.talk(rev, follow=Follow.END)

    def test_begin(self) -> None:
        """With the arrival of a guest the messages follow in order, from the rev of the arrival."""
        self.begin(10)
        self.talk(12)
        self.talk(9)
        self.talk(11)
        self.assertEqual(self.told(self.link), ["10", "11", "12"])

    def test_begin_again(self) -> None:
        """An arrival is told once: what is not newer is dropped, what is newer stands for all that it skips."""
        self.begin(10)
        self.begin(10)
        self.talk(15)
        self.begin(14)
        self.assertEqual(self.told(self.link), ["10", "14", "15"])

    def test_message_before_arrival(self) -> None:
        """A message may come before the guest's arrival: neither is lost."""
        self.talk(11)
        self.begin(10)
        self.assertEqual(self.told(self.link), ["11", "10"])

    def test_end(self) -> None:
        """Who lost a guest gets nothing older any more, but what is newer and addressed to them."""
        self.begin(10)
        self.talk(13)
        self.end(11)
        self.talk(9)
        self.talk(11)
        self.assertEqual(self.told(self.link), ["10", "11", "13"])
        self.assertEqual(self.connection.knows, {})
        self.talk(12)
        self.assertEqual(self.told(self.link), ["12"])

    def test_back(self) -> None:
        """The same guest may come back later; an arrival from before the loss does not."""
        self.begin(10)
        self.end(11)
        self.begin(10)
        self.assertEqual(self.told(self.link), ["10", "11"])
        self.begin(12)
        self.talk(13)
        self.assertEqual(self.told(self.link), ["12", "13"])

    def test_end_out_of_order(self) -> None:
        """The loss waits for the messages before it."""
        self.begin(10)
        self.end(12)
        self.assertEqual(self.told(self.link), ["10"])
        self.talk(11)
        self.assertEqual(self.told(self.link), ["11", "12"])

    def test_lost_silently(self) -> None:
        """Who learns from the database that the guest is gone is told once, though the bus says so later."""
        self.begin(10)
        self.end(12)
        self.database.missed = [Missed([(b"32402", ALL)], None, rev=12)]
        self.told(self.link)
        self.clock.advance(PATIENCE)
        self.assertEqual(self.told(self.link), ["32402"])
        self.assertEqual(self.connection.knows, {})
        self.end(12)
        self.assertEqual(self.told(self.link), [])
        self.begin(13)
        self.assertEqual(self.told(self.link), ["13"])

    def test_aside(self) -> None:
        """Queue entries are for those who do not serve the guest, who are not made followers by them."""
        self.talk(8, "group:3", follow=Follow.ASIDE)
        self.talk(8, "group:3", follow=Follow.ASIDE)
        self.assertEqual(self.told(self.link), ["8", "8"])
        self.assertEqual(self.connection.knows, {})
        self.begin(9)
        self.talk(12, "group:3", follow=Follow.ASIDE)
        self.talk(10)
        self.assertEqual(self.told(self.link), ["9", "10"])
        self.end(11)
        self.talk(11, "group:3", follow=Follow.ASIDE)
        self.talk(12, "group:3", follow=Follow.ASIDE)
        self.assertEqual(self.told(self.link), ["11", "12"])

    def test_only_the_rev(self) -> None:
        """A notice without frames moves the conversation on."""
        self.begin(10)
        self.tell(ANN.topic, conversation_id=TALK, rev=11)
        self.talk(12)
        self.assertEqual(self.told(self.link), ["10", "12"])


class Hints(HubCase):
    """What may be lost: that somebody types."""

    def hint(self, topic: str = "group:3", word: str = "hint") -> None:
        self.tell(topic, word, conversation_id=TALK, follow=Follow.HINT)

    def test_who_follows(self) -> None:
        """Of all admins of the group only who serves is told, on every connection; and the guest on every tab."""
        follows = {TALK: Known(4, 4)}
        (_, phone), (_, desk) = self.come(ANN, follows, ix="phone"), self.come(ANN, follows, ix="desk")
        (_, bob), (_, gus) = self.come(BOB, {TALK + 1: Known(4, 4)}), self.come(GUS, follows)
        self.hint()
        self.assertEqual([self.told(link) for link in (phone, desk, bob, gus)], [["hint"], ["hint"], [], []])
        self.hint(GUS.topic)
        self.assertEqual([self.told(link) for link in (phone, desk, bob, gus)], [[], [], [], ["hint"]])

    def test_who_lost(self) -> None:
        """From the moment that the guest goes to a colleague, the colleague is told and nobody else."""
        _, ann = self.come(ANN, {TALK: Known(4, 4)})
        _, bob = self.come(BOB)
        self.talk(5, follow=Follow.END)
        self.talk(5, BOB.topic, follow=Follow.BEGIN)
        self.hint()
        self.assertEqual((self.told(ann), self.told(bob)), (["5"], ["5", "hint"]))

    def test_no_step(self) -> None:
        """A hint moves no rev: what comes next is next, and nothing is read from the database."""
        _, link = self.come(ANN, {TALK: Known(4, 4)})
        self.hint()
        self.talk(5)
        self.clock.advance(PATIENCE)
        self.assertEqual(self.told(link), ["hint", "5"])
        self.assertEqual(self.database.asked, [])

    def test_given_only(self) -> None:
        """A client of the given document is told nothing of it."""
        _, old = self.come(ANN, {TALK: Known(4, 4)}, v=1)
        self.hint()
        self.assertEqual(self.told(old), [])

    def test_something_waits(self) -> None:
        """Where anything else waits for the peer, the hint is lost, and does not come later."""
        connection, link = self.come(ANN, {TALK: Known(4, 4)})
        link.unsent = 1
        self.hint()
        link.unsent = 0
        slow, done = connection.owe(), connection.owe()
        connection.answer(done, b"done")
        self.hint()
        connection.answer(slow, b"slow")
        link.frames.clear()
        self.hint(word="free again")
        self.assertEqual(self.told(link), ["free again"])

    def test_news_waits(self) -> None:
        """News that waits for what precedes it comes first, too."""
        _, link = self.come(ANN, {TALK: Known(4, 4)})
        self.talk(6)
        self.hint()
        self.talk(5)
        self.assertEqual(self.told(link), ["5", "6"])
        self.hint()
        self.assertEqual(self.told(link), ["hint"])

    def test_logging_in(self) -> None:
        """A login that is under way holds no hint."""
        connection, link = connect()
        self.successResultOf(Deferred.fromCoroutine(self.hub.join(connection, ANN)))
        self.become(connection, ANN)
        self.hint()
        self.hub.release(connection, {TALK: Known(4, 4)})
        self.assertEqual(self.told(link), [])

    def test_expired(self) -> None:
        """Whose token has expired is told no hint either."""
        _, link = self.come(replace(ANN, expires_at=int(self.wall)), {TALK: Known(4, 4)})
        self.hint()
        self.assertEqual(self.told(link), [])

    def test_follows(self) -> None:
        """It is known whom an admin serves, whichever connection asks, until the guest or the admin has gone."""
        self.assertFalse(self.hub.follows(ANN.topic, TALK))
        self.come(ANN, ix="phone")
        desk, _ = self.come(ANN, {TALK: Known(4, 4)}, ix="desk")
        self.assertTrue(self.hub.follows(ANN.topic, TALK))
        self.assertFalse(self.hub.follows(ANN.topic, TALK + 1))
        self.assertFalse(self.hub.follows(BOB.topic, TALK))
        self.hub.leave(desk)
        self.assertFalse(self.hub.follows(ANN.topic, TALK))


class Comparing(HubCase):
    def compare(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.hub.compare()))

    def test_heals(self) -> None:
        """What the bus lost without a trace comes with the comparison, to each connection what it lacks."""
        (behind, behind_link) = self.come(ANN, {TALK: Known(4, 4), 51: Known(1, 1)}, ix="behind")
        (_, ahead_link) = self.come(ANN, {TALK: Known(6, 6)}, ix="ahead")
        (_, gus) = self.come(GUS, {TALK: Known(5, 5)})
        self.database.moved = {TALK}
        self.database.missed = [
            self.missing("5 and 6", rev=6),
            self.missing("nothing new", rev=6),
            self.missing("6", rev=6),
        ]
        self.compare()
        self.assertEqual(self.database.compared, [({TALK: 4, 51: 1}, [7])])
        self.assertEqual([known for _, _, known in self.database.asked], [Known(4, 4), Known(6, 6), Known(5, 5)])
        self.assertEqual(self.told(behind_link), ["5 and 6"])
        self.assertEqual(self.told(ahead_link), [])
        self.assertEqual(self.told(gus), ["6"])
        self.assertEqual(behind.knows, {TALK: Known(6, 6), 51: Known(1, 1)})

    def test_arrival(self) -> None:
        """A guest whose arrival nobody told arrives with the comparison, and only there."""
        ann, link = self.come(ANN)
        _, bob = self.come(BOB)
        self.database.served = {7: {TALK}}
        self.database.missed = [Missed([(b"32401", ALL)], Known(9, 9))]
        self.compare()
        self.assertEqual(self.database.asked, [(ANN, TALK, None)])
        self.assertEqual((self.told(link), self.told(bob)), (["32401"], []))
        self.talk(9, follow=Follow.BEGIN)
        self.talk(10)
        self.assertEqual(self.told(link), ["10"])

    def test_nothing(self) -> None:
        """Where nothing differs, nothing is read or told; without connections, nothing is asked."""
        self.compare()
        self.assertEqual(self.database.compared, [])
        _, link = self.come(ANN, {TALK: Known(4, 4)})
        self.database.served = {7: {TALK}}
        self.compare()
        self.assertEqual((self.told(link), self.database.asked), ([], []))

    def test_logging_in(self) -> None:
        """A connection that is logging in is left to its login."""
        connection, link = self.come(ANN, {TALK: Known(4, 4)})
        self.successResultOf(Deferred.fromCoroutine(self.hub.join(connection, ANN)))
        self.database.moved = {TALK}
        self.compare()
        self.assertEqual(self.database.asked, [])

    def test_fails(self) -> None:
        """One connection whose news cannot be read does not keep the others from theirs."""
        _, ann = self.come(ANN, {TALK: Known(4, 4)})
        _, gus = self.come(GUS, {TALK: Known(4, 4)})
        self.database.moved = {TALK}
        self.database.missed = [StorageError("away"), self.missing("5", rev=5)]
        self.compare()
        self.assertEqual((self.told(ann), self.told(gus)), ([], ["5"]))
