"""What an agent's desk says by itself: how long one waits, what is new, where a guest is, what another device did."""

from __future__ import annotations

import re
from typing import Any

import jwt
from playwright.sync_api import Page, expect

from tests.browser.case import BrowserTestCase
from tests.browser.server import wait_until
from tests.browser.shop import Agent
from tests.browser.wire import ServerClock
from tests.integration.daemon import token

HOUR = 3_600_000


def claims(signed: str) -> dict[str, Any]:
    return dict(jwt.decode(signed, options={"verify_signature": False}))


class QueueTests(BrowserTestCase):
    def test_waiting_time(self) -> None:
        """How long each guest waits is shown, and grows while nothing else happens, in the words of the language."""
        words = {"en-GB": ("longest 1h", "1h", "1m", "2m"), "zh-CN": ("1小时", "1小时", "1分钟", "2分钟")}
        for locale, (longest, first, *later) in words.items():
            self.group_id = self.server.daemon.add_group()
            page = self.person(locale=locale)
            page.clock.install()
            clock = ServerClock(page)
            desk = self.paused(self.add_admin("Alice"), page)
            self.waits_for(HOUR)
            desk.reload()
            expect(desk.locator(".queue-line")).to_contain_text(longest)
            desk.locator("#tab-queue").click()
            self.guest("Hugo").say("Hello")
            shown = desk.locator(".waits")
            expect(shown).to_have_count(2)
            expect(shown.first).to_have_text(first)
            expect(shown.last).to_have_text(re.compile(r"^\d{1,2} ?(s|秒)"))
            self.expect_trouble()  # no answer comes within a minute that takes no time
            for minutes in later:
                clock.pass_by(60)
                expect(shown.last).to_have_text(minutes)

    def test_wrong_clock(self) -> None:
        """A device whose own clock is an hour fast or slow shows the same waiting times, and recalls what it may."""
        for wrong in (-HOUR, HOUR):
            self.group_id = self.server.daemon.add_group()
            page = self.person()
            page.add_init_script(f"const right = Date.now; Date.now = () => right() + ({wrong})")
            desk = self.paused(self.add_admin("Alice"), page)
            self.waits_for(HOUR // 2)
            desk.reload()
            expect(desk.locator(".queue-line")).to_contain_text("longest 30m")
            desk.get_by_role("tab", name="Queue").click()
            expect(desk.locator(".waits")).to_have_text("30m")
            desk.get_by_role("button", name="Take next").click()
            desk.get_by_role("textbox", name="Message").fill("A mistake")
            desk.keyboard.press("Enter")
            desk.locator(".row", has_text="A mistake").hover()
            desk.get_by_role("button", name="Recall").click()
            expect(desk.get_by_role("log").get_by_text("This message was recalled")).to_be_visible()

    def waits_for(self, milliseconds: int) -> None:
        """A guest has been in the queue for so long."""
        gina = self.guest("Gina")
        gina.say("Anybody?")
        self.server.daemon.sql(
            "UPDATE conversation SET queued_at = queued_at - %s WHERE guest_id = %s", milliseconds, gina.gid
        )

    def paused(self, admin_id: int, page: Page) -> Page:
        """The console of an admin who gets no guests but those taken."""
        desk = self.console(admin_id, page)
        desk.get_by_role("switch").click()
        expect(desk.get_by_role("switch")).to_have_attribute("aria-checked", "false")
        return desk

    def test_too_late(self) -> None:
        """Two agents press "take next" for the last one: one gets the guest, the other is told, and may go on."""
        alice, bob = self.add_admin("Alice"), self.add_admin("Bob")
        desks = [self.paused(one, self.person()) for one in (alice, bob)]
        gina = self.guest("Gina")
        gina.say("Anybody?")
        for desk in desks:
            expect(desk.get_by_role("button", name="Take next")).to_be_visible()
        # Both at once: neither has heard of the other's.
        for desk in desks:
            desk.get_by_role("button", name="Take next").evaluate("button => { setTimeout(() => button.click(), 0); }")
        wait_until(lambda: sum(desk.get_by_role("heading", name="Gina").count() > 0 for desk in desks) == 1, "one")
        [late] = [desk for desk in desks if not desk.get_by_role("heading", name="Gina").count()]
        expect(late.get_by_text("Nobody is waiting any more.")).to_be_visible()
        expect(late.get_by_role("button", name="Take next")).to_have_count(0)


class EndedTests(BrowserTestCase):
    def test_more(self) -> None:
        """All whom an agent has served are to be found, however long ago: page by page, and by name."""
        alice = self.add_admin("Alice")
        self.server.daemon.sql(
            "WITH people AS (INSERT INTO guest (external_id, name)"
            " SELECT %s || n, 'Guest ' || n || '.' FROM generate_series(1, 230) n RETURNING id)"
            " INSERT INTO conversation (group_id, guest_id, state, last_served_by, ended_at, last_message_at)"
            " SELECT %s, id, 'ended', %s, now_ms() - id, now_ms() - id FROM people",
            f"{self.group_id} ended ",
            *(self.group_id, alice),
        )
        desk = self.console(alice)
        desk.get_by_role("tab", name="Ended").click()
        rows, more = desk.locator(".chat-row"), desk.get_by_role("button", name="Show more")
        for count in (100, 200):
            expect(rows).to_have_count(count)
            more.click()
        expect(rows).to_have_count(230)
        expect(more).to_have_count(0)
        desk.get_by_label("Find a guest").fill("guest 22.")
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("Guest 22.")


class TransferTests(BrowserTestCase):
    def test_full_meanwhile(self) -> None:
        """A colleague who becomes full while one writes the note: it is said why not, and the note stays."""
        alice = self.add_admin("Alice")
        desk = self.console(alice)
        gina = self.guest("Gina")
        gina.say("Hello")
        desk.get_by_role("button", name="Gina").click()
        full = Agent(self.server, self.add_admin("Bob", capacity=1))
        free = Agent(self.server, self.add_admin("Carl"))
        for one in (full, free):
            self.addCleanup(one.close)
        desk.get_by_role("button", name="Transfer").click()
        dialog = desk.get_by_role("dialog")
        dialog.get_by_role("radio", name="Bob").check()
        dialog.get_by_role("textbox").fill("asks for the red one")
        self.guest("Hugo").say("Hello")
        full.meet()
        expect(dialog.get_by_role("radio", name="Bob")).to_be_disabled()
        # The keys that go from chat to chat do not take the dialog away.
        desk.keyboard.press("Alt+ArrowDown")
        dialog.get_by_role("button", name="Transfer").click()
        expect(dialog.get_by_role("status")).to_have_text("This colleague has too many guests.")
        self.picture(desk, "console-transfer-full")
        dialog.get_by_role("radio", name="Carl").check()
        dialog.get_by_role("button", name="Transfer").click()
        self.assertEqual(free.push(32401)["data"]["note"], "asks for the red one")
        expect(desk.get_by_role("status").get_by_text("Transferred to Carl.")).to_be_visible()


class NewsTests(BrowserTestCase):
    def test_title(self) -> None:
        """The title counts what is unread in all chats, follows the reading, and is switched off and on at once."""
        desk = self.console(self.add_admin("Alice"))
        gina, hugo = self.guest("Gina"), self.guest("Hugo")
        for number, guest in enumerate((gina, hugo, gina), start=1):
            guest.say("Hello")
            expect(desk).to_have_title(f"({number}) Customer chat")
        self.switch(desk, "Count unread messages in the title", False)
        expect(desk).to_have_title("Customer chat")
        gina.say("Hello?")
        desk.reload()
        expect(desk.get_by_label("3 unread messages")).to_be_visible()
        expect(desk).to_have_title("Customer chat")
        self.switch(desk, "Count unread messages in the title", True)
        expect(desk).to_have_title("(4) Customer chat")
        desk.get_by_role("button", name="Gina").click()
        expect(desk).to_have_title("(1) Customer chat")
        desk.get_by_role("button", name="Hugo").click()
        expect(desk).to_have_title("Customer chat")

    def test_sound(self) -> None:
        """Something new is heard unless sound is switched off; what stands before one's eyes makes none."""
        page = self.person()
        page.add_init_script(
            "window.tones = []; const {start} = OscillatorNode.prototype; OscillatorNode.prototype.start ="
            " function (...all) { tones.push(this.frequency.value); start.apply(this, all); };"
        )
        desk = self.console(self.add_admin("Alice"), page)
        self.switch(desk, "Play a sound", True)
        gina = self.guest("Gina")
        gina.say("Hello")
        wait_until(lambda: desk.evaluate("tones.length"), "a tone")
        desk.get_by_role("button", name="Gina").click()
        expect(desk.get_by_role("log").get_by_text("Hello")).to_be_visible()
        heard = desk.evaluate("tones.length")
        gina.say("I am looking at you")
        expect(desk.get_by_role("log").get_by_text("I am looking at you")).to_be_visible()
        hugo = self.guest("Hugo")
        hugo.say("And me?")
        wait_until(lambda: desk.evaluate("tones.length") > heard, "another tone")
        self.switch(desk, "Play a sound", False)
        heard = desk.evaluate("tones.length")
        hugo.say("Nobody hears me")
        expect(desk.get_by_role("button", name="Hugo")).to_contain_text("Nobody hears me")
        gina.say("Still here")
        expect(desk.get_by_role("log").get_by_text("Still here")).to_be_visible()
        self.assertEqual(desk.evaluate("tones.length"), heard)

    def test_no_permission(self) -> None:
        """Where the browser allows no notifications, the switch says so and stays off."""
        page = self.person()
        page.add_init_script(
            "window.Notification ="
            " class { static permission = 'denied'; static requestPermission = async () => 'denied'; };"
        )
        desk = self.console(self.add_admin("Alice"), page)
        desk.get_by_role("button", name="Settings").click()
        switch = desk.get_by_label("Show desktop notifications")
        switch.click()
        # Where it can be seen and is read out: in the dialog, not under it.
        expect(desk.get_by_role("dialog").get_by_role("status")).to_have_text(
            "The browser does not allow notifications for this page."
        )
        expect(switch).not_to_be_checked()

    def switch(self, desk: Page, label: str, on: bool) -> None:
        desk.get_by_role("button", name="Settings").click()
        desk.get_by_label(label).set_checked(on)
        desk.get_by_role("dialog").get_by_role("button", name="Close").click()
        expect(desk.get_by_role("dialog")).to_have_count(0)


class ContextTests(BrowserTestCase):
    def test_follows(self) -> None:
        """Where a guest is, what lies before them and what the shop knows of them changes on the desk at once."""
        desk = self.console(self.add_admin("Alice"))
        gina = self.guest("Gina")
        gina.say("Hello")
        desk.get_by_role("button", name="Gina").click()
        panel = desk.get_by_role("complementary")
        expect(panel.get_by_text("Nothing more is known.")).to_be_visible()
        desk.get_by_role("textbox", name="Message").fill("A draft")
        lamp: dict[str, Any] = {"page_url": "https://shop.example/lamps/red", "title": "Red lamp"}
        gina.ask(22600, context=lamp)
        expect(panel.get_by_role("link", name="Red lamp")).to_have_attribute("href", "https://shop.example/lamps/red")
        gina.ask(22600, context={**lamp, "product": {"id": "7", "title": "Lamp 7", "price": 129, "currency": "EUR"}})
        expect(panel.get_by_text("€129.00")).to_be_visible()
        order = {"id": "A-1007", "status": "shipped", "total": 258, "currency": "EUR"}
        gina.ask(22600, context={"page_url": "https://shop.example/orders", "title": "Your orders", "order": order})
        expect(panel.get_by_role("link", name="Your orders")).to_be_visible()
        expect(panel.get_by_text("€258.00")).to_be_visible()
        expect(panel.get_by_text("€129.00")).to_have_count(0)
        gina.ask(22600, context={"page_url": "https://shop.example/", "title": "Home"})
        expect(panel.get_by_text("€258.00")).to_have_count(0)
        # The shop signs what it knows of a customer into the token of the next page.
        self.guest("Gina", profile={"level": "gold", "city": "Torino"})
        expect(panel.get_by_text("Torino")).to_be_visible()
        self.guest("Gina", profile={"level": "platinum"})
        expect(panel.get_by_text("platinum")).to_be_visible()
        expect(panel.get_by_text("Torino")).to_have_count(0)
        expect(desk.get_by_role("textbox", name="Message")).to_have_value("A draft")


class PresenceTests(BrowserTestCase):
    def test_on_line(self) -> None:
        """Whether a guest is there is seen in the list and over the chat, and changes by itself."""
        desk = self.console(self.add_admin("Alice"))
        gina = self.meet(desk)
        row, head = desk.get_by_role("button", name="Gina"), desk.get_by_role("main").locator("header")
        for place in (row, head):
            expect(place).to_contain_text("on line")
        gina.close()
        for place in (row, head):
            expect(place).to_contain_text("off line")
        self.guest("Gina")
        for place in (row, head):
            expect(place).to_contain_text("on line")


class DevicesTests(BrowserTestCase):
    def test_in_step(self) -> None:
        """Two devices of one agent: what is taken, read, recalled, handed over or ended on one shows on both."""
        alice, bob = self.add_admin("Alice"), self.add_admin("Bob")
        desk, phone = self.console(alice), self.console(alice, viewport={"width": 390, "height": 844})
        desk.get_by_role("switch").click()
        expect(phone.get_by_role("switch")).to_have_attribute("aria-checked", "false")
        gina, hugo = self.guest("Gina"), self.guest("Hugo")
        gina.say("Hello")
        hugo.say("Good morning")
        expect(phone.get_by_text("2 are waiting")).to_be_visible()
        desk.get_by_role("button", name="Take next").click()
        expect(desk.get_by_role("heading", name="Gina").first).to_be_visible()
        expect(phone.get_by_role("tab", name="Mine 1")).to_be_visible()
        phone.get_by_role("button", name="Take next").click()
        expect(desk.get_by_role("tab", name="Mine 2")).to_be_visible()
        # Read on the phone is read on the desk; what the guest has read is seen on both.
        hugo.say("Are you there?")
        expect(phone.get_by_role("log").get_by_text("Are you there?")).to_be_visible()
        row = desk.get_by_role("button", name="Hugo")
        expect(row).to_contain_text("Are you there?")
        expect(row.get_by_label("unread")).to_have_count(0)
        row.click()
        phone.get_by_role("textbox", name="Message").fill("A mistake")
        phone.keyboard.press("Enter")
        expect(desk.get_by_role("log").get_by_text("A mistake")).to_be_visible()
        hugo.push(22399)
        hugo.ask(22200)
        for page in (desk, phone):
            expect(page.get_by_role("log").get_by_text("Read", exact=True)).to_be_visible()
        desk.locator(".row", has_text="A mistake").hover()
        desk.get_by_role("button", name="Recall").click()
        expect(phone.get_by_role("log").get_by_text("This message was recalled")).to_be_visible()
        # Handed over on the phone, while the desk shows it.
        agent = Agent(self.server, bob)
        self.addCleanup(agent.close)
        phone.get_by_role("button", name="Transfer").click()
        phone.get_by_role("radio", name="Bob").check()
        phone.get_by_role("dialog").get_by_role("button", name="Transfer").click()
        expect(desk.get_by_text("Bob serves this guest now.")).to_be_visible()
        expect(desk.get_by_role("textbox", name="Message")).to_be_disabled()
        expect(desk.get_by_role("tab", name="Mine 1")).to_be_visible()
        # Ended on the desk.
        phone.get_by_role("button", name="Gina").click()
        desk.get_by_role("button", name="Gina").click()
        desk.get_by_role("button", name="End").click()
        desk.get_by_role("dialog").get_by_role("button", name="End").click()
        expect(phone.get_by_text("This service has ended.")).to_be_visible()
        expect(phone.get_by_role("button", name="End")).to_have_count(0)
        phone.get_by_role("button", name="Back to the list").click()
        phone.get_by_role("switch").click()
        expect(desk.get_by_role("switch")).to_have_attribute("aria-checked", "true")


class SessionTests(BrowserTestCase):
    def test_renewed(self) -> None:
        """Whose token is more than half over gets a new one, and stays signed in with it over a reload."""
        alice = self.add_admin("Alice")
        old = token(admin_id=alice, life=60, age=45)
        desk = self.person()
        desk.goto(f"{self.origin}/console/#token={old}")
        expect(desk.get_by_role("switch")).to_be_visible()
        kept = "JSON.parse(atob(localStorage['chatproto.console.token'].split('.')[1]))"
        wait_until(lambda: desk.evaluate(f"{kept}.exp") > claims(old)["exp"], "a new token")
        self.assertEqual(desk.evaluate(f"{kept}.admin_id"), alice)
        desk.reload()
        expect(desk.get_by_role("switch")).to_be_visible()

    def test_over(self) -> None:
        """Whose token is over is asked to sign in again, and finds what was begun; also by a link in that tab."""
        alice = self.add_admin("Alice")
        desk = self.console(alice)
        self.meet(desk)
        desk.get_by_role("textbox", name="Message").fill("A draft")
        over = token(admin_id=alice, life=60, age=90)
        desk.evaluate("(over) => localStorage.setItem('chatproto.console.token', over)", over)
        desk.reload()
        expect(desk.get_by_role("alert")).to_have_text("You were signed out. Sign in again.")
        self.console(alice, desk)
        self.assertNotIn("token", desk.url)
        desk.get_by_role("button", name="Gina").click()
        expect(desk.get_by_role("textbox", name="Message")).to_have_value("A draft")
