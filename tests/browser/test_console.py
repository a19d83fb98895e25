"""The agents' console, as agents use it."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from playwright.sync_api import Page, expect

from chatproto.domain.passwords import hashed
from tests.browser.case import BrowserTestCase
from tests.browser.server import wait_until
from tests.browser.shop import Agent
from tests.browser.wire import ServerClock, Wire
from tests.integration.daemon import token

COMPOSER = "Message"


def write(page: Page, text: str) -> None:
    """Type a message and send it."""
    page.get_by_role("textbox", name=COMPOSER).fill(text)
    page.keyboard.press("Enter")


class ConversationTests(BrowserTestCase):
    def test_there_and_back(self) -> None:
        """A guest's message appears without a reload, the answer reaches the guest, and both see what was read."""
        desk = self.console(self.add_admin("Alice"))
        gina = self.guest("Gina", profile={"level": "gold", "orders": 7, "since": "2019"})
        gina.ask(
            22600,
            context={
                "page_url": "https://shop.example/lamps/red",
                "title": "Red lamp",
                "referrer": "https://search.example/?q=lamp",
                "product": {"id": "7", "title": "Red lamp, brass foot", "price": "49.90", "currency": "EUR"},
                "order": {"id": "A-1007", "status": "shipped", "total": 129, "currency": "EUR", "items": [1, 2]},
            },
        )
        gina.say("Hello, is the red one in stock?")
        row = desk.get_by_role("button", name="Gina")
        expect(row).to_contain_text("Hello, is the red one in stock?")
        expect(row.get_by_label("1 unread message")).to_be_visible()
        expect(desk).to_have_title(re.compile(r"^\(1\) "))
        row.click()
        log = desk.get_by_role("log")
        expect(log.get_by_text("Hello, is the red one in stock?")).to_be_visible()
        write(desk, "Yes, two are left.")
        self.assertEqual(gina.push(22399)["message_info"]["msg"], "Yes, two are left.")
        self.assertEqual(gina.push(22299)["admin_read_seq"], 1)
        expect(desk).to_have_title(re.compile(r"^[^(]"))
        gina.ask(22200)
        expect(log.get_by_text("Read", exact=True)).to_be_visible()
        panel = desk.get_by_role("complementary")
        for seen in (
            f"Customer {self.group_id} Gina",
            "gold",
            "Red lamp, brass foot",
            "€49.90",
            "A-1007",
            "shipped · 2 items",
        ):
            expect(panel.get_by_text(seen).first).to_be_visible()
        panel.get_by_role("button", name="Send as a card").first.click()
        self.assertEqual(gina.push(22399)["message_info"]["file_type"], 3)

    def test_typing_and_recall(self) -> None:
        """Each side sees that the other types; what was recalled is gone from the page, and says so."""
        desk = self.console(self.add_admin("Alice"))
        gina = self.meet(desk)
        # A hint, dropped when anything else is under way: a guest who types says it again and again.
        wait_until(lambda: [gina.ask(22330), desk.locator(".typing").count()][1], "the dots")
        gina.say("As I said")
        expect(desk.locator(".typing")).to_have_count(0)
        desk.get_by_role("textbox", name=COMPOSER).press_sequentially("Wrong win")
        self.assertTrue(gina.push(22397)["typing"])
        write(desk, "Wrong window")
        gina.push(22399)
        bubble = desk.locator(".row", has_text="Wrong window")
        bubble.hover()
        bubble.get_by_role("button", name="Recall").click()
        expect(desk.get_by_role("log").get_by_text("This message was recalled")).to_be_visible()
        expect(desk.get_by_text("Wrong window")).to_have_count(0)
        self.assertEqual(gina.push(22399)["message_info"]["recalls"], 3)
        seq = gina.say("A secret of mine")["seq"]
        expect(desk.get_by_role("log").get_by_text("A secret of mine")).to_be_visible()
        gina.ask(22310, seq=seq)
        expect(desk.get_by_text("A secret of mine")).to_have_count(0)

    def test_recall_is_over(self) -> None:
        """The button that takes a message back goes by itself when that may be done no more."""
        page = self.person()
        page.clock.install()
        clock = ServerClock(page)
        desk = self.console(self.add_admin("Alice"), page)
        self.meet(desk)
        write(desk, "One moment")
        recall = desk.get_by_role("log").get_by_role("button", name="Recall")
        expect(recall).to_have_count(1)
        self.expect_trouble()  # no answer comes within a minute that takes no time
        clock.pass_by(60)
        expect(recall).to_have_count(1)
        clock.pass_by(70)
        expect(recall).to_have_count(0)

    def test_history(self) -> None:
        """Older messages come on scrolling up; days are parted; new ones below are counted, and do not pull."""
        desk = self.console(self.add_admin("Alice"))
        gina = self.guest()
        for number in range(1, 131):
            gina.say(f"Line {number}")
        self.server.daemon.sql(
            "UPDATE message SET created_at = created_at - 86400000 WHERE seq <= 60 AND conversation_id ="
            " (SELECT id FROM conversation WHERE guest_id = %s)",
            gina.gid,
        )
        desk.get_by_role("button", name="Gina").click()
        log = desk.get_by_role("log")
        expect(log.get_by_text("Line 130", exact=True)).to_be_in_viewport()
        expect(log.get_by_text("Line 20", exact=True)).to_have_count(0)
        log.hover()
        while not log.get_by_text("Line 1", exact=True).count():
            desk.mouse.wheel(0, -900)
            expect(log).to_have_attribute("aria-busy", "false")
        lines = log.locator(".bubble").all_inner_texts()
        self.assertEqual(lines, [f"Line {number}" for number in range(1, 131)])
        expect(log.get_by_text("Yesterday")).to_have_count(1)
        expect(log.get_by_text("Today")).to_have_count(1)
        gina.say("Something new")
        button = desk.get_by_role("button", name="1 new message")
        expect(button).to_be_visible()
        expect(log.get_by_text("Something new")).not_to_be_in_viewport()
        button.click()
        expect(log.get_by_text("Something new")).to_be_in_viewport()
        expect(button).to_have_count(0)

    def test_midnight(self) -> None:
        """What was of today is of yesterday after midnight, by itself; each time also says the moment to machines."""
        now = time.time()
        noon = 12 - datetime.fromtimestamp(now, UTC).hour  # hours east of Greenwich to where it is about noon
        page = self.person(timezone_id=f"Etc/GMT{-noon:+d}")
        page.clock.install(time=now - 86400)
        desk = self.console(self.add_admin("Alice"), page)
        gina = self.guest()
        said_at = gina.say("Good night")["created_at"] - 86_400_000
        self.server.daemon.sql(
            "UPDATE message SET created_at = %s WHERE conversation_id ="
            " (SELECT id FROM conversation WHERE guest_id = %s)",
            *(said_at, gina.gid),
        )
        self.server.daemon.sql("UPDATE conversation SET last_message_at = %s WHERE guest_id = %s", said_at, gina.gid)
        desk.reload()
        row = desk.get_by_role("button", name="Gina")
        row.click()
        days = desk.get_by_role("log").locator(".day")
        expect(days).to_have_text(["Today"])
        clock = re.compile(r"^\d\d:\d\d$")
        expect(row.locator("time")).to_have_text(clock)
        self.expect_trouble()  # no answer comes within a minute that takes no time
        page.clock.set_system_time(now)
        page.clock.run_for(61_000)
        expect(days).to_have_text(["Yesterday"])
        expect(row.locator("time")).not_to_have_text(clock)
        gina.say("Good morning")
        expect(days).to_have_text(["Yesterday", "Today"])
        expect(row.locator("time")).to_have_text(clock)
        there = timezone(timedelta(hours=noon))
        said = datetime.fromtimestamp(said_at / 1000, there)
        marked = desk.get_by_role("log").locator("time")
        moments = [
            datetime.fromisoformat(text) for text in marked.evaluate_all("all => all.map((one) => one.dateTime)")
        ]
        self.assertEqual(moments[0], said.replace(hour=0, minute=0, second=0, microsecond=0))
        self.assertEqual(moments[1], said)
        time_of_message = desk.locator(".row time").first
        expect(time_of_message).to_have_text(f"{said:%H:%M}")
        expect(time_of_message).to_have_attribute("title", re.compile(f"{said.day}\\b.*, {said:%H:%M}$"))

    def test_drafts(self) -> None:
        """What was begun in one chat waits there, also over a reload, and is not sent to another."""
        desk = self.console(self.add_admin("Alice"))
        self.guest("Gina").say("One")
        self.guest("Hugo").say("Two")
        desk.get_by_role("button", name="Gina").click()
        field = desk.get_by_role("textbox", name=COMPOSER)
        field.fill("For Gina")
        desk.get_by_role("button", name="Hugo").click()
        expect(field).to_have_value("")
        expect(desk.get_by_role("button", name="Gina")).to_contain_text("Draft: For Gina")
        desk.reload()
        desk.get_by_role("button", name="Gina").click()
        expect(field).to_have_value("For Gina")

    def test_drafts_in_two_tabs(self) -> None:
        """What is begun in one tab stands in the other, and goes from there when it is sent."""
        desk = self.console(self.add_admin("Alice"))
        gina = self.guest("Gina")
        gina.say("One")
        self.guest("Hugo").say("Two")
        other = self.page(desk.context)
        other.goto(f"{self.origin}/console/")
        for page, name in ((desk, "Gina"), (other, "Hugo")):
            page.get_by_role("button", name=name).click()
        desk.get_by_role("textbox", name=COMPOSER).press_sequentially("For Gina")
        expect(other.get_by_role("button", name="Gina")).to_contain_text("Draft: For Gina")
        other.get_by_role("button", name="Gina").click()
        field = other.get_by_role("textbox", name=COMPOSER)
        expect(field).to_have_value("For Gina")
        field.press_sequentially(" Miller")
        expect(desk.get_by_role("textbox", name=COMPOSER)).to_have_value("For Gina Miller")
        desk.get_by_role("textbox", name=COMPOSER).press("Enter")
        self.assertEqual(gina.push(22399)["message_info"]["msg"], "For Gina Miller")
        expect(field).to_have_value("")

    def test_composition(self) -> None:
        """The Enter that ends a composition chooses a word; only the next one sends."""
        desk = self.console(self.add_admin("Alice"))
        gina = self.guest()
        gina.say("在吗")
        desk.get_by_role("button", name="Gina").click()
        field = desk.get_by_role("textbox", name=COMPOSER)
        field.click()
        session = desk.context.new_cdp_session(desk)
        session.send("Input.imeSetComposition", {"text": "ni hao", "selectionStart": 6, "selectionEnd": 6})
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
        session.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
        session.send("Input.insertText", {"text": "你好"})
        session.send("Input.dispatchKeyEvent", {"type": "keyUp", **enter})
        expect(field).to_have_value("你好")
        desk.keyboard.press("Shift+Enter")
        desk.keyboard.insert_text("第二行")
        desk.keyboard.press("Enter")
        self.assertEqual(gina.push(22399)["message_info"]["msg"], "你好\n第二行")
        expect(field).to_have_value("")


