"""A shop's pages on an origin of their own, under the strictest policy that can show the widget; and its agents."""

from __future__ import annotations

import atexit
import json
import threading
from collections.abc import Mapping
from functools import cache
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import FrameLocator, Locator, Page, expect
from websockets.sync.client import connect

from tests.browser.case import BrowserTestCase, shared_server
from tests.browser.server import Guest, Server
from tests.integration.daemon import token

PICTURE = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><path fill="#c4473a" d="M0 0h40v40H0z"/></svg>'
)

_ISOLATED = {"Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Opener-Policy": "same-origin"}


class _Pages(BaseHTTPRequestHandler):
    """/?chat=ORIGIN&data-…=…: a page with the widget's script tag, these attributes, and no script of its own.

    With isolated=… it asks the browser to keep it apart from all other origins, as pages with threads do.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/lamp.svg":
            return self._answer(PICTURE, "image/svg+xml")
        if parts.path != "/":
            return self._answer(b"", "text/plain", 404)
        asked = dict(parse_qsl(parts.query))
        chat = asked.pop("chat", "")
        attributes = "".join(f' {name}="{escape(value)}"' for name, value in asked.items() if name.startswith("data-"))
        script = f'<script src="{escape(chat)}/widget.js" async{attributes}></script>' if chat else ""
        page = (
            f'<!doctype html><html lang="{escape(asked.get("lang", "en"))}"><meta charset="utf-8">'
            '<title>Red lamp</title><link rel="icon" href="data:,">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<main><h1>Red lamp</h1><button>Buy</button></main>{script}</html>"
        )
        self._answer(
            page.encode(),
            "text/html; charset=utf-8",
            policy=f"default-src 'none'; script-src {chat}; frame-src {chat}; img-src data:; base-uri 'none'; "
            "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            fields=_ISOLATED if "isolated" in asked else {},
        )

    def _answer(
        self,
        body: bytes,
        content_type: str,
        code: int = 200,
        policy: str = "default-src 'none'",
        fields: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.send_response(code)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", policy)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Not on the terminal of the tests."""


@cache
def shop_origin() -> str:
    """Of the one shop of this run."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    atexit.register(server.shutdown)
    return f"http://shop.localhost:{server.server_address[1]}"


def options() -> tuple[str, ...]:
    """Of a server whose widget this shop shows."""
    return ("--origin", shop_origin(), "--image-host", shop_origin())


class Agent(Guest):
    """An admin with a plain WebSocket, who serves the guests of the widget."""

    def __init__(self, server: Server, admin_id: int) -> None:
        self._socket = connect(f"ws://127.0.0.1:{server.port}/", max_size=None)
        self._pushes: list[dict[str, Any]] = []
        self._number = 0
        self.admin_id = admin_id
        self.data = self.ask(31000, call_type=3, token=token(admin_id=admin_id), v=2)
        self.gid = 0

    def meet(self) -> int:
        """The gid of the next guest who comes; others that are asked about are this one's."""
        self.gid = int(self.push(32401)["gid"])
        return self.gid

    def say(self, msg: Any, file_type: int = 0) -> dict[str, Any]:
        return dict(self.ask(32300, gid=self.gid, msg=msg, file_type=file_type)["message_info"])

    def has(self, api_key: int) -> bool:
        """Whether such a push has come."""
        self.ask(33000)
        return any(frame["api_key"] == api_key for frame in self._pushes)

    def heard(self, text: Any) -> dict[str, Any]:
        """Wait for a message of the guest, as a push."""
        return dict(self.push(32399, lambda data: data["message_info"]["msg"] == text)["message_info"])

    def thread(self) -> list[dict[str, Any]]:
        """What the conversation consists of by now."""
        group_id = next(iter(self.data["admin_list"].values()))["group_id"]
        page = self.ask(32100, gid=self.gid, group_id=group_id, page_size=100)
        return sorted(page["recs"].values(), key=lambda one: int(one["seq"]))


class Widget:
    """The widget in a page of the shop, as a guest uses it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        # From now on, as the frame, a process of its own, may hear of it after the click that asks for a file.
        page.on("filechooser", lambda chooser: None)
        self.launcher: Locator = page.locator("chatproto-widget button")
        self.panel: Locator = page.locator("chatproto-widget section")
        self.frame: FrameLocator = page.frame_locator("chatproto-widget iframe")
        self.log: Locator = self.frame.get_by_role("log")
        self.box: Locator = self.frame.locator(".composer textarea")

    def open(self) -> Widget:
        self.launcher.click()
        # What the frame holds is laid out also while the panel is shut: that it shows is asked of the page.
        expect(self.panel).to_be_visible()
        self.box.wait_for()
        return self

    def write(self, text: str) -> None:
        self.box.fill(text)
        self.box.press("Enter")

    def bubble(self, text: str) -> Locator:
        return self.log.locator(".bubble").get_by_text(text, exact=True)

    def push(self, *call: Any) -> None:
        """A call of the SDK."""
        self.page.evaluate("(call) => (window.chatproto = window.chatproto || []).push(call)", list(call))

    def listen(self, *names: str) -> None:
        """Note events of the SDK in ``window.heard``."""
        self.page.evaluate(
            """(names) => {
              window.heard = [];
              window.chatproto = window.chatproto || [];
              const note = (name) => (detail) => window.heard.push([name, detail]);
              for (const name of names) window.chatproto.push(['on', name, note(name)]);
            }""",
            list(names),
        )

    def heard(self, name: str) -> list[Any]:
        found: list[Any] = self.page.evaluate(
            "(name) => window.heard.filter((one) => one[0] === name).map((one) => one[1])", name
        )
        return found

    def kept(self) -> dict[str, Any]:
        """What lies in the shop's localStorage."""
        found: dict[str, Any] = json.loads(self.page.evaluate("JSON.stringify(localStorage)"))
        return found


class WidgetTestCase(BrowserTestCase):
    """A test with a shop that has one agent, on line unless the test says otherwise."""

    def make_server(self) -> Server:
        return shared_server(options())

    @property
    def chat(self) -> str:
        return f"http://chat.localhost:{self.server.port}"

    def agent(self, name: str = "Alice", capacity: int = 10, avatar: str = "") -> Agent:
        admin_id = self.add_admin(name, capacity)
        self.server.daemon.sql("UPDATE admin SET avatar = %s WHERE id = %s", avatar, admin_id)
        agent = Agent(self.server, admin_id)
        self.addCleanup(agent.close)
        return agent

    def check(self, page: Page) -> None:
        """axe, in the page and in the frame: nothing that hinders people seriously."""
        for frame in page.frames:
            found = Axe().run(frame, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
            bad = [one for one in found if one["impact"] in ("serious", "critical")]
            self.assertEqual([(one["id"], [node["target"] for node in one["nodes"]]) for one in bad], [])

    def address(self, **attributes: str) -> str:
        """Of a page of the shop; *attributes* of the script tag without their ``data-``."""
        data = {"group": str(self.group_id), **attributes}
        lang = data.pop("lang", "en")
        return f"{shop_origin()}/?" + urlencode(
            {"chat": self.chat, "lang": lang, **{f"data-{name}": value for name, value in data.items()}}
        )

    def visit(self, page: Page | None = None, **attributes: str) -> Widget:
        """Go to the shop; the widget is there, closed."""
        page = page or self.person()
        page.goto(self.address(**attributes))
        page.locator("chatproto-widget").wait_for(state="attached")
        return Widget(page)
