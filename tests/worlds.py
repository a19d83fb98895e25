"""What tests of storage and services start from: a group with people in it, and a process that serves them.

A :class:`Server` is what one process of the cluster keeps of the database, without connections: any number of them may
work on one database, in one process of the operating system or in several (tests/integration/peer.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from chatproto.domain.events import Event
from chatproto.domain.model import Person, Principal, Role, Standing
from chatproto.domain.tokens import AdminClaims, GuestClaims
from chatproto.services.assignment import Assignment
from chatproto.services.catchup import CatchUp
from chatproto.services.guests import Guests
from chatproto.services.messaging import Messaging, Sent
from chatproto.services.presence import Node, Patience
from chatproto.services.sessions import GuestLogin, Sessions
from chatproto.storage.assignment import AssignmentStore
from chatproto.storage.journal import Draft, Journal
from chatproto.storage.marks import ReadMarks
from chatproto.storage.pool import Pool
from chatproto.storage.presence import LEASE, Session
from tests.database import DatabaseTestCase, execute

GRACE, SERVICE_IDLE, QUEUE_LEAVE = 45_000, 1_800_000, 600_000
"""The defaults of the protocol, in milliseconds."""

TEXT = 0
"""``file_type`` of a text message."""

_numbers = count(1)


def run(coroutine: Any) -> Deferred[Any]:
    """Start something, so that other things can happen meanwhile."""
    return coroutine if isinstance(coroutine, Deferred) else Deferred.fromCoroutine(coroutine)


async def eventually(holds: Callable[[], Any]) -> None:
    """Wait until *holds* returns something true; the time limit is the test's own."""
    while not holds():
        await deferLater(reactor, 0.01)


class Server:
    """The storage and the services of one process.

    :param timeout: seconds that a statement, and a message in the journal, may take.
    :param time: the clock of the node's lease; the test moves it.
    :ivar live: the sessions that the node brings back, when it was given up.
    :ivar told: what logins that failed had done already.
    """

    def __init__(
        self,
        dsn: str,
        *,
        name: str = "node",
        timeout: float = 5.0,
        journal_clock: Any = reactor,
        batch_size: int = 500,
        queue_size: int = 20_000,
        anonymous_guests: bool = True,
        max_connections: int = 16,
        journal_dsn: str | None = None,
        time: Any = None,
    ) -> None:
        self.name = name
        self.pool = Pool(dsn, clock=reactor, size=4, timeout=timeout, name="general")
        self.batches = Pool(journal_dsn or dsn, clock=reactor, size=1, timeout=timeout, name="journal")
        self.store = AssignmentStore(self.pool, grace=GRACE)
        self.assignment = Assignment(self.store)
        self.journal = Journal(
            self.batches, self.pool, journal_clock, timeout=timeout, batch_size=batch_size, queue_size=queue_size
        )
        self.marks = ReadMarks(self.pool, reactor, timeout=timeout, batch_size=batch_size)
        self.messaging = Messaging(self.journal, self.marks, self.assignment, self.pool)
        self.time = time or Clock()
        self.live: list[Session] = []
        self.told: list[Event] = []
        self.came_back = 0
        self.node = Node(
            self.pool,
            self.assignment,
            self.time,
            name,
            Patience(GRACE, SERVICE_IDLE, QUEUE_LEAVE),
            lambda: self.live,
            self._returned,
        )
        self.sessions = Sessions(
            self.pool, self.assignment, self.node, anonymous_guests=anonymous_guests, max_connections=max_connections
        )
        self.guests = Guests(self.pool)
        self.catch_up = CatchUp(self.pool)

    def _returned(self) -> None:
        self.came_back += 1

    async def start(self) -> None:
        await self.pool.start()
        await self.batches.start()
        await self.node.start()

    async def close(self) -> None:
        await self.pool.close()
        await self.batches.close()

    # Who comes in through this process.

    async def admin_in(self, admin: Principal, ix: str | None = None) -> tuple[str, list[Event]]:
        """Log an admin in on a new connection; returns its ``ix``, and what happened."""
        ix = ix or f"ix{next(_numbers)}"
        principal = await self.sessions.admin(admin_claims(admin.person.id))
        return ix, await self.sessions.admin_login(principal, ix)

    async def guest_in(
        self,
        group_id: int | None = None,
        *,
        claims: GuestClaims | None = None,
        token: str | None = None,
        context: str | None = None,
        ix: str | None = None,
        current: Principal | None = None,
    ) -> GuestLogin:
        """Log a guest in; anonymous where nothing else is said."""
        ix = ix or f"ix{next(_numbers)}"
        return await self.sessions.guest_login(claims, token, group_id, context, ix, current, self.told.extend)

    async def guest(self, group_id: int, **kind: Any) -> Principal:
        """A new guest of the group, logged in."""
        return (await self.guest_in(group_id, **kind)).principal

    # What they do.

    def say(self, guest: Principal, text: str = "hello", cmid: str | None = None) -> Deferred[Any]:
        """A guest writes; fires with (Sent, Standing)."""
        return run(by_guest(self.messaging, guest, cmid, (TEXT, f'"{text}"'), "ix0"))

    def answer(self, admin: Principal, guest: Principal, text: str = "hello", cmid: str | None = None) -> Deferred[Any]:
        """An admin writes to a guest; fires with Sent."""
        return run(by_admin(self.messaging, admin, guest.person.id, cmid, (TEXT, f'"{text}"'), "ix0"))


