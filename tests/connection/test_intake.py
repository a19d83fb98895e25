from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from chatproto.connection.heartbeat import attend
from chatproto.connection.intake import BUFFER, Intake, RequestLine, SenderGone
from tests.connection.memory import Client, ConnectedCase, request

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: chat.example\r\n\r\n"


def post(size: int, *fields: str, version: str = "HTTP/1.1") -> bytes:
    lines = [f"POST /files {version}", "Host: chat.example", f"Content-Length: {size}", *fields, "", ""]
    return "\r\n".join(lines).encode()


class Shelf:
    """A taker that keeps what comes, as fast as the test lets it.

    :ivar refuses: answers before it reads anything.
    :ivar steps: what a test fires, one for each read, where it wants to be asked.
    """

    stall, longest = 50.0, 600.0

    def __init__(self) -> None:
        self.refuses = self.slow = False
        self.taken: list[bytes] = []
        self.steps: list[Deferred[None]] = []
        self.gone: list[SenderGone] = []

    def takes(self, line: RequestLine) -> bool:
        return (line.method, line.target) == ("POST", "/files")

    async def __call__(self, intake: Intake) -> bytes:
        try:
            if not self.refuses:
                await self._take(intake)
        except SenderGone as error:
            self.gone.append(error)
            raise
        fields = "" if intake.kept else "Connection: close\r\n"
        status = "413 No" if self.refuses else "201 Yes"
        return f"HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\n\r\n".encode()

    async def _take(self, intake: Intake) -> None:
        intake.proceed()
        while True:
            if self.slow:
                step: Deferred[None] = Deferred()
                self.steps.append(step)
                await step
            if not (part := await intake.read()):
                return
            self.taken.append(part)

    def step(self) -> None:
        self.steps.pop(0).callback(None)


class IntakeCase(ConnectedCase):
    def start(self, reception: Any = None, **options: Any) -> None:
        super().start(reception, **options)
        self.factory.taker = self.shelf = Shelf()

    def ask(self, data: bytes) -> Client:
        client = self.connect()
        client.send(data)
        return client

    def ended(self, client: Client) -> bool:
        """The heartbeat looks at it, as it is time to."""
        due = attend(client.protocol, self.clock.seconds(), self.factory.config)
        return client.transport.disconnecting or due <= self.clock.seconds()


