"""What the clients of a load know, against what the database holds (docs/protocol.md 2.5).

Every send carries a cmid of its own. A :class:`Writer` marks it *acknowledged*, *refused* or *unknown*; after a fault
it comes back, repeats what is unknown and fetches by ``after_seq`` what it missed. :meth:`Ledger.faults` holds all the
criteria:

- what was acknowledged is stored, under the seq that was acknowledged, with the words that were sent;
- no cmid of a sender is stored twice in a conversation, and the seqs of a conversation have no gap;
- what was refused is not stored;
- the order of one sender's messages in a conversation is the order of their acknowledgements;
- whatever was shown to anybody is stored, just so;
- what each client has seen, once it has caught up, is what is stored.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chatproto.domain.model import Role
from tests.database import execute
from tests.integration.client import Client, ConnectionGone, Frame
from tests.integration.daemon import PATIENCE, eventually, token

reactor = cast(Any, installed_reactor)

SENT, ACKNOWLEDGED, REFUSED, UNKNOWN = "sent", "acknowledged", "refused", "unknown"

Sender = tuple[str, int]
"""("guest" | "admin", id)."""

_STORED = """
SELECT c.guest_id, m.seq, m.sender_type, m.sender_id, m.cmid, m.body
FROM message m JOIN conversation c ON c.id = m.conversation_id WHERE c.group_id = %s ORDER BY c.guest_id, m.seq
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the database or a client has it; *cmid* is the client's."""

    gid: int
    seq: int
    sender: Sender
    cmid: str | None
    text: Any


@dataclass(slots=True)
class Entry:
    """One send."""

    cmid: str
    gid: int
    sender: Sender
    text: str
    state: str = SENT
    seq: int | None = None


@dataclass(slots=True)
class View:
    """What one client has seen, and those conversations that it is to see whole."""

    name: str
    seen: dict[tuple[int, int], set[Stored]] = field(default_factory=dict)
    follows: set[int] = field(default_factory=set)

    def add(self, info: Frame) -> None:
        sender = (info["sender"]["type"], info["sender"]["id"])
        seen = Stored(info["gid"], info["seq"], sender, info["cmid"], info["msg"])
        self.seen.setdefault((seen.gid, seen.seq), set()).add(seen)


