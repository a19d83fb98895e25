"""What whole groups are told: the queue, its entries and the colleagues (docs/protocol.md 2.4).

Something changed: it is marked, read again and told, at once when the last time is a second ago, else after it. So
the newest wins, and what is the same as before is not told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chatproto.bus.notice import PART2, Follow, Notice, Publish
from chatproto.clock import Clock, Timers
from chatproto.commands import render
from chatproto.domain.events import GroupChanged
from chatproto.domain.model import Admin, QueuePlace, admin_topic, group_topic, guest_topic
from chatproto.errors import StorageError
from chatproto.services.catchup import GroupView
from chatproto.wire import codes
from chatproto.wire.frame import push

log = Logger()

EVERY = 1.0
"""Seconds between two 32098, 33099 or 32099 about the same thing."""
PLACES_EVERY = 3.0
"""Seconds between two 22098."""


ReadGroup = Callable[[int, Collection[int], Collection[int], Collection[int] | None], Awaitable[GroupView]]
"""(group_id, conversation_ids, admin_ids, conversation_ids that were queued) → what they are now."""


@dataclass(slots=True)
class _Group:
    admins: set[int] = field(default_factory=set)
    conversations: set[int] = field(default_factory=set)
    queue: bool = False
    told_at: float = float("-inf")
    places_at: float = float("-inf")
    places_due: bool = False
    running: bool = False
    admins_told: dict[int, Admin] = field(default_factory=dict)
    queue_told: tuple[int, int | None] = (0, None)
    queued: set[int] | None = None
    places: dict[int, QueuePlace] = field(default_factory=dict)
    placed: dict[int, QueuePlace] = field(default_factory=dict)

    @property
    def dirty(self) -> bool:
        return bool(self.admins or self.conversations or self.queue)


class News:
    """Collects what changed in each group and tells it.

    :param read: the present state.
    """

    def __init__(self, read: ReadGroup, publish: Publish, clock: Clock) -> None:
        self._read = read
        self._publish = publish
        self._clock = clock
        self._timers = Timers(clock)
        self._groups: dict[int, _Group] = {}

    def mark(self, changed: GroupChanged) -> None:
        """Note what changed."""
        group = self._groups.setdefault(changed.group_id, _Group())
        group.admins |= changed.admins
        group.conversations |= changed.conversations
        group.queue = group.queue or changed.queue
        self._schedule(changed.group_id, group)

    def stop(self) -> None:
        """Tell nothing any more."""
        self._timers.stop()

    def placed(self, group_id: int, gid: int, place: QueuePlace) -> None:
        """A guest has been told this place with another push: it is no news."""
        group = self._groups.setdefault(group_id, _Group())
        group.places[gid] = group.placed[gid] = place

    def _schedule(self, group_id: int, group: _Group) -> None:
        if group.running or not group.dirty:
            return
        group.running = True
        # Never at once: what one commit changes, and its reply, comes first.
        delay = max(group.told_at + EVERY - self._clock.seconds(), 0)
        self._timers.call(delay, self._start, group_id, group)

    def _start(self, group_id: int, group: _Group) -> None:
        telling = Deferred.fromCoroutine(self._tell(group_id, group))
        telling.addErrback(lambda failure: log.failure("the news of group {id} failed", failure, id=group_id))

    async def _tell(self, group_id: int, group: _Group) -> None:
        conversations, admins, queue = group.conversations, group.admins, group.queue
        group.conversations, group.admins, group.queue = set(), set(), False
        group.placed = {}
        try:
            state = await self._read(group_id, conversations, admins, group.queued)
        except StorageError:
            group.conversations |= conversations
            group.admins |= admins
            group.queue = group.queue or queue
        else:
            group.queued = {conversation_id for conversation_id, _, _ in state.queue}
            self._publish(list(self._notices(group_id, group, state)))
        finally:
            group.told_at = self._clock.seconds()
            group.running = False
            self._schedule(group_id, group)

    def _notices(self, group_id: int, group: _Group, state: GroupView) -> list[Notice]:
        topic = group_topic(group_id)
        found = []
        for entry in state.conversations.values():
            frame = push(codes.PUSH_GUEST_CHANGED, render.guest_entry(entry))
            server = admin_topic(entry.admin_id) if entry.admin_id is not None else None
            found.append(
                Notice(topic, ((frame, PART2),), entry.id, entry.rev, entry.last_seq, Follow.ASIDE, but_not=server)
            )
        for admin in state.admins.values():
            if group.admins_told.get(admin.person.id) != admin:
                group.admins_told[admin.person.id] = admin
                found.append(Notice(topic, ((push(codes.PUSH_ADMIN_CHANGED, render.admin_entry(admin)), PART2),)))
        oldest = min((queued_at for _, _, queued_at in state.queue), default=None)
        if group.queue_told != (len(state.queue), oldest):
            group.queue_told = (len(state.queue), oldest)
            wait = 0 if oldest is None else max(state.now - oldest, 0)
            data = {"group_id": group_id, "waiting": len(state.queue), "longest_wait_ms": wait}
            found.append(Notice(topic, ((push(codes.PUSH_QUEUE, data), PART2),)))
        return found + self._places(group_id, group, state)

    def _tell_places(self, group_id: int, group: _Group) -> None:
        group.places_due = False
        self.mark(GroupChanged(group_id, queue=True))

    def _places(self, group_id: int, group: _Group, state: GroupView) -> list[Notice]:
        """22098 for those whose place is another one; a group that told them lately does so a little later."""
        now = self._clock.seconds()
        places = {
            gid: QueuePlace(position, len(state.queue), state.admins_online)
            for position, (_, gid, _) in enumerate(state.queue, 1)
        }
        # What was told while this was being read may be newer; the next look, which is due then, knows.
        places |= group.placed
        if all(group.places.get(gid) == place for gid, place in places.items()):
            group.places = places
            return []
        wait = group.places_at + PLACES_EVERY - now
        if wait > 0:
            if not group.places_due:
                group.places_due = True
                self._timers.call(wait, self._tell_places, group_id, group)
            return []
        group.places_at = now
        different = {gid: place for gid, place in places.items() if group.places.get(gid) != place}
        group.places = places
        return [
            Notice(
                guest_topic(group_id, gid),
                ((push(codes.PUSH_GUEST_QUEUE, {"queue": render.queue(place)}), PART2),),
            )
            for gid, place in different.items()
        ]
