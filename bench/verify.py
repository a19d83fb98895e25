"""Compares what was sent and acknowledged with what stands in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from bench.people import TEXT
from bench.postgres import execute

# A conversation has the id of its guest, one more than the thread; its messages are numbered from 0 by the load
# generator and from 1 by the server, and come from one sender.
_STORED = """
SELECT c.id - 1, count(m.seq), coalesce(max(m.seq), b.base) - b.base, c.last_seq - b.base,
       count(*) FILTER (WHERE m.cmid NOT LIKE 'c' || (c.id - 1) || '-' || (m.seq - b.base - 1) || '-%%' OR m.body <> %s)
FROM conversation c
CROSS JOIN LATERAL (SELECT coalesce((%s::jsonb ->> (c.id - 1)::text)::bigint, 0) AS base) b
LEFT JOIN message m ON m.conversation_id = c.id AND m.seq > b.base GROUP BY c.id, b.base
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a conversation holds.

    :ivar messages: how many rows.
    :ivar highest: the highest ``seq`` among them.
    :ivar last_seq: what the conversation's row says.
    :ivar strange: rows that are not what was sent with their number.
    """

    messages: int
    highest: int
    last_seq: int
    strange: int


def lengths(dsn: str) -> dict[int, int]:
    """thread → the highest ``seq`` of its conversation, where there is one."""
    return dict(execute(dsn, "SELECT id - 1, last_seq FROM conversation WHERE last_seq > 0"))


def read(dsn: str, before: Mapping[int, int]) -> dict[int, Stored]:
    """thread → what its conversation holds behind what stood there before.

    :param before: as of :func:`lengths`.
    """
    return {row[0]: Stored(*row[1:]) for row in execute(dsn, _STORED, f'"{TEXT}"', json.dumps(before))}


@dataclass(frozen=True, slots=True)
class Verdict:
    """:ivar lost: acknowledged messages that are not stored.
    :ivar flaws: everything that is wrong, for people.
    """

    lost: int
    flaws: list[str]


def compare(counts: Mapping[int, tuple[int, int]], stored: Mapping[int, Stored]) -> Verdict:
    """:param counts: thread → messages sent and acknowledged, which were 0, 1, 2, … each time."""
    lost = gaps = strange = beyond = 0
    for thread, (sent, acknowledged) in counts.items():
        found = stored.get(thread, Stored(0, 0, 0, 0))
        lost += max(0, acknowledged - found.messages)
        gaps += found.highest != found.messages or found.last_seq != found.messages
        strange += found.strange
        beyond += max(0, found.messages - sent)
    told = (
        (lost, "acknowledged and not stored"),
        (gaps, "conversations with a gap in seq"),
        (strange, "stored that are not what was sent"),
        (beyond, "stored that were never sent"),
    )
    return Verdict(lost, [f"{count} {what}" for count, what in told if count])