class Ledger:
    """What all writers of one group sent and saw."""

    def __init__(self) -> None:
        self.entries: dict[tuple[int, Sender, str], Entry] = {}
        self.acknowledged: list[Entry] = []
        self.views: list[View] = []
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def note(self, entry: Entry) -> None:
        self.entries[entry.gid, entry.sender, entry.cmid] = entry

    def acknowledge(self, entry: Entry, seq: int, dup: bool) -> None:
        entry.state, entry.seq = ACKNOWLEDGED, seq
        if not dup:
            self.acknowledged.append(entry)
        self.tell()

    def of(self, state: str) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.state == state]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition*, which is looked at after each answer, is true."""
        if condition():
            return
        done: Deferred[None] = Deferred()
        self._waiting.append((condition, done))
        done.addTimeout(PATIENCE, reactor, lambda *_: Failure(AssertionError(f"the load is stuck: {self}")))
        await done

    def __str__(self) -> str:
        return str(Counter(entry.state for entry in self.entries.values()))

    def tell(self) -> None:
        for waiting in [waiting for waiting in self._waiting if waiting[0]()]:
            self._waiting.remove(waiting)
            if not waiting[1].called:
                waiting[1].callback(None)

    def faults(self, dsn: str, group_id: int) -> list[str]:
        """Compare with the database, once the load has ended; an empty list is what was promised."""
        stored = list(_stored(dsn, group_id))
        return [
            *self._not_as_acknowledged(stored),
            *_twice(stored),
            *_gaps(stored),
            *self._refused_but_stored(stored),
            *self._out_of_order(),
            *self._seen_but_not_stored(stored),
            *self._not_seen(stored),
        ]

    def _not_as_acknowledged(self, stored: list[Stored]) -> Iterable[str]:
        found = {(one.gid, one.sender, one.cmid): one for one in stored}
        for key, entry in self.entries.items():
            if entry.state != ACKNOWLEDGED:
                continue
            one = found.get(key)
            if one is None:
                yield f"acknowledged but not stored: {entry}"
            elif (one.seq, one.text) != (entry.seq, entry.text):
                yield f"stored otherwise than acknowledged: {entry} {one}"

    def _refused_but_stored(self, stored: list[Stored]) -> Iterable[str]:
        found = {(one.gid, one.sender, one.cmid) for one in stored}
        for key, entry in self.entries.items():
            if entry.state == REFUSED and key in found:
                yield f"refused but stored: {entry}"

    def _out_of_order(self) -> Iterable[str]:
        last: dict[tuple[int, Sender], int] = {}
        for entry in self.acknowledged:
            assert entry.seq is not None
            thread = (entry.gid, entry.sender)
            if entry.seq <= last.get(thread, 0):
                yield f"acknowledged after a later one: {entry}"
            last[thread] = entry.seq

    def _seen_but_not_stored(self, stored: list[Stored]) -> Iterable[str]:
        everything = set(stored)
        for view in self.views:
            for versions in view.seen.values():
                for one in versions - everything:
                    yield f"{view.name} saw what is not stored: {one}"

    def _not_seen(self, stored: list[Stored]) -> Iterable[str]:
        for view in self.views:
            for one in stored:
                if one.gid in view.follows and (one.gid, one.seq) not in view.seen:
                    yield f"{view.name} never saw: {one}"


def _stored(dsn: str, group_id: int) -> Iterable[Stored]:
    for gid, seq, role, sender_id, cmid, body in execute(dsn, _STORED, group_id):
        shown = cmid[1:] if cmid[0] == "c" else None
        yield Stored(gid, seq, (Role(role).word, sender_id), shown, json.loads(body))


def _twice(stored: list[Stored]) -> Iterable[str]:
    for key, count in Counter((one.gid, one.sender, one.cmid) for one in stored if one.cmid).items():
        if count > 1:
            yield f"stored {count} times: {key}"


def _gaps(stored: list[Stored]) -> Iterable[str]:
    last: dict[int, int] = {}
    for one in stored:
        if one.seq != last.get(one.gid, 0) + 1:
            yield f"a gap before {one}"
        last[one.gid] = one.seq


class Writer:
    """Somebody who writes without a pause, and comes back after every fault.

    :param role: "guest" or "admin".
    :param window: sends that may be unanswered at once.
    """

    def __init__(self, ledger: Ledger, name: str, group_id: int, port: Callable[[], int], window: int = 8) -> None:
        self.ledger = ledger
        self.name = name
        self.group_id = group_id
        self.port = port
        self.window = window
        self.view = View(name)
        self.client = Client(name)
        self.writing = False
        self._under_way = 0
        self._count = 0
        ledger.views.append(self.view)

    # What differs between the two sides.

    @property
    def sender(self) -> Sender:
        raise NotImplementedError

    def targets(self) -> list[int]:
        """The guests whose conversations are written in, in turns."""
        raise NotImplementedError

    async def log_in(self, client: Client) -> None:
        raise NotImplementedError

    def submit(self, entry: Entry) -> Deferred[Frame]:
        raise NotImplementedError

    async def page(self, gid: int, after_seq: int) -> Frame:
        raise NotImplementedError

    # The load.

    async def come(self) -> None:
        """Connect and log in."""
        client = self.client = Client(self.name)
        client.on_push = self._pushed
        await self.log_in(client)

    def write(self) -> None:
        """Keep the window full until :meth:`rest` or the end of the connection."""
        self.writing = True
        self._write_on()

    def _write_on(self) -> None:
        while self.writing and self._under_way < self.window and self.client.end is None and self.targets():
            self._count += 1
            targets = self.targets()
            gid = targets[self._count % len(targets)]
            entry = Entry(f"{self.name}-{self._count}", gid, self.sender, f"{self.name} says {self._count}")
            self.ledger.note(entry)
            self._send(entry, first=True).addCallback(lambda _: self._write_on())

    def rest(self) -> None:
        """Write nothing new."""
        self.writing = False

    async def resume(self) -> None:
        """Come back after a fault: connect, repeat what is unknown, fetch what was missed."""
        await self.client.drop()
        await eventually(self._came_back, f"{self.name} is back")
        await self.settle()
        await self.catch_up()

    async def settle(self) -> None:
        """Repeat what is unknown, in its order, until the server has said of each what became of it."""

        async def settled() -> bool:
            for entry in self._mine(UNKNOWN):
                await self._send(entry)
            return not self._mine(UNKNOWN) and not self._mine(SENT)

        await eventually(settled, f"{self.name} knows everything")

    async def catch_up(self) -> None:
        """Fetch by ``after_seq`` what is missing in the conversations of :meth:`targets`."""
        for gid in self.targets():
            self.view.follows.add(gid)
            after = 0
            while (gid, after + 1) in self.view.seen:
                after += 1
            while True:
                page = await self.page(gid, after)
                for info in page["recs"].values():
                    self.view.add(info)
                after = max([after, *map(int, page["recs"])])
                if not page["has_more"]:
                    break

    async def _came_back(self) -> bool:
        try:
            await self.come()
        except Exception:
            # Whatever it is: the daemon, the database or the port is not there yet.
            await self.client.drop()
            return False
        return True

    def _mine(self, state: str) -> list[Entry]:
        return [entry for entry in self.ledger.of(state) if entry.sender == self.sender]

    def _send(self, entry: Entry, *, first: bool = False) -> Deferred[None]:
        """Fires, without a failure, once the answer or the end of the connection has been noted."""
        self._under_way += 1
        return self.submit(entry).addBoth(self._answered, entry, first)

    def _answered(self, result: Any, entry: Entry, first: bool) -> None:
        self._under_way -= 1
        if isinstance(result, dict):
            data = result["data"]
            if result["code"] == 200:
                self.view.add(data["message_info"])
                self.ledger.acknowledge(entry, data["message_info"]["seq"], data.get("dup", False))
                return
            # What was unknown once stays so, whatever a repeat is told: the first one may be stored.
            entry.state = REFUSED if first and data.get("outcome") != "unknown" else UNKNOWN
        else:
            result.trap(ConnectionGone)
            entry.state = UNKNOWN
        self.ledger.tell()

    def _pushed(self, frame: Frame) -> None:
        data = frame["data"]
        if "message_info" in data:
            self.view.add(data["message_info"])
        for info in data.get("recs", {}).values():
            self.view.add(info)


class GuestWriter(Writer):
    gid = 0
    guest_token = ""

    @property
    def sender(self) -> Sender:
        return ("guest", self.gid)

    def targets(self) -> list[int]:
        return [self.gid]

    async def log_in(self, client: Client) -> None:
        known = {"guest_token": self.guest_token} if self.guest_token else {}
        await client.guest(self.port(), group_id=self.group_id, **known)
        self.gid, self.guest_token = client.gid, client.data["guest_token"]
        self._pushed({"data": client.data})

    def submit(self, entry: Entry) -> Deferred[Frame]:
        return self.client.request(22300, msg=entry.text, cmid=entry.cmid)

    async def page(self, gid: int, after_seq: int) -> Frame:
        return await self.client.good_request(22100, after_seq=after_seq, page_size=100)


class AdminWriter(Writer):
    """An admin who writes to all guests that the admin serves."""

    admin_id = 0

    @property
    def sender(self) -> Sender:
        return ("admin", self.admin_id)

    def targets(self) -> list[int]:
        return sorted(self._guests)

    _guests: frozenset[int] = frozenset()

    async def log_in(self, client: Client) -> None:
        await client.connect(self.port())
        reply = await client.request(31000, call_type=3, token=token(admin_id=self.admin_id), v=2)
        self._serve(client.good(reply))

    def submit(self, entry: Entry) -> Deferred[Frame]:
        return self.client.request(32300, gid=entry.gid, msg=entry.text, cmid=entry.cmid)

    async def page(self, gid: int, after_seq: int) -> Frame:
        return await self.client.good_request(
            32100, gid=gid, group_id=self.group_id, after_seq=after_seq, page_size=100
        )

    def _serve(self, data: Frame) -> None:
        entries = data["guest_list"].values()
        self._guests = frozenset(e["gid"] for e in entries if e["admin_id"] == self.admin_id)

    def _pushed(self, frame: Frame) -> None:
        super()._pushed(frame)
        if frame["api_key"] == 32401:
            self._guests |= {frame["data"]["gid"]}
        elif frame["api_key"] == 32099 and frame["data"]["admin_id"] != self.admin_id:
            self._guests -= {frame["data"]["gid"]}


class Load:
    """Two admins and some guests who all write to each other.

    :param port: where the daemon listens by now.
    """

    def __init__(self, group_id: int, admin_ids: Iterable[int], port: Callable[[], int], guests: int = 4) -> None:
        self.ledger = Ledger()
        self.group_id = group_id
        self.admins = [AdminWriter(self.ledger, f"admin{id_}", group_id, port) for id_ in admin_ids]
        for writer, admin_id in zip(self.admins, admin_ids, strict=True):
            writer.admin_id = admin_id
        self.guests = [GuestWriter(self.ledger, f"guest{n}", group_id, port) for n in range(guests)]

    @property
    def writers(self) -> list[Writer]:
        return [*self.admins, *self.guests]

    async def begin(self, messages: int = 200) -> None:
        """Log everybody in, and write until so many messages are acknowledged; the writing goes on."""
        for writer in self.writers:
            await writer.come()
        for guest in self.guests:
            await guest.client.good_request(22000)
        for writer in self.writers:
            writer.write()
        for admin in self.admins:
            admin.client.on_push = _writing_on(admin)
        await self.more(messages)

    async def more(self, messages: int = 100) -> None:
        """Wait for so many more acknowledgements."""
        wanted = len(self.ledger.acknowledged) + messages
        await self.ledger.until(lambda: len(self.ledger.acknowledged) >= wanted)

    def rest(self) -> None:
        for writer in self.writers:
            writer.rest()

    async def resume(self) -> None:
        """Everybody comes back after a fault, and knows everything."""
        self.rest()
        for writer in self.writers:
            await writer.resume()
        # Who was back early has not yet got what the later ones repeated.
        for writer in self.writers:
            await writer.catch_up()

    async def leave(self) -> None:
        for writer in self.writers:
            await writer.client.drop()


def _writing_on(admin: AdminWriter) -> Callable[[Frame], None]:
    """An admin who had no guest writes as soon as one comes."""

    def pushed(frame: Frame) -> None:
        admin._pushed(frame)
        if frame["api_key"] == 32401:
            admin._write_on()

    return pushed
