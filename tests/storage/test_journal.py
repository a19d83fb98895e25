"""The journal: what becomes of each message, whatever else happens to it and its neighbours."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any, cast

import psycopg2
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chatproto.domain.model import Person, Principal, Role
from chatproto.errors import StorageError
from chatproto.storage.journal import (
    AT_ONCE,
    BATCH_TEXT,
    OTHER,
    RETRY_AFTER,
    STORED,
    WHOLE,
    Draft,
    Journal,
    Outcome,
    shown_cmid,
    stored_cmid,
)
from chatproto.storage.pool import Pool
from tests.database import OwnClusterTestCase
from tests.relay import Relay
from tests.worlds import Server, WorldTestCase, draft, eventually, guest_draft, new_group, served


def question(sender: Principal, gid: int, cmid: str) -> Draft:
    """What stores nothing, and only asks whether *cmid* is known."""
    return Draft(sender.group_id, gid, sender.person, None, "", cmid)


class Stranger:
    """Somebody who locks the row of a conversation, as another process or a person with psql may."""

    def __init__(self, dsn: str, guest: Principal) -> None:
        self._connection = psycopg2.connect(dsn)
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT FROM conversation WHERE id = %s FOR UPDATE", (guest.conversation_id,))

    def leave(self) -> None:
        self._connection.close()


class JournalTestCase(WorldTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.journal = self.server.journal

    def waiting_for_lock(self) -> int:
        [(number,)] = self.query(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return int(number)

    def locked(self, guest: Principal) -> Stranger:
        stranger = Stranger(self.dsn, guest)
        self.addCleanup(stranger.leave)
        return stranger

    async def together(self, *drafts: Draft) -> list[Outcome]:
        """Append all of them in one batch; the first one here is what keeps the journal busy meanwhile."""
        opener = await self.server.guest(new_group(self.dsn, "another"))
        await self.server.assignment.start(opener)
        first = self.journal.append(guest_draft(opener))
        outcomes = await gatherResults([self.journal.append(each) for each in drafts])
        await first
        return outcomes


class OutcomeTests(JournalTestCase):
    async def test_stored(self) -> None:
        """Messages to a guest's waiting service are numbered from 1, and the outcome says what the row says."""
        guest = await self.customer()
        outcomes = [await self.journal.append(guest_draft(guest, f'"{n}"')) for n in range(3)]
        self.assertEqual(
            [(o.kind, o.seq, o.state, o.admin_id) for o in outcomes], [("stored", n, "queued", None) for n in (1, 2, 3)]
        )
        self.assertEqual([(o.admin_unread, o.guest_unread) for o in outcomes], [(1, 0), (2, 0), (3, 0)])
        self.assertEqual(self.bodies(guest), ['"0"', '"1"', '"2"'])
        last = outcomes[-1]
        self.assertEqual(
            self.query(
                "SELECT id, last_seq, rev, last_message_at, admin_unread FROM conversation WHERE id = %s",
                guest.conversation_id,
            ),
            [(last.conversation_id, last.seq, last.rev, last.created_at, 3)],
        )

    async def test_both_sides(self) -> None:
        """Each side counts what the other wrote, message by message, also within one batch."""
        admin = await self.on_duty()
        guest = await self.customer("serving")
        gid = guest.person.id
        outcomes = await self.together(guest_draft(guest), draft(admin, gid), draft(admin, gid), guest_draft(guest))
        self.assertEqual([o.seq for o in outcomes], [1, 2, 3, 4])
        self.assertEqual([(o.admin_unread, o.guest_unread) for o in outcomes], [(1, 0), (1, 1), (1, 2), (2, 2)])
        revs = [o.rev for o in outcomes]
        self.assertEqual(revs, list(range(revs[0], revs[0] + 4)))
        self.assertEqual({o.admin_id for o in outcomes}, {admin.person.id})
        self.assertEqual(self.column(guest, "last_admin_id"), admin.person.id)

    async def test_body_as_it_came(self) -> None:
        """What clients send comes back byte by byte."""
        guest = await self.customer()
        bodies = ['{"b":1e2,"a":1.0, "a":2}', '"\\u5ba2 \\ud83d\\ude42 客人"', "123456789012345678901234567890"]
        for body in bodies:
            await self.journal.append(guest_draft(guest, body))
        self.assertEqual(self.bodies(guest), bodies)

    async def test_repeated(self) -> None:
        """A message sent again with the same cmid is stored once, and the repeat gets the first one's seq and time."""
        guest = await self.customer()
        first = await self.journal.append(guest_draft(guest, cmid="a"))
        await self.journal.append(guest_draft(guest, '"other"', cmid="b"))
        again = await self.journal.append(guest_draft(guest, cmid="a"))
        self.assertEqual((again.kind, again.seq, again.created_at), ("dup", first.seq, first.created_at))
        self.assertEqual(len(self.bodies(guest)), 2)
        self.assertEqual(self.column(guest, "admin_unread"), 2)

    async def test_repeated_after_the_end(self) -> None:
        """A repeat is recognised also when the service has ended, or the guest was banned meanwhile."""
        guest = await self.customer()
        await self.journal.append(guest_draft(guest, cmid="a"))
        await self.server.assignment.end_by_guest(guest)
        self.assertEqual((await self.journal.append(guest_draft(guest, cmid="a"))).kind, "dup")
        self.query("UPDATE guest SET status = 'banned'")
        self.assertEqual((await self.journal.append(guest_draft(guest, cmid="a"))).kind, "dup")

    async def test_clash(self) -> None:
        """The same cmid with another text or kind is refused, and changes nothing."""
        guest = await self.customer()
        await self.journal.append(guest_draft(guest, cmid="a"))
        for other in (guest_draft(guest, '"other"', "a"), guest_draft(guest, cmid="a", file_type=1)):
            self.assertEqual((await self.journal.append(other)).kind, "clash")
        self.assertEqual(self.bodies(guest), ['"hello"'])

    async def test_cmid_belongs_to_the_sender(self) -> None:
        """Two people, or one in two conversations, may use the same cmid."""
        admin = await self.on_duty()
        guest, other = await self.customer("serving"), await self.customer("serving")
        drafts = [
            guest_draft(guest, cmid="a"),
            draft(admin, guest.person.id, cmid="a"),
            draft(admin, other.person.id, cmid="a"),
        ]
        self.assertEqual([o.kind for o in await self.together(*drafts)], ["stored"] * 3)

    async def test_missing(self) -> None:
        """Nobody writes to a guest of another group, to one who does not exist, or as one who is banned."""
        admin, guest = await self.on_duty(), await self.customer("serving")
        stranger = await self.server.guest(new_group(self.dsn, "another"))
        for gid in (stranger.person.id, 10**12):
            self.assertEqual((await self.journal.append(draft(admin, gid))).kind, "missing")
        self.query("UPDATE guest SET status = 'banned' WHERE id = %s", guest.person.id)
        for each in (draft(admin, guest.person.id), guest_draft(guest)):
            self.assertEqual((await self.journal.append(each)).kind, "missing")
        self.assertEqual(self.bodies(guest), [])

    async def test_other(self) -> None:
        """Who serves, or whether a service starts, is not for the journal to decide: it stores nothing then."""
        admin, colleague = self.admin(), self.admin("Bob")
        new, queued = await self.guest(), await self.customer()
        await self.server.admin_in(admin)
        served, ended = await self.customer("serving"), await self.customer("serving")
        away = await self.customer("serving")
        await self.server.assignment.end_by_guest(ended)
        self.query("UPDATE conversation SET away = true WHERE id = %s", away.conversation_id)
        self.query(
            "UPDATE conversation SET state = 'queued', admin_id = NULL, queue_rank = 1, queued_at = 1 WHERE id = %s",
            queued.conversation_id,
        )
        for each in (
            guest_draft(new),
            draft(admin, new.person.id),
            draft(admin, queued.person.id),
            draft(colleague, served.person.id),
            guest_draft(ended),
            draft(admin, ended.person.id),
            guest_draft(away),
            draft(admin, away.person.id),
        ):
            outcome = await self.journal.append(each)
            self.journal.release(each.thread)
            self.assertEqual(outcome.kind, "other", each)
        self.assertEqual(self.query("SELECT * FROM message"), [])

    async def test_asked(self) -> None:
        """What only asks learns whether its cmid is known, whatever became of guest and service; nothing is stored."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        await self.journal.append(guest_draft(guest, cmid="a"))
        before = self.query("SELECT * FROM conversation")

        async def asked(who: Principal, cmid: str, gid: int = guest.person.id) -> str:
            return (await self.journal.append(question(who, gid, cmid))).kind

        self.assertEqual([await asked(guest, cmid) for cmid in ("a", "b")], ["clash", "new"])
        self.assertEqual(await asked(ann, "a"), "new")
        self.assertEqual(await asked(ann, "a", 10**12), "new")
        self.assertEqual((self.query("SELECT * FROM conversation"), self.bodies(guest)), (before, ['"hello"']))
        await self.server.assignment.end_by_guest(guest)
        before = self.query("SELECT * FROM conversation")
        self.assertEqual([await asked(guest, cmid) for cmid in ("a", "b")], ["clash", "new"])
        self.query("UPDATE guest SET status = 'banned'")
        self.assertEqual([await asked(guest, cmid) for cmid in ("a", "b")], ["clash", "new"])
        self.assertEqual((self.query("SELECT * FROM conversation"), self.bodies(guest)), (before, ['"hello"']))

    async def test_asked_without_a_service(self) -> None:
        """A question holds no conversation: what is written next is decided at once."""
        guest = await self.guest()
        self.assertEqual((await self.journal.append(question(guest, guest.person.id, "a"))).kind, "new")
        sent, _ = await self.server.say(guest, cmid="a")
        self.assertEqual((sent.dup, sent.message.seq), (False, 1))

    def test_made_cmids(self) -> None:
        """A message without a cmid gets one that no client can choose and nobody is shown."""
        made = stored_cmid(None)
        self.assertNotEqual(made, stored_cmid(None))
        self.assertIsNone(shown_cmid(made))
        self.assertEqual(shown_cmid(stored_cmid("s1")), "s1")
        self.assertEqual(shown_cmid(stored_cmid("客")), "客")


class BatchTests(JournalTestCase):
    async def test_one_statement(self) -> None:
        """However many messages arrive at once, they share a commit: their time is the same."""
        guests = [await self.customer() for _ in range(3)]
        outcomes = await self.together(*(guest_draft(guests[n % 3], f'"{n}"') for n in range(30)))
        self.assertEqual(len({o.created_at for o in outcomes}), 1)
        for which, guest in enumerate(guests):
            self.assertEqual(self.bodies(guest), [f'"{n}"' for n in range(which, 30, 3)])

    async def test_small_batches(self) -> None:
        """Where more wait than a batch takes, the order stays."""
        server = await self.serve(name="small", batch_size=4)
        guest = await self.customer()
        outcomes = await gatherResults([server.journal.append(guest_draft(guest, f'"{n}"')) for n in range(15)])
        self.assertEqual([o.seq for o in outcomes], list(range(1, 16)))
        self.assertEqual(self.bodies(guest), [f'"{n}"' for n in range(15)])

    async def test_large_messages(self) -> None:
        """Many large messages at once are stored 256 KiB at a time, the last of them may go beyond; none is lost."""
        guest = await self.customer()
        large = json.dumps("x" * (BATCH_TEXT // 4 - 2))
        stored = 0
        for bodies, commits in (
            ([large] * 4 + ['""'], [0, 0, 0, 0, 1]),
            (['""'] + [large] * 4 + ['""'], [0, 0, 0, 0, 0, 1]),
            ([json.dumps("x" * 2 * BATCH_TEXT), '""'], [0, 1]),
        ):
            await self.together(*(guest_draft(guest, body) for body in bodies))
            rows = self.query(
                "SELECT body, dense_rank() OVER (ORDER BY xmin::text::bigint) - 1 FROM message"
                " WHERE conversation_id = %s ORDER BY seq OFFSET %s",
                guest.conversation_id,
                stored,
            )
            stored += len(rows)
            self.assertEqual([body for body, _ in rows], bodies)
            self.assertEqual([commit - rows[0][1] for _, commit in rows], commits)

    async def test_same_cmid_in_one_batch(self) -> None:
        """A client that sends a message twice in one go gets one message, and the answer "dup" for the second."""
        guest = await self.customer()
        outcomes = await self.together(
            guest_draft(guest, cmid="a"),
            guest_draft(guest, cmid="a"),
            guest_draft(guest, '"other"', cmid="a"),
            guest_draft(guest, '"next"', cmid="b"),
        )
        self.assertEqual([(o.kind, o.seq) for o in outcomes], [("stored", 1), ("dup", 1), ("clash", 1), ("stored", 2)])
        self.assertEqual(self.bodies(guest), ['"hello"', '"next"'])

    async def test_asked_in_one_batch(self) -> None:
        """A question stands behind the message of the same cmid that was sent just before, and ahead of a later one."""
        guest = await self.customer()
        gid = guest.person.id
        outcomes = await self.together(
            guest_draft(guest, cmid="a"),
            question(guest, gid, "a"),
            question(guest, gid, "b"),
            guest_draft(guest, '"next"', cmid="b"),
            question(guest, gid, "b"),
        )
        self.assertEqual([o.kind for o in outcomes], ["stored", "clash", "new", "stored", "clash"])
        self.assertEqual([outcomes[0].seq, outcomes[3].seq], [1, 2])
        self.assertEqual(self.bodies(guest), ['"hello"', '"next"'])

    async def test_asked_behind_a_held_conversation(self) -> None:
        """A question behind a message that has to be decided waits for it, and then knows it."""
        guest = await self.guest()
        first = guest_draft(guest, cmid="a")
        deciding = self.journal.append(first)
        asked = self.journal.append(question(guest, guest.person.id, "a"))
        self.assertEqual((await deciding).kind, "other")
        late = [self.journal.append(question(guest, guest.person.id, cmid)) for cmid in ("a", "b")]
        await self.journal.append(guest_draft(await self.customer()))
        for each in (asked, *late):
            self.assertNoResult(each)
        await self.server.assignment.write_as_guest(guest, first)
        self.journal.release(first.thread)
        self.assertEqual([(await each).kind for each in (asked, *late)], ["clash", "clash", "new"])
        self.assertEqual(self.bodies(guest), ['"hello"'])

    async def test_asked_behind_what_was_not_decided(self) -> None:
        """Where the message ahead was refused, its cmid is new."""
        guest = await self.guest()
        first = guest_draft(guest, cmid="a")
        deciding = self.journal.append(first)
        asked = self.journal.append(question(guest, guest.person.id, "a"))
        await deciding
        self.journal.release(first.thread)
        self.assertEqual((await asked).kind, "new")

    async def test_behind_a_held_conversation(self) -> None:
        """What is written behind a message that has to be decided waits for it; others do not."""
        guest, other = await self.guest(), await self.customer()
        first = self.journal.append(guest_draft(guest, '"1"'))
        later = [self.journal.append(guest_draft(guest, f'"{n}"')) for n in (2, 3)]
        self.assertEqual((await first).kind, "other")
        self.assertEqual((await self.journal.append(guest_draft(other))).kind, "stored")
        later.append(self.journal.append(guest_draft(guest, '"4"')))
        await self.journal.append(guest_draft(other))
        for each in later:
            self.assertNoResult(each)
        await self.server.assignment.write_as_guest(guest, guest_draft(guest, '"1"'))
        self.journal.release(guest_draft(guest).thread)
        self.assertEqual([(o.kind, o.seq) for o in await gatherResults(later)], [("stored", n) for n in (2, 3, 4)])
        self.assertEqual(self.bodies(guest), ['"1"', '"2"', '"3"', '"4"'])

    async def test_others_held_in_one_batch(self) -> None:
        """Of several messages of one batch that have to be decided, only the first is; the rest follow it."""
        guest = await self.guest()
        opener = self.journal.append(guest_draft(await self.customer()))
        first, second = (self.journal.append(guest_draft(guest, f'"{n}"')) for n in (1, 2))
        await opener
        self.assertEqual((await first).kind, "other")
        self.assertNoResult(second)
        self.journal.release(guest_draft(guest).thread)
        self.assertEqual((await second).kind, "other")
        self.journal.release(guest_draft(guest).thread)

    async def test_idle(self) -> None:
        """A daemon that stops waits until everything that was received is stored."""
        guest = await self.customer()
        appended = [self.journal.append(guest_draft(guest)) for _ in range(3)]
        await self.journal.idle()
        self.assertTrue(all(each.called for each in appended))
        await self.journal.idle()

    async def test_full(self) -> None:
        """A journal that can take no more says so at once, certainly without storing; then it takes again."""
        server = await self.serve(name="small", queue_size=2)
        guest = await self.customer()
        taken = [server.journal.append(guest_draft(guest)) for _ in range(2)]
        refused = server.journal.append(guest_draft(guest))
        self.assertIs(cast(Any, self.failureResultOf(refused, StorageError)).value.applied, False)
        await gatherResults(taken)
        self.assertEqual((await server.journal.append(guest_draft(guest))).seq, 3)


class PaceTests(TestCase):
    """Without a database: what the journal does first when an answer comes."""

    def setUp(self) -> None:
        self.asked: list[tuple[list[str], Deferred[Any]]] = []
        self.told: list[str] = []
        pool = cast(Pool, self)
        self.clock = Clock()
        self.journal = Journal(pool, pool, self.clock, timeout=5, batch_size=10, queue_size=100)

    def fetch(self, sql: str, params: Any) -> Awaitable[Any]:
        """In place of the pool."""
        answer: Deferred[Any] = Deferred()
        self.asked.append(([json.loads(row["b"]) for row in json.loads(params[1])], answer))
        return answer

    def put(self, gid: int, body: str) -> None:
        def told(draft: object, outcome: object) -> None:
            batches = len(self.asked)
            self.told.append(f"{body} {cast(Outcome, outcome).kind}, {batches} batches")

        self.journal.put(Draft(1, gid, Person(Role.GUEST, gid, "", ""), 0, f'"{body}"', None), told)

    def answer(self, *kinds: str) -> None:
        """Of the batch that was asked for last."""
        self.asked[-1][1].callback([(kind, 1, 1, 0, 1, "serving", 1, 0, 0, place) for place, kind in enumerate(kinds)])

    def batches(self) -> list[list[str]]:
        return [bodies for bodies, _ in self.asked]

    def test_next_batch_first(self) -> None:
        """The database has the next batch before the senders of the last one are told: both work at the same time."""
        self.put(1, "first")
        self.put(2, "second")
        self.put(3, "third")
        self.answer(STORED)
        self.assertEqual(self.told, ["first stored, 2 batches"])
        self.answer(STORED, STORED)
        self.assertEqual(self.told[1:], ["second stored, 2 batches", "third stored, 2 batches"])
        self.put(4, "fourth")
        self.assertEqual(self.batches(), [["first"], ["second", "third"], ["fourth"]])

    def test_not_what_has_to_wait(self) -> None:
        """What follows a message that the database did not take is not in the next batch."""
        for conversation, body in ((1, "open"), (1, "a"), (2, "b"), (2, "after b"), (1, "after a")):
            self.put(conversation, body)
        self.answer(STORED)
        self.assertEqual(self.batches()[1], ["a", "b", "after b", "after a"])
        self.put(1, "late a")
        self.put(2, "late b")
        self.put(3, "c")
        self.answer(STORED, OTHER, OTHER, STORED)
        self.assertEqual(self.batches()[2:], [["late a", "c"]])
        self.assertEqual(self.told[1:], [f"{told}, 3 batches" for told in ("a stored", "b other", "after a stored")])
        self.answer(STORED, STORED)
        self.journal.release((1, 2))
        self.assertEqual(self.batches()[3:], [["after b", "late b"]])

    def test_half(self) -> None:
        """Of what many send without a pause one half is stored while the other is told: no batch stays alone."""
        self.journal = Journal(cast(Pool, self), cast(Pool, self), Clock(), timeout=5, batch_size=500, queue_size=500)
        for conversation in range(100):
            self.put(conversation, str(conversation))
        for _ in range(5):
            # Whoever is told sends again.
            told = len(self.told)
            self.answer(*[STORED] * len(self.batches()[-1]))
            for body in self.told[told:]:
                self.put(int(body.split()[0]), body.split()[0])
        self.assertEqual([len(batch) for batch in self.batches()], [1, 50, 50, 50, 50, 50])

    def test_half_of_a_few_more(self) -> None:
        """One message more than what stays together is two batches, of one size."""
        self.journal = Journal(cast(Pool, self), cast(Pool, self), Clock(), timeout=5, batch_size=500, queue_size=500)
        for conversation in range(1 + WHOLE):
            self.put(conversation, str(conversation))
        self.answer(STORED)
        self.answer(*[STORED] * len(self.batches()[-1]))
        self.assertEqual([len(batch) for batch in self.batches()], [1, 17, 15])

    def test_few_stay_together(self) -> None:
        """Few messages are not worth two batches."""
        self.journal = Journal(cast(Pool, self), cast(Pool, self), Clock(), timeout=5, batch_size=500, queue_size=500)
        for conversation in range(WHOLE):
            self.put(conversation, str(conversation))
        self.answer(STORED)
        self.assertEqual([len(batch) for batch in self.batches()], [1, WHOLE - 1])

    def large_batch(self) -> list[str]:
        """One message, and then more than are told at once: the first is told, and the next batch is being told.

        :returns: their bodies.
        """
        pool = cast(Pool, self)
        self.journal = Journal(pool, pool, self.clock, timeout=5, batch_size=500, queue_size=900)
        bodies = [str(number) for number in range(1 + 3 * AT_ONCE)]
        for body in bodies:
            self.put(int(body), body)
        self.answer(STORED)
        self.assertGreater(len(self.batches()[1]), AT_ONCE)
        self.answer(*[STORED] * len(self.batches()[1]))
        return bodies

    def told_bodies(self) -> list[str]:
        return [told.split()[0] for told in self.told]

    def test_told_in_turns(self) -> None:
        """Of a large batch some are told, then others have a turn; what is stored meanwhile is told behind it."""
        bodies = self.large_batch()
        self.assertEqual(self.told_bodies(), bodies[: 1 + AT_ONCE])
        self.answer(*[STORED] * len(self.batches()[2]))
        self.assertEqual(len(self.told), 1 + AT_ONCE)
        idle = self.journal.idle()
        self.assertNoResult(idle)
        self.clock.pump([0] * 3)
        self.assertEqual(self.told_bodies(), bodies)
        self.successResultOf(idle)

    def send(self, sender: Person, gid: int, body: str) -> None:
        self.journal.put(Draft(1, gid, sender, 0, f'"{body}"', None), lambda draft, outcome: self.told.append(body))

    def test_together(self) -> None:
        """What one sender has in a row in a conversation is told together, and nothing else with it."""

        pool = cast(Pool, self)

        class Entered:
            def __enter__(inner) -> None:
                self.told.append("[")

            def __exit__(inner, *error: object) -> None:
                self.told.append("]")

        self.journal = Journal(
            pool, pool, self.clock, timeout=5, batch_size=10, queue_size=100, together=cast(Any, Entered())
        )
        ann, gus, phone = (Person(role, 1, "", "") for role in (Role.ADMIN, Role.GUEST, Role.GUEST))
        self.send(gus, 1, "first")
        for sender, gid, body in (
            (gus, 1, "a"),
            (gus, 1, "b"),
            (phone, 1, "by the other connection"),
            (ann, 1, "c"),
            (ann, 2, "to somebody else"),
            (ann, 2, "d"),
            (gus, 1, "e"),
        ):
            self.send(sender, gid, body)
        self.answer(STORED)
        self.answer(*[STORED] * 7)
        told = ["[ first ]", "[ a b ]", "[ by the other connection ]", "[ c ]", "[ to somebody else d ]", "[ e ]"]
        self.assertEqual(" ".join(self.told), " ".join(told))

    def test_together_in_one_turn(self) -> None:
        """Nor is it told in two turns, where it is more than the rest of one."""
        pool = cast(Pool, self)
        self.journal = Journal(pool, pool, self.clock, timeout=5, batch_size=500, queue_size=900)
        first, others, last = (Person(Role.GUEST, gid, "", "") for gid in (1, 2, 3))
        self.send(first, 1, "first")
        for sender, gid, count in ((others, 2, AT_ONCE - 1), (last, 3, 5), (first, 1, 200)):
            for number in range(count):
                self.send(sender, gid, f"{gid}.{number}")
        self.answer(STORED)
        self.answer(*[STORED] * len(self.batches()[1]))
        self.assertEqual(self.told[-1], "3.4")
        self.assertEqual(len(self.told), 1 + AT_ONCE - 1 + 5)
        self.clock.pump([0])
        self.assertEqual(len(self.told), 1 + len(self.batches()[1]))

    def test_together_fails(self) -> None:
        """Who cannot tell others what was stored keeps nobody waiting."""

        class Broken:
            def __enter__(self) -> None: ...

            def __exit__(self, *error: object) -> None:
                raise ZeroDivisionError

        pool = cast(Pool, self)
        self.journal = Journal(
            pool, pool, self.clock, timeout=5, batch_size=10, queue_size=100, together=cast(Any, Broken())
        )
        self.put(1, "first")
        self.put(2, "second")
        self.answer(STORED)
        self.put(3, "third")
        self.answer(STORED)
        self.answer(STORED)
        self.assertEqual(self.told_bodies(), ["first", "second", "third"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
        self.successResultOf(self.journal.idle())

    def test_failed_while_told(self) -> None:
        """A batch that fails while the one before is still told goes again, behind it and before what came since."""
        bodies = self.large_batch()
        self.asked[-1][1].errback(StorageError("try again", sqlstate="40001", applied=False))
        self.put(1, "late")
        self.clock.pump([0] * 3)
        self.assertEqual(self.told_bodies(), bodies[: 1 + len(self.batches()[1])])
        self.clock.advance(RETRY_AFTER)
        while len(self.told) < len(bodies) + 1:
            self.answer(*[STORED] * len(self.batches()[-1]))
            self.clock.pump([0] * 3)
        self.assertEqual(self.told_bodies(), [*bodies, "late"])

    def test_put_while_told(self) -> None:
        """Who answers at once to what is told is in the batch after."""
        put = self.put
        self.journal.put(
            Draft(1, 1, Person(Role.GUEST, 1, "", ""), 0, '"question"', None), lambda draft, outcome: put(1, "answer")
        )
        self.answer(STORED)
        self.assertEqual(self.batches(), [["question"], ["answer"]])

    def test_who_cannot_be_told(self) -> None:
        """One who cannot be told keeps nobody else waiting: not the rest of the batch, nor the next, nor the end."""

        def broken(draft: object, outcome: object) -> None:
            raise ZeroDivisionError

        self.put(1, "first")
        self.journal.put(Draft(1, 2, Person(Role.GUEST, 2, "", ""), 0, '"broken"', None), broken)
        self.put(3, "second")
        self.answer(STORED)
        self.put(4, "third")
        self.answer(STORED, STORED)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.answer(STORED)
        self.assertEqual(self.told_bodies(), ["first", "second", "third"])
        self.successResultOf(self.journal.idle())


class LockedTests(JournalTestCase):
    async def test_others_go_on(self) -> None:
        """A conversation whose row somebody has locked stops no other; its own messages follow in order."""
        guest, others = await self.customer(), [await self.customer() for _ in range(5)]
        stranger = self.locked(guest)
        waiting = [self.journal.append(guest_draft(guest, f'"{n}"')) for n in range(3)]
        for n in range(4):
            outcomes = await gatherResults([self.journal.append(guest_draft(other)) for other in others])
            self.assertEqual([(o.kind, o.seq) for o in outcomes], [("stored", n + 1)] * 5)
        waiting.append(self.journal.append(guest_draft(guest, '"3"')))
        self.assertFalse(any(each.called for each in waiting))
        stranger.leave()
        self.assertEqual([o.seq for o in await gatherResults(waiting)], [1, 2, 3, 4])
        self.assertEqual(self.bodies(guest), [f'"{n}"' for n in range(4)])

    async def test_longer_than_the_limit(self) -> None:
        """A message whose row stays locked is given up in time, certainly not stored; a repeat succeeds afterwards."""
        server = await self.serve(name="hasty", timeout=0.5)
        guest, other = await self.customer(), await self.customer()
        stranger = self.locked(guest)
        waiting = [server.journal.append(guest_draft(guest, f'"{n}"', cmid=f"{n}")) for n in range(3)]
        results: Deferred[Any] = DeferredList(waiting, consumeErrors=True)
        rounds = 0
        while not results.called:
            self.assertEqual((await server.journal.append(guest_draft(other))).kind, "stored")
            rounds += 1
        self.assertGreater(rounds, 3)
        for success, failure in await results:
            self.assertFalse(success)
            self.assertIs(failure.value.applied, False)
        stranger.leave()
        for n in range(3):
            outcome = await server.journal.append(guest_draft(guest, f'"{n}"', cmid=f"{n}"))
            self.assertEqual((outcome.kind, outcome.seq), ("stored", n + 1))

    async def test_decided_after_the_lock(self) -> None:
        """A message that waited for its row and finds no service open is decided like any other, in its turn."""
        guest = await self.guest()
        stranger = self.locked(guest)
        waiting = [self.server.say(guest, f"{n}") for n in range(3)]
        await eventually(self.waiting_for_lock)
        stranger.leave()
        self.assertEqual([sent.message.seq for sent, _ in await gatherResults(waiting)], [1, 2, 3])
        self.assertEqual(self.bodies(guest), ['"0"', '"1"', '"2"'])

    async def test_asked_while_locked(self) -> None:
        """A question is answered although the row is locked, but not before the message ahead of it is stored."""
        guest = await self.customer()
        gid = guest.person.id
        stranger = self.locked(guest)
        self.assertEqual((await self.journal.append(question(guest, gid, "a"))).kind, "new")
        waiting = self.journal.append(guest_draft(guest, cmid="a"))
        asked = self.journal.append(question(guest, gid, "a"))
        await eventually(self.waiting_for_lock)
        self.assertNoResult(asked)
        stranger.leave()
        self.assertEqual([(await each).kind for each in (waiting, asked)], ["stored", "clash"])

    async def test_repeat_while_locked(self) -> None:
        """A repeat of what is stored is answered even while the row is locked."""
        guest = await self.customer()
        await self.journal.append(guest_draft(guest, cmid="a"))
        self.locked(guest)
        self.assertEqual((await self.journal.append(guest_draft(guest, cmid="a"))).kind, "dup")


class RefusedTests(JournalTestCase):
    async def test_halved(self) -> None:
        """A message that the database cannot take is refused alone; its neighbours are stored, in order."""
        self.query("ALTER TABLE message ADD CHECK (body <> '\"poison\"')")
        guest = await self.customer()
        bodies = [f'"{n}"' for n in range(11)]
        bodies[4], bodies[9] = '"poison"', '"\0"'
        opener = self.journal.append(guest_draft(await self.customer()))
        appended = [self.journal.append(guest_draft(guest, body)) for body in bodies]
        results: Any = await DeferredList(appended, consumeErrors=True)
        await opener
        refused = {place: failure.value for place, (success, failure) in enumerate(results) if not success}
        self.assertEqual({place: error.sqlstate[:2] for place, error in refused.items()}, {4: "23", 9: "22"})
        self.assertEqual({error.applied for error in refused.values()}, {False})
        self.assertEqual(self.bodies(guest), [body for n, body in enumerate(bodies) if n not in (4, 9)])

    async def test_tried_again(self) -> None:
        """What PostgreSQL refuses for the moment (a serialisation failure, no memory) is tried again unseen."""
        self.query("CREATE SEQUENCE tries")
        self.query(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN CASE nextval('tries')"
            " WHEN 1 THEN RAISE SQLSTATE '40001'; WHEN 2 THEN RAISE SQLSTATE '53200';"
            " WHEN 3 THEN RAISE SQLSTATE '55P03';"
            " WHEN 4 THEN RAISE SQLSTATE '57014'; ELSE RETURN NEW; END CASE; END $$"
        )
        self.query("CREATE TRIGGER refuse BEFORE INSERT ON message FOR EACH ROW EXECUTE FUNCTION refuse()")
        guest = await self.customer()
        outcome = await self.journal.append(guest_draft(guest))
        self.assertEqual((outcome.kind, outcome.seq), ("stored", 1))
        self.assertEqual(self.query("SELECT last_value FROM tries"), [(5,)])

    async def test_broken(self) -> None:
        """An error that no repeat can heal is told at once, certainly without storing."""
        guest = await self.customer()
        self.query("ALTER FUNCTION append_messages RENAME TO gone")
        with self.assertRaises(StorageError) as caught:
            await self.journal.append(guest_draft(guest))
        self.assertEqual((caught.exception.sqlstate, caught.exception.applied), ("42883", False))
        self.query("ALTER FUNCTION gone RENAME TO append_messages")
        self.assertEqual((await self.journal.append(guest_draft(guest))).kind, "stored")

    async def test_too_late(self) -> None:
        """A message that waited longer than its time limit is not stored any more."""
        clock = Clock()
        server = await self.serve(name="timed", journal_clock=clock)
        guest = await self.guest()
        first = server.journal.append(guest_draft(guest))
        late = server.journal.append(guest_draft(guest, '"late"'))
        self.assertEqual((await first).kind, "other")
        clock.advance(5)
        server.journal.release(guest_draft(guest).thread)
        with self.assertRaises(StorageError) as caught:
            await late
        self.assertIs(caught.exception.applied, False)
        self.assertEqual(self.bodies(guest), [])

    async def test_no_database(self) -> None:
        """While there is no database messages wait, and are given up in time: certainly not stored."""
        clock = Clock()
        server = await self.serve(name="timed", journal_clock=clock)
        guest = await self.customer()
        await server.batches.close()
        waiting = server.journal.append(guest_draft(guest))
        for _ in range(49):
            clock.advance(0.1)
        self.assertFalse(waiting.called)
        clock.advance(0.2)
        self.assertIs(cast(Any, self.failureResultOf(waiting, StorageError)).value.applied, False)


class LostAnswerTests(JournalTestCase):
    """Between the journal and PostgreSQL stands a relay that can swallow an answer and cut the line."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.relay = Relay(self.dsn)
        self.addCleanup(self.relay.close)

    async def test_repeated(self) -> None:
        """A batch whose answer was lost is repeated: nothing stands twice, and all are told of it as usual."""
        server = await self.serve(name="relayed", journal_dsn=self.relay.listen())
        guest = await self.customer()
        await server.journal.append(guest_draft(guest, '"0"'))
        self.relay.swallow(b"append_messages")
        lost = server.journal.append(guest_draft(guest, '"1"'))
        more = server.journal.append(guest_draft(guest, '"2"', cmid="a"))
        outcomes = await gatherResults([lost, more])
        self.assertEqual(self.relay.swallowed, 1)
        self.assertEqual([(o.kind, o.seq) for o in outcomes], [("stored", 2), ("stored", 3)])
        self.assertEqual(self.bodies(guest), ['"0"', '"1"', '"2"'])

    async def test_unknown(self) -> None:
        """Where every answer is lost until the time is over, the outcome is said to be unknown."""
        server = await self.serve(name="relayed", journal_dsn=self.relay.listen(), timeout=0.5)
        guest = await self.customer()
        self.relay.swallow(b"append_messages", for_ever=True)
        with self.assertRaises(StorageError) as caught:
            await server.journal.append(guest_draft(guest, cmid="a"))
        self.assertIsNone(caught.exception.applied)
        self.assertEqual(self.bodies(guest), ['"hello"'])


