"""What a connection missed of a conversation, as the pushes that it would have got."""

from __future__ import annotations

from collections.abc import Iterator

from chatproto.bus.notice import ALL, PART2, Missed, Push
from chatproto.commands import render
from chatproto.commands.announce import handed
from chatproto.domain.model import Known, Principal, Role
from chatproto.services.catchup import CatchUp, Snapshot
from chatproto.wire import codes
from chatproto.wire.frame import push

MANY = 200
"""Where more messages are missing, the client is told to fetch them."""


class MissedNews:
    """Reads and renders what somebody did not get."""

    def __init__(self, catch_up: CatchUp) -> None:
        self._catch_up = catch_up

    async def __call__(self, who: Principal, conversation_id: int, known: Known | None) -> Missed:
        """What *who* missed; *known* None: the conversation came to an admin, and nothing of it is known."""
        after = known.last_seq if known is not None else None
        snapshot = await self._catch_up.snapshot(conversation_id, after, limit=MANY)
        if snapshot is None:
            return Missed((), None)
        entry = snapshot.entry
        now_known = Known(entry.rev, entry.last_seq)
        if who.person.role is Role.GUEST:
            if len(snapshot.messages) > MANY:
                return Missed((), now_known, too_many=True)
            return Missed(list(_for_guest(snapshot, known)), now_known)
        if entry.admin_id != who.person.id:
            return Missed(list(_for_who_lost(snapshot, who)), None, rev=entry.rev)
        if known is not None and len(snapshot.messages) > MANY:
            return Missed((), now_known, too_many=True)
        return Missed(list(_for_admin(snapshot, known)), now_known)


def _for_guest(snapshot: Snapshot, known: Known | None) -> Iterator[Push]:
    entry = snapshot.entry
    for message in snapshot.messages:
        info = render.message_info(message)
        if message.sender.role is Role.GUEST:
            yield push(codes.PUSH_GUEST_OWN_MESSAGE, {"message_info": info}), PART2
        else:
            data = {"message_info": info, "unread": entry.guest_unread}
            yield push(codes.PUSH_ADMIN_MESSAGE, data), PART2
    if known is None or entry.step_rev > known.rev:
        data = {**render.standing(snapshot.standing), "reason": entry.reason}
        yield push(codes.PUSH_GUEST_STATE, data), PART2
    if _somebody_read(snapshot, known):
        marks = {"admin_read_seq": entry.admin_read_seq, "read_seq": entry.guest_read_seq, "unread": entry.guest_unread}
        yield push(codes.PUSH_GUEST_READ, marks), PART2


def _for_admin(snapshot: Snapshot, known: Known | None) -> Iterator[Push]:
    entry, handover = snapshot.entry, snapshot.handover
    if (known is None or entry.step_rev > known.rev) and handover is not None:
        recent = snapshot.messages[-render.RECENT :]
        yield from handed(codes.PUSH_GUEST_ARRIVED, handover, entry, recent)
    if known is None:
        return
    for message in snapshot.messages:
        data = {"gid": entry.gid, "message_info": render.message_info(message)}
        if message.sender.role is Role.GUEST:
            # Where nothing is left to show, a client of the given document is not told: it finds an empty text later.
            audience = PART2 if message.recalled or message.recalls is not None else ALL
            yield push(codes.PUSH_GUEST_MESSAGE, {**data, "unread": entry.admin_unread}), audience
        else:
            yield push(codes.PUSH_OWN_MESSAGE, data), PART2
    if _somebody_read(snapshot, known):
        marks = {
            "gid": entry.gid,
            "group_id": entry.group_id,
            "guest_read_seq": entry.guest_read_seq,
            "read_seq": entry.admin_read_seq,
            "unread": entry.admin_unread,
        }
        yield push(codes.PUSH_READ, marks), PART2


def _somebody_read(snapshot: Snapshot, known: Known | None) -> bool:
    """Whether messages and one step leave something of the difference of the revs to explain."""
    if known is None:
        return True
    entry = snapshot.entry
    return entry.rev - known.rev > len(snapshot.messages) + (entry.step_rev > known.rev)


def _for_who_lost(snapshot: Snapshot, who: Principal) -> Iterator[Push]:
    entry, handover = snapshot.entry, snapshot.handover
    if handover is not None and handover.from_aix == who.person.id:
        recent = snapshot.messages[-render.RECENT :]
        yield from handed(codes.PUSH_TRANSFERRED, handover, entry, recent)
    yield push(codes.PUSH_GUEST_CHANGED, render.guest_entry(entry)), PART2
