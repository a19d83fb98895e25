"""Pictures, voice and files between a guest and an agent."""

from __future__ import annotations

import base64

from playwright.sync_api import expect

from tests.browser.shop import Agent, Widget, WidgetTestCase
from tests.browser.test_files import png


class FileTests(WidgetTestCase):
    def talking(self) -> tuple[Widget, Agent]:
        alice = self.agent()
        shop = self.visit().open()
        shop.write("I have a question")
        alice.meet()
        return shop, alice

    def test_picture(self) -> None:
        """A picture is chosen or dropped, stands there with its shape, and goes to the agent once."""
        shop, alice = self.talking()
        with shop.page.expect_file_chooser() as choosing:
            shop.frame.get_by_role("button", name="Attach a file").click()
        choosing.value.set_files({"name": "lamp.png", "mimeType": "image/png", "buffer": png()})
        sent = alice.push(32399, lambda data: data["message_info"]["file_type"] == 1)["message_info"]["msg"]
        self.assertEqual((sent["width"], sent["height"]), (320, 200))
        expect(shop.log.locator(".picture img")).to_have_js_property("complete", True)
        for place in (".composer textarea", ".log"):
            shop.frame.locator(place).evaluate(
                """(place, content) => {
                  const data = new DataTransfer();
                  const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
                  data.items.add(new File([bytes], 'a.png', {type: 'image/png'}));
                  place.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
                }""",
                base64.b64encode(png(100, 300)).decode(),
            )
            alice.push(32399, lambda data: data["message_info"]["file_type"] == 1)
        expect(shop.log.locator(".picture img")).to_have_count(3)
        self.assertEqual(len(alice.thread()), 4)
        self.picture(shop.page, "widget-pictures")

    def test_voice(self) -> None:
        """A recording is sent with its length, and an agent's can be played."""
        shop, alice = self.talking()
        shop.frame.get_by_role("button", name="Record a voice message").click()
        expect(shop.frame.get_by_role("timer")).to_have_text("Recording 0:01")
        self.picture(shop.page, "widget-recording")
        shop.frame.get_by_role("button", name="Send the recording").click()
        sent = alice.push(32399, lambda data: data["message_info"]["file_type"] == 2)["message_info"]["msg"]
        self.assertGreaterEqual(sent["duration_ms"], 500)
        shop.log.get_by_role("button", name="Play").click()
        expect(shop.log.get_by_role("button", name="Pause")).to_be_visible()

    def test_file(self) -> None:
        """A document arrives with its name and size; one that the server refuses says why, and can be removed."""
        shop, alice = self.talking()
        chooser = shop.frame.locator("input[type=file]")
        chooser.set_input_files(
            {"name": "发票.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4\n" + b"x" * 3000}
        )
        sent = alice.push(32399, lambda data: data["message_info"]["file_type"] == 6)["message_info"]["msg"]
        self.assertEqual((sent["name"], sent["size"]), ("发票.pdf", 3009))
        expect(shop.log.get_by_role("link", name="发票.pdf")).to_be_visible()
        self.expect_trouble("status of 4")
        chooser.set_input_files({"name": "page.svg", "mimeType": "image/svg+xml", "buffer": b""})
        expect(shop.log.get_by_role("alert")).to_be_visible()
        shop.log.get_by_role("button", name="Remove").click()
        expect(shop.log.get_by_role("alert")).to_have_count(0)
