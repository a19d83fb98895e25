"""What there is: people, conversations, messages. Values only; times are Unix milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from msgspec import Struct


class Role(IntEnum):
    """Who somebody is; the number is the ``call_type`` of the login and the ``person_type`` of the database."""

    GUEST = 1
    ADMIN = 3

    word: str
    """As ``sender.type`` has it."""

    def __init__(self, number: int) -> None:
        self.word = self.name.lower()


# Looking a member up on its class costs as much as making a small object.
GUEST, ADMIN = Role

NEW, QUEUED, SERVING, ENDED = "new", "queued", "serving", "ended"

OFFLINE, ONLINE, SUSPENDED = 0, 1, 2
"""The ``status`` of an admin."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody as others see them: a guest by gid, an admin by admin_id.

    :ivar shown: as others are shown them, kept here by who makes it (:func:`chatproto.commands.render.sender`).
    """

    role: Role
    id: int
    name: str
    avatar: str
    shown: str | None = field(default=None, init=False, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a connection speaks for, and until when.

    :ivar conversation_id: of a guest; None for an admin.
    :ivar expires_at: Unix seconds of the token in force; None for anonymous guests.
    :ivar topic: where the news for this identity goes.
    """

    person: Person
    group_id: int
    conversation_id: int | None = None
    expires_at: int | None = None
    topic: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        person = self.person
        topic = admin_topic(person.id) if person.role is Role.ADMIN else guest_topic(self.group_id, person.id)
        object.__setattr__(self, "topic", topic)


TEXT = 0
"""The ``file_type`` of a text."""
EMPTY = '""'
"""The body of a message that has no text: nobody can send it."""


def admin_topic(admin_id: int) -> str:
    return f"admin:{admin_id}"


def guest_topic(group_id: int, gid: int) -> str:
    return f"guest:{group_id}:{gid}"


def group_topic(group_id: int) -> str:
    """News for every admin of a group."""
    return f"group:{group_id}"


class Message(Struct, frozen=True):
    """One message of a conversation; (group_id, gid, seq) names it.

    :ivar body: the JSON text of ``msg``, exactly as it came.
    :ivar recalls: the seq of the message that this one recalls; it says nothing itself.
    :ivar recalled: its sender took it back: the body is :data:`EMPTY`.
    """

    group_id: int
    gid: int
    seq: int
    sender: Person
    body: str
    file_type: int
    cmid: str | None
    created_at: int
    recalls: int | None = None
    recalled: bool = False


@dataclass(frozen=True, slots=True)
class Conversation:
    """The thread of one guest with one group, as a desk sees it: an entry of ``guest_list``.

    :ivar rev: rises by one with every message, change of state and read mark.
    :ivar step_rev: the rev of the last change of state or admin.
    :ivar profile: JSON text, as is *context*.
    :ivar last_admin_id: who served or wrote last.
    """

    id: int
    rev: int
    step_rev: int
    group_id: int
    guest: Person
    external_id: str | None
    online: bool
    state: str
    admin_id: int | None
    last_admin_id: int | None
    reason: str
    last_seq: int
    admin_read_seq: int
    guest_read_seq: int
    admin_unread: int
    guest_unread: int
    queued_at: int | None
    ended_at: int | None
    last_time: int
    profile: str
    context: str
    last_message: Message | None

    @property
    def gid(self) -> int:
        return self.guest.id

    @property
    def transferred(self) -> bool:
        """Whoever serves the guest got the guest by a transfer."""
        return self.state == SERVING and self.reason == "transferred"


class Known(Struct, frozen=True):
    """What a receiver of news knows of a conversation that it follows."""

    rev: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class Admin:
    """An entry of ``admin_list``; *person.id* is both ``aix`` and ``admin_id``."""

    person: Person
    group_id: int
    group_name: str
    status: int
    guest_count: int
    capacity: int


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a guest stands: *position* from 1, *waiting* counts all."""

    position: int
    waiting: int
    admins_online: int


class Standing(Struct, frozen=True):
    """What a guest is told of the own service: who serves, or the place in the queue."""

    state: str
    admin: Person | None
    queue: QueuePlace | None


@dataclass(frozen=True, slots=True)
class Handover:
    """The ``data`` of 32400, 32401 and 32402."""

    from_aix: int | None
    to_aix: int
    note: str | None
    at: int
