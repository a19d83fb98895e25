"""The pages: what they say of commands, codes and options is what there is, their links lead somewhere, their examples
can be read."""

from __future__ import annotations

import argparse
import configparser
import json
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from chatproto import errors
from chatproto.cli.grammar import parser
from chatproto.commands import admin, guest, session
from chatproto.commands.table import TABLE
from chatproto.config import CONFIG_FILE, OPTIONS, Option
from chatproto.wire import codes
from chatproto.wire.frame import parse
from tests.test_layers import ROOMS

ROOT = Path(__file__).resolve().parent.parent
README, README_ZH, PROTOCOL = ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "docs" / "protocol.md"
OPERATIONS, ARCHITECTURE = ROOT / "docs" / "operations.md", ROOT / "docs" / "architecture.md"
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))

BEGIN, END = "<!-- options: ", "<!-- /options -->"

# Importing them fills the table.
COMMANDS = (admin, guest, session)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def values(text: str) -> Iterator[object]:
    """The JSON values that stand one after another in a text."""
    decoder, at = json.JSONDecoder(), 0
    while rest := text[at:].lstrip():
        at = len(text) - len(rest)
        value, at = decoder.raw_decode(text, at)
        yield value


def anchors(page: Path) -> set[str]:
    """What links may name in a page, made of its headings as GitHub does."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def choices(of: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The sub-commands of a parser."""
    return {
        name: below
        for action in of._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, below in action.choices.items()
    }


def subclasses(of: type[errors.ChatError]) -> Iterator[type[errors.ChatError]]:
    for one in of.__subclasses__():
        yield one
        yield from subclasses(one)


class ReadmeTests(SynchronousTestCase):
    def test_first_block_runs_the_demo(self) -> None:
        """Whoever pastes the first block has a running server in an environment of its own."""
        first = blocks(README, "sh")[0]
        self.assertIn("python3 -m venv .venv", first)
        self.assertIn("twistd -n chatproto --demo", first)

    def test_second_block_runs_the_tests(self) -> None:
        """Whoever pastes the second block has run the tests, with what they need."""
        second = blocks(README, "sh")[1]
        self.assertIn(".[test]", second)
        self.assertIn("-m twisted.trial -j2 tests", second)

    def test_both_languages_say_the_same(self) -> None:
        """Readers of Chinese paste the same commands and follow the same conversation."""
        self.assertEqual(blocks(README, "sh"), blocks(README_ZH, "sh"))
        told, told_zh = ("".join(blocks(page, "json")) for page in (README, README_ZH))
        self.assertEqual(
            re.findall(r'"(?:api_key|code)": -?\d+', told), re.findall(r'"(?:api_key|code)": -?\d+', told_zh)
        )
        # Of some pictures there is one in each language.
        links, links_zh = (re.findall(r"\]\((docs/[^)]+)\)", page.read_text("utf-8")) for page in (README, README_ZH))
        self.assertEqual(links, [link.replace("-zh.png", ".png") for link in links_zh])

    def test_conversation_is_of_commands(self) -> None:
        """Every line to paste is a frame that the server takes, of a command that it knows."""
        lines = [line for block in blocks(README, "json") for line in block.splitlines() if '"code"' not in line]
        self.assertGreater(len(lines), 7)
        for line in lines:
            self.assertIn(parse(line.encode()).api_key, TABLE)


class PagesTests(SynchronousTestCase):
    def test_links(self) -> None:
        """No link of a page leads nowhere."""
        dead = []
        for page in PAGES:
            for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
                path, _, fragment = target.partition("#")
                if re.match(r"[a-z]+:", target):
                    continue
                file = (page.parent / path).resolve() if path else page
                if not file.exists() or (fragment and fragment not in anchors(file)):
                    dead.append(f"{page.name}: {target}")
        self.assertEqual([], dead)

    def test_json(self) -> None:
        """Every JSON example can be pasted."""
        seen = 0
        for page in PAGES:
            for block in blocks(page, "json"):
                with self.subTest(page=page.name, block=block):
                    seen += sum(isinstance(value, dict) for value in values(block))
        self.assertGreater(seen, 20)

    def test_modules(self) -> None:
        """A module that the architecture names is there."""
        named = set(
            re.findall(r"`((?:chatproto|tests|bench|twisted)/[\w./-]+\.(?:py|sql))`", ARCHITECTURE.read_text("utf-8"))
        )
        self.assertGreater(len(named), 20)
        self.assertEqual([], sorted(path for path in named if not (ROOT / path).exists()))

    def test_rooms(self) -> None:
        """The table of imports is the one that is kept."""
        table = ARCHITECTURE.read_text("utf-8").partition("| room | imports |")[2].partition("\n\n")[0]
        shown = {}
        for row in re.findall(r"^\| `(\w+)` \| (.*)\|$", table, re.MULTILINE):
            shown[row[0]] = None if "everything" in row[1] else set(re.findall(r"`(\w+)`", row[1]))
        there = {path.stem for path in (ROOT / "chatproto").iterdir()}
        self.assertEqual({room: may for room, may in ROOMS.items() if room in there}, shown)


