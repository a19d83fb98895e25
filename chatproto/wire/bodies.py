"""The requests of docs/protocol.md, one frozen type each: 1 and 2.1 (admin), 2.2 (guest).

``decode(frame, limits)`` gives the typed request or raises exactly one :class:`~chatproto.errors.ChatError`:
parameters are judged in the order in which the protocol numbers their errors.
"""

from __future__ import annotations

from typing import Final, Self

from msgspec import Struct

from chatproto import errors
from chatproto.errors import ChatError, Malformed
from chatproto.wire import fields
from chatproto.wire.codes import CALL_ADMIN, CALL_GUEST
from chatproto.wire.content import Content, ContentErrors, content
from chatproto.wire.fields import Limits as Limits
from chatproto.wire.frame import Frame, as_integer

#: ``state`` of a conversation.
STATES: Final = frozenset({"new", "queued", "serving", "ended"})

_ADMIN_CONTENT: Final = ContentErrors(errors.SendMsgMissing, errors.SendKindUnknown, errors.SendMsgBad)
_GUEST_CONTENT: Final = ContentErrors(errors.GuestMsgMissing, errors.GuestKindUnknown, errors.GuestMsgBad)


class _NoParameters(Struct, frozen=True):
    """A request whose number says everything."""

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        return cls()


def _seq(frame: Frame, missing: type[ChatError]) -> int:
    """The seq of a message, which must be there; 0 is one that no message has."""
    found = fields.position(frame.values, "seq")
    if found is None:
        raise missing()
    return found


# Admin: given, and 2.1.


class AdminLogin(Struct, frozen=True):
    """31000: ``{call_type: 3, token, v?}``.

    :ivar v: 2 where the client knows the pushes of part 2, else 1.
    """

    token: str
    v: int

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        if frame.call_type != CALL_ADMIN:
            raise Malformed(field="call_type")
        token = frame.values.get("token")
        if type(token) is not str or not token:
            raise errors.AdminTokenBad()
        v = fields.integer(frame.values, "v")
        return cls(token, 2 if v is not None and v >= 2 else 1)


class AdminLogout(_NoParameters, frozen=True):
    """31020: ``{}``."""


class ChatList(Struct, frozen=True):
    """32000: ``{state?, page_index?}``.

    :ivar state: one of :data:`STATES`; None asks for the list as at login, of which there is one page only.
    :ivar page_index: from 1.
    """

    state: str | None
    page_index: int

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        state = fields.text(frame.values, "state")
        if state is not None and state not in STATES:
            raise Malformed(field="state")
        return cls(state, fields.page_index(frame.values))


class TakeGuest(Struct, frozen=True):
    """32020: ``{gid?}``; without a gid, the longest waiting."""

    gid: int | None

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        return cls(fields.optional_ident(frame.values, "gid"))


class EndService(Struct, frozen=True):
    """32060: ``{gid}``."""

    gid: int

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        return cls(fields.ident(frame.values, "gid", errors.EndGidMissing))


class ChatContent(Struct, frozen=True):
    """32100: ``{gid, group_id, page_index?, page_size?}``, or ``before_seq`` or ``after_seq`` in place of a page.

    :ivar page_index: from 1, the newest messages; means nothing beside a seq.
    :ivar before_seq: exclusive; at most one of the two is there.
    :ivar after_seq: exclusive; 0 is before the first message.
    """

    gid: int
    group_id: int
    page_index: int
    page_size: int
    before_seq: int | None
    after_seq: int | None

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        values = frame.values
        gid = fields.ident(values, "gid", errors.ContentGidMissing)
        group_id = fields.ident(values, "group_id", errors.ContentGroupMissing)
        index, size = fields.page_index(values), fields.page_size(values, limits)
        return cls(gid, group_id, index, size, *fields.seq_bounds(values))


class MarkRead(Struct, frozen=True):
    """32200: ``{gid, group_id, seq?}``; without a seq, up to the last message."""

    gid: int
    group_id: int
    seq: int | None

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        values = frame.values
        gid = fields.ident(values, "gid", errors.ReadGidMissing)
        group_id = fields.ident(values, "group_id", errors.ReadGroupMissing)
        return cls(gid, group_id, fields.position(values, "seq"))


class SendToGuest(Struct, frozen=True):
    """32300: ``{gid, msg, file_type?, cmid?}``.

    :ivar content: the message, or what is wrong with it. A repeat of a cmid is answered before that is looked at;
        without a cmid it is to be raised at once.
    """

    gid: int
    cmid: str | None
    content: Content | ChatError

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> SendToGuest:
        gid = fields.ident(frame.values, "gid", errors.SendGidMissing)
        return cls(gid, fields.cmid(frame.values), content(frame, limits, _ADMIN_CONTENT))


