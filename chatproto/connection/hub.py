"""The connections of this process by topic, and what each of them knows (docs/architecture.md, *Hub*).

A conversation's ``rev`` rises by one with every step, and every notice carries it. A connection that follows a
conversation gets what is next; what is older is dropped; what is further waits for what precedes it, and when
that does not come, the hub reads what is missing from the database.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import chain

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chatproto.bus.local import LocalBus
from chatproto.bus.notice import GIVEN, HINT, KEEP, PART2, Follow, Missed, Notice
from chatproto.clock import Clock, Timers
from chatproto.connection.state import ADMIN, CLOSING, ConnectionState, Phase
from chatproto.domain.model import Known, Principal, Role, group_topic
from chatproto.errors import StorageError
from chatproto.wire import codes
from chatproto.wire.frame import push

log = Logger()

SPREAD = 10.0
"""Seconds over which all are told that pushes may have been lost."""
PATIENCE = 0.2
"""Seconds that news may come before what precedes it."""


Catch = Callable[[Principal, int, Known | None], Awaitable[Missed]]
"""(who, conversation_id, what the connection knows; None: nothing) → what it missed."""
Compare = Callable[[dict[int, int], Sequence[int]], Awaitable[tuple[set[int], dict[int, set[int]]]]]
"""(revs by conversation, admin ids) → conversations with another rev, and by admin whom the admin serves."""


class Hub:
    """Who is connected here.

    :param catch: reads what a connection missed.
    :param compare: reads which conversations have moved on.
    :param wall: Unix seconds: no pushes to whose token has expired, until a new login.
    """

    def __init__(self, bus: LocalBus, clock: Clock, catch: Catch, compare: Compare, wall: Callable[[], float]) -> None:
        self._bus = bus
        self._timers = Timers(clock)
        self._catch = catch
        self._compare = compare
        self._wall = wall
        self._topics: dict[str, dict[ConnectionState, None]] = {}
        self._joined: dict[ConnectionState, Principal] = {}
        bus.attach(self.deliver)

    # Coming and going.

    async def join(self, connection: ConnectionState, principal: Principal) -> None:
        """Hold the news for a connection that is logging in; returns once none can be missed."""
        before = self._joined.get(connection)
        if before is not None and _topics(before) != _topics(principal):
            # The admin was moved to another group since: the news of the old one ends.
            self.leave(connection)
        connection.held = []
        self._joined[connection] = principal
        for topic in _topics(principal):
            members = self._topics.setdefault(topic, {})
            members[connection] = None
            await self._bus.subscribe(topic)

    def release(self, connection: ConnectionState, knows: Mapping[int, Known]) -> None:
        """The reply to the login has left: tell what is newer than it."""
        connection.knows = dict(knows)
        early, connection.early = connection.early or {}, None
        held, connection.held = connection.held or [], None
        for notice in chain(*early.values(), held):
            self._hand(connection, notice)

    def leave(self, connection: ConnectionState) -> None:
        """Forget a connection, if it joined."""
        connection.held = None
        principal = self._joined.pop(connection, None)
        for topic in _topics(principal) if principal is not None else ():
            members = self._topics.get(topic, {})
            members.pop(connection, None)
            if not members and self._topics.pop(topic, None) is not None:
                self._bus.unsubscribe(topic)

    def connections(self) -> list[ConnectionState]:
        """All that are logged in."""
        return list(self._joined)

    def stop(self) -> None:
        """Wait for no news any more."""
        self._timers.stop()

    # News.

    def skip(self, topic: str, ix: str, conversation_id: int, rev: int, last_seq: int, steps: int) -> bool:
        """Whether news that says nothing to the connection *ix* needs no notice, as nobody else has joined the topic.

        Then that connection knows *rev* from here on. The parameters are those of the notice.
        """
        members = self._topics.get(topic)
        if members is None or len(members) > 1:
            return False
        [connection] = members
        known = connection.knows.get(conversation_id)
        if connection.ix != ix or connection.held is not None or connection.early:
            return False
        if known is None or rev != known.rev + steps:
            return False
        connection.knows[conversation_id] = Known(rev, last_seq)
        return True

    def deliver(self, notice: Notice) -> None:
        """Tell the connections of the notice's topic."""
        members = self._topics.get(notice.topic)
        if not members:
            return
        follow, conversation_id, rev = notice.follow, notice.conversation_id or 0, notice.rev
        before = rev - notice.steps
        if follow is HINT:
            self._hint(members, notice)
            return
        for connection in tuple(members):
            known = connection.knows.get(conversation_id)
            if connection.held is not None and notice.close is None:
                connection.held.append(notice)
            elif known is not None and before == known.rev and follow is KEEP and not connection.early:
                # Nearly always.
                connection.knows[conversation_id] = Known(rev, notice.last_seq or known.last_seq)
                if notice.frames:
                    self._write(connection, notice)
            else:
                self._hand(connection, notice)

    def _hint(self, members: Iterable[ConnectionState], notice: Notice) -> None:
        """Tell those who follow the conversation, unless anything else waits for them: that comes first."""
        for connection in tuple(members):
            free = connection.held is None and not connection.early and not connection.unsent
            if free and notice.conversation_id in connection.knows:
                self._write(connection, notice)

    def follows(self, topic: str, conversation_id: int) -> bool:
        """Whether a connection of the topic follows the conversation: of an admin, one that the admin serves."""
        return any(conversation_id in connection.knows for connection in self._topics.get(topic, ()))

    def _hand(self, connection: ConnectionState, notice: Notice) -> None:
        if notice.steps > 1:
            # Some of them may be known, or come too early.
            for step in notice.singly():
                self._hand(connection, step)
            return
        if notice.close is not None:
            if connection.ix != notice.but_not:
                connection.link.close(*notice.close)
            return
        conversation_id = notice.conversation_id
        if conversation_id is None:
            self._write(connection, notice)
            return
        known = connection.knows.get(conversation_id)
        if known is not None and notice.rev == known.rev + 1 and notice.follow is KEEP:
            connection.knows[conversation_id] = Known(notice.rev, notice.last_seq or known.last_seq)
            self._write(connection, notice)
            if connection.early:
                self._hand_early(connection, conversation_id)
        elif known is None:
            left = connection.left.get(conversation_id, 0) if connection.left else 0
            if notice.rev > left:
                self._advance(connection, conversation_id, notice)
        elif notice.follow is Follow.ASIDE or notice.rev <= known.rev:
            return
        elif notice.rev == known.rev + 1 or notice.follow is Follow.BEGIN:
            self._advance(connection, conversation_id, notice)
            if connection.early:
                self._hand_early(connection, conversation_id)
        else:
            self._keep_early(connection, conversation_id, notice)

    def _advance(self, connection: ConnectionState, conversation_id: int, notice: Notice) -> None:
        self._write(connection, notice)
        if notice.follow is Follow.BEGIN:
            connection.knows[conversation_id] = Known(notice.rev, notice.last_seq)
        elif notice.follow is Follow.END:
            self._forget(connection, conversation_id, notice.rev)

    def _forget(self, connection: ConnectionState, conversation_id: int, rev: int) -> None:
        """From here on, older news of the conversation would be wrong, newer would not."""
        connection.knows.pop(conversation_id, None)
        if connection.left is None:
            connection.left = {}
        connection.left[conversation_id] = rev

    def _write(self, connection: ConnectionState, notice: Notice) -> None:
        principal, phase, but_not = connection.principal, connection.phase, notice.but_not
        if principal is None or phase is CLOSING:
            return
        if principal.expires_at is not None and self._wall() >= principal.expires_at:
            return
        if but_not is not None and (but_not == connection.ix or but_not == principal.topic):
            return
        not_for_it = PART2 if connection.v < 2 and phase is ADMIN else GIVEN
        for frame, audience in notice.frames:
            if audience != not_for_it:
                connection.sent += 1
                if connection.out:
                    connection.push(frame)
                else:
                    connection.link.send(frame, True)

    # What came too early, or not at all.

    def _keep_early(self, connection: ConnectionState, conversation_id: int, notice: Notice) -> None:
        if connection.early is None:
            connection.early = {}
        early = connection.early.setdefault(conversation_id, [])
        early.append(notice)
        if len(early) == 1:
            self._timers.call(PATIENCE, self._still_early, connection, conversation_id)

    def _hand_early(self, connection: ConnectionState, conversation_id: int) -> None:
        assert connection.early is not None
        early = connection.early.pop(conversation_id, [])
        for notice in sorted(early, key=lambda notice: notice.rev):
            self._hand(connection, notice)

    def _still_early(self, connection: ConnectionState, conversation_id: int) -> None:
        if connection.early and conversation_id in connection.early and connection.phase is not Phase.CLOSING:
            self._start_catching_up(connection, [conversation_id])

    def _start_catching_up(self, connection: ConnectionState, conversation_ids: Iterable[int]) -> None:
        catching = Deferred.fromCoroutine(self._catch_up(connection, conversation_ids))
        catching.addErrback(lambda failure: log.failure("a connection could not catch up", failure))

    async def _catch_up(self, connection: ConnectionState, conversation_ids: Iterable[int]) -> None:
        for conversation_id in conversation_ids:
            principal, before = connection.principal, connection.knows.get(conversation_id)
            if principal is None or connection.phase is Phase.CLOSING or connection.held is not None:
                return
            try:
                missed = await self._catch(principal, conversation_id, before)
            except StorageError:
                # The next news of the conversation, or the next comparison, finds the same difference.
                if connection.early:
                    connection.early.pop(conversation_id, None)
                return
            known = connection.knows.get(conversation_id)
            if known != before or (known is not None and known == missed.known):
                continue
            self._tell_missed(connection, conversation_id, missed)

    def _tell_missed(self, connection: ConnectionState, conversation_id: int, missed: Missed) -> None:
        if missed.too_many:
            self.gap(connection)
        else:
            self._write(connection, Notice("", tuple(missed.frames)))
        if missed.known is not None:
            connection.knows[conversation_id] = missed.known
        else:
            self._forget(connection, conversation_id, missed.rev)
        if connection.early:
            self._hand_early(connection, conversation_id)

    def gap(self, connection: ConnectionState) -> None:
        """Say that pushes may have been lost."""
        number = codes.PUSH_ADMIN_GAP if connection.phase is Phase.ADMIN else codes.PUSH_GUEST_GAP
        self._write(connection, Notice("", ((push(number, {}), PART2),)))

    def gap_everywhere(self) -> None:
        """This node was given up and is back: say so to all."""
        everybody = self.connections()
        for place, connection in enumerate(everybody):
            # Not at once: each of them will ask for its list.
            self._timers.call(SPREAD * place / len(everybody), self.gap, connection)

    async def compare(self) -> None:
        """Compare what the connections know with the database; silent loss heals here, every 30 s."""
        revs: dict[int, int] = {}
        admins: set[int] = set()
        everybody = self.connections()
        for connection in everybody:
            if connection.principal is not None and connection.principal.person.role is Role.ADMIN:
                admins.add(connection.principal.person.id)
            for conversation_id, known in connection.knows.items():
                revs[conversation_id] = min(known.rev, revs.get(conversation_id, known.rev))
            connection.left = None
        if not everybody:
            return
        moved, served = await self._compare(revs, sorted(admins))
        for connection in everybody:
            principal = connection.principal
            if principal is None or connection.held is not None:
                continue
            behind = {conversation_id for conversation_id in connection.knows if conversation_id in moved}
            if principal.person.role is Role.ADMIN:
                behind |= served.get(principal.person.id, set()) - connection.knows.keys()
            if behind:
                try:
                    await self._catch_up(connection, sorted(behind))
                except Exception:
                    log.failure("a connection could not catch up")


def _topics(principal: Principal) -> tuple[str, ...]:
    if principal.person.role is Role.ADMIN:
        return (principal.topic, group_topic(principal.group_id))
    return (principal.topic,)
