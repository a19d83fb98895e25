"""What a shop's page that means harm, or was broken into, can make of the panel."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.case import BrowserTestCase

# Structured clones keep what JSON cannot say: a member that is there and undefined, by which Preact knows its own.
_SPEAK = """async () => {
  const element = (type, props) => ({ type, props, constructor: undefined, __v: 0, __i: -1, __u: 0 });
  const frame = document.createElement('iframe');
  frame.src = '/frame';
  document.body.append(frame);
  await new Promise((done) => { frame.onload = done; });
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = ({ data: [name] }) => name === 'login' && port1.postMessage(['credentials']);
  const chatproto = {
    locale: 'en', group: GROUP, context: {}, mark: {}, outbox: {},
    title: element('marquee', { children: 'forged' }),
    greeting: element('marquee', { dangerouslySetInnerHTML: { __html: '<form>forged</form>' } }),
  };
  frame.contentWindow.postMessage({ chatproto }, '*', [port2]);
}"""


class ElementsTests(BrowserTestCase):
    def test_no_elements(self) -> None:
        """What it says to the panel is text there: it brings no elements onto the origin of the agents' console."""
        page = self.person()
        page.goto(f"{self.origin}/console/")
        page.evaluate(_SPEAK.replace("GROUP", str(self.group_id)))
        panel = page.frame_locator("iframe")
        expect(panel.get_by_role("textbox")).to_be_visible()
        expect(panel.locator(".hello")).to_be_visible()
        expect(panel.locator("marquee")).to_have_count(0)


# The page's own panel is up; then it is told to begin anew, by another port, as by a script that came later.
_SPEAK_AGAIN = """async () => {
  const { port1, port2 } = new MessageChannel();
  window.heard = [];
  port1.onmessage = ({ data }) => heard.push(data);
  const chatproto = { locale: 'zh-CN', context: {}, mark: {}, outbox: {} };
  document.querySelector('iframe').contentWindow.postMessage({ chatproto }, '*', [port2]);
}"""


class PortTests(BrowserTestCase):
    def test_once(self) -> None:
        """Only the first port that is handed over is one to which the panel speaks, and which it obeys."""
        page = self.person()
        page.goto(f"{self.origin}/console/")
        page.evaluate(_SPEAK.replace("GROUP", str(self.group_id)))
        box = page.frame_locator("iframe").get_by_role("textbox", name="Message")
        box.fill("Hello")
        page.evaluate(_SPEAK_AGAIN)
        box.press("Enter")
        expect(page.frame_locator("iframe").get_by_role("log").get_by_text("Hello")).to_be_visible()
        expect(box).to_have_attribute("placeholder", "Write a message…")
        self.assertEqual(page.evaluate("heard"), [])
