"""The HTTP side of the port: what is not WebSocket is answered here (docs/architecture.md, *One port*).

How large a request may be, and how long it may take, is the business of the connection
(:mod:`chatproto.connection.door`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.web.http import NOT_MODIFIED, HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from chatproto.web.headers import SECURITY, SERVER, Fields
from chatproto.web.plain import NotFound, Plain

Ready = Callable[[], "bool | str"]


class ChatRequest(Request):
    """A request whose response has our header fields, whoever writes it (errors and redirects of Twisted too).

    :ivar security: fields that it gets unless the resource has set them.
    """

    security: Fields = SECURITY

    def write(self, data: bytes) -> None:
        if not self.startedWriting:
            self.setHeader(b"Server", SERVER)
            if self.code == NOT_MODIFIED:
                # Twisted's 0 would be said of the copy that the peer has (RFC 9110, 8.6).
                self.responseHeaders.removeHeader(b"Content-Length")
            for name, value in self.security:
                if not self.responseHeaders.hasHeader(name):
                    self.setHeader(name, value)
        super().write(data)


class Healthz(Plain):
    """/healthz: 200 as long as the event loop turns, so that only a process that hangs is restarted."""

    def answer(self) -> tuple[int, str]:
        return 200, "ok"


class Readyz(Plain):
    """/readyz: 200 when new connections may be sent here, else 503 and why not."""

    def __init__(self, ready: Ready) -> None:
        super().__init__()
        self._ready = ready

    def answer(self) -> tuple[int, str]:
        state = self._ready()
        if state is True:
            return 200, "ok"
        return 503, state if isinstance(state, str) and state else "not ready"


def make_site(ready: Ready, reactor: Any = None, pages: Mapping[bytes, Resource] | None = None) -> Site:
    """The site of one node, without an access log.

    :param ready: True, or False or one line that says why new connections should go elsewhere.
    :param reactor: ``seconds``, for dates; None is the global one.
    :param pages: first part of the path → what answers below it, beside the two for health.
    """
    root: Any = NotFound()
    for name, resource in {**(pages or {}), b"healthz": Healthz(), b"readyz": Readyz(ready)}.items():
        root.putChild(name, resource)
    options: dict[str, Any] = {"requestFactory": ChatRequest, "timeout": None, "reactor": reactor}
    site = Site(root, **options)
    # Without the wrapper that may become HTTP/2: the door asks the channel whether its request is open.
    site.protocol = HTTPChannel  # type: ignore[assignment]
    return site