class TakenTests(IntakeCase):
    def test_every_boundary(self) -> None:
        """However the network cuts it, all of the body arrives, once and in order, and the next request is answered."""
        whole = post(20) + b"0123456789abcdefghij" + HEALTH
        for cut in range(1, len(whole)):
            client = self.ask(whole[:cut])
            client.send(whole[cut:])
            answer = client.received()
            self.assertEqual(b"".join(self.shelf.taken), b"0123456789abcdefghij", cut)
            self.assertLess(answer.index(b"201 Yes"), answer.index(b"200 OK"))
            self.shelf.taken.clear()
            client.lose()
        self.assertNothingLeft()

    def test_as_it_comes(self) -> None:
        """What has come is handed on before the rest is there."""
        client = self.ask(post(100))
        for octets in (b"a" * 30, b"b" * 30):
            client.send(octets)
        self.assertEqual(self.shelf.taken, [b"a" * 30, b"b" * 30])
        self.assertEqual(client.received(), b"")

    def test_no_body(self) -> None:
        client = self.ask(post(0) + HEALTH)
        self.assertEqual(client.received().count(b"HTTP/1.1 20"), 2)

    def test_larger_than_the_site_takes(self) -> None:
        """The limit for bodies that are kept in memory is none for these."""
        size = self.factory.config.max_http_body * 10
        client = self.ask(post(size) + b"x" * size)
        self.assertEqual(client.status(), 201)
        self.assertEqual(sum(map(len, self.shelf.taken)), size)

    def test_others_go_to_the_site(self) -> None:
        """Another method, another address, or no request line at all: the site answers, with its own limit."""
        for line, status in (
            ("PUT /files HTTP/1.1", 413),
            ("POST /files/ HTTP/1.1", 413),
            ("POST /files?x HTTP/1.1", 413),
            ("POST  /files HTTP/1.1", 413),
            ("hello", 413),
        ):
            client = self.ask(f"{line}\r\nHost: a\r\nContent-Length: 5000\r\n\r\n".encode())
            self.assertEqual(client.status(), status, line)
        self.assertEqual(self.shelf.taken, [])

    def test_unknown_length(self) -> None:
        """A body whose end would have to be looked for is refused."""
        client = self.ask(b"POST /files HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n")
        self.assertEqual(client.status(), 411)

    def test_websocket_behind(self) -> None:
        """A reverse proxy may use the connection for a handshake next."""
        client = self.ask(post(3) + b"abc" + request())
        answer = client.received()
        self.assertLess(answer.index(b"201 Yes"), answer.index(b"101 Switching"))

    def test_continue(self) -> None:
        """Who asks first is told to begin when it is wanted, and not before."""
        client = self.ask(post(3, "Expect: 100-continue"))
        self.assertEqual(client.received(), b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"abc")
        self.assertEqual(client.status(), 201)
        self.shelf.refuses = True
        self.assertEqual(self.ask(post(3, "Expect: 100-continue")).status(), 413)

    def test_last_request(self) -> None:
        """Who asks for the end of the connection gets it with the answer, as does HTTP/1.0."""
        for asked in (post(1, "Connection: close"), post(1, version="HTTP/1.0")):
            client = self.ask(asked + b"x" + HEALTH)
            answer = client.received()
            self.assertEqual((answer.count(b"HTTP/1.1"), answer.count(b"Connection: close")), (1, 1))
            self.assertTrue(client.transport.disconnecting)


class PaceTests(IntakeCase):
    def test_backpressure(self) -> None:
        """A disk that is slower than the network slows the sender down; little is kept in memory meanwhile."""
        self.shelf.slow = True
        client = self.ask(post(BUFFER * 4))
        client.send(b"x" * BUFFER)
        self.assertEqual(client.transport.producerState, "producing")
        client.send(b"y")
        self.assertEqual(client.transport.producerState, "paused")
        self.shelf.step()
        self.assertEqual(client.transport.producerState, "producing")
        self.assertEqual([len(part) for part in self.shelf.taken], [BUFFER + 1])

    def test_stall(self) -> None:
        """Each byte gives the sender more time; without any the connection ends."""
        client = self.ask(post(1000))
        for _ in range(5):
            self.clock.advance(49)
            client.send(b"x")
            self.assertFalse(self.ended(client))
        self.clock.advance(50)
        self.assertTrue(self.ended(client))
        client.lose()
        self.assertEqual(len(self.shelf.gone), 1)

    def test_longest(self) -> None:
        """However steadily it drips, it ends."""
        client = self.ask(post(1000))
        for _ in range(14):
            self.clock.advance(40)
            client.send(b"x")
            self.assertFalse(self.ended(client))
        self.clock.advance(39)
        client.send(b"x")
        self.assertFalse(self.ended(client))
        self.clock.advance(1)
        self.assertTrue(self.ended(client))

    def test_slow_shelf(self) -> None:
        """What is whole may take its time to be put away: the sender waits for the answer."""
        self.shelf.slow = True
        client = self.ask(post(3) + b"abc")
        self.clock.advance(599)
        self.assertFalse(self.ended(client))
        self.shelf.step()
        self.shelf.step()
        self.assertEqual(client.status(), 201)