class DeskTests(BrowserTestCase):
    def test_queue(self) -> None:
        """Who waits stands in the queue with the time; "take next" takes the longest waiting, a button any other."""
        alice = self.add_admin("Alice", capacity=2)
        desk = self.console(alice)
        desk.get_by_role("switch").click()
        expect(desk.get_by_role("switch")).to_have_attribute("aria-checked", "false")
        for name in ("Gina", "Hugo", "Ivy"):
            self.guest(name).say(f"{name} is here")
        expect(desk.get_by_text("3 are waiting")).to_be_visible()
        desk.get_by_role("tab", name="Queue").click()
        expect(desk.locator(".chat-row .row-name")).to_have_text([re.compile(name) for name in ("Gina", "Hugo", "Ivy")])
        self.picture(desk, "console-queue")
        desk.get_by_role("button", name="Take next").click()
        expect(desk.get_by_role("heading", name="Gina").first).to_be_visible()
        expect(desk.get_by_role("tab", name="Mine")).to_have_attribute("aria-selected", "true")
        desk.get_by_role("tab", name="Queue").click()
        desk.locator("li", has_text="Ivy").hover()
        desk.get_by_role("button", name="Take Ivy").click()
        expect(desk.get_by_role("heading", name="Ivy").first).to_be_visible()
        desk.get_by_role("button", name="Take next").click()
        expect(desk.get_by_text("You have as many guests as you may.")).to_be_visible()

    def test_resume(self) -> None:
        """Who stops receiving guests gets none until receiving again, and then whoever waited."""
        desk = self.console(self.add_admin("Alice"))
        desk.get_by_role("switch").click()
        expect(desk.get_by_text("Paused: no new guests")).to_be_visible()
        self.guest("Gina").say("Anybody?")
        expect(desk.get_by_text("1 is waiting")).to_be_visible()
        desk.get_by_role("switch").click()
        expect(desk.get_by_role("tab", name="Mine 1")).to_be_visible()
        expect(desk.get_by_text("1 is waiting")).to_have_count(0)

    def test_transfer(self) -> None:
        """A guest moves to a colleague's console with a note that the guest never sees; the load of each is shown."""
        alice, bob, carl = (self.add_admin(name) for name in ("Alice", "Bob", "Carl"))
        desk = self.console(alice)
        gina = self.guest()
        gina.say("I would like the red one")
        desk.get_by_role("button", name="Gina").click()
        other, third = self.console(bob), self.console(carl)
        third.get_by_role("switch").click()
        expect(third.get_by_role("switch")).to_have_attribute("aria-checked", "false")
        desk.get_by_role("button", name="Transfer").click()
        dialog = desk.get_by_role("dialog")
        expect(dialog.get_by_text("0 of 10")).to_have_count(1)
        expect(dialog.get_by_role("radio", name="Carl")).to_be_disabled()
        self.picture(desk, "console-transfer")
        dialog.get_by_role("radio", name="Bob").check()
        dialog.get_by_role("textbox").fill("asks for the red one")
        dialog.get_by_role("button", name="Transfer").click()
        expect(desk.get_by_text("Transferred to Bob.")).to_be_visible()
        expect(desk.get_by_role("button", name="Gina")).to_have_count(0)
        other.get_by_role("button", name="Gina").click()
        expect(other.get_by_role("log")).to_contain_text("Alice handed this guest over: asks for the red one")
        expect(other.get_by_role("log")).to_contain_text("I would like the red one")
        self.assertEqual(gina.push(22099, lambda data: data["reason"] == "transferred")["admin"]["name"], "Bob")
        write(other, "I am looking")
        self.assertEqual(gina.push(22399)["message_info"]["sender"]["name"], "Bob")
        self.assertNotIn("asks for", str(gina.history()))

    def test_note_is_kept(self) -> None:
        """From whom a guest came, and the note: also after a reload, on another device and after a lost connection."""
        alice, bob = self.add_admin("Alice"), self.add_admin("Bob")
        desk = self.console(alice)
        gina = self.guest()
        gina.say("I would like the red one")
        expect(desk.get_by_role("button", name="Gina")).to_be_visible()
        away = self.person()
        wire = Wire(away)
        self.console(bob, away)
        expect(away.get_by_role("switch")).to_be_visible()
        wire.go_away()
        expect(away.get_by_text("No connection. What you write is kept")).to_be_visible()
        other = self.console(bob)
        desk.get_by_role("button", name="Gina").click()
        desk.get_by_role("button", name="Transfer").click()
        dialog = desk.get_by_role("dialog")
        dialog.get_by_role("radio", name="Bob").check()
        dialog.get_by_role("textbox").fill("asks for the red one")
        dialog.get_by_role("button", name="Transfer").click()
        gina.push(22099, lambda data: data["reason"] == "transferred")
        gina.say("Are you there?")
        line = "Alice handed this guest over: asks for the red one"
        wire.come_back()
        away.get_by_role("button", name="Try now").click()
        later = self.console(bob)
        for page in (away, other, later):
            page.get_by_role("button", name="Gina").click()
        other.reload()
        for page in (away, other, later):
            rows = page.get_by_role("log").locator(".text, .note")
            expect(rows).to_have_text(["I would like the red one", line, "Are you there?"])
        self.picture(other, "console-handed-over")
        # Of a long conversation the line comes with the messages around it.
        self.server.daemon.sql(
            "INSERT INTO message (conversation_id, seq, sender_id, created_at, sender_type, file_type, cmid, body)"
            " SELECT c.id, 2 + n, c.guest_id, now_ms() + n, 1, 0, 's' || n, '\"Line ' || n || '\"'"
            " FROM conversation c, generate_series(1, 100) n WHERE guest_id = %s",
            gina.gid,
        )
        self.server.daemon.sql("UPDATE conversation SET last_seq = 102 WHERE guest_id = %s", gina.gid)
        other.reload()
        log = other.get_by_role("log")
        expect(log.get_by_text("Line 100", exact=True)).to_be_in_viewport()
        expect(log.get_by_text(line)).to_have_count(0)
        log.hover()
        while not log.get_by_text("I would like the red one").count():
            other.mouse.wheel(0, -900)
            expect(log).to_have_attribute("aria-busy", "false")
        texts = log.locator(".text, .note").all_inner_texts()
        self.assertEqual(texts[:4], ["I would like the red one", line, "Are you there?", "Line 1"])

    def test_somebody_else_serves(self) -> None:
        """A message to a guest whom a colleague has by now is not lost: it says why it was not sent, and waits."""
        alice, bob = self.add_admin("Alice"), self.add_admin("Bob")
        desk = self.console(alice)
        gina = self.meet(desk)
        # As on another node, whose news has not come yet. Bob is there: else Gina would soon be given back.
        other = Agent(self.server, bob)
        self.addCleanup(other.close)
        self.server.daemon.sql("UPDATE conversation SET admin_id = %s WHERE guest_id = %s", bob, gina.gid)
        write(desk, "Are you still there?")
        alert = desk.get_by_role("alert")
        expect(alert).to_contain_text("A colleague serves this guest now.")
        self.server.daemon.sql("UPDATE conversation SET admin_id = %s WHERE guest_id = %s", alice, gina.gid)
        desk.reload()
        alert.get_by_role("button", name="Try again").click()
        self.assertEqual(gina.push(22399)["message_info"]["msg"], "Are you still there?")
        expect(alert).to_have_count(0)

    def test_end(self) -> None:
        """An ended chat is found among the ended ones; a message to it is delivered, and the answer reopens it."""
        desk = self.console(self.add_admin("Alice"))
        gina = self.guest()
        gina.say("Thank you")
        desk.get_by_role("button", name="Gina").click()
        desk.get_by_role("button", name="End").click()
        desk.get_by_role("dialog").get_by_role("button", name="End").click()
        gina.push(22099, lambda data: data["reason"] == "ended_by_admin")
        expect(desk.get_by_role("tab", name="Ended")).to_have_attribute("aria-selected", "true")
        expect(desk.get_by_text("This service has ended.")).to_be_visible()
        write(desk, "One more thing")
        self.assertEqual(gina.push(22399)["message_info"]["msg"], "One more thing")
        gina.say("Yes?")
        expect(desk.get_by_role("tab", name="Mine")).to_have_attribute("aria-selected", "true")

    def test_two_devices(self) -> None:
        """Two pages of one agent show the same: what was sent, read, taken, paused and ended on either."""
        alice = self.add_admin("Alice")
        one, two = self.console(alice), self.console(alice)
        gina = self.guest()
        gina.say("Hello")
        for page in (one, two):
            expect(page.get_by_label("1 unread message")).to_be_visible()
        one.get_by_role("button", name="Gina").click()
        expect(two.get_by_label("1 unread message")).to_have_count(0)
        two.get_by_role("button", name="Gina").click()
        write(one, "Good morning")
        expect(two.get_by_role("log").get_by_text("Good morning")).to_be_visible()
        write(two, "What can I do for you?")
        expect(one.locator(".row.mine .bubble")).to_have_text(["Good morning", "What can I do for you?"])
        two.get_by_role("switch").click()
        expect(one.get_by_role("switch")).to_have_attribute("aria-checked", "false")
        one.get_by_role("button", name="End").click()
        one.get_by_role("dialog").get_by_role("button", name="End").click()
        expect(two.get_by_text("This service has ended.")).to_be_visible()


