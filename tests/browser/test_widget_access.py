"""The panel for everybody: with a finger, with the keyboard alone, for who cannot see, and with nothing that jumps."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.case import RECORDING
from tests.browser.server import wait_until
from tests.browser.shop import Agent, Widget, WidgetTestCase, shop_origin
from tests.browser.test_files import png
from tests.browser.test_quality import PHONE

STEADY = 0.01
"""The most that may jump while a panel loads: the browser's own score (layout-shift: how much of the window, how far).
Of a page 0.1 counts as good; here the size of everything is known before, so that nothing has to move."""

# In the page and in the frame, from the start. The first loads at its own pace, after no click: all of it counts.
_WATCH = """
window.shifted = [];
new PerformanceObserver((list) => {
  for (const {value, sources} of list.getEntries()) {
    window.shifted.push([value, sources.map(({node}) => (node?.className ?? '') + node?.nodeName).join(' ')]);
  }
}).observe({type: 'layout-shift', buffered: true});
"""


class FluidTests(WidgetTestCase):
    def test_loading(self) -> None:
        """Nothing jumps while a panel loads a long conversation with pictures and cards."""
        alice = self.agent(avatar=f"{shop_origin()}/lamp.svg")
        shop = self.visit(lang="zh-CN").open()
        shop.frame.locator("input[type=file]").set_input_files(
            {"name": "lamp.png", "mimeType": "image/png", "buffer": png(300, 400)}
        )
        alice.meet()
        picture = alice.thread()[0]["msg"]
        for number in range(30):
            alice.say(f"第 {number} 行")
        alice.say(picture, 1)
        alice.say({"id": "P-1", "title": "Red lamp", "price": 9, "image": f"{shop_origin()}/lamp.svg"}, 3)
        alice.say("最后一行")
        expect(shop.bubble("最后一行")).to_be_visible()
        shop.page.context.add_init_script(_WATCH)
        shop.page.reload()
        expect(shop.bubble("最后一行")).to_be_in_viewport()
        expect(shop.log.locator(".picture img").last).to_have_js_property("complete", True)
        expect(shop.frame.locator("header img")).to_have_js_property("naturalWidth", 40)
        # Two frames later everything is painted, and told.
        for frame in shop.page.frames:
            frame.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            shifted = frame.evaluate("window.shifted")
            self.assertLessEqual(sum(value for value, _ in shifted), STEADY, shifted)


class PhoneTests(WidgetTestCase):
    def test_taps(self) -> None:
        """With a finger alone: open, write, send a picture and a voice message, take back, end, rate, and shut."""
        alice = self.agent()
        shop = self.visit(self.person(**PHONE, permissions=["microphone"]))
        shop.launcher.tap()
        expect(shop.panel).to_be_visible()
        shop.box.tap()
        shop.page.keyboard.type("Hello")
        self.tap(shop, "Send")
        alice.meet()
        with shop.page.expect_file_chooser() as choosing:
            self.tap(shop, "Attach a file")
        choosing.value.set_files({"name": "lamp.png", "mimeType": "image/png", "buffer": png()})
        alice.push(32399, lambda data: data["message_info"]["file_type"] == 1)
        self.tap(shop, "Record a voice message")
        expect(shop.frame.get_by_role("timer")).to_have_text(RECORDING)
        self.tap(shop, "Send the recording")
        alice.push(32399, lambda data: data["message_info"]["file_type"] == 2)
        expect(shop.log.get_by_text("Sending…")).to_have_count(0)
        shop.log.get_by_role("button", name="Recall").first.tap()
        expect(shop.log.get_by_text("This message was recalled")).to_be_visible()
        alice.say("Anything else?")
        expect(shop.bubble("Anything else?")).to_be_visible()
        self.picture(shop.page, "widget-phone-kinds")
        self.fits(shop)
        self.tap(shop, "End conversation")
        self.picture(shop.page, "widget-phone-end")
        self.tap(shop, "End it")
        shop.frame.get_by_role("radio", name="5 stars").tap()
        self.picture(shop.page, "widget-phone-rating")
        self.fits(shop)
        self.check(shop.page)
        shop.frame.locator(".rate").get_by_role("button", name="Send").tap()
        expect(shop.frame.get_by_text("Thank you!")).to_be_visible()
        self.tap(shop, "Close chat")
        expect(shop.panel).to_be_hidden()

    def test_ring(self) -> None:
        """After a tap no frame is around the messages, where the focus is; who comes there by keys sees one."""
        shop = self.visit(self.person(**PHONE))
        shop.launcher.tap()
        expect(shop.log).to_be_focused()
        expect(shop.log).to_have_css("outline-style", "none")
        shop.page.keyboard.press("Tab")
        shop.page.keyboard.press("Shift+Tab")
        expect(shop.log).to_be_focused()
        expect(shop.log).to_have_css("outline-style", "solid")

    def tap(self, shop: Widget, name: str) -> None:
        """A button in the panel; it must be large enough for a finger (24 px, WCAG 2.5.8)."""
        button = shop.frame.get_by_role("button", name=name)
        box = button.bounding_box()
        assert box is not None
        self.assertGreaterEqual(min(box["width"], box["height"]), 24, name)
        button.tap()

    def fits(self, shop: Widget) -> None:
        """Nothing is wider than the screen."""
        self.assertEqual(shop.frame.locator("html").evaluate("({scrollWidth}) => scrollWidth"), 390)
        self.assertEqual(shop.log.evaluate("({scrollWidth, clientWidth}) => scrollWidth - clientWidth"), 0)


class KeyboardTests(WidgetTestCase):
    def test_alone(self) -> None:
        """Without a mouse: open, write, attach, take back, end, rate and shut; what has the focus shows it."""
        alice = self.agent()
        shop = self.visit()
        press = shop.page.keyboard.press
        press("Tab")
        press("Tab")
        press("Enter")
        expect(shop.box).to_be_focused()
        shop.page.keyboard.type("One")
        press("Shift+Enter")
        shop.page.keyboard.type("Two")
        press("Enter")
        alice.meet()
        self.assertEqual(alice.thread()[0]["msg"], "One\nTwo")
        self.tab_to(shop, "Attach a file", "Shift+Tab")
        with shop.page.expect_file_chooser() as choosing:
            press("Enter")
        choosing.value.set_files({"name": "lamp.png", "mimeType": "image/png", "buffer": png()})
        alice.push(32399, lambda data: data["message_info"]["file_type"] == 1)
        expect(shop.log.locator(".picture img")).to_be_visible()
        alice.say("Nice")
        expect(shop.bubble("Nice")).to_be_visible()
        self.tab_to(shop, "Recall", "Shift+Tab")
        press("Enter")
        expect(shop.log.get_by_text("This message was recalled")).to_be_visible()
        self.tab_to(shop, "End conversation", "Shift+Tab")
        press("Enter")
        expect(shop.frame.get_by_role("button", name="End it")).to_be_focused()
        press("Enter")
        expect(shop.log).to_be_focused()
        shop.frame.get_by_role("radio", name="1 star").wait_for()
        self.tab_to(shop, "star")
        press("ArrowRight")
        self.tab_to(shop, "Anything to add? (optional)")
        shop.page.keyboard.type("Quick")
        self.tab_to(shop, "Send")
        press("Enter")
        expect(shop.frame.get_by_text("Thank you!")).to_be_visible()
        found = self.server.daemon.sql("SELECT score > 0, score_text FROM service WHERE admin_id = %s", alice.admin_id)
        self.assertEqual(found, [(True, "Quick")])
        press("Escape")
        expect(shop.panel).to_be_hidden()
        expect(shop.launcher).to_be_focused()

    def tab_to(self, shop: Widget, name: str, key: str = "Tab") -> None:
        """Press Tab until what has this name has the focus, and shows it."""
        frame = shop.page.frames[-1]
        for _ in range(25):
            frame.evaluate("() => { window.before = document.activeElement; }")
            shop.page.keyboard.press(key)
            # The frame is a process of its own, which hears of the key later.
            frame.wait_for_function("document.activeElement !== window.before")
            named, outline = frame.evaluate(
                """() => {
                  const {ariaLabel, innerText, type, parentElement} = document.activeElement;
                  const shown = type === 'radio' ? parentElement : document.activeElement;
                  return [ariaLabel || innerText || '', getComputedStyle(shown).outlineStyle];
                }"""
            )
            if name in named[:30]:
                self.assertNotEqual(outline, "none", name)
                return
        self.fail(f"{key} never comes to {name}")


class StatesTests(WidgetTestCase):
    def test_english(self) -> None:
        """Nothing keeps anybody out: in the line, asked whether to end, rating, and at the end."""
        self.states(self.visit(lang="en"), ("End conversation", "Record a voice message", "Send", "4 stars"))

    def test_chinese(self) -> None:
        """Neither in Chinese, in dark colours."""
        names = ("结束会话", "录制语音消息", "发送", "4 星")
        self.states(self.visit(self.person(color_scheme="dark"), lang="zh-CN"), names)

    def states(self, shop: Widget, names: tuple[str, ...]) -> None:
        end, record, send, stars = names
        page = shop.page
        shop.open()
        self.look(page, "empty")
        shop.write("Hello? 你好")
        expect(shop.frame.locator(".bar")).to_be_visible()
        self.look(page, "nobody")
        alice = self.agent(capacity=0)
        wait_until(lambda: alice.ask(32000), "the agent")
        self.look(page, "queue")
        alice.close()
        bob = self.agent("Bob")
        expect(shop.frame.get_by_role("heading", name="Bob")).to_be_visible()
        self.talk(shop, bob)
        bob.ask(32330, gid=bob.gid)
        expect(shop.frame.locator(".typing")).to_be_visible()
        self.look(page, "all")
        shop.frame.get_by_role("button", name=record).click()
        expect(shop.frame.get_by_role("timer")).to_be_visible()
        self.look(page, "recording")
        shop.frame.locator(".recording button").first.click()
        shop.frame.get_by_role("button", name=end).click()
        self.look(page, "ending")
        shop.frame.locator(".bar .strong").click()
        shop.frame.get_by_role("radio", name=stars).check()
        self.look(page, "rating")
        shop.frame.locator(".rate").get_by_role("button", name=send).click()
        expect(shop.frame.locator(".rate")).to_have_count(0)
        self.look(page, "ended")

    def talk(self, shop: Widget, bob: Agent) -> None:
        """Of all kinds something."""
        [bob.gid] = map(int, bob.ask(32000)["guest_list"])
        shop.frame.locator("input[type=file]").set_input_files(
            {"name": "lamp.png", "mimeType": "image/png", "buffer": png()}
        )
        picture = bob.push(32399, lambda data: data["message_info"]["file_type"] == 1)["message_info"]["msg"]
        bob.say({"url": picture["url"], "duration_ms": 7000}, 2)
        bob.say({"id": "P-1", "title": "Red lamp", "price": 129, "currency": "EUR"}, 3)
        bob.say({"id": "20261118", "status": "On its way", "total": 217, "currency": "EUR"}, 4)
        bob.say({"url": f"{shop_origin()}/bill.pdf", "name": "bill.pdf", "size": 31000}, 6)
        expect(shop.log.get_by_text("bill.pdf")).to_be_visible()
        shop.log.locator(".mine .line").first.hover()

    def look(self, page: Page, name: str) -> None:
        self.picture(page, f"state-{page.locator('html').get_attribute('lang')}-{name}")
        self.check(page)
