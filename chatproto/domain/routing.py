"""Who gets the guest: the rules of docs/protocol.md 2.3 over a picture of one group.

A :class:`Board` is that picture, read under the group's lock. A rule moves threads on it and returns
little or nothing, or raises the :class:`~chatproto.errors.ChatError` of what is not allowed; what differs afterwards
is applied in the same transaction. No I/O, no clock: ``board.now`` is an argument, in Unix milliseconds.

To start service is to go to the end of the queue, and every rule ends with :func:`drain`: so the server
assigns strictly first come, first served.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from chatproto import errors
from chatproto.domain.model import (
    ENDED,
    OFFLINE,
    ONLINE,
    QUEUED,
    SERVING,
    SUSPENDED,
    Handover,
    Person,
    QueuePlace,
    Standing,
)

PUT_BACK, FRESH = 0, 1
"""``queue_rank``: who lost the admin goes before who is new."""


@dataclass(slots=True)
class Desk:
    """An admin of the group.

    :ivar connected: has a live session.
    :ivar in_grace: has none, but the last one ended less than the grace ago.
    :ivar load: guests served.
    """

    person: Person
    banned: bool
    connected: bool
    in_grace: bool
    suspended: bool
    capacity: int
    load: int
    last_assigned_at: int

    @property
    def id(self) -> int:
        return self.person.id

    @property
    def status(self) -> int:
        if not self.connected or self.banned:
            return OFFLINE
        return SUSPENDED if self.suspended else ONLINE

    @property
    def full(self) -> bool:
        return self.load >= self.capacity

    @property
    def can_take(self) -> bool:
        return self.status == ONLINE and not self.full


@dataclass(slots=True)
class Thread:
    """A conversation as the rules see it.

    :ivar unanswered_since: when the first unanswered message of the guest came; None where the admin, or
        nobody, wrote last.
    :ivar banned: the guest is.
    """

    id: int
    gid: int
    state: str
    admin_id: int | None
    last_admin_id: int | None
    away: bool
    queue_rank: int | None
    queued_at: int | None
    unanswered_since: int | None
    reason: str
    banned: bool = False

    @property
    def place(self) -> tuple[int, int, int]:
        """The sort key in the queue."""
        return (self.queue_rank or 0, self.queued_at or 0, self.id)


@dataclass(slots=True)
class Board:
    """One group: its desks, its queue and the threads that a rule is about.

    :ivar banned: the group is.
    :ivar threads: all known ones by conversation id, the whole queue among them.
    :ivar others: who serves one of them from another group, after a move.
    :ivar handovers: for each thread given to somebody by a transfer.
    :ivar touched: admins of whom colleagues may see something else now.
    """

    group_id: int
    now: int
    banned: bool
    desks: dict[int, Desk]
    threads: dict[int, Thread]
    others: dict[int, Person] = field(default_factory=dict)
    handovers: dict[int, Handover] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)

    def queue(self) -> list[Thread]:
        """Who waits, the head first."""
        return sorted((t for t in self.threads.values() if t.state == QUEUED), key=lambda t: t.place)

    @property
    def admins_online(self) -> int:
        return sum(desk.status != OFFLINE for desk in self.desks.values())

    def of(self, gid: int | None) -> Thread | None:
        """The thread of a guest, where the group has one."""
        return next((thread for thread in self.threads.values() if thread.gid == gid), None)

    def standing(self, thread: Thread) -> Standing:
        """What the guest of *thread* is told."""
        desk = self.desks.get(thread.admin_id or 0)
        admin = desk.person if desk else self.others.get(thread.admin_id or 0)
        place = None
        if thread.state == QUEUED:
            queue = self.queue()
            place = QueuePlace(queue.index(thread) + 1, len(queue), self.admins_online)
        return Standing(thread.state, admin, place)

    def enqueue(self, thread: Thread, rank: int, since: int, reason: str) -> None:
        self._leave(thread)
        thread.state, thread.admin_id = QUEUED, None
        thread.queue_rank, thread.queued_at, thread.reason = rank, since, reason

    def assign(self, thread: Thread, desk: Desk, reason: str) -> None:
        self._leave(thread)
        thread.state, thread.admin_id, thread.last_admin_id = SERVING, desk.id, desk.id
        thread.reason = reason
        desk.load += 1
        desk.last_assigned_at = self.now
        self.touched.add(desk.id)

    def end(self, thread: Thread, reason: str) -> None:
        self._leave(thread)
        thread.state, thread.admin_id, thread.reason = ENDED, None, reason

    def _leave(self, thread: Thread) -> None:
        if thread.admin_id is not None:
            if desk := self.desks.get(thread.admin_id):
                desk.load -= 1
            self.touched.add(thread.admin_id)
        thread.away = False
        thread.queue_rank = thread.queued_at = None


def drain(board: Board) -> None:
    """Give those who wait to those who can take, in strict order, until one of the two is used up."""
    for thread in board.queue():
        desk = choose(board, thread)
        if desk is None:
            return
        board.assign(thread, desk, "assigned")


def choose(board: Board, thread: Thread) -> Desk | None:
    """The admin who served or wrote last, else the one with the fewest guests, the longest without one first."""
    known = board.desks.get(thread.last_admin_id or 0)
    if known and known.can_take:
        return known
    free = [desk for desk in board.desks.values() if desk.can_take]
    return min(free, key=lambda desk: (desk.load, desk.last_assigned_at, desk.id), default=None)


def at_desk(board: Board, admin_id: int) -> Desk:
    """The desk of an admin who acts; no longer one of the group, or banned: has to log in again."""
    desk = board.desks.get(admin_id)
    if desk is None or desk.banned or board.banned:
        raise errors.LoginAgain()
    return desk


# The rules. Each is one event of 2.3.


def start(board: Board, gid: int, *, wrote: bool = True) -> None:
    """A guest starts service, or writes without one: 22000, 22300. With a present admin nothing changes.

    :param wrote: whoever's admin is gone is routed anew by writing, not by asking for service.
    """
    thread = board.of(gid)
    if thread is None or thread.banned or board.banned:
        raise errors.LoginAgain()
    if thread.state == QUEUED or (thread.state == SERVING and not (thread.away and wrote)):
        return
    waiting = [other.queued_at or 0 for other in board.queue() if other.queue_rank == FRESH]
    board.enqueue(thread, FRESH, max([board.now, *(since + 1 for since in waiting)]), "started")
    drain(board)


def take(board: Board, admin_id: int, gid: int | None) -> int:
    """32020: an admin takes from the queue, the head where no *gid* is given; returns the conversation's id."""
    desk = at_desk(board, admin_id)
    thread = board.of(gid) if gid is not None else next(iter(board.queue()), None)
    if thread is None or thread.state not in (QUEUED, SERVING):
        raise errors.NobodyWaits()
    if thread.state == SERVING:
        raise errors.TakenByAnother(admin_id=thread.admin_id)
    if desk.full:
        raise errors.TakerFull()
    board.assign(thread, desk, "assigned")
    drain(board)
    return thread.id


