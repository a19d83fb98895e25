"""The pages offer what the server is configured to take, and nothing that it would refuse."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.case import BrowserTestCase, shared_server
from tests.browser.server import Server
from tests.browser.shop import WidgetTestCase, options

OPTIONS = ("--recall-within", "0", "--max-text", "12")
LONG = "Twelve characters and more"
FULL = "No more than 12 characters fit."


class ConsoleTests(BrowserTestCase):
    OPTIONS = OPTIONS

    def test_limits(self) -> None:
        """An agent writes no text that is too long, and is told so; nor is a recall offered where there is none."""
        desk = self.console(self.add_admin("Alice"))
        gina = self.guest()
        gina.say("Hello")
        desk.get_by_role("button", name="Gina").click()
        desk.keyboard.type(LONG[:11])
        expect(desk.get_by_text(FULL)).to_have_count(0)
        desk.keyboard.type(LONG[11:])
        expect(desk.get_by_role("alert")).to_have_text(FULL)
        desk.keyboard.press("Enter")
        self.assertEqual(gina.push(22399)["message_info"]["msg"], LONG[:12])
        row = desk.locator(".row.mine", has_text=LONG[:12])
        row.hover()
        expect(row.locator("time")).to_be_visible()
        expect(row.get_by_role("button")).to_have_count(0)


class WidgetTests(WidgetTestCase):
    def make_server(self) -> Server:
        return shared_server((*options(), *OPTIONS))

    def test_limits(self) -> None:
        """Nor does a guest."""
        alice = self.agent()
        shop = self.visit().open()
        shop.box.click()
        shop.page.keyboard.insert_text(LONG)
        expect(shop.frame.get_by_role("alert")).to_have_text(FULL)
        self.check(shop.page)
        self.picture(shop.page, "widget-full")
        shop.page.keyboard.press("Enter")
        expect(shop.frame.get_by_role("alert")).to_have_count(0)
        alice.meet()
        alice.heard(LONG[:12])
        row = shop.frame.locator(".row.mine", has_text=LONG[:12])
        row.hover()
        expect(row.locator("time")).to_be_visible()
        expect(row.get_by_role("button")).to_have_count(0)
