"""The journal's statement against a plain INSERT of as many rows: the CPU of the backend alone.

The journal itself runs, with a link that carries out its statements at once: what is measured is what it really sends.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import psycopg2

from bench.errors import BenchError
from bench.people import TEXT, People
from bench.usage import exact_cpu
from bench.yardsticks.pgbench import INSERT, TABLE
from chatproto.domain.model import Person, Role
from chatproto.storage.journal import Draft, Journal, Outcome
from chatproto.storage.pool import Pool

_TURN = 20
"""Batches of one kind before those of the other."""


class _Monotonic:
    """The journal reads the time; as the database answers at once, it waits for nothing."""

    def seconds(self) -> float:
        return time.monotonic()

    def callLater(self, delay: float, callable: Any, *arguments: Any) -> Any:
        raise BenchError("the database refused a batch")


class _DirectLink:
    """Stands for the journal's pool: a blocking connection, and a source that fills the next batch meanwhile."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self.journal: Journal
        self.drafts: list[list[Draft]] = []
        self.stored = 0

    async def fetch(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if self.drafts:
            for draft in self.drafts.pop():
                self.journal.append(draft).addCallback(self._count)
        self._cursor.execute(sql, params)
        return cast("list[tuple[Any, ...]]", self._cursor.fetchall())

    def _count(self, outcome: Outcome) -> None:
        self.stored += outcome.kind == "stored"


def _drafts(people: People, size: int, first: int) -> list[Draft]:
    """A batch with one message for each of *size* conversations."""
    drafts = []
    for gid in range(1, size + 1):
        group_id = people.group_of(people.admin_of(gid))
        sender = Person(Role.GUEST, gid, f"Guest {gid}", "")
        drafts.append(Draft(group_id, gid, sender, 0, f'"{TEXT}"', f"{gid}-{first}-1731400000000000000"))
    return drafts


def _rows(size: int, first: int) -> list[tuple[Any, ...]]:
    return [(i, i, 1731400000000, 1, 0, f"c{i}-{first}-1731400000000000000", f'"{TEXT}"') for i in range(1, size + 1)]


def measure(dsn: str, people: People, size: int, seconds: float) -> dict[str, float]:
    """Both kinds of batches in turns for some seconds, each a commit.

    :param dsn: a migrated database with the rows of *people*.
    :returns: CPU microseconds of the backend per row: ``function``, ``plain``, and their ratio.
    """
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("DROP TABLE IF EXISTS plain; " + TABLE)
        link = _DirectLink(cursor)
        pool = cast(Pool, link)
        journal = link.journal = Journal(
            pool, pool, cast(Any, _Monotonic()), timeout=60, batch_size=size, queue_size=4 * size
        )
        backend = connection.get_backend_pid()
        template = "(" + ", ".join(["%s"] * 7) + ")"
        insert = INSERT + ", ".join([template] * size)
        spent = {"function": 0.0, "plain": 0.0}
        rows = {"function": 0, "plain": 0}
        number = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end or not rows["function"]:
            warm = number == 0
            link.drafts = [_drafts(people, size, number + i) for i in range(_TURN)]
            plain = [sum(_rows(size, number + i), ()) for i in range(_TURN)]
            number += _TURN
            # Alone in its batch, it starts the others.
            [first] = _drafts(people, 1, -number)
            stored = link.stored
            before = exact_cpu(backend)
            journal.append(first).addCallback(link._count)
            between = exact_cpu(backend)
            for values in plain:
                cursor.execute(insert, values)
            after = exact_cpu(backend)
            if link.stored - stored != _TURN * size + 1:
                raise BenchError(f"the journal stored {link.stored - stored} of {_TURN * size + 1} messages")
            if not warm:
                spent["function"] += between - before
                spent["plain"] += after - between
                rows["function"] += _TURN * size + 1
                rows["plain"] += _TURN * size
    finally:
        connection.close()
    per_row = {name: spent[name] / rows[name] * 1e6 for name in spent}
    return {**per_row, "ratio": per_row["function"] / per_row["plain"]}
