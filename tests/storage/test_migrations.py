"""Schema files: their order, who applies them, and which code may live with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

import chatproto
from chatproto.errors import StartError
from chatproto.storage.migrations import migrate, read
from chatproto.storage.pool import Pool
from tests.database import DatabaseTestCase, execute


def schema(case: TestCase, **files: str) -> Path:
    """A directory of schema files; names without ``.sql`` and, as keywords must, with a leading underscore."""
    directory = Path(case.mktemp())
    directory.mkdir()
    for name, sql in files.items():
        directory.joinpath(f"{name.removeprefix('_')}.sql").write_text(f"-- oldest code: 0.1.0\n{sql}")
    return directory


class FileTests(TestCase):
    def refused(self, directory: Path, words: str) -> None:
        with self.assertRaisesRegex(StartError, words):
            read(directory)

    def test_own(self) -> None:
        """The schema files that are shipped are in order and say which code can live with them."""
        directory = Path(chatproto.__file__).parent / "storage" / "schema"
        self.assertEqual([m.version for m in read(directory)], list(range(1, len(list(directory.glob("*.sql"))) + 1)))

    def test_gap(self) -> None:
        """A release that lacks a schema file refuses to start, and names the place."""
        self.refused(schema(self, _0001_a="", _0003_c=""), "0003 follows 0001")
        self.refused(schema(self, _0002_b=""), "0002 follows 0000")

    def test_twice(self) -> None:
        """So does one in which two files have one number."""
        self.refused(schema(self, _0001_a="", _0002_b="", _0002_c=""), "0002 is there twice")

    def test_oldest_code(self) -> None:
        """So does one with a file that does not say which code can live with it."""
        directory = schema(self)
        (directory / "0001_a.sql").write_text("SELECT 1")
        self.refused(directory, "0001_a.sql: the first line must be")


class MigrateTests(DatabaseTestCase):
    """The tests' database holds the shipped schema already; these start from an empty one."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        execute(self.dsn, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        self.pool = await self.started()

    async def started(self, **options: Any) -> Pool:
        pool = Pool(self.dsn, clock=reactor, size=1, **options)
        self.addCleanup(lambda: Deferred.fromCoroutine(pool.close()))
        await pool.start()
        return pool

    def versions(self) -> list[tuple[Any, ...]]:
        return execute(self.dsn, "SELECT version, name, oldest_code FROM schema_version ORDER BY version")

    async def test_shipped(self) -> None:
        """A fresh database gets the shipped schema; a second start changes nothing."""
        version = await migrate(self.pool)
        self.assertGreaterEqual(version, 1)
        self.assertEqual(len(self.versions()), version)
        self.assertEqual(await migrate(self.pool), version)

    async def test_step_by_step(self) -> None:
        """An upgrade applies only what is new, as it stands in the file, ``%`` and several statements included."""
        files = {"_0001_a": "CREATE TABLE t (n text); INSERT INTO t VALUES ('a%s')"}
        self.assertEqual(await migrate(self.pool, schema(self, **files)), 1)
        files["_0002_b"] = "INSERT INTO t VALUES ('b')"
        self.assertEqual(await migrate(self.pool, schema(self, **files)), 2)
        self.assertEqual(self.versions(), [(1, "a", "0.1.0"), (2, "b", "0.1.0")])
        self.assertEqual(execute(self.dsn, "SELECT n FROM t"), [("a%s",), ("b",)])

    async def test_failing(self) -> None:
        """A file that fails is named in one line, and nothing of the upgrade stays."""
        directory = schema(self, _0001_a="CREATE TABLE t (n integer)", _0002_b="SELECT 1/0")
        with self.assertRaisesRegex(StartError, r"\Aschema file 0002_b.sql failed: division by zero \(22012\)\Z"):
            await migrate(self.pool, directory)
        self.assertEqual(execute(self.dsn, "SELECT to_regclass('t'), to_regclass('schema_version')"), [(None, None)])

    async def test_two_at_once(self) -> None:
        """Of several processes that start at once, one applies the schema and the others wait for it."""
        pools = [self.pool, await self.started(), await self.started()]
        directory = schema(self, _0001_a="CREATE TABLE t (n integer); SELECT pg_sleep(0.2)")
        versions = await gatherResults([Deferred.fromCoroutine(migrate(pool, directory)) for pool in pools])
        self.assertEqual(versions, [1, 1, 1])
        self.assertEqual(self.versions(), [(1, "a", "0.1.0")])

    async def test_slow(self) -> None:
        """A file may take longer than a request may, and so may the wait for another process that applies it."""
        pools = [await self.started(timeout=0.2), await self.started(timeout=0.2)]
        directory = schema(self, _0001_a="CREATE TABLE t (n integer); SELECT pg_sleep(0.6)")
        self.assertEqual(
            await gatherResults([Deferred.fromCoroutine(migrate(pool, directory)) for pool in pools]), [1, 1]
        )

    async def test_newer_schema(self) -> None:
        """Older code lives with a newer schema if that allows it, else it says in one line what is needed."""
        directory = schema(self, _0001_a="SELECT 1", _0002_b="SELECT 2")
        await migrate(self.pool, directory)
        (directory / "0002_b.sql").unlink()
        self.assertEqual(await migrate(self.pool, directory), 2)
        execute(self.dsn, "UPDATE schema_version SET oldest_code = '0.10.0' WHERE version = 2")
        with (
            patch.object(chatproto, "__version__", "0.9.1"),
            self.assertRaisesRegex(
                StartError, r"\Athe database's schema 2 needs chatproto 0.10.0 or newer, this is 0.9.1\Z"
            ),
        ):
            await migrate(self.pool, directory)
        with patch.object(chatproto, "__version__", "0.10.0rc1"):
            self.assertEqual(await migrate(self.pool, directory), 2)
