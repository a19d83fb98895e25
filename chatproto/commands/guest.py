"""The guest family (docs/protocol.md 2.2)."""

from __future__ import annotations

from chatproto import errors
from chatproto.commands import render
from chatproto.commands.table import Answer, Call, command, sends
from chatproto.domain.model import Role
from chatproto.services.messaging import Done, Sent
from chatproto.wire import bodies, codes
from chatproto.wire.frame import json_text


@command(codes.GUEST_START, bodies.GuestStart, Role.GUEST)
async def start(call: Call, request: bodies.GuestStart) -> Answer:
    """22000."""
    standing, events = await call.services.assignment.start(call.who)
    return Answer(render.standing(standing), events)


@command(codes.GUEST_END, bodies.GuestEnd, Role.GUEST)
async def end(call: Call, request: bodies.GuestEnd) -> Answer:
    """22060."""
    ended_at, events = await call.services.assignment.end_by_guest(call.who)
    return Answer({"ended_at": ended_at}, events)


@command(codes.GUEST_HISTORY, bodies.GuestHistory, Role.GUEST, reads=True)
async def history(call: Call, request: bodies.GuestHistory) -> Answer:
    """22100."""
    messaging, guest = call.services.messaging, call.who
    conversation = await messaging.conversation(guest.group_id, guest.person.id)
    if conversation is None:
        raise errors.LoginAgain()
    max_bytes = call.services.max_page_bytes
    if request.after_seq is not None:
        found, more = await messaging.after(conversation, request.after_seq, request.page_size, max_bytes)
    else:
        found, more = await messaging.before(conversation, request.before_seq, request.page_size, max_bytes)
    return Answer({"recs": render.recs(found), "has_more": more, "last_seq": conversation.last_seq})


@command(codes.GUEST_MARK_READ, bodies.GuestMarkRead, Role.GUEST)
async def mark_read(call: Call, request: bodies.GuestMarkRead) -> Answer:
    """22200."""
    marked, events = await call.services.messaging.read_as_guest(call.who, request.seq)
    return Answer({"read_seq": marked.guest_read_seq, "unread": marked.guest_unread}, events)


def _sent(sent: Sent) -> Answer:
    info, standing, dup = render.message_text(sent.message), sent.standing, ',"dup":true' if sent.dup else ""
    queue = "null" if standing.queue is None else json_text(render.queue(standing.queue))
    return Answer(f'{{"message_info":{info},"state":"{standing.state}","queue":{queue}{dup}}}', sent.events)


@sends(codes.GUEST_SEND, bodies.GuestSend, Role.GUEST, _sent)
def send(call: Call, request: bodies.GuestSend, done: Done) -> None:
    """22300."""
    call.services.messaging.send_as_guest(call.who, request.cmid, request.content, call.ix, done)


@command(codes.GUEST_RECALL, bodies.GuestRecall, Role.GUEST)
async def recall(call: Call, request: bodies.GuestRecall) -> Answer:
    """22310."""
    recalled = await call.services.recalls.by_guest(call.who, request.seq, call.ix)
    return Answer({"message_info": render.message_info(recalled.message)}, recalled.events)


@command(codes.GUEST_TYPING, bodies.GuestTyping, Role.GUEST, reads=True)
async def typing(call: Call, request: bodies.GuestTyping) -> Answer:
    """22330."""
    return Answer({}, call.services.typing.by_guest(call.who, request.typing))


@command(codes.GUEST_CONTEXT, bodies.GuestContext, Role.GUEST)
async def context(call: Call, request: bodies.GuestContext) -> Answer:
    """22600."""
    return Answer({}, await call.services.guests.context(call.who, request.context))


@command(codes.GUEST_RATE, bodies.GuestRate, Role.GUEST)
async def rate(call: Call, request: bodies.GuestRate) -> Answer:
    """22650."""
    await call.services.guests.rate(call.who, request.score, request.text)
    return Answer({})
