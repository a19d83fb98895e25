"""The command table: api_key → a callable that returns a Deferred (docs/protocol.md).

A command is one entry, made by :func:`command` above its function: number, request type, who may call it,
whether it may overlap with its neighbours. Two entries with one number fail at import.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from msgspec import Struct
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from chatproto.domain.events import Event
from chatproto.domain.model import Known, Principal, Role
from chatproto.domain.tokens import Claims, Keyring
from chatproto.services.assignment import Assignment
from chatproto.services.guests import Guests
from chatproto.services.messaging import Messaging
from chatproto.services.recall import Recalls
from chatproto.services.sessions import Sessions
from chatproto.services.typing import Typing
from chatproto.wire.fields import Limits
from chatproto.wire.frame import Frame


class Newcomers(Protocol):
    """Counts new anonymous guests per address."""

    def admit(self, address: str) -> None:
        """:raises TooManyRequests: that address has made too many of them lately."""


@dataclass(slots=True)
class Services:
    """What commands may use.

    :ivar keyring: replaced when keys are read again.
    :ivar wall: Unix seconds.
    :ivar refresh_limit: seconds after the first login for which tokens are renewed; 0 is for ever.
    """

    sessions: Sessions
    messaging: Messaging
    assignment: Assignment
    guests: Guests
    recalls: Recalls
    typing: Typing
    keyring: Keyring
    newcomers: Newcomers
    wall: Callable[[], float]
    limits: Limits
    refresh_limit: float
    max_page_bytes: int


@dataclass(frozen=True, slots=True)
class Login:
    """Who a connection is from now on, and what it knows.

    :ivar claims: of the newest token; None for anonymous guests.
    """

    principal: Principal
    claims: Claims | None
    v: int
    knows: Mapping[int, Known]


class Answer(Struct, frozen=True):
    """What a command gives back.

    :ivar data: of the reply, as values or as JSON text.
    :ivar events: what is told to others, after the reply has left.
    :ivar renewed: claims of a token that the reply brings: they extend the connection.
    :ivar close: code and reason, after the reply.
    """

    data: Mapping[str, Any] | str
    events: Sequence[Event] = ()
    login: Login | None = None
    renewed: Claims | None = None
    close: tuple[int, str] | None = None


class Call(Struct, frozen=True):
    """One request of one connection.

    :ivar join: to be awaited by logins, and by them alone, before they read what the reply holds: from then on, news is
        kept.
    :ivar tell: for what is true although the command fails; else events go with the answer.
    :ivar v: 2 where the client knows part 2 of the protocol; at a login that of the one before.
    """

    ix: str
    address: str
    principal: Principal | None
    claims: Claims | None
    services: Services
    join: Callable[[Principal], Awaitable[None]]
    tell: Callable[[Sequence[Event]], None]
    v: int = 2

    @property
    def who(self) -> Principal:
        """Who calls; logins have nobody."""
        assert self.principal is not None
        return self.principal


Request = TypeVar("Request")
Result = TypeVar("Result")
Decoded = TypeVar("Decoded", covariant=True)


Running = Coroutine[Any, Any, Answer] | Deferred[Answer]
"""What a command's function returns."""

Done = Callable[[Any], None]
"""Is told what became of a command: its result, or the Failure."""


class Decodable(Protocol[Decoded]):
    """A request type of :mod:`chatproto.wire.bodies`."""

    def decode(self, frame: Frame, limits: Limits) -> Decoded: ...


class Command:
    """An entry of the table; calling it decodes the frame, starts the function and returns a Deferred of its answer.

    :ivar role: who may call it; None: it is a login.
    :ivar overlaps: neighbours of the same kind need not wait for its end.
    :ivar reads: it has no effect, so its failure never leaves one open.
    """

    def __init__(
        self,
        api_key: int,
        request: Any,
        role: Role | None,
        run: Callable[[Call, Any], Running],
        *,
        overlaps: bool = False,
        reads: bool = False,
    ) -> None:
        self.api_key = api_key
        self.role = role
        self.overlaps = overlaps
        self.reads = reads
        self._request = request
        self._run = run

    def __call__(self, call: Call, frame: Frame) -> Deferred[Answer]:
        try:
            running = self._run(call, self._request.decode(frame, call.services.limits))
        except Exception:
            return fail()
        return running if isinstance(running, Deferred) else Deferred.fromCoroutine(running)

    def begin(self, call: Call, frame: Frame, done: Done) -> None:
        """As calling it, with *done* in place of the Deferred; what it is told goes through :meth:`answer`."""
        self(call, frame).addBoth(done)

    def answer(self, result: Any) -> Answer:
        """The answer that a result stands for: here it is one already."""
        answer: Answer = result
        return answer


class Send(Command):
    """An entry for what comes in thousands. A Deferred costs as much as a layer, so its function has *done* instead.

    :param answer: makes the answer of what *done* is told.
    """

    def __init__(
        self,
        api_key: int,
        request: Any,
        role: Role,
        send: Callable[[Call, Any, Callable[[Any], None]], None],
        answer: Callable[[Any], Answer],
    ) -> None:
        super().__init__(api_key, request, role, self._sent, overlaps=True)
        self._send = send
        self.answer = answer  # type: ignore[assignment]

    def _sent(self, call: Call, request: Any) -> Deferred[Answer]:
        answer: Deferred[Any] = Deferred()
        self._send(call, request, answer.callback)
        return answer.addCallback(self.answer)

    def begin(self, call: Call, frame: Frame, done: Done) -> None:
        try:
            self._send(call, self._request.decode(frame, call.services.limits), done)
        except Exception:
            done(Failure())


TABLE: dict[int, Command] = {}


def command(
    api_key: int, request: Decodable[Request], role: Role | None, *, reads: bool = False
) -> Callable[[Callable[[Call, Request], Running]], Command]:
    """Put the decorated function into the table.

    :raises ValueError: the number is taken.
    """

    def register(run: Callable[[Call, Request], Running]) -> Command:
        return _register(Command(api_key, request, role, run, reads=reads))

    return register


def sends(
    api_key: int, request: Decodable[Request], role: Role, answer: Callable[[Result], Answer]
) -> Callable[[Callable[[Call, Request, Callable[[Result | Failure], None]], None]], Command]:
    """As :func:`command`, for a :class:`Send`."""

    def register(send: Callable[[Call, Request, Callable[[Result | Failure], None]], None]) -> Command:
        return _register(Send(api_key, request, role, send, answer))

    return register


def _register(entry: Command) -> Command:
    if entry.api_key in TABLE:
        raise ValueError(f"two commands with api_key {entry.api_key}")
    TABLE[entry.api_key] = entry
    return entry
