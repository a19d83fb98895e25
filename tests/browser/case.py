"""Tests in a real Chromium: one browser for the run, a context for each person.

Every test fails on an error of a page, in its console, or against its policy; what a test causes on purpose (a server
that is gone) it names with :meth:`BrowserTestCase.expect_trouble`. Waiting is Playwright's own: for what a user sees.

Without Chromium the tests are skipped, but fail where ``CI`` is set. ``TEST_SCREENSHOTS=DIRECTORY`` keeps a
picture of each state that a test calls :meth:`BrowserTestCase.picture` for.
"""

from __future__ import annotations

import atexit
import os
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

try:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, expect, sync_playwright
except ImportError:  # without the extra "test"
    sync_playwright = None  # type: ignore[assignment]

from tests.browser.server import Guest, Server, wait_until
from tests.integration.daemon import token

RECORDING = re.compile(r"Recording 0:(?!00)")
"""What the time of a recording says after a second, or more: a slow machine misses some."""
PLAIN_HOST = "plain.example"
"""A name of this machine that browsers do not trust as they do localhost."""
CHROMIUM = os.environ.get("TEST_CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1",
)
# Trial runs the tests in a directory of its own; a path is meant from where it was started.
_PICTURES = os.environ.get("TEST_SCREENSHOTS")
PICTURES = Path(_PICTURES).absolute() if _PICTURES else None
PATIENCE = 15_000
"""Milliseconds after which waiting fails a test."""

# A headless page is never focused, and so nothing in it would ever be read.
_FOCUSED = "Object.defineProperty(document, 'hasFocus', {value: () => true})"
_GONE = r"WebSocket connection to .* failed|net::ERR_(CONNECTION|INTERNET|NETWORK|EMPTY|SOCKET)"

_started: list[Any] = []
_servers: dict[tuple[str, ...], Server] = {}


def browser() -> Browser:
    """The one of this run."""
    if not _started:
        playwright: Playwright = sync_playwright().start()
        expect.set_options(timeout=PATIENCE)
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        _started.extend((playwright, launched))
        atexit.register(_stop)
    found: Browser = _started[1]
    return found


def _stop() -> None:
    playwright, launched = _started
    launched.close()
    playwright.stop()


def shared_server(options: tuple[str, ...]) -> Server:
    """A server with these options for all tests of this run that want one."""
    server = _servers.get(options)
    if server is None:
        server = _servers[options] = Server(*options).start()
        atexit.register(server.close)
    return server


class BrowserTestCase(SynchronousTestCase):
    """A test with a group of its own on a server that it shares with others.

    :cvar OPTIONS: of the server.
    """

    OPTIONS: tuple[str, ...] = ()
    server: Server

    def setUp(self) -> None:
        if sync_playwright is None or not Path(CHROMIUM).exists():
            if os.environ.get("CI"):
                self.fail(f"no browser: {CHROMIUM}, and playwright")
            raise SkipTest(f"no browser here: {CHROMIUM}, and playwright of the extra 'test'")
        self.trouble: list[str] = []
        self._expected: list[re.Pattern[str]] = []
        self.addCleanup(self._no_trouble)
        self.server = self.make_server()
        self.group_id = self.server.daemon.add_group()

    def make_server(self) -> Server:
        return shared_server(self.OPTIONS)

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.server.port}"

    # People.

    def person(self, **options: Any) -> Page:
        """A page in a context of its own; *options* of ``new_context``."""
        return self.page(self.context(**options))

    def context(self, **options: Any) -> BrowserContext:
        context = browser().new_context(**{"viewport": {"width": 1440, "height": 900}, "locale": "en-GB", **options})
        self.addCleanup(context.close)
        context.set_default_timeout(PATIENCE)
        context.add_init_script(_FOCUSED)
        return context

    def page(self, context: BrowserContext) -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: self.trouble.append(f"page error: {error}\n{error.stack}"))
        page.on("console", self._noted)
        return page

    def add_admin(self, name: str, capacity: int = 10) -> int:
        return self.server.daemon.add_admin(self.group_id, name, capacity)

    def console(self, admin_id: int, page: Page | None = None, **options: Any) -> Page:
        """The console of an admin, logged in by a token in the address."""
        page = page or self.person(**options)
        page.goto(f"{self.origin}/console/#token={token(admin_id=admin_id)}")
        page.get_by_role("tab").first.wait_for()
        # Before, it is not kept, and whoever goes elsewhere is not signed in there.
        wait_until(lambda: page.evaluate("localStorage['chatproto.console.token'] ?? ''"), "a login")
        return page

    def guest(self, name: str = "Gina", **claims: Any) -> Guest:
        """A guest of this test's own, whatever others are called so."""
        guest = Guest(self.server, self.group_id, name, **{"sub": f"{self.group_id} {name}"[:64], **claims})
        self.addCleanup(guest.close)
        return guest

    def meet(self, desk: Page, text: str = "Hello", name: str = "Gina") -> Guest:
        """A guest writes, and the agent at *desk* opens the chat."""
        guest = self.guest(name)
        guest.say(text)
        desk.get_by_role("button", name=name).click()
        expect(desk.get_by_role("log").get_by_text(text)).to_be_visible()
        return guest

    # What goes wrong.

    def expect_trouble(self, pattern: str = _GONE) -> None:
        """What the browser may log in this test."""
        self._expected.append(re.compile(pattern))

    def _noted(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") or "Content Security Policy" in message.text:
            self.trouble.append(f"console {message.type}: {message.text} ({message.location.get('url')})")

    def _no_trouble(self) -> None:
        left = [line for line in self.trouble if not any(pattern.search(line) for pattern in self._expected)]
        self.assertEqual(left, [])

    # Pictures.

    def picture(self, page: Page, name: str) -> None:
        if PICTURES:
            PICTURES.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=PICTURES / f"{name}.png", animations="disabled")
