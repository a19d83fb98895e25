"""Recalled messages: their text is gone, the numbers and the unread counts stay right."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import gatherResults

from chatproto.domain.model import Principal, Role
from chatproto.storage import history
from chatproto.storage.recall import Recalled, recall, was_recalled
from tests.worlds import WorldTestCase, by_guest, run

WITHIN = 120_000


class RecallCase(WorldTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.ann = await self.on_duty()
        self.lee = await self.customer("serving")

    async def say(self, text: str, cmid: str | None = None) -> int:
        """The guest writes; the seq."""
        sent, _ = await self.server.say(self.lee, text, cmid)
        return int(sent.message.seq)

    async def answer(self, text: str, cmid: str | None = None) -> int:
        return int((await self.server.answer(self.ann, self.lee, text, cmid)).message.seq)

    async def recall(
        self,
        who: Principal,
        seq: int,
        within: int = WITHIN,
        now: int | None = None,
        pool: Any = None,
        gid: int | None = None,
    ) -> Recalled:
        gid = gid or self.lee.person.id
        return await recall(pool or self.server.pool, who.group_id, gid, who.person, seq, within, now)

    def rows(self) -> list[tuple[Any, ...]]:
        """(seq, body, recalls, recalled_by) of the conversation."""
        return self.query(
            "SELECT seq, body, recalls, recalled_by FROM message WHERE conversation_id = %s ORDER BY seq",
            self.lee.conversation_id,
        )

    def unread(self) -> tuple[int, int]:
        """What the admin, and what the guest, has not read; it is what can be counted."""
        counts = []
        for role, mark in ((Role.GUEST, "admin_read_seq"), (Role.ADMIN, "guest_read_seq")):
            [(count,)] = self.query(
                "SELECT count(*) FROM message m JOIN conversation c ON c.id = m.conversation_id WHERE c.id = %s"
                f" AND m.sender_type = %s AND m.seq > c.{mark} AND m.recalls IS NULL AND m.recalled_by IS NULL",
                *(self.lee.conversation_id, int(role)),
            )
            counts.append(count)
        kept = self.column(self.lee, "admin_unread"), self.column(self.lee, "guest_unread")
        self.assertEqual(kept, tuple(counts))
        return kept


class RecallTests(RecallCase):
    async def test_gone(self) -> None:
        """What was said stands nowhere in the table any more, whatever kind it was; the recall names it."""
        for file_type, body in ((0, '"secret"'), (1, '{"url":"https://secret/1.png"}'), (6, '"https://secret/2"')):
            sent, _ = await by_guest(self.server.messaging, self.lee, None, (file_type, body), "ix0")
            recalled = await self.recall(self.lee, sent.message.seq)
            self.assertEqual((recalled.kind, recalled.seq), ("stored", sent.message.seq + 1))
        self.assertEqual(
            self.rows(),
            [(seq, '""', seq - 1 if seq % 2 == 0 else None, seq + 1 if seq % 2 else None) for seq in range(1, 7)],
        )
        self.assertEqual(self.query("SELECT 1 FROM message m WHERE m::text LIKE '%secret%'"), [])
        self.assertEqual(self.query("SELECT DISTINCT file_type FROM message"), [(0,)])

    async def test_a_step(self) -> None:
        """A recall has the next seq and the next rev; it is no message that somebody wrote, so nothing else moves."""
        await self.say("one")
        seq = await self.answer("two")
        columns = (
            "last_message_at",
            "last_admin_id",
            "step_rev",
            "state",
            "admin_id",
            "admin_read_seq",
            "guest_read_seq",
        )
        before = [self.column(self.lee, column) for column in columns]
        rev = self.column(self.lee, "rev")
        recalled = await self.recall(self.ann, seq)
        self.assertEqual((recalled.kind, recalled.seq, recalled.rev), ("stored", seq + 1, rev + 1))
        self.assertEqual((recalled.state, recalled.admin_id), ("serving", self.ann.person.id))
        self.assertEqual((self.column(self.lee, "last_seq"), self.column(self.lee, "rev")), (seq + 1, rev + 1))
        self.assertEqual([self.column(self.lee, column) for column in columns], before)
        self.assertEqual(await self.say("three"), seq + 2)
        self.bodies(self.lee)

    async def test_read_back(self) -> None:
        """Both are read back as what they are; the newest message of a list is never the recall."""
        seq = await self.say("one", "c1")
        recalled = await self.recall(self.lee, seq)
        entry = await history.of_guest(self.server.pool, self.group, self.lee.person.id)
        assert entry is not None and entry.last_message is not None
        first, second = await history.messages(self.server.pool, entry, newest=True, limit=10)
        self.assertEqual((first.body, first.recalled, first.recalls, first.cmid), ('""', True, None, "c1"))
        self.assertEqual((second.body, second.recalled, second.recalls, second.cmid), ('""', False, 1, None))
        self.assertEqual((second.sender, second.created_at), (first.sender, recalled.created_at))
        self.assertEqual((entry.last_seq, entry.last_message, entry.last_time), (2, first, first.created_at))
        await self.say("two")
        entry = await history.of_guest(self.server.pool, self.group, self.lee.person.id)
        assert entry is not None and entry.last_message is not None
        self.assertEqual(entry.last_message.body, '"two"')

    async def test_again(self) -> None:
        """Who recalls twice is told the same and moves nothing, also when it would be too late by now."""
        seq = await self.say("one")
        first = await self.recall(self.lee, seq)
        rows = self.rows()
        for late in (None, first.created_at + 10 * WITHIN):
            again = await self.recall(self.lee, seq, now=late)
            self.assertEqual(again, first._replace(kind="again"))
        self.assertEqual((await self.recall(self.lee, seq, within=0)).kind, "again")
        self.assertEqual(self.rows(), rows)

    async def test_time(self) -> None:
        """To the millisecond: two minutes after it was stored it may be recalled, one millisecond later not."""
        seqs = [await self.say("one"), await self.say("two")]
        stored = dict(self.query("SELECT seq, created_at FROM message"))
        late = await self.recall(self.lee, seqs[0], now=stored[seqs[0]] + WITHIN + 1)
        self.assertEqual((late.kind, self.rows()[0]), ("late", (1, '"one"', None, None)))
        recalled = await self.recall(self.lee, seqs[1], now=stored[seqs[1]] + WITHIN)
        self.assertEqual((recalled.kind, recalled.created_at), ("stored", stored[seqs[1]] + WITHIN))

    async def test_never(self) -> None:
        """With 0 nothing is recalled, not even in the same millisecond."""
        seq = await self.say("one")
        [(at,)] = self.query("SELECT created_at FROM message")
        self.assertEqual((await self.recall(self.lee, seq, within=0, now=at)).kind, "late")

    async def test_not_ones_own(self) -> None:
        """Nobody recalls what somebody else wrote, what is not there, or a recall; what is there does not show."""
        bob, mia = await self.on_duty("Bob"), await self.customer("serving")
        by_guest, by_admin = await self.say("one"), await self.answer("two")
        for who, seq in (
            *((self.ann, by_guest), (bob, by_guest), (bob, by_admin), (self.lee, by_admin)),
            *((self.lee, 0), (self.lee, 3), (self.lee, 2**53 - 1), (mia, by_guest)),
        ):
            self.assertEqual((await self.recall(who, seq)).kind, "missing", (who, seq))
        self.assertEqual((await self.recall(self.lee, by_guest, gid=mia.person.id)).kind, "missing")
        self.assertEqual((await self.recall(self.ann, by_admin, gid=2**40)).kind, "missing")
        self.assertEqual([body for _, body, _, _ in self.rows()], ['"one"', '"two"'])
        recalled = await self.recall(self.ann, by_admin)
        self.assertEqual((await self.recall(self.ann, recalled.seq)).kind, "missing")

    async def test_was_recalled(self) -> None:
        """It is known of which message the text is gone."""
        seq = await self.say("one")
        where = self.lee.conversation_id
        assert where is not None
        self.assertFalse(await was_recalled(self.server.pool, where, seq))
        recalled = await self.recall(self.lee, seq)
        self.assertTrue(await was_recalled(self.server.pool, where, seq))
        self.assertFalse(await was_recalled(self.server.pool, where, recalled.seq))


class UnreadTests(RecallCase):
    async def test_unread_no_more(self) -> None:
        """What was not read yet is unread no more, and the recall never is; reading up to the end leaves 0."""
        seqs = [await self.say("one"), await self.say("two"), await self.answer("three")]
        self.assertEqual(self.unread(), (2, 1))
        recalled = await self.recall(self.lee, seqs[0])
        self.assertEqual((recalled.admin_unread, recalled.guest_unread), self.unread())
        self.assertEqual(self.unread(), (1, 1))
        recalled = await self.recall(self.ann, seqs[2])
        self.assertEqual((recalled.admin_unread, recalled.guest_unread), (1, 0))
        for who in (self.ann, self.lee):
            marked = await self.server.marks.mark(self.group, self.lee.person.id, who.person.role, who.person.id, None)
            self.assertEqual(marked.kind, "moved")
        self.assertEqual(self.unread(), (0, 0))

    async def test_read_before(self) -> None:
        """What was read already changes no count when it is recalled."""
        seq = await self.say("one")
        await self.server.marks.mark(self.group, self.lee.person.id, Role.ADMIN, self.ann.person.id, seq)
        await self.say("two")
        await self.recall(self.lee, seq)
        self.assertEqual(self.unread(), (1, 0))

    async def test_part_of_it(self) -> None:
        """A mark between the two counts what is left, wherever messages and recalls stand."""
        seqs = [await self.say(str(n)) for n in range(6)]
        for seq in seqs[::2]:
            await self.recall(self.lee, seq)
        for seq in range(1, 10):
            await self.server.marks.mark(self.group, self.lee.person.id, Role.ADMIN, self.ann.person.id, seq)
            self.unread()
        self.assertEqual(self.unread(), (0, 0))


class RaceTests(RecallCase):
    async def test_two_processes(self) -> None:
        """Recalled by two tabs on two nodes at once, a message is recalled once, and both are told the same."""
        other = await self.serve(name="other")
        seqs = [await self.say(f"text {n}") for n in range(10)]
        recalls = [run(self.recall(self.lee, seq, pool=server.pool)) for seq in seqs for server in (self.server, other)]
        found = await gatherResults(recalls)
        self.assertEqual(sorted(recalled.kind for recalled in found), ["again"] * 10 + ["stored"] * 10)
        for one, two in zip(found[::2], found[1::2], strict=True):
            self.assertEqual((one.seq, one.created_at), (two.seq, two.created_at))
        self.assertEqual(self.bodies(self.lee), ['""'] * 20)
        self.assertEqual(self.unread(), (0, 0))

    async def test_among_messages_and_marks(self) -> None:
        """While both sides write and read, recalls come between: no gap, every rev once, the counts exact."""
        other = await self.serve(name="other")
        seqs = [await self.say(f"text {n}") for n in range(10)]
        rev = self.column(self.lee, "rev")
        going_on: list[Any] = []
        for seq in seqs:
            going_on.append(run(self.recall(self.lee, seq, pool=other.pool)))
            going_on.append(self.server.say(self.lee, f"more {seq}"))
            going_on.append(other.answer(self.ann, self.lee, f"answer {seq}"))
            going_on.append(self.server.marks.mark(self.group, self.lee.person.id, Role.ADMIN, self.ann.person.id, seq))
        found = await gatherResults(going_on)
        revs = [recalled.rev for recalled in found[::4]]
        revs += [sent.events[0].rev for sent, _ in found[1::4]] + [sent.events[0].rev for sent in found[2::4]]
        revs += {marked.rev for marked in found[3::4] if marked.kind == "moved"}
        self.assertEqual(sorted(revs), list(range(rev + 1, self.column(self.lee, "rev") + 1)))
        self.assertEqual(len(self.bodies(self.lee)), 40)
        self.unread()
