"""The pictures of the documents: the main states of the console and of the widget, as customers and agents see them.

They are renewed by

    TEST_SCREENSHOTS=docs/images python -m twisted.trial tests.browser.test_pictures

which writes into `docs/images` what `README.md`, `README.zh-CN.md`, `docs/console.md` and `docs/widget.md` show.
Without the variable nothing is written, and what is tested is that each state is there to be seen.
"""

from __future__ import annotations

import json
import urllib.request
from functools import cache
from typing import Any

from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.case import PICTURES, BrowserTestCase, browser, shared_server
from tests.browser.server import Guest, Server
from tests.browser.shop import Agent, Widget
from tests.browser.test_quality import PHONE
from tests.browser.wire import Wire
from tests.integration.daemon import token

SHOP = "Hearth & Oak"
COLOURS = 256
"""Of a picture: enough for pages of few colours, and a third of the size."""

ENGLISH = {
    "locale": "en-GB",
    "alice": "Alice Martin",
    "gina": "Gina Rossi",
    "ask": "Hello! Is the Ember lamp still in stock?",
    "yes": "Good morning Gina! Yes, two are left, and both can leave today.",
    "want": "Wonderful. It would hang over this table:",
    "height": "That will look lovely. 70 cm above the table is a good height.",
    "thanks": "Then I take this one. Thank you!",
    "lamp": "Ember pendant lamp",
    "where": "Hello! Where would it hang?",
    "here": "Over this table:",
    "lovely": "Lovely! Two are left.",
    "sent": "on its way",
}
CHINESE = {
    "locale": "zh-CN",
    "alice": "王芳",
    "gina": "李静",
    "ask": "你好，暖烬吊灯还有货吗？",
    "yes": "您好！还剩两盏，今天就可以发货。",
    "want": "太好了，想挂在这张餐桌上方：",
    "height": "一定很好看。建议灯罩离桌面 70 厘米。",
    "thanks": "那我就买这一款，谢谢！",
    "lamp": "暖烬吊灯",
    "where": "您好！想挂在哪里呢？",
    "here": "挂在这张餐桌上方：",
    "lovely": "一定很好看，还剩两盏。",
    "sent": "运输中",
}

PROFILES = {
    "en-GB": {"city": "Torino", "level": "gold", "orders": 7},
    "zh-CN": {"城市": "上海", "等级": "金卡会员", "订单": 7},
}


@cache
def room() -> bytes:
    """What a customer photographs: a dining table with two chairs by a window (PNG)."""
    page = browser().new_page(viewport={"width": 480, "height": 230})
    page.set_content(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 70 480 230" style="position:fixed;inset:0">'
        '<path fill="#e9dcc8" d="M0 0h480v240H0z"/><path fill="#b88a5e" d="M0 236h480v84H0z"/>'
        '<path fill="#fff8ea" d="M290 90h150v82H290z"/>'
        '<path fill="#bcd9e6" d="M298 98h63v66h-63zM369 98h63v66h-63z"/>'
        '<path fill="#8fb58a" d="M298 142q32-26 63 4v18h-63zM369 148q30-30 63-8v24h-63z"/>'
        '<path fill="#6d4526" d="M78 176h324v16H78zM108 192h14v106h-14zM358 192h14v106h-14z"/>'
        '<path fill="#2f6b57" d="M28 140h14v158H28zM28 226h62v14H28zM78 240h12v58H78zM438 140h14v158h-14z'
        'M390 226h62v14h-62zM390 240h12v58h-12z"/>'
        '<path fill="#27506b" d="M214 132h40l8 22-10 22h-36l-10-22z"/>'
        '<path fill="none" stroke="#557a3f" stroke-width="5" d="M234 132V92M234 120l-20-26M234 120l22-24"/>'
        '<circle cx="234" cy="86" r="13" fill="#d7654f"/><circle cx="211" cy="90" r="11" fill="#e8a03d"/>'
        '<circle cx="259" cy="92" r="11" fill="#e8a03d"/></svg>'
    )
    taken = page.screenshot()
    page.close()
    return taken


