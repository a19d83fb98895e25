"""The one timer: pings, closes who is silent, and runs what has to be done every few seconds.

No timer per connection: each says when it is due, and once a second those that are get looked at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from math import floor, inf
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from chatproto.clock import Timer
from chatproto.connection.state import ConnectionState, Phase
from chatproto.errors import StorageError
from chatproto.wire.codes import CLOSE_NOT_LOGGED_IN, CLOSE_SILENT

if TYPE_CHECKING:
    from chatproto.config import Config


CLOSE_TIMEOUT = 5.0  # seconds that a peer has to answer a close frame
PAUSE_TIMEOUT = 30.0  # seconds that reading may pause: until then neither FIN nor RST would be noticed

BEAT = 1.0
A_TURN = 64  # connections that are looked at before others get their turn: thousands may be due in one beat
SLEPT = 2.0  # later than this the process slept, and what peers sent meanwhile is still unread


class Beating(Protocol):
    """What the heartbeat needs of a connection; all times are seconds of its clock."""

    due: float
    accepted_at: float
    pinged_at: float
    paused_at: float | None
    closing_at: float | None
    behind: bool
    filled_at: float

    @property
    def connection(self) -> ConnectionState | None: ...

    @property
    def stuck(self) -> bool: ...

    def give_up(self) -> None: ...

    def ping(self) -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    def abort(self) -> None: ...


def attend(link: Beating, now: float, config: Config) -> float:
    """Do what is due for one connection.

    :returns: when it is due again, if nothing else happens to it.
    """
    if link.closing_at is not None:
        if now >= link.closing_at + CLOSE_TIMEOUT:
            link.abort()
            return inf
        return link.closing_at + CLOSE_TIMEOUT
    connection = link.connection
    if connection is None:
        if now >= link.accepted_at + config.login_timeout:
            link.close(CLOSE_NOT_LOGGED_IN, "no request in time")
            return now + CLOSE_TIMEOUT
        return link.accepted_at + config.login_timeout
    if link.stuck:
        link.give_up()
        return now + CLOSE_TIMEOUT
    next_due = now + BEAT if link.behind else inf
    if connection.phase is Phase.NEW:
        login_by = connection.login_from + config.login_timeout
        if now >= login_by:
            link.close(CLOSE_NOT_LOGGED_IN, "not logged in in time")
            return now + CLOSE_TIMEOUT
        next_due = min(next_due, login_by)
    if link.paused_at is not None:
        # A peer that takes something, be it slowly, is still there.
        end_at = max(link.paused_at, link.filled_at) + PAUSE_TIMEOUT
        if now >= end_at:
            link.abort()
            return inf
        # Silence counts from the resume, which may come at any time.
        return min(next_due, end_at, now + config.ping_after)
    heard = connection.last_heard
    if now >= heard + config.dead_after:
        link.close(CLOSE_SILENT, "silent")
        return now + CLOSE_TIMEOUT
    ping_at = max(heard, link.pinged_at) + config.ping_after
    if now >= ping_at:
        link.ping()
        ping_at = now + config.ping_after
    return min(next_due, ping_at, heard + config.dead_after)


class _Job:
    """Something to be done every *seconds*; the next run waits for the end of the last one."""

    def __init__(self, name: str, seconds: float, work: Callable[[], Awaitable[object]], due: float) -> None:
        self.name = name
        self.seconds = seconds
        self.work = work
        self.due = due
        self.running: Deferred[None] | None = None


class Heartbeat:
    """Runs from :meth:`start` to :meth:`stop`.

    :param connections: those of the factory; read anew at each beat.
    """

    _log = Logger()

    def __init__(self, clock: Any, connections: Iterable[Beating], config: Config) -> None:
        self._clock = clock
        self._connections = connections
        self._config = config
        self._jobs: list[_Job] = []
        self._loop = LoopingCall(self._beat)
        self._loop.clock = clock
        self._attending: Timer | None = None
        self._started_at = 0.0
        self._expected_at = 0.0

    def every(self, seconds: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Run *work* (a coroutine function) every so many seconds, for the first time after as many.

        An error is logged, and the next run comes all the same; when the database failed, with the next beat.

        :param seconds: at least 1, the beat.
        :param name: what the log calls it.
        """
        self._jobs.append(_Job(name, seconds, work, self._clock.seconds() + seconds))

    def start(self) -> None:
        self._started_at = self._clock.seconds()
        self._expected_at = self._started_at + BEAT
        self._loop.start(BEAT, now=False)

    async def stop(self) -> None:
        """Start nothing more, and wait for the jobs that run."""
        if self._loop.running:
            self._loop.stop()
        attending, self._attending = self._attending, None
        if attending is not None:
            attending.cancel()
        await DeferredList([job.running for job in self._jobs if job.running is not None])

    def _beat(self) -> None:
        now = self._clock.seconds()
        late = now - self._expected_at
        self._expected_at = self._started_at + (floor((now - self._started_at) / BEAT) + 1) * BEAT
        if late > SLEPT or late < -SLEPT:
            self._forgive(now)
        if self._attending is None:
            self._attend([link for link in self._connections if link.due <= now])
        for job in self._jobs:
            if job.due <= now and job.running is None:
                self._run(job, now)

    def _attend(self, links: list[Beating]) -> None:
        """Look at those that are due, some in this turn and the others in the next ones."""
        now = self._clock.seconds()
        for link in links[:A_TURN]:
            if link.due > now:
                continue
            try:
                link.due = attend(link, now, self._config)
            except Exception:
                link.due = now + BEAT
                self._log.failure("Cannot attend to a connection")
        rest = links[A_TURN:]
        self._attending = self._clock.callLater(0, self._attend, rest) if rest else None

    def _forgive(self, now: float) -> None:
        """After a sleep of the process, or a jump of the clock, every time limit starts anew: nobody could be heard."""
        for link in self._connections:
            if link.due == inf:
                continue
            link.due = link.accepted_at = link.pinged_at = link.filled_at = now
            link.paused_at = None if link.paused_at is None else now
            link.closing_at = None if link.closing_at is None else now
            if link.connection is not None:
                link.connection.opened_at = link.connection.last_heard = now
                link.connection.login_from = max(link.connection.login_from, now)

    def _run(self, job: _Job, now: float) -> None:
        job.due = now + job.seconds

        async def logged() -> None:
            try:
                await job.work()
            except StorageError as error:
                self._log.warn("{job} failed: {error}", job=job.name, error=str(error))
                # A database that is back is waited for: a node that was given up meanwhile starts no command before.
                job.due = self._clock.seconds()
            except Exception:
                self._log.failure("{job} failed", job=job.name)

        def ended(result: None) -> None:
            job.running = None

        running = Deferred.fromCoroutine(logged())
        job.running = running
        running.addCallback(ended)