class OutageTests(OwnClusterTestCase):
    async def test_restart(self) -> None:
        """Messages written while PostgreSQL restarts are stored once each, in order."""
        group = new_group(self.dsn)
        server = await served(self, self.dsn)
        guest = await server.guest(group)
        await server.assignment.start(guest)
        appended = [server.journal.append(guest_draft(guest, f'"{n}"')) for n in range(50)]
        self.cluster.restart()
        appended += [server.journal.append(guest_draft(guest, f'"{n}"')) for n in range(50, 100)]
        outcomes = await gatherResults(appended)
        self.assertEqual([o.seq for o in outcomes], list(range(1, 101)))
        rows = await server.pool.fetch("SELECT body FROM message ORDER BY seq")
        self.assertEqual(rows, [(f'"{n}"',) for n in range(100)])


class PlanTests(JournalTestCase):
    """A plan that PostgreSQL made on an almost empty table and keeps must be as good on a full one."""

    async def write(self, server: Server, name: str) -> None:
        """Store, repeat and mark read, more often than PostgreSQL makes a plan anew each time."""
        for n in range(8):
            drafts = [guest_draft(guest, cmid=f"{name}{n}") for guest in self.guests]
            drafts += [draft(self.ann, guest.person.id, cmid=f"{name}{n}") for guest in self.guests]
            outcomes = await gatherResults([server.journal.append(each) for each in drafts + drafts])
            self.assertEqual({outcome.kind for outcome in outcomes}, {"stored", "dup"})
            for guest in self.guests:
                for who in (guest, self.ann):
                    await server.marks.mark(self.group, guest.person.id, who.person.role, who.person.id, None)

    async def alone(self, *servers: Server) -> None:
        """Close their connections; what they did is in the statistics then."""
        for server in servers:
            await server.close()
        await eventually(
            lambda: self.query("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()") == [(1,)]
        )

    async def test_index_scans(self) -> None:
        """Appending and marking read never scan a table, whether it was empty or full when the plan was made."""
        self.ann = await self.on_duty(capacity=1000)
        self.guests = [await self.customer("serving") for _ in range(5)]
        await self.alone(self.server)
        self.query("VACUUM ANALYZE")
        self.query("SELECT pg_stat_reset()")
        early = await self.serve(name="early")
        await self.write(early, "empty")
        self.query(
            "INSERT INTO message SELECT c, n, 1, 1, 1, 0, 'c' || n, '\"\"'"
            " FROM generate_series(100001, 100100) c, generate_series(1, 1000) n"
        )
        self.query("INSERT INTO guest (id, external_id) SELECT n, n::text FROM generate_series(100001, 120000) n")
        self.query(
            "INSERT INTO conversation (group_id, guest_id) SELECT %s, n FROM generate_series(100001, 120000) n",
            self.group,
        )
        await self.write(early, "full")
        self.query("ANALYZE")
        late = await self.serve(name="late")
        for server in (early, late):
            await self.write(server, server.name)
        await self.alone(early, late)
        scans = self.query(
            "SELECT relname, seq_scan, idx_scan > 0, n_tup_ins FROM pg_stat_user_tables"
            " WHERE relname IN ('conversation', 'message') ORDER BY relname"
        )
        stored = 4 * 8 * 2 * len(self.guests)
        self.assertEqual(scans, [("conversation", 0, True, 20_000), ("message", 0, True, 100_000 + stored)])

    async def test_known_by_cmid(self) -> None:
        """Looking for a repeat never reads the conversation, however small the table was when the plan was made."""
        self.guests = [await self.customer("queued") for _ in range(10)]
        await self.alone(self.server)
        for burst in (1, 30, 50):
            self.query("TRUNCATE message")
            self.query("VACUUM ANALYZE")
            self.query("SELECT pg_stat_reset()")
            server = await self.serve(name=f"burst{burst}")
            for n in range(8):
                drafts = [guest_draft(self.guests[i % 10], cmid=f"{burst:03}-{n:03}-{i:012}") for i in range(burst)]
                await gatherResults([server.journal.append(each) for each in drafts])
            await self.alone(server)
            scans = self.query(
                "SELECT idx_scan, idx_tup_read FROM pg_stat_user_indexes WHERE relname = 'message' ORDER BY 1 DESC"
            )
            self.assertEqual(scans, [(8 * burst, 0), (0, 0)], f"bursts of {burst}")

    async def test_never_compiled(self) -> None:
        """A server that compiles what seems dear does not do so with the plans of messages, which only seem so."""
        [(settings,)] = self.query("SELECT proconfig FROM pg_proc WHERE proname = 'append_messages'")
        self.assertIn("jit=off", settings)
