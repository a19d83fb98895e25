"""Resources that answer with one line of plain text."""

from __future__ import annotations

from twisted.web.resource import Resource
from twisted.web.server import Request


class Plain(Resource):
    """One line of plain text, whatever the method: Twisted's own words for the others are a page of HTML."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        return NotFound()

    def render(self, request: Request) -> bytes:
        code, line = self.answer_to(request)
        return say(request, code, line)

    def answer_to(self, request: Request) -> tuple[int, str]:
        if request.method in (b"GET", b"HEAD"):
            return self.answer()
        request.setHeader(b"Allow", b"GET, HEAD")
        return 405, "method not allowed"

    def answer(self) -> tuple[int, str]:
        return 404, "not found"


class NotFound(Plain):
    """The root, and everything that has no resource of its own."""

    def answer_to(self, request: Request) -> tuple[int, str]:
        return 404, "not found"


def say(request: Request, code: int, line: str) -> bytes:
    """Set status and header fields of a line; returns the body."""
    request.setResponseCode(code)
    request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    body = line.encode() + b"\n"
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return b"" if request.method == b"HEAD" else body