async def by_guest(messaging: Messaging, *what: Any) -> tuple[Sent, Standing]:
    """``send_as_guest``, to be awaited."""
    done: Deferred[Any] = Deferred()
    send: Callable[..., None] = messaging.send_as_guest
    send(*what, done.callback)
    sent = await done
    return sent, sent.standing


async def by_admin(messaging: Messaging, *what: Any) -> Sent:
    """``send_as_admin``, to be awaited."""
    done: Deferred[Any] = Deferred()
    send: Callable[..., None] = messaging.send_as_admin
    send(*what, done.callback)
    sent: Sent = await done
    return sent


def admin_claims(admin_id: int) -> AdminClaims:
    return AdminClaims(exp=2**40, iat=None, auth_time=None, claims={}, admin_id=admin_id)


def guest_claims(external_id: str, **more: Any) -> GuestClaims:
    """The claims of a customer's token."""
    given = {"group_id": None, "name": None, "avatar": None, "profile": None, **more}
    return GuestClaims(exp=2**40, iat=None, auth_time=None, claims={}, external_id=external_id, **given)


def draft(sender: Principal, gid: int, body: str = '"hello"', cmid: str | None = None, file_type: int = TEXT) -> Draft:
    return Draft(sender.group_id, gid, sender.person, file_type, body, cmid)


def guest_draft(guest: Principal, body: str = '"hello"', cmid: str | None = None, file_type: int = TEXT) -> Draft:
    return draft(guest, guest.person.id, body, cmid, file_type)


def new_group(dsn: str, name: str = "shop") -> int:
    [(group_id,)] = execute(dsn, "INSERT INTO service_group (name) VALUES (%s) RETURNING id", name)
    return int(group_id)


def new_admin(dsn: str, group_id: int, name: str = "Ann", capacity: int = 10) -> Principal:
    """An admin of the group, who is not logged in."""
    [(admin_id,)] = execute(
        dsn,
        "INSERT INTO admin (group_id, name, capacity) VALUES (%s, %s, %s) RETURNING id",
        *(group_id, name, capacity),
    )
    return Principal(Person(Role.ADMIN, admin_id, name, ""), group_id, expires_at=2**40)


