"""Events become notices: who is told what (docs/protocol.md 2.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from chatproto.bus.notice import ALL, GIVEN, KEEP, PART2, Follow, Notice, Publish, Push
from chatproto.commands import render
from chatproto.commands.news import News
from chatproto.domain.events import (
    Event,
    Expelled,
    GroupChanged,
    GuestNoted,
    MessageRecalled,
    MessageStored,
    ReadMoved,
    ServiceChanged,
    Typed,
)
from chatproto.domain.model import ADMIN, Conversation, Handover, Message, Role, admin_topic, group_topic, guest_topic
from chatproto.wire import codes
from chatproto.wire.frame import push

Skip = Callable[[str, str, int, int, int, int], bool]
"""(topic, ix, conversation_id, rev, last_seq, steps) → whether nobody has to be told; for where all who listen are in
this process (:meth:`chatproto.connection.hub.Hub.skip`)."""


class Announcer:
    """Tells what was committed: at once, but while it is entered (``with``) messages wait for those that follow them.

    What somebody sends in one go is stored in one go, and then told in one go, which costs hardly more than a single
    message. Whoever enters it lets nothing else happen until it is left.

    :param skip: whether nobody needs to be told on the sender's side.
    :param news: takes what whole groups are told, at most once a second.
    """

    def __init__(self, publish: Publish, skip: Skip, news: News) -> None:
        self._publish = publish
        self._skip = skip
        self._news = news
        self._entered = False
        # Messages that follow each other, and what the other side is told of each.
        self._messages: list[MessageStored] = []
        self._frames: list[Push] = []

    def __enter__(self) -> None:
        self._entered = True

    def __exit__(self, *error: object) -> None:
        self._entered = False
        self(())

    def __call__(self, events: Iterable[Event]) -> None:
        found: list[Notice] = []
        for event in events:
            if isinstance(event, MessageStored):
                if self._messages and not _follows(self._messages[-1], event):
                    found += self._waiting()
                self._messages.append(event)
                self._frames += _there(event)
                continue
            if isinstance(event, GroupChanged):
                self._news.mark(event)
                continue
            if self._messages:
                found += self._waiting()
            if isinstance(event, ServiceChanged) and event.standing.queue is not None:
                self._news.placed(event.entry.group_id, event.entry.gid, event.standing.queue)
            found.extend(notices(event))
        if self._messages and not self._entered:
            found += self._waiting()
        if found:
            self._publish(found)

    def _waiting(self) -> list[Notice]:
        messages, frames = self._messages, self._frames
        self._messages, self._frames = [], []
        return _stored(messages, frames, self._skip)


def notices(event: Event) -> Iterable[Notice]:
    """The notices of one event, in the order in which they are to be delivered."""
    match event:
        case MessageStored():
            return _stored([event], _there(event))
        case MessageRecalled():
            return _recalled(event)
        case Typed():
            return [_typed(event)]
        case ReadMoved():
            return _read(event)
        case ServiceChanged():
            return _service(event)
        case GuestNoted(entry, admin_id):
            topic = admin_topic(admin_id) if admin_id is not None else group_topic(entry.group_id)
            return [Notice(topic, ((push(codes.PUSH_GUEST_CHANGED, render.guest_entry(entry)), PART2),))]
        case Expelled(topic, code, reason, but_not):
            return [Notice(topic, but_not=but_not, close=(code, reason))]
        case GroupChanged():
            return []


def _follows(last: MessageStored, event: MessageStored) -> bool:
    """Whether nothing happened in the conversation between two messages of one connection."""
    return event.rev == last.rev + 1 and event.conversation_id == last.conversation_id and event.origin == last.origin


def _there(event: MessageStored) -> Sequence[Push]:
    """What the other side is told of a message, if there is anybody."""
    info = render.message_text(event.message)
    if event.message.sender.role is ADMIN:
        data = f'{{"message_info":{info},"unread":{event.guest_unread}}}'
        return ((push(codes.PUSH_ADMIN_MESSAGE, data), PART2),)
    if event.admin_id is None:
        return ()
    data = f'{{"gid":{event.message.gid},"message_info":{info},"unread":{event.admin_unread}}}'
    return ((push(codes.PUSH_GUEST_MESSAGE, data), ALL),)


def _own(event: MessageStored) -> Push:
    """What the sender's other connections are told of it."""
    info = render.message_text(event.message)
    if event.message.sender.role is ADMIN:
        return push(codes.PUSH_OWN_MESSAGE, f'{{"gid":{event.message.gid},"message_info":{info}}}'), PART2
    return push(codes.PUSH_GUEST_OWN_MESSAGE, f'{{"message_info":{info}}}'), PART2