class Recall(Struct, frozen=True):
    """32310: ``{gid, seq}``."""

    gid: int
    seq: int

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        gid = fields.ident(frame.values, "gid", errors.RecallGidMissing)
        return cls(gid, _seq(frame, errors.RecallSeqMissing))


class Typing(Struct, frozen=True):
    """32330: ``{gid, typing?}``.

    :ivar typing: False where the admin has stopped.
    """

    gid: int
    typing: bool

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        gid = fields.ident(frame.values, "gid", errors.TypingGidMissing)
        return cls(gid, fields.boolean(frame.values, "typing", True))


class Transfer(Struct, frozen=True):
    """32400: ``{gid, aix, note?}``."""

    gid: int
    aix: int
    note: str | None

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        values = frame.values
        gid = fields.ident(values, "gid", errors.TransferGidMissing)
        aix = fields.ident(values, "aix", errors.TransferAixMissing)
        return cls(gid, aix, fields.text(values, "note", limits.max_note))


class Suspend(Struct, frozen=True):
    """32500: ``{status}``, 1 suspend, 0 resume."""

    suspended: bool

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        status = as_integer(frame.values.get("status"))
        if status not in (0, 1):
            raise errors.SuspendStatusBad()
        return cls(status == 1)


class AdminsOnline(_NoParameters, frozen=True):
    """33000: ``{}``."""


# Guest.


class GuestLogin(Struct, frozen=True):
    """21000: ``{call_type: 1, token?, guest_token?, group_id?, context?}``.

    :ivar token: the shop's.
    :ivar guest_token: from an earlier login; with neither token the guest is anonymous.
    :ivar context: JSON text of an object, see :func:`chatproto.wire.fields.context`.
    """

    token: str | None
    guest_token: str | None
    group_id: int | None
    context: str | None

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        if frame.call_type != CALL_GUEST:
            raise Malformed(field="call_type")
        values = frame.values
        token, guest_token = fields.text(values, "token"), fields.text(values, "guest_token")
        group_id = fields.optional_ident(values, "group_id")
        return cls(token, guest_token, group_id, fields.context(frame, limits))


class GuestLogout(_NoParameters, frozen=True):
    """21020: ``{}``."""


class GuestStart(_NoParameters, frozen=True):
    """22000: ``{}``."""


class GuestEnd(_NoParameters, frozen=True):
    """22060: ``{}``."""


class GuestHistory(Struct, frozen=True):
    """22100: ``{before_seq? | after_seq?, page_size?}``; without a seq, the newest page.

    :ivar before_seq: exclusive; at most one of the two is there.
    :ivar after_seq: exclusive; 0 is before the first message.
    """

    page_size: int
    before_seq: int | None
    after_seq: int | None

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        size = fields.page_size(frame.values, limits)
        return cls(size, *fields.seq_bounds(frame.values))


class GuestMarkRead(Struct, frozen=True):
    """22200: ``{seq?}``; without a seq, up to the last message."""

    seq: int | None

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        return cls(fields.position(frame.values, "seq"))


class GuestSend(Struct, frozen=True):
    """22300: ``{msg, file_type?, cmid?}``.

    :ivar content: as in :class:`SendToGuest`.
    """

    cmid: str | None
    content: Content | ChatError

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> GuestSend:
        return cls(fields.cmid(frame.values), content(frame, limits, _GUEST_CONTENT))


class GuestRecall(Struct, frozen=True):
    """22310: ``{seq}``."""

    seq: int

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        return cls(_seq(frame, errors.GuestRecallSeqMissing))


class GuestTyping(Struct, frozen=True):
    """22330: ``{typing?}``, as in :class:`Typing`."""

    typing: bool

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        return cls(fields.boolean(frame.values, "typing", True))


class GuestContext(Struct, frozen=True):
    """22600: ``{context}``.

    :ivar context: JSON text of an object, see :func:`chatproto.wire.fields.context`.
    """

    context: str

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        context = fields.context(frame, limits)
        if context is None:
            raise Malformed(field="context")
        return cls(context)


class GuestRate(Struct, frozen=True):
    """22650: ``{score, text?}``.

    :ivar score: 1 to 5.
    """

    score: int
    text: str | None

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> Self:
        score = as_integer(frame.values.get("score"))
        if score is None or not 1 <= score <= 5:
            raise errors.ScoreBad()
        return cls(score, fields.text(frame.values, "text", limits.max_note))