class NewsTests(BrowserTestCase):
    """Title, sound and notifications: the page believes that somebody looks at it, until it is sent away."""

    INSTEAD = """
        window.told = [];  // notifications [title, body] that were shown
        window.shown = [];  // and those that still are
        window.rung = 0;
        window.Notification = class {
            constructor(title, {body, tag}) {
                Object.assign(this, {tag, said: [title, body]});
                shown = [...shown.filter((one) => one.tag !== tag), this];
                told.push(this.said);
            }
            close() { shown = shown.filter((one) => one !== this); }
            static permission = 'granted';
            static requestPermission = async () => 'granted';
        };
        AudioContext.prototype.createOscillator = function () {
            rung += 1;
            return new OscillatorNode(this);
        };
        Object.defineProperty(document, 'visibilityState', {get: () => window.away ? 'hidden' : 'visible'});
        window.show = (visible) => { away = !visible; document.dispatchEvent(new Event('visibilitychange')); };
    """

    def desk(self, admin_id: int, page: Page | None = None, **options: Any) -> Page:
        """A console that may notify, in which somebody has clicked."""
        page = page or self.person(**options)
        page.add_init_script(self.INSTEAD)
        self.console(admin_id, page)
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Show desktop notifications").check()
        page.get_by_role("button", name="Close").click()
        return page

    def told(self, *desks: Page) -> list[list[str]]:
        return [one for desk in desks for one in desk.evaluate("told")]

    def wait_told(self, notification: list[str], *desks: Page) -> None:
        wait_until(lambda: notification in self.told(*desks), f"the notification {notification}")

    def shown(self, *desks: Page) -> list[list[str]]:
        return [one for desk in desks for one in desk.evaluate("shown.map(({said}) => said)")]

    def rung(self, *desks: Page) -> int:
        return sum(desk.evaluate("rung") for desk in desks)

    def test_notifications(self) -> None:
        """A message that nobody looks at is told by the system; who does not want that switches it off."""
        desk = self.desk(self.add_admin("Alice"))
        gina = self.meet(desk)
        desk.evaluate("show(false)")
        gina.say("Are you there?")
        wait_until(lambda: self.told(desk) == [["Gina", "Are you there?"]], "a notification")
        expect(desk).to_have_title(re.compile(r"^\(1\) "))
        desk.get_by_role("button", name="Settings").click()
        self.picture(desk, "console-settings")
        desk.get_by_label("Show desktop notifications").uncheck()
        desk.get_by_label("Count unread messages in the title").uncheck()
        desk.evaluate("told.length = 0")
        gina.say("Hello?")
        expect(desk.get_by_role("log").get_by_text("Hello?")).to_be_attached()
        self.assertEqual(self.told(desk), [])
        expect(desk).to_have_title(re.compile(r"^[^(]"))

    def test_leads_to_the_chat(self) -> None:
        """A click on a notification opens the chat that it is about, and takes the notification away."""
        desk = self.desk(self.add_admin("Alice"))
        self.meet(desk, name="Gina")
        desk.evaluate("show(false)")
        hugo = self.guest("Hugo")
        hugo.say("Good morning")
        self.wait_told(["Hugo", "Good morning"], desk)
        desk.evaluate("shown.at(-1).onclick()")
        expect(desk.get_by_role("log").get_by_text("Good morning")).to_be_visible()
        wait_until(lambda: not self.shown(desk), "the end of the notification")

    def test_two_tabs(self) -> None:
        """Of two tabs that nobody looks at one tells; none tells of the chat that the other one shows."""
        alice = self.add_admin("Alice")
        one = self.desk(alice)
        two = self.desk(alice, self.page(one.context))
        gina, hugo = self.guest("Gina"), self.guest("Hugo")
        gina.say("Hello")
        one.get_by_role("button", name="Gina").click()
        expect(one.get_by_role("log").get_by_text("Hello")).to_be_visible()
        hugo.say("Good morning")
        for desk in (one, two):
            expect(desk.get_by_role("button", name="Hugo")).to_contain_text("Good morning")
            desk.evaluate("show(false); rung = 0; told = [];")
        for text in ("One", "Two", "Three"):
            gina.say(text)
            self.wait_told(["Gina", text], one, two)
        self.assertEqual(sorted(text for _, text in self.told(one, two)), ["One", "Three", "Two"])
        self.assertEqual(self.rung(one, two), 3)
        one.evaluate("show(true)")
        # What is read in one tab is shown by no notification of the other.
        wait_until(lambda: not self.shown(one, two), "no notification")
        for desk in (one, two):
            desk.evaluate("told = []")
        gina.say("Four")
        expect(one.get_by_role("log").get_by_text("Four")).to_be_visible()
        hugo.say("Nobody looks at this chat")
        wait_until(lambda: self.rung(one, two) == 4, "one more sound")
        one.evaluate("show(false)")
        hugo.say("Nobody looks at all")
        wait_until(lambda: self.told(one, two), "a notification")
        self.assertEqual(self.told(one, two), [["Hugo", "Nobody looks at all"]])
        self.assertEqual(self.rung(one, two), 5)
        # Switched off in one tab, it is off in both.
        one.get_by_role("button", name="Settings").click()
        one.get_by_label("Play a sound").uncheck()
        two.get_by_role("button", name="Settings").click()
        expect(two.get_by_label("Play a sound")).not_to_be_checked()

    def test_two_tabs_without_locks(self) -> None:
        """On pages without https, too, one of two tabs tells."""
        context = self.context()
        context.add_init_script("Object.defineProperty(navigator, 'locks', {value: undefined})")
        alice = self.add_admin("Alice")
        one, two = (self.desk(alice, self.page(context)) for _ in range(2))
        gina = self.guest("Gina")
        gina.say("Hello")
        for desk in (one, two):
            expect(desk.get_by_role("button", name="Gina")).to_contain_text("Hello")
        wait_until(lambda: self.rung(one, two) == 2, "the sounds of a new guest and of the message")
        for desk in (one, two):
            desk.evaluate("show(false); rung = 0; told = [];")
        for text in ("One", "Two", "Three"):
            gina.say(text)
            self.wait_told(["Gina", text], one, two)
        wait_until(lambda: self.rung(one, two) >= 3, "three sounds")
        self.assertEqual(sorted(text for _, text in self.told(one, two)), ["One", "Three", "Two"])
        self.assertEqual(self.rung(one, two), 3)

    def test_recalled(self) -> None:
        """What a guest takes back is not to be read in a notification either."""
        desk = self.desk(self.add_admin("Alice"))
        gina = self.meet(desk)
        desk.evaluate("show(false)")
        seq = gina.say("My card is 4111")["seq"]
        wait_until(lambda: self.shown(desk) == [["Gina", "My card is 4111"]], "a notification")
        gina.ask(22310, seq=seq)
        wait_until(lambda: not self.shown(desk), "the end of it")

    def test_no_notifications(self) -> None:
        """Where the browser has notifications and does not let a page show one, as on phones, the rest still works."""
        page = self.person()
        desk = self.desk(self.add_admin("Alice"), page)
        desk.evaluate(
            "() => { Notification = class { static permission = 'granted';"
            " constructor() { throw new TypeError('Illegal constructor'); } } }"
        )
        gina = self.guest()
        gina.say("Hello")
        expect(desk.get_by_role("button", name="Gina")).to_contain_text("Hello")
        desk.evaluate("show(false)")
        rung = self.rung(desk)
        gina.say("Are you there?")
        wait_until(lambda: self.rung(desk) == rung + 1, "a sound")
        expect(desk).to_have_title(re.compile(r"^\(2\) "))

    def test_without_locks(self) -> None:
        """On a page without https the browser has no locks; a message is told all the same."""
        page = self.person()
        page.add_init_script("Object.defineProperty(navigator, 'locks', {value: undefined})")
        desk = self.desk(self.add_admin("Alice"), page)
        gina = self.guest()
        gina.say("Hello")
        expect(desk.get_by_role("button", name="Gina")).to_contain_text("Hello")
        desk.evaluate("show(false); told = [];")
        gina.say("Are you there?")
        wait_until(lambda: self.told(desk) == [["Gina", "Are you there?"]], "a notification")


