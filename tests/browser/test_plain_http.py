"""The pages without https: there a browser has no microphone, no notifications, no locks and no ready-made ids."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.case import PLAIN_HOST, BrowserTestCase, shared_server
from tests.browser.server import Server
from tests.browser.shop import Widget
from tests.browser.test_files import png


class PlainTests(BrowserTestCase):
    def make_server(self) -> Server:
        return shared_server(("--demo",))

    @property
    def origin(self) -> str:
        return f"http://{PLAIN_HOST}:{self.server.port}"

    def test_talk(self) -> None:
        """An agent and a guest talk and send pictures, and are offered nothing that the browser would refuse."""
        self.expect_trouble("Cross-Origin-(Opener|Embedder)-Policy header has been ignored")
        desk = self.console(self.add_admin("Alice"))
        self.assertFalse(desk.evaluate("isSecureContext"))
        page = self.person()
        page.goto(f"{self.origin}/demo/?group={self.group_id}")
        shop = Widget(page).open()
        shop.write("Is the red one in stock?")
        desk.locator(".chat-row").click()
        log = desk.get_by_role("log")
        expect(log.get_by_text("Is the red one in stock?")).to_be_visible()
        desk.get_by_role("textbox", name="Message").fill("Two are left.")
        desk.keyboard.press("Enter")
        expect(shop.bubble("Two are left.")).to_be_visible()
        for side, other in ((desk, shop.log), (shop.frame, log)):
            expect(side.get_by_role("button", name="Record a voice message")).to_have_count(0)
            side.locator("input[type=file]").set_input_files(
                {"name": "lamp.png", "mimeType": "image/png", "buffer": png()}
            )
            expect(other.locator(".theirs .picture img")).to_have_js_property("naturalWidth", 320)
        desk.get_by_role("button", name="Settings").click()
        expect(desk.get_by_label("Play a sound")).to_be_enabled()
        expect(desk.get_by_label("Show desktop notifications")).to_be_disabled()
