"""``POST /console/login``: a name and a password for a token (docs/operations.md, *Pages*)."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.server import NOT_DONE_YET, Request

from chatproto.connection.admission import Admission, RequestHead, origin_allowed
from chatproto.errors import ChatError, StorageError
from chatproto.web.plain import Plain, say

log = Logger()

WINDOW = 900.0
"""Seconds in which wrong passwords are counted."""

LONGEST_NAME, LONGEST_PASSWORD = 200, 1024

MOST_FAMILIAR = 10_000
"""Pairs of a name and an address from which it has logged in that are remembered, the last ones."""


class Attempts:
    """Tries within the last :data:`WINDOW` seconds that did not succeed, by some key.

    A try is counted before its outcome is known, so that many at once are no more than many one after the other.

    :param most: 0 lifts the limit.
    """

    def __init__(self, most: int, seconds: Callable[[], float]) -> None:
        self._most = most
        self._seconds = seconds
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, key: str) -> float:
        """Seconds until *key* may try again; 0 for now."""
        seen, now = self._seen.get(key, deque()), self._seconds()
        while seen and seen[0] <= now - WINDOW:
            seen.popleft()
        return seen[0] + WINDOW - now if self._most and len(seen) >= self._most else 0.0

    def count(self, key: str) -> None:
        now = self._seconds()
        self._seen.setdefault(key, deque()).append(now)
        self._seen.move_to_end(key)
        # The newest stand at the end, and this one is new.
        while not (oldest := next(iter(self._seen.values()))) or oldest[-1] <= now - WINDOW:
            self._seen.popitem(last=False)

    def forgive(self, key: str) -> None:
        """The last one was right."""
        if (seen := self._seen.get(key)) is not None:
            seen.pop()
            if not seen:
                del self._seen[key]


class Familiar:
    """From which addresses a name has logged in with the right password.

    There it has tries of its own: guests see the names of agents, and whoever uses up the tries of one from elsewhere
    must not keep its owner out.
    """

    def __init__(self, most: int = MOST_FAMILIAR) -> None:
        self._most = most
        self._pairs: OrderedDict[tuple[str, str], None] = OrderedDict()

    def add(self, name: str, address: str) -> None:
        self._pairs[name, address] = None
        self._pairs.move_to_end((name, address))
        if len(self._pairs) > self._most:
            self._pairs.popitem(last=False)

    def key(self, name: str, address: str) -> str:
        """What the tries of *name* from *address* are counted by; no name has U+0000."""
        return f"{name}\0{address}" if (name, address) in self._pairs else name


class Login(Plain):
    """JSON ``{"name", "password"}`` → ``{"token", "admin_id"}``.

    400 no such object · 401 no such name or another password, always the same · 403 from a page that is not ours ·
    415 not JSON · 429 too many tries, with Retry-After · 503 the database does not answer.

    :param admin: name, password → admin_id or None.
    :param issue: admin_id → token.
    :param client: the client's address from its own address and its header fields.
    """

    isLeaf = True

    def __init__(
        self,
        admin: Callable[[str, str], Awaitable[int | None]],
        issue: Callable[[int], str],
        client: Callable[[str, RequestHead], str],
        seconds: Callable[[], float],
        *,
        per_name: int,
        per_address: int,
    ) -> None:
        super().__init__()
        self._admin = admin
        self._issue = issue
        self._client = client
        self._names = Attempts(per_name, seconds)
        self._addresses = Attempts(per_address, seconds)
        self._familiar = Familiar()

    def render(self, request: Request) -> Any:
        if request.postpath:
            return say(request, 404, "not found")
        if request.method != b"POST":
            request.setHeader(b"Allow", b"POST")
            return say(request, 405, "method not allowed")
        head = _head(request)
        if not origin_allowed(head.first("origin"), head.first("host"), ()):
            return say(request, 403, "origin not allowed")
        if (head.first("content-type") or "").partition(";")[0].strip().lower() != "application/json":
            return say(request, 415, "JSON is wanted")
        given = _given(request)
        if given is None:
            return say(request, 400, "a name and a password are wanted")
        name, password = given
        address = Admission.key(self._client(str(getattr(request.client, "host", "")), head))
        key = self._familiar.key(name, address)
        wait = max(self._names.wait(key), self._addresses.wait(address))
        if wait:
            return _later(request, wait)
        self._names.count(key)
        self._addresses.count(address)
        left = request.notifyFinish()
        gone: list[object] = []
        left.addErrback(gone.append)
        answer = Deferred.fromCoroutine(self._answer(request, name, password, address, key))
        answer.addErrback(lambda failure: log.failure("a log-in by password failed", failure))
        answer.addCallback(lambda body: None if gone else _finish(request, body))
        return NOT_DONE_YET

    async def _answer(self, request: Request, name: str, password: str, address: str, key: str) -> bytes:
        try:
            admin_id = await self._admin(name, password)
        except StorageError:
            self._forgive(key, address)
            return say(request, 503, "try again")
        except ChatError:
            self._forgive(key, address)
            return _later(request, 2)
        if admin_id is None:
            log.info("a wrong password for an admin's name, from {address}", address=address)
            return say(request, 401, "wrong name or password")
        self._forgive(key, address)
        self._familiar.add(name, address)
        body = json.dumps({"token": self._issue(admin_id), "admin_id": admin_id}).encode()
        request.setHeader(b"Content-Type", b"application/json")
        request.setHeader(b"Content-Length", b"%d" % len(body))
        return body

    def _forgive(self, key: str, address: str) -> None:
        self._names.forgive(key)
        self._addresses.forgive(address)


def _finish(request: Request, body: bytes | None) -> None:
    request.write(say(request, 500, "internal error") if body is None else body)
    request.finish()


def _later(request: Request, seconds: float) -> bytes:
    request.setHeader(b"Retry-After", b"%d" % (int(seconds) + 1))
    return say(request, 429, "too many tries")


def _head(request: Request) -> RequestHead:
    fields = {
        name.decode("latin-1").lower(): [value.decode("latin-1") for value in values]
        for name, values in request.requestHeaders.getAllRawHeaders()
    }
    return RequestHead(fields)


def _given(request: Request) -> tuple[str, str] | None:
    assert request.content is not None
    try:
        body = json.loads(request.content.read())
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    name, password = body.get("name"), body.get("password")
    if not isinstance(name, str) or not isinstance(password, str):
        return None
    if not 0 < len(name) <= LONGEST_NAME or not 0 < len(password) <= LONGEST_PASSWORD or "\0" in name:
        return None
    try:
        name.encode()
    except UnicodeEncodeError:
        return None
    return name, password
