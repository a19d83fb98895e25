"""What an agent's page does when the server or the network is bad."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.case import BrowserTestCase
from tests.browser.server import Guest, Server, wait_until
from tests.browser.wire import Wire


def write(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")


def from_admin(guest: Guest) -> list[Any]:
    """What was written to the guest, in the order of the server."""
    return [one["msg"] for one in guest.history() if one["sender"]["type"] == "admin"]


class LinkTests(BrowserTestCase):
    def test_cut(self) -> None:
        """Ten messages over a link that is cut three times arrive once each, in the order of writing."""
        page = self.person()
        wire = Wire(page)
        desk = self.console(self.add_admin("Alice"), page)
        gina = self.meet(desk)
        wire.cut_after = {2, 5, 6}
        lines = [f"Line {number}" for number in range(10)]
        for line in lines:
            write(desk, line)
        # Playwright carries the frames only while it waits for something.
        expect(desk.locator(".row.mine .bubble")).to_have_text(lines)
        expect(desk.get_by_text("Sending…")).to_have_count(0)
        self.assertEqual(from_admin(gina), lines)
        self.assertGreater(wire.opened, 3)

    def test_half_dead(self) -> None:
        """A link that swallows everything is noticed, and what was written over it is sent over the next one."""
        page = self.person()
        wire = Wire(page)
        desk = self.console(self.add_admin("Alice"), page)
        gina = self.meet(desk)
        wire.go_dead()
        write(desk, "Can you hear me?")
        expect(desk.get_by_text("Sending…")).to_be_visible()
        expect(desk.get_by_text("Sending…")).to_have_count(0)
        self.assertEqual(from_admin(gina), ["Can you hear me?"])
        self.assertEqual(wire.opened, 2)

    def test_half_dead_and_idle(self) -> None:
        """So it is while nobody writes over it, and what came meanwhile is there then."""
        page = self.person()
        page.clock.install()
        wire = Wire(page)
        desk = self.console(self.add_admin("Alice"), page)
        gina = self.meet(desk)
        # That it was read is the last that the page has to say.
        expect(desk.get_by_label("1 unread message")).to_have_count(0)
        wire.go_dead()
        gina.say("Are you there?")
        desk.clock.run_for(25_000)

        def lost() -> bool:
            desk.clock.run_for(100)
            return wire.tried == 2

        wait_until(lost, "the loss of the link")
        expect(desk.get_by_role("log").get_by_text("Are you there?")).to_be_visible()

    def test_one_element(self) -> None:
        """What was written stays the element that it was when the server has it, so that it is read out once."""
        page = self.person()
        wire = Wire(page)
        desk = self.console(self.add_admin("Alice"), page)
        self.meet(desk)
        wire.go_away()
        write(desk, "Can you hear me?")
        expect(desk.get_by_text("Sending…")).to_be_visible()
        row = desk.locator(".row.mine")
        row.evaluate("(row) => { row.marked = true; }")
        wire.come_back()
        expect(desk.get_by_text("Sending…")).to_have_count(0)
        expect(row).to_have_js_property("marked", True)

    def test_lost_pushes(self) -> None:
        """What a push did not bring is fetched: by the gap that it leaves, or when the server says that it is lost."""
        page = self.person()
        wire = Wire(page)
        desk = self.console(self.add_admin("Alice"), page)
        gina = self.meet(desk)
        log = desk.get_by_role("log")
        wire.loses = '"api_key":32399'
        gina.say("This push is lost")
        # Playwright carries frames only while it is asked something.
        wait_until(lambda: [desk.title(), wire.lost][1] == 1, "the loss")
        wire.loses = ""
        gina.say("and this one is not")
        expect(log.locator(".bubble")).to_have_text(["Hello", "This push is lost", "and this one is not"])
        wire.loses = '"api_key":32399'
        gina.say("Lost, too")
        wait_until(lambda: [desk.title(), wire.lost][1] == 2, "the loss")
        expect(log.get_by_text("Lost, too")).to_have_count(0)
        wire.route.send(json.dumps({"api_key": 39099, "data": {}, "code": 39099, "message": "", "status": "Success"}))
        expect(log.get_by_text("Lost, too")).to_be_visible()
        expect(desk.get_by_role("button", name="Gina")).to_contain_text("Lost, too")


class RestartTests(BrowserTestCase):
    def make_server(self) -> Server:
        server = Server().start()
        self.addCleanup(server.close)
        return server

    def test_killed(self) -> None:
        """The server is killed while an agent writes: the draft stays, and what was sent arrives once, in order."""
        self.expect_trouble()
        desk = self.console(self.add_admin("Alice"))
        gina = self.guest()
        gina.say("Hello")
        desk.get_by_role("button", name="Gina").click()
        write(desk, "Before")
        gina.push(22399)
        self.server.kill()
        write(desk, "Written without a server")
        write(desk, "And another")
        desk.get_by_role("textbox", name="Message").press_sequentially("A draft")
        expect(desk.get_by_text("No connection. What you write is kept")).to_be_visible()
        self.picture(desk, "console-offline")
        self.server.start_again()
        desk.reload()
        gina = self.guest()
        gina.say("I am back")
        log = desk.get_by_role("log")
        expect(log.get_by_text("I am back")).to_be_visible()
        expect(desk.get_by_role("textbox", name="Message")).to_have_value("A draft")
        wait_until(lambda: len(from_admin(gina)) >= 3, "three messages")
        self.assertEqual(from_admin(gina), ["Before", "Written without a server", "And another"])
        expect(desk.get_by_text("No connection. What you write is kept")).to_have_count(0)
        expect(desk.get_by_text("Sending…")).to_have_count(0)
