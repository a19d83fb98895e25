"""Who serves whom: every step is a rule of :mod:`chatproto.domain.routing` in one transaction under the group's lock.

Each method returns what the caller asked for and the events that the commit made true.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import DeferredLock

from chatproto.domain import routing
from chatproto.domain.events import Event, GroupChanged, ServiceChanged
from chatproto.domain.model import QUEUED, Conversation, Handover, Message, Principal, Standing
from chatproto.domain.routing import Board
from chatproto.storage import presence
from chatproto.storage.assignment import AssignmentStore, Change, Decision, Scope
from chatproto.storage.journal import Draft, Outcome
from chatproto.storage.pool import Transaction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Handed:
    """A guest who came to somebody: the content of 32400, 32401, 32402 and 32020."""

    entry: Conversation
    recs: Sequence[Message]
    handover: Handover


class Assignment:
    """Commands and jobs that change who serves whom.

    The commands of one group line up here before they take a link of the pool, so a busy group leaves links
    to the others.
    """

    def __init__(self, store: AssignmentStore) -> None:
        self._store = store
        self._lines: dict[int, DeferredLock] = {}

    async def _decide(
        self,
        group_id: int,
        scope: Scope,
        rule: Callable[[Board], T],
        *,
        first: Callable[[Transaction], Awaitable[None]] | None = None,
        draft: Draft | None = None,
    ) -> tuple[Decision[T], list[Event]]:
        line = self._lines.setdefault(group_id, DeferredLock())
        await line.acquire()
        try:
            decision = await self._store.decide(group_id, scope, rule, first=first, draft=draft)
        finally:
            line.release()
            if not line.locked:
                self._lines.pop(group_id, None)
        return decision, _events(decision)

    # Guests.

    async def start(self, guest: Principal) -> tuple[Standing, list[Event]]:
        """22000."""
        gid = guest.person.id
        decision, events = await self._decide(
            guest.group_id, Scope(gid=gid), lambda board: routing.start(board, gid, wrote=False)
        )
        return _standing(decision, gid), events

    async def write_as_guest(self, guest: Principal, draft: Draft) -> tuple[Outcome, Standing, list[Event]]:
        """22300 without a present admin: starts service and stores the message, in one transaction."""
        gid = guest.person.id
        decision, events = await self._decide(
            guest.group_id, Scope(gid=gid), lambda board: routing.start(board, gid), draft=draft
        )
        assert decision.appended is not None
        return decision.appended, _standing(decision, gid), events

    async def end_by_guest(self, guest: Principal) -> tuple[int, list[Event]]:
        """22060; returns when it ended."""
        gid = guest.person.id
        decision, events = await self._decide(
            guest.group_id, Scope(gid=gid), lambda board: routing.end_by_guest(board, gid)
        )
        return decision.board.now, events

    # Admins.

    async def write_as_admin(self, admin: Principal, draft: Draft) -> tuple[Outcome, list[Event]]:
        """32300 to a guest who waits (takes the guest), or whom nobody serves (only delivers)."""
        decision, events = await self._decide(
            admin.group_id,
            Scope(gid=draft.gid),
            lambda board: routing.write(board, admin.person.id, draft.gid),
            draft=draft,
        )
        assert decision.appended is not None
        return decision.appended, events

    async def take(self, admin: Principal, gid: int | None) -> tuple[Handed, list[Event]]:
        """32020."""
        decision, events = await self._decide(
            admin.group_id, Scope(gid=gid), lambda board: routing.take(board, admin.person.id, gid)
        )
        return _handed(events, decision.result), events

    async def transfer(
        self, admin: Principal, gid: int, to_admin_id: int, note: str | None
    ) -> tuple[Handed, list[Event]]:
        """32400."""

        def rule(board: Board) -> int:
            routing.transfer(board, admin.person.id, gid, to_admin_id, note)
            thread = board.of(gid)
            assert thread is not None
            return thread.id

        decision, events = await self._decide(admin.group_id, Scope(gid=gid), rule)
        return _handed(events, decision.result), events

    async def suspend(self, admin: Principal, suspended: bool) -> list[Event]:
        """32500."""
        _, events = await self._decide(
            admin.group_id, Scope(), lambda board: routing.suspend(board, admin.person.id, suspended)
        )
        return events

    async def end_by_admin(self, admin: Principal, gid: int) -> tuple[int, list[Event]]:
        """32060; returns when it ended."""
        decision, events = await self._decide(
            admin.group_id, Scope(gid=gid), lambda board: routing.end_by_admin(board, admin.person.id, gid)
        )
        return decision.board.now, events

    # Coming and going.

    async def arrive(
        self, group_id: int, admin_id: int, first: Callable[[Transaction], Awaitable[None]] | None = None
    ) -> list[Event]:
        """An admin logs in (*first* makes the session) or is back: guests are kept, the queue is drained."""
        _, events = await self._decide(
            group_id, Scope(of_admin=admin_id), lambda board: routing.arrive(board, admin_id), first=first
        )
        return events

    async def depart(self, admin: Principal, ix: str, *, for_good: bool) -> list[Event]:
        """A connection of an admin ended; *for_good* by logging out, which grants no grace."""

        async def first(transaction: Transaction) -> None:
            await presence.end(transaction, ix)

        rule = routing.log_out if for_good else routing.depart
        _, events = await self._decide(
            admin.group_id, Scope(of_admin=admin.person.id), lambda board: rule(board, admin.person.id), first=first
        )
        return events

    async def lose_if_gone(self, group_id: int, admin_id: int) -> list[Event]:
        """The grace of an admin is over."""
        _, events = await self._decide(
            group_id, Scope(of_admin=admin_id), lambda board: routing.lose_if_gone(board, admin_id)
        )
        return events

    async def lose(self, group_id: int, admin_id: int, first: Callable[[Transaction], Awaitable[None]]) -> list[Event]:
        """An admin is banned or moved to another group by *first*."""
        _, events = await self._decide(
            group_id, Scope(of_admin=admin_id), lambda board: routing.lose(board, admin_id), first=first
        )
        return events

    # Jobs and the command line.

    async def end(
        self,
        group_id: int,
        conversation_ids: Sequence[int],
        reason: str,
        first: Callable[[Transaction], Awaitable[Sequence[int] | None]] | None = None,
    ) -> list[Event]:
        """Services end without being asked for; *first* may return which of them still have to."""
        ids = list(conversation_ids)

        async def narrowed(transaction: Transaction) -> None:
            nonlocal ids
            if first is not None and (still := await first(transaction)) is not None:
                ids = list(still)

        _, events = await self._decide(
            group_id,
            Scope(conversations=conversation_ids),
            lambda board: routing.end(board, ids, reason),
            first=narrowed,
        )
        return events

    async def drain(self, group_id: int, first: Callable[[Transaction], Awaitable[None]] | None = None) -> list[Event]:
        """Capacity may be free: after *first*, or as the safety net."""
        _, events = await self._decide(group_id, Scope(), routing.drain, first=first)
        return events


def _standing(decision: Decision[Any], gid: int) -> Standing:
    thread = decision.board.of(gid)
    assert thread is not None
    return decision.board.standing(thread)


def _handed(events: Sequence[Event], conversation_id: int) -> Handed:
    for event in events:
        if isinstance(event, ServiceChanged) and event.entry.id == conversation_id and event.handover:
            return Handed(event.entry, event.recs, event.handover)
    raise LookupError(f"conversation {conversation_id} came to nobody")


def _changed(board: Board, change: Change) -> ServiceChanged:
    entry, was = change.entry, change.was
    handover = None
    if entry.admin_id is not None and entry.admin_id != was.admin_id:
        handover = board.handovers.get(entry.id) or Handover(None, entry.admin_id, None, board.now)
    standing = board.standing(board.threads[entry.id])
    return ServiceChanged(entry, standing, was.admin_id, change.recs, handover)


def _events(decision: Decision[Any]) -> list[Event]:
    board = decision.board
    events: list[Event] = [_changed(board, change) for change in decision.changes]
    queued = frozenset(c.entry.id for c in decision.changes if QUEUED in (c.was.state, c.entry.state))
    if queued or board.touched:
        events.append(GroupChanged(board.group_id, frozenset(board.touched), queued, queue=True))
    return events
