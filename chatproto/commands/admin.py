"""The admin family (docs/protocol.md 1 and 2.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chatproto import errors
from chatproto.commands import render
from chatproto.commands.session import desk_data, renewal
from chatproto.commands.table import Answer, Call, command, sends
from chatproto.domain.model import NEW, Conversation, Role
from chatproto.domain.tokens import AdminClaims, Claims
from chatproto.services.assignment import Handed
from chatproto.services.messaging import Done, Sent
from chatproto.services.sessions import Desk
from chatproto.wire import bodies, codes


async def _renewed(call: Call) -> tuple[dict[str, Any], Claims | None]:
    """The renewal of a list: who is banned by now gets none, and is logged out."""
    refresh, renewed = await renewal(call, call.claims)
    if isinstance(renewed, AdminClaims):
        try:
            await call.services.sessions.admin(renewed)
        except (errors.AdminBanned, errors.AdminGroupBanned):
            raise errors.LoginAgain() from None
    return refresh, renewed


@command(codes.CHAT_LIST, bodies.ChatList, Role.ADMIN, reads=True)
async def chat_list(call: Call, request: bodies.ChatList) -> Answer:
    """32000."""
    sessions = call.services.sessions
    if request.state is None:
        desk = await sessions.desk(call.who)
    elif request.state == NEW:
        desk = replace(await sessions.desk(call.who), guests={}, more=False)
    else:
        desk = await sessions.desk_page(call.who, request.state, request.page_index)
    refresh, renewed = await _renewed(call)
    return Answer({**desk_data(call.ix, desk, call.v), **refresh}, renewed=renewed)


@command(codes.CHAT_CONTENT, bodies.ChatContent, Role.ADMIN, reads=True)
async def chat_content(call: Call, request: bodies.ChatContent) -> Answer:
    """32100."""
    messaging = call.services.messaging
    conversation = await _conversation(call, request.gid, request.group_id)
    max_bytes = call.services.max_page_bytes
    size = request.page_size
    if request.before_seq is not None:
        found, more = await messaging.before(conversation, request.before_seq, size, max_bytes)
    elif request.after_seq is not None:
        found, more = await messaging.after(conversation, request.after_seq, size, max_bytes)
    else:
        found, more = await messaging.page(conversation, request.page_index, size)
    writers = sorted({message.sender.id for message in found if message.sender.role is Role.ADMIN})
    admins = await messaging.writers(writers, conversation.group_id)
    refresh, renewed = await _renewed(call)
    data = {
        **desk_data(call.ix, Desk(admins, {conversation.id: conversation}, False), call.v),
        "recs": render.recs(found, call.v),
        "page_index": request.page_index,
        "page_size": size,
        "total": conversation.last_seq,
        "has_more": more,
        **refresh,
    }
    return Answer(data, renewed=renewed)


@command(codes.MARK_READ, bodies.MarkRead, Role.ADMIN)
async def mark_read(call: Call, request: bodies.MarkRead) -> Answer:
    """32200."""
    if request.group_id != call.who.group_id:
        raise errors.NotPermitted()
    marked, events = await call.services.messaging.read_as_admin(call.who, request.gid, request.seq)
    data = {
        "group_id": request.group_id,
        "gid": request.gid,
        "read_seq": marked.admin_read_seq,
        "unread": marked.admin_unread,
    }
    return Answer(data, events)


def _sent(sent: Sent) -> Answer:
    message, dup = sent.message, ',"dup":true' if sent.dup else ""
    return Answer(f'{{"gid":{message.gid},"message_info":{render.message_text(message)}{dup}}}', sent.events)


@sends(codes.SEND_TO_GUEST, bodies.SendToGuest, Role.ADMIN, _sent)
def send_to_guest(call: Call, request: bodies.SendToGuest, done: Done) -> None:
    """32300."""
    call.services.messaging.send_as_admin(call.who, request.gid, request.cmid, request.content, call.ix, done)


@command(codes.RECALL, bodies.Recall, Role.ADMIN)
async def recall(call: Call, request: bodies.Recall) -> Answer:
    """32310."""
    recalled = await call.services.recalls.by_admin(call.who, request.gid, request.seq, call.ix)
    data = {"gid": request.gid, "message_info": render.message_info(recalled.message)}
    return Answer(data, recalled.events)


@command(codes.TYPING, bodies.Typing, Role.ADMIN, reads=True)
async def typing(call: Call, request: bodies.Typing) -> Answer:
    """32330."""
    return Answer({}, await call.services.typing.by_admin(call.who, request.gid, request.typing))


def _handed(call: Call, handed: Handed) -> dict[str, Any]:
    return render.handed(handed.handover, handed.entry, handed.recs, call.v)


@command(codes.TRANSFER, bodies.Transfer, Role.ADMIN)
async def transfer(call: Call, request: bodies.Transfer) -> Answer:
    """32400."""
    handed, events = await call.services.assignment.transfer(call.who, request.gid, request.aix, request.note)
    return Answer(_handed(call, handed), events)


@command(codes.SUSPEND, bodies.Suspend, Role.ADMIN)
async def suspend(call: Call, request: bodies.Suspend) -> Answer:
    """32500."""
    return Answer({}, await call.services.assignment.suspend(call.who, request.suspended))


@command(codes.ADMINS_ONLINE, bodies.AdminsOnline, Role.ADMIN, reads=True)
async def admins_online(call: Call, request: bodies.AdminsOnline) -> Answer:
    """33000."""
    online = await call.services.sessions.admins_online(call.who)
    return Answer({"admin_list": render.admin_list(online.values())})


@command(codes.TAKE_GUEST, bodies.TakeGuest, Role.ADMIN)
async def take_guest(call: Call, request: bodies.TakeGuest) -> Answer:
    """32020."""
    handed, events = await call.services.assignment.take(call.who, request.gid)
    return Answer(_handed(call, handed), events)


@command(codes.END_SERVICE, bodies.EndService, Role.ADMIN)
async def end_service(call: Call, request: bodies.EndService) -> Answer:
    """32060."""
    ended_at, events = await call.services.assignment.end_by_admin(call.who, request.gid)
    return Answer({"gid": request.gid, "ended_at": ended_at}, events)


async def _conversation(call: Call, gid: int, group_id: int) -> Conversation:
    """A conversation of the own group; anything else does not exist for the caller."""
    found = None
    if group_id == call.who.group_id:
        found = await call.services.messaging.conversation(group_id, gid)
    if found is None:
        raise errors.NotPermitted()
    return found
