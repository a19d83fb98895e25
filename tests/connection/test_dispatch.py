"""From a frame to its reply, over links in memory and a clock that stands until it is moved.

The commands are the test's own: each shows what it was called with, and ends when the test says so.
"""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from chatproto import errors
from chatproto.bus.local import LocalBus
from chatproto.bus.notice import ALL, PART2, Missed, Notice
from chatproto.commands.table import Answer, Call, Command, Login, Services
from chatproto.connection.dispatch import LATE_EVERY, Dispatch
from chatproto.connection.hub import Hub
from chatproto.connection.rate import Rate
from chatproto.connection.state import ConnectionState, Phase
from chatproto.domain.events import Event, Expelled
from chatproto.domain.model import Known, Person, Principal, Role
from chatproto.services.sessions import Sessions
from chatproto.wire import codes
from chatproto.wire.fields import Limits
from chatproto.wire.frame import Frame, push
from tests.connection.link import MemoryLink

GUEST_LOGIN, GUEST_LOGOUT, START, SEND, HISTORY = 21000, 21020, 22000, 22300, 22100
ADMIN_LOGIN, CHAT_LIST, SEND_TO_GUEST = 31000, 32000, 32300
EVENT = cast(Event, Expelled("somebody", 4000, "told"))


class Values:
    """A request that is its top-level fields; ``bad`` refuses it."""

    @classmethod
    def decode(cls, frame: Frame, limits: Limits) -> dict[str, Any]:
        if "bad" in frame.values:
            raise errors.Malformed(field="bad")
        return frame.values


@dataclass
class Run:
    """A command that was started and waits for its end."""

    call: Call
    values: dict[str, Any]
    end: Deferred[Answer]

    @property
    def n(self) -> object:
        return self.values.get("n")

    def answer(self, events: Sequence[Event] = (), **data: Any) -> None:
        self.end.callback(Answer(data, events))

    def fail(self, error: BaseException) -> None:
        self.end.errback(error)


class Departures:
    """Stands where sessions are ended: remembers whose."""

    def __init__(self) -> None:
        self.ended_ones: list[str] = []

    async def ended(self, principal: Principal, ix: str) -> list[Event]:
        self.ended_ones.append(principal.topic)
        return []


class DispatchCase(SynchronousTestCase):
    """A dispatch with a table of its own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wall = 1_000_000.0
        self.alive = True
        self.runs: list[Run] = []
        self.announced: list[tuple[Event, list[int]]] = []
        self.departures = Departures()
        self.bus = LocalBus()
        self.hub = Hub(self.bus, self.clock, self._catch, self._compare, lambda: self.wall + self.clock.seconds())
        self.logged: list[LogEvent] = []
        observer: Any = self.logged.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        services = Services(
            sessions=cast(Sessions, self.departures),
            messaging=cast(Any, None),
            assignment=cast(Any, None),
            guests=cast(Any, None),
            recalls=cast(Any, None),
            typing=cast(Any, None),
            keyring=cast(Any, None),
            newcomers=cast(Any, None),
            wall=lambda: self.wall + self.clock.seconds(),
            limits=Limits(),
            refresh_limit=0,
            max_page_bytes=1000,
        )
        commands = [
            Command(GUEST_LOGIN, Values, None, self._logging_in, overlaps=False, reads=False),
            Command(ADMIN_LOGIN, Values, None, self._logging_in, overlaps=False, reads=False),
            Command(GUEST_LOGOUT, Values, Role.GUEST, self._logging_out, overlaps=False, reads=False),
            Command(START, Values, Role.GUEST, self._started_by_client, overlaps=False, reads=False),
            Command(SEND, Values, Role.GUEST, self._started_by_client, overlaps=True, reads=False),
            Command(HISTORY, Values, Role.GUEST, self._started_by_client, overlaps=False, reads=True),
            Command(CHAT_LIST, Values, Role.ADMIN, self._started_by_client, overlaps=False, reads=True),
            Command(SEND_TO_GUEST, Values, Role.ADMIN, self._started_by_client, overlaps=True, reads=False),
        ]
        self.dispatch = Dispatch(
            services,
            self.hub,
            self._announce,
            lambda: self.alive,
            self.clock,
            Rate(50, 200),
            language="en",
            timeout=5.0,
            max_waiting=64,
            max_logins=2,
            max_logins_waiting=3,
            table={command.api_key: command for command in commands},
        )

    async def _catch(self, who: Principal, conversation_id: int, known: Known | None) -> Missed:
        return Missed((), known)

    async def _compare(self, revs: dict[int, int], admins: Sequence[int]) -> tuple[set[int], dict[int, set[int]]]:
        return set(), {}

    def _announce(self, events: Iterable[Event]) -> None:
        for event in events:
            self.announced.append((event, [len(client.link.frames) for client in self.clients]))

    # The commands.

    async def _logging_in(self, call: Call, values: dict[str, Any]) -> Answer:
        role = Role(values["call_type"])
        person = Person(role, values.get("gid", 1), "", "")
        principal = Principal(person, 1, 9 if role is Role.GUEST else None, values.get("exp"))
        if call.principal is not None and call.principal.topic != principal.topic:
            raise errors.NotPermitted()
        if values.get("early"):
            raise errors.GuestBanned()
        await call.join(principal)
        end: Deferred[Answer] = Deferred()
        if values.get("slow"):
            self.runs.append(Run(call, values, end))
            await end
        if values.get("late"):
            raise errors.GuestBanned()
        if values.get("full"):
            raise errors.TooManyConnections()
        return Answer({}, login=Login(principal, None, values.get("v", 1), {}))

    async def _logging_out(self, call: Call, values: dict[str, Any]) -> Answer:
        return Answer({}, [EVENT], close=(1000, "logged out"))

    async def _started_by_client(self, call: Call, values: dict[str, Any]) -> Answer:
        if "now" in values:
            return Answer({"n": values.get("n")})
        run = Run(call, values, Deferred())
        self.runs.append(run)
        return await run.end

    # The clients.

    clients: list[Client]

    def connect(self) -> Client:
        if "clients" not in self.__dict__:
            self.clients = []
        client = Client(self.dispatch)
        self.clients.append(client)
        return client

    def guest(self, **values: Any) -> Client:
        """One that is logged in; the reply to that is forgotten."""
        client = self.connect()
        client.ask(GUEST_LOGIN, call_type=1, **values)
        self.assertEqual(client.codes(), [200])
        return client

    def admin(self, **values: Any) -> Client:
        client = self.connect()
        client.ask(ADMIN_LOGIN, call_type=3, **values)
        self.assertEqual(client.codes(), [200])
        return client

    def started(self) -> list[object]:
        """``n`` of the commands that were started and have not ended."""
        return [run.n for run in self.runs if not run.end.called]

    def tell(self, topic: str, **data: Any) -> None:
        self.bus.publish([Notice(topic, ((push(codes.PUSH_GUEST_STATE, data), PART2),))])


class Client:
    """One connection's other end."""

    def __init__(self, dispatch: Dispatch) -> None:
        self.dispatch = dispatch
        self.link = MemoryLink()
        self.state: ConnectionState = dispatch.opened(self.link, "192.0.2.1")

    def say(self, payload: bytes) -> None:
        self.dispatch.text(self.state, payload)

    def ask(self, api_key: int, **values: Any) -> None:
        self.say(json.dumps({"api_key": api_key, **values}).encode())

    def frames(self) -> list[dict[str, Any]]:
        """What came since the last call."""
        frames, self.link.frames = self.link.frames, []
        return frames

    def codes(self) -> list[int]:
        return [frame["code"] for frame in self.frames()]

    def one(self) -> dict[str, Any]:
        [frame] = self.frames()
        return frame

    def leave(self) -> None:
        self.dispatch.closed(self.state, 1001, "")


