"""Asks a site over an in-memory transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource

from chatproto.web.site import make_site


@dataclass(frozen=True)
class Response:
    """:ivar fields: lower-case name → value; of several the last."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Asked:
    """One request; the answer may take its time."""

    def __init__(
        self,
        pages: Mapping[bytes, Resource],
        line: str,
        fields: Mapping[str, str] | None = None,
        body: bytes = b"",
        clock: Clock | None = None,
    ) -> None:
        self._transport = StringTransport()
        channel = make_site(lambda: True, clock or Clock(), pages).buildProtocol(None)
        assert channel is not None
        channel.makeConnection(self._transport)
        self.channel = channel
        head = {"Host": "chat.example", **(fields or {}), **({"Content-Length": str(len(body))} if body else {})}
        lines = [f"{line} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        channel.dataReceived("\r\n".join(lines).encode() + body)

    @property
    def answered(self) -> bool:
        return bool(self._transport.value())

    @property
    def response(self) -> Response:
        head, _, body = self._transport.value().partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines)
        return Response(int(first.split()[1]), {name.lower(): value for name, value in fields.items()}, body)
