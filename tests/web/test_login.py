"""Logging in by name and password, over HTTP."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from chatproto.connection.admission import RequestHead
from chatproto.errors import StorageError, TooManyRequests
from chatproto.web.login import WINDOW, Familiar, Login
from chatproto.web.plain import Plain
from tests.web.asking import Asked, Response

GOOD = {"name": "Alice", "password": "open sesame"}


class LoginTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[tuple[str, str]] = []
        self.answer: Any = None
        self.address = "192.0.2.7"
        login = Login(
            self.admin,
            lambda admin_id: f"token of {admin_id}",
            self.client,
            self.clock.seconds,
            per_name=3,
            per_address=5,
        )
        console: Any = Plain()
        console.putChild(b"login", login)
        self.pages: dict[bytes, Resource] = {b"console": console}

    async def admin(self, name: str, password: str) -> int | None:
        self.asked.append((name, password))
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, Deferred):
            await self.answer
        return 7 if {"name": name, "password": password} == GOOD else None

    def client(self, peer: str, head: RequestHead) -> str:
        return self.address

    def start(self, body: Any = None, line: str = "POST /console/login", **fields: str) -> Asked:
        head = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in fields.items()}}
        raw = body if isinstance(body, bytes) else json.dumps(GOOD if body is None else body).encode()
        return Asked(self.pages, line, head, raw, self.clock)

    def post(self, body: Any = None, **fields: str) -> Response:
        return self.start(body, **fields).response

    def wrong(self, name: str = "Alice") -> int:
        return self.post({"name": name, "password": "wrong"}).status

    def test_right(self) -> None:
        """The right name and password bring a token, which nobody keeps on the way."""
        answer = self.post()
        self.assertEqual(answer.status, 200)
        self.assertEqual(json.loads(answer.body), {"token": "token of 7", "admin_id": 7})
        self.assertEqual(answer.fields["content-type"], "application/json")
        self.assertEqual(answer.fields["cache-control"], "no-store")

    def test_wrong(self) -> None:
        """A wrong password and a name that nobody has look alike."""
        one = self.post({"name": "Alice", "password": "wrong"})
        other = self.post({"name": "Nobody", "password": "open sesame"})
        self.assertEqual((one.status, one.body), (401, b"wrong name or password\n"))
        self.assertEqual((other.status, other.body), (one.status, one.body))

    def test_per_name(self) -> None:
        """After three wrong passwords a name has to wait, with the right one too; then it may try again."""
        self.assertEqual([self.wrong() for _ in range(4)], [401, 401, 401, 429])
        refused = self.post()
        self.assertEqual((refused.status, int(refused.fields["retry-after"])), (429, int(WINDOW) + 1))
        self.assertEqual(len(self.asked), 3)
        self.clock.advance(WINDOW - 1)
        self.assertEqual(self.post().status, 429)
        self.clock.advance(1)
        self.assertEqual(self.post().status, 200)

    def test_locked_out(self) -> None:
        """Who uses up the tries of an agent's name elsewhere keeps the agent out only where she never logged in."""
        self.assertEqual(self.post().status, 200)
        home, self.address = self.address, "198.51.100.9"
        self.assertEqual([self.wrong() for _ in range(4)], [401, 401, 401, 429])
        self.assertEqual(self.post().status, 429)
        self.address = home
        self.assertEqual(self.post().status, 200)
        self.assertEqual([self.wrong() for _ in range(4)], [401, 401, 401, 429])
        self.assertEqual(self.post().status, 429)

    def test_per_address(self) -> None:
        """Who tries many names from one address has to wait; others elsewhere do not."""
        self.assertEqual([self.wrong(f"name {number}") for number in range(6)], [401] * 5 + [429])
        self.assertEqual(self.post().status, 429)
        self.address = "192.0.2.8"
        self.assertEqual(self.post().status, 200)

    def test_right_ones_do_not_count(self) -> None:
        """Who knows the password may log in as often as needed."""
        self.assertEqual([self.post().status for _ in range(20)], [200] * 20)
        self.assertEqual([self.wrong() for _ in range(4)], [401, 401, 401, 429])

    def test_at_once(self) -> None:
        """Many tries at once are no more than many one after the other."""
        self.answer = waiting = Deferred[None]()
        tries = [self.start({"name": "Alice", "password": str(number)}) for number in range(10)]
        self.assertEqual([one.response.status for one in tries if one.answered], [429] * 7)
        waiting.callback(None)
        self.assertEqual([one.response.status for one in tries].count(401), 3)

    def test_familiar(self) -> None:
        """However many log in from everywhere, no more than the last of them are remembered."""
        familiar = Familiar(2)
        for address in ("a", "b", "a", "c"):
            familiar.add("Alice", address)
        self.assertEqual(
            [familiar.key("Alice", address) for address in ("a", "b", "c")], ["Alice\0a", "Alice", "Alice\0c"]
        )

    def test_origin(self) -> None:
        """Another page cannot log anybody in, not even as somebody else."""
        self.assertEqual(self.post(Origin="https://evil.example").status, 403)
        self.assertEqual(self.post(Content_Type="text/plain").status, 415)
        self.assertEqual(self.asked, [])
        self.assertEqual(self.post(Origin="http://chat.example").status, 200)
        self.assertEqual(self.post(Origin="https://chat.example", Host="chat.example").status, 200)

    def test_malformed(self) -> None:
        """Anything but a name and a password is refused, and does not count."""
        bodies: tuple[Any, ...] = (
            b"",
            b"{",
            b"\xff",
            b"[" * 5000,
            [],
            {},
            {"name": "Alice"},
            {"name": "", "password": "x"},
            {"name": "x" * 201, "password": "x"},
            {"name": "x", "password": "x" * 1025},
            {"name": 7, "password": "x"},
            {"name": "a\0b", "password": "x"},
            {"name": "\ud800", "password": "x"},
        )
        for body in bodies:
            self.assertEqual(self.post(body).status, 400, body)
        self.assertEqual(self.asked, [])

    def test_busy(self) -> None:
        """When the database or the processor cannot keep up the page is told to come again, and no try is used up."""
        for error, status in ((StorageError("away"), 503), (TooManyRequests(retry_after_ms=2000), 429)):
            self.answer = error
            self.assertEqual([self.post().status for _ in range(5)], [status] * 5)
        self.answer = None
        self.assertEqual(self.post().status, 200)

    def test_fault(self) -> None:
        """A fault of ours is a 500, and is logged."""
        self.answer = ZeroDivisionError("a fault")
        self.assertEqual(self.post().status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_gone(self) -> None:
        """Who leaves before the answer costs nothing more."""
        self.answer = waiting = Deferred[None]()
        asked = self.start()
        asked.channel.connectionLost(Failure(ConnectionDone()))
        waiting.callback(None)
        self.assertFalse(asked.answered)

    def test_methods(self) -> None:
        """The address is for POST only, and nothing stands below it."""
        answer = self.start(b"", line="GET /console/login").response
        self.assertEqual((answer.status, answer.fields["allow"]), (405, "POST"))
        self.assertEqual(self.start(line="POST /console/login/x").response.status, 404)