class WordsTests(BrowserTestCase):
    def test_same_words(self) -> None:
        """Nothing is said in one language only, and each text has the same blanks in all."""
        page = self.person()
        page.goto(f"{self.origin}/console/")
        [folder] = set(re.findall(r"/static/\w+/", page.content()))
        load = "async ([folder, name]) => { const all = await import(folder + name);"
        load += " return all.default ?? all.CATALOGUES; }"
        everything = page.evaluate(load, [folder, "console/words.js"])
        for part in ("shared", "widget"):
            one = {name: page.evaluate(load, [folder, f"{part}/words.{name}.js"]) for name in ("en", "zh-CN")}
            for locale, words in one.items():
                everything[locale] = everything[locale] | {f"{part} {key}": text for key, text in words.items()}
        blanks = {
            locale: {key: set(re.findall(r"{\w+}", str(text))) for key, text in catalogue.items()}
            for locale, catalogue in everything.items()
        }
        self.assertEqual(set(blanks), {"en", "zh-CN"})
        self.assertEqual(blanks["en"], blanks["zh-CN"])
        for locale, catalogue in everything.items():
            for key, text in catalogue.items():
                forms = text if isinstance(text, dict) else {"other": text}
                wanted = ("one", "other") if locale == "en" and isinstance(text, dict) else ("other",)
                self.assertTrue(all(forms.get(form) for form in wanted), f"{locale} {key}")


