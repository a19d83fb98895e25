"""Single parameters of a request: present, missing or wrong (docs/protocol.md, *Frames*).

Absent, null, "" and, for an id, 0 are *missing*. A wrong value is :class:`~chatproto.errors.Malformed` and names
the parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from chatproto.errors import ChatError, Malformed
from chatproto.wire.frame import Frame, as_integer

MAX_ID: Final = 2**63 - 1
"""What a BIGINT holds."""

MAX_POSITION: Final = 2**53 - 1
"""A later place in a conversation or list counts as this one: none is so long, and sums stay within a BIGINT."""

MAX_CMID: Final = 64
"""Characters."""

DEFAULT_PAGE: Final = 10

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a request may hold; the names are those of the configuration.

    :ivar max_url: characters of a URL.
    :ivar max_profile: bytes of ``context`` as JSON.
    :ivar max_note: characters of a note, and of the text of a rating.
    :ivar max_text: characters of a text message.
    :ivar max_body: bytes of any other message as JSON.
    :ivar max_page: messages in one page.
    """

    max_url: int = 2048
    max_profile: int = 4096
    max_note: int = 500
    max_text: int = 5000
    max_body: int = 16384
    max_page: int = 100


def is_missing(value: object) -> bool:
    """Whether the value counts as not given; an id of 0 does too, but only an id."""
    return value is None or value == ""


def ident(values: Values, name: str, missing: type[ChatError]) -> int:
    """An id that must be there, 1 to :data:`MAX_ID`.

    :raises ChatError: *missing* when it is not there, Malformed when it is no id.
    """
    found = values.get(name)
    if type(found) is int and 0 < found <= MAX_ID:
        # Nearly always.
        return found
    found = optional_ident(values, name)
    if found is None:
        raise missing()
    return found


def optional_ident(values: Values, name: str) -> int | None:
    """An id, None when missing.

    :raises Malformed: it is no id.
    """
    return integer(values, name, least=0, most=MAX_ID) or None


def integer(values: Values, name: str, *, least: int | None = None, most: int | None = None) -> int | None:
    """An integer, None when missing.

    :raises Malformed: it is no integer, or out of bounds.
    """
    value = values.get(name)
    if is_missing(value):
        return None
    number = as_integer(value)
    if number is None or (least is not None and number < least) or (most is not None and number > most):
        raise Malformed(field=name)
    return number


def boolean(values: Values, name: str, default: bool) -> bool:
    """``true`` or ``false``, *default* when missing.

    :raises Malformed: it is anything else.
    """
    value = values.get(name)
    if is_missing(value):
        return default
    if type(value) is not bool:
        raise Malformed(field=name)
    return value


def position(values: Values, name: str) -> int | None:
    """A ``seq`` or a page, 0 to :data:`MAX_POSITION`; None when missing.

    :raises Malformed: it is no integer, or negative.
    """
    number = integer(values, name, least=0)
    return None if number is None else min(number, MAX_POSITION)


def page_index(values: Values) -> int:
    """Counts from 1; missing and 0 count as 1.

    :raises Malformed: it is no integer, or negative.
    """
    return position(values, "page_index") or 1


def page_size(values: Values, limits: Limits) -> int:
    """Missing and 0 count as :data:`DEFAULT_PAGE`; more than a page may hold counts as that.

    :raises Malformed: it is no integer, or negative.
    """
    return min(integer(values, "page_size", least=0) or DEFAULT_PAGE, limits.max_page)


def seq_bounds(values: Values) -> tuple[int | None, int | None]:
    """``before_seq`` and ``after_seq``, at most one of them; after 0 is from the first message on.

    :raises Malformed: one is no integer or negative, or both are there.
    """
    before, after = position(values, "before_seq"), position(values, "after_seq")
    if before is not None and after is not None:
        raise Malformed(field="after_seq")
    return before, after


def text(values: Values, name: str, most: int | None = None) -> str | None:
    """A string of at most *most* code points, None when missing.

    :raises Malformed: it is no string, or longer.
    """
    value = values.get(name)
    if is_missing(value):
        return None
    if type(value) is not str or (most is not None and len(value) > most):
        raise Malformed(field=name)
    return value


def cmid(values: Values) -> str | None:
    """The client's own id of a message.

    :raises Malformed: it is no string, or longer than :data:`MAX_CMID`.
    """
    found = values.get("cmid")
    if type(found) is str and 0 < len(found) <= MAX_CMID:
        return found
    return text(values, "cmid", MAX_CMID)


def context(frame: Frame, limits: Limits) -> str | None:
    """Where the guest is: ``{page_url?, title?, referrer?, product?, order?}``, None when missing.

    The fields are kept as they are (*Small print*), so this is the JSON text as it came: an object, at most
    ``max_profile`` bytes.

    :raises Malformed: it is no object or too large, a URL or the title is no string, a URL is too long, or the
        product or order is no object.
    """
    value = frame.values.get("context")
    if is_missing(value):
        return None
    if type(value) is not dict:
        raise Malformed(field="context")
    try:
        text(value, "page_url", limits.max_url)
        text(value, "title")
        text(value, "referrer", limits.max_url)
    except Malformed:
        raise Malformed(field="context") from None
    for name in ("product", "order"):
        inner = value.get(name)
        if not is_missing(inner) and type(inner) is not dict:
            raise Malformed(field="context")
    raw = frame.raw("context")
    if len(raw.encode()) > limits.max_profile:
        raise Malformed(field="context")
    return raw
