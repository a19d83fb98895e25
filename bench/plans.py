"""How many blocks the product's own statements touch, and by which plans: EXPLAIN (ANALYZE, BUFFERS) of each."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson
import psycopg2

from bench.errors import BenchError
from bench.people import TEXT
from chatproto.domain.model import Person, Role
from chatproto.storage import history
from chatproto.storage.journal import Draft, Journal
from chatproto.storage.marks import MARK
from chatproto.storage.pool import Pool
from chatproto.storage.prepared import Prepared

PAGE = 20
"""Messages in a page."""
DESK = 100
"""Entries in a list."""


@dataclass(frozen=True, slots=True)
class Plan:
    """:ivar blocks: of tables and indexes, also those that functions touch.
    :ivar milliseconds: how long it took.
    :ivar nodes: the steps of the plan, such as "Index Scan on message", without those inside functions.
    """

    blocks: int
    milliseconds: float
    nodes: Sequence[str]


def parse(explained: Mapping[str, Any]) -> Plan:
    """:param explained: what EXPLAIN says with FORMAT JSON."""
    top = explained["Plan"]
    blocks = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    return Plan(blocks, explained["Execution Time"], tuple(_nodes(top)))


def _nodes(node: Mapping[str, Any]) -> Iterator[str]:
    relation = node.get("Relation Name")
    yield f"{node['Node Type']} on {relation}" if relation else node["Node Type"]
    for below in node.get("Plans", ()):
        yield from _nodes(below)


class Explaining:
    """Stands for a pool: carries each statement out at once, after it has been explained and undone.

    :ivar plans: of all statements so far.
    """

    def __init__(self, connection: Any) -> None:
        connection.autocommit = True
        self._cursor = connection.cursor()
        self.plans: list[Plan] = []
        self._calls: dict[Prepared, str] = {}

    async def fetch(self, sql: str | Prepared, params: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        text = sql if isinstance(sql, str) else self._prepared(sql)
        self.plans.append(self.explain(text, params))
        self._cursor.execute(text, params or None)
        return cast("list[tuple[Any, ...]]", self._cursor.fetchall()) if self._cursor.description else []

    def _prepared(self, statement: Prepared) -> str:
        """How to run it by the plan that is made once, whatever the values are."""
        if statement not in self._calls:
            name = f"p{len(self._calls)}"
            self._cursor.execute("SET plan_cache_mode = force_generic_plan")
            self._cursor.execute(f"PREPARE {name} AS {statement.sql}")
            self._calls[statement] = f"EXECUTE {name}{statement.values}"
        return self._calls[statement]

    def explain(self, sql: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> Plan:
        """What a statement would do; nothing of it stays."""
        cursor = self._cursor
        # The first time a session plans, and reads the catalog; the second is what every later one costs.
        for _ in range(2):
            cursor.execute("BEGIN")
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params or None)
            [[found]] = cursor.fetchone()
            cursor.execute("ROLLBACK")
        return parse(found)

    # Of the journal's time: nothing has to wait, as all is done at once.

    def seconds(self) -> float:
        return time.monotonic()

    def callLater(self, delay: float, callable: Any, *arguments: Any) -> Any:
        raise BenchError("the database refused the message")


def done(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise BenchError("it waits")


def of_conversation(dsn: str, group_id: int, gid: int, admin_id: int) -> dict[str, list[Plan]]:
    """What is done with a conversation that this admin serves, each with the plans of its statements.

    Two messages are stored, one by each side, and nothing else changes.
    """
    connection = psycopg2.connect(dsn)
    try:
        reader = Explaining(connection)
        pool = cast(Pool, reader)
        journal = Journal(pool, pool, cast(Any, reader), timeout=60, batch_size=10, queue_size=10)
        found: dict[str, list[Plan]] = {}

        def told(name: str) -> None:
            found[name] = reader.plans
            reader.plans = []

        for role, person_id in ((Role.ADMIN, admin_id), (Role.GUEST, gid)):
            journal.append(Draft(group_id, gid, Person(role, person_id, "", ""), 0, f'"{TEXT}"', None))
            told("send")
        entry = done(history.of_guest(reader, group_id, gid))
        told("entry")
        done(history.messages(reader, entry, newest=True, limit=PAGE))
        told("newest")
        done(history.messages(reader, entry, before=entry.last_seq // 2 + 1, newest=True, limit=PAGE))
        told("middle")
        done(history.desk_list(reader, group_id, admin_id, limit=DESK))
        told("list")
        mark = {"o": 0, "g": group_id, "q": gid, "t": int(Role.GUEST), "s": gid}
        read, last = entry.guest_read_seq, entry.last_seq
        for name, seq in (("read", read + 1), ("read_most", last - 1), ("read_all", None)):
            rows = orjson.dumps([{**mark, "r": seq}]).decode()
            found[name] = [reader.explain(MARK, (rows,))]
        return found
    finally:
        connection.close()
