"""Taking a message back (docs/protocol.md, 22310 and 32310)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chatproto import errors
from chatproto.domain.events import Event, GroupChanged, MessageRecalled
from chatproto.domain.model import EMPTY, QUEUED, SERVING, TEXT, Message, Principal
from chatproto.storage import recall
from chatproto.storage.pool import Pool
from chatproto.storage.recall import AGAIN, LATE, MISSING


class Recall(NamedTuple):
    """The message that recalls another, and what is told of it: nothing where it was recalled before."""

    message: Message
    events: Sequence[Event]


class Recalls:
    """22310 and 32310.

    :param within: milliseconds after it was stored in which a message may be recalled; 0 is never.
    """

    def __init__(self, pool: Pool, within: int) -> None:
        self._pool = pool
        self._within = within

    async def by_guest(self, guest: Principal, seq: int, origin: str, now: int | None = None) -> Recall:
        """22310.

        :param origin: ``ix`` of the connection that asks.
        :param now: Unix milliseconds; None is the database's clock.
        :raises ChatError: GuestRecallNoSuchMessage, GuestRecallTooLate.
        """
        missing, late = errors.GuestRecallNoSuchMessage, errors.GuestRecallTooLate
        return await self._recall(guest, guest.person.id, seq, origin, now, missing, late)

    async def by_admin(self, admin: Principal, gid: int, seq: int, origin: str, now: int | None = None) -> Recall:
        """32310: of what this admin wrote, whoever serves the guest by now. Parameters as in :meth:`by_guest`.

        :raises ChatError: RecallNoSuchMessage, RecallTooLate.
        """
        missing, late = errors.RecallNoSuchMessage, errors.RecallTooLate
        return await self._recall(admin, gid, seq, origin, now, missing, late)

    async def _recall(
        self,
        who: Principal,
        gid: int,
        seq: int,
        origin: str,
        now: int | None,
        missing: type[errors.ChatError],
        late: type[errors.ChatError],
    ) -> Recall:
        found = await recall.recall(self._pool, who.group_id, gid, who.person, seq, self._within, now)
        if found.kind == MISSING:
            raise missing()
        if found.kind == LATE:
            raise late(within_ms=self._within)
        message = Message(who.group_id, gid, found.seq, who.person, EMPTY, TEXT, None, found.created_at, recalls=seq)
        if found.kind == AGAIN:
            return Recall(message, ())
        recalled = MessageRecalled(
            found.conversation_id,
            found.rev,
            found.admin_id if found.state == SERVING else None,
            message,
            found.admin_unread,
            found.guest_unread,
            origin,
        )
        events: list[Event] = [recalled]
        if found.state == QUEUED:
            # All admins of the group see the newest message of who waits.
            events.append(GroupChanged(who.group_id, conversations=frozenset([found.conversation_id])))
        return Recall(message, events)
