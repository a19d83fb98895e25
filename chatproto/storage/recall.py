"""Recalled messages: one call of ``recall_message`` (schema/0002) for each."""

from __future__ import annotations

from typing import NamedTuple

from chatproto.domain.model import Person
from chatproto.storage.history import Reader

RECALL = (
    "SELECT outcome, conversation_id, seq, created_at, rev, state, admin_id, admin_unread, guest_unread"
    " FROM recall_message(%s, %s, %s::smallint, %s, %s, %s, %s)"
)

STORED, AGAIN, MISSING, LATE = "stored", "again", "missing", "late"


class Recalled(NamedTuple):
    """What became of a recall.

    *kind* is stored, again (it was recalled before), missing (no such message of this sender) or late. *seq* and
    *created_at* are those of the message that recalls; the rest is the conversation as it is now.
    """

    kind: str
    conversation_id: int
    seq: int
    created_at: int
    rev: int
    state: str
    admin_id: int | None
    admin_unread: int
    guest_unread: int


async def recall(
    reader: Reader, group_id: int, gid: int, sender: Person, seq: int, within: int, now: int | None = None
) -> Recalled:
    """Take back what *sender* wrote under *seq* in the conversation of *gid*.

    :param within: milliseconds for which it may be; 0 is never.
    :param now: Unix milliseconds; None is the database's clock.
    """
    [row] = await reader.fetch(RECALL, (group_id, gid, int(sender.role), sender.id, seq, within, now))
    return Recalled._make(row)


async def was_recalled(reader: Reader, conversation_id: int, seq: int) -> bool:
    """Whether the message was recalled."""
    rows = await reader.fetch(
        "SELECT 1 FROM message WHERE conversation_id = %s AND seq = %s AND recalled_by IS NOT NULL",
        (conversation_id, seq),
    )
    return bool(rows)
