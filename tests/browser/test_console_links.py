"""What agents and guests notice of a server that is killed and of a network that goes, without loading a page anew."""

from __future__ import annotations

import json

from playwright.sync_api import Page, expect

from chatproto.domain.passwords import hashed
from tests.browser.case import BrowserTestCase
from tests.browser.server import Server, wait_until
from tests.browser.shop import WidgetTestCase, options
from tests.browser.wire import Wire

BANNER = "No connection. What you write is kept"


def write(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")


class RestartTests(WidgetTestCase):
    def make_server(self) -> Server:
        server = Server(*options()).start()
        self.addCleanup(server.close)
        return server

    def test_both_write_on(self) -> None:
        """The server is killed while agent and guest write: both write on, and all arrives once when it is back."""
        self.expect_trouble()
        desk = self.console(self.add_admin("Alice"))
        shop = self.visit().open()
        shop.write("Guest 0")
        desk.locator(".chat-row").click()
        log = desk.get_by_role("log")
        expect(log.get_by_text("Guest 0")).to_be_visible()
        for page in (desk, shop.page):
            page.evaluate("window.neverLoadedAnew = true")
        field = desk.get_by_role("textbox", name="Message")
        for number in (1, 2, 3):
            write(desk, f"Agent {number}")
            shop.write(f"Guest {number}")
        field.press_sequentially("Agent")
        shop.box.press_sequentially("Guest")
        # Of what was just sent some is acknowledged, and some nobody knows of.
        self.server.kill()
        for typed in (field, shop.box):
            typed.press_sequentially(" 4")
            typed.press("Enter")
            expect(typed).to_have_value("")
        write(desk, "Agent 5")
        shop.write("Guest 5")
        field.press_sequentially("A draft of the agent")
        shop.box.press_sequentially("A draft of the guest")
        expect(desk.get_by_text(BANNER)).to_be_visible()
        expect(shop.frame.get_by_text("No connection", exact=False)).to_be_visible()
        self.server.start_again()
        desk.get_by_role("button", name="Try now").click()
        for side in (log, shop.log):
            expect(side.get_by_text("Sending…")).to_have_count(0)
            expect(side.locator(".bubble")).to_have_count(11)
        expect(desk.get_by_text(BANNER)).to_have_count(0)
        expect(shop.frame.get_by_text("No connection", exact=False)).to_have_count(0)
        expect(field).to_have_value("A draft of the agent")
        expect(shop.box).to_have_value("A draft of the guest")
        seen = log.locator(".bubble").all_inner_texts()
        self.assertEqual([one for one in seen if "Agent" in one], [f"Agent {number}" for number in range(1, 6)])
        self.assertEqual([one for one in seen if "Guest" in one], [f"Guest {number}" for number in range(6)])
        self.assertEqual(shop.log.locator(".bubble").all_inner_texts(), seen)
        stored = self.server.daemon.sql("SELECT body FROM message WHERE recalls IS NULL ORDER BY seq")
        self.assertEqual([json.loads(body) for (body,) in stored], seen)
        # Both are there again for each other, and for the drafts.
        field.press("Enter")
        shop.box.press("Enter")
        expect(shop.bubble("A draft of the agent")).to_be_visible()
        expect(log.get_by_text("A draft of the guest")).to_be_visible()
        for page in (desk, shop.page):
            self.assertTrue(page.evaluate("window.neverLoadedAnew"))

    def test_upload(self) -> None:
        """A file that is on its way when the server is killed is not lost: it is sent by one click later."""
        self.expect_trouble()
        desk = self.console(self.add_admin("Alice"))
        self.meet(desk, "The bill, please")
        session = desk.context.new_cdp_session(desk)
        line = {"offline": False, "latency": 0, "downloadThroughput": -1}
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", {**line, "uploadThroughput": 100_000})
        with desk.expect_file_chooser() as choosing:
            desk.get_by_role("button", name="Attach a file").click()
        choosing.value.set_files(
            {"name": "bill.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-" + b"x" * 900_000}
        )
        expect(desk.get_by_role("progressbar", name="Uploading bill.pdf")).to_be_visible()
        self.server.kill()
        expect(desk.get_by_role("alert")).to_contain_text("The file was not sent.")
        session.send("Network.emulateNetworkConditions", {**line, "uploadThroughput": -1})
        self.server.start_again()
        expect(desk.get_by_text(BANNER)).to_have_count(0)
        desk.get_by_role("alert").get_by_role("button", name="Try again").click()
        expect(desk.get_by_role("link", name="bill.pdf")).to_be_visible()
        expect(desk.get_by_role("alert")).to_have_count(0)
        # The file has arrived; the message that names it goes as soon as there is a connection again.
        expect(desk.get_by_text("Sending…")).to_have_count(0)
        again = self.guest()
        # The server may be there for files a moment before the page has logged in again.
        wait_until(lambda: [one["file_type"] for one in again.history()] == [0, 6], "the file")


class OfflineTests(BrowserTestCase):
    def test_tunnel(self) -> None:
        """Who comes out of a tunnel is connected at once, without a delay, and what was written in it arrives once."""
        page = self.person()
        page.clock.install()
        wire = Wire(page)
        desk = self.console(self.add_admin("Alice"), page)
        gina = self.meet(desk)
        log = desk.get_by_role("log")
        # From here on nothing in the page happens because of the time, unless the test lets it go on.
        desk.clock.pause_at(desk.evaluate("Date.now() / 1000 + 1"))
        wire.enter_tunnel()
        write(desk, "Written as it became dark")
        expect(log.get_by_text("Sending…")).to_be_visible()
        desk.clock.run_for(8_000)

        def lost() -> bool:
            desk.clock.run_for(100)
            return wire.tried >= 2

        wait_until(lost, "the loss of the link")
        desk.clock.run_for(1_300)
        expect(desk.get_by_text(BANNER)).to_be_visible()
        write(desk, "Written in the tunnel")
        expect(log.get_by_text("Sending…")).to_have_count(2)
        gina.say("Where are you?")
        wire.come_back()
        expect(log.get_by_text("Sending…")).to_have_count(0)
        expect(log.locator(".bubble")).to_have_text(
            ["Hello", "Where are you?", "Written as it became dark", "Written in the tunnel"]
        )
        self.assertEqual(wire.sent, 2)
        desk.clock.run_for(200)
        expect(desk.get_by_text(BANNER)).to_have_count(0)
        self.assertEqual(
            [one["msg"] for one in gina.history() if one["sender"]["type"] == "admin"],
            ["Written as it became dark", "Written in the tunnel"],
        )

    def test_signing_in(self) -> None:
        """Without a network the form says so and keeps what was typed; too many tries are told until when to wait."""
        name = f"Alice {self.group_id}"
        alice = self.add_admin(name)
        self.server.daemon.sql("UPDATE admin SET password_hash = %s WHERE id = %s", hashed("open sesame"), alice)
        page = self.person()
        page.goto(f"{self.origin}/console/")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill("open sesame")
        self.expect_trouble()
        self.expect_trouble("status of 429")
        page.context.set_offline(True)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text("The server cannot be reached. Try again.")
        page.context.set_offline(False)
        page.route(
            "**/console/login",
            lambda route: route.fulfill(status=429, headers={"Retry-After": "110"}, body="{}"),
            times=1,
        )
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text("Too many tries. Try again in 2 minutes.")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("switch")).to_be_visible()
