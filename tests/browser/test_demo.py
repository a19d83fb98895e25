"""What README.md promises: two addresses, a password, and a conversation with oneself."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.case import BrowserTestCase
from tests.browser.server import Server, wait_until
from tests.browser.shop import Widget


class DemoTests(BrowserTestCase):
    def make_server(self) -> Server:
        server = Server("--demo").start()
        self.addCleanup(server.close)
        return server

    def test_with_oneself(self) -> None:
        """Whoever follows what the first start prints has signed in, opened the shop, and talked, all by the mouse."""
        wait_until(lambda: "customers" in self.server.daemon.log, "the addresses")
        told = self.server.daemon.log
        [console] = re.findall(r"agents +(\S+)", told)
        [shop] = re.findall(r"customers +(\S+)", told)
        [(name, password)] = re.findall(r"name (\w+) .*password (\S+)", told)
        desk = self.person()
        desk.goto(console)
        desk.get_by_label("Name").fill(name)
        desk.get_by_label("Password").fill(password)
        desk.get_by_role("button", name="Sign in").click()
        expect(desk.get_by_role("switch")).to_be_visible()
        page = self.person()
        page.goto(shop)
        widget = Widget(page).open()
        widget.write("Do you deliver on Saturdays?")
        row = desk.locator(".chat-row")
        expect(row).to_contain_text("Do you deliver on Saturdays?")
        row.click()
        desk.get_by_role("textbox", name="Message").fill("We do.")
        desk.keyboard.press("Enter")
        expect(widget.bubble("We do.")).to_be_visible()
        expect(desk.get_by_role("log").get_by_text("Read", exact=True)).to_be_visible()
        self.picture(desk, "demo-console")
        self.picture(page, "demo-shop")
