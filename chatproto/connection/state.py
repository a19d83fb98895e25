"""What the server knows of one connection, and what it may ask of the transport under it.

:class:`ConnectionState` has no I/O of its own: the Autobahn protocol is its :class:`Link`, the command
dispatch its :class:`Reception`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, Protocol

from msgspec import Struct

from chatproto.bus.notice import Notice
from chatproto.domain.model import Known, Principal


class Phase(IntEnum):
    """new → guest | admin → closing."""

    NEW = 0
    GUEST = 1
    ADMIN = 2
    CLOSING = 3


# Looking a member up on its class costs as much as making a small object.
ADMIN, CLOSING = Phase.ADMIN, Phase.CLOSING


class Link(Protocol):
    """The way back to one peer."""

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not taken yet."""

    @property
    def congested(self) -> bool:
        """More than ``pause_unsent`` waits for the peer; :meth:`Reception.drained` tells when it is gone."""

    def send(self, payload: bytes, push: bool = False) -> None:
        """Queue one text frame; a *push* past ``max_unsent`` closes a peer that takes nothing, a reply never does."""

    def pause(self) -> None:
        """Read no more until :meth:`resume`; what has been read already still comes."""

    def resume(self) -> None: ...

    def rest(self, seconds: float) -> None:
        """Neither read nor bring what has been read for so long; nothing new where it rests already."""

    def close(self, code: int, reason: str) -> None:
        """Send what is queued, then the close frame; drop the connection when the peer does not answer in time."""

    def abort(self) -> None: ...


class Slot(Struct, eq=False):
    """The place of one frame in the order of a connection: a reply that is owed, or a push behind one.

    :cvar push: whether it is a push.
    :ivar payload: what waits here for an earlier reply; None before and after.
    """

    push: ClassVar[bool] = False

    payload: bytes | None


class PushSlot(Slot, eq=False):
    """The place of a push."""

    push: ClassVar[bool] = True


class ConnectionState:
    """One WebSocket connection.

    :ivar ix: its id, an opaque string, unique among all nodes.
    :ivar address: the peer's address as text, for limits and logs.
    :ivar opened_at: seconds of the monotonic clock; so is *last_heard*, of the last frame or pong.
    :ivar login_from: seconds of that clock at which the time for the login begins: the opening, or when a login that
        found the line full is to come back.
    :ivar principal: who logged in, or None.
    :ivar claims: of the newest token; None for anonymous guests.
    :ivar who: for the log, also after a log-out.
    :ivar v: 2 where an admin's client said that it knows the pushes of part 2.
    :ivar out: replies owed and the pushes behind them, in order.
    :ivar waiting: commands that have not started; *running* counts those that have, *alone* says that one of them
        must not overlap with others, *starting* that they are being started just now.
    :ivar tokens: what is left of the rate, as of *tokens_at*.
    :ivar knows: the conversations that it follows; *left* holds the last rev of those it follows no longer.
    :ivar held: news that came while a login was under way; None outside of one.
    :ivar early: news that came before what precedes it, by conversation.
    :ivar late: the id under which the log says that commands took too long, and when it did; None if none has.
    :ivar received: frames so far; *sent* counts those that were sent.
    """

    __slots__ = (
        "ix",
        "link",
        "address",
        "phase",
        "principal",
        "claims",
        "who",
        "v",
        "opened_at",
        "login_from",
        "last_heard",
        "out",
        "waiting",
        "running",
        "alone",
        "starting",
        "tokens",
        "tokens_at",
        "knows",
        "left",
        "held",
        "early",
        "late",
        "received",
        "sent",
    )

    def __init__(self, ix: str, link: Link, address: str, now: float) -> None:
        self.ix = ix
        self.link = link
        self.address = address
        self.phase = Phase.NEW
        self.principal: Principal | None = None
        self.claims: Any = None
        self.who = "nobody"
        self.v = 1
        self.opened_at = now
        self.login_from = now
        self.last_heard = now
        # Short: a few places each, and most of the time none.
        self.out: list[Slot] = []
        self.waiting: list[Any] = []
        self.running = 0
        self.alone = False
        self.starting = False
        self.tokens = 0.0
        self.tokens_at = 0.0
        self.knows: dict[int, Known] = {}
        self.left: dict[int, int] | None = None
        self.held: list[Notice] | None = None
        self.early: dict[int, list[Notice]] | None = None
        self.late: tuple[str, float] | None = None
        self.received = 0
        self.sent = 0

    def owe(self) -> Slot:
        """Take the next place among the replies."""
        slot = Slot(None)
        self.out.append(slot)
        return slot

    def answer(self, slot: Slot, payload: bytes) -> None:
        """Fill a place; send it and whatever it held back."""
        out, send = self.out, self.link.send
        if len(out) == 1 and out[0] is slot:
            # Nearly always; the slot itself never has it.
            out.clear()
            send(payload, slot.push)
            return
        slot.payload = payload
        while out and (ready := out[0].payload) is not None:
            first = out.pop(0)
            # A command is remembered until its time is over (Order), its reply must not be.
            first.payload = None
            send(ready, first.push)

    @property
    def unsent(self) -> bool:
        """Whether anything waits to be taken by the peer, a reply that waits for an earlier one included."""
        return self.link.unsent > 0 or any(slot.payload is not None for slot in self.out)

    def withdraw(self, slot: Slot) -> None:
        """Give a place up: its request is not answered."""
        if slot in self.out:
            self.out.remove(slot)

    def push(self, payload: bytes) -> None:
        """Send news: at once, but behind every reply that is finished and waits for an earlier one.

        A reply leaves before the pushes that its request caused (docs/protocol.md, *Frames*).
        """
        out = self.out
        if len(out) > 1:
            for place in range(len(out) - 1, 0, -1):
                if out[place].payload is not None:
                    out.insert(place + 1, PushSlot(payload))
                    return
        self.link.send(payload, push=True)


class Reception(Protocol):
    """Where the frames of all connections go."""

    def opened(self, link: Link, address: str) -> ConnectionState:
        """The WebSocket handshake is over."""

    def text(self, connection: ConnectionState, payload: bytes) -> None:
        """A whole text message, valid UTF-8."""

    def binary(self, connection: ConnectionState) -> None:
        """A whole binary message: the protocol has none."""

    def frame(self, connection: ConnectionState) -> None:
        """A frame that is no message of its own, but work: a ping, a pong, a fragment that ends no message."""

    def drained(self, connection: ConnectionState) -> None:
        """The link is no longer congested."""

    def closed(self, connection: ConnectionState, code: int | None, reason: str) -> None:
        """The connection is gone; called exactly once for each :meth:`opened`."""
