"""What the shop's page is told by the widget, and what it tells it: the events and the attributes of docs/widget.md."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.server import wait_until
from tests.browser.shop import WidgetTestCase, shop_origin
from tests.integration.daemon import token


class EventsTests(WidgetTestCase):
    def test_service(self) -> None:
        """From the line to the end: who serves, the state and the place in line, also for who asks late."""
        shop = self.visit()
        shop.listen("state", "queue", "agent")
        shop.open()
        wait_until(lambda: shop.heard("state") == ["new"], "the first state")
        shop.write("Hello?")
        wait_until(lambda: shop.heard("state") == ["new", "queued"], "the line")
        nobody = {"position": 1, "waiting": 1, "admins_online": 0}
        wait_until(lambda: shop.heard("queue")[-1] == nobody, "the place in it")
        alice = self.agent(avatar=f"{shop_origin()}/lamp.svg")
        expect(shop.frame.get_by_role("heading", name="Alice")).to_be_visible()
        wait_until(lambda: shop.heard("state")[-1] == "serving", "the service")
        self.assertIsNone(shop.heard("queue")[-1])
        known = {"aix": alice.admin_id, "name": "Alice", "avatar": f"{shop_origin()}/lamp.svg"}
        self.assertEqual(shop.heard("agent")[-1], known)
        [gid] = alice.ask(32000)["guest_list"]
        bob = self.agent("Bob")
        alice.ask(32400, gid=int(gid), aix=bob.admin_id, note="wants the red one")
        expect(shop.frame.get_by_role("heading", name="Bob")).to_be_visible()
        wait_until(lambda: shop.heard("agent")[-1]["name"] == "Bob", "the other agent")
        bob.ask(32060, gid=int(gid))
        wait_until(lambda: shop.heard("state")[-1] == "ended", "the end")
        self.assertIsNone(shop.heard("agent")[-1])
        self.assertEqual(shop.heard("state"), ["new", "queued", "serving", "ended"])
        shop.listen("ready", "state", "agent", "queue", "open")
        self.assertEqual(
            [shop.heard(name) for name in ("ready", "state", "agent", "queue", "open")],
            [[None], ["ended"], [None], [None], []],
        )

    def test_fails(self) -> None:
        """A function of setUser that fails is told to the page and asked again; the guest is the customer then."""
        alice = self.agent()
        page = self.person()
        page.clock.install()
        shop = self.visit(page)
        shop.listen("error")
        page.evaluate(
            """(token) => {
              window.asked = 0;
              chatproto.push(['setUser', async () => {
                asked += 1;
                if (asked === 1) throw new Error('the shop is down');
                return token;
              }]);
            }""",
            token(sub=f"{self.group_id} gina", name="Gina"),
        )
        shop.open()
        wait_until(lambda: shop.heard("error"), "the error")
        self.assertEqual(shop.heard("error"), [{"code": 0, "message": "Error: the shop is down"}])
        shop.write("Hello")
        expect(shop.log.get_by_text("Sending…")).to_be_visible()
        page.clock.run_for(6000)
        expect(shop.log.get_by_text("Sending…")).to_have_count(0)
        alice.meet()
        self.assertEqual(alice.thread()[0]["sender"]["name"], "Gina")
        self.assertEqual(page.evaluate("asked"), 2)


class AttributesTests(WidgetTestCase):
    def test_open(self) -> None:
        """data-open: it is open from the start, and the page keeps the focus."""
        shop = self.visit(open="true")
        shop.box.wait_for()
        expect(shop.panel).to_be_visible()
        self.assertEqual(shop.page.evaluate("document.activeElement.tagName"), "BODY")

    def test_no_bubble(self) -> None:
        """data-launcher: without a bubble the page opens the panel itself, and shuts it."""
        shop = self.visit(launcher="hidden")
        expect(shop.launcher).to_be_hidden()
        shop.push("open")
        expect(shop.panel).to_be_visible()
        expect(shop.box).to_be_focused()
        expect(shop.launcher).to_be_hidden()
        shop.push("close")
        expect(shop.panel).to_be_hidden()
        shop.push("showLauncher")
        expect(shop.launcher).to_be_visible()

    def test_locale(self) -> None:
        """data-locale: whatever the page's language is; what is no Chinese is English."""
        shop = self.visit(locale="zh-TW", lang="en")
        expect(shop.launcher).to_have_accessible_name("打开客服窗口")
        shop.open()
        expect(shop.frame.get_by_text("有什么可以帮您？")).to_be_visible()
        shop = self.visit(locale="fr", lang="zh")
        expect(shop.launcher).to_have_accessible_name("Open chat")

    def test_connect(self) -> None:
        """data-connect: what an agent writes to a customer who never wrote is counted on the bubble."""
        alice = self.agent()
        sub = f"{self.group_id} hugo"
        page = self.person()
        page.add_init_script(f"window.chatproto = [['setUser', {token(sub=sub, name='Hugo')!r}]]")
        shop = self.visit(page, connect="always")
        wait_until(lambda: page.locator("chatproto-widget section.up").count(), "the connection")
        alice.gid = self.guest("Hugo", sub=sub).gid
        alice.say("Your parcel is here.")
        expect(shop.launcher).to_have_accessible_name("Open chat, 1 unread")
        expect(shop.panel).to_be_hidden()

    def test_theme(self) -> None:
        """data-theme and data-accent: as the page wants it, whatever the system; what is no colour is ours."""
        shop = self.visit(self.person(color_scheme="dark"), theme="light", accent="red;}*{display:none")
        shop.open()
        ground, accent = shop.frame.locator("body").evaluate(
            "(one) => [getComputedStyle(one).backgroundColor, getComputedStyle(one).getPropertyValue('--accent')]"
        )
        self.assertEqual((ground, accent.strip()), ("rgb(255, 255, 255)", "#2563eb"))
        mixed = shop.launcher.evaluate("(one) => getComputedStyle(one).backgroundColor")
        self.assertEqual([round(255 * float(part)) for part in re.findall(r"[\d.]+", mixed)], [37, 99, 235])
        light = self.visit(accent="#ffe066")
        light.open()
        self.assertEqual(light.launcher.evaluate("(one) => getComputedStyle(one).color"), "rgb(17, 17, 17)")
        light.write("Can I read this?")
        own = light.bubble("Can I read this?").locator("xpath=ancestor::div[contains(@class, 'bubble')]")
        self.assertEqual(own.evaluate("(one) => getComputedStyle(one).color"), "rgb(17, 17, 17)")
        expect(light.log.get_by_text("Sending…")).to_have_count(0)
        self.check(light.page)
