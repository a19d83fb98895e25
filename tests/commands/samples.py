"""What the tests of this room are made of: people, messages and conversations, and frames read back."""

from __future__ import annotations

from typing import Any

import orjson

from chatproto.bus.notice import Audience, Notice
from chatproto.domain.model import SERVING, Admin, Conversation, Message, Person, Role

GROUP, GID, TALK = 3, 12, 50

ANN = Person(Role.ADMIN, 7, "Ann", "https://shop/ann.png")
BOB = Person(Role.ADMIN, 8, "Bob", "")
GUS = Person(Role.GUEST, GID, "Gus", "https://shop/gus.png")

ENTRY_FIELDS = {
    "gid", "external_id", "group_id", "name", "avatar", "online", "state", "admin_id", "unread", "last_seq", "read_seq",
    "guest_read_seq", "last_message", "last_time", "queued_at", "profile", "context",
}  # fmt: skip
ADMIN_FIELDS = {
    "aix", "admin_id", "name", "avatar", "group_id", "group_name", "status", "guest_count", "capacity",
}  # fmt: skip
MESSAGE_FIELDS = {"gid", "group_id", "seq", "sender", "msg", "file_type", "cmid", "created_at"}


def message(seq: int = 5, sender: Person = GUS, body: str = '"hello"', **fields: Any) -> Message:
    usual: dict[str, Any] = {
        "group_id": GROUP,
        "gid": GID,
        "seq": seq,
        "sender": sender,
        "body": body,
        "file_type": 0,
        "cmid": None,
        "created_at": 1_700_000_000_000 + seq,
    }
    return Message(**(usual | fields))


def conversation(**fields: Any) -> Conversation:
    """A guest whom Ann serves; no two numbers are the same."""
    usual: dict[str, Any] = {
        "id": TALK,
        "rev": 40,
        "step_rev": 39,
        "group_id": GROUP,
        "guest": GUS,
        "external_id": "customer-1",
        "online": True,
        "state": SERVING,
        "admin_id": ANN.id,
        "last_admin_id": ANN.id,
        "reason": "assigned",
        "last_seq": 25,
        "admin_read_seq": 21,
        "guest_read_seq": 22,
        "admin_unread": 2,
        "guest_unread": 1,
        "queued_at": None,
        "ended_at": None,
        "last_time": 1_700_000_000_025,
        "profile": '{"vip":true}',
        "context": '{"page_url":"https://shop/1"}',
        "last_message": message(25),
    }
    return Conversation(**(usual | fields))


def desk(person: Person = ANN, **fields: Any) -> Admin:
    usual: dict[str, Any] = {
        "person": person,
        "group_id": GROUP,
        "group_name": "Shoes",
        "status": 1,
        "guest_count": 4,
        "capacity": 6,
    }
    return Admin(**(usual | fields))


def pushes(notice: Notice) -> list[tuple[int, Any, Audience]]:
    """(number, data, audience) of each frame, whose envelope is looked at."""
    found = []
    for frame, audience in notice.frames:
        envelope = orjson.loads(frame)
        assert envelope.keys() == {"api_key", "data", "code", "message", "status"}, envelope
        assert envelope["api_key"] == envelope["code"], envelope
        assert (envelope["message"], envelope["status"]) == ("", "Success"), envelope
        found.append((envelope["api_key"], envelope["data"], audience))
    return found


def read(data: Any) -> Any:
    """What a client reads of rendered data."""
    return orjson.loads(orjson.dumps(data))
