"""The numbers of the protocol and the words for them (docs/protocol.md, tables 1, 2.1, 2.2, *Error codes*)."""

from __future__ import annotations

from typing import Final

HEARTBEAT: Final = 0

CALL_HEARTBEAT: Final = 0
CALL_GUEST: Final = 1
CALL_ADMIN: Final = 3

# What an admin may ask.
ADMIN_LOGIN: Final = 31000
ADMIN_LOGOUT: Final = 31020
CHAT_LIST: Final = 32000
TAKE_GUEST: Final = 32020
END_SERVICE: Final = 32060
CHAT_CONTENT: Final = 32100
MARK_READ: Final = 32200
SEND_TO_GUEST: Final = 32300
RECALL: Final = 32310
TYPING: Final = 32330
TRANSFER: Final = 32400
SUSPEND: Final = 32500
ADMINS_ONLINE: Final = 33000

# What an admin is told.
PUSH_QUEUE: Final = 32098
PUSH_GUEST_CHANGED: Final = 32099
PUSH_READ: Final = 32299
PUSH_GUEST_TYPES: Final = 32397
PUSH_OWN_MESSAGE: Final = 32398
PUSH_GUEST_MESSAGE: Final = 32399
PUSH_GUEST_ARRIVED: Final = 32401
PUSH_TRANSFERRED: Final = 32402
PUSH_ADMIN_CHANGED: Final = 33099
PUSH_ADMIN_GAP: Final = 39099

# What a guest may ask.
GUEST_LOGIN: Final = 21000
GUEST_LOGOUT: Final = 21020
GUEST_START: Final = 22000
GUEST_END: Final = 22060
GUEST_HISTORY: Final = 22100
GUEST_MARK_READ: Final = 22200
GUEST_SEND: Final = 22300
GUEST_RECALL: Final = 22310
GUEST_TYPING: Final = 22330
GUEST_CONTEXT: Final = 22600
GUEST_RATE: Final = 22650

# What a guest is told.
PUSH_GUEST_QUEUE: Final = 22098
PUSH_GUEST_STATE: Final = 22099
PUSH_GUEST_READ: Final = 22299
PUSH_ADMIN_TYPES: Final = 22397
PUSH_GUEST_OWN_MESSAGE: Final = 22398
PUSH_ADMIN_MESSAGE: Final = 22399
PUSH_GUEST_GAP: Final = 29099

ADMIN_COMMANDS: Final = frozenset(
    {
        ADMIN_LOGIN,
        ADMIN_LOGOUT,
        CHAT_LIST,
        TAKE_GUEST,
        END_SERVICE,
        CHAT_CONTENT,
        MARK_READ,
        SEND_TO_GUEST,
        RECALL,
        TYPING,
        TRANSFER,
        SUSPEND,
        ADMINS_ONLINE,
    }
)
GUEST_COMMANDS: Final = frozenset(
    {
        GUEST_LOGIN,
        GUEST_LOGOUT,
        GUEST_START,
        GUEST_END,
        GUEST_HISTORY,
        GUEST_MARK_READ,
        GUEST_SEND,
        GUEST_RECALL,
        GUEST_TYPING,
        GUEST_CONTEXT,
        GUEST_RATE,
    }
)
#: The pushes of the given document: every admin connection gets them, those of part 2 only with ``v: 2``.
GIVEN_PUSHES: Final = frozenset({PUSH_GUEST_MESSAGE, PUSH_GUEST_ARRIVED, PUSH_TRANSFERRED})
ADMIN_PUSHES: Final = GIVEN_PUSHES | {
    PUSH_QUEUE,
    PUSH_GUEST_CHANGED,
    PUSH_READ,
    PUSH_GUEST_TYPES,
    PUSH_OWN_MESSAGE,
    PUSH_ADMIN_CHANGED,
    PUSH_ADMIN_GAP,
}
GUEST_PUSHES: Final = frozenset(
    {
        PUSH_GUEST_QUEUE,
        PUSH_GUEST_STATE,
        PUSH_GUEST_READ,
        PUSH_ADMIN_TYPES,
        PUSH_GUEST_OWN_MESSAGE,
        PUSH_ADMIN_MESSAGE,
        PUSH_GUEST_GAP,
    }
)

CLOSE_NORMAL: Final = 1000
CLOSE_SHUTTING_DOWN: Final = 1001
CLOSE_TOO_LARGE: Final = 1009
CLOSE_ACCOUNT_CHANGED: Final = 4000
CLOSE_REVOKED: Final = 4001
CLOSE_TOO_SLOW: Final = 4002
CLOSE_SILENT: Final = 4003
CLOSE_NOT_LOGGED_IN: Final = 4004
CLOSE_TOO_MANY: Final = 4005

#: The names of ``file_type`` 0, 1, 2 …
KINDS: Final = ("text", "image", "voice", "product", "order", "video", "file")
TEXT: Final = 0