class _Pictures(BrowserTestCase):
    def make_server(self) -> Server:
        return shared_server(("--demo",))

    def setUp(self) -> None:
        super().setUp()
        self.group_id = self.server.daemon.add_group(SHOP)

    def keep(self, page: Page, name: str) -> None:
        """The picture of a state, small enough for a document."""
        page.mouse.move(0, 0)
        self.picture(page, name)
        if PICTURES:
            path = PICTURES / f"{name}.png"
            with Image.open(path) as taken:
                few = taken.convert("RGB").quantize(COLOURS, kmeans=2, dither=Image.Dither.NONE)
            few.save(path, optimize=True)

    def by_night(self, page: Page) -> None:
        """The system of who looks turns dark, and the page, or the frame in it, follows."""
        shown = page.frames[-1].locator("body")
        by_day = shown.evaluate("(body) => getComputedStyle(body).color")
        page.emulate_media(color_scheme="dark")
        expect(shown).not_to_have_css("color", by_day)

    def product(self, words: dict[str, str]) -> dict[str, Any]:
        """The card of the lamp."""
        demo = f"{self.origin}/demo/"
        return {
            "id": "P-1041",
            "title": words["lamp"],
            "price": 129,
            "currency": "EUR",
            "url": f"{demo}?product=P-1041",
            "image": f"{demo}img/lamp.svg",
        }


