from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from chatproto.web.site import make_site


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.state: bool | str = True
        self.clock = Clock()
        self.site = make_site(lambda: self.state, self.clock)
        self.transport = StringTransport()
        self.channel = self.site.buildProtocol(None)
        assert self.channel is not None
        self.channel.makeConnection(self.transport)

    def ask(self, line: str) -> tuple[int, dict[str, str], str]:
        """(status, lower-case header fields, body)"""
        assert self.channel is not None
        self.transport.clear()
        self.channel.dataReceived(f"{line} HTTP/1.1\r\nHost: chat.example\r\n\r\n".encode())
        head, _, body = self.transport.value().decode().partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]), fields, body

    def test_healthz(self) -> None:
        """Whoever restarts dead processes sees that this one lives, ready or not."""
        self.state = "the database does not answer"
        status, fields, body = self.ask("GET /healthz")
        self.assertEqual((status, body, fields["content-type"]), (200, "ok\n", "text/plain; charset=utf-8"))

    def test_readyz(self) -> None:
        """A load balancer sends customers only where they can be served, and the operator reads why not."""
        self.assertEqual(self.ask("GET /readyz")[::2], (200, "ok\n"))
        self.state = "the database does not answer"
        self.assertEqual(self.ask("GET /readyz")[::2], (503, "the database does not answer\n"))
        self.state = False
        self.assertEqual(self.ask("GET /readyz")[::2], (503, "not ready\n"))

    def test_head(self) -> None:
        """Some probes use HEAD: the same header, no body, and no line in the log every few seconds."""
        events: list[LogEvent] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        status, fields, body = self.ask("HEAD /healthz")
        self.assertEqual((status, body, fields["content-length"]), (200, "", "3"))
        self.assertEqual(self.ask("HEAD /x")[::2], (404, ""))
        self.assertEqual(events, [])

    def test_not_found(self) -> None:
        """Anything else is a short 404, by whatever method and however deep."""
        for line in ("GET /", "GET /admin/x", "POST /x", "TRACE /", "FOO /x", "GET /healthz/x"):
            self.assertEqual(self.ask(line)[::2], (404, "not found\n"), line)

    def test_method_not_allowed(self) -> None:
        """What may only be read says so, in few words."""
        for method in ("POST", "PUT", "DELETE", "TRACE", "OPTIONS", "PATCH", "CONNECT", "FOO"):
            status, fields, body = self.ask(f"{method} /healthz")
            self.assertEqual((status, body, fields["allow"]), (405, "method not allowed\n", "get, head"), method)
            self.assertEqual(fields["content-type"], "text/plain; charset=utf-8")

    def test_header_fields(self) -> None:
        """The response neither tells what software we run nor lets a browser guess types; errors included."""
        for line in ("GET /healthz", "GET /nothing", "POST /healthz"):
            fields = self.ask(line)[1]
            self.assertEqual(fields["server"], "chatproto")
            self.assertEqual(fields["x-content-type-options"], "nosniff")
            self.assertEqual(fields["x-frame-options"], "deny")

    def test_failing_check(self) -> None:
        """A check that fails is a 500 without a word about our insides."""

        def fail() -> bool:
            raise ZeroDivisionError("secret")

        site = make_site(fail, self.clock)
        self.channel = site.buildProtocol(None)
        assert self.channel is not None
        self.transport = StringTransport()
        self.channel.makeConnection(self.transport)
        status, fields, body = self.ask("GET /readyz")
        self.assertEqual((status, fields["server"]), (500, "chatproto"))
        self.assertNotIn("secret", body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