#: Words of the given document (socket-api.zh.txt): the same in every language.
_GIVEN: Final[dict[int, str]] = {
    -9999: "需要重新登录",
    -31001: "解析token失败",
    -31002: "管理员admin_id不存在",
    -31003: "管理员被禁止登录或不存在",
    -31004: "客服组被禁止或不存在",
    -32101: "gid not null",
    -32102: "group_id not null",
    -32201: "gid not null",
    -32202: "group_id not null",
    -32301: "gid not null",
    -32302: "msg not null",
    -32403: "gid not null",
    -32404: "aix not null",
}

_ENGLISH: Final[dict[int, str]] = _GIVEN | {
    -9998: "malformed request",
    -9997: "too many requests, try again later",
    -9996: "unknown api_key",
    -9995: "internal error",
    -9994: "not permitted",
    -9993: "the server is shutting down, reconnect later",
    -32021: "nobody is waiting, or not this guest",
    -32022: "another admin has taken this guest",
    -32023: "you are serving as many guests as you may",
    -32061: "gid is missing",
    -32062: "this is not your guest",
    -32303: "unknown file_type",
    -32304: "msg is of the wrong type or too long",
    -32305: "no such guest in your group, or the guest is banned",
    -32306: "another admin serves this guest",
    -32307: "this cmid was used for another message",
    -32311: "gid is missing",
    -32312: "seq is missing",
    -32313: "you have sent no such message",
    -32314: "it is too late to recall this message",
    -32331: "gid is missing",
    -32332: "this is not your guest",
    -32405: "the receiver is no admin of your group, or yourself",
    -32406: "the receiver is off line",
    -32407: "the receiver is suspended",
    -32408: "the receiver is serving as many guests as possible",
    -32409: "this is not your guest",
    -32501: "status is missing or neither 0 nor 1",
    -21001: "the token cannot be verified",
    -21002: "the guest_token was revoked",
    -21003: "you are banned",
    -21004: "the group is banned or does not exist",
    -21005: "anonymous guests are not allowed",
    -22061: "there is no service to end",
    -22302: "msg is missing",
    -22303: "unknown file_type",
    -22304: "msg is of the wrong type or too long",
    -22307: "this cmid was used for another message",
    -22311: "seq is missing",
    -22312: "you have sent no such message",
    -22313: "it is too late to recall this message",
    -22651: "score is missing or not from 1 to 5",
    -22652: "there is no service to rate",
    -22653: "this service has been rated already",
}

_CHINESE: Final[dict[int, str]] = _GIVEN | {
    -9998: "请求格式错误",
    -9997: "请求过于频繁，请稍后再试",
    -9996: "未知的api_key",
    -9995: "服务器内部错误",
    -9994: "没有权限",
    -9993: "服务器正在关闭，请稍后重新连接",
    -32021: "没有排队的用户，或该用户不在排队",
    -32022: "该用户已被其他客服接入",
    -32023: "您接待的用户已达上限",
    -32061: "缺少gid",
    -32062: "该用户不是您接待的",
    -32303: "未知的file_type",
    -32304: "msg类型错误或过长",
    -32305: "本客服组没有该用户，或该用户已被禁止",
    -32306: "该用户正由其他客服接待",
    -32307: "该cmid已用于另一条消息",
    -32311: "缺少gid",
    -32312: "缺少seq",
    -32313: "您没有发送过这条消息",
    -32314: "该消息已超过可撤回的时间",
    -32331: "缺少gid",
    -32332: "该用户不是您接待的",
    -32405: "接收的客服不在本客服组，或是您自己",
    -32406: "接收的客服不在线",
    -32407: "接收的客服已挂起",
    -32408: "接收的客服接待的用户已达上限",
    -32409: "该用户不是您接待的",
    -32501: "缺少status，或不是0或1",
    -21001: "token验证失败",
    -21002: "guest_token已失效",
    -21003: "您已被禁止",
    -21004: "客服组被禁止或不存在",
    -21005: "不允许匿名用户",
    -22061: "没有可结束的服务",
    -22302: "缺少msg",
    -22303: "未知的file_type",
    -22304: "msg类型错误或过长",
    -22307: "该cmid已用于另一条消息",
    -22311: "缺少seq",
    -22312: "您没有发送过这条消息",
    -22313: "该消息已超过可撤回的时间",
    -22651: "缺少score，或不在1到5之间",
    -22652: "没有可评价的服务",
    -22653: "该服务已评价",
}

_CATALOGUE: Final = {"en": _ENGLISH, "zh": _CHINESE}

LANGUAGES: Final = tuple(_CATALOGUE)


def message(code: int, language: str) -> str:
    """The words for people that an error reply carries.

    :param code: of a :class:`chatproto.errors.ChatError`.
    :param language: one of :data:`LANGUAGES`.
    :raises KeyError: there is no such code or language.
    """
    return _CATALOGUE[language][code]