class SigningInTests(BrowserTestCase):
    def test_password(self) -> None:
        """An agent signs in with name and password, stays so over a reload, and leaves for good, in all tabs."""
        alice = self.add_admin("Alice of Lamps")
        self.server.daemon.sql("UPDATE admin SET password_hash = %s WHERE id = %s", hashed("open sesame"), alice)
        page = self.person()
        page.goto(f"{self.origin}/console")
        self.picture(page, "console-login")
        page.get_by_label("Name").fill("Alice of Lamps")
        page.get_by_label("Password").fill("wrong")
        self.expect_trouble("status of 401")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("This name and password do not fit together.")
        page.get_by_label("Password").fill("open sesame")
        page.keyboard.press("Enter")
        expect(page.get_by_role("switch")).to_be_visible()
        page.reload()
        expect(page.get_by_role("switch")).to_be_visible()
        other = self.page(page.context)
        other.goto(f"{self.origin}/console/")
        expect(other.get_by_role("switch")).to_be_visible()
        page.get_by_role("button", name="Settings").click()
        page.get_by_role("button", name="Sign out").click()
        for tab in (page, other):
            expect(tab.get_by_role("button", name="Sign in")).to_be_visible()
        page.reload()
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()

    def test_address(self) -> None:
        """A token in the address signs in, and is gone from the address and the history at once."""
        desk = self.console(self.add_admin("Alice"))
        self.assertNotIn("token", desk.url)
        self.assertNotIn("token", desk.evaluate("location.href + history.state"))
        self.assertEqual(desk.evaluate("history.length"), 2)  # about:blank, and the console

    def test_bad_address(self) -> None:
        """A link with a token that is none signs nobody out: not in the tab in which it is opened, not in others."""
        desk = self.console(self.add_admin("Alice"))
        other = self.page(desk.context)
        for bad in ("x", token(admin_id=self.add_admin("Bob"))[:-4] + "AAAA"):
            other.goto("about:blank")
            other.goto(f"{self.origin}/console/#token={bad}")
            for page in (other, desk):
                expect(page.locator(".me-name", has_text="Alice")).to_be_visible()
        desk.reload()
        expect(desk.locator(".me-name", has_text="Alice")).to_be_visible()

    def test_banned(self) -> None:
        """Whose account is closed is told so, and sees no chat any more."""
        alice = self.add_admin("Alice")
        desk = self.console(alice)
        self.server.daemon.sql("UPDATE admin SET status = 'banned' WHERE id = %s", alice)
        self.server.daemon.tell()
        expect(desk.get_by_role("alert")).to_have_text("Your access has ended or was changed. Sign in again.")

    def test_languages(self) -> None:
        """The page speaks the browser's language, and the one that is chosen, also after a reload."""
        desk = self.person(locale="zh-CN")
        self.console(self.add_admin("王芳"), desk)
        gina = self.guest("小林")
        gina.say("你好，红色的有货吗？")
        expect(desk.get_by_role("tab", name="我的 1")).to_be_visible()
        desk.get_by_role("button", name="小林").click()
        desk.get_by_role("textbox", name="消息").fill("有，还剩两件。")
        desk.keyboard.press("Enter")
        gina.push(22399)
        gina.ask(22200)
        expect(desk.get_by_role("log").get_by_text("已读")).to_be_visible()
        self.picture(desk, "console-zh")
        self.assertEqual(desk.evaluate("document.documentElement.lang"), "zh-CN")
        desk.get_by_role("button", name="设置").click()
        desk.get_by_label("语言").select_option("en")
        expect(desk.get_by_role("tab", name="Mine 1")).to_be_attached()
        desk.reload()
        expect(desk.get_by_role("tab", name="Mine 1")).to_be_visible()