class ProtocolTests(SynchronousTestCase):
    """docs/protocol.md against the command table and the errors."""

    text = PROTOCOL.read_text("utf-8")

    def test_commands(self) -> None:
        """Each command and each push has its section and its row, and there are no others."""
        self.assertEqual(codes.ADMIN_COMMANDS | codes.GUEST_COMMANDS, set(TABLE))
        expected = {codes.HEARTBEAT} | set(TABLE) | codes.ADMIN_PUSHES | codes.GUEST_PUSHES
        sections = [int(number) for number in re.findall(r"^### (\d+) ", self.text, re.MULTILINE)]
        rows = [int(number) for number in re.findall(r"^\| (\d+) \| .*\| (?:given|2) \|$", self.text, re.MULTILINE)]
        self.assertEqual(sorted(expected), sorted(sections))
        self.assertEqual(sorted(expected), rows)

    def test_given_pushes(self) -> None:
        """What is marked as given is what clients of the given document get."""
        given = {int(number) for number in re.findall(r"^\| (\d+) \| → .*\| given \|$", self.text, re.MULTILINE)}
        self.assertEqual(codes.GIVEN_PUSHES, given)

    def test_errors(self) -> None:
        """Each error code has its row, and there are no others."""
        rows = [int(code) for code in re.findall(r"^\| (-\d+) \|", self.text, re.MULTILINE)]
        self.assertEqual(
            sorted({one.code for one in subclasses(errors.ChatError) if hasattr(one, "code")}), sorted(rows)
        )

    def test_errors_stand_at_their_commands(self) -> None:
        """The section of a command names the errors of its own."""
        parts = re.split(r"^##+ (\d+ )?.*$", self.text, flags=re.MULTILINE)
        sections = {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True) if number}
        for error in subclasses(errors.ChatError):
            command = -error.code // 100 * 100
            if command >= 20000:
                owner = max(number for number in TABLE if number < -error.code)
                self.assertIn(str(error.code), sections[owner], f"{error.__name__} of {command}")

    def test_close_codes(self) -> None:
        """Each close code of ours has its row."""
        table = self.text.partition("## Close codes")[2].partition("\n## ")[0]
        rows = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in row.split(",")}
        ours = {value for name, value in vars(codes).items() if name.startswith("CLOSE_")}
        self.assertEqual(set(), ours - rows)


def option_row(option: Option) -> str:
    """As docs/operations.md has it."""
    name = f"`--{option.name}`" if option.flag else f"`--{option.name}` {option.kind.metavar}"
    default = option.default if " " in option.default else f"`{option.default}`"
    again = " May repeat." if option.repeats else ""
    return f"| {name} | {default} | {option.help}{again} |".replace("yes|no", "yes\\|no")


def option_table() -> str:
    lines = []
    for group in dict.fromkeys(option.group for option in (*OPTIONS, CONFIG_FILE)):
        lines += ["", f"| {group} | default | |", "|---|---|---|"]
        lines += [option_row(option) for option in (*OPTIONS, CONFIG_FILE) if option.group == group]
    return "\n".join([*lines, "", ""])


class OperationsTests(SynchronousTestCase):
    text = OPERATIONS.read_text("utf-8")

    def test_options(self) -> None:
        """Each option has its row, with its default; what should stand there is printed where it does not."""
        found = self.text.partition(BEGIN)[2].partition("-->\n")[2].partition(END)[0]
        if found != option_table():
            raise self.failureException(f"between the option marks of {OPERATIONS} should stand:\n{option_table()}")

    def test_command_line(self) -> None:
        """Each command that the page names exists, with its arguments, and none is left out."""
        rows = re.findall(r"^\| `chatproto ([^`]+)` \|", self.text, re.MULTILINE)
        for row in rows:
            values = re.sub(r"\b(ID|GID|N)\b", "1", row).split()
            self.assertTrue(callable(parser().parse_args(values).run), row)
        there = set()
        for noun, below in choices(parser()).items():
            there |= {f"{noun} {verb}" for verb in choices(below)} or {noun}
        self.assertEqual(there, {" ".join(word for word in row.split()[:2]) for row in rows})

    def test_dependencies(self) -> None:
        """Each package that is installed with the server has a row that says what for, and there are no others."""
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        needed = {re.split(r"[^\w-]", line)[0] for line in setup["options"]["install_requires"].split()}
        table = self.text.partition("## Dependencies")[2].partition("\n## ")[0]
        self.assertEqual(needed, set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)))
