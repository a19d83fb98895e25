"""What comes before a handshake: HTTP requests to the site, and what is none."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from chatproto.connection.admission import RequestHead
from chatproto.connection.door import body_length
from tests.connection.memory import (
    TEXT,
    Client,
    ConnectedCase,
    client_frame,
    close_frame,
    request,
    turn,
)
from tests.connection.test_intake import Shelf

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: chat.example\r\n\r\n"


def post(*fields: str, path: str = "/healthz") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: chat.example", *fields, "", ""]).encode()


class Echo(Resource):
    """Answers with the body of the request."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        body: bytes = request.content.read()
        return body


class Slow(Resource):
    """A page that takes its time."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []
        self.gone: list[Failure] = []

    def render_GET(self, request: Any) -> int:
        self.requests.append(request)
        request.notifyFinish().addErrback(self.gone.append)
        return NOT_DONE_YET


class DoorCase(ConnectedCase):
    def start(self, reception: Any = None, **options: Any) -> None:
        super().start(reception, **options)
        self.slow = Slow()
        assert self.factory.site is not None
        self.factory.site.resource.putChild(b"echo", Echo())
        self.factory.site.resource.putChild(b"slow", self.slow)

    def ask(self, data: bytes) -> Client:
        client = self.connect()
        client.send(data)
        return client

    def assertRefused(self, client: Client, status: int) -> None:
        """That is all of the answer, and the end of the connection."""
        answer = client.received()
        self.assertEqual((int(answer.split(b" ")[1]), answer.count(b"HTTP/1.")), (status, 1), answer)
        self.assertTrue(client.transport.disconnecting)
        client.send(HEALTH)
        self.assertEqual(client.received(), b"")
        client.lose()


class OnePortTests(DoorCase):
    def test_keep_alive(self) -> None:
        """Several requests on one connection, also in one packet or cut in pieces."""
        client = self.connect()
        client.send(HEALTH)
        self.assertEqual(client.status(), 200)
        client.send(HEALTH + HEALTH)
        self.assertEqual(client.received().count(b"HTTP/1.1 200"), 2)
        for octet in HEALTH:
            client.send(bytes((octet,)))
        self.assertEqual(client.status(), 200)
        client.lose()
        self.assertNothingLeft()

    def test_every_boundary(self) -> None:
        """However the network cuts the first request, it is answered."""
        for cut in range(1, len(HEALTH)):
            client = self.connect()
            client.send(HEALTH[:cut])
            client.send(HEALTH[cut:])
            self.assertEqual(client.status(), 200, cut)
            client.lose()

    def test_nonsense(self) -> None:
        """What is no HTTP gets an answer that says so."""
        client = self.connect()
        client.send(b"hello\r\n\r\n")
        self.assertEqual(client.status(), 400)
        self.assertTrue(client.transport.disconnecting)

    def test_websocket_on_a_kept_connection(self) -> None:
        """A reverse proxy sends the handshake on a connection that it used for pages before."""
        client = self.connect()
        client.send(HEALTH)
        self.assertEqual(client.status(), 200)
        client.shake_hands()
        self.assertEqual(client.status(), 101)
        client.send(client_frame(TEXT, b"{}"))
        self.assertEqual(self.recorder.heard, [("text", b"{}")])
        self.state().link.send(b"reply")
        self.assertEqual(client.frames(), [(TEXT, b"reply")])
        client.send(close_frame(1000))
        client.lose()
        self.assertNothingLeft()

    def test_every_boundary_of_a_handshake(self) -> None:
        """However the network cuts it, also in the middle of the line that ends the header."""
        handshake = request()
        for cut in range(1, len(handshake)):
            client = self.ask(HEALTH)
            self.assertEqual(client.status(), 200)
            client.send(handshake[:cut])
            self.assertEqual(client.received(), b"")
            client.send(handshake[cut:] + client_frame(TEXT, b"{}"))
            self.assertEqual(client.status(), 101, cut)
            client.lose()
        self.assertEqual(self.recorder.heard.count(("text", b"{}")), len(handshake) - 1)

    def test_handshake_behind_requests(self) -> None:
        """It may stand in one packet with what comes before and behind it."""
        client = self.ask(HEALTH * 3 + request() + client_frame(TEXT, b"{}"))
        answer = client.received()
        self.assertEqual((answer.count(b"HTTP/1.1 200"), answer.count(b"HTTP/1.1 101")), (3, 1))
        self.assertEqual(self.recorder.heard, [("text", b"{}")])

    def test_handshake_behind_a_body(self) -> None:
        """A body is no header, whatever stands in it; what stands behind it is."""
        handshake = request()
        client = self.ask(post(f"Content-Length: {len(handshake)}", path="/echo") + handshake[:50])
        client.send(handshake[50:] + handshake)
        answer = client.received()
        self.assertEqual(answer.count(handshake), 1)
        self.assertEqual(answer.count(b"HTTP/1.1 101"), 1)

    def test_handshake_behind_an_answer_that_takes_time(self) -> None:
        """It waits for its turn, and nothing more is read meanwhile."""
        client = self.ask(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(client.transport.producerState, "producing")
        client.send(request())
        self.assertEqual(client.transport.producerState, "paused")
        self.slow.requests[0].finish()
        answer = client.received()
        self.assertLess(answer.index(b"HTTP/1.1 200"), answer.index(b"HTTP/1.1 101"))
        self.assertEqual(client.transport.producerState, "producing")

    def test_lost_request(self) -> None:
        """A page that is still being made learns that the browser has gone."""
        client = self.ask(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + HEALTH)
        client.lose()
        self.assertEqual(len(self.slow.gone), 1)
        self.assertNothingLeft()

    def test_empty_lines(self) -> None:
        """Empty lines before a request are passed over (RFC 9112, 2.2)."""
        client = self.ask(b"\r\n\r\n" + HEALTH + b"\r\n" + HEALTH + b"\r\n")
        self.assertEqual(client.received().count(b"HTTP/1.1 200"), 2)
        client.send(b"\r\n" + request())
        self.assertEqual(client.status(), 101)

    def test_last_request(self) -> None:
        """Who asks for the end of the connection gets it, and nothing that stands behind."""
        for last in (HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), HEALTH.replace(b"1.1", b"1.0")):
            self.assertRefused(self.ask(last + HEALTH + request()), 200)
        self.assertNothingLeft()

    def test_many_requests(self) -> None:
        """A read full of requests is answered one in a turn, and nothing is read meanwhile."""
        client = self.connect()
        client.protocol.dataReceived(HEALTH * 100)
        for count in range(1, 100):
            self.assertEqual(client.transport.producerState, "paused")
            turn(self.clock)
            self.assertEqual(client.transport.value().count(b"HTTP/1.1 200"), count)
        turn(self.clock)
        self.assertEqual(client.transport.producerState, "producing")

    def test_answers_not_taken(self) -> None:
        """Who asks and asks and reads no answer is not read either."""
        self.start(pause_unsent=1000)
        client = self.connect(reads=False)
        client.transport.FULL = 0
        client.send(HEALTH * 1000)
        self.assertLess(client.transport.value().count(b"HTTP/1.1 200"), 10)
        self.assertEqual(client.transport.producerState, "paused")
        while client.transport.producerState == "paused":
            client.transport.drain()
            self.clock.advance(0)
        self.assertEqual(client.transport.value().count(b"HTTP/1.1 200"), 1000)


class BodyTests(DoorCase):
    def test_body(self) -> None:
        """A body may come with its header in part, and reaches the page whole."""
        client = self.ask(post("Content-Length: 10", path="/echo") + b"01234")
        client.send(b"56789" + HEALTH)
        answer = client.received()
        self.assertEqual((answer.count(b"HTTP/1.1 200"), answer.count(b"0123456789")), (2, 1))

    def test_continue(self) -> None:
        """A client that asks first is told to go on, or at once that it may not."""
        client = self.ask(post("Content-Length: 3", "Expect: 100-continue", path="/echo"))
        self.assertEqual(client.received(), b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"abc")
        self.assertTrue(client.received().endswith(b"abc"))
        self.assertRefused(self.ask(post("Content-Length: 4097", "Expect: 100-continue", path="/echo")), 413)

    def test_largest(self) -> None:
        """So many bytes as are allowed are taken; one more is refused before it is read, whoever would answer."""
        client = self.ask(post("Content-Length: 4096", path="/echo") + b"x" * 4096)
        self.assertIn(b"x" * 4096, client.received())
        client.lose()
        for path in ("/echo", "/healthz", "/", "/none"):
            self.assertRefused(self.ask(post("Content-Length: 4097", path=path) + b"x" * 100), 413)
            self.assertRefused(self.ask(post("Content-Length: 100000000000", path=path)), 413)
        self.assertNothingLeft()

    def test_configured(self) -> None:
        self.start(max_http_body=10)
        self.assertEqual(self.ask(post("Content-Length: 10", path="/echo") + b"x" * 10).status(), 200)
        self.assertRefused(self.ask(post("Content-Length: 11", path="/echo") + b"x" * 10), 413)

    def test_chunked(self) -> None:
        """A body whose length is not told is not taken, however small."""
        for fields in (
            ("Transfer-Encoding: chunked",),
            ("transfer-encoding: identity",),
            ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ):
            self.assertRefused(self.ask(post(*fields, path="/echo") + b"0\r\n\r\n"), 411)

    def test_bad_lengths(self) -> None:
        """Whatever is no length is a bad request, and no line in the log."""
        events: list[LogEvent] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for length in ("-5", "+5", "", "5, 5", "0x10", "1_0", "\xb2", "\xa05", "9" * 19, "9" * 4500):
            client = self.connect()
            client.send(post(f"Content-Length: {length}").decode().encode("latin-1"))
            self.assertRefused(client, 400)
        self.assertRefused(self.ask(post("Content-Length: 5", "Content-Length: 5")), 400)
        self.assertEqual([event for event in events if event["log_level"] >= LogLevel.warn], [])

    def test_folded(self) -> None:
        """A folded field is refused: who reads it otherwise would see the request end elsewhere."""
        self.assertRefused(self.ask(post("X: a", " Content-Length: 5") + b"hello"), 400)
        self.assertRefused(self.ask(request(X="a\r\n\tb")), 400)

    def test_read_otherwise(self) -> None:
        """So is a field that a proxy in front reads as another, or not at all, in any kind of request."""
        self.factory.taker = Shelf()
        for field in (
            *("\xa0Content-Length: 5", "Content-Length : 5", "Content-Length\x0b: 5", "\x1fContent-Length: 5"),
            *(
                "X: a\nContent-Length: 5",
                "X: a\rContent-Length: 5",
                "X: a\0b",
                "Content-Length",
                ": 5",
                "Host: evil.example",
            ),
        ):
            for head in (post(field), post(field, path="/files"), request(X=f"a\r\n{field}")):
                client = self.connect()
                client.send(head.decode().encode("latin-1") + b"hello")
                self.assertRefused(client, 400)

    def test_form(self) -> None:
        """What looks like a form is a body like others."""
        body = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--B--\r\n'
        head = post("Content-Type: multipart/form-data; boundary=B", f"Content-Length: {len(body)}", path="/echo")
        self.assertTrue(self.ask(head + body).received().endswith(body))


class LengthTests(SynchronousTestCase):
    def test_length(self) -> None:
        for lines, length in (
            ([], 0),
            (["Content-Length: 0"], 0),
            (["content-length:\t42 "], 42),
            (["Content-Length: 999999999999999999"], 999999999999999999),
            (["Content-Length: 1", "Content-Length: 1"], 400),
            (["Transfer-Encoding: chunked"], 411),
        ):
            head = RequestHead.parse("\r\n".join(["POST / HTTP/1.1", *lines]).encode())
            self.assertEqual(body_length(head), length, lines)


class BrokenTests(DoorCase):
    def test_error_of_ours(self) -> None:
        """An error that nobody caught ends the connection, with one line in the log and no traceback."""
        events: list[LogEvent] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

        class Broken:
            def buildProtocol(self, address: object) -> Deferred[None]:
                raise ZeroDivisionError("\x1b[31m")

        site: Any = Broken()
        self.factory.site = site
        client = self.ask(HEALTH)
        self.assertTrue(client.transport.disconnected)
        client.send(HEALTH)
        client.lose()
        self.assertNothingLeft()
        (event,) = [event for event in events if event["log_level"] >= LogLevel.warn]
        self.assertEqual((event["peer"], event["error"]), ("192.0.2.1", "ZeroDivisionError('\\x1b[31m')"))
        self.assertNotIn("log_failure", event)
