from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from chatproto.connection.heartbeat import A_TURN, Heartbeat
from chatproto.connection.protocol import ChatFactory
from chatproto.connection.state import Phase
from chatproto.errors import StorageError
from chatproto.web.site import make_site
from tests.connection.memory import CLOSE, PING, PONG, TEXT, Client, Recorder, client_frame, close_frame, config


class _Beating(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.recorder = Recorder(self.clock)
        self.factory = ChatFactory(config(), self.recorder, self.clock, make_site(lambda: True, self.clock))
        self.heartbeat = Heartbeat(self.clock, self.factory.connections, self.factory.config)
        self.heartbeat.start()
        self.logged: list[Any] = []
        observer: Any = self.logged.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def wait(self, seconds: int) -> None:
        self.clock.pump([1.0] * seconds)

    def log_in(self, **options: Any) -> Client:
        client = Client(self.factory, self.clock, **options).shake_hands()
        client.received()
        self.recorder.connections[-1].phase = Phase.GUEST
        return client

    def assertClosed(self, client: Client, code: int) -> None:
        ((opcode, payload),) = client.frames()
        self.assertEqual((opcode, int.from_bytes(payload[:2], "big")), (CLOSE, code))


class SilenceTests(_Beating):
    def test_no_handshake(self) -> None:
        """Who connects and asks nothing, or sends its header byte by byte, loses the connection after 10 s."""
        silent, slow = Client(self.factory, self.clock), Client(self.factory, self.clock)
        for _ in range(9):
            self.wait(1)
            slow.send(b"G")
        self.assertFalse(silent.transport.disconnected or slow.transport.disconnected)
        self.wait(2)
        self.assertTrue(silent.transport.disconnected and slow.transport.disconnected)

    def test_no_login(self) -> None:
        """Who does not log in within 10 s is told so, whatever else it sends."""
        client = Client(self.factory, self.clock).shake_hands()
        client.received()
        self.wait(9)
        client.send(client_frame(TEXT, b"{}"))
        self.assertEqual(client.frames(), [])
        self.wait(2)
        self.assertClosed(client, 4004)

    def test_told_to_log_in_later(self) -> None:
        """Who found too many logins in line and waits as told is not closed for that; the 10 s begin at that time."""
        client = Client(self.factory, self.clock).shake_hands()
        client.received()
        self.wait(5)
        self.recorder.connections[-1].login_from = self.clock.seconds() + 30
        for _ in range(4):
            self.wait(9)
            self.assertNotIn(CLOSE, [opcode for opcode, _ in client.frames()])
            client.send(client_frame(PONG))
        self.wait(5)
        self.assertClosed(client, 4004)

    def test_ping(self) -> None:
        """After 20 s without a frame comes a ping; a client that answers stays, and hears no more than one in 20 s."""
        client = self.log_in()
        for _ in range(10):
            self.wait(19)
            self.assertEqual(client.frames(), [])
            self.wait(2)
            self.assertEqual(client.frames(), [(PING, b"")])
            client.send(client_frame(PONG))

    def test_busy_client(self) -> None:
        """Who sends something gets no pings."""
        client = self.log_in()
        for _ in range(10):
            self.wait(15)
            client.send(client_frame(TEXT, b'{"call_type": 0}'))
        self.assertEqual(client.frames(), [])

    def test_dead(self) -> None:
        """Who is silent for 50 s is closed, after two pings, and dropped when it does not answer that either."""
        client = self.log_in()
        self.wait(49)
        self.assertEqual(client.frames(), [(PING, b""), (PING, b"")])
        self.wait(2)
        self.assertClosed(client, 4003)
        self.assertFalse(client.transport.disconnecting)
        self.wait(6)
        self.assertTrue(client.transport.disconnected)
        client.lose()
        self.assertEqual(self.recorder.heard, [("closed", 4003, "silent")])

    def test_close_answered(self) -> None:
        """A close that is answered ends at once, in order."""
        client = self.log_in()
        self.wait(51)
        client.received()
        client.send(close_frame(4003))
        self.assertTrue(client.transport.disconnecting)
        self.assertFalse(client.transport.disconnected)

    def test_paused(self) -> None:
        """While nothing is read silence does not count; from the resume it counts anew."""
        client = self.log_in()
        self.wait(15)
        client.protocol.pause()
        self.wait(25)
        client.protocol.resume()
        self.assertEqual(client.frames(), [])
        self.wait(19)
        self.assertEqual(client.frames(), [])
        self.wait(2)
        self.assertEqual(client.frames(), [(PING, b"")])

    def test_paused_too_long(self) -> None:
        """What stays paused is dropped after 30 s: whether the peer is still there cannot be seen."""
        client = self.log_in()
        client.protocol.pause()
        self.wait(29)
        self.assertFalse(client.transport.disconnected)
        self.wait(2)
        self.assertTrue(client.transport.disconnected)

    def test_never_reads(self) -> None:
        """A peer that answers but never takes our close frame and what stands before it is dropped."""
        client = self.log_in(reads=False)
        client.protocol.send(b"*" * 100_000)
        client.received()
        client.protocol.close(1001, "shutting down")
        self.wait(6)
        self.assertTrue(client.transport.disconnected)

    def test_slow_taker(self) -> None:
        """A peer that is not read, but takes what is sent to it, is there; it is dropped 30 s after it last did."""
        client = self.log_in(reads=False)
        for _ in range(6):
            client.protocol.send(b"*" * 100_000)
            self.clock.advance(0)
        for _ in range(4):
            self.wait(25)
            client.transport.drain()
        self.assertFalse(client.transport.disconnected)
        self.wait(29)
        self.assertFalse(client.transport.disconnected)
        self.wait(2)
        self.assertTrue(client.transport.disconnected)

    def test_stuck(self) -> None:
        """Who is far behind with news and takes nothing is told so, also when no more news come."""
        client = self.log_in(reads=False)
        for _ in range(20):
            client.protocol.send(b"*" * 100_000, push=True)
            self.clock.advance(0)
        self.wait(1)
        client.transport.drain()
        self.wait(1)
        self.assertEqual([opcode for opcode, _ in client.frames()], [TEXT] * 2)
        self.wait(2)
        client.transport.drain()
        self.assertClosed(client, 4002)

    def test_replies_are_no_reason(self) -> None:
        """Replies that wait close nobody, however many and long."""
        client = self.log_in(reads=False)
        for _ in range(20):
            client.protocol.send(b"*" * 100_000)
            self.clock.advance(0)
        self.wait(20)
        client.transport.drain_all()
        self.assertEqual([opcode for opcode, _ in client.frames()], [TEXT] * 20)


class RequestTests(_Beating):
    """HTTP requests: no more patience than for a handshake."""

    HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    POST = b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"

    def visit(self) -> Client:
        """One that has been answered and is kept."""
        client = Client(self.factory, self.clock)
        client.send(self.HEALTH)
        self.assertEqual(client.status(), 200)
        return client

    def assertEnds(self, client: Client, part: bytes) -> None:
        """Within 10 s, though every second another byte comes; in order, and if need be by force."""
        for _ in range(9):
            self.wait(1)
            client.send(part)
            self.assertFalse(client.transport.disconnecting)
        self.wait(2)
        self.assertTrue(client.transport.disconnecting)
        self.assertFalse(client.transport.disconnected)
        self.wait(6)
        self.assertTrue(client.transport.disconnected)
        client.lose()

    def test_kept(self) -> None:
        """A kept connection may be used again within 10 s of each answer, as often as its owner likes."""
        client = self.visit()
        for _ in range(5):
            self.wait(9)
            client.send(self.HEALTH)
            self.assertEqual(client.status(), 200)
        self.assertEnds(client, b"")

    def test_slow_header(self) -> None:
        """A header that comes byte by byte keeps nothing open."""
        client = self.visit()
        self.assertEnds(client, b"G")

    def test_slow_body(self) -> None:
        """A body neither, of the first request or a later one."""
        for kept in (True, False):
            client = self.visit() if kept else Client(self.factory, self.clock)
            client.send(self.POST)
            self.assertEnds(client, b"x")

    def test_empty_lines(self) -> None:
        self.assertEnds(self.visit(), b"\r\n")

    def test_handshake(self) -> None:
        """A handshake on a kept connection has the same time for its login as any other."""
        client = self.visit()
        self.wait(9)
        client.shake_hands()
        self.assertEqual(client.status(), 101)
        self.wait(9)
        self.assertEqual(client.frames(), [])
        self.wait(2)
        self.assertClosed(client, 4004)


class LateTests(_Beating):
    def crowd(self) -> list[Client]:
        """More than are looked at in one turn, all due in the same second."""
        return [Client(self.factory, self.clock) for _ in range(2 * A_TURN + 1)]

    def test_many_at_once(self) -> None:
        """When thousands are due in one second, others get their turn between them, and all are looked at."""
        silent = self.crowd()
        counts: list[int] = []

        async def count() -> None:
            counts.append(sum(client.transport.disconnected for client in silent))

        self.heartbeat.every(1, "count", count)
        self.wait(11)
        self.assertEqual(counts, [0] * 9 + [A_TURN, len(silent)])

    def test_stop_between_them(self) -> None:
        """A server that stops meanwhile does not go on with them."""
        silent = self.crowd()
        stopped: list[Deferred[None]] = []

        async def stop() -> None:
            stopped.append(Deferred.fromCoroutine(self.heartbeat.stop()))

        self.heartbeat.every(10, "stop", stop)
        self.wait(11)
        self.assertEqual(sum(client.transport.disconnected for client in silent), A_TURN)
        self.successResultOf(stopped[0])

    def test_sleep(self) -> None:
        """A process that was stopped for a minute closes nobody: it could not hear what they sent."""
        client = self.log_in()
        waiting = Client(self.factory, self.clock)
        self.clock.advance(60)
        self.assertEqual(client.frames(), [])
        self.assertFalse(waiting.transport.disconnected)
        self.wait(51)
        self.assertEqual([opcode for opcode, _ in client.frames()], [PING, PING, CLOSE])
        self.assertTrue(waiting.transport.disconnected)

    def test_one_failure(self) -> None:
        """An error with one connection does not stop the pings of the others."""
        broken, client = self.log_in(), self.log_in()

        def fail() -> None:
            raise ZeroDivisionError

        broken.protocol.ping = fail  # type: ignore[method-assign]
        self.wait(21)
        self.assertEqual(client.frames(), [(PING, b"")])
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))


