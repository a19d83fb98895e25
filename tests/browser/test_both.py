"""An agent and a guest, each with the page that is made for them: what one sends is what the other sees."""

from __future__ import annotations

import base64

from playwright.sync_api import FrameLocator, Locator, Page, expect

from tests.browser.case import RECORDING
from tests.browser.shop import WidgetTestCase
from tests.browser.test_files import png
from tests.browser.test_widget_files import RECORD


class KindsTests(WidgetTestCase):
    @property
    def origin(self) -> str:
        """The console and the panel come from one address, as in a shop."""
        return self.chat

    def test_there_and_back(self) -> None:
        """Pictures, videos, documents and voice of either side are shown, and can be played, on the other."""
        desk = self.console(self.add_admin("Alice"), permissions=["microphone"])
        shop = self.visit(self.person(permissions=["microphone"])).open()
        shop.write("Can I see it?")
        desk.locator(".chat-row").click()
        log = desk.get_by_role("log")
        expect(log.get_by_text("Can I see it?")).to_be_visible()
        video = base64.b64decode(shop.page.evaluate(RECORD))
        self.send(shop.frame, video)
        self.assertShown(log)
        self.picture(desk, "both-console")
        self.send(desk, video)
        self.assertShown(shop.log)
        self.picture(shop.page, "both-shop")

    def send(self, side: Page | FrameLocator, video: bytes) -> None:
        """Of each kind one that is no text."""
        for name, kind, content in (
            ("lamp.png", "image/png", png()),
            ("lamp.webm", "video/webm", video),
            ("bill.pdf", "application/pdf", b"%PDF-1.4\n"),
        ):
            side.locator("input[type=file]").set_input_files({"name": name, "mimeType": kind, "buffer": content})
        side.get_by_role("button", name="Record a voice message").click()
        expect(side.get_by_role("timer")).to_have_text(RECORDING)
        side.get_by_role("button", name="Send the recording").click()

    def assertShown(self, log: Locator) -> None:
        """As what they are, to who did not send them."""
        theirs = log.locator(".theirs")
        expect(theirs.locator(".picture img")).to_have_js_property("naturalWidth", 320)
        expect(theirs.locator("video")).to_have_js_property("videoWidth", 64)
        expect(theirs.get_by_role("link", name="bill.pdf")).to_contain_text("9 bytes")
        theirs.get_by_role("button", name="Play").click()
        expect(theirs.get_by_role("button", name="Pause")).to_be_visible()
        expect(theirs.get_by_role("button", name="Play")).to_be_visible()
