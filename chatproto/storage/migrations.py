"""The schema's versions: plain numbered SQL files, applied in order.

A file is ``NNNN_name.sql``, numbered from 0001 without gaps; its first line is ``-- oldest code: X.Y.Z``, the oldest
code that can live with the schema once the file is applied. So nodes can be upgraded one by one: code that is older
than the schema starts if the schema allows it. Files that were shipped are never changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from twisted.logger import Logger

import chatproto
from chatproto.errors import StartError, StorageError
from chatproto.storage.pool import Pool, Transaction

_FILE = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql")
_OLDEST_CODE = re.compile(r"-- oldest code: ([0-9]+(?:\.[0-9]+)*)\s*")

# Class 1 of the advisory locks is the groups' (storage/assignment.py).
_LOCK = "SELECT pg_advisory_xact_lock(0, 1)"
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_version (
    version integer PRIMARY KEY,
    name text NOT NULL,
    oldest_code text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""

_log = Logger()


@dataclass(frozen=True, slots=True)
class Migration:
    """One schema file.

    :param oldest_code: as in ``chatproto.__version__``.
    """

    version: int
    name: str
    oldest_code: str
    sql: str


def read(directory: Traversable) -> list[Migration]:
    """The schema files of a directory, in order. Other files are ignored.

    :raises StartError: a number is missing or there twice, or a file does not say its oldest code.
    """
    found = []
    for file in directory.iterdir():
        named = _FILE.fullmatch(file.name)
        if named is None:
            continue
        sql = file.read_text(encoding="utf-8")
        oldest = _OLDEST_CODE.fullmatch(sql.partition("\n")[0])
        if oldest is None:
            raise StartError(f"schema file {file.name}: the first line must be '-- oldest code: X.Y.Z'")
        found.append(Migration(int(named[1]), named[2], oldest[1], sql))
    found.sort(key=lambda migration: migration.version)
    for expected, migration in enumerate(found, 1):
        if migration.version != expected:
            fault = "is there twice" if migration.version < expected else f"follows {expected - 1:04}"
            raise StartError(f"schema files must be numbered without gaps: {migration.version:04} {fault}")
    return found


async def migrate(pool: Pool, directory: Traversable | None = None) -> int:
    """Bring the database to the newest version that this code knows; all in one transaction, one process at a time.

    :param directory: where the schema files are; default is the package's own.
    :return: the version the database is at, which may be newer than this code.
    :raises StartError: one line saying why this code and this database do not go together, or which file failed.
    """
    migrations = read(directory or resources.files("chatproto.storage") / "schema")

    async def apply(transaction: Transaction) -> int:
        await transaction.lift_limits()
        await transaction.fetch(_LOCK)
        await transaction.fetch(_TABLE)
        present = await _present(transaction)
        for migration in migrations[present:]:
            try:
                await transaction.fetch(migration.sql)
            except StorageError as error:
                if error.sqlstate is None:
                    raise
                raise StartError(
                    f"schema file {migration.version:04}_{migration.name}.sql failed: {error} ({error.sqlstate})"
                ) from None
            await transaction.fetch(
                "INSERT INTO schema_version (version, name, oldest_code) VALUES (%s, %s, %s)",
                (migration.version, migration.name, migration.oldest_code),
            )
            _log.info("schema {version:04}_{name} applied", version=migration.version, name=migration.name)
        return max(present, len(migrations))

    return await pool.transaction(apply)


async def _present(transaction: Transaction) -> int:
    """The version the database is at, 0 for an empty one.

    :raises StartError: its schema does not allow code as old as this.
    """
    rows = await transaction.fetch("SELECT version, oldest_code FROM schema_version ORDER BY version DESC LIMIT 1")
    if not rows:
        return 0
    version, oldest_code = rows[0]
    if _numbers(chatproto.__version__) < _numbers(oldest_code):
        raise StartError(
            f"the database's schema {version} needs chatproto {oldest_code} or newer, this is {chatproto.__version__}"
        )
    return int(version)


def _numbers(version: str) -> tuple[int, ...]:
    """``1.10.2`` → (1, 10, 2); what follows the numbers (rc1, .dev3, +local) does not count."""
    numbers = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()
