"""The HTTP side of the port: what is not WebSocket is answered here (docs/architecture.md, *One port*).

How large a request may be, and how long it may take, is the business of the connection
(:mod:`chatproto.connection.door`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from chatproto.web.headers import SECURITY, SERVER

Ready = Callable[[], "bool | str"]


class ChatRequest(Request):
    """A request whose response has our header fields, whoever writes it (errors and redirects of Twisted too)."""

    def write(self, data: bytes) -> None:
        if not self.startedWriting:
            self.setHeader(b"Server", SERVER)
            for name, value in SECURITY:
                if not self.responseHeaders.hasHeader(name):
                    self.setHeader(name, value)
        super().write(data)


class _Text(Resource):
    """One line of plain text, whatever the method: Twisted's own words for the others are a page of HTML."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _NotFound()

    def render(self, request: Request) -> bytes:
        code, line = self.answer_to(request)
        request.setResponseCode(code)
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        body = line.encode() + b"\n"
        request.setHeader(b"Content-Length", b"%d" % len(body))
        return b"" if request.method == b"HEAD" else body

    def answer_to(self, request: Request) -> tuple[int, str]:
        if request.method in (b"GET", b"HEAD"):
            return self.answer()
        request.setHeader(b"Allow", b"GET, HEAD")
        return 405, "method not allowed"

    def answer(self) -> tuple[int, str]:
        raise NotImplementedError


class Healthz(_Text):
    """/healthz: 200 as long as the event loop turns, so that only a process that hangs is restarted."""

    def answer(self) -> tuple[int, str]:
        return 200, "ok"


class Readyz(_Text):
    """/readyz: 200 when new connections may be sent here, else 503 and why not."""

    def __init__(self, ready: Ready) -> None:
        super().__init__()
        self._ready = ready

    def answer(self) -> tuple[int, str]:
        state = self._ready()
        if state is True:
            return 200, "ok"
        return 503, state if isinstance(state, str) and state else "not ready"


class _NotFound(_Text):
    """The root, and everything that has no resource of its own."""

    def answer_to(self, request: Request) -> tuple[int, str]:
        return 404, "not found"


def make_site(ready: Ready, reactor: Any = None) -> Site:
    """The site of one node, without an access log.

    :param ready: True, or False or one line that says why new connections should go elsewhere.
    :param reactor: ``seconds``, for dates; None is the global one.
    """
    root: Any = _NotFound()
    root.putChild(b"healthz", Healthz())
    root.putChild(b"readyz", Readyz(ready))
    options: dict[str, Any] = {"requestFactory": ChatRequest, "timeout": None, "reactor": reactor}
    site = Site(root, **options)
    # Without the wrapper that may become HTTP/2: the door asks the channel whether its request is open.
    site.protocol = HTTPChannel  # type: ignore[assignment]
    return site
