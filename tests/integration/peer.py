"""Another process on the same database: run as a program it does what it is told, one JSON object a line.

It is what one node keeps of the database, without connections (tests/worlds.py): several of them show what the nodes
of a cluster do to each other's rows.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall, react
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chatproto.clock import sleep
from chatproto.domain.model import Person, Principal, Role
from chatproto.errors import ChatError, SendServedByAnother, StorageError
from chatproto.services import presence as presence_service
from chatproto.storage import presence
from chatproto.storage.presence import Session
from tests.database import ROOT
from tests.worlds import TEXT, Server, by_admin, by_guest

reactor: Any = installed

Sent = tuple[int, int, int, str, str, int, str]
"""(conversation_id, sender_type, sender_id, cmid, "stored" or "dup", seq, body)."""


class Refused(Exception):
    """What a peer was told to do failed there; ``str()`` is the name of the exception."""


def principal(role: Role, id_: int, group_id: int, conversation_id: int | None = None) -> Principal:
    return Principal(Person(role, id_, "", ""), group_id, conversation_id)


# What several processes do at once.


async def flood(
    server: Server, group_id: int, guests: Sequence[Sequence[int]], admin_ids: Sequence[int], each: int, seed: int
) -> list[Sent]:
    """Send the same messages as everybody else who is told so, in an order of one's own.

    :param guests: (gid, conversation_id).
    :param each: messages of each guest; half as many of each admin to each guest.
    :returns: what was acknowledged; an admin's message to a guest whom a colleague serves is not.
    """
    acknowledged: list[Sent] = []
    work: list[tuple[int, int, Principal, str]] = []
    for gid, conversation_id in guests:
        guest = principal(Role.GUEST, gid, group_id, conversation_id)
        work += [(gid, conversation_id, guest, f"g{n}") for n in range(each)]
        for admin_id in admin_ids:
            admin = principal(Role.ADMIN, admin_id, group_id)
            work += [(gid, conversation_id, admin, f"a{n}") for n in range(each // 2)]
    Random(seed).shuffle(work)

    async def worker() -> None:
        while work:
            gid, conversation_id, sender, cmid = work.pop()
            role = sender.person.role
            body = f'"{cmid} of {role.word} {sender.person.id}"'
            try:
                if role is Role.GUEST:
                    sent, _ = await by_guest(server.messaging, sender, cmid, (TEXT, body), "ix")
                else:
                    sent = await by_admin(server.messaging, sender, gid, cmid, (TEXT, body), "ix")
            except SendServedByAnother:
                continue
            outcome = "dup" if sent.dup else "stored"
            acknowledged.append(
                (conversation_id, int(role), sender.person.id, cmid, outcome, sent.message.seq, sent.message.body)
            )

    await gatherResults([Deferred.fromCoroutine(worker()) for _ in range(30)])
    return acknowledged


async def flip(
    server: Server,
    group_id: int,
    guests: Sequence[Sequence[int]],
    admin_ids: Sequence[int],
    seed: int,
    going_on: Callable[[], bool],
) -> int:
    """Move the guests between the admins, end services and read, until told to stop; returns how much was done."""
    random = Random(seed)
    done = 0
    while going_on():
        gid, conversation_id = random.choice(guests)
        guest = principal(Role.GUEST, gid, group_id, conversation_id)
        first, second = (principal(Role.ADMIN, id_, group_id) for id_ in random.sample(list(admin_ids), 2))
        step = random.randrange(6)
        try:
            if step < 3:
                await server.assignment.transfer(first, gid, second.person.id, None)
            elif step == 3:
                await server.assignment.end_by_guest(guest)
            elif step == 4:
                await server.messaging.read_as_guest(guest, random.randrange(1, 20))
            else:
                await server.messaging.read_as_admin(first, gid, None)
        except ChatError:
            continue
        done += 1
    return done


class Peer:
    """The program's side: each method is something it can be told to do."""

    def __init__(self, server: Server, tell: Callable[[str], None]) -> None:
        self._server = server
        self._tell = tell
        self._flipping = True

    async def admin_in(self, admin_id: int, group_id: int) -> str:
        admin = principal(Role.ADMIN, admin_id, group_id)
        ix, _ = await self._server.admin_in(admin, f"{os.getpid()}-{admin_id}")
        self._server.live.append(Session(ix, Role.ADMIN, admin_id, group_id))
        return ix

    async def admin_out(self, admin_id: int, group_id: int, ix: str, for_good: bool) -> None:
        await self._server.sessions.ended(principal(Role.ADMIN, admin_id, group_id), ix, for_good=for_good)

    async def start(self, gid: int, group_id: int, conversation_id: int) -> None:
        await self._server.assignment.start(principal(Role.GUEST, gid, group_id, conversation_id))

    async def end(self, gid: int, group_id: int, conversation_id: int) -> None:
        await self._server.assignment.end_by_guest(principal(Role.GUEST, gid, group_id, conversation_id))

    async def say(self, gid: int, group_id: int, conversation_id: int, text: str) -> int:
        sent, _ = await self._server.say(principal(Role.GUEST, gid, group_id, conversation_id), text)
        return int(sent.message.seq)

    async def flood(self, *what: Any) -> list[Sent]:
        return await flood(self._server, *what)

    async def flip(self, group_id: int, guests: Any, admin_ids: Any, seed: int) -> int:
        return await flip(self._server, group_id, guests, admin_ids, seed, lambda: self._flipping)

    async def stop_flipping(self) -> None:
        self._flipping = False

    async def end_slowly(self, conversation_id: int, group_id: int, seconds: float) -> None:
        """End a service, after having held the group's lock for some time."""

        async def first(transaction: Any) -> None:
            await transaction.fetch("SELECT 1")
            self._tell("locked")
            await sleep(reactor, seconds)

        await self._server.assignment.end(group_id, [conversation_id], "timeout", first)

    async def keep_lease(self, every: float) -> None:
        """Renew the lease from now on, as a node does."""

        async def renew() -> None:
            await self._server.node.renew()

        LoopingCall(lambda: Deferred.fromCoroutine(renew())).start(every)

    async def came_back(self) -> int:
        """How often this node was given up and is back."""
        return self._server.came_back


