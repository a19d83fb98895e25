"""What the product has to reach, as ratios within one run (docs/performance.md, *Targets*)."""

from __future__ import annotations

from collections.abc import Sequence

from bench.results import Key, Target, Term
from bench.scenarios import CLOSED, FAN_OUT_KEY, FUNCTION, IDLE, RATE, Sizes, pgbench_key
from bench.servers import CHATPROTO, ECHO, ONE_INSERT


def _closed(metric: str, window: int, system: str = CHATPROTO, pairs: int = 100) -> Term:
    return Term(metric, (Key(CLOSED, f"{pairs} pairs, window {window}", system),))


def _exchanges(sizes: Sizes) -> tuple[Key, ...]:
    """All that chatproto does with messages."""
    closed = [
        Key(CLOSED, f"{count} pairs, window {window}", CHATPROTO) for count in sizes.pairs for window in sizes.windows
    ]
    rates = [Key(RATE, f"{rate:,} a second", CHATPROTO) for rate in sizes.rates]
    return (*closed, *rates, FAN_OUT_KEY)


def targets(sizes: Sizes) -> Sequence[Target]:
    """:param sizes: of the run; name the clients of pgbench, of which the best counts."""
    single = Term("rate", tuple(pgbench_key(1, clients) for clients in sizes.clients))
    fifty = Term("rate", (pgbench_key(50, 1),))
    batch = Key(FUNCTION, "50 rows a batch", "PostgreSQL")
    return (
        Target("messages, window 1 ÷ the best pgbench, one row a commit", _closed("rate", 1), single, 0.5, 0.8),
        Target("messages, window 10 ÷ pgbench, 50 rows an INSERT", _closed("rate", 10), fifty, 0.25, 0.5),
        Target("messages ÷ Autobahn echo, window 1", _closed("rate", 1), _closed("rate", 1, ECHO), 0.5, 0.9),
        Target("messages ÷ Autobahn echo, window 10", _closed("rate", 10), _closed("rate", 10, ECHO), 0.7, 1.3),
        Target("backend CPU a row: batch function ÷ plain INSERT of 50", Term("ratio", (batch,)), None, 4, 2, low=True),
        Target(
            "messages, group commit ÷ one INSERT, window 1",
            _closed("rate", 1),
            _closed("rate", 1, ONE_INSERT),
            2,
            2.8,
        ),
        Target(
            "CPU a message, group commit ÷ one INSERT, window 1",
            _closed("cpu", 1),
            _closed("cpu", 1, ONE_INSERT),
            1 / 2.5,
            1 / 4,
            low=True,
        ),
        Target(
            "p99 to the receiver at 1,000 a second",
            Term("push_p99", (Key(RATE, "1,000 a second", CHATPROTO),)),
            None,
            10,
            1,
            low=True,
            unit=" ms",
        ),
        Target(
            "p99 to the receiver, 10 pairs, window 10",
            _closed("push_p99", 10, pairs=10),
            None,
            10,
            3,
            low=True,
            unit=" ms",
        ),
        Target(
            "memory of an idle connection, 10,000 of them",
            Term("kib", (Key(IDLE, "10,000 connections", CHATPROTO),)),
            None,
            10,
            4,
            low=True,
            unit=" KiB",
        ),
        Target("messages not delivered", Term("undelivered", _exchanges(sizes)), None, 0, 0, low=True),
        Target("acknowledged and not stored", Term("lost", _exchanges(sizes)), None, 0, 0, low=True),
    )
