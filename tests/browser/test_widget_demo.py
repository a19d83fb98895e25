"""The demo shop, with which a reader of the README begins."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.case import shared_server
from tests.browser.server import Server
from tests.browser.shop import Widget, WidgetTestCase


class DemoTests(WidgetTestCase):
    def make_server(self) -> Server:
        return shared_server(("--demo",))

    def test_shopping(self) -> None:
        """A visitor asks about a lamp, signs in, asks about an order, and is the same customer to the agent."""
        alice = self.agent()
        page = self.person()
        page.goto(f"{self.origin}/demo/?group={self.group_id}")
        self.picture(page, "demo")
        page.get_by_role("link", name="Ember pendant lamp").click()
        page.get_by_role("button", name="Ask about this product").click()
        shop = Widget(page)
        expect(shop.log.get_by_text("€129.00")).to_be_visible()
        gid = alice.meet()
        alice.say("It is lovely, is it not?")
        expect(shop.bubble("It is lovely, is it not?")).to_be_visible()
        self.picture(page, "demo-product")
        page.get_by_role("link", name="My orders").click()
        page.get_by_role("main").get_by_role("button", name="Sign in").click()
        expect(shop.bubble("It is lovely, is it not?")).to_be_visible()
        page.get_by_role("button", name="Ask about this order").first.click()
        order = alice.push(32399, lambda data: data["message_info"]["file_type"] == 4)
        self.assertEqual((order["gid"], order["message_info"]["sender"]["name"]), (gid, "Gina"))
        expect(shop.log.get_by_text("On its way · 5 items")).to_be_visible()
        self.picture(page, "demo-orders")
        page.get_by_role("button", name="中文").click()
        expect(page.get_by_role("heading", name="我的订单")).to_be_visible()
        expect(shop.frame.get_by_placeholder("输入消息…")).to_be_visible()
        page.get_by_role("button", name="退出 Gina").click()
        expect(shop.panel).to_be_hidden()