class _Orders(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 1 << 22

    def __init__(self, server: Server) -> None:
        self._peer = Peer(server, lambda word: self._say({"event": word}))
        self.closed: Deferred[None] = Deferred()

    def _say(self, message: dict[str, Any]) -> None:
        self.sendLine(json.dumps(message).encode())

    def lineReceived(self, line: bytes) -> None:
        Deferred.fromCoroutine(self._obey(json.loads(line)))

    async def _obey(self, order: dict[str, Any]) -> None:
        try:
            result = await getattr(self._peer, order["do"])(*order["with"])
        except (ChatError, StorageError) as error:
            self._say({"id": order["id"], "failed": type(error).__name__})
        except Exception as error:
            self._say({"id": order["id"], "failed": repr(error)})
        else:
            self._say({"id": order["id"], "result": result})

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)


async def main(dsn: str, name: str, timeout: str, lease: str) -> None:
    """:param lease: milliseconds."""
    presence.LEASE = int(lease)
    presence_service.LEASE_SECONDS = int(lease) / 1000
    server = Server(dsn, name=name, timeout=float(timeout), time=reactor)
    await server.start()
    orders = _Orders(server)
    StandardIO(orders)
    orders._say({"event": "ready"})
    await orders.closed
    await server.close()


# The test's side.


class Remote(ProcessProtocol):
    """A peer, seen from the test."""

    transport: Any

    def __init__(self) -> None:
        self._numbers = count(1)
        self._asked: dict[int, Deferred[Any]] = {}
        self._events: dict[str, Deferred[None]] = {}
        self._received = b""
        self._errors = b""
        self.gone: Deferred[None] = Deferred()

    def ask(self, order: str, *arguments: Any) -> Deferred[Any]:
        """Tell the peer to do something; fires with what it returns there, or fails with :class:`Refused`."""
        number = next(self._numbers)
        answer: Deferred[Any] = Deferred()
        self._asked[number] = answer
        self.transport.write(json.dumps({"id": number, "do": order, "with": arguments}).encode() + b"\n")
        return answer

    def event(self, word: str) -> Deferred[None]:
        """Fires when the peer says *word*, also where it has said so already."""
        return self._events.setdefault(word, Deferred())

    def freeze(self) -> None:
        os.kill(self.transport.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.transport.pid, signal.SIGCONT)

    async def close(self) -> None:
        """End the process, frozen or not; what it said on standard error is the test's too."""
        if not self.gone.called:
            self.thaw()
            self.transport.closeStdin()
        await self.gone
        sys.stderr.write(self._errors.decode(errors="replace"))

    def outReceived(self, data: bytes) -> None:
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "event" in message:
                self.event(message["event"]).callback(None)
            elif "failed" in message:
                self._asked.pop(message["id"]).errback(Refused(message["failed"]))
            else:
                self._asked.pop(message["id"]).callback(message["result"])

    def errReceived(self, data: bytes) -> None:
        self._errors += data

    def processEnded(self, reason: Failure) -> None:
        for answer in self._asked.values():
            answer.errback(Refused("the process has ended"))
        if not self.event("ready").called:
            self.event("ready").errback(Refused("the process did not start"))
        self.gone.callback(None) if reason.check(ProcessDone) else self.gone.errback(reason)


async def peer(case: TestCase, dsn: str, name: str, *, timeout: float = 5.0, lease: int = presence.LEASE) -> Remote:
    """Start another process on the database; it ends with the test."""
    remote = Remote()
    arguments = [sys.executable, "-m", "tests.integration.peer", dsn, name, str(timeout), str(lease)]
    reactor.spawnProcess(remote, sys.executable, arguments, env=dict(os.environ), path=str(ROOT))
    case.addCleanup(lambda: Deferred.fromCoroutine(remote.close()))
    await remote.event("ready")
    return remote


if __name__ == "__main__":
    react(lambda _: Deferred.fromCoroutine(main(*sys.argv[1:])))
