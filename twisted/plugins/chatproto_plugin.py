"""What makes ``twistd chatproto`` known. Keep it to this: a plugin module that raises shows as "Unknown command"."""

from __future__ import annotations

from twisted.application.service import ServiceMaker

chatproto = ServiceMaker(
    "chatproto",
    "chatproto.tap",
    "A chat server that connects a shop's customers with its service agents.",
    "chatproto",
)
