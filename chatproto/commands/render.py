"""The model as docs/protocol.md writes it: entries, messages, the data of replies and pushes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import orjson

from chatproto.domain.model import ENDED, Admin, Conversation, Handover, Message, Person, QueuePlace, Standing
from chatproto.wire.frame import json_text

Data = dict[str, Any]

RECENT = 20
"""Messages that ``recs`` holds for whoever gets a guest."""


def message_text(message: Message) -> str:
    """``message_info`` as JSON text: the body goes out exactly as it came in.

    A message is asked for several times in a row, for the reply and for the pushes: it is encoded once.
    """
    global _last
    if _last[0] is not message:
        cmid = "null" if message.cmid is None else json_text(message.cmid)
        more = ""
        if message.recalls is not None:
            more = f',"recalls":{message.recalls}'
        elif message.recalled:
            more = ',"recalled":true'
        text = (
            f'{{"gid":{message.gid},"group_id":{message.group_id},"seq":{message.seq},"sender":{sender(message.sender)},'
            f'"msg":{message.body},"file_type":{message.file_type},"cmid":{cmid},"created_at":{message.created_at}{more}}}'
        )
        _last = (message, text)
    return _last[1]


_last: tuple[Message | None, str] = (None, "null")


def message_info(message: Message) -> orjson.Fragment:
    """As :func:`message_text`, to be put into what is encoded."""
    return orjson.Fragment(message_text(message))


def sender(person: Person) -> str:
    """Who wrote a message, as JSON text; made once, as who writes does so again."""
    if person.shown is None:
        fields = {"type": person.role.word, "id": person.id, "name": person.name, "avatar": person.avatar}
        object.__setattr__(person, "shown", json_text(fields))
    assert person.shown is not None
    return person.shown


def recs(messages: Iterable[Message], v: int = 2) -> Data:
    """An object ``{seq: message_info}``.

    :param v: of the client: one that knows the given document alone is shown no recalls.
    """
    return {str(message.seq): message_info(message) for message in messages if v >= 2 or message.recalls is None}


def guest_entry(entry: Conversation) -> Data:
    """An entry of ``guest_list``, which is also ``guest_info`` and the data of 32099."""
    return {
        "gid": entry.gid,
        "external_id": entry.external_id,
        "group_id": entry.group_id,
        "name": entry.guest.name,
        "avatar": entry.guest.avatar,
        "online": entry.online,
        "state": entry.state,
        "admin_id": None if entry.state == ENDED else entry.admin_id,
        "unread": entry.admin_unread,
        "last_seq": entry.last_seq,
        "read_seq": entry.admin_read_seq,
        "guest_read_seq": entry.guest_read_seq,
        "last_message": message_info(entry.last_message) if entry.last_message else None,
        "last_time": entry.last_time,
        "queued_at": entry.queued_at,
        "profile": orjson.Fragment(entry.profile),
        "context": orjson.Fragment(entry.context),
    }


def guest_list(entries: Iterable[Conversation], handovers: Mapping[int, Handover] = MappingProxyType({})) -> Data:
    """Entries by gid.

    :param handovers: by conversation_id; clients of the given document are shown none.
    """
    found = {}
    for entry in entries:
        found[str(entry.gid)] = shown = guest_entry(entry)
        if entry.id in handovers:
            shown["handover"] = handover(handovers[entry.id])
    return found


def admin_entry(admin: Admin) -> Data:
    """An entry of ``admin_list``, which is also the data of 33099; ``aix`` equals ``admin_id``."""
    person = admin.person
    return {
        "aix": person.id,
        "admin_id": person.id,
        "name": person.name,
        "avatar": person.avatar,
        "group_id": admin.group_id,
        "group_name": admin.group_name,
        "status": admin.status,
        "guest_count": admin.guest_count,
        "capacity": admin.capacity,
    }


def admin_list(admins: Iterable[Admin]) -> Data:
    return {str(admin.person.id): admin_entry(admin) for admin in admins}


def admin(person: Person | None) -> Data | None:
    """An admin as guests see one."""
    return {"aix": person.id, "name": person.name, "avatar": person.avatar} if person else None


def queue(place: QueuePlace | None) -> Data | None:
    if place is None:
        return None
    return {"position": place.position, "waiting": place.waiting, "admins_online": place.admins_online}


def standing(standing: Standing) -> Data:
    """``state``, ``admin`` and ``queue`` of 21000, 22000 and 22099."""
    return {"state": standing.state, "admin": admin(standing.admin), "queue": queue(standing.queue)}


def handover(handover: Handover) -> Data:
    """How a guest came to an admin."""
    return {"from_aix": handover.from_aix, "to_aix": handover.to_aix, "note": handover.note, "at": handover.at}


def handed(came: Handover, entry: Conversation, messages: Iterable[Message], v: int = 2) -> Data:
    """What 32400, 32401, 32402 and 32020 carry; *v* as in :func:`recs`."""
    return {
        "gid": entry.gid,
        "data": handover(came),
        "guest_info": guest_entry(entry),
        "recs": recs(messages, v),
    }
