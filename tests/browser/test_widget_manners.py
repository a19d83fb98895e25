"""The small things: what is offered and when, what the header says, and where the focus is afterwards."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping

from playwright.sync_api import expect

from tests.browser.case import RECORDING
from tests.browser.shop import Agent, Widget, WidgetTestCase
from tests.browser.wire import ServerClock, Wire

LAMP = {"id": "P-1", "title": "Red lamp", "price": 12, "currency": "EUR"}
MUG = {"id": "P-2", "title": "Blue mug"}
HOUR = 3600

Colour = tuple[float, float, float]
"""Red, green and blue, each from 0 to 1."""


class OfferTests(WidgetTestCase):
    def shop_with(self, product: Mapping[str, object]) -> Widget:
        """A shop whose page says at each load which product it shows."""
        page = self.person()
        call = json.dumps(["setContext", {"product": product}])
        page.add_init_script(f"if (top === window) window.chatproto = [{call}]")
        return self.visit(page)

    def test_sent(self) -> None:
        """A product that was sent is not offered again, also after a reload; another one is."""
        alice = self.agent()
        shop = self.shop_with(LAMP).open()
        offer = shop.frame.locator(".offer")
        offer.get_by_role("button", name="Send").click()
        alice.meet()
        expect(offer).to_have_count(0)
        shop.page.reload()
        expect(shop.log.get_by_text("Red lamp")).to_be_visible()
        expect(shop.frame.get_by_role("heading", name="Alice")).to_be_visible()
        expect(offer).to_have_count(0)
        shop.push("setContext", {"product": MUG})
        expect(offer).to_contain_text("Blue mug")
        shop.push("setContext", {"product": LAMP})
        expect(offer).to_have_count(0)

    def test_ended(self) -> None:
        """Nothing is offered while the stars are asked for, and when all is over; with the next message it is again."""
        alice = self.agent()
        shop = self.shop_with(MUG).open()
        offer = shop.frame.locator(".offer")
        shop.write("Hello")
        alice.meet()
        alice.say("Hi")
        expect(shop.bubble("Hi")).to_be_visible()
        expect(offer).to_be_visible()
        alice.ask(32060, gid=alice.gid)
        shop.frame.get_by_role("radio", name="5 stars").check()
        expect(shop.frame.get_by_role("button", name="Send", exact=True)).to_have_count(1)
        expect(offer).to_have_count(0)
        shop.frame.get_by_role("button", name="Not now").click()
        expect(shop.frame.locator(".rate")).to_have_count(0)
        expect(offer).to_have_count(0)
        shop.write("One more thing")
        expect(offer).to_be_visible()


class HeaderTests(WidgetTestCase):
    def test_english(self) -> None:
        """The header says what is true: somebody serves, no connection, the conversation has ended."""
        self.says("en", "We answer as soon as we can", "On line", "Not connected", "This conversation has ended")

    def test_chinese(self) -> None:
        """So it does in Chinese."""
        self.says("zh-CN", "我们会尽快回复您", "在线", "未连接", "本次会话已结束")

    def says(self, lang: str, away: str, here: str, off: str, ended: str) -> None:
        alice = self.agent()
        page = self.person()
        wire = Wire(page)
        shop = self.visit(page, lang=lang).open()
        line, face = shop.frame.locator(".name p"), shop.frame.locator(".face")
        expect(line).to_have_text(away)
        shop.write("Hello")
        expect(line).to_have_text(here)
        expect(face).to_have_class(re.compile("here"))
        wire.go_away()
        expect(line).to_have_text(off)
        expect(face).not_to_have_class(re.compile("here"))
        wire.come_back()
        expect(line).to_have_text(here)
        alice.meet()
        alice.ask(32060, gid=alice.gid)
        expect(line).to_have_text(ended)
        shop.page.reload()
        expect(line).to_have_text(ended)


class FocusTests(WidgetTestCase):
    def talking(self) -> tuple[Widget, Agent]:
        alice = self.agent()
        shop = self.visit(self.person(permissions=["microphone"])).open()
        shop.write("Hello")
        alice.meet()
        alice.say("Hi")
        expect(shop.bubble("Hi")).to_be_visible()
        return shop, alice

    def test_after_rating(self) -> None:
        """Who has rated, or does not want to, goes on at the field; who was elsewhere stays there."""
        shop, alice = self.talking()
        for name in ("Send", "Not now"):
            alice.ask(32060, gid=alice.gid)
            shop.frame.get_by_role("radio", name="5 stars").check()
            shop.frame.locator(".rate").get_by_role("button", name=name).press("Enter")
            expect(shop.frame.locator(".rate")).to_have_count(0)
            expect(shop.box).to_be_focused()
            shop.write(f"After {name}")
            alice.meet()
            alice.say("Yes?")
        alice.ask(32060, gid=alice.gid)
        shop.frame.locator(".rate").wait_for()
        shop.log.focus()
        other = self.visit(self.page(shop.page.context)).open()
        other.write("From another tab")
        expect(shop.frame.locator(".rate")).to_have_count(0)
        self.assertTrue(shop.log.evaluate("(log) => log === document.activeElement"))

    def test_after_recording(self) -> None:
        """Who has sent or thrown away a recording goes on at the field."""
        shop, alice = self.talking()
        for name in ("Discard the recording", "Send the recording"):
            shop.frame.get_by_role("button", name="Record a voice message").press("Enter")
            expect(shop.frame.get_by_role("timer")).to_have_text(RECORDING)
            shop.frame.get_by_role("button", name=name).press("Enter")
            expect(shop.box).to_be_focused()
        alice.push(32399, lambda data: data["message_info"]["file_type"] == 2)


class RecallTests(WidgetTestCase):
    def test_over(self) -> None:
        """The button that takes a message back goes by itself when that may be done no more, by the server's clock."""
        for wrong in (-HOUR, HOUR):
            self.group_id = self.server.daemon.add_group()
            alice = self.agent()
            page = self.person()
            page.clock.install(time=time.time() + wrong)
            clock = ServerClock(page)
            shop = self.visit(page).open()
            shop.write("Hello")
            recall = shop.log.get_by_role("button", name="Recall")
            expect(recall).to_have_count(1)
            alice.meet()
            self.expect_trouble()  # no answer comes within a minute that takes no time
            clock.pass_by(60)
            expect(recall).to_have_count(1)
            clock.pass_by(70)
            expect(recall).to_have_count(0)

    def test_wrong_clock(self) -> None:
        """Also after a reload, a device whose own clock is an hour fast or slow takes back what it may."""
        for wrong in (-HOUR, HOUR):
            self.group_id = self.server.daemon.add_group()
            alice = self.agent()
            page = self.person()
            page.add_init_script(f"const right = Date.now; Date.now = () => right() + ({wrong * 1000})")
            shop = self.visit(page).open()
            shop.write("A mistake")
            alice.meet()
            expect(shop.log.get_by_role("button", name="Recall")).to_have_count(1)
            page.reload()
            shop.log.get_by_role("button", name="Recall").click()
            expect(shop.log.get_by_text("This message was recalled")).to_be_visible()