class ChecksTests(DispatchCase):
    """In the order of docs/protocol.md, *Error codes*: a request that fails two checks gets the first one's code."""

    def spend(self, client: Client) -> None:
        """Use up the rate."""
        client.state.tokens = 0.0
        client.state.tokens_at = self.clock.seconds()

    def test_frame_first(self) -> None:
        """A frame that cannot be read is called malformed, whoever sent it and how fast."""
        client = self.connect()
        self.spend(client)
        client.say(b'{"api_key": 1.5}')
        self.assertEqual(client.one()["code"], -9998)
        client.say(b"no JSON")
        self.assertEqual(
            client.one(),
            {"api_key": 0, "data": {}, "code": -9998, "message": "malformed request", "status": "Error"},
        )

    def test_unknown_api_key_second(self) -> None:
        """An unknown number is called that before a login is asked for."""
        client = self.connect()
        self.spend(client)
        client.ask(1, request_id="a")
        self.assertEqual(
            client.one(),
            {
                "api_key": 1,
                "data": {},
                "code": -9996,
                "message": "unknown api_key",
                "status": "Error",
                "request_id": "a",
            },
        )

    def test_login_third(self) -> None:
        """Who is not logged in is told so, not that the number is for others or that it came too fast."""
        client = self.connect()
        self.spend(client)
        client.ask(START)
        client.ask(CHAT_LIST)
        self.assertEqual(client.codes(), [-9999, -9999])

    def test_expired_before_role(self) -> None:
        """Whose token expired is asked to log in again, whatever was asked and how fast."""
        client = self.guest(exp=1_000_010)
        self.clock.advance(10)
        self.spend(client)
        client.ask(CHAT_LIST)
        client.ask(START)
        self.assertEqual(client.codes(), [-9999, -9999])

    def test_role_fourth(self) -> None:
        """A guest may not do what admins do, also at once too fast."""
        guest, admin = self.guest(), self.admin()
        self.spend(guest)
        guest.ask(CHAT_LIST)
        self.assertEqual(guest.codes(), [-9994])
        admin.ask(START)
        self.assertEqual(admin.codes(), [-9994])

    def test_rate_fifth(self) -> None:
        """Too fast comes before what is wrong with the parameters."""
        client = self.guest()
        self.spend(client)
        client.ask(START, bad=1)
        self.assertEqual(client.codes(), [-9997])
        self.clock.advance(1)
        client.ask(START, bad=1)
        self.assertEqual(client.one()["data"], {"field": "bad"})
        self.assertEqual(self.runs, [])

    def test_call_type_afterwards(self) -> None:
        """After the login any call_type but 0 is ignored: rights come from the login alone."""
        guest = self.guest()
        guest.ask(CHAT_LIST, call_type=3)
        guest.ask(START, call_type=3, now=1)
        guest.ask(START, call_type="x", now=1)
        self.assertEqual(guest.codes(), [-9994, 200, 200])

    def test_binary(self) -> None:
        """A binary message gets an error reply in its place among the others, and the connection stays."""
        client = self.guest()
        client.ask(START, n=1)
        client.dispatch.binary(client.state)
        self.assertEqual(client.frames(), [])
        self.runs[0].answer()
        self.assertEqual(client.codes(), [200, -9998])
        self.assertIsNone(client.link.closed)

    def test_language(self) -> None:
        """The words of the given document stay in every language; data is an empty object where there is none."""
        client = self.connect()
        client.ask(START)
        frame = client.one()
        self.assertEqual((frame["message"], frame["data"]), ("需要重新登录", {}))


