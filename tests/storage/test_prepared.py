"""Statements that each link plans once."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor

from chatproto.errors import StorageError
from chatproto.storage.pool import Pool, Transaction
from chatproto.storage.prepared import Prepared
from tests.database import DatabaseTestCase

PLANNED = "SELECT count(*), sum(generic_plans + custom_plans)::bigint FROM pg_prepared_statements"


class PreparedTests(DatabaseTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.pool = Pool(self.dsn, clock=reactor, size=1)
        self.addCleanup(self.pool.close)
        await self.pool.start()

    async def test_values(self) -> None:
        """Values arrive by place or by name, a name may stand there twice, and a "%" of the statement is kept."""
        places = Prepared("SELECT %s::text || %s::text, '7 %% 4'")
        names = Prepared("SELECT %(b)s::text || %(a)s::text || %(b)s::text")
        nothing = Prepared("SELECT 'no value'")
        for _ in range(2):
            self.assertEqual(await self.pool.fetch(places, ("it's", "%s")), [("it's%s", "7 % 4")])
            self.assertEqual(await self.pool.fetch(names, {"a": "-", "b": "x"}), [("x-x",)])
            self.assertEqual(await self.pool.fetch(nothing), [("no value",)])

    async def test_once(self) -> None:
        """However often it runs, in transactions and outside, the statement is prepared once on a link."""
        double = Prepared("SELECT 2 * %s::integer")

        async def work(transaction: Transaction) -> Any:
            return await transaction.fetch(double, (4,))

        self.assertEqual(await self.pool.fetch(double, (3,)), [(6,)])
        self.assertEqual(await self.pool.transaction(work), [(8,)])
        self.assertEqual(await self.pool.fetch(double, (5,)), [(10,)])
        self.assertEqual(await self.pool.fetch(PLANNED), [(1, 3)])

    async def test_failed(self) -> None:
        """One that failed at its first try, for its values or in PostgreSQL, works at the next."""
        share = Prepared("SELECT 6 / %s::integer")
        for value in (0, "\0", 0):
            with self.assertRaises(StorageError):
                await self.pool.fetch(share, (value,))
        self.assertEqual(await self.pool.fetch(share, (3,)), [(2,)])
        with self.assertRaises(StorageError):
            await self.pool.fetch(share, (0,))
        self.assertEqual(await self.pool.fetch(share, (2,)), [(3,)])

    async def test_rolled_back(self) -> None:
        """It stays although the transaction of its first call was rolled back."""
        share = Prepared("SELECT 6 / %s::integer")

        async def work(transaction: Transaction) -> None:
            await transaction.fetch(share, (3,))
            raise LookupError

        with self.assertRaises(LookupError):
            await self.pool.transaction(work)
        self.assertEqual(await self.pool.fetch(share, (2,)), [(3,)])

    async def test_planned_anew(self) -> None:
        """A plan that was right for a handful of rows is not kept for the thousands that come."""
        await self.pool.fetch(
            "SET plan_cache_mode = force_generic_plan; CREATE TABLE crowd (n integer); CREATE INDEX ON crowd (n);"
            "INSERT INTO crowd VALUES (1); ANALYZE crowd"
        )
        count = Prepared("SELECT count(*) FROM crowd WHERE n = %s")
        await self.pool.fetch(count, (1,))
        explain = "EXPLAIN EXECUTE " + (await self.pool.fetch("SELECT name FROM pg_prepared_statements"))[0][0] + "(1)"
        self.assertIn("Seq Scan", str(await self.pool.fetch(explain)))
        await self.pool.fetch("INSERT INTO crowd SELECT generate_series(2, 20000)")

        async def work(transaction: Transaction) -> None:
            for _ in range(60):
                self.assertEqual(await transaction.fetch(count, (1,)), [(1,)])

        await self.pool.transaction(work)
        self.assertIn("Index Only Scan", str(await self.pool.fetch(explain)))
        self.assertEqual(await self.pool.fetch(PLANNED), [(1, 63)])

    async def test_new_link(self) -> None:
        """After the connection was lost it is prepared anew."""
        double = Prepared("SELECT 2 * %s::integer")
        self.assertEqual(await self.pool.fetch(double, (3,)), [(6,)])
        with self.assertRaises(StorageError):
            await self.pool.fetch("SELECT pg_terminate_backend(pg_backend_pid())")
        self.assertEqual(await self.pool.fetch(double, (5,)), [(10,)])

    async def test_schema_changes(self) -> None:
        """A node that stays while another one changes the schema goes on."""
        read = Prepared("SELECT name FROM shop WHERE id = %s")
        self.assertEqual(await self.pool.fetch(read, (1,)), [("default",)])
        await self.pool.fetch("ALTER TABLE shop ADD COLUMN colour text")
        self.assertEqual(await self.pool.fetch(read, (1,)), [("default",)])