def write(board: Board, admin_id: int, gid: int) -> None:
    """32300: to write to a guest who waits takes the guest; capacity does not bind here."""
    desk = at_desk(board, admin_id)
    thread = board.of(gid)
    if thread is None or thread.banned:
        raise errors.SendNoSuchGuest()
    if thread.state == SERVING and thread.admin_id != admin_id:
        raise errors.SendServedByAnother(admin_id=thread.admin_id)
    if thread.state == QUEUED:
        board.assign(thread, desk, "assigned")
    thread.away = False
    drain(board)


def transfer(board: Board, admin_id: int, gid: int, to_admin_id: int, note: str | None) -> None:
    """32400: hand a guest to a colleague."""
    at_desk(board, admin_id)
    thread = board.of(gid)
    if thread is None or thread.state != SERVING or thread.admin_id != admin_id:
        raise errors.TransferNotYourGuest()
    desk = board.desks.get(to_admin_id)
    if desk is None or desk.banned or to_admin_id == admin_id:
        raise errors.TransferNoSuchAdmin()
    if desk.status == OFFLINE:
        raise errors.TransferAdminOffline()
    if desk.suspended:
        raise errors.TransferAdminSuspended()
    if desk.full:
        raise errors.TransferAdminFull()
    board.assign(thread, desk, "transferred")
    board.handovers[thread.id] = Handover(admin_id, to_admin_id, note, board.now)
    drain(board)


def suspend(board: Board, admin_id: int, suspended: bool) -> None:
    """32500; resuming drains the queue."""
    desk = at_desk(board, admin_id)
    if desk.suspended != suspended:
        desk.suspended = suspended
        board.touched.add(admin_id)
    drain(board)


def end_by_admin(board: Board, admin_id: int, gid: int) -> None:
    """32060."""
    at_desk(board, admin_id)
    thread = board.of(gid)
    if thread is None or thread.state != SERVING or thread.admin_id != admin_id:
        raise errors.EndNotYourGuest()
    board.end(thread, "ended_by_admin")
    drain(board)


def end_by_guest(board: Board, gid: int) -> None:
    """22060; a guest who waits leaves the queue."""
    thread = board.of(gid)
    if thread is None or thread.state not in (QUEUED, SERVING):
        raise errors.NothingToEnd()
    end(board, [thread.id], "ended_by_guest")


def end(board: Board, conversation_ids: Iterable[int], reason: str) -> None:
    """Services end without being asked for: "timeout", "banned", or an anonymous guest's log-out."""
    for conversation_id in conversation_ids:
        thread = board.threads.get(conversation_id)
        if thread is not None and thread.state in (QUEUED, SERVING):
            board.end(thread, reason)
    drain(board)


def arrive(board: Board, admin_id: int) -> None:
    """31000: an admin has a new connection; who is still there is kept."""
    if board.banned:
        raise errors.AdminGroupBanned()
    desk = board.desks.get(admin_id)
    if desk is None or desk.banned:
        raise errors.AdminBanned()
    for thread in board.threads.values():
        if thread.admin_id == admin_id:
            thread.away = False
    board.touched.add(admin_id)
    drain(board)


def depart(board: Board, admin_id: int) -> None:
    """The last connection of an admin may be lost: guests see nothing yet, colleagues do."""
    board.touched.add(admin_id)


def lose_if_gone(board: Board, admin_id: int) -> None:
    """The grace of an admin is over, unless somebody came back meanwhile."""
    desk = board.desks.get(admin_id)
    if desk is None or not (desk.connected or desk.in_grace):
        lose(board, admin_id)


def log_out(board: Board, admin_id: int) -> None:
    """31020: with the last connection, the admin is gone without a grace."""
    desk = board.desks.get(admin_id)
    if desk is None or not desk.connected:
        lose(board, admin_id)
    board.touched.add(admin_id)


def lose(board: Board, admin_id: int) -> None:
    """An admin is gone for good: the grace is over, log-out, ban, another group.

    Those who wrote last go to the head of the queue, the longest unanswered first; the others stay and are
    routed anew when they write. A suspension ends.
    """
    desk = board.desks.get(admin_id)
    if desk is not None:
        desk.suspended = False
    board.touched.add(admin_id)
    for thread in [t for t in board.threads.values() if t.state == SERVING and t.admin_id == admin_id]:
        if thread.unanswered_since is None:
            thread.away = True
        else:
            board.enqueue(thread, PUT_BACK, thread.unanswered_since, "admin_lost")
    drain(board)
