"""What the pages say: the same in all languages, and nothing that nobody has put into words."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from chatproto import errors
from chatproto.web.assets import STATIC

PAGES = ("widget", "console")
_ENTRY = re.compile(r"^  '?([\w-]+)'?: (.*),$", re.MULTILINE)
_CALL = re.compile(r"\bt\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
_QUOTED = re.compile(r"(?<!=== )'(\w+)'")
_NAMED = re.compile(r'="(\w+)"')


def words(folder: str, locale: str) -> dict[str, str]:
    """Key → text as the source has it, of one folder."""
    if folder != "console":
        return dict(_ENTRY.findall((STATIC / folder / f"words.{locale}.js").read_text("utf-8")))
    english, chinese = (STATIC / "console/words.js").read_text("utf-8").split("const zh = {")
    return dict(_ENTRY.findall(english if locale == "en" else chinese))


def scripts(*folders: str) -> list[str]:
    """The sources of these folders, without the words themselves and what was packed."""
    found = [path for folder in folders for path in (STATIC / folder).glob("*.js")]
    texts = [path.read_text("utf-8") for path in found if not path.name.startswith("words.")]
    return [text for text in texts if not text.startswith("/*")]


def quoted(texts: list[str]) -> set[str]:
    return {key for text in texts for key in _QUOTED.findall(text)}


class WordsTests(SynchronousTestCase):
    def test_same_keys(self) -> None:
        """Nobody meets a key or a foreign word in place of a text: each language has all, with the same blanks."""
        for folder in ("shared", *PAGES):
            english, chinese = words(folder, "en"), words(folder, "zh-CN")
            self.assertEqual(list(english), list(chinese), folder)
            for key, text in english.items():
                blanks, others = (set(re.findall(r"\{(\w+)\}", one)) for one in (text, chinese[key]))
                self.assertEqual(blanks, others, key)

    def test_used(self) -> None:
        """Every text that a page asks for is there, and none is there for nothing."""
        codes = {f"e{kind.code}" for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")}
        for page in PAGES:
            sources, own = scripts("shared", page), words(page, "en")
            asked = {key for text in sources for call in _CALL.findall(text) for key in _QUOTED.findall(call)}
            self.assertEqual(asked - set(own) - set(words("shared", "en")), set(), page)
            unused = set(own) - quoted(sources)
            self.assertEqual({key for key in unused if key not in codes}, {"e0"} & unused, page)
        # kind1, kind2 … are named by the number of the kind.
        unused = set(words("shared", "en")) - quoted(scripts("shared", *PAGES))
        self.assertEqual({key for key in unused if not re.fullmatch(r"kind\d", key)}, set())

    def test_icons(self) -> None:
        """No page loads the drawing of an icon that it never shows."""
        for folders in (("console", "shared"), ("shared", "widget", "console")):
            icons = re.findall(r"^  (\w+): 'M", (STATIC / folders[0] / "icons.js").read_text("utf-8"), re.MULTILINE)
            self.assertGreater(len(icons), 5)
            sources = scripts(*folders)
            named = {name for text in sources for name in _NAMED.findall(text)}
            self.assertEqual(set(icons) - named - quoted(sources), set(), folders[0])
