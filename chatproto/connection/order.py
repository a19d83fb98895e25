"""When commands start, and when they are too late.

Commands of a connection start in order. A send counts as started once it stands in the journal, so neighbouring
sends share a batch; any other command waits for all before it and holds all after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred

from chatproto.clock import Clock, Timer
from chatproto.commands.table import Command
from chatproto.connection.state import ConnectionState, Slot
from chatproto.wire.frame import Frame, RequestId


class Work(Slot, eq=False):
    """A command from its arrival to its end, and the place of its reply.

    :ivar frame: None once it has started: many may be under way, and what was asked is with the service then.
    :ivar deadline: when it has to be answered, in seconds of the monotonic clock.
    :ivar answered: the reply has been sent, maybe only that it took too long.

    Called with what became of the command, it is over.
    """

    connection: ConnectionState
    command: Command
    frame: Frame | None
    request_id: RequestId
    deadline: float
    over: Callable[[Work, object], None]
    started: bool = False
    answered: bool = False

    def __call__(self, result: object) -> None:
        self.over(self, result)


class Order:
    """The commands under way of all connections.

    :param start: begins a command, whose work is called when that is over.
    :param over: is told so; it calls :meth:`ended` and :meth:`go_on`.
    :param late: answers a command whose time is over; one that has not started by then never does.
    :param alive: False while nothing may start; :meth:`woken` tells that it is True again.
    :param timeout: seconds from a command's arrival to its reply at the latest.
    :param max_waiting: commands of one connection that wait, past which its reading pauses.
    :param max_logins: logins under way at once; the others wait in line. A thousand clients that come back together
        are let in one after the other, instead of all being too late together.
    """

    def __init__(
        self,
        start: Callable[[Work], None],
        over: Callable[[Work, object], None],
        late: Callable[[Work], None],
        alive: Callable[[], bool],
        clock: Clock,
        *,
        timeout: float,
        max_waiting: int,
        max_logins: int,
    ) -> None:
        self._start = start
        self._over = over
        self._late = late
        self._alive = alive
        self._clock = clock
        self._timeout = timeout
        self._max_waiting = max_waiting
        self._max_logins = max_logins
        self._logins = 0
        self._in_line: dict[ConnectionState, None] = {}
        self._letting_in = False
        self._by_deadline: deque[Work] = deque()
        self._timer: Timer | None = None
        self._stalled: dict[ConnectionState, None] = {}
        self._under_way = 0
        self._drained: list[Deferred[None]] = []

    def add(self, connection: ConnectionState, command: Command, frame: Frame, now: float) -> None:
        """A command has arrived."""
        work = Work(None, connection, command, frame, frame.request_id, now + self._timeout, self._over)
        connection.out.append(work)
        self._under_way += 1
        self._by_deadline.append(work)
        if self._timer is None:
            self._timer = self._clock.callLater(self._timeout, self._look_for_late)
        if not connection.waiting and not connection.starting and self._may_start(connection, work):
            # Nearly always.
            self._begin(connection, work)
            return
        connection.waiting.append(work)
        if self.full(connection):
            connection.link.pause()

    def full(self, connection: ConnectionState) -> bool:
        """Whether so much waits that nothing more is read."""
        return len(connection.waiting) > self._max_waiting

    def go_on(self, connection: ConnectionState) -> None:
        """Start what may start; what ends while it starts is no reason to begin again inside."""
        if connection.starting:
            return
        if connection.waiting:
            self._start_waiting(connection)
        if self._in_line and not self._letting_in:
            self._let_in()
        if self._drained:
            self._tell_drained()

    def _start_waiting(self, connection: ConnectionState) -> None:
        connection.starting = True
        try:
            while connection.waiting and self._may_start(connection, connection.waiting[0]):
                work = connection.waiting.pop(0)
                if len(connection.waiting) == self._max_waiting:
                    connection.link.resume()
                if not work.answered:
                    self._begin(connection, work)
        finally:
            connection.starting = False

    def _begin(self, connection: ConnectionState, work: Work) -> None:
        command = work.command
        work.started = True
        connection.running += 1
        connection.alone = not command.overlaps
        if command.role is None:
            self._logins += 1
        self._start(work)

    def _let_in(self) -> None:
        """The next logins, first come, first served."""
        self._letting_in = True
        while self._in_line and self._logins < self._max_logins and self._alive():
            connection = next(iter(self._in_line))
            del self._in_line[connection]
            self.go_on(connection)
        self._letting_in = False

    @property
    def logins_waiting(self) -> int:
        """How many logins stand in line."""
        return len(self._in_line)

    def _may_start(self, connection: ConnectionState, work: Work) -> bool:
        running = connection.running
        if connection.alone or (running and (not work.command.overlaps or running >= self._max_waiting)):
            # Past as many as may wait, sends wait too: their texts are kept until the database has them.
            return False
        if connection.link.congested:
            # What it asked for already is not taken; dispatch comes back when it is.
            return False
        if not self._alive():
            self._stalled[connection] = None
            return False
        if work.command.role is None and not work.answered and self._logins >= self._max_logins:
            self._in_line[connection] = None
            return False
        return True

    def ended(self, work: Work) -> bool:
        """A command is over; its reply comes next, unless this returns False: it was answered as too late before."""
        connection = work.connection
        connection.running -= 1
        connection.alone = False
        if work.command.role is None:
            self._logins -= 1
        self._under_way -= 1
        if work.answered:
            return False
        work.answered = True
        queue = self._by_deadline
        while queue and queue[0].answered:
            queue.popleft()
        return True

    def woken(self) -> None:
        """Commands may start again."""
        stalled, self._stalled = self._stalled, {}
        for connection in stalled:
            self.go_on(connection)
        if self._in_line and not self._letting_in:
            self._let_in()

    def _look_for_late(self) -> None:
        """One timer serves all, as all have the same time."""
        self._timer = None
        now = self._clock.seconds()
        queue = self._by_deadline
        while queue and (queue[0].answered or queue[0].deadline <= now):
            work = queue.popleft()
            if not work.answered:
                work.answered = True
                if not work.started:
                    self._under_way -= 1
                self._late(work)
        if queue:
            self._timer = self._clock.callLater(queue[0].deadline - now, self._look_for_late)
        self._tell_drained()

    def drain(self) -> Deferred[None]:
        """Fires when nothing is under way, in a turn of its own: what a last answer causes is told before."""
        done: Deferred[None] = Deferred()
        self._drained.append(done)
        self._tell_drained()
        return done

    def _tell_drained(self) -> None:
        if not self._under_way:
            drained, self._drained = self._drained, []
            for done in drained:
                self._clock.callLater(0, done.callback, None)

    def stop(self) -> None:
        """Forget the timer."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
