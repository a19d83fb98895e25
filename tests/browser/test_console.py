"""The agents' console, as agents use it."""

from __future__ import annotations

from tests.browser.case import BrowserTestCase


class ConversationTests(BrowserTestCase):
    def test_there_and_back(self) -> None:
        """A guest's message appears in the console without a reload, the answer at the guest's, and both say when it was read."""
        alice = self.add_admin("Alice")
        desk = self.console(alice)
        gina = self.guest("Gina")
        gina.say("Hello, is the red one in stock?")
        row = desk.get_by_role("button", name="Gina")
        row.wait_for()
        self.picture(desk, "console-list")
        row.click()
        log = desk.get_by_role("log")
        log.get_by_text("Hello, is the red one in stock?").wait_for()
        desk.get_by_role("textbox", name="Message").fill("Yes, two are left.")
        desk.keyboard.press("Enter")
        self.assertEqual(gina.push(22399)["message_info"]["msg"], "Yes, two are left.")
        self.assertEqual(gina.push(22299)["admin_read_seq"], 1)
        gina.ask(22200)
        log.get_by_text("Read", exact=True).wait_for()
        self.picture(desk, "console-chat")
