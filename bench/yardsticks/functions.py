"""The journal's statement against a plain INSERT of as many rows: the CPU of the backend alone."""

from __future__ import annotations

import time
from typing import Any

import psycopg2

from bench.errors import BenchError
from bench.people import TEXT, People
from bench.usage import exact_cpu
from bench.yardsticks.pgbench import INSERT, TABLE
from chatproto.domain.model import Person, Role
from chatproto.storage.journal import APPEND, STORED, Draft, batch_of, stored_cmid

_TURN = 20
"""Batches of one kind before those of the other."""


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
        backend = connection.get_backend_pid()
        template = "(" + ", ".join(["%s"] * 7) + ")"
        insert = INSERT + ", ".join([template] * size)
        spent = {"function": 0.0, "plain": 0.0}
        rows = {"function": 0, "plain": 0}
        number = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end or not rows["function"]:
            warm = number == 0
            batches = [
                batch_of((draft, stored_cmid(draft.cmid)) for draft in _drafts(people, size, number + i))
                for i in range(_TURN)
            ]
            plain = [sum(_rows(size, number + i), ()) for i in range(_TURN)]
            number += _TURN
            stored = 0
            before = exact_cpu(backend)
            for threads, drafts in batches:
                cursor.execute(APPEND, (threads, drafts, False))
                stored += sum(row[0] == STORED for row in cursor.fetchall())
            between = exact_cpu(backend)
            for values in plain:
                cursor.execute(insert, values)
            after = exact_cpu(backend)
            if stored != _TURN * size:
                raise BenchError(f"{stored} of {_TURN * size} messages were stored")
            if not warm:
                spent["function"] += between - before
                spent["plain"] += after - between
                rows["function"] += _TURN * size
                rows["plain"] += _TURN * size
    finally:
        connection.close()
    per_row = {name: spent[name] / rows[name] * 1e6 for name in spent}
    return {**per_row, "ratio": per_row["function"] / per_row["plain"]}
