"""The envelope: one JSON object per text frame (docs/protocol.md, *Frames* and *Small print*).

Bytes in, values out and back; no I/O.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson
from msgspec import Struct

from chatproto.errors import ChatError, Malformed
from chatproto.wire.codes import CALL_HEARTBEAT, HEARTBEAT, message

MAX_DEPTH: Final = 32
"""The outermost object is depth 1."""

MAX_REQUEST_ID: Final = 64
"""Characters, also of an integer."""

_MOST_REQUEST_ID: Final = 10**MAX_REQUEST_ID - 1
_LEAST_REQUEST_ID: Final = 1 - 10 ** (MAX_REQUEST_ID - 1)

RequestId = str | int | None

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_LONG_INTEGER = re.compile(r"-?[0-9]{1,64}")
_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET = bytes(set(range(256)) - set(b"{}[]"))


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_SCANNER = json.JSONDecoder()
_LENIENT = json.JSONDecoder(parse_constant=_refuse_constant)


class BadFrame(Malformed):
    """The frame itself is at fault, so no command is found for it.

    :ivar api_key: for the reply; 0 where none could be read, and for a heartbeat.
    :ivar request_id: for the reply; None where there is none that may be echoed.
    """

    def __init__(self, api_key: int, request_id: RequestId, field: str | None = None) -> None:
        if field is None:
            super().__init__()
        else:
            super().__init__(field=field)
        self.api_key = api_key
        self.request_id = request_id


class Frame(Struct, frozen=True, eq=False):
    """A request before its parameters are judged.

    :ivar values: the top-level fields; of equal keys the last.
    :ivar payload: the bytes of the frame.
    :ivar api_key: 0 in a heartbeat, whatever stood there.
    :ivar call_type: None where it is absent or no integer; what it was stands in ``values``.
    :ivar request_id: to be echoed in the reply; None when there is none.
    """

    values: dict[str, Any]
    payload: bytes
    api_key: int
    call_type: int | None
    request_id: RequestId

    @property
    def heartbeat(self) -> bool:
        """Whether this is one, by its ``call_type``."""
        return self.call_type == CALL_HEARTBEAT

    def raw(self, name: str) -> str:
        """The JSON text of a top-level field's value, exactly as it came; of equal keys the last.

        :raises KeyError: there is no such field.
        """
        return _raw(self.payload, name)


def as_integer(value: object) -> int | None:
    """The integer that a JSON value stands for, also as a string of up to 18 digits; None where it is no integer.

    ``true``, 1.5 and 1.0 are none, and neither is what does not fit into 64 bits.
    """
    if type(value) is int:
        return value
    if type(value) is str and _INTEGER.fullmatch(value):
        return int(value)
    return None


def parse(payload: bytes) -> Frame:
    """Read one text frame.

    A number beyond the range of a double is refused as RFC 8259 §6 permits: not every client could read it back.

    :raises BadFrame: it is no JSON object, too deep, holds U+0000 or a lone surrogate, or its ``api_key`` or
        ``request_id`` is bad.
    """
    try:
        values = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise _refusal(_read_leniently(payload)) from None
    if type(values) is not dict:
        raise BadFrame(0, None)
    # Nearly all are flat, and have no NUL. ``in`` would take longer: it tries first whether it is given a number.
    find = payload.find
    if (find(b"{", 1) > 0 or find(b"[") > 0) and _too_deep(payload):
        raise _refusal(values)
    if find(b"\\u0000") > 0 and _NUL.search(payload):
        raise _refusal(values)

    call_type, api_key, request_id = values.get("call_type"), values.get("api_key"), values.get("request_id")
    if call_type is not None:
        call_type = as_integer(call_type)
        if call_type == CALL_HEARTBEAT:
            api_key = HEARTBEAT
    if type(api_key) is not int:
        api_key = as_integer(api_key)
    if type(request_id) is float and _LONG_INTEGER.fullmatch(written := _raw(payload, "request_id")):
        # orjson makes a float of an integer that needs more than 64 bits; the echo needs every digit.
        request_id = int(written)
    if request_id is not None and not _may_be_echoed(request_id):
        raise BadFrame(api_key or 0, None, "request_id")
    if api_key is None:
        raise BadFrame(0, request_id, "api_key")
    return Frame(values, payload, api_key, call_type, request_id)


def reply(api_key: int, data: Any, request_id: RequestId = None) -> bytes:
    """The payload of a successful reply.

    :param data: JSON text, or what orjson can write: keys are strings; may contain :class:`orjson.Fragment`.
    """
    text, end = data if type(data) is str else json_text(data), _end(request_id)
    return f'{{"api_key":{api_key},"data":{text},"code":200,"message":"","status":"Success"{end}'.encode()


def failure(api_key: int, error: ChatError, language: str, request_id: RequestId = None) -> bytes:
    """The payload of an error reply; its ``data`` is the error's."""
    data, text, end = json_text(error.data), json_text(message(error.code, language)), _end(request_id)
    return f'{{"api_key":{api_key},"data":{data},"code":{error.code},"message":{text},"status":"Error"{end}'.encode()


