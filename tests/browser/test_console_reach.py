"""Whoever uses no mouse, or cannot see the page, or has a phone, reaches everything in the console."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from chatproto.domain.passwords import hashed
from tests.browser.case import BrowserTestCase
from tests.browser.server import wait_until

PASSWORD = "open sesame"

# What has the focus, by what it is called, and whether it shows that it has it; "" is nothing, where Tab begins anew.
_FOCUSED = """() => {
  const {tagName, ariaLabel, name, innerText, labels} = document.activeElement;
  if (tagName === 'BODY' || document.activeElement.closest(':disabled')) return ['', ''];
  const called = ariaLabel || labels?.[0]?.innerText || innerText || name || tagName;
  return [called, getComputedStyle(document.activeElement).outlineStyle];
}"""


class Keys:
    """Somebody with a keyboard and nothing else.

    :ivar at: what has the focus.
    """

    def __init__(self, test: BrowserTestCase, page: Page) -> None:
        self._test = test
        self._page = page

    @property
    def at(self) -> str:
        return str(self._page.evaluate(_FOCUSED)[0])

    def press(self, *keys: str) -> None:
        """After each something has the focus."""
        for key in keys:
            self._page.keyboard.press(key)
            self.stays()

    def stays(self) -> None:
        wait_until(lambda: self.at, "a focus", patience=5)

    def type(self, text: str) -> None:
        self._page.keyboard.type(text)

    def tab_to(self, name: str, key: str = "Tab") -> None:
        """Until what is called so has the focus; it must show that it does."""
        seen = []
        for _ in range(40):
            self._page.keyboard.press(key)
            called, outline = self._page.evaluate(_FOCUSED)
            if name in called:
                self._test.assertNotEqual(outline, "none", name)
                return
            seen.append(called)
        self._test.fail(f"{key} never comes to {name}, but to {seen}")


class KeyboardTests(BrowserTestCase):
    def with_password(self, name: str) -> int:
        admin_id = self.add_admin(name)
        self.server.daemon.sql("UPDATE admin SET password_hash = %s WHERE id = %s", hashed(PASSWORD), admin_id)
        return admin_id

    def test_a_day(self) -> None:
        """From signing in to signing out by the keyboard, and after each step something has the focus."""
        name = f"Alice {self.group_id}"
        self.with_password(name)
        page = self.person()
        keys = Keys(self, page)
        page.goto(f"{self.origin}/console/")
        page.get_by_label("Name").wait_for()
        self.expect_trouble("status of 401")
        if not keys.at:
            keys.tab_to("Name")
        keys.type(name)
        keys.tab_to("Password")
        keys.type("wrong")
        keys.tab_to("Sign in")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("This name and password do not fit together.")
        keys.stays()
        self.assertIn("Password", keys.at)
        keys.type(PASSWORD)
        keys.press("Enter")
        expect(page.get_by_role("switch")).to_be_visible()
        keys.stays()
        keys.tab_to("Receiving guests", "Shift+Tab")
        keys.press("Space")
        gina, hugo, ivy = (self.guest(one) for one in ("Gina", "Hugo", "Ivy"))
        for guest in (gina, hugo, ivy):
            guest.say("Hello")
        expect(page.get_by_text("3 are waiting")).to_be_visible()
        # From the queue: any of those who wait.
        keys.tab_to("Mine")
        keys.press("ArrowRight")
        self.assertIn("Queue", keys.at)
        keys.tab_to("Gina")
        keys.press("ArrowDown")
        self.assertIn("Hugo", keys.at)
        keys.tab_to("Take Hugo")
        keys.press("Enter")
        expect(page.get_by_role("heading", name="Hugo").first).to_be_visible()
        expect(page.get_by_role("textbox", name="Message")).to_be_focused()
        keys.type("Hello Hugo")
        keys.press("Enter")
        self.assertEqual(hugo.push(22399)["message_info"]["msg"], "Hello Hugo")
        # Take back what was wrong.
        keys.tab_to("Recall", "Shift+Tab")
        keys.press("Enter")
        expect(page.get_by_role("log").get_by_text("This message was recalled")).to_be_visible()
        keys.stays()
        # Hand over, with a note. Who comes on line is given those who wait, and is full with this one.
        self.console(self.add_admin("Bob", capacity=3))
        gina.push(22099, lambda data: data["reason"] == "assigned")
        keys.tab_to("Transfer")
        keys.press("Enter")
        keys.tab_to("Bob")
        keys.press("Space")
        keys.tab_to("Note")
        keys.type("asks for the red one")
        keys.tab_to("Transfer")
        page.keyboard.press("Enter")
        hugo.push(22099, lambda data: data["reason"] == "transferred")
        expect(page.get_by_text("Choose a chat")).to_be_visible()
        keys.stays()
        # The longest waiting, and an end.
        self.guest("Jonas").say("Hello")
        expect(page.get_by_text("1 is waiting")).to_be_visible()
        keys.tab_to("Take next")
        keys.press("Enter")
        expect(page.get_by_role("heading", name="Jonas").first).to_be_visible()
        keys.tab_to("End")
        keys.press("Enter")
        expect(page.get_by_role("dialog").get_by_role("button", name="End")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_text("This service has ended.")).to_be_visible()
        keys.stays()
        keys.press("Escape")
        expect(page.get_by_text("Choose a chat")).to_be_visible()
        self.assertIn("Jonas", keys.at)
        keys.tab_to("Settings")
        keys.press("Enter", "Escape")
        self.assertIn("Settings", keys.at)
        keys.press("Enter")
        keys.tab_to("Sign out")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        keys.stays()
        self.assertIn("Name", keys.at)
