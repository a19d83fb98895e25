"""What happened, after it was committed. Services return events; :mod:`chatproto.commands.announce` tells them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Struct

from chatproto.domain.model import QUEUED, SERVING, Conversation, Handover, Message, Role, Standing


class MessageStored(Struct, frozen=True):
    """A message stands in its conversation.

    :ivar rev: of the conversation with this message, as the unread counts are.
    :ivar admin_id: who serves, or None.
    :ivar origin: ``ix`` of the connection that sent it.
    :ivar sender_topic: of who sent it.
    """

    conversation_id: int
    rev: int
    admin_id: int | None
    message: Message
    admin_unread: int
    guest_unread: int
    origin: str
    sender_topic: str


class MessageRecalled(Struct, frozen=True):
    """A message was taken back by *message*, which names it. The rest as in :class:`MessageStored`."""

    conversation_id: int
    rev: int
    admin_id: int | None
    message: Message
    admin_unread: int
    guest_unread: int
    origin: str


class Typed(Struct, frozen=True):
    """Somebody types, or has stopped: a hint, which may be lost.

    :ivar role: of who types.
    """

    conversation_id: int
    group_id: int
    gid: int
    role: Role
    typing: bool


class ReadMoved(Struct, frozen=True):
    """Somebody read up to a seq.

    :ivar admin_id: whose connections are told: who serves; after the end of a service, the admin who read.
    """

    conversation_id: int
    group_id: int
    gid: int
    rev: int
    admin_id: int | None
    admin_read_seq: int
    guest_read_seq: int
    admin_unread: int
    guest_unread: int


@dataclass(frozen=True, slots=True)
class ServiceChanged:
    """A conversation has another state or admin.

    :ivar entry: the conversation afterwards; its ``reason`` is that of the last step.
    :ivar standing: what the guest is told.
    :ivar was_admin_id: who served before.
    :ivar recs: the newest messages, where somebody new serves.
    :ivar handover: where somebody new serves.
    """

    entry: Conversation
    standing: Standing
    was_admin_id: int | None
    recs: Sequence[Message] = ()
    handover: Handover | None = None


@dataclass(frozen=True, slots=True)
class GuestNoted:
    """Something about the guest changed that is no step of the conversation: on line, off line, context.

    :ivar admin_id: who is told; None tells all admins of the group.
    """

    entry: Conversation
    admin_id: int | None


@dataclass(frozen=True, slots=True)
class GroupChanged:
    """What all admins of a group may see changed: it is read again and told at most once a second."""

    group_id: int
    admins: frozenset[int] = frozenset()
    conversations: frozenset[int] = frozenset()
    queue: bool = False


@dataclass(frozen=True, slots=True)
class Expelled:
    """Connections have to go, with a close code of docs/protocol.md.

    :ivar topic: whose: those of an identity, or of a whole group.
    :ivar but_not: ``ix`` of a connection that stays.
    """

    topic: str
    code: int
    reason: str
    but_not: str | None = None


Event = MessageStored | MessageRecalled | Typed | ReadMoved | ServiceChanged | GuestNoted | GroupChanged | Expelled


def noted(entry: Conversation) -> list[Event]:
    """Who is told that something about a guest changed, and how."""
    if entry.state == SERVING:
        return [GuestNoted(entry, entry.admin_id)]
    if entry.state == QUEUED:
        return [GroupChanged(entry.group_id, conversations=frozenset([entry.id]))]
    return []