class OrderTests(DispatchCase):
    def test_replies_in_order(self) -> None:
        """A client that does not use request_id can match replies by their order, errors among them."""
        client = self.guest()
        client.ask(SEND, request_id=1)
        client.ask(CHAT_LIST, request_id=2)
        client.ask(SEND, request_id=3)
        client.ask(77, request_id=4)
        self.runs[1].answer()
        self.assertEqual(client.frames(), [])
        self.runs[0].answer()
        self.assertEqual([frame["request_id"] for frame in client.frames()], [1, 2, 3, 4])

    def test_sends_overlap(self) -> None:
        """Messages sent one after the other are stored together: none waits for the reply to the one before."""
        client = self.guest()
        for n in range(5):
            client.ask(SEND, n=n)
        self.assertEqual(self.started(), [0, 1, 2, 3, 4])

    def test_many_sends(self) -> None:
        """64 messages of one connection are on their way to the database at once; the next ones wait for their turn."""
        client = self.guest()
        for n in range(66):
            client.ask(SEND, n=n)
        self.assertEqual(self.started(), list(range(64)))
        self.runs[0].answer()
        self.assertEqual(self.started(), list(range(1, 65)))
        self.assertFalse(client.link.paused)

    def test_other_commands_wait_and_hold(self) -> None:
        """Any other command sees what was sent before it, and what comes after it sees its effect."""
        client = self.guest()
        for n, api_key in enumerate([SEND, SEND, START, SEND, SEND, HISTORY, START]):
            client.ask(api_key, n=n)
        self.assertEqual(self.started(), [0, 1])
        self.runs[1].answer()
        self.assertEqual(self.started(), [0])
        self.runs[0].answer()
        self.assertEqual(self.started(), [2])
        self.runs[2].answer()
        self.assertEqual(self.started(), [3, 4])
        self.runs[3].answer()
        self.runs[4].fail(errors.GuestMsgBad())
        self.assertEqual(self.started(), [5])
        self.runs[5].answer()
        self.assertEqual(self.started(), [6])
        self.runs[6].answer()
        self.assertEqual(client.codes(), [200, 200, 200, 200, -22304, 200, 200])

    def test_connections_apart(self) -> None:
        """A slow command of one connection holds up no other connection, not even of the same guest."""
        one, other = self.guest(), self.guest()
        one.ask(START, n=1)
        other.ask(START, n=2)
        self.assertEqual(self.started(), [1, 2])

    def test_login_holds(self) -> None:
        """What is sent right behind a login, without waiting for its reply, is done as whom it logs in."""
        client = self.connect()
        client.ask(GUEST_LOGIN, call_type=1, gid=7, slow=1)
        client.ask(START, n=1)
        client.ask(CHAT_LIST)
        self.runs[0].answer()
        self.assertEqual(self.started(), [1])
        self.assertEqual(self.runs[1].call.who.topic, "guest:1:7")
        self.runs[1].answer()
        self.assertEqual(client.codes(), [200, 200, -9994])

    def test_failed_login_holds(self) -> None:
        """What is sent right behind a login that fails is not done."""
        client = self.connect()
        client.ask(GUEST_LOGIN, call_type=1, slow=1, late=1)
        client.ask(START)
        self.runs[0].answer()
        self.assertEqual(client.codes(), [-21003, -9999])

    def test_heartbeat_passes(self) -> None:
        """A heartbeat is answered at once, whatever waits and whoever asks."""
        self.connect().say(b'{"call_type": 0}')
        client = self.guest()
        client.ask(START)
        client.ask(START)
        client.say(b'{"api_key": 22000, "call_type": 0, "request_id": "h"}')
        self.assertEqual(
            client.frames(),
            [
                {
                    "api_key": 0,
                    "data": {"server_time": 1_000_000_000},
                    "code": 200,
                    "message": "",
                    "status": "Success",
                    "request_id": "h",
                }
            ],
        )
        self.assertEqual(self.clients[0].codes(), [200])

    def test_reply_before_its_pushes(self) -> None:
        """The reply leaves before the pushes that the request caused."""
        client = self.guest()
        client.ask(START)
        self.runs[0].answer([EVENT])
        self.assertEqual(self.announced, [(EVENT, [1])])

    def test_pushes_behind_finished_replies(self) -> None:
        """A reply that waits for an earlier one still leaves before the pushes that its request caused."""
        client = self.guest()
        client.ask(SEND, request_id=1)
        client.ask(SEND, request_id=2)
        client.ask(SEND, request_id=3)
        self.tell("guest:1:1", n="first")
        self.runs[1].answer()
        self.tell("guest:1:1", n="of the second")
        self.tell("guest:1:1", n="later")
        self.assertEqual([frame["data"] for frame in client.frames()], [{"n": "first"}])
        self.runs[0].answer()
        told = [frame.get("request_id") or frame["data"]["n"] for frame in client.frames()]
        self.assertEqual(told, [1, 2, "of the second", "later"])
        self.assertEqual(len(client.link.pushes), 3)
        self.runs[2].answer()
        self.assertEqual(client.one()["request_id"], 3)

    def test_many_that_end_at_once(self) -> None:
        """Thousands of commands that wait for one and fail at once are all answered."""
        client = self.guest()
        client.ask(START)
        for _ in range(3000):
            self.dispatch._rate.fill(client.state, self.clock.seconds())
            client.ask(START, now=1)
        self.runs[0].answer()
        self.assertEqual(client.codes(), [200] * 3001)


class WaitingTests(DispatchCase):
    def test_reading_pauses(self) -> None:
        """A client with more than 64 commands waiting is not read until there are 64."""
        client = self.guest()
        client.ask(START)
        for _ in range(64):
            client.ask(START)
        self.assertFalse(client.link.paused)
        client.ask(START)
        self.assertTrue(client.link.paused)
        self.runs[0].answer()
        self.assertFalse(client.link.paused)
        for run in range(1, 66):
            self.runs[run].answer()
        self.assertEqual(client.codes(), [200] * 66)

    def test_heartbeat_while_paused(self) -> None:
        """A heartbeat is answered even while 64 commands wait."""
        client = self.guest()
        for _ in range(65):
            client.ask(START)
        client.say(b'{"call_type": 0}')
        self.assertEqual(client.codes(), [200])

    def test_rate(self) -> None:
        """Past the rate a request is refused, the reply says when to come back, and nothing is taken until then."""
        client = self.guest()
        for _ in range(199):
            client.ask(START, now=1)
        self.assertEqual(client.codes(), [200] * 199)
        self.assertIsNone(client.link.resting)
        client.ask(START, now=1)
        frame = client.one()
        self.assertEqual((frame["code"], frame["data"]), (-9997, {"retry_after_ms": 21}))
        self.assertEqual(client.link.resting, 0.02)
        self.clock.advance(0.021)
        client.ask(START, now=1)
        self.assertEqual(client.codes(), [200])

    def test_rate_of_heartbeats(self) -> None:
        """Heartbeats count too: nobody can keep the server busy with them."""
        client = self.connect()
        for _ in range(201):
            client.say(b'{"call_type": 0}')
        self.assertEqual(client.codes(), [200] * 200 + [-9997])
        self.assertEqual(client.link.resting, 0.02)

    def test_rate_of_refused(self) -> None:
        """What is refused counts too."""
        client = self.connect()
        for _ in range(201):
            client.say(b"{}")
        self.assertEqual(client.codes(), [-9998] * 201)
        self.assertEqual(client.link.resting, 0.02)

    def test_rate_of_binary(self) -> None:
        """Binary messages count too."""
        client = self.connect()
        for _ in range(201):
            client.dispatch.binary(client.state)
        self.assertEqual(client.link.resting, 0.02)

    def test_rate_of_frames(self) -> None:
        """So do pings, pongs and fragments, which are not answered here."""
        client = self.connect()
        for _ in range(200):
            client.dispatch.frame(client.state)
        self.assertIsNone(client.link.resting)
        client.dispatch.frame(client.state)
        self.assertEqual(client.link.resting, 0.02)
        client.say(b'{"call_type": 0}')
        self.assertEqual(client.codes(), [-9997])

    def test_rate_of_large_ones(self) -> None:
        """Large requests count several times."""
        client = self.guest()
        for _ in range(40):
            client.ask(START, now=1, pad="x" * 16384)
        self.assertEqual(client.codes(), [200] * 40)
        client.ask(START, now=1)
        self.assertEqual(client.codes(), [-9997])

    def test_no_timers(self) -> None:
        """A flood leaves nothing here that is due."""
        client = self.connect()
        before = len(self.clock.getDelayedCalls())
        for _ in range(1000):
            client.say(b"{}")
        self.assertEqual(len(self.clock.getDelayedCalls()), before)


