"""The widget in the page of a shop: what the page gets, and what it must not notice."""

from __future__ import annotations

import gzip
import json
import os

from playwright.sync_api import expect
from twisted.trial.unittest import SkipTest

from chatproto.web.assets import STATIC, banner, packed_name, stamp
from tests.browser.server import wait_until
from tests.browser.shop import Widget, WidgetTestCase, shop_origin
from tests.integration.daemon import token

LOADER, WIDGET = 4_000, 30_000
"""Bytes, packed (4 and 30 kB of 1,000): what each page of a shop loads, and all that a guest loads."""


class GuestTests(WidgetTestCase):
    def test_three_tabs(self) -> None:
        """Three tabs that are opened at once are one guest."""
        self._three_tabs("")

    def test_three_tabs_on_http(self) -> None:
        """So they are where the browser has no locks, as on pages without https."""
        self._three_tabs("Object.defineProperty(navigator, 'locks', {value: undefined})")

    def _three_tabs(self, script: str) -> None:
        context = self.context()
        context.add_init_script(script)
        pages = [self.page(context) for _ in range(3)]
        address = self.address(open="true")
        for page in pages:
            page.evaluate("(address) => { location.href = address; }", address)
        shops = [Widget(page) for page in pages]
        for number, shop in enumerate(shops):
            shop.box.wait_for()
            shop.write(f"Tab {number}")
        for shop in shops:
            for number in range(3):
                expect(shop.bubble(f"Tab {number}")).to_have_count(1)
        found = self.server.daemon.sql("SELECT count(*) FROM conversation WHERE group_id = %s", self.group_id)
        self.assertEqual(found, [(1,)])

    def test_sign_in(self) -> None:
        """An anonymous guest who signs in keeps the conversation, in all tabs, and the token of before is forgotten."""
        alice = self.agent()
        shop = self.visit().open()
        shop.write("Hello")
        gid = alice.meet()
        other = self.visit(self.page(shop.page.context)).open()
        shop.push("setUser", token(sub=f"{self.group_id} carol", name="Carol"))
        wait_until(lambda: alice.ask(32000)["guest_list"][str(gid)]["name"] == "Carol", "the customer's name")
        shop.write("It is me")
        alice.heard("It is me")
        for one in (shop, other):
            expect(one.bubble("Hello")).to_be_visible()
            expect(one.bubble("It is me")).to_be_visible()
        other.write("From the other tab")
        alice.heard("From the other tab")
        self.assertEqual([one["sender"]["id"] for one in alice.thread()], [gid] * 3)
        self.assertEqual(json.loads(shop.kept()[f"chatproto.{self.group_id}"])["token"], "")

    def test_signed_in(self) -> None:
        """A customer is known from the start; a function is asked for a token whenever one is needed."""
        alice = self.agent()
        page = self.person()
        claims = token(sub=f"{self.group_id} dave", name="Dave")
        page.add_init_script(
            f"window.asked = 0; window.chatproto = [['setUser', async () => {{ asked += 1; return {claims!r}; }}]];"
        )
        shop = self.visit(page).open()
        shop.write("Hello")
        alice.meet()
        self.assertEqual(alice.thread()[0]["sender"]["name"], "Dave")
        self.assertEqual(page.evaluate("window.asked"), 1)

    def test_bad_token(self) -> None:
        """A token that the server refuses is told to the page and the guest; a good one mends it."""
        alice = self.agent()
        shop = self.visit()
        shop.listen("error")
        sub = f"{self.group_id} erin"
        shop.push("setUser", token(sub=sub, secret="of somebody else, and also 32 bytes long"))
        shop.open()
        expect(shop.frame.get_by_text("This conversation cannot be continued here.")).to_be_visible()
        expect(shop.box).to_be_disabled()
        self.assertEqual([one["code"] for one in shop.heard("error")], [-21001])
        shop.push("setUser", token(sub=sub, name="Erin"))
        expect(shop.box).to_be_enabled()
        shop.write("Hello")
        alice.meet()
        self.assertEqual(alice.thread()[0]["sender"]["name"], "Erin")

    def test_sign_out(self) -> None:
        """A customer who signs out of the shop in one tab has signed out of the chat in all."""
        self.agent()
        page = self.person()
        customer = token(sub=f"{self.group_id} frank", name="Frank")
        page.context.add_init_script(f"window.chatproto = [['setUser', {customer!r}]]")
        shops = [self.visit(page).open(), self.visit(self.page(page.context)).open()]
        shops[0].write("Private")
        expect(shops[1].bubble("Private")).to_be_visible()
        shops[0].push("reset")
        for shop in shops:
            expect(shop.panel).to_be_hidden()
            expect(shop.page.locator("chatproto-widget iframe")).to_have_count(0)

    def test_reset(self) -> None:
        """After reset nobody finds the conversation in this browser, in no tab, and the next guest is another one."""
        alice = self.agent()
        shop = self.visit().open()
        shop.write("Private")
        first = alice.meet()
        other = self.visit(self.page(shop.page.context)).open()
        expect(other.bubble("Private")).to_be_visible()
        shop.push("reset")
        expect(other.panel).to_be_hidden()
        expect(shop.page.locator("chatproto-widget iframe")).to_have_count(0)
        wait_until(lambda: not any(name.startswith("chatproto") for name in shop.kept()), "nothing that is kept")
        shop.open()
        shop.write("Somebody else")
        self.assertNotEqual(alice.meet(), first)
        expect(shop.bubble("Private")).to_have_count(0)


