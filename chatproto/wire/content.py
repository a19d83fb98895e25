"""What a message says: its kind and its body (docs/protocol.md, 1, ``msg``; *Small print*, *Messages*)."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from chatproto.errors import ChatError
from chatproto.wire.codes import KINDS, TEXT
from chatproto.wire.fields import Limits
from chatproto.wire.frame import Frame, as_integer

Content = tuple[int, str]
"""A message that may be stored: its ``file_type``, an index into :data:`~chatproto.wire.codes.KINDS`, and the JSON
text of ``msg``: a string, or an object exactly as it was sent."""


@dataclass(frozen=True, slots=True)
class ContentErrors:
    """The codes that one command has for a bad message."""

    missing: type[ChatError]
    unknown_kind: type[ChatError]
    bad: type[ChatError]


def content(frame: Frame, limits: Limits, errors: ContentErrors) -> Content | ChatError:
    """Judge ``msg`` and ``file_type``; what is wrong is returned, because a repeat of a cmid is answered first."""
    values = frame.values
    msg, kind = values.get("msg"), values.get("file_type")
    if msg is None or msg == "":
        return errors.missing()
    file_type = kind if type(kind) is int else TEXT if kind is None or kind == "" else as_integer(kind)
    if file_type is None or not 0 <= file_type < len(KINDS):
        return errors.unknown_kind()
    body = _text(frame, msg, limits) if file_type == TEXT else _other(frame, msg, limits)
    return errors.bad() if body is None else (file_type, body)


def _text(frame: Frame, msg: object, limits: Limits) -> str | None:
    if type(msg) is str:
        return orjson.dumps(msg).decode() if len(msg) <= limits.max_text else None
    if type(msg) is int or type(msg) is float:
        digits = frame.raw("msg")
        return f'"{digits}"' if len(digits) <= limits.max_text else None
    return None


def _other(frame: Frame, msg: object, limits: Limits) -> str | None:
    if type(msg) is str:
        encoded = orjson.dumps(msg)
        return encoded.decode() if len(encoded) <= limits.max_body else None
    if type(msg) is not dict:
        return None
    raw = frame.raw("msg")
    return raw if len(raw.encode()) <= limits.max_body else None
