"""The widget in a shop whose pages are isolated from all other origins (COEP, COOP), as those with threads are."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.case import shared_server
from tests.browser.server import Server
from tests.browser.shop import Widget, WidgetTestCase, shop_origin
from tests.browser.test_files import png


class Isolated(WidgetTestCase):
    def talk(self) -> Widget:
        """A conversation with a picture, in an isolated page."""
        alice = self.agent(avatar=f"{shop_origin()}/lamp.svg")
        page = self.person()
        page.goto(f"{self.address()}&isolated=yes")
        self.assertIs(page.evaluate("crossOriginIsolated"), True)
        shop = Widget(page).open()
        shop.write("Hello")
        alice.meet()
        alice.say("Hi")
        expect(shop.bubble("Hi")).to_be_visible()
        shop.frame.locator("input[type=file]").set_input_files(
            {"name": "lamp.png", "mimeType": "image/png", "buffer": png()}
        )
        sent = alice.push(32399, lambda data: data["message_info"]["file_type"] == 1)["message_info"]["msg"]
        picture = shop.log.locator(".picture img")
        expect(picture).to_have_js_property("complete", True)
        self.assertGreater(picture.evaluate("({naturalWidth}) => naturalWidth"), 0)
        alice.say(sent, 1)
        expect(picture).to_have_count(2)
        alice.say({"id": "P-1", "title": "Red lamp", "image": f"{shop_origin()}/lamp.svg"}, 3)
        expect(shop.log.get_by_text("Red lamp")).to_be_visible()
        return shop


class PicturesTests(Isolated):
    def test_pictures(self) -> None:
        """A guest talks there, and sees pictures: sent ones, and those of the agent and of products from the shop."""
        shop = self.talk()
        for picture in (shop.log.locator(".card-image"), shop.frame.locator("header img")):
            expect(picture).to_have_js_property("naturalWidth", 40)


class StrictTests(Isolated):
    def make_server(self) -> Server:
        return shared_server(("--origin", shop_origin()))

    def test_talk(self) -> None:
        """Where no other host's pictures are shown the panel needs no more than what all browsers know."""
        shop = self.talk()
        expect(shop.log.locator(".card-image")).to_have_count(0)