class PageTests(WidgetTestCase):
    def test_keyboard(self) -> None:
        """The keyboard opens it, writes, and shuts it with Escape; then the focus is where it was."""
        self.agent()
        shop = self.visit()
        shop.page.keyboard.press("Tab")
        shop.page.keyboard.press("Tab")
        expect(shop.launcher).to_be_focused()
        shop.page.keyboard.press("Enter")
        expect(shop.box).to_be_focused()
        self.assertEqual(shop.panel.get_attribute("role"), "dialog")
        shop.page.keyboard.type("By keyboard")
        shop.page.keyboard.press("Enter")
        expect(shop.bubble("By keyboard")).to_be_visible()
        shop.page.keyboard.press("Escape")
        expect(shop.panel).to_be_hidden()
        expect(shop.launcher).to_be_focused()
        shop.page.get_by_role("button", name="Buy").focus()
        shop.push("open")
        expect(shop.box).to_be_focused()
        shop.page.keyboard.press("Escape")
        expect(shop.page.get_by_role("button", name="Buy")).to_be_focused()

    def test_sdk_before(self) -> None:
        """What a page pushes before the widget is there happens when it is."""
        alice = self.agent()
        page = self.person()
        page.add_init_script(
            "window.heard = []; window.chatproto = window.chatproto || [];"
            "for (const name of ['ready', 'open', 'sent', 'agent', 'state'])"
            "  chatproto.push(['on', name, (detail) => heard.push([name, detail])]);"
            "chatproto.push(['setLocale', 'zh-CN'], ['sendProduct', {id: 'P-1', title: 'Lamp'}], ['open']);"
        )
        shop = self.visit(page)
        expect(shop.frame.get_by_placeholder("输入消息…")).to_be_visible()
        alice.meet()
        wait_until(lambda: shop.heard("agent") and shop.heard("agent")[-1], "the agent")
        self.assertEqual([len(shop.heard(name)) for name in ("ready", "open", "sent")], [1, 1, 1])
        self.assertEqual(shop.heard("sent")[0]["msg"], {"id": "P-1", "title": "Lamp"})
        self.assertEqual(shop.heard("agent")[-1]["name"], "Alice")

    def test_sdk_after(self) -> None:
        """The commands and the events of the SDK, on a page that is there already."""
        alice = self.agent()
        shop = self.visit()
        shop.listen("ready", "open", "close", "message", "sent", "unread", "agent", "state", "queue", "error", "reset")
        self.assertEqual(len(shop.heard("ready")), 1)
        shop.push("hideLauncher")
        expect(shop.launcher).to_be_hidden()
        shop.push("sendOrder", {"id": "A-7", "total": 5, "currency": "EUR"})
        alice.meet()
        expect(shop.panel).to_be_hidden()
        alice.say("Your order is on its way.")
        wait_until(lambda: shop.heard("message"), "the message")
        wait_until(lambda: shop.heard("unread")[-1:] == [1], "the count")
        shop.push("toggle")
        expect(shop.bubble("Your order is on its way.")).to_be_visible()
        wait_until(lambda: shop.heard("unread")[-1:] == [0], "that it was read")
        shop.push("close")
        shop.push("showLauncher")
        expect(shop.launcher).to_be_visible()
        alice.ask(32060, gid=alice.gid)
        wait_until(lambda: shop.heard("state")[-1:] == ["ended"], "the end")
        self.assertEqual([one["msg"] for one in shop.heard("message")], ["Your order is on its way."])
        self.assertEqual(
            [shop.heard("sent")[0]["file_type"], len(shop.heard("open")), len(shop.heard("close"))], [4, 1, 1]
        )
        shop.push("setContext", {"product": {"id": "x" * 5000}})
        wait_until(lambda: shop.heard("error"), "the error")
        self.assertEqual(shop.heard("error")[0]["code"], -9998)
        shop.push("reset")
        self.assertEqual(len(shop.heard("reset")), 1)

    def test_unknown_command(self) -> None:
        """A command that there is not is named in the console, and hinders no other."""
        shop = self.visit()
        self.expect_trouble('there is no "opne"')
        shop.page.evaluate("chatproto.push(['opne'], ['open'])")
        shop.box.wait_for()

    def test_destroy(self) -> None:
        """After destroy nothing of the widget is left in the page, and it may be loaded anew."""
        shop = self.visit()
        before = "Object.keys(window).filter((name) => name !== 'heard').length"
        names = shop.page.evaluate(before)
        shop.open()
        shop.push("destroy")
        self.assertEqual(shop.page.evaluate("document.querySelectorAll('chatproto-widget, iframe').length"), 0)
        self.assertEqual(shop.page.evaluate(before), names - 1)
        self.assertEqual(shop.page.evaluate("typeof window.chatproto"), "undefined")
        shop.page.evaluate("window.dispatchEvent(new StorageEvent('storage', {key: null}))")
        self.assertEqual(shop.page.evaluate("sessionStorage.length"), 0)
        shop.page.reload()
        expect(shop.panel).to_be_hidden()
        shop.open()

    def test_idle(self) -> None:
        """A page whose chat nobody opens loads the loader only, and asks the chat's server for nothing else."""
        page = self.person()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        self.visit(page, launcher="visible")
        page.wait_for_load_state("networkidle")
        self.assertEqual([url for url in asked if url.startswith(self.chat)], [f"{self.chat}/widget.js"])
        self.assertEqual(page.evaluate("localStorage.length"), 0)

    def test_sizes(self) -> None:
        """What a shop's page loads is small, and so is what a guest loads, in either language."""

        if not (STATIC / packed_name("widget/frame.js")).read_bytes().startswith(banner(stamp(STATIC))):
            if os.environ.get("CI"):
                self.fail("the pages are not packed")
            raise SkipTest("the sources have changed since: python setup.py build_ui --inplace")

        def packed(*names: str) -> int:
            return sum(len(gzip.compress((STATIC / name).read_bytes(), 9)) for name in names)

        loader = packed_name("widget/loader.js")
        self.assertLessEqual(packed(loader), LOADER)
        for locale in ("en", "zh-CN"):
            scripts = [packed_name(f"widget/{name}.js") for name in ("loader", "frame", f"words.{locale}")]
            self.assertLessEqual(packed(*scripts, packed_name("widget/frame.css"), "widget/frame.html"), WIDGET)

    def test_no_tokens_in_addresses(self) -> None:
        """Neither the guest's nor the shop's token is in an address or in a cookie."""
        page = self.person()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        shop = self.visit(page).open()
        shop.write("Hello")
        expect(shop.log.get_by_text("Sending…")).to_be_hidden()
        kept = json.loads(shop.kept()[f"chatproto.{self.group_id}"])["token"]
        self.assertGreater(len(kept), 40)
        self.assertEqual([url for url in asked if kept in url], [])
        self.assertEqual(page.context.cookies(), [])


