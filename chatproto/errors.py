"""What can go wrong, and the code each has on the wire (docs/protocol.md, *Error codes*).

Error *n* of a command is ``-(api_key) - n``. Raise the class that names what happened; the one place that
turns it into a reply is :mod:`chatproto.connection.dispatch`. The text that people read belongs to the
code and the configured language: :mod:`chatproto.wire.codes`.
"""

from __future__ import annotations

from typing import Any, ClassVar


class ConfigurationError(Exception):
    """An option is unknown, has a bad value or contradicts another; ``str()`` is one line for the operator."""


class StartError(Exception):
    """The daemon or a command cannot start; ``str()`` is one line that says why and what to do."""


class StorageError(Exception):
    """The database did not do what was asked.

    :param message: for the log.
    :param sqlstate: the five characters of PostgreSQL, where it answered with an error.
    :param applied: whether the statement may have taken effect: False is certain, None is unknown (the
        connection or the time ended before the answer).
    """

    def __init__(self, message: str, *, sqlstate: str | None = None, applied: bool | None = False) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.applied = applied


class ChatError(Exception):
    """A request that gets an error reply. Keyword arguments become the reply's ``data``."""

    code: ClassVar[int]

    def __init__(self, **data: Any) -> None:
        super().__init__(self.code, data)
        self.data = data


# Shared by all commands.


class LoginAgain(ChatError):
    """Not logged in, or the token expired or was revoked since the login."""

    code = -9999


class Malformed(ChatError):
    """The request cannot be understood; ``field`` names the one to blame, where there is one."""

    code = -9998


class TooManyRequests(ChatError):
    """``retry_after_ms``: when it makes sense to ask again."""

    code = -9997


class UnknownCommand(ChatError):
    code = -9996


class Internal(ChatError):
    """``trace_id`` stands in the log too; ``outcome`` is "unknown" where the effect may have happened."""

    code = -9995


class NotPermitted(ChatError):
    code = -9994


class ShuttingDown(ChatError):
    """``retry_after_ms``: when to reconnect."""

    code = -9993


# 31000 admin login.


class AdminTokenBad(ChatError):
    code = -31001


class AdminIdMissing(ChatError):
    code = -31002


class AdminBanned(ChatError):
    code = -31003


class AdminGroupBanned(ChatError):
    code = -31004


# 32020 take, 32060 end.


class NobodyWaits(ChatError):
    code = -32021


class TakenByAnother(ChatError):
    """``admin_id``: who took the guest."""

    code = -32022


class TakerFull(ChatError):
    code = -32023


class EndGidMissing(ChatError):
    code = -32061


class EndNotYourGuest(ChatError):
    code = -32062


# 32100 chat content, 32200 mark read.


class ContentGidMissing(ChatError):
    code = -32101


class ContentGroupMissing(ChatError):
    code = -32102


class ReadGidMissing(ChatError):
    code = -32201


class ReadGroupMissing(ChatError):
    code = -32202


# 32300 send to guest.


class SendGidMissing(ChatError):
    code = -32301


class SendMsgMissing(ChatError):
    code = -32302


class SendKindUnknown(ChatError):
    code = -32303


class SendMsgBad(ChatError):
    code = -32304


class SendNoSuchGuest(ChatError):
    code = -32305


class SendServedByAnother(ChatError):
    """``admin_id``: who serves the guest."""

    code = -32306


class SendCmidClash(ChatError):
    code = -32307


# 32310 recall, 32330 typing.


class RecallGidMissing(ChatError):
    code = -32311


class RecallSeqMissing(ChatError):
    code = -32312


class RecallNoSuchMessage(ChatError):
    code = -32313


class RecallTooLate(ChatError):
    """``within_ms``: for how long a message may be recalled; 0 is never."""

    code = -32314


class TypingGidMissing(ChatError):
    code = -32331


class TypingNotYourGuest(ChatError):
    code = -32332


# 32400 transfer.


class TransferGidMissing(ChatError):
    code = -32403


class TransferAixMissing(ChatError):
    code = -32404


class TransferNoSuchAdmin(ChatError):
    code = -32405


class TransferAdminOffline(ChatError):
    code = -32406


class TransferAdminSuspended(ChatError):
    code = -32407


class TransferAdminFull(ChatError):
    code = -32408


class TransferNotYourGuest(ChatError):
    code = -32409


# 32500 suspend.


class SuspendStatusBad(ChatError):
    code = -32501


# 21000 guest login.


class GuestTokenBad(ChatError):
    code = -21001


class GuestTokenRevoked(ChatError):
    code = -21002


class GuestBanned(ChatError):
    code = -21003


class GuestGroupBanned(ChatError):
    code = -21004


class AnonymousNotAllowed(ChatError):
    code = -21005


# 22060 end, 22300 send, 22310 recall, 22650 rate.


class NothingToEnd(ChatError):
    code = -22061


class GuestMsgMissing(ChatError):
    code = -22302


class GuestKindUnknown(ChatError):
    code = -22303


class GuestMsgBad(ChatError):
    code = -22304


class GuestCmidClash(ChatError):
    code = -22307


class GuestRecallSeqMissing(ChatError):
    code = -22311


class GuestRecallNoSuchMessage(ChatError):
    code = -22312


class GuestRecallTooLate(ChatError):
    """``within_ms``: for how long a message may be recalled; 0 is never."""

    code = -22313


class ScoreBad(ChatError):
    code = -22651


class NothingToRate(ChatError):
    code = -22652


class AlreadyRated(ChatError):
    code = -22653


class ConnectionEnds(Exception):
    """The connection is closed instead of being answered."""

    close_code: ClassVar[int]
    reason: ClassVar[str]


class TooManyConnections(ConnectionEnds):
    """Somebody has as many connections as one may have."""

    close_code = 4005
    reason = "too many connections"