class GarbageTests(DispatchCase):
    def test_no_cycle(self) -> None:
        """A connection that asked something is freed as soon as it has gone, without the collector of cycles."""
        client = self.guest()
        client.ask(START, now=1)
        client.ask(SEND, now=2)
        self.assertEqual(client.codes(), [200, 200])
        freed = weakref.ref(client.link)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        client.leave()
        self.clock.advance(10)
        self.clients.clear()
        del client
        self.assertIsNone(freed())


class CongestedTests(DispatchCase):
    """Replies that are not taken."""

    def test_nothing_starts(self) -> None:
        """Who does not take the replies is not given more: the next command waits until they are taken."""
        client = self.guest()
        client.ask(HISTORY, n=1)
        client.ask(HISTORY, n=2)
        client.link.congested = True
        self.runs[0].answer()
        client.ask(SEND, n=3)
        self.assertEqual(self.started(), [])
        client.link.congested = False
        self.dispatch.drained(client.state)
        self.assertEqual(self.started(), [2])
        self.runs[1].answer()
        self.runs[2].answer()
        self.assertEqual(client.codes(), [200] * 3)

    def test_heartbeat(self) -> None:
        """A heartbeat is answered all the same."""
        client = self.guest()
        client.link.congested = True
        client.say(b'{"call_type": 0}')
        self.assertEqual(client.codes(), [200])

    def test_login(self) -> None:
        """A login holds no place in the line of others while it cannot start."""
        client, other = self.connect(), self.connect()
        client.link.congested = True
        client.ask(GUEST_LOGIN, call_type=1)
        other.ask(GUEST_LOGIN, call_type=1)
        self.assertEqual((client.codes(), other.codes()), ([], [200]))
        client.link.congested = False
        self.dispatch.drained(client.state)
        self.assertEqual(client.codes(), [200])

    def test_too_late(self) -> None:
        """Nobody waits longer than 5 s for an error, and what has not been started by then never is."""
        client = self.guest()
        client.link.congested = True
        client.ask(SEND, n=1)
        self.clock.advance(5)
        frame = client.one()
        self.assertEqual((frame["code"], "outcome" in frame["data"]), (-9995, False))
        client.link.congested = False
        self.dispatch.drained(client.state)
        self.assertEqual(self.started(), [])

    def test_left(self) -> None:
        """What a client sent before it left is done."""
        client = self.guest()
        client.link.congested = True
        client.ask(SEND, n=1)
        client.link.congested = False
        client.leave()
        self.assertEqual(self.started(), [1])


