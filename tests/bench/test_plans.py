"""What is done with a conversation costs the same however long it is: the plans, and the blocks that they touch."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import psycopg2
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from bench.growth import blocks, fill
from bench.people import People
from bench.plans import DESK, Explaining, Plan, done, of_conversation, parse
from chatproto.storage.history import desk_list, desk_page, last_transfers
from tests.database import DatabaseTestCase, execute

# A hundred admins in ten groups have served 400 guests each.
_ENDED = """
INSERT INTO guest (id, external_id) SELECT i, 'former-' || i FROM generate_series(1001, 41000) i;
INSERT INTO conversation (group_id, guest_id, state, last_admin_id, last_served_by, ended_at, last_message_at)
    SELECT a.group_id, i, 'ended', a.id, a.id, 1731400000000 + i, 1731400000000 + i
    FROM generate_series(1001, 41000) i JOIN admin a ON a.id = i % 100 + 1;
"""

LONG = 30_000
"""Messages: several hundred blocks of each index, and over a thousand of the table."""


class LongConversationTests(DatabaseTestCase):
    async def plans(self, length: int) -> dict[str, list[Plan]]:
        """Of the first of twenty guests of one admin, after *length* messages that nobody has read."""
        await deferToThread(People(1, 20).insert, self.dsn)
        await deferToThread(fill, self.dsn, length)
        found: dict[str, list[Plan]] = await deferToThread(of_conversation, self.dsn, 1, 1, 1)
        self.assertEqual(execute(self.dsn, "SELECT last_seq FROM conversation WHERE id = 1"), [(length + 2,)])
        return found

    async def test_blocks(self) -> None:
        """A message, a page wherever it lies, the list and a read mark touch a few blocks of a long conversation."""
        found = {name: blocks(plans) for name, plans in (await self.plans(LONG)).items()}
        most = {"send": 60, "entry": 30, "newest": 12, "middle": 12, "list": 150, "read": 60, "read_all": 60}
        self.assertEqual({name: found[name] for name in most if found[name] > most[name]}, {})

    async def test_no_scans(self) -> None:
        """Messages are reached by their index alone, and a page is not sorted out of the rest."""
        found = await self.plans(LONG)
        for name in ("entry", "newest", "middle", "list"):
            nodes = [node for plan in found[name] for node in plan.nodes]
            self.assertTrue(any(node == "Index Scan on message" for node in nodes), (name, nodes))
            self.assertFalse({"Seq Scan on message", "Bitmap Heap Scan on message"} & set(nodes), (name, nodes))


class ListTests(DatabaseTestCase):
    """The list of an admin who has served very many guests."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await deferToThread(People(100, 100).insert, self.dsn)
        execute(self.dsn, _ENDED)
        execute(self.dsn, "VACUUM ANALYZE")

    def explained(self, work: Callable[[Explaining], Coroutine[Any, Any, Any]]) -> tuple[int, Sequence[str]]:
        """Blocks and steps of the statement that chooses the conversations."""
        connection = psycopg2.connect(self.dsn)
        try:
            reader = Explaining(connection)
            found, more = done(work(reader))
            self.assertEqual((len(found), more), (DESK, True))
            return reader.plans[0].blocks, reader.plans[0].nodes
        finally:
            connection.close()

    async def test_list(self) -> None:
        """At a login the latest ended conversations are read, not all that there ever were."""
        blocks, nodes = await deferToThread(self.explained, lambda reader: desk_list(reader, 1, 1, limit=DESK))
        self.assertLess(blocks, 40, nodes)
        self.assertNotIn("Sort", nodes)

    async def test_page(self) -> None:
        """The first page of them neither."""
        blocks, nodes = await deferToThread(
            self.explained, lambda reader: desk_page(reader, 1, 1, "ended", 1, limit=DESK)
        )
        self.assertLess(blocks, 40, nodes)
        self.assertNotIn("Sort", nodes)

    async def test_handovers(self) -> None:
        """Of guests who were handed on very often the last transfer alone is read."""
        execute(
            self.dsn,
            "INSERT INTO transfer (conversation_id, from_admin_id, to_admin_id, note, at)"
            " SELECT i % 20 + 1, 1, 2, 'likes tea', i FROM generate_series(1, 20000) i",
        )
        execute(self.dsn, "VACUUM ANALYZE transfer")
        connection = psycopg2.connect(self.dsn)
        self.addCleanup(connection.close)
        reader = Explaining(connection)
        found = await deferToThread(lambda: done(last_transfers(reader, list(range(1, 21)))))
        self.assertEqual(len(found), 20)
        [plan] = reader.plans
        self.assertLess(plan.blocks, 100, plan.nodes)
        self.assertIn("Index Scan on transfer", plan.nodes)


class ParseTests(SynchronousTestCase):
    def test_counted(self) -> None:
        """Blocks that were read and that were in memory count, and every step of the plan is named."""
        scan = {"Node Type": "Seq Scan", "Relation Name": "message"}
        top = {"Node Type": "Limit", "Shared Hit Blocks": 3, "Shared Read Blocks": 4, "Plans": [scan]}
        plan = parse({"Plan": top, "Execution Time": 1.5})
        self.assertEqual(plan, Plan(7, 1.5, ("Limit", "Seq Scan on message")))
