"""A guest in a shop talks to an agent."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.server import wait_until
from tests.browser.shop import WidgetTestCase


class TalkTests(WidgetTestCase):
    def test_conversation(self) -> None:
        """A guest writes and is answered, without reload: names, read marks, typing, and the stars at the end."""
        alice = self.agent()
        shop = self.visit().open()
        expect(shop.frame.get_by_text("How can we help?")).to_be_visible()
        self.picture(shop.page, "widget-new")
        shop.write("Is the red one in stock?")
        alice.meet()
        expect(shop.bubble("Is the red one in stock?")).to_be_visible()
        expect(shop.frame.get_by_role("heading", name="Alice")).to_be_visible()
        alice.ask(32200, gid=alice.gid, group_id=self.group_id)
        expect(shop.log.get_by_text("Read")).to_be_visible()
        alice.ask(32330, gid=alice.gid)
        expect(shop.frame.get_by_text("is typing…")).to_be_visible()
        alice.say("Two are left.")
        expect(shop.bubble("Two are left.")).to_be_visible()
        expect(shop.frame.get_by_text("is typing…")).to_be_hidden()
        alice.push(32299, lambda data: data["guest_read_seq"] == 2)

        def types() -> bool:
            # Typing is a hint, which anything else may drop: so again, until it is there.
            shop.box.fill("")
            shop.box.press_sequentially("Go")
            return alice.has(32397)

        wait_until(types, "the guest's typing")
        self.picture(shop.page, "widget-talk")
        alice.ask(32060, gid=alice.gid)
        shop.frame.get_by_role("radio", name="4 stars").check()
        shop.frame.get_by_role("textbox", name="Anything to add?").fill("Quick.")
        self.picture(shop.page, "widget-rating")
        shop.frame.locator(".rate").get_by_role("button", name="Send").click()
        expect(shop.frame.get_by_text("Thank you!")).to_be_visible()
        found = self.server.daemon.sql("SELECT score, score_text FROM service WHERE admin_id = %s", alice.admin_id)
        self.assertEqual(found, [(4, "Quick.")])

    def test_recall(self) -> None:
        """A guest takes back what was just written; what an agent takes back is gone from the panel."""
        alice = self.agent()
        shop = self.visit().open()
        shop.write("My password is 1234")
        alice.meet()
        shop.bubble("My password is 1234").hover()
        shop.log.get_by_role("button", name="Recall").click()
        expect(shop.log.get_by_text("This message was recalled")).to_be_visible()
        expect(shop.bubble("My password is 1234")).to_have_count(0)
        alice.push(32399, lambda data: data["message_info"].get("recalls") == 1)
        seq = alice.say("Wrong window")["seq"]
        expect(shop.bubble("Wrong window")).to_be_visible()
        alice.ask(32310, gid=alice.gid, seq=seq)
        expect(shop.bubble("Wrong window")).to_have_count(0)

    def test_queue(self) -> None:
        """Who has to wait sees the place, and moves up; where nobody is there, the panel says so."""
        early, late = self.visit().open(), self.visit().open()
        early.write("Hello?")
        expect(early.frame.get_by_text("Nobody is here right now", exact=False)).to_be_visible()
        self.picture(early.page, "widget-nobody")
        alice = self.agent(capacity=1)
        expect(early.frame.get_by_role("heading", name="Alice")).to_be_visible()
        late.write("Me too")
        expect(late.frame.get_by_text("You are number 1 in line.")).to_be_visible()
        self.picture(late.page, "widget-queue")
        alice.ask(32060, gid=next(iter(alice.ask(32000)["guest_list"])))
        expect(late.frame.get_by_role("heading", name="Alice")).to_be_visible()
        expect(late.frame.get_by_text("in line", exact=False)).to_be_hidden()

    def test_unread(self) -> None:
        """What comes while the panel is shut is counted on the bubble, also after a reload, until it is read."""
        alice = self.agent()
        shop = self.visit().open()
        shop.write("Hello")
        alice.meet()
        shop.launcher.click()
        alice.say("One")
        alice.say("Two")
        expect(shop.launcher).to_have_accessible_name("Open chat, 2 unread")
        self.picture(shop.page, "widget-unread")
        shop.page.reload()
        expect(shop.launcher).to_have_accessible_name("Open chat, 2 unread")
        shop.open()
        expect(shop.bubble("Two")).to_be_visible()
        alice.push(32299, lambda data: data["guest_read_seq"] == 3)
        shop.launcher.click()
        expect(shop.launcher).to_have_accessible_name("Open chat")

    def test_unread_in_two_tabs(self) -> None:
        """What is read in one tab is unread in none."""
        alice = self.agent()
        shop = self.visit().open()
        shop.write("Hello")
        alice.meet()
        other = self.visit(self.page(shop.page.context))
        shop.launcher.click()
        alice.say("One")
        for one in (shop, other):
            expect(one.launcher).to_have_accessible_name("Open chat, 1 unread")
        other.open()
        expect(other.bubble("One")).to_be_visible()
        expect(shop.launcher).to_have_accessible_name("Open chat")

    def test_rating_later(self) -> None:
        """Who goes to another page before rating is asked there, and no more once it is done."""
        alice = self.agent()
        shop = self.visit().open()
        shop.write("Hello")
        alice.meet()
        alice.say("Hi")
        expect(shop.bubble("Hi")).to_be_visible()
        alice.ask(32060, gid=alice.gid)
        stars = shop.frame.get_by_role("radio", name="3 stars")
        expect(stars).to_be_visible()
        shop.page.reload()
        stars.check()
        shop.frame.locator(".rate").get_by_role("button", name="Send").click()
        expect(shop.frame.get_by_text("Thank you!")).to_be_visible()
        found = self.server.daemon.sql("SELECT score FROM service WHERE admin_id = %s", alice.admin_id)
        self.assertEqual(found, [(3,)])
        shop.page.reload()
        expect(shop.bubble("Hi")).to_be_visible()
        expect(stars).to_have_count(0)

    def test_end(self) -> None:
        """A guest ends the conversation, after being asked, and begins again by writing."""
        alice = self.agent()
        shop = self.visit().open()
        shop.write("Hello")
        alice.meet()
        alice.say("Hi")
        shop.frame.get_by_role("button", name="End conversation").click()
        shop.frame.get_by_role("button", name="End it").click()
        expect(shop.log.get_by_text("The conversation has ended", exact=False)).to_be_visible()
        shop.frame.get_by_role("button", name="Not now").click()
        shop.write("One more thing")
        alice.push(32401)
        expect(shop.frame.get_by_role("heading", name="Alice")).to_be_visible()

    def test_history(self) -> None:
        """Scrolling up brings what was said long ago, and each message stands there once."""
        alice = self.agent()
        shop = self.visit().open()
        shop.write("Hello")
        alice.meet()
        for number in range(80):
            alice.say(f"Line {number}")
        shop.page.reload()
        expect(shop.bubble("Line 79")).to_be_visible()
        for _ in range(20):
            if shop.bubble("Hello").count():
                break
            shop.log.evaluate("(log) => { log.scrollTop = 0; }")
            shop.page.wait_for_timeout(50)
        expect(shop.bubble("Hello")).to_have_count(1)
        expect(shop.log.locator(".bubble")).to_have_count(81)

    def test_two_tabs(self) -> None:
        """What is written in one tab stands in the other, too."""
        self.agent()
        first = self.visit().open()
        first.write("From the first")
        expect(first.log.get_by_text("Sending…")).to_be_hidden()
        second = self.visit(self.page(first.page.context))
        second.open()
        expect(second.bubble("From the first")).to_be_visible()
        second.write("From the second")
        expect(first.bubble("From the second")).to_be_visible()

    def test_languages(self) -> None:
        """Everything is Chinese where the page is, and English after setLocale."""
        alice = self.agent()
        shop = self.visit(lang="zh-Hans")
        expect(shop.launcher).to_have_accessible_name("打开客服窗口")
        shop.open()
        expect(shop.frame.get_by_text("有什么可以帮您？")).to_be_visible()
        shop.write("有红色的吗？")
        alice.meet()
        alice.say("有的，还剩两个。")
        expect(shop.frame.get_by_text(re.compile("Alice 为您服务"))).to_be_visible()
        self.picture(shop.page, "widget-zh")
        shop.push("setLocale", "en")
        expect(shop.frame.get_by_placeholder("Write a message…")).to_be_visible()
        expect(shop.launcher).to_have_accessible_name("Close chat")

    def test_context(self) -> None:
        """The agent sees where the guest is, and the product of the page is sent with one click."""
        alice = self.agent()
        shop = self.visit()
        shop.push("setContext", {"product": {"id": "P-1", "title": "Red lamp", "price": 12, "currency": "EUR"}})
        shop.open()
        expect(shop.frame.get_by_text("You are looking at")).to_be_visible()
        shop.frame.locator(".offer").get_by_role("button", name="Send").click()
        alice.meet()
        self.assertEqual(alice.thread()[0]["file_type"], 3)
        expect(shop.log.get_by_text("€12.00")).to_be_visible()
        expect(shop.frame.get_by_text("You are looking at")).to_be_hidden()
        shop.push("setContext", {"order": {"id": "7"}})
        context = alice.push(32099, lambda data: "order" in data["context"])["context"]
        self.assertEqual(context["order"], {"id": "7"})
        self.assertEqual(context["title"], "Red lamp")
        wait_until(lambda: context["page_url"] == self.address(), "the address of the page")