class LookTests(WidgetTestCase):
    def _talk(self, shop: Widget) -> None:
        alice = self.agent(avatar=f"{shop_origin()}/lamp.svg")
        shop.open()
        shop.write("Is the red one in stock?")
        alice.meet()
        alice.say("Yes, two are left: https://shop.example/p/7")
        alice.say(
            {"id": "P-1", "title": "Red lamp", "price": 129, "currency": "EUR", "image": f"{shop_origin()}/lamp.svg"}, 3
        )
        alice.say(
            {"id": "20261118", "status": "On its way", "total": 217, "currency": "EUR", "items": [{"title": "Lamp"}]}, 4
        )
        expect(shop.log.get_by_text("On its way", exact=False)).to_be_visible()
        expect(shop.frame.locator("header img")).to_have_js_property("naturalWidth", 40)

    def test_accessible(self) -> None:
        """Nothing in the panel keeps out who cannot see or point, in light and in dark."""
        for scheme in ("light", "dark"):
            shop = self.visit(self.person(color_scheme=scheme))
            self._talk(shop)
            self.picture(shop.page, f"widget-{scheme}")
            self.check(shop.page)

    def test_phone(self) -> None:
        """On a phone the panel fills the screen, nothing zooms, and a tap shuts it."""
        shop = self.visit(self.person(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True))
        self._talk(shop)
        self.assertEqual(shop.panel.bounding_box(), {"x": 0, "y": 0, "width": 390, "height": 844})
        self.assertGreaterEqual(float(shop.box.evaluate("(box) => parseFloat(getComputedStyle(box).fontSize)")), 16)
        self.picture(shop.page, "widget-phone")
        expect(shop.launcher).to_be_hidden()
        shop.frame.get_by_role("button", name="Close chat").tap()
        expect(shop.panel).to_be_hidden()
        expect(shop.launcher).to_be_visible()

    def test_attributes(self) -> None:
        """Accent, side, theme and words come from attributes of the script tag."""
        shop = self.visit(accent="#7a1fa2", position="left", theme="dark", title="Lamp & Co", greeting="Ask us")
        box = shop.launcher.bounding_box()
        assert box is not None
        self.assertLess(box["x"], 100)
        shop.open()
        self.assertEqual(shop.launcher.evaluate("(one) => getComputedStyle(one).backgroundColor"), "rgb(122, 31, 162)")
        self.assertEqual(shop.frame.locator("body").evaluate("(one) => getComputedStyle(one).colorScheme"), "dark")
        expect(shop.frame.get_by_role("heading", name="Lamp & Co")).to_be_visible()
        expect(shop.frame.get_by_role("heading", name="Ask us")).to_be_visible()
        self.picture(shop.page, "widget-own")