class TimeTests(DispatchCase):
    def test_time_limit(self) -> None:
        """Nobody waits longer than 5 s for a reply; the trace id stands in the log."""
        client = self.guest()
        client.ask(START, request_id=1)
        self.clock.advance(4.999)
        self.assertEqual(client.frames(), [])
        self.clock.advance(0.001)
        frame = client.one()
        self.assertEqual((frame["code"], frame["request_id"], frame["data"]["outcome"]), (-9995, 1, "unknown"))
        self.assertEqual(set(frame["data"]), {"trace_id", "outcome"})
        self.assertIn(frame["data"]["trace_id"], [event.get("trace_id") for event in self.logged])

    def late_lines(self) -> list[str]:
        """The ids of the log's lines that tell of commands that took too long."""
        return [event["trace_id"] for event in self.logged if "took too long" in str(event.get("log_format"))]

    def test_many_late_ones(self) -> None:
        """A peer that lets fifty commands be late fills no log: one line a minute, whose id all of its replies have."""
        client, other = self.guest(), self.guest()
        client.link.congested = True
        for n in range(50):
            client.ask(SEND, n=n)
        other.ask(START)
        self.clock.advance(5)
        told = {frame["data"]["trace_id"] for frame in client.frames()}
        self.assertEqual(len(told), 1)
        self.assertEqual(sorted(self.late_lines()), sorted(told | {other.one()["data"]["trace_id"]}))
        client.ask(SEND, n=50)
        self.clock.advance(LATE_EVERY - 0.1)
        self.assertEqual(len(self.late_lines()), 2)
        client.ask(SEND, n=51)
        self.clock.advance(5)
        self.assertEqual(len(self.late_lines()), 3)
        self.assertEqual(client.frames()[-1]["data"]["trace_id"], self.late_lines()[-1])

    def test_late_reply_is_dropped(self) -> None:
        """A request has one reply: a result that comes after the time limit is not sent."""
        client = self.guest()
        client.ask(START)
        self.clock.advance(5)
        self.runs[0].answer([EVENT])
        self.assertEqual(client.codes(), [-9995])
        self.assertEqual([event for event, _ in self.announced], [EVENT])

    def test_late_login(self) -> None:
        """Who was told that the login took too long is not on line: the connection is closed, and no news comes."""
        client = self.connect()
        client.ask(GUEST_LOGIN, call_type=1, slow=1)
        client.ask(GUEST_LOGIN, call_type=1, gid=2)
        self.clock.advance(5)
        self.runs[0].answer()
        self.tell("guest:1:1", n=1)
        self.assertEqual(client.codes(), [-9995, -9995])
        self.assertEqual(client.link.closed, (1011, "the login took too long"))
        self.assertEqual(self.departures.ended_ones, ["guest:1:1"])
        self.assertEqual(self.hub.connections(), [])
        client.leave()
        self.assertEqual(self.departures.ended_ones, ["guest:1:1"])

    def test_late_renewal(self) -> None:
        """Who was logged in before stays so, however late the login that renews it is."""
        client = self.guest(gid=3)
        client.ask(GUEST_LOGIN, call_type=1, gid=3, slow=1)
        self.clock.advance(5)
        self.runs[0].answer()
        self.tell("guest:1:3", n=1)
        self.assertEqual(client.codes(), [-9995, codes.PUSH_GUEST_STATE])
        self.assertIsNone(client.link.closed)

    def test_reads_have_no_outcome(self) -> None:
        """Nothing is unknown about a question that was not answered in time."""
        client = self.guest()
        client.ask(HISTORY)
        self.clock.advance(5)
        self.assertEqual(set(client.one()["data"]), {"trace_id"})

    def test_from_arrival(self) -> None:
        """The time runs from the arrival of a command, also while it waits; what never started is not done later."""
        client = self.guest()
        client.ask(START, n=1)
        self.clock.advance(2)
        client.ask(START, n=2)
        client.ask(SEND, n=3)
        self.clock.advance(2)
        client.ask(START, n=4)
        self.clock.advance(1)
        self.assertEqual(client.codes(), [-9995])
        self.clock.advance(2)
        self.assertEqual([set(frame["data"]) for frame in client.frames()], [{"trace_id"}] * 2)
        self.runs[0].answer()
        self.assertEqual(self.started(), [4])
        self.runs[1].answer()
        self.assertEqual(client.codes(), [200])

    def test_held_by_a_late_one(self) -> None:
        """A command that is over its time still holds what comes after it: effects stay in order."""
        client = self.guest()
        client.ask(START, n=1)
        self.clock.advance(5)
        client.ask(START, n=2)
        self.assertEqual(self.started(), [1])
        self.runs[0].answer()
        self.assertEqual(self.started(), [2])

    def test_each_has_its_own(self) -> None:
        """One timer serves all connections, and each command gets its whole time."""
        one, other = self.guest(), self.guest()
        one.ask(START)
        self.clock.advance(3)
        other.ask(START)
        self.clock.advance(2)
        self.assertEqual((one.codes(), other.codes()), ([-9995], []))
        self.clock.advance(3)
        self.assertEqual(other.codes(), [-9995])

    def test_late_failures(self) -> None:
        """An error that comes after the time limit does no harm."""
        client = self.guest()
        client.ask(SEND)
        client.ask(SEND)
        self.clock.advance(5)
        self.runs[0].fail(errors.StorageError("gone", applied=None))
        self.runs[1].fail(errors.GuestMsgBad())
        self.assertEqual(client.codes(), [-9995, -9995])
        client.ask(SEND, now=1)
        self.assertEqual(client.codes(), [200])

    def test_stop(self) -> None:
        """After a stop no timer is left."""
        client = self.guest()
        client.ask(START)
        self.dispatch.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(60)
        self.assertEqual(client.frames(), [])


class FailureTests(DispatchCase):
    def test_unknown_exception(self) -> None:
        """A mistake of ours is answered without detail, and found in the log by its trace id."""
        client = self.guest()
        client.ask(START, request_id="r")
        self.runs[0].fail(ZeroDivisionError("secret"))
        frame = client.one()
        self.assertEqual((frame["api_key"], frame["code"], frame["request_id"]), (START, -9995, "r"))
        self.assertEqual((set(frame["data"]), frame["data"]["outcome"]), ({"trace_id", "outcome"}, "unknown"))
        self.assertNotIn("secret", json.dumps(frame))
        [failure] = self.flushLoggedErrors(ZeroDivisionError)
        [event] = [event for event in self.logged if event.get("log_failure") is failure]
        self.assertEqual(event["trace_id"], frame["data"]["trace_id"])

    def test_storage_errors(self) -> None:
        """The outcome is unknown only where the database did not say."""
        client = self.guest()
        for applied, fields in ((None, {"trace_id", "outcome"}), (False, {"trace_id"})):
            client.ask(START)
            self.runs[-1].fail(errors.StorageError("it broke", applied=applied))
            frame = client.one()
            self.assertEqual((frame["code"], set(frame["data"])), (-9995, fields))
            event = self.logged[-1]
            self.assertEqual((event["trace_id"], event["error"]), (frame["data"]["trace_id"], "it broke"))
        client.ask(HISTORY)
        self.runs[-1].fail(errors.StorageError("it broke", applied=None))
        self.assertEqual(set(client.one()["data"]), {"trace_id"})

    def test_true_all_the_same(self) -> None:
        """What a command did before it failed is told to those whom it concerns."""
        client = self.guest()
        client.ask(START, n=1)
        self.runs[0].call.tell([EVENT])
        self.assertEqual(self.announced, [(EVENT, [0])])
        self.runs[0].fail(errors.StorageError("away"))
        self.assertEqual(client.codes(), [-9995])
        self.assertEqual(len(self.announced), 1)

    def test_goes_on_after_a_failure(self) -> None:
        """One failed request does not stop the connection."""
        client = self.guest()
        client.ask(START)
        client.ask(START, now=1)
        self.runs[0].fail(ZeroDivisionError())
        self.assertEqual(client.codes(), [-9995, 200])
        self.flushLoggedErrors(ZeroDivisionError)

    def test_error_data(self) -> None:
        """An error carries what its table says."""
        client = self.guest()
        client.ask(START)
        self.runs[0].fail(errors.TakenByAnother(admin_id=5))
        frame = client.one()
        self.assertEqual((frame["code"], frame["data"], frame["status"]), (-32022, {"admin_id": 5}, "Error"))

    def test_reply_that_cannot_be_made(self) -> None:
        """A reply that is no JSON ends the connection with 1011, and the client finds its state by logging in."""
        client = self.guest()
        client.ask(START)
        self.runs[0].answer(data=object())
        self.assertEqual(client.link.closed, (1011, "internal error"))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_connection_ends(self) -> None:
        """One connection too many is closed with 4005, without a reply."""
        client = self.connect()
        client.ask(GUEST_LOGIN, call_type=1, full=1)
        self.assertEqual((client.frames(), client.link.closed), ([], (4005, "too many connections")))
        self.assertEqual(self.hub.connections(), [])