class RefusedTests(IntakeCase):
    def test_at_once(self) -> None:
        """The refusal comes before the body; what is sent all the same is dropped, so that the answer is not lost."""
        self.shelf.refuses = True
        client = self.ask(post(1 << 20))
        answer = client.received()
        self.assertEqual((answer.split(b" ")[1], answer.count(b"Connection: close")), (b"413", 1))
        for _ in range(16):
            self.assertFalse(client.transport.disconnecting)
            client.send(b"x" * (1 << 16))
        self.assertTrue(client.transport.disconnecting)
        client.send(HEALTH)
        self.assertEqual(client.received(), b"")
        client.lose()
        self.assertNothingLeft()

    def test_not_for_long(self) -> None:
        """Who goes on sending after a refusal is cut off."""
        self.shelf.refuses = True
        client = self.ask(post(1 << 30))
        self.clock.advance(49)
        client.send(b"x")
        self.assertFalse(self.ended(client))
        self.clock.advance(1)
        self.assertTrue(self.ended(client))

    def test_whole_body(self) -> None:
        """Where all of the body came with the header, the connection is kept."""
        self.shelf.refuses = True
        client = self.ask(post(3) + b"abc" + HEALTH)
        answer = client.received()
        self.assertEqual((answer.count(b"HTTP/1.1 413"), answer.count(b"HTTP/1.1 200")), (1, 1))

    def test_gone(self) -> None:
        """A sender who leaves is noticed, whether somebody waits for the next byte or not."""
        client = self.ask(post(10) + b"abc")
        client.lose()
        self.assertEqual(len(self.shelf.gone), 1)
        self.shelf.slow = True
        client = self.ask(post(10) + b"abc")
        client.lose()
        self.shelf.step()
        self.assertEqual(len(self.shelf.gone), 2)
        self.assertNothingLeft()

    def test_error_of_ours(self) -> None:
        """A taker that fails ends the connection, and the log says why."""

        class Broken(Shelf):
            async def __call__(self, intake: Intake) -> bytes:
                raise ZeroDivisionError

        self.factory.taker = Broken()
        client = self.ask(post(10))
        self.assertTrue(client.transport.disconnected)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class Long(Resource):
    """An answer of many parts, which waits when it is told to."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.paused = False
        self.written = 0
        self.request: Any = None

    def render_GET(self, request: Any) -> int:
        self.request = request
        request.registerProducer(self, True)
        return NOT_DONE_YET

    def write(self) -> None:
        while not self.paused:
            self.request.write(b"x" * 10_000)
            self.written += 10_000

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None: ...


class LongAnswerTests(ConnectedCase):
    def ask(self) -> tuple[Client, Long]:
        long = Long()
        assert self.factory.site is not None
        self.factory.site.resource.putChild(b"long", long)
        client = self.connect(reads=False)
        client.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        return client, long

    def test_waits_for_its_reader(self) -> None:
        """A long answer to somebody who does not read stays where it is, and goes on when it is read."""
        client, long = self.ask()
        long.write()
        most = self.factory.config.pause_unsent
        self.assertLess(long.written, most + 10_001)
        self.clock.advance(0)
        self.assertTrue(long.paused)
        client.transport.drain_all()
        self.clock.advance(0)
        self.assertFalse(long.paused)
        long.write()
        self.assertGreater(long.written, most)
        self.assertLess(long.written, most * 2 + 20_002)

    def test_slow_reader(self) -> None:
        """Who takes some now and then may take long; who takes nothing is cut off."""
        client, long = self.ask()
        for _ in range(5):
            long.write()
            self.clock.advance(49)
            attend(client.protocol, self.clock.seconds(), self.factory.config)
            self.assertFalse(client.transport.disconnecting)
            client.transport.drain_all()
            self.clock.advance(0)
        long.write()
        self.clock.advance(50)
        attend(client.protocol, self.clock.seconds(), self.factory.config)
        self.assertTrue(client.transport.disconnecting)


class RequestLineTests(SynchronousTestCase):
    def test_parse(self) -> None:
        for line, parts in (
            (b"POST /files HTTP/1.1", ("POST", "/files", "HTTP/1.1")),
            (b"POST /files", ("", "", "")),
            (b"POST  /files HTTP/1.1", ("", "", "")),
            (b"", ("", "", "")),
        ):
            found = RequestLine.parse(line + b"\r\nHost: a\r\n\r\n")
            self.assertEqual((found.method, found.target, found.version), parts)