class ConsolePictures(_Pictures):
    def busy(self, words: dict[str, str]) -> tuple[int, Guest]:
        """An agent's desk in the middle of a morning; returns the agent, and the guest of the conversation."""
        alice = self.add_admin(words["alice"], capacity=6)
        agent = Agent(self.server, alice)
        self.addCleanup(agent.close)
        others = {
            "Noah Keller": "The teapot came today. It is perfect, thank you.",
            "林小雨": "你好，请问茶壶什么时候发货？",
            "": "Do you deliver to Norway?",
            "Ivy Chen": "Can I change the address of my order?",
        }
        for name, line in others.items():
            self.guest(name).say(line)
            agent.meet()
        gina = self.guest(words["gina"], sub=self.customer, profile=PROFILES[words["locale"]])
        product = self.product(words)
        order = {"id": "20261118-0042", "status": words["sent"], "total": 217, "currency": "EUR", "items": [1, 2]}
        place = {"page_url": product["url"], "title": f"{words['lamp']} – {SHOP}"}
        gina.ask(22600, context={**place, "product": product, "order": order})
        gina.say(words["ask"])
        agent.meet()
        gina.say(product, 3)
        agent.say(words["yes"])
        gina.say(words["want"])
        gina.say(self.photo(), 1)
        agent.ask(32200, gid=gina.gid, group_id=self.group_id)
        agent.say(words["height"])
        gina.push(22399, lambda data: data["message_info"]["msg"] == words["height"])
        gina.ask(22200)
        return alice, gina

    @property
    def customer(self) -> str:
        """What the shop calls the guest of the conversation, in this test only."""
        return f"C-{20470 + self.group_id}"

    def photo(self) -> dict[str, Any]:
        """Of the room, as the guest of the conversation has sent it to the server."""
        key = token(sub=self.customer, group_id=self.group_id)
        fields = {"Authorization": f"Bearer {key}", "Content-Type": "image/png", "X-File-Name": "table.png"}
        sent = urllib.request.Request(f"{self.origin}/files", data=room(), headers=fields)
        with urllib.request.urlopen(sent) as answer:
            told = json.load(answer)
        return {name: told[name] for name in ("url", "width", "height")}

    def open(self, desk: Page, words: dict[str, str]) -> None:
        """The conversation, with everything in it loaded."""
        desk.locator(".chat-row", has_text=words["gina"]).click()
        log = desk.get_by_role("log")
        expect(log.get_by_text(words["height"])).to_be_in_viewport()
        for one in (".picture img", ".card img"):
            expect(log.locator(one)).to_have_js_property("complete", True)

    def colleagues(self) -> None:
        """One with time, one who is paused, and one who has as many guests as may be."""
        for name, capacity in (("Ben Okafor", 5), ("Chloe Dubois", 1), ("David Lind", 5)):
            agent = Agent(self.server, self.add_admin(name, capacity))
            self.addCleanup(agent.close)
            if name.startswith("David"):
                agent.ask(32500, status=1)
            else:
                self.guest(f"Guest of {name}").say("Hello")
                agent.meet()

    def test_day(self) -> None:
        """Signing in, a conversation by day and by night, settings, handing over, no connection, and the end."""
        self.expect_trouble()
        page = self.person()
        wire = Wire(page)
        page.goto(f"{self.origin}/console/")
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        self.keep(page, "console-login")
        alice, gina = self.busy(ENGLISH)
        desk = self.console(alice, page)
        self.open(desk, ENGLISH)
        expect(desk.get_by_role("log").get_by_text("Read", exact=True)).to_be_visible()
        expect(desk.get_by_role("complementary").get_by_text("Torino")).to_be_visible()
        gina.say(ENGLISH["thanks"])
        expect(desk.get_by_role("log").get_by_text(ENGLISH["thanks"])).to_be_in_viewport()
        self.keep(desk, "console")
        self.by_night(desk)
        self.keep(desk, "console-dark")
        desk.emulate_media(color_scheme="light")
        desk.get_by_role("button", name="Settings").click()
        expect(desk.get_by_role("dialog").get_by_label("Play a sound")).to_be_visible()
        self.keep(desk, "console-settings")
        desk.keyboard.press("Escape")
        self.colleagues()
        desk.get_by_role("button", name="Transfer").click()
        dialog = desk.get_by_role("dialog")
        expect(dialog.get_by_role("radio", name="Chloe")).to_be_disabled()
        dialog.get_by_role("radio", name="Ben").check()
        dialog.get_by_role("textbox").fill("Wants the lamp today; please help with the wiring.")
        self.keep(desk, "console-transfer")
        desk.keyboard.press("Escape")
        wire.go_away()
        desk.get_by_role("textbox", name="Message").fill("I have put one aside for you.")
        desk.keyboard.press("Enter")
        expect(desk.get_by_text("No connection. What you write is kept")).to_be_visible()
        self.keep(desk, "console-offline")
        wire.come_back()
        expect(desk.get_by_text("No connection. What you write is kept")).to_have_count(0)
        expect(desk.get_by_role("log").get_by_text("Sending…")).to_have_count(0)
        desk.get_by_role("button", name="End", exact=True).click()
        desk.get_by_role("dialog").get_by_role("button", name="End").click()
        expect(desk.get_by_text("This service has ended.")).to_be_visible()
        self.keep(desk, "console-ended")

    def test_queue(self) -> None:
        """Who waits, for how long, and the button that takes the next."""
        alice = self.add_admin("Alice Martin", capacity=6)
        agent = Agent(self.server, alice)
        self.addCleanup(agent.close)
        self.guest("Gina Rossi", sub=self.customer).say("Hello! Is the Ember lamp still in stock?")
        agent.meet()
        agent.say("Good morning Gina! Yes, two are left.")
        agent.ask(32500, status=1)
        waiting = {
            "Noah Keller": ("My teapot has a crack. What can I do?", 7),
            "林小雨": ("你好，请问茶壶什么时候发货？", 4),
            "Ivy Chen": ("Can I change the address of my order?", 2),
        }
        for name, (line, minutes) in waiting.items():
            guest = self.guest(name)
            guest.say(line)
            self.server.daemon.sql(
                "UPDATE conversation SET queued_at = queued_at - %s WHERE guest_id = %s", minutes * 60_000, guest.gid
            )
        desk = self.console(alice)
        expect(desk.get_by_text("3 are waiting")).to_be_visible()
        desk.get_by_role("button", name="Gina").click()
        desk.get_by_role("tab", name="Queue").click()
        expect(desk.locator(".chat-row")).to_have_count(3)
        expect(desk.get_by_role("button", name="Take next")).to_be_enabled()
        self.keep(desk, "console-queue")

    def test_phone(self) -> None:
        """On a phone: the list, and a conversation by day and by night."""
        alice, _ = self.busy(ENGLISH)
        page = self.console(alice, self.person(**PHONE))
        expect(page.locator(".chat-row")).to_have_count(5)
        self.keep(page, "console-phone-list")
        self.open(page, ENGLISH)
        self.keep(page, "console-phone")
        self.by_night(page)
        self.keep(page, "console-phone-dark")

    def test_chinese(self) -> None:
        """The same desk in Chinese."""
        alice, _ = self.busy(CHINESE)
        desk = self.console(alice, locale="zh-CN")
        self.open(desk, CHINESE)
        expect(desk.get_by_role("log").get_by_text("已读")).to_be_visible()
        self.keep(desk, "console-zh")