def new_customer(dsn: str, external_id: str, name: str = "", profile: str = "{}") -> Person:
    """A customer who has been seen before, and is not logged in."""
    [(gid,)] = execute(
        dsn,
        "INSERT INTO guest (external_id, name, profile) VALUES (%s, %s, %s)"
        " ON CONFLICT (shop_id, external_id) DO UPDATE SET name = excluded.name RETURNING id",
        *(external_id, name, profile),
    )
    return Person(Role.GUEST, gid, name, "")


def new_conversation(dsn: str, group_id: int, gid: int) -> int:
    """The guest's conversation with a group, in which nothing has happened."""
    [(conversation_id,)] = execute(
        dsn, "INSERT INTO conversation (group_id, guest_id) VALUES (%s, %s) RETURNING id", *(group_id, gid)
    )
    return int(conversation_id)


def age(dsn: str, milliseconds: int) -> None:
    """Let time pass: whatever happened so far, happened so much earlier."""
    for table, columns in {
        "session": ("started_at", "ended_at"),
        "node": ("started_at", "lease_until"),
        "conversation": ("queued_at", "ended_at", "last_message_at", "created_at"),
        "service": ("started_at", "ended_at"),
        "message": ("created_at",),
    }.items():
        moves = ", ".join(f"{column} = {column} - {milliseconds}" for column in columns)
        execute(dsn, f"UPDATE {table} SET {moves}")


class WorldTestCase(DatabaseTestCase):
    """A test with one group, ``self.group``, and one process, ``self.server``."""

    group: int
    server: Server

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.group = new_group(self.dsn)
        self.server = await self.serve()

    async def serve(self, **options: Any) -> Server:
        """Another process on the same database."""
        return await served(self, self.dsn, **options)

    def query(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        return execute(self.dsn, sql, *params)

    def admin(self, name: str = "Ann", capacity: int = 10) -> Principal:
        """An admin who is not logged in."""
        return new_admin(self.dsn, self.group, name, capacity)

    async def on_duty(self, name: str = "Ann", capacity: int = 10) -> Principal:
        """An admin who is logged in."""
        admin = self.admin(name, capacity)
        await self.server.admin_in(admin)
        return admin

    async def guest(self, **kind: Any) -> Principal:
        return await self.server.guest(self.group, **kind)

    async def customer(self, state: str = "queued") -> Principal:
        """A guest who has started service."""
        guest = await self.guest()
        standing, _ = await self.server.assignment.start(guest)
        self.assertEqual(standing.state, state)
        return guest

    def long_up(self) -> None:
        """Nobody counts from the start of a node any more: it was long ago, and the nodes still live."""
        self.query("UPDATE node SET started_at = 0, lease_until = now_ms() + %s", LEASE)

    def state(self, guest: Principal) -> tuple[str, int | None]:
        """State and admin of a guest's conversation."""
        [(state, admin_id)] = self.query(
            "SELECT state, admin_id FROM conversation WHERE id = %s", guest.conversation_id
        )
        return state, admin_id

    def column(self, guest: Principal, column: str) -> Any:
        """Of the guest's conversation."""
        [(value,)] = self.query(f"SELECT {column} FROM conversation WHERE id = %s", guest.conversation_id)
        return value

    def bodies(self, guest: Principal) -> list[str]:
        """What stands in the guest's conversation, by seq; there is no gap."""
        rows = self.query(
            "SELECT seq, body FROM message WHERE conversation_id = %s ORDER BY seq", guest.conversation_id
        )
        self.assertEqual([seq for seq, _ in rows], list(range(1, len(rows) + 1)))
        self.assertEqual(self.column(guest, "last_seq"), len(rows))
        return [body for _, body in rows]

    def of_kind(self, events: Sequence[Event], kind: type[Any]) -> list[Any]:
        return [event for event in events if isinstance(event, kind)]


async def served(case: TestCase, dsn: str, **options: Any) -> Server:
    server = Server(dsn, **options)
    case.addCleanup(lambda: run(server.close()))
    await server.start()
    return server
