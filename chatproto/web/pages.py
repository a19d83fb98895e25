"""What a browser gets: the agents' console, the guest's panel and its loader, the demo shop, and their files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Request

from chatproto.web import headers
from chatproto.web.assets import LOADER, Asset, Assets
from chatproto.web.headers import Fields
from chatproto.web.plain import Plain, say
from chatproto.web.wishes import has, takes_gzip

_VERSION = re.compile(rb"[0-9a-f]{12}")


class Served(Plain):
    """One asset, with a gzip copy for who takes it, and 304 for who has it."""

    def __init__(self, asset: Asset, fields: Fields) -> None:
        super().__init__()
        self._asset = asset
        self._fields = fields

    def render(self, request: Request) -> bytes:
        if request.method not in (b"GET", b"HEAD"):
            return super().render(request)
        asset = self._asset
        packed = asset.packed if takes_gzip(request) else None
        tag = f'"{asset.tag}{"-gzip" if packed is not None else ""}"'
        # What of our own fields a page does not name it does not want (X-Frame-Options of a page that is framed).
        request.security = self._fields  # type: ignore[attr-defined]
        request.setHeader(b"ETag", tag)
        if asset.packed is not None:
            request.setHeader(b"Vary", b"Accept-Encoding")
        # Either copy is the same content.
        if has(request, asset.tag, f"{asset.tag}-gzip"):
            request.setResponseCode(304)
            return b""
        body = asset.body if packed is None else packed
        request.setHeader(b"Content-Type", asset.type)
        if packed is not None:
            request.setHeader(b"Content-Encoding", b"gzip")
        request.setHeader(b"Content-Length", b"%d" % len(body))
        return b"" if request.method == b"HEAD" else body


class Folder(Plain):
    """An address that ends with a slash: what stands there, and what stands below."""

    def __init__(self, index: Resource) -> None:
        super().__init__()
        self.put(b"", index)

    def put(self, name: bytes, child: Resource) -> None:
        """What answers below this address; zope's interfaces are unknown to type checkers."""
        here: Any = self
        here.putChild(name, child)

    def render(self, request: Request) -> bytes:
        """The address without its slash."""
        return b"" if _with_slash(request) else super().render(request)


class StaticFiles(Plain):
    """/static/VERSION/…"""

    isLeaf = True

    def __init__(self, assets: Assets) -> None:
        super().__init__()
        self._served = assets
        self._version = assets.version.encode()

    def render(self, request: Request) -> bytes:
        version, *path = request.postpath or [b""]
        asset = self._served.get("/".join(part.decode("ascii", "replace") for part in path))
        if asset is None or not _VERSION.fullmatch(version):
            return super().render(request)
        # A page of another node, while one after the other is upgraded, gets what there is, and keeps it for no time.
        fresh = version == self._version
        return Served(asset, headers.asset_fields() if fresh else headers.other_asset_fields()).render(request)


class Demo(Plain):
    """/demo/: a small shop, whose pages have the addresses of their files.

    :param sign: a token for its one customer, who asks with ``POST /demo/token`` and is not asked for a password.
    """

    isLeaf = True

    def __init__(self, assets: Assets, sign: Callable[[], str]) -> None:
        super().__init__()
        self._sign = sign
        self._files: dict[str, Served] = {}
        for name in assets.names("demo/"):
            page = assets.page(f"demo/{name}") if name.endswith(".html") else None
            if page is not None:
                self._files[name] = Served(page, headers.demo_fields())
            elif (asset := assets.get(f"demo/{name}")) is not None:
                self._files[name] = Served(asset, headers.demo_asset_fields())

    def render(self, request: Request) -> bytes:
        if not request.postpath and _with_slash(request):
            return b""
        name = "/".join(part.decode("ascii", "replace") for part in request.postpath or ())
        if name == "token" and request.method == b"POST":
            return say(request, 200, self._sign())
        found = self._files.get(name or "index.html")
        return super().render(request) if found is None else found.render(request)


def pages(
    assets: Assets,
    *,
    image_hosts: Sequence[str],
    recall_within: float,
    max_text: int,
    shops: Sequence[str],
    login: Resource | None,
    demo: Callable[[], str] | None,
) -> dict[bytes, Resource]:
    """First part of the path → resource, for :func:`chatproto.web.site.make_site`.

    :param image_hosts: where pictures of products and people may come from, beside our own host.
    :param recall_within: seconds for which a message may be recalled; 0 is never.
    :param max_text: characters of a text message.
    :param shops: origins whose pages may show the guest's panel.
    :param login: answers ``POST /console/login``.
    :param demo: signs in the customer of the demo shop; without it there is none.
    """
    found: dict[bytes, Resource] = {b"static": StaticFiles(assets)}
    options = {
        "image-hosts": " ".join(image_hosts),
        "recall-within": str(recall_within),
        "max-text": str(max_text),
    }
    if (page := assets.page("console/index.html", options)) is not None:
        found[b"console"] = console = Folder(Served(page, headers.console_fields(image_hosts)))
        if login is not None:
            console.put(b"login", login)
    if (page := assets.page("widget/frame.html", options)) is not None:
        found[b"frame"] = Served(page, headers.frame_fields(image_hosts, shops))
    if (loader := assets.get(assets.packed(LOADER))) is not None:
        found[b"widget.js"] = Served(loader, headers.loader_fields())
    if demo is not None:
        found[b"demo"] = Demo(assets, demo)
    return found


def _with_slash(request: Request) -> bool:
    """Send a reader to the same address with a slash at its end; False for other methods."""
    if request.method not in (b"GET", b"HEAD"):
        return False
    # Relative, as a proxy may have put something in front; and never to another host, whatever was asked.
    request.setResponseCode(308)
    request.setHeader(b"Location", (request.prepath or [b""])[-1] + b"/")
    request.setHeader(b"Content-Length", b"0")
    return True