class JobTests(_Beating):
    def test_period(self) -> None:
        """A job runs once in its period."""
        times: list[float] = []

        async def work() -> None:
            times.append(self.clock.seconds())

        self.heartbeat.every(5, "work", work)
        self.wait(16)
        self.assertEqual(times, [5, 10, 15])

    def test_error(self) -> None:
        """A job that fails is logged by its name and runs again; so do the others."""
        times: list[float] = []

        async def fail() -> None:
            raise ZeroDivisionError

        async def work() -> None:
            times.append(self.clock.seconds())

        self.heartbeat.every(2, "divide", fail)
        self.heartbeat.every(2, "work", work)
        self.wait(4)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual(times, [2, 4])
        self.assertIn("divide", [event.get("job") for event in self.logged])

    def test_no_database(self) -> None:
        """What the database could not do is tried again with each beat: it goes on soon after an outage."""
        times: list[float] = []

        async def work() -> None:
            times.append(self.clock.seconds())
            if self.clock.seconds() < 8:
                raise StorageError("away")

        self.heartbeat.every(5, "work", work)
        self.wait(13)
        self.assertEqual(times, [5, 6, 7, 8, 13])

    def test_no_overlap(self) -> None:
        """A job that takes longer than its period does not run twice at once."""
        runs: list[Deferred[None]] = []

        async def work() -> None:
            runs.append(Deferred())
            await runs[-1]

        self.heartbeat.every(1, "work", work)
        self.wait(5)
        self.assertEqual(len(runs), 1)
        runs[0].callback(None)
        self.wait(1)
        self.assertEqual(len(runs), 2)

    def test_stop(self) -> None:
        """Stopping waits for what runs, and nothing starts any more."""
        runs: list[Deferred[None]] = []

        async def work() -> None:
            runs.append(Deferred())
            await runs[-1]

        self.heartbeat.every(1, "work", work)
        self.wait(1)
        stopped = Deferred.fromCoroutine(self.heartbeat.stop())
        self.assertNoResult(stopped)
        self.wait(3)
        runs[0].callback(None)
        self.successResultOf(stopped)
        self.wait(3)
        self.assertEqual(len(runs), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