def _stored(events: Sequence[MessageStored], frames: Sequence[Push], skip: Skip | None = None) -> list[Notice]:
    """For the sender's other connections, then for the other side.

    :param events: messages that follow each other; *frames* is what the other side is told of them.
    :param skip: whether the former is needless, as mostly there are none.
    """
    last, steps = events[-1], len(events)
    conversation_id, rev, message, topic = last.conversation_id, last.rev, last.message, last.sender_topic
    seq, found = message.seq, []
    if skip is None or not skip(topic, last.origin, conversation_id, rev, seq, steps):
        own = tuple(map(_own, events))
        found.append(Notice(topic, own, conversation_id, rev, seq, KEEP, last.origin, steps=steps))
    if frames:
        if message.sender.role is ADMIN:
            there = guest_topic(message.group_id, message.gid)
        else:
            assert last.admin_id is not None
            there = admin_topic(last.admin_id)
        found.append(Notice(there, tuple(frames), conversation_id, rev, seq, steps=steps))
    return found


def _recalled(event: MessageRecalled) -> Iterator[Notice]:
    """As a message, but for clients of part 2 only, and also for who serves the guest of whom a colleague wrote."""
    message, guest_wrote = event.message, event.message.sender.role is Role.GUEST
    gid, info = message.gid, render.message_info(message)
    known = (event.conversation_id, event.rev, message.seq, Follow.KEEP)
    own = push(codes.PUSH_OWN_MESSAGE, {"gid": gid, "message_info": info})
    if guest_wrote:
        tabs, told_guest = event.origin, push(codes.PUSH_GUEST_OWN_MESSAGE, {"message_info": info})
    else:
        tabs, told_guest = None, push(codes.PUSH_ADMIN_MESSAGE, {"message_info": info, "unread": event.guest_unread})
        yield Notice(admin_topic(message.sender.id), ((own, PART2),), *known, event.origin)
    yield Notice(guest_topic(message.group_id, gid), ((told_guest, PART2),), *known, tabs)
    if event.admin_id is not None and (guest_wrote or event.admin_id != message.sender.id):
        data = {"gid": gid, "message_info": info, "unread": event.admin_unread}
        frame = push(codes.PUSH_GUEST_MESSAGE, data) if guest_wrote else own
        yield Notice(admin_topic(event.admin_id), ((frame, PART2),), *known)


def _typed(event: Typed) -> Notice:
    """Of a guest, all admins of the group would be told, were it not for the hub: only who serves follows."""
    if event.role is Role.GUEST:
        topic = group_topic(event.group_id)
        data = {"gid": event.gid, "group_id": event.group_id, "typing": event.typing}
        frame = push(codes.PUSH_GUEST_TYPES, data)
    else:
        topic = guest_topic(event.group_id, event.gid)
        frame = push(codes.PUSH_ADMIN_TYPES, {"typing": event.typing})
    return Notice(topic, ((frame, PART2),), event.conversation_id, follow=Follow.HINT)


def handed(number: int, handover: Handover, entry: Conversation, messages: Sequence[Message]) -> list[Push]:
    """32401 or 32402; where a message of it recalls another, also as clients of the given document get it."""
    frame = push(number, render.handed(handover, entry, messages))
    if all(message.recalls is None for message in messages):
        return [(frame, ALL)]
    given = push(number, render.handed(handover, entry, messages, v=1))
    return [(frame, PART2), (given, GIVEN)]


def _read(event: ReadMoved) -> Iterator[Notice]:
    known = (event.conversation_id, event.rev)
    if event.admin_id is not None:
        desk = {
            "gid": event.gid,
            "group_id": event.group_id,
            "guest_read_seq": event.guest_read_seq,
            "read_seq": event.admin_read_seq,
            "unread": event.admin_unread,
        }
        yield Notice(admin_topic(event.admin_id), ((push(codes.PUSH_READ, desk), PART2),), *known)
    guest = {
        "admin_read_seq": event.admin_read_seq,
        "read_seq": event.guest_read_seq,
        "unread": event.guest_unread,
    }
    topic = guest_topic(event.group_id, event.gid)
    yield Notice(topic, ((push(codes.PUSH_GUEST_READ, guest), PART2),), *known)


def _service(event: ServiceChanged) -> Iterator[Notice]:
    entry, handover = event.entry, event.handover
    known = (entry.id, entry.rev, entry.last_seq)
    changed = push(codes.PUSH_GUEST_CHANGED, render.guest_entry(entry))
    if event.was_admin_id is not None and event.was_admin_id != entry.admin_id:
        told: list[Push] = [(changed, PART2)]
        if handover is not None and handover.from_aix == event.was_admin_id:
            told[:0] = handed(codes.PUSH_TRANSFERRED, handover, entry, event.recs)
        yield Notice(admin_topic(event.was_admin_id), tuple(told), *known, follow=Follow.END)
    if entry.admin_id is not None and handover is not None:
        frames = tuple(handed(codes.PUSH_GUEST_ARRIVED, handover, entry, event.recs))
        yield Notice(admin_topic(entry.admin_id), frames, *known, follow=Follow.BEGIN)
    state = {**render.standing(event.standing), "reason": entry.reason}
    topic = guest_topic(entry.group_id, entry.gid)
    yield Notice(topic, ((push(codes.PUSH_GUEST_STATE, state), PART2),), *known)