class WidgetPictures(_Pictures):
    def shop(self, words: dict[str, str], **options: Any) -> Widget:
        """The lamp in the demo shop, with the chat still closed."""
        page = self.person(locale=words["locale"], **options)
        page.goto(f"{self.origin}/demo/?product=P-1041&group={self.group_id}")
        expect(page.get_by_role("heading", name=words["lamp"])).to_be_visible()
        widget = Widget(page)
        expect(widget.launcher).to_be_visible()
        return widget

    def agent(self, name: str, capacity: int = 10) -> Agent:
        agent = Agent(self.server, self.add_admin(name, capacity))
        self.addCleanup(agent.close)
        return agent

    def talk(self, widget: Widget, agent: Agent, words: dict[str, str]) -> None:
        """A card, a photo and what belongs to them, all read."""
        widget.page.get_by_role("main").locator("button.second").click()
        expect(widget.box).to_be_visible()
        expect(widget.log.locator(".card img")).to_have_js_property("complete", True)
        agent.meet()
        agent.say(words["where"])
        expect(widget.bubble(words["where"])).to_be_visible()
        widget.write(words["here"])
        widget.frame.locator("input[type=file]").set_input_files(
            {"name": "table.png", "mimeType": "image/png", "buffer": room()}
        )
        agent.push(32399, lambda data: data["message_info"]["file_type"] == 1)
        agent.ask(32200, gid=agent.gid, group_id=self.group_id)
        agent.say(words["lovely"])
        expect(widget.bubble(words["lovely"])).to_be_in_viewport()
        expect(widget.log.locator(".picture img")).to_have_js_property("complete", True)

    def test_visit(self) -> None:
        """The shop with a closed chat, a conversation by day and by night, no connection, the stars, and the end."""
        self.expect_trouble()
        alice = self.agent("Alice Martin")
        widget = self.shop(ENGLISH)
        expect(widget.panel).to_be_hidden()
        self.keep(widget.page, "widget-closed")
        self.talk(widget, alice, ENGLISH)
        self.keep(widget.page, "widget")
        self.by_night(widget.page)
        self.keep(widget.page, "widget-dark")
        widget.page.emulate_media(color_scheme="light")
        # From the next page on, as what passes here waits while this test waits for the agent.
        wire = Wire(widget.page)
        widget.page.reload()
        expect(widget.bubble(ENGLISH["lovely"])).to_be_in_viewport()
        expect(widget.frame.get_by_role("heading", name="Alice")).to_be_visible()
        wire.go_away()
        widget.write(ENGLISH["thanks"])
        expect(widget.frame.get_by_text("No connection", exact=False)).to_be_visible()
        self.keep(widget.page, "widget-offline")
        wire.come_back()
        expect(widget.frame.get_by_text("No connection", exact=False)).to_be_hidden()
        expect(widget.log.get_by_text("Sending…")).to_have_count(0)
        alice.ask(32060, gid=alice.gid)
        widget.frame.get_by_role("radio", name="5 stars").check()
        widget.frame.get_by_role("textbox", name="Anything to add?").fill("Quick and friendly.")
        self.keep(widget.page, "widget-rating")
        widget.frame.locator(".rate").get_by_role("button", name="Send").click()
        expect(widget.frame.get_by_text("Thank you!", exact=True)).to_be_visible()
        self.keep(widget.page, "widget-ended")

    def test_queue(self) -> None:
        """Who has to wait sees the place in line."""
        self.agent("Alice Martin", capacity=1)
        for name in ("Noah Keller", "Ivy Chen"):
            self.guest(name).say("Good morning!")
        widget = self.shop(ENGLISH).open()
        widget.write(ENGLISH["ask"])
        expect(widget.frame.get_by_text("You are number 2 in line.")).to_be_visible()
        self.keep(widget.page, "widget-queue")

    def test_phone(self) -> None:
        """On a phone the panel fills the screen."""
        widget = self.shop(ENGLISH, **PHONE)
        self.keep(widget.page, "widget-phone-closed")
        self.talk(widget, self.agent("Alice Martin"), ENGLISH)
        self.keep(widget.page, "widget-phone")

    def test_chinese(self) -> None:
        """The same conversation in Chinese, on a desk and on a phone by night."""
        alice = self.agent(CHINESE["alice"])
        widget = self.shop(CHINESE)
        self.talk(widget, alice, CHINESE)
        self.keep(widget.page, "widget-zh")
        phone = self.shop(CHINESE, **PHONE)
        self.talk(phone, alice, CHINESE)
        self.by_night(phone.page)
        self.keep(phone.page, "widget-phone-zh")