class LeavingTests(DispatchCase):
    def test_cancels_nothing(self) -> None:
        """Who sends and closes at once has sent; the reply is dropped."""
        client = self.guest()
        client.ask(SEND, n=1)
        client.ask(START, n=2)
        client.leave()
        self.assertEqual(self.started(), [1])
        self.runs[0].answer([EVENT])
        self.assertEqual(self.started(), [2])
        self.runs[1].answer([EVENT])
        self.assertEqual(len(self.announced), 2)

    def test_session_ends(self) -> None:
        """Who closes is off line."""
        client = self.guest(gid=3)
        client.leave()
        self.assertEqual(self.departures.ended_ones, ["guest:1:3"])
        self.assertEqual(self.hub.connections(), [])

    def test_nobody_leaves(self) -> None:
        """A connection that never logged in ends without a trace."""
        self.connect().leave()
        self.assertEqual(self.departures.ended_ones, [])

    def test_gone_during_login(self) -> None:
        """Who closes while the login is under way is not on line afterwards."""
        client = self.connect()
        client.ask(GUEST_LOGIN, call_type=1, slow=1)
        client.leave()
        self.runs[0].answer()
        self.assertEqual(self.departures.ended_ones, ["guest:1:1"])
        self.assertEqual(self.hub.connections(), [])
        self.assertEqual(client.frames(), [])

    def test_gone_during_failed_renewal(self) -> None:
        """Who closes while a renewal is under way that fails is not on line afterwards either."""
        client = self.guest()
        client.ask(GUEST_LOGIN, call_type=1, slow=1, late=1)
        client.leave()
        self.runs[0].answer()
        self.assertEqual(self.hub.connections(), [])
        self.assertEqual(self.departures.ended_ones, ["guest:1:1"] * 2)

    def test_log(self) -> None:
        """The operator sees who was connected, for how long, and how it ended."""
        client = self.guest(gid=3)
        client.ask(START, now=1)
        self.clock.advance(1.5)
        client.leave()
        event = self.logged[-1]
        self.assertEqual(
            [event[name] for name in ("who", "address", "code", "seconds", "received", "sent")],
            ["guest:1:3", "192.0.2.1", 1001, 1.5, 2, 2],
        )


class LoginTests(DispatchCase):
    def test_again(self) -> None:
        """A login on a logged-in connection renews the same identity."""
        client = self.guest(gid=3, exp=1_000_010)
        client.ask(GUEST_LOGIN, call_type=1, gid=3, exp=1_000_100)
        self.assertEqual(client.codes(), [200])
        self.clock.advance(50)
        client.ask(START, now=1)
        self.assertEqual(client.codes(), [200])

    def test_another_identity(self) -> None:
        """A connection belongs to one identity: another one is refused, and the first one stays."""
        client = self.guest(gid=3)
        client.ask(GUEST_LOGIN, call_type=1, gid=4)
        client.ask(ADMIN_LOGIN, call_type=3)
        client.ask(START, n=1)
        self.assertEqual(client.codes(), [-9994, -9994])
        self.assertEqual(self.runs[0].call.who.topic, "guest:1:3")

    def test_failed_login_changes_nothing(self) -> None:
        """A failed login leaves the connection as it was, whether it fails before or after the news was held."""
        client = self.guest(gid=3)
        for how in ("early", "late"):
            client.ask(GUEST_LOGIN, call_type=1, gid=3, **{how: 1})
            self.assertEqual(client.codes(), [-21003])
            self.tell("guest:1:3", n=how)
            self.assertEqual(client.one()["data"], {"n": how})
            client.ask(START, now=1)
            self.assertEqual(client.codes(), [200])

    def test_failed_first_login(self) -> None:
        """After a failed first login nobody is logged in, and no news comes."""
        client = self.connect()
        client.ask(GUEST_LOGIN, call_type=1, gid=3, late=1)
        self.tell("guest:1:3", n=1)
        self.assertEqual(client.codes(), [-21003])
        client.ask(GUEST_LOGIN, call_type=1, gid=3)
        self.tell("guest:1:3", n=2)
        self.assertEqual(client.codes(), [200, codes.PUSH_GUEST_STATE])

    def test_no_push_before_the_reply(self) -> None:
        """What happens while the login is under way comes after its reply."""
        client = self.connect()
        client.ask(GUEST_LOGIN, call_type=1, gid=3, slow=1)
        self.tell("guest:1:3", n=1)
        self.assertEqual(client.frames(), [])
        self.runs[0].answer()
        self.assertEqual(client.codes(), [200, codes.PUSH_GUEST_STATE])

    def test_last_v_counts(self) -> None:
        """An old client gets no pushes of part 2; after a login that says so, it does."""
        client = self.admin()
        notice = Notice("admin:1", ((push(32399, {}), ALL), (push(32099, {}), PART2)))
        self.bus.publish([notice])
        self.assertEqual(client.codes(), [32399])
        client.ask(ADMIN_LOGIN, call_type=3, v=2)
        client.frames()
        self.bus.publish([notice])
        self.assertEqual(client.codes(), [32399, 32099])


