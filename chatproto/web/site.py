"""The HTTP side of the port: what is not WebSocket is answered here (docs/architecture.md, *One port*)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from chatproto.web.headers import SECURITY, SERVER

Ready = Callable[[], "bool | str"]

IDLE_TIMEOUT = 60.0  # seconds that a connection may be kept without a request


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
    """One line of plain text, to GET and HEAD."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _NotFound()

    def render_GET(self, request: Request) -> bytes:
        code, line = self.answer()
        request.setResponseCode(code)
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        body = line.encode() + b"\n"
        request.setHeader(b"Content-Length", b"%d" % len(body))
        return body

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

    def answer(self) -> tuple[int, str]:
        return 404, "not found"

    render_POST = render_PUT = render_DELETE = _Text.render_GET


def make_site(ready: Ready, reactor: Any = None) -> Site:
    """The site of one node, without an access log.

    :param ready: True, or False or one line that says why new connections should go elsewhere.
    :param reactor: ``seconds`` and ``callLater``, for timeouts; None is the global one.
    """
    root: Any = _NotFound()
    root.putChild(b"healthz", Healthz())
    root.putChild(b"readyz", Readyz(ready))
    options: dict[str, Any] = {"requestFactory": ChatRequest, "timeout": IDLE_TIMEOUT, "reactor": reactor}
    site = Site(root, **options)
    # Without the wrapper that may become HTTP/2: the connection asks the channel whether requests are open.
    site.protocol = HTTPChannel  # type: ignore[assignment]
    return site
