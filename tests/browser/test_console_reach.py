"""Whoever uses no mouse, or cannot see the page, or has a phone, reaches everything in the console."""

from __future__ import annotations

import re
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from chatproto.domain.passwords import hashed
from tests.browser.case import BrowserTestCase
from tests.browser.server import Guest, wait_until
from tests.browser.shop import Agent
from tests.browser.test_files import png
from tests.browser.wire import Wire

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
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

    def press(self, key: str) -> None:
        """Something has the focus after it, too."""
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


class Reach(BrowserTestCase):
    def with_password(self, name: str) -> int:
        """An admin who signs in by a form."""
        admin_id = self.add_admin(name)
        self.server.daemon.sql("UPDATE admin SET password_hash = %s WHERE id = %s", hashed(PASSWORD), admin_id)
        return admin_id

    def talk(self, page: Page, admin_id: int, name: str = "Gina") -> Guest:
        """A guest of this admin has written, and the page shows the conversation."""
        self.console(admin_id, page)
        guest = self.guest(name)
        guest.say("Hello")
        page.locator(".chat-row", has_text=name).click()
        expect(page.get_by_role("log").get_by_text("Hello")).to_be_visible()
        return guest


class KeyboardTests(Reach):
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
        expect(page.get_by_role("radio", name="Bob")).to_be_enabled()
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
        for key, dialogs, focused in (
            ("Enter", 1, "Close"),
            ("Escape", 0, "Settings"),
            ("Enter", 1, "Close"),
            ("Enter", 0, "Settings"),
            ("Enter", 1, "Close"),
        ):
            keys.press(key)
            expect(page.get_by_role("dialog")).to_have_count(dialogs)
            expect(page.get_by_role("button", name=focused)).to_be_focused()
        keys.tab_to("Sign out")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        keys.stays()
        self.assertIn("Name", keys.at)

    def test_two_keys_in_one_frame(self) -> None:
        """Who closes a dialog and opens it again has it open, however late the browser tells the page of the first."""
        alice = self.add_admin("Alice")
        page = self.console(alice)
        page.get_by_role("button", name="Settings").focus()
        page.keyboard.press("Enter")
        for _ in range(10):
            expect(page.get_by_role("dialog")).to_have_count(1)
            page.keyboard.press("Escape")
            page.keyboard.press("Enter")
        expect(page.get_by_role("dialog").get_by_role("button", name="Close")).to_be_focused()

    def test_what_vanishes(self) -> None:
        """Whatever is gone after it was pressed, or cannot be written in any more, the keyboard goes on near by."""
        alice, bob = self.add_admin("Alice"), self.add_admin("Bob")
        page = self.person(permissions=["microphone"])
        wire = Wire(page)
        keys = Keys(self, page)
        gina = self.talk(page, alice)
        field = page.get_by_role("textbox", name="Message")
        keys.tab_to("Record a voice message")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Send the recording")).to_be_focused()
        keys.tab_to("Discard the recording", "Shift+Tab")
        page.keyboard.press("Enter")
        expect(field).to_be_visible()
        keys.stays()
        # New messages below what is read.
        for number in range(30):
            gina.say(f"Line {number}")
        expect(page.get_by_role("log").get_by_text("Line 29")).to_be_in_viewport()
        # The page hears of it in the next frame.
        page.get_by_role("log").evaluate(
            "log => new Promise((done) => { log.onscroll = () => requestAnimationFrame(done); log.scrollTop = 0; })"
        )
        gina.say("Something new")
        expect(page.get_by_role("button", name="1 new message")).to_be_visible()
        keys.tab_to("1 new message", "Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("log").get_by_text("Something new")).to_be_in_viewport()
        expect(field).to_be_focused()
        # A message that cannot be sent. The colleague is there: from one who is not, the guest would soon come back.
        third = Agent(self.server, bob)
        self.addCleanup(third.close)
        self.server.daemon.sql("UPDATE conversation SET admin_id = %s WHERE guest_id = %s", bob, gina.gid)
        keys.type("Are you there?")
        keys.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("A colleague serves this guest now.")
        self.server.daemon.sql("UPDATE conversation SET admin_id = %s WHERE guest_id = %s", alice, gina.gid)
        keys.tab_to("Remove", "Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(field).to_be_focused()
        # The banner's button, when there is a connection again.
        wire.go_away()
        expect(page.get_by_text("No connection. What you write is kept")).to_be_visible()
        wire.come_back()
        keys.tab_to("Try now", "Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_text("No connection. What you write is kept")).to_have_count(0)
        expect(field).to_be_focused()
        # The guest goes to a colleague, by the agent's other device: what is written can only be read from then on.
        other = Agent(self.server, alice)
        self.addCleanup(other.close)
        other.ask(32400, gid=gina.gid, aix=bob)
        expect(field).to_be_disabled()
        expect(page.get_by_role("log")).to_be_focused()


class AxeTests(Reach):
    """Axe knows what keeps people out. It cannot be brought into a page under our policy, so that is off here."""

    def assertOpen(self, page: Page, state: str) -> None:
        """Nothing serious in this state of the page."""
        found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
        serious = [
            (one["id"], [node["html"] for node in one["nodes"]])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        self.assertEqual(serious, [], state)

    def person_of(self, locale: str, **options: Any) -> Page:
        return self.person(locale=locale, bypass_csp=True, **options)

    def test_signing_in(self) -> None:
        """The form, and what it says when name and password do not fit, in both languages."""
        self.expect_trouble("status of 401")
        for locale in ("en-GB", "zh-CN"):
            page = self.person_of(locale)
            page.goto(f"{self.origin}/console/")
            page.locator(".login button").wait_for()
            self.assertOpen(page, f"sign in, {locale}")
            page.locator("input[name=name]").fill("Nobody")
            page.locator("input[name=password]").fill("wrong")
            page.locator(".login button").click()
            expect(page.get_by_role("alert")).to_have_text(re.compile("."))
            self.assertOpen(page, f"refused, {locale}")

    def test_desk(self) -> None:
        """The queue, a conversation with all that may stand in it, each dialog, an ended one, and no connection."""
        for locale, scheme in (("en-GB", "dark"), ("zh-CN", "light")):
            self.group_id = self.server.daemon.add_group()
            page = self.person_of(locale, color_scheme=scheme)
            wire = Wire(page)
            alice = self.add_admin("Alice")
            agent = Agent(self.server, self.add_admin("Bob", capacity=1))
            self.addCleanup(agent.close)
            desk = self.console(alice, page)
            self.assertOpen(page, f"empty, {locale}")
            desk.get_by_role("switch").click()
            expect(desk.get_by_role("switch")).to_have_attribute("aria-checked", "false")
            self.guest("Hugo").say("Hello")
            agent.meet()
            gina = self.guest("Gina")
            gina.say("Anybody?")
            desk.locator("#tab-queue").click()
            desk.locator(".chat-row").click()
            expect(desk.locator(".chat .hint button")).to_be_visible()
            self.assertOpen(page, f"queue, {locale}")
            desk.locator(".chat .hint button").click()
            field = desk.locator(".composer textarea")
            for line in ("A mistake", "Good morning"):
                field.fill(line)
                desk.keyboard.press("Enter")
            expect(desk.locator(".recall")).to_have_count(2)
            desk.locator(".recall").first.click()
            expect(desk.locator(".text.recalled")).to_be_visible()
            with desk.expect_file_chooser() as choosing:
                desk.locator(".composer .tool").first.click()
            choosing.value.set_files({"name": "lamp.png", "mimeType": "image/png", "buffer": png()})
            expect(desk.locator(".picture img")).to_have_js_property("complete", True)
            gina.say(
                {"id": "7", "title": "Red lamp", "price": 49.9, "currency": "EUR", "url": "https://shop.example/"}, 3
            )
            gina.say({"url": f"{self.origin}/files/none", "name": "bill.pdf", "size": 34567}, 6)
            gina.say({"url": f"{self.origin}/files/none", "duration_ms": 2000}, 2)
            expect(desk.locator(".voice")).to_be_visible()
            self.picture(desk, f"console-kinds-{locale}")
            self.assertOpen(page, f"conversation, {locale}")
            for button in (".card-tool >> nth=0", ".card-tool >> nth=1", ".chat-head .button >> nth=0", ".bar > .tool"):
                desk.locator(button).click()
                desk.get_by_role("dialog").wait_for()
                self.assertOpen(page, f"{button}, {locale}")
                desk.keyboard.press("Escape")
                expect(desk.get_by_role("dialog")).to_have_count(0)
            desk.locator(".chat-head .button").last.click()
            desk.get_by_role("dialog").locator(".strong").click()
            expect(desk.locator(".chat-foot .hint")).to_be_visible()
            self.assertOpen(page, f"ended, {locale}")
            wire.go_away()
            field.fill("Are you there?")
            desk.keyboard.press("Enter")
            expect(desk.locator(".banner")).to_be_visible()
            self.picture(desk, f"console-banner-{locale}")
            self.assertOpen(page, f"no connection, {locale}")


class PhoneTests(Reach):
    def test_by_tap(self) -> None:
        """All of an agent's work with one finger: what is tapped is large enough, and can be seen."""
        name = f"Alice {self.group_id}"
        self.with_password(name)
        page = self.person(**PHONE)
        page.goto(f"{self.origin}/console/")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        self.tap(page, "Sign in")
        page.get_by_role("switch").tap()
        expect(page.get_by_role("switch")).to_have_attribute("aria-checked", "false")
        gina, hugo = self.guest("Gina"), self.guest("Hugo")
        gina.say("Hello")
        hugo.say("Good morning")
        expect(page.get_by_text("2 are waiting")).to_be_visible()
        page.get_by_role("tab", name="Queue").tap()
        self.tap(page, "Take Hugo")
        log = page.get_by_role("log")
        expect(log.get_by_text("Good morning")).to_be_in_viewport()
        expect(page.get_by_role("navigation")).to_be_hidden()
        field = page.get_by_role("textbox", name="Message")
        field.tap()
        expect(field).to_be_focused()
        page.keyboard.insert_text("What can I do for you?")
        self.tap(page, "Send")
        self.assertEqual(hugo.push(22399)["message_info"]["msg"], "What can I do for you?")
        self.tap(page, "Recall")
        expect(log.get_by_text("This message was recalled")).to_be_visible()
        with page.expect_file_chooser() as choosing:
            self.tap(page, "Attach a file")
        choosing.value.set_files({"name": "lamp.png", "mimeType": "image/png", "buffer": png()})
        self.assertEqual(hugo.push(22399, lambda data: data["message_info"]["file_type"] == 1)["unread"], 1)
        expect(log.locator(".picture")).to_be_in_viewport()
        self.tap(page, "Product card")
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Number").fill("7")
        dialog.get_by_label("Title").fill("Red lamp")
        dialog.get_by_role("button", name="Send").tap()
        hugo.push(22399, lambda data: data["message_info"]["file_type"] == 3)
        self.tap(page, "About the guest")
        expect(page.get_by_role("complementary").get_by_role("heading", name="Hugo")).to_be_in_viewport()
        page.get_by_role("complementary").get_by_role("button", name="Close").tap()
        self.console(self.add_admin("Bob", capacity=2))
        gina.push(22099, lambda data: data["reason"] == "assigned")
        self.tap(page, "Transfer")
        dialog.get_by_role("radio", name="Bob").tap()
        dialog.get_by_role("textbox").fill("asks for the red one")
        self.picture(page, "console-phone-transfer")
        dialog.get_by_role("button", name="Transfer").tap()
        hugo.push(22099, lambda data: data["reason"] == "transferred")
        expect(page.get_by_role("navigation")).to_be_visible()
        self.guest("Ivy").say("Are you open?")
        self.tap(page, "Take next")
        expect(log.get_by_text("Are you open?")).to_be_in_viewport()
        self.tap(page, "Back to the list")
        expect(page.get_by_role("navigation")).to_be_visible()
        page.get_by_role("button", name="Ivy").tap()
        self.tap(page, "End")
        dialog.get_by_role("button", name="End").tap()
        expect(page.get_by_text("This service has ended.")).to_be_visible()
        self.tap(page, "Back to the list")
        expect(page.get_by_role("tab", name="Ended")).to_have_attribute("aria-selected", "true")
        self.tap(page, "Settings")
        dialog.get_by_label("Play a sound").tap()
        expect(dialog.get_by_label("Play a sound")).not_to_be_checked()
        self.tap(page, "Sign out")
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()

    def tap(self, page: Page, name: str) -> None:
        """A button, of at least the size that a finger can hit (WCAG 2.2, 2.5.8: 24 px; ours: 32)."""
        button = page.get_by_role("button", name=name, exact=True)
        box = button.bounding_box()
        assert box is not None
        self.assertGreaterEqual(min(box["width"], box["height"]), 32, name)
        button.tap()
