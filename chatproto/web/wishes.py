"""What a request says of the copy that it wants, and of those that its sender has."""

from __future__ import annotations

import re

from twisted.web.server import Request

_NEVER = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*", re.IGNORECASE)


def takes_gzip(request: Request) -> bool:
    """Accept-Encoding (RFC 9110, 12.5.3), of which we serve one; what is said of it by name goes before ``*``."""
    weights = {}
    for value in request.requestHeaders.getRawHeaders("accept-encoding") or ():
        for member in value.split(","):
            coding, _, weight = member.partition(";")
            weights[coding.strip().lower()] = weight
    gzip = weights.get("gzip", weights.get("*"))
    return gzip is not None and not _NEVER.fullmatch(gzip)


def has(request: Request, *tags: str) -> bool:
    """If-None-Match (RFC 9110, 13.1.2): whether the sender has a copy with one of these tags (without quotes)."""
    wanted = {"*", *(f'"{tag}"' for tag in tags)}
    for value in request.requestHeaders.getRawHeaders("if-none-match") or ():
        if not wanted.isdisjoint(member.strip().removeprefix("W/") for member in value.split(",")):
            return True
    return False