def push(number: int, data: Any) -> bytes:
    """The payload of a push: ``api_key`` and ``code`` both hold its number. *data* as in :func:`reply`."""
    text = data if type(data) is str else json_text(data)
    return f'{{"api_key":{number},"data":{text},"code":{number},"message":"","status":"Success"}}'.encode()


def json_text(value: Any) -> str:
    """What orjson can write, as JSON text."""
    return orjson.dumps(value).decode()


def _end(request_id: RequestId) -> str:
    if request_id is None:
        return "}"
    return f',"request_id":{request_id if type(request_id) is int else json_text(request_id)}}}'


def _too_deep(payload: bytes) -> bool:
    """Whether valid JSON is deeper than :data:`MAX_DEPTH`.

    Looks at the text, because the value of an earlier equal key has left the parsed object. Each round takes
    away the innermost brackets.
    """
    if payload.count(b"{") + payload.count(b"[") <= MAX_DEPTH:
        return False
    brackets = _STRING.sub(b"", payload).translate(_AS_SQUARE, _NO_BRACKET)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _may_be_echoed(request_id: object) -> bool:
    if type(request_id) is int:
        return _LEAST_REQUEST_ID <= request_id <= _MOST_REQUEST_ID
    return type(request_id) is str and len(request_id) <= MAX_REQUEST_ID


def _read_leniently(payload: bytes) -> dict[str, Any]:
    """The fields of a frame that is refused already (a lone surrogate, a number beyond a double), for its reply."""
    try:
        values = _LENIENT.decode(payload.decode())
    except (ValueError, RecursionError):
        return {}
    return values if type(values) is dict else {}


def _refusal(values: dict[str, Any]) -> BadFrame:
    """The error for a frame whose fields are good for nothing but to address the reply."""
    api_key = HEARTBEAT if as_integer(values.get("call_type")) == CALL_HEARTBEAT else as_integer(values.get("api_key"))
    request_id = values.get("request_id")
    if not _may_be_echoed(request_id) or (type(request_id) is str and not _is_text(request_id)):
        request_id = None
    return BadFrame(api_key or 0, request_id)


def _is_text(value: str) -> bool:
    """Whether a string holds neither U+0000 nor a lone surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def _raw(payload: bytes, name: str) -> str:
    """As :meth:`Frame.raw`; *payload* is a JSON object that is valid and not too deep."""
    text = payload.decode()
    found = None
    place = _skip(text, text.index("{") + 1)
    while text[place] != "}":
        key, place = _SCANNER.raw_decode(text, place)
        start = _skip(text, _skip(text, place) + 1)
        _, place = _SCANNER.raw_decode(text, start)
        if key == name:
            found = text[start:place]
        place = _skip(text, place)
        if text[place] == ",":
            place = _skip(text, place + 1)
    if found is None:
        raise KeyError(name)
    return found


def _skip(text: str, place: int) -> int:
    """The place of the next character that is no white space."""
    return _SPACE.match(text, place).end()  # type: ignore[union-attr]
