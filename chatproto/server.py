"""The composition root: builds the parts from a configuration, starts and stops them in order."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, TimeoutError, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from chatproto.bus.local import LocalBus
from chatproto.commands.announce import Announcer
from chatproto.commands.missed import MissedNews
from chatproto.commands.news import News
from chatproto.commands.table import Services
from chatproto.config import Config
from chatproto.connection.admission import Admission
from chatproto.connection.dispatch import Dispatch
from chatproto.connection.heartbeat import Heartbeat
from chatproto.connection.hub import Hub
from chatproto.connection.lag import Lag
from chatproto.connection.protocol import ChatFactory
from chatproto.connection.rate import Newcomers, Rate
from chatproto.demo import CUSTOMER, Demo, new_password, seed_demo
from chatproto.domain.events import GroupChanged
from chatproto.domain.tokens import load_keyring
from chatproto.embedded import EmbeddedPostgres
from chatproto.errors import StartError, StorageError
from chatproto.files.store import FileStore, arrivals_of, place_of
from chatproto.identity import NodeName
from chatproto.listening import Acceptor, Certificates, endpoint
from chatproto.memory import Tide, trim
from chatproto.services.assignment import Assignment
from chatproto.services.catchup import CatchUp
from chatproto.services.guests import Guests
from chatproto.services.messaging import Messaging
from chatproto.services.operator import Operator
from chatproto.services.passwords import Passwords
from chatproto.services.presence import Node, Patience
from chatproto.services.recall import Recalls
from chatproto.services.sessions import Sessions
from chatproto.services.typing import Typing
from chatproto.services.uploads import UploadLimits, Uploads
from chatproto.storage.assignment import AssignmentStore
from chatproto.storage.control import Control
from chatproto.storage.journal import Journal
from chatproto.storage.marks import ReadMarks
from chatproto.storage.migrations import migrate
from chatproto.storage.pool import Pool
from chatproto.storage.presence import Session
from chatproto.storage.registry import CHANNEL
from chatproto.web.assets import Assets
from chatproto.web.files import Files
from chatproto.web.login import Login
from chatproto.web.pages import pages
from chatproto.web.site import make_site
from chatproto.web.uploads import Uploader
from chatproto.wire import codes
from chatproto.wire.fields import Limits

log = Logger()

RENEW_EVERY = 5.0
COMPARE_EVERY = 30.0
ROUND_EVERY = 1.0
EBB_EVERY = 15.0
WAITERS = 4
"""Links for messages whose conversation stays locked: so many stuck rows delay nobody, more delay each other."""
MOMENT = 0.25
"""Seconds that a part has to stop in when the drain time is over."""


@dataclass(frozen=True, slots=True)
class Pools:
    """The links to the database, apart by what they are for, so that nobody waits for somebody else's work.

    :ivar journal: one link: two commits in flight were slower than one. So with *marks*.
    :ivar waiters: for messages whose conversation stays locked.
    :ivar node: for the lease: however many commands wait for a link, this node is not given up.
    """

    general: Pool
    journal: Pool
    waiters: Pool
    marks: Pool
    node: Pool


class ChatServer:
    """One node: everything between the port and the database.

    :param reactor: with a monotonic ``seconds``.
    :param died: called with one line when the server cannot go on.
    """

    def __init__(self, config: Config, reactor: Any, died: Callable[[str], None]) -> None:
        self.config = config
        self._reactor = reactor
        self._died = died
        self._name = NodeName(config.data)
        self._postgres: EmbeddedPostgres | None = None
        self._certificates: list[Certificates] = []
        self._undo: list[Callable[[], Awaitable[object]]] = []
        self._stopping = False
        self.ports: list[Any] = []
        self.dsn = ""
        self.demo: Demo | None = None
        self.demo_password = ""

    # Start.

    async def start(self) -> None:
        """Open everything; whatever was opened is closed again when a later step fails.

        :raises StartError: one line that says why.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        config = self.config
        self.dsn = config.database or await self._start_postgres()
        config.data.mkdir(parents=True, exist_ok=True)
        name = self._name.take()
        self._undo.append(self._give_back_name)
        keyring = load_keyring(config)
        pools = Pools(
            general=await self._open_pool("general", config.pool_size),
            journal=await self._open_pool("journal", 1),
            waiters=await self._open_pool("waiters", WAITERS),
            marks=await self._open_pool("marks", 1),
            node=await self._open_pool("node", 1),
        )
        self.pool = pools.general
        await migrate(self.pool)
        self._build(name, keyring, pools)
        await self.node.start()
        self._undo += [self._leave, self._flushed]
        await self.store.start()
        self._undo += [self.store.stop, self.uploader.idle]
        await self.uploads.tidy()
        control = Control(self.dsn, self._reactor, CHANNEL, self._heard, self._heard_nothing)
        await control.start()
        self._undo.append(control.close)
        self.heartbeat.start()
        self.lag.start()
        self._undo += [self.heartbeat.stop, self._stop_looking]
        if config.demo:
            operator = Operator(self.pool, self.assignment)
            self.demo = await seed_demo(operator)
            self.demo_password = await new_password(operator, self.demo)
        await self._listen()

    async def _start_postgres(self) -> str:
        self._postgres = EmbeddedPostgres(self.config.data, reactor=self._reactor, died=self._postgres_died)
        dsn = await self._postgres.start()
        self._undo.append(self._postgres.stop)
        return dsn

    async def _open_pool(self, name: str, size: int) -> Pool:
        config = self.config
        pool = Pool(
            self.dsn,
            clock=self._reactor,
            size=size,
            waiting=config.pool_waiting,
            timeout=config.query_timeout,
            name=name,
        )
        await pool.start()
        self._undo.append(pool.close)
        return pool

    def _build(self, name: str, keyring: Any, pools: Pools) -> None:
        config, reactor, pool = self.config, self._reactor, pools.general
        grace = int(config.grace * 1000)
        self.assignment = assignment = Assignment(AssignmentStore(pool, grace=grace))
        marks = ReadMarks(pools.marks, reactor, timeout=config.query_timeout, batch_size=config.batch_size)
        patience = Patience(grace, _milliseconds(config.service_idle), _milliseconds(config.queue_leave))
        self.node = Node(pools.node, assignment, reactor, name, patience, self._live_sessions, self._returned)
        sessions = Sessions(
            pool,
            assignment,
            self.node,
            anonymous_guests=config.anonymous_guests,
            max_connections=config.max_connections_per_identity,
        )
        self.catch_up = CatchUp(pool)
        bus = LocalBus()
        self.news = News(self.catch_up.group, bus.publish, reactor)
        self.hub = Hub(bus, reactor, MissedNews(self.catch_up), self.catch_up.moved, time.time)
        self.announce = Announcer(bus.publish, self.hub.skip, self.news)
        self.journal = Journal(
            pools.journal,
            pools.waiters,
            reactor,
            timeout=config.query_timeout,
            batch_size=config.batch_size,
            queue_size=config.queue_size,
            together=self.announce,
        )
        self.services = Services(
            sessions=sessions,
            messaging=Messaging(self.journal, marks, assignment, pool),
            assignment=assignment,
            guests=Guests(pool),
            recalls=Recalls(pool, int(config.recall_within * 1000)),
            typing=Typing(pool, reactor, self.hub.follows),
            keyring=keyring,
            newcomers=Newcomers(config.anonymous_per_minute, reactor.seconds),
            wall=time.time,
            limits=Limits(
                max_url=config.max_url,
                max_profile=config.max_profile,
                max_note=config.max_note,
                max_text=config.max_text,
                max_body=config.max_body,
                max_page=config.max_page,
            ),
            refresh_limit=config.refresh_limit,
            max_page_bytes=config.max_page_bytes,
        )
        self.dispatch = Dispatch(
            self.services,
            self.hub,
            self.announce,
            self.node.alive,
            reactor,
            Rate(config.rate, config.burst),
            language=config.language,
            timeout=config.query_timeout,
            max_waiting=config.max_waiting,
            max_logins=config.max_logins,
            max_logins_waiting=config.max_logins_waiting,
        )
        self._build_uploads(name, sessions)
        site = make_site(self._readiness, reactor, self._pages())
        self.factory = ChatFactory(config, self.dispatch, reactor, site, self.uploader)
        self.acceptor = Acceptor(reactor, lambda: self.factory.admission.total)
        self.lag = Lag(reactor)
        self.heartbeat = Heartbeat(reactor, self.factory.connections, config)
        self.heartbeat.every(RENEW_EVERY, "renewing the lease", self._renew)
        self.heartbeat.every(ROUND_EVERY, "looking after the cluster", self._look_after_cluster)
        self.heartbeat.every(ROUND_EVERY, "expiring connections", self._expire)
        admission = self.factory.admission
        tide = Tide(admission.highest, lambda: admission.total, trim)
        self.heartbeat.every(EBB_EVERY, "giving memory back", tide.look)
        self.heartbeat.every(COMPARE_EVERY, "comparing with the database", self._compare)

    def _build_uploads(self, name: str, sessions: Sessions) -> None:
        config, reactor = self.config, self._reactor
        place = place_of(config.files, config.bucket_endpoint, config.data)
        self.store = FileStore(place, arrivals_of(config.files, config.data, name), reactor, config.min_free)
        self.uploads = Uploads(
            self.pool,
            self.store,
            sessions,
            name,
            UploadLimits(
                image=config.max_image,
                voice=config.max_voice,
                video=config.max_video,
                file=config.max_file,
                quota=config.upload_quota,
            ),
            lambda: self.services.keyring,
            time.time,
        )
        self.uploader = Uploader(self.uploads, config, reactor.seconds, lambda: self.dispatch.draining)

    def _pages(self) -> dict[bytes, Any]:
        """What the HTTP side shows beside the two for health."""
        config = self.config
        login = Login(
            Passwords(self.pool, partial(deferToThreadPool, self._reactor, self._reactor.getThreadPool())).admin,
            lambda admin_id: self.services.keyring.issue({"admin_id": admin_id}, config.password_life, time.time()),
            Admission(config).client_address,
            self._reactor.seconds,
            per_name=config.password_tries,
            per_address=config.password_tries_per_address,
        )
        shown = pages(
            Assets(),
            image_hosts=config.image_hosts,
            recall_within=config.recall_within,
            max_text=config.max_text,
            shops=config.origins,
            login=login,
            demo=self._sign_customer if config.demo else None,
        )
        return {**shown, b"files": Files(self.uploads, self.store)}

    def _sign_customer(self) -> str:
        """A token for Gina, who shops in the demo."""
        return self.services.keyring.issue(CUSTOMER, self.config.password_life, time.time())

    async def _listen(self) -> None:
        self._undo.append(self._close_ports)
        for description in self.config.listen:
            server, certificates = endpoint(self._reactor, description)
            if certificates is not None:
                self._certificates.append(certificates)
            try:
                port = await server.listen(self.factory)
            except Exception as error:
                raise StartError(f"cannot listen on {description}: {error}") from None
            self.acceptor.watch(port)
            self.ports.append(port)

    # Jobs.

    async def _renew(self) -> None:
        self.announce(await self.node.renew())
        self.dispatch.woken()
        self.announce(await self.services.sessions.settle_owed())

    async def _look_after_cluster(self) -> None:
        if self.pool.ready and self.node.alive():
            self.announce(await self.node.look_after_cluster())

    async def _expire(self) -> None:
        self.dispatch.expire()

    async def _compare(self) -> None:
        """Heal what no bus and no notification told: other processes, lost news, a database that was away."""
        if self.pool.ready:
            await self._look_again(None, frozenset())

    async def _look_again(self, changed: int | None, admins: frozenset[int]) -> None:
        """See what became of everybody here.

        :param changed: the group of which something is told; in it colleagues of these *admins* may see something else.
        """
        await self.hub.compare()
        principals = {c.principal for c in self.hub.connections() if c.principal is not None}
        expelled = await self.catch_up.expelled(list(principals))
        for connection in self.hub.connections():
            if connection.principal in expelled:
                connection.link.close(*expelled[connection.principal])
        groups = {principal.group_id for principal in principals}
        nobody: frozenset[int] = frozenset()
        self.announce([GroupChanged(id_, admins if id_ == changed else nobody, queue=True) for id_ in groups])

    def _live_sessions(self) -> Sequence[Session]:
        live = []
        for connection in self.hub.connections():
            principal = connection.principal
            if principal is not None:
                person = principal.person
                live.append(Session(connection.ix, person.role, person.id, principal.group_id))
        return live

    def _returned(self) -> None:
        self.hub.gap_everywhere()

    # Control: what the command line changed.

    def _heard(self, payload: str) -> None:
        self._run(self._follow_change(payload), "a change told by the database could not be followed")

    def _heard_nothing(self) -> None:
        self._heard("{}")

    async def _follow_change(self, payload: str) -> None:
        """Accounts, groups or capacities were changed by another process."""
        try:
            await self._look_again(*_told(payload))
        except StorageError as error:
            log.warn("a change is followed at the next comparison: {error}", error=str(error))

    def _run(self, work: Any, complaint: str) -> None:
        Deferred.fromCoroutine(work).addErrback(lambda failure: log.failure(complaint, failure))

    # Life.

    def _readiness(self) -> bool | str:
        if self.dispatch.draining:
            return "shutting down"
        if not self.pool.ready:
            return "no connection to the database"
        return True if self.node.alive() else "the lease of this node is over"

    def read_again(self) -> None:
        """HUP: the keys and certificates as they are now; on an error the old ones stay."""
        try:
            keyring = load_keyring(self.config)
            for certificates in self._certificates:
                certificates.read_again()
            self.services.keyring = keyring
        except StartError as error:
            log.error("keys and certificates stay as they were: {error}", error=str(error))
        else:
            log.info("keys and certificates were read again")

    def _postgres_died(self, line: str) -> None:
        log.error("{line}; starting it again", line=line)

        async def again() -> None:
            assert self._postgres is not None
            try:
                await self._postgres.start()
            except StartError as error:
                if not self._stopping:
                    self._died(f"the embedded PostgreSQL does not come back: {error}")

        self._run(again(), "the embedded PostgreSQL could not be started again")

    # Stop, in the reverse order of the start.

    async def stop(self) -> None:
        """Drain and close everything that was opened, within the drain time.

        A step that takes longer (a frozen database, say) is left alone, and the next one has a moment of its own.
        """
        self._stopping = True
        until = self._reactor.seconds() + self.config.drain_timeout
        while self._undo:
            step = Deferred.fromCoroutine(self._undone(self._undo.pop()))
            step.addTimeout(max(until - self._reactor.seconds(), MOMENT), self._reactor)
            try:
                await step
            except TimeoutError:
                log.warn("a part did not stop in time")

    async def _undone(self, undo: Callable[[], Awaitable[object]]) -> None:
        try:
            await undo()
        except StorageError as error:
            # A database that is away ends the sessions of this node by itself, when the lease is over.
            log.warn("could not stop cleanly: {error}", error=str(error))
        except Exception:
            log.failure("could not stop cleanly")

    async def _close_ports(self) -> None:
        """No new connections, then replies for what was received, then 1001 for everybody.

        Commands get at most half of the drain time, so that peers have some of it to answer the close.
        """
        self.acceptor.stop()
        await DeferredList([maybeDeferred(port.stopListening) for port in self.ports])
        drained = self.dispatch.drain()
        drained.addTimeout(self.config.drain_timeout / 2, self._reactor)
        try:
            await drained
        except TimeoutError:
            log.warn("some commands were still under way when the drain time was over")
        self.dispatch.stop()
        self.news.stop()
        self.hub.stop()
        patience = self.config.drain_timeout / 4
        await self.factory.close_all(codes.CLOSE_SHUTTING_DOWN, "shutting down", patience)

    async def _flushed(self) -> None:
        await self.journal.idle()

    async def _stop_looking(self) -> None:
        self.lag.stop()

    async def _leave(self) -> None:
        if self.pool.ready:
            await self.node.stop()

    async def _give_back_name(self) -> None:
        self._name.give_back()


def _told(payload: str) -> tuple[int | None, frozenset[int]]:
    """The group and the admins whom a notification names: ``{"group": id, "admins": [id, …]}``."""
    try:
        told = json.loads(payload)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        return None, frozenset()
    group_id, admins = told.get("group"), told.get("admins")
    ids = admins if isinstance(admins, list) else []
    return group_id if type(group_id) is int else None, frozenset(id_ for id_ in ids if type(id_) is int)


def _milliseconds(seconds: float) -> int | None:
    """0 seconds is never."""
    return int(seconds * 1000) if seconds else None
