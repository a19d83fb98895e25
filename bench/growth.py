"""How cost grows: the same traffic with more and more of one thing, everything else as it was."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from bench import axes
from bench.people import TEXT, Connection, People, asking, commands_in_turn, pairs, tabs
from bench.plans import PAGE, Plan, of_conversation
from bench.postgres import execute
from bench.servers import CHATPROTO, LIFTED
from bench.stage import Found, Running, Stage, Step

TALKING = 100
"""Pairs that write to each other where it is not their number that grows."""
STEPS_A_SECOND = 50
"""Starts and ends of service, where the admins grow."""
DESK_GUESTS = 20
"""Whom the admin of the long conversation serves."""

_FILL = """
INSERT INTO message (conversation_id, seq, sender_id, created_at, sender_type, file_type, cmid, body)
    SELECT 1, i, 1, 1731400000000 + i, CASE i %% 2 WHEN 1 THEN 1 ELSE 3 END, 0, 's' || i, %s
    FROM generate_series(1, %s) i;
UPDATE conversation SET last_seq = n, rev = n, admin_unread = (n + 1) / 2, guest_unread = n / 2,
    last_message_at = now_ms() FROM (SELECT %s AS n) filled WHERE id = 1;
"""


@dataclass(frozen=True, slots=True)
class GrowthSizes:
    """The points on each axis."""

    pairs: Sequence[int] = (10, 30, 100, 300, 1000)
    length: Sequence[int] = (10, 1000, 10_000, 100_000, 1_000_000)
    connections: Sequence[int] = (1, 100, 1000, 10_000)
    groups: Sequence[int] = (1, 10, 100, 1000)
    admins: Sequence[int] = (1, 10, 50, 100, 200)


QUICK = GrowthSizes(
    pairs=(10, 100, 300), length=(10, 10_000), connections=(1, 1000), groups=(1, 100), admins=(1, 20, 100)
)


class Growth:
    """Everything is in a closed loop with window 1, so that the server is never idle and nothing waits for long."""

    def __init__(self, stage: Stage, sizes: GrowthSizes) -> None:
        self._stage = stage
        self._sizes = sizes

    def steps(self, only: Collection[str]) -> Iterator[Step]:
        """:param only: names of axes."""
        sizes = self._sizes
        for axis, counts, run in (
            (axes.PAIRS, sizes.pairs, self._pairs),
            (axes.LENGTH, sizes.length, self._length),
            (axes.CONNECTIONS, sizes.connections, self._connections),
            (axes.GROUPS, sizes.groups, self._groups),
            (axes.ADMINS, sizes.admins, self._admins),
        ):
            if axis.name in only:
                for count in counts:
                    yield Step(axis.key(count), partial(run, count))

    def _pairs(self, count: int) -> Found:
        people = People(count, count)
        with self._stage.server(CHATPROTO, people, LIFTED) as running:
            return running.exchange(pairs(people, running.logins), "closed", window=1)

    def _connections(self, count: int) -> Found:
        people = People(TALKING, TALKING + count)
        with self._stage.server(CHATPROTO, people, LIFTED) as running:
            return running.exchange(pairs(people, running.logins, TALKING), "closed", window=1)

    def _groups(self, count: int) -> Found:
        """The pairs are spread over the groups; in what is left of them one admin and one guest are here."""
        everybody = max(TALKING, count)
        people = People(everybody, everybody, per_group=max(1, TALKING // count))
        with self._stage.server(CHATPROTO, people, LIFTED) as running:
            return running.exchange(pairs(people, running.logins, TALKING), "closed", window=1)

    def _admins(self, count: int) -> Found:
        people = People(count, TALKING, per_group=count)
        with self._stage.server(CHATPROTO, people, LIFTED) as running:
            found = running.exchange(tabs(people, running.logins), "closed", window=1)
        with self._stage.server(CHATPROTO, people, LIFTED) as running:
            turns = ({"api_key": 22060}, {"api_key": 22000})
            plan = asking(people, running.logins, range(1, TALKING + 1), *turns)
            steps = running.ask(plan, "rate", rate=STEPS_A_SECOND)
        found.metrics["step_server"] = steps.metrics["cpu_server"]
        found.metrics["step_backends"] = steps.metrics["cpu_backends"]
        return Found(found.metrics, [*found.flaws, *steps.flaws])

    def _length(self, count: int) -> Found:
        """One guest and one admin: what they do in turn costs what a single one of it does."""
        people = People(1, DESK_GUESTS)
        with self._stage.server(CHATPROTO, people, LIFTED) as running:
            assert running.dsn is not None
            fill(running.dsn, count)
            plans = of_conversation(running.dsn, 1, 1, 1)
            metrics = {f"blocks_{name}": float(blocks(plans[name])) for name in axes.STATEMENTS}
            metrics["read_all_ms"] = sum(plan.milliseconds for plan in plans["read_all"])
            sent = running.exchange(pairs(people, running.logins, 1), "closed", window=1, **self._short())
            wrong = list(sent.flaws)
            costs = {"send": sent.metrics}
            for name, connections in self._operations(running, people, count):
                asked = running.ask(connections, "closed", window=1, **self._short())
                costs[name] = asked.metrics
                wrong += asked.flaws
        for name, cost in costs.items():
            metrics[f"us_{name}"] = (cost["cpu_server"] + cost["cpu_backends"]) * 1000
            metrics[f"rate_{name}"] = cost["rate"]
        return Found(metrics, wrong)

    def _short(self) -> dict[str, float]:
        return {"warm": self._stage.warm / 4, "measure": self._stage.measure / 2}

    def _operations(self, running: Running, people: People, count: int) -> Iterable[tuple[str, Iterable[Connection]]]:
        logins = running.logins
        page = {"api_key": 22100, "page_size": PAGE}
        yield "newest", asking(people, logins, [1], page)
        yield "middle", asking(people, logins, [1], {**page, "before_seq": count // 2 + 1})
        yield "list", [Connection("ask", 0, logins.admin(1), commands_in_turn({"api_key": 32000}))]
        # The admin writes, and the guest has not read it before: half of the answers are those of marks that moved.
        send = commands_in_turn({"api_key": 32300, "gid": 1, "msg": "Hello"})
        yield (
            "read",
            [
                Connection("ask", 0, logins.admin(1), send),
                Connection("ask", 0, people.guest(logins, 1), commands_in_turn({"api_key": 22200})),
            ],
        )


def fill(dsn: str, count: int) -> None:
    """Write messages of both sides into the first conversation; nobody has read any.

    :param dsn: a database with people.
    """
    execute(dsn, _FILL, f'"{TEXT}"', count, count)
    execute(dsn, "VACUUM ANALYZE")
    # What was written before is not to be flushed while something is measured.
    execute(dsn, "CHECKPOINT")


def blocks(plans: Iterable[Plan]) -> int:
    return sum(plan.blocks for plan in plans)
