"""What the pages say: the same in all languages, and nothing that nobody has put into words."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from chatproto.web.assets import STATIC

FOLDERS = ("shared", "widget")
_ENTRY = re.compile(r"^  (\w+): (.*),$", re.MULTILINE)
_CALL = re.compile(r"\bt\(([^()]*(?:\([^()]*\)[^()]*)*)\)")


def words(folder: str, locale: str) -> dict[str, str]:
    """Key → text as the source has it, of one folder."""
    return dict(_ENTRY.findall((STATIC / folder / f"words.{locale}.js").read_text("utf-8")))


class WordsTests(SynchronousTestCase):
    def test_same_keys(self) -> None:
        """Nobody meets a key or a foreign word in place of a text: each language has all, with the same blanks."""
        for folder in FOLDERS:
            english, chinese = words(folder, "en"), words(folder, "zh-CN")
            self.assertEqual(list(english), list(chinese), folder)
            for key, text in english.items():
                blanks, others = (set(re.findall(r"\{(\w+)\}", one)) for one in (text, chinese[key]))
                self.assertEqual(blanks, others, key)

    def test_used(self) -> None:
        """Every text that the panel asks for is there, and none is there for nothing."""
        sources = [path.read_text("utf-8") for folder in FOLDERS for path in (STATIC / folder).glob("*.js")]
        sources = [text for text in sources if not text.startswith("/*")]  # packed
        asked = {key for text in sources for call in _CALL.findall(text) for key in re.findall(r"'(\w+)'", call)}
        known = words("shared", "en") | words("widget", "en")
        self.assertEqual(asked - set(known), set())
        quoted = {key for text in sources for key in re.findall(r"'(\w+)'", text)}
        self.assertEqual({key for key in words("widget", "en") if key not in quoted}, set())