class LineTests(DispatchCase):
    """Two logins at once, three more in line."""

    def come(self, *numbers: int) -> list[Client]:
        clients = []
        for n in numbers:
            client = self.connect()
            client.ask(GUEST_LOGIN, call_type=1, gid=n, n=n, slow=1)
            clients.append(client)
        return clients

    def test_in_line(self) -> None:
        """Of many who come back together each is let in when another one is done, first come, first served."""
        clients = self.come(1, 2, 3, 4, 5)
        self.assertEqual(self.started(), [1, 2])
        self.runs[1].answer()
        self.assertEqual(self.started(), [1, 3])
        self.runs[0].answer()
        self.runs[2].answer()
        self.assertEqual(self.started(), [4, 5])
        self.assertEqual([client.codes() for client in clients], [[200], [200], [200], [], []])

    def test_others_pass(self) -> None:
        """Who is logged in waits for no login of others."""
        guest = self.guest()
        self.come(11, 12, 13)
        guest.ask(START, now=1)
        self.assertEqual(guest.codes(), [200])

    def test_past_the_line(self) -> None:
        """When too many wait, the next one is told when to come again, and nothing is lost by that."""
        self.come(1, 2, 3, 4, 5)
        [late] = self.come(6)
        refusal = late.one()
        self.assertEqual(refusal["code"], -9997)
        wait = refusal["data"]["retry_after_ms"]
        self.assertEqual(wait, 2501)
        self.clock.advance(wait / 1000)
        self.runs[0].answer()
        late.ask(GUEST_LOGIN, call_type=1, gid=6, n=6, slow=1)
        for run in self.runs:
            if not run.end.called:
                run.answer()
        self.assertEqual(late.codes(), [200])

    def test_turns(self) -> None:
        """Those who find no room are told different times; who asks again before has the same one still."""
        self.come(1, 2, 3, 4, 5)
        first, second = self.come(6, 7)
        times = [client.one()["data"]["retry_after_ms"] for client in (first, second)]
        self.assertLess(times[0], times[1])
        self.clock.advance(1)
        for _ in range(9):
            first.ask(GUEST_LOGIN, call_type=1, gid=6, n=6, slow=1)
        again = {refusal["data"]["retry_after_ms"] for refusal in first.frames()}
        self.assertEqual(again, {times[0] - 1000})
        [third] = self.come(8)
        self.assertEqual(third.one()["data"]["retry_after_ms"] + 1000 - times[1], times[1] - times[0])

    def test_time_for_the_login(self) -> None:
        """Who is told to come later is not late by waiting so long."""
        self.come(1, 2, 3, 4, 5)
        [late] = self.come(6)
        self.assertEqual(late.state.login_from, late.one()["data"]["retry_after_ms"] // 100 / 10)
        self.assertEqual(late.state.opened_at, 0)

    def test_failed_login(self) -> None:
        """A login that fails makes room, too."""
        self.come(1, 2, 3)
        self.runs[0].end.errback(errors.GuestBanned())
        self.assertEqual(self.started(), [2, 3])

    def test_gone_in_line(self) -> None:
        """Who went away while waiting is passed over."""
        self.come(1, 2)
        gone, _ = self.come(3, 4)
        gone.leave()
        self.runs[0].answer()
        self.assertEqual(self.started(), [2, 4])

    def test_too_late_in_line(self) -> None:
        """Who waits too long is told so, with nothing done; it is not done afterwards either."""
        self.come(1, 2)
        [late] = self.come(3)
        self.clock.advance(5)
        self.assertEqual(late.one()["data"].keys(), {"trace_id"})
        self.come(4)
        self.runs[0].answer()
        self.assertEqual(self.started(), [2, 4])

    def test_many_bad_ones(self) -> None:
        """A long line of logins that fail at once is worked off without end or depth."""
        self.come(1, 2)
        for _ in range(3):
            self.connect().ask(GUEST_LOGIN, call_type=1, early=1)
        self.runs[0].answer()
        self.assertEqual([client.codes() for client in self.clients[2:]], [[-21003]] * 3)


class ExpiryTests(DispatchCase):
    def test_expired(self) -> None:
        """When the token is over, commands get -9999 and pushes stop; heartbeats are answered."""
        client = self.guest(gid=3, exp=1_000_010)
        self.clock.advance(9.9)
        self.dispatch.expire()
        self.tell("guest:1:3", n=1)
        client.ask(START, now=1)
        self.assertEqual(client.codes(), [codes.PUSH_GUEST_STATE, 200])
        self.clock.advance(0.1)
        self.dispatch.expire()
        self.tell("guest:1:3", n=2)
        client.ask(START, now=1)
        client.say(b'{"call_type": 0}')
        self.assertEqual(client.codes(), [-9999, 200])
        self.assertIsNone(client.link.closed)

    def test_pushes_stop_at_once(self) -> None:
        """Pushes stop with the moment, not with the next look at the connections."""
        client = self.guest(gid=3, exp=1_000_010)
        self.clock.advance(9.99)
        self.tell("guest:1:3", n=1)
        self.clock.advance(0.01)
        self.tell("guest:1:3", n=2)
        self.assertEqual([frame["data"] for frame in client.frames()], [{"n": 1}])

    def test_expires_while_waiting(self) -> None:
        """A command whose turn comes after the token is over is not done."""
        client = self.guest(exp=1_000_002)
        client.ask(SEND, n=1)
        client.ask(START, n=2)
        self.clock.advance(2)
        self.runs[0].answer()
        self.assertEqual(client.codes(), [200, -9999])

    def test_login_again(self) -> None:
        """Within a minute it may log in again and goes on where it was."""
        client = self.guest(gid=3, exp=1_000_010)
        self.clock.advance(69)
        self.dispatch.expire()
        self.assertIsNone(client.link.closed)
        client.ask(GUEST_LOGIN, call_type=1, gid=3, exp=1_001_000)
        client.ask(START, now=1)
        self.tell("guest:1:3", n=1)
        self.assertEqual(client.codes(), [200, 200, codes.PUSH_GUEST_STATE])
        self.clock.advance(10)
        self.dispatch.expire()
        self.assertIsNone(client.link.closed)

    def test_pipelined_behind_the_new_login(self) -> None:
        """A command sent right behind the new login is done."""
        client = self.guest(gid=3, exp=1_000_010)
        self.clock.advance(11)
        client.ask(GUEST_LOGIN, call_type=1, gid=3, exp=1_001_000, slow=1)
        client.ask(START, now=1)
        self.runs[0].answer()
        self.assertEqual(client.codes(), [200, 200])

    def test_closed_after_a_minute(self) -> None:
        """Who does not log in again is closed with 4001 after a minute."""
        client = self.guest(exp=1_000_010)
        anonymous = self.guest(gid=2)
        self.clock.advance(70)
        self.dispatch.expire()
        self.assertEqual(client.link.closed, (4001, "the token expired"))
        self.assertIsNone(anonymous.link.closed)


class LogOutTests(DispatchCase):
    def test_log_out(self) -> None:
        """The reply comes, then the connection is closed with 1000; others are told after it."""
        client = self.guest(gid=3)
        client.ask(GUEST_LOGOUT)
        self.assertEqual((client.codes(), client.link.closed), ([200], (1000, "logged out")))
        self.assertEqual(self.hub.connections(), [])
        self.assertEqual([event for event, _ in self.announced], [EVENT])

    def test_nothing_that_waits_is_done(self) -> None:
        """What was sent behind the log-out is not done, not even a new login."""
        client = self.guest(gid=3)
        client.ask(SEND, n=1)
        client.ask(GUEST_LOGOUT)
        client.ask(SEND, n=2)
        client.ask(GUEST_LOGIN, call_type=1, gid=3)
        client.ask(START, n=3)
        self.runs[0].answer()
        self.assertEqual(self.started(), [])
        self.assertEqual(self.hub.connections(), [])

    def test_session_was_ended(self) -> None:
        """The end of the connection after a log-out ends no session again."""
        client = self.guest(gid=3)
        client.ask(GUEST_LOGOUT)
        client.leave()
        self.assertEqual(self.departures.ended_ones, [])


class DrainTests(DispatchCase):
    def assertDrained(self, done: Deferred[None]) -> None:
        """Not at once: whoever is told together with the last answer has to be told before all are closed."""
        self.assertNoResult(done)
        self.clock.advance(0)
        self.successResultOf(done)

    def test_new_commands(self) -> None:
        """A server that shuts down says so to whoever asks, and when to come back."""
        client = self.guest()
        done = self.dispatch.drain()
        self.assertDrained(done)
        client.ask(START)
        frame = client.one()
        self.assertEqual((frame["code"], frame["data"]), (-9993, {"retry_after_ms": 1000}))
        client.ask(GUEST_LOGIN, call_type=1)
        client.say(b'{"call_type": 0}')
        client.ask(1)
        self.assertEqual(client.codes(), [-9993, 200, -9996])

    def test_what_was_received(self) -> None:
        """What arrived before the signal is carried out and answered, also what had not started."""
        client = self.guest()
        client.ask(SEND)
        client.ask(START)
        done = self.dispatch.drain()
        client.ask(START)
        self.runs[0].answer()
        self.assertNoResult(done)
        self.runs[1].answer()
        self.assertDrained(done)
        self.assertEqual(client.codes(), [200, 200, -9993])

    def test_what_takes_too_long(self) -> None:
        """A command past its time limit is answered, and its end still awaited: it may hold the database."""
        client = self.guest()
        client.ask(START)
        client.ask(START)
        done = self.dispatch.drain()
        self.clock.advance(5)
        self.assertEqual(client.codes(), [-9995, -9995])
        self.assertNoResult(done)
        self.runs[0].answer()
        self.assertDrained(done)

    def test_who_left(self) -> None:
        """What a client that left has sent is carried out too."""
        client = self.guest()
        client.ask(SEND)
        done = self.dispatch.drain()
        client.leave()
        self.assertNoResult(done)
        self.runs[0].answer()
        self.assertDrained(done)

    def test_sessions_end_with_the_node(self) -> None:
        """Connections that close while the server shuts down are not ended one by one."""
        client = self.guest()
        self.dispatch.drain()
        client.leave()
        self.assertEqual(self.departures.ended_ones, [])

    def test_failed_login_under_way(self) -> None:
        """One connection too many is no reason to wait."""
        client = self.connect()
        client.ask(GUEST_LOGIN, call_type=1, slow=1, full=1)
        done = self.dispatch.drain()
        self.runs[0].answer()
        self.assertDrained(done)


class StalledTests(DispatchCase):
    def test_stalled_and_woken(self) -> None:
        """While the other nodes may have given this one up nothing is done; then it goes on in order."""
        client = self.guest()
        self.alive = False
        client.ask(SEND, n=1)
        client.ask(SEND, n=2)
        self.assertEqual(self.started(), [])
        self.alive = True
        self.dispatch.woken()
        self.assertEqual(self.started(), [1, 2])

    def test_woken_too_early(self) -> None:
        """A wake-up that turns out to be none loses nothing."""
        client = self.guest()
        self.alive = False
        client.ask(START, n=1)
        self.dispatch.woken()
        self.assertEqual(self.started(), [])
        self.alive = True
        self.dispatch.woken()
        self.assertEqual(self.started(), [1])

    def test_too_late(self) -> None:
        """What could not be started in time is answered and not done."""
        client = self.guest()
        self.alive = False
        client.ask(START, n=1)
        self.clock.advance(5)
        self.assertEqual(set(client.one()["data"]), {"trace_id"})
        self.alive = True
        self.dispatch.woken()
        self.assertEqual(self.runs, [])

    def test_heartbeats_go_on(self) -> None:
        """Heartbeats are answered meanwhile."""
        client = self.guest()
        self.alive = False
        client.say(b'{"call_type": 0}')
        self.assertEqual(client.codes(), [200])

    def test_left_while_stalled(self) -> None:
        """A client that leaves meanwhile cancels nothing either."""
        client = self.guest()
        self.alive = False
        client.ask(SEND, n=1)
        client.leave()
        self.alive = True
        self.dispatch.woken()
        self.assertEqual(self.started(), [1])


class PhaseTests(DispatchCase):
    def test_phases(self) -> None:
        """The sweep, which closes who does not log in, sees what a connection is."""
        self.assertIs(self.connect().state.phase, Phase.NEW)
        guest, admin = self.guest(), self.admin()
        self.assertEqual([guest.state.phase, admin.state.phase], [Phase.GUEST, Phase.ADMIN])
        guest.leave()
        self.assertIs(guest.state.phase, Phase.CLOSING)

    def test_ids(self) -> None:
        """No two connections have one ix."""
        self.assertEqual(len({self.connect().state.ix for _ in range(1000)}), 1000)
