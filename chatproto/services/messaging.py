"""Messages: send, read back, mark read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chatproto import errors
from chatproto.domain.events import Event, GroupChanged, MessageStored, ReadMoved
from chatproto.domain.model import (
    EMPTY,
    GUEST,
    QUEUED,
    SERVING,
    TEXT,
    Admin,
    Conversation,
    Message,
    Principal,
    Role,
    Standing,
)
from chatproto.errors import StorageError
from chatproto.services.assignment import Assignment
from chatproto.storage import history, marks, people, recall
from chatproto.storage.journal import CLASH, DUP, MISSING, NEW, OTHER, STORED, Draft, Journal, Outcome
from chatproto.storage.marks import Marked, ReadMarks
from chatproto.storage.pool import Pool

_SERVED = Standing(SERVING, None, None)

Content = tuple[int, str]
"""(file_type, the JSON text of msg)."""


class Sent(Struct, frozen=True):
    """A message that stands.

    :ivar dup: it stood before.
    :ivar standing: of the guest who sent it; it says nothing to an admin.
    """

    message: Message
    dup: bool
    events: Sequence[Event]
    standing: Standing


Done = Callable[[Sent | Failure], None]
"""Is told what became of a message. A Deferred would do as well, but costs more, and there are many messages."""


class _Sending(Draft, frozen=True):
    """A draft, and who waits for it.

    :ivar origin: the ``ix`` of the connection that sends it.
    """

    who: Principal
    origin: str
    done: Done


class Messaging:
    """Sends for both sides, history and read marks."""

    def __init__(self, journal: Journal, marks_: ReadMarks, assignment: Assignment, pool: Pool) -> None:
        self._journal = journal
        self._marks = marks_
        self._assignment = assignment
        self._pool = pool
        # Each look at a method makes an object, which each message would keep.
        self._when_by_admin, self._when_by_guest = self._told_admin, self._told_guest

    # Sends.

    def send_as_admin(
        self,
        admin: Principal,
        gid: int,
        cmid: str | None,
        content: Content | errors.ChatError,
        origin: str,
        done: Done,
    ) -> None:
        """32300.

        :param content: or what is wrong with it, which is said only when *cmid* is no repeat.
        """
        if isinstance(content, errors.ChatError):
            _later(self._refused(admin, gid, cmid, content, errors.SendCmidClash), done)
            return
        file_type, body = content
        draft = _Sending(admin.group_id, gid, admin.person, file_type, body, cmid, admin, origin, done)
        self._journal.put(draft, self._when_by_admin)

    def _told_admin(self, draft: _Sending, result: Outcome | StorageError) -> None:
        if type(result) is Outcome and result.kind == STORED:
            draft.done(_sent(draft, result, []))
        else:
            _later(self._by_admin(draft, result), draft.done)

    async def _by_admin(self, draft: _Sending, result: Outcome | StorageError) -> Sent:
        if isinstance(result, StorageError):
            raise result
        outcome, events = result, list[Event]()
        if outcome.kind == OTHER:
            try:
                outcome, events = await self._assignment.write_as_admin(draft.who, draft)
            finally:
                self._journal.release(draft.thread)
        if outcome.kind == MISSING:
            raise errors.SendNoSuchGuest()
        if outcome.kind == CLASH:
            return await self._clashed(draft, outcome, errors.SendCmidClash, events)
        return _sent(draft, outcome, events)

    def send_as_guest(
        self, guest: Principal, cmid: str | None, content: Content | errors.ChatError, origin: str, done: Done
    ) -> None:
        """22300; starts service where none is open. Parameters as in :meth:`send_as_admin`."""
        gid = guest.person.id
        if isinstance(content, errors.ChatError):
            _later(self._refused(guest, gid, cmid, content, errors.GuestCmidClash), done)
            return
        file_type, body = content
        draft = _Sending(guest.group_id, gid, guest.person, file_type, body, cmid, guest, origin, done)
        self._journal.put(draft, self._when_by_guest)

    def _told_guest(self, draft: _Sending, result: Outcome | StorageError) -> None:
        if type(result) is Outcome and result.kind == STORED and result.state == SERVING:
            draft.done(_sent(draft, result, []))
        else:
            _later(self._by_guest(draft, result), draft.done)

    async def _by_guest(self, draft: _Sending, result: Outcome | StorageError) -> Sent:
        if isinstance(result, StorageError):
            raise result
        outcome, events = result, list[Event]()
        standing = Standing(outcome.state, None, None)
        if outcome.kind == OTHER:
            try:
                outcome, standing, events = await self._assignment.write_as_guest(draft.who, draft)
            finally:
                self._journal.release(draft.thread)
        elif outcome.state == QUEUED:
            standing = await self._waiting(draft.who)
        if outcome.kind == MISSING:
            raise errors.LoginAgain()
        if outcome.kind == CLASH:
            sent = await self._clashed(draft, outcome, errors.GuestCmidClash, events)
        else:
            sent = _sent(draft, outcome, events)
        return replace(sent, standing=standing)

    async def _clashed(
        self, draft: Draft, outcome: Outcome, clash: type[errors.ChatError], events: Sequence[Event] = ()
    ) -> Sent:
        """A cmid that stands with other content: of a message that was recalled, this is a repeat like any other.

        What the repeat says cannot be compared any more, and is not brought back.

        :raises ChatError: *clash*, where the message was not recalled.
        """
        if not await recall.was_recalled(self._pool, outcome.conversation_id, outcome.seq):
            raise clash()
        message = Message(
            draft.group_id,
            draft.gid,
            outcome.seq,
            draft.sender,
            EMPTY,
            TEXT,
            draft.cmid,
            outcome.created_at,
            recalled=True,
        )
        return Sent(message, True, events, _SERVED)

    async def _waiting(self, guest: Principal) -> Standing:
        """A guest who waits is told the place in the queue with each message; the message stands in any case."""
        place = None
        with suppress(StorageError):
            place = await history.queue_place(self._pool, guest.group_id, guest.person.id)
        return Standing(QUEUED, None, place)

    async def _refused(
        self,
        sender: Principal,
        gid: int,
        cmid: str | None,
        wrong: errors.ChatError,
        clash: type[errors.ChatError],
    ) -> NoReturn:
        """What is wrong with a message, unless its cmid was used before: that is said first.

        The journal is asked, behind what the sender has sent just before.
        """
        if cmid is not None:
            asked = await self._journal.append(Draft(sender.group_id, gid, sender.person, None, "", cmid))
            if asked.kind != NEW:
                raise clash()
        raise wrong

    # History.

    async def conversation(self, group_id: int, gid: int) -> Conversation | None:
        return await history.of_guest(self._pool, group_id, gid)

    async def page(self, conversation: Conversation, page_index: int, page_size: int) -> tuple[list[Message], bool]:
        """One page of 32100, page 1 the newest; and whether older ones follow.

        Pages are arithmetic on seq, so that a client can jump: they are whole, whatever their bytes.
        """
        before = conversation.last_seq - (page_index - 1) * page_size + 1
        after = max(before - page_size - 1, 0)
        if before <= 1:
            return [], False
        found = await history.messages(
            self._pool, conversation, after=after, before=before, newest=True, limit=page_size
        )
        return found, after > 0

    async def before(
        self, conversation: Conversation, seq: int | None, page_size: int, max_bytes: int
    ) -> tuple[list[Message], bool]:
        """The nearest messages below *seq* (None: the newest), and whether there are more."""
        found = await history.messages(
            self._pool, conversation, before=seq, newest=True, limit=page_size, max_bytes=max_bytes
        )
        return found, bool(found) and found[0].seq > 1

    async def after(
        self, conversation: Conversation, seq: int, page_size: int, max_bytes: int
    ) -> tuple[list[Message], bool]:
        """The nearest messages above *seq*, and whether there are more."""
        found = await history.messages(
            self._pool, conversation, after=seq, newest=False, limit=page_size + 1, max_bytes=max_bytes
        )
        more = len(found) > page_size or bool(found) and found[-1].seq < conversation.last_seq
        return found[:page_size], more

    async def writers(self, admin_ids: Sequence[int], group_id: int) -> dict[int, Admin]:
        """``admin_list`` entries of who wrote in a page."""
        return await people.admins(self._pool, group_id, admin_ids) if admin_ids else {}

    # Read marks.

    async def read_as_admin(self, admin: Principal, gid: int, seq: int | None) -> tuple[Marked, list[Event]]:
        """32200: for who serves the guest, or served last."""
        return await self._read(admin, gid, seq)

    async def read_as_guest(self, guest: Principal, seq: int | None) -> tuple[Marked, list[Event]]:
        """22200."""
        return await self._read(guest, guest.person.id, seq)

    async def _read(self, who: Principal, gid: int, seq: int | None) -> tuple[Marked, list[Event]]:
        marked = await self._marks.mark(who.group_id, gid, who.person.role, who.person.id, seq)
        if marked.kind in (marks.DENIED, marks.MISSING):
            raise errors.NotPermitted()
        events: list[Event] = []
        if marked.kind == marks.MOVED:
            events.append(
                ReadMoved(
                    marked.conversation_id,
                    who.group_id,
                    gid,
                    marked.rev,
                    marked.admin_id or (who.person.id if who.person.role is Role.ADMIN else None),
                    marked.admin_read_seq,
                    marked.guest_read_seq,
                    marked.admin_unread,
                    marked.guest_unread,
                )
            )
        return marked, events


def _later(sending: Coroutine[Any, Any, Sent], done: Done) -> None:
    Deferred.fromCoroutine(sending).addBoth(done)


def _sent(draft: _Sending, outcome: Outcome, events: list[Event]) -> Sent:
    sender, file_type, state = draft.sender, draft.file_type, outcome.state
    assert file_type is not None
    message = Message(
        draft.group_id, draft.gid, outcome.seq, sender, draft.body, file_type, draft.cmid, outcome.created_at
    )
    if outcome.kind == DUP:
        return Sent(message, True, events, _SERVED)
    conversation_id = outcome.conversation_id
    events.append(
        MessageStored(
            conversation_id,
            outcome.rev,
            outcome.admin_id if state == SERVING else None,
            message,
            outcome.admin_unread,
            outcome.guest_unread,
            draft.origin,
            draft.who.topic,
        )
    )
    if state == QUEUED and sender.role is GUEST:
        events.append(GroupChanged(draft.group_id, conversations=frozenset([conversation_id])))
    return Sent(message, False, events, _SERVED)
