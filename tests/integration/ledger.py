"""What the clients of a load know, against what the database holds (docs/protocol.md, *What is promised*).

Each send is one :class:`Entry` with words of its own, whether its client gave a cmid or not. :meth:`Ledger.faults`
holds all the criteria, whatever the fault was:

- what was acknowledged is stored, under the seq that was acknowledged, with the words and the cmid that were sent;
- no cmid of a sender, and no words, are stored twice in a conversation, and the seqs of a conversation have no gap;
- what was refused is not stored (an outcome that is unknown is no refusal), and what nobody sent is not either;
- the order of one sender's messages in a conversation is the order of their acknowledgements;
- whatever was shown to anybody is stored, just so, and was pushed to each connection in the order of seq;
- what each client has seen, once it has caught up, is what is stored.

tests/integration/writers.py has the clients that fill a ledger.
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
from tests.integration.client import Frame
from tests.integration.daemon import PATIENCE

reactor = cast(Any, installed_reactor)

SENT, ACKNOWLEDGED, REFUSED, UNKNOWN = "sent", "acknowledged", "refused", "unknown"

Sender = tuple[str, int]
"""("guest" | "admin", id)."""

Name = tuple[int, Sender, Any]
"""(gid, sender, text): names an entry."""

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

    @property
    def name(self) -> Name:
        return self.gid, self.sender, self.text


@dataclass(slots=True)
class Entry:
    """A message, however often it was sent, and on however many connections.

    :ivar cmid: None where the client gives none, and so cannot repeat it.
    :ivar sent: how often it was sent.
    :ivar refused: how many of them were answered with an error after which it is certainly not stored.
    :ivar lost: how many were not answered, or with ``outcome`` "unknown".
    :ivar seqs: under which it was acknowledged.
    """

    cmid: str | None
    gid: int
    sender: Sender
    text: str
    sent: int = 0
    refused: int = 0
    lost: int = 0
    seqs: list[int] = field(default_factory=list)

    @property
    def name(self) -> Name:
        return self.gid, self.sender, self.text

    @property
    def state(self) -> str:
        """What was unknown once is not refused any more, whatever a repeat was told: the first one may be stored."""
        if self.seqs:
            return ACKNOWLEDGED
        if self.refused + self.lost < self.sent:
            return SENT
        return UNKNOWN if self.lost else REFUSED


@dataclass(slots=True)
class View:
    """What one client has seen, and those conversations that it is to see whole.

    :ivar pushed: the latest seq that was pushed on this connection, for each conversation.
    """

    name: str
    seen: dict[tuple[int, int], set[Stored]] = field(default_factory=dict)
    follows: set[int] = field(default_factory=set)
    pushed: dict[int, int] = field(default_factory=dict)
    disorder: list[str] = field(default_factory=list)

    def connected(self) -> None:
        """What comes now comes on a new connection."""
        self.pushed.clear()

    def add(self, info: Frame) -> Stored:
        """A message was shown, in whatever way."""
        sender = (info["sender"]["type"], info["sender"]["id"])
        seen = Stored(info["gid"], info["seq"], sender, info["cmid"], info["msg"])
        self.seen.setdefault((seen.gid, seen.seq), set()).add(seen)
        return seen

    def push(self, info: Frame) -> None:
        """A message came as news."""
        seen = self.add(info)
        if seen.seq <= self.pushed.get(seen.gid, 0):
            self.disorder.append(f"pushed to {self.name} after a later one: {seen}")
        self.pushed[seen.gid] = seen.seq


class Ledger:
    """What all writers of one group sent and saw.

    :ivar acknowledged: the acknowledgements in their order, each with the name of the client that got it; not those
        that said ``dup``, as they come later than what they acknowledge.
    """

    def __init__(self) -> None:
        self.entries: dict[Name, Entry] = {}
        self.acknowledged: list[tuple[str, Entry, int]] = []
        self.views: list[View] = []
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def send(self, entry: Entry) -> None:
        """*entry* is sent, perhaps not for the first time."""
        self.entries[entry.name] = entry
        entry.sent += 1

    def acknowledge(self, entry: Entry, seq: int, to: str, dup: bool) -> None:
        entry.seqs.append(seq)
        if not dup:
            self.acknowledged.append((to, entry, seq))
        self._tell()

    def refuse(self, entry: Entry) -> None:
        entry.refused += 1
        self._tell()

    def lose(self, entry: Entry) -> None:
        entry.lost += 1
        self._tell()

    def of(self, state: str) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.state == state]

    @property
    def open(self) -> list[Entry]:
        """What became of these has still to be learned. (Without a cmid it cannot be.)"""
        return [
            entry
            for entry in self.entries.values()
            if entry.state == SENT or (entry.state == UNKNOWN and entry.cmid is not None)
        ]

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

    def _tell(self) -> None:
        for waiting in [waiting for waiting in self._waiting if waiting[0]()]:
            self._waiting.remove(waiting)
            if not waiting[1].called:
                waiting[1].callback(None)

    # The criteria.

    def faults(self, dsn: str, group_id: int) -> list[str]:
        """Compare with the database, once the load has ended; an empty list is what was promised."""
        return self.faults_in(stored_in(dsn, group_id))

    def faults_in(self, stored: list[Stored]) -> list[str]:
        """The same with what is *stored*, in the order of conversation and seq."""
        return [
            *self._not_as_acknowledged(stored),
            *_twice(stored),
            *_gaps(stored),
            *self._refused_but_stored(stored),
            *self._never_sent(stored),
            *self._out_of_order(),
            *self._seen_but_not_stored(stored),
            *(line for view in self.views for line in view.disorder),
            *self._not_seen(stored),
        ]

    def _not_as_acknowledged(self, stored: list[Stored]) -> Iterable[str]:
        found = {one.name: one for one in stored}
        for entry in self.of(ACKNOWLEDGED):
            one = found.get(entry.name)
            if one is None:
                yield f"acknowledged but not stored: {entry}"
            elif ({one.seq}, one.cmid) != (set(entry.seqs), entry.cmid):
                yield f"stored otherwise than acknowledged: {entry} {one}"

    def _refused_but_stored(self, stored: list[Stored]) -> Iterable[str]:
        found = {one.name for one in stored}
        for entry in self.of(REFUSED):
            if entry.name in found:
                yield f"refused but stored: {entry}"

    def _never_sent(self, stored: list[Stored]) -> Iterable[str]:
        for one in stored:
            if one.name not in self.entries:
                yield f"stored but never sent: {one}"

    def _out_of_order(self) -> Iterable[str]:
        last: dict[tuple[str, int], int] = {}
        for to, entry, seq in self.acknowledged:
            thread = (to, entry.gid)
            if seq <= last.get(thread, 0):
                yield f"acknowledged after a later one: {entry}"
            last[thread] = seq

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


def stored_in(dsn: str, group_id: int) -> list[Stored]:
    """All messages of a group, in the order of conversation and seq."""
    return [
        Stored(gid, seq, (Role(role).word, sender_id), cmid[1:] if cmid[0] == "c" else None, json.loads(body))
        for gid, seq, role, sender_id, cmid, body in execute(dsn, _STORED, group_id)
    ]


def _twice(stored: list[Stored]) -> Iterable[str]:
    cmids = Counter((one.gid, one.sender, one.cmid) for one in stored if one.cmid is not None)
    for names in (cmids, Counter(one.name for one in stored)):
        for name, count in names.items():
            if count > 1:
                yield f"stored {count} times: {name}"


def _gaps(stored: list[Stored]) -> Iterable[str]:
    last: dict[int, int] = {}
    for one in stored:
        if one.seq != last.get(one.gid, 0) + 1:
            yield f"a gap before {one}"
        last[one.gid] = one.seq