class BubbleTests(WidgetTestCase):
    def test_dark(self) -> None:
        """By night the bubble stands out from dark pages, from light ones too, and so does its picture from it."""
        for attributes, scheme in (({}, "dark"), ({"theme": "dark"}, "light")):
            shop = self.visit(self.person(color_scheme=scheme), **attributes)
            bubble = self.colour(shop, "backgroundColor")
            for page in ("#fff", "#000", "#121212", "#1e1e1e", "#222831", "#2a303a", "#333"):
                self.assertGreaterEqual(contrast(bubble, rgb(page)), 3, page)
            self.assertGreaterEqual(contrast(bubble, self.colour(shop, "color")), 3)

    def test_light(self) -> None:
        """By day it has the blue of the panel."""
        shop = self.visit(theme="light")
        for found, wanted in zip(self.colour(shop, "backgroundColor"), rgb("#2563eb"), strict=True):
            self.assertLess(abs(found - wanted), 1 / 255)

    def colour(self, shop: Widget, name: str) -> Colour:
        """A colour of the bubble, as the browser computes it."""
        told = shop.launcher.evaluate("(bubble, name) => getComputedStyle(bubble)[name]", name)
        red, green, blue = (float(part) for part in re.findall(r"[\d.]+", told))
        return (red, green, blue) if told.startswith("color(") else (red / 255, green / 255, blue / 255)


def rgb(written: str) -> Colour:
    """#rrggbb or #rgb."""
    digits = written[1:] if len(written) == 7 else "".join(one * 2 for one in written[1:])
    red, green, blue = bytes.fromhex(digits)
    return red / 255, green / 255, blue / 255


def contrast(one: Colour, other: Colour) -> float:
    """As WCAG 2 counts it."""

    def light(colour: Colour) -> float:
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted((light(one), light(other)))
    return (bright + 0.05) / (dark + 0.05)
