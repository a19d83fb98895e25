"""The command line: what it prints, where, and how it exits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

import chatproto
from chatproto.cli import entry as cli
from chatproto.cli import grammar
from chatproto.cli.tables import table
from chatproto.cli.verbs import Answer
from chatproto.config import OPTIONS, Config
from chatproto.domain.passwords import matches
from chatproto.domain.tokens import load_keyring
from chatproto.embedded import EmbeddedPostgres
from chatproto.embedded.directory import servers_in
from chatproto.errors import AdminIdMissing, ConfigurationError
from chatproto.services.operator import Refused
from tests.database import FAST, DatabaseTestCase, execute, scratch
from tests.worlds import new_conversation, new_customer

COMMANDS = (
    ["group", "add"],
    ["group", "list"],
    ["group", "ban"],
    ["group", "unban"],
    ["admin", "add"],
    ["admin", "list"],
    ["admin", "ban"],
    ["admin", "unban"],
    ["admin", "capacity"],
    ["admin", "move"],
    ["admin", "password"],
    ["guest", "ban"],
    ["guest", "unban"],
    ["guest", "show"],
    ["token", "admin"],
    ["token", "guest"],
    ["doctor"],
)


def parsed(arguments: Sequence[str]) -> tuple[int, str, str]:
    """Exit code (-1: it would run), stdout and stderr of the parser alone."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            grammar.parser().parse_args(arguments)
        except SystemExit as exit_:
            return int(exit_.code or 0), out.getvalue(), err.getvalue()
    return -1, out.getvalue(), err.getvalue()


class GrammarTests(SynchronousTestCase):
    def test_help(self) -> None:
        """Every command explains itself, with the options of the daemon that matter to it."""
        for command in ([], ["group"], ["admin"], ["guest"], ["token"], *COMMANDS):
            code, out, err = parsed([*command, "--help"])
            self.assertEqual((0, ""), (code, err), command)
            for word in ("--json", "--config", "--data", "--database", "CHATPROTO_DATABASE", "Exit: 0 done"):
                self.assertIn(word, out, command)
        for row in OPTIONS:
            self.assertIn(f"--{row.name}", parsed(["doctor", "--help"])[1])
            self.assertEqual(
                row.group == "Tokens",
                f"--{row.name} " in parsed(["token", "admin", "--help"])[1] and row.name not in ("data", "database"),
                row.name,
            )

    def test_version(self) -> None:
        """It says which release it is."""
        self.assertEqual((0, f"chatproto {chatproto.__version__}\n", ""), parsed(["--version"]))

    def test_wrong_usage(self) -> None:
        """What is no command, or no value, is refused with 2 and the word to blame, before anything is opened."""
        for arguments, word in (
            ("", "NOUN"),
            ("group", "VERB"),
            ("shop list", "shop"),
            ("group remove 1", "remove"),
            ("group add", "NAME"),
            ("group ban", "ID"),
            ("group ban one", "'one' is no whole number"),
            ("group ban 0", "'0'"),
            ("group ban -1", "-1"),
            ("group ban 9223372036854775808", "9223372036854775808"),
            ("group ban ²", "no whole number"),
            ("admin add Wang", "--group"),
            ("admin add Wang --group 1 --capacity many", "--capacity"),
            ("admin capacity 1 1000001", "1000000"),
            ("admin move 1", "--group"),
            ("token admin 1 --ttl soon", "12h"),
            ("token admin 1 --ttl 0.5", "--ttl"),
            ("token guest " + "x" * 65, "64"),
            ("group list --gro 1", "--gro"),
            ("group list --jwt-issuer x", "--jwt-issuer"),
        ):
            code, out, err = parsed(arguments.split())
            self.assertEqual((2, ""), (code, out), arguments)
            self.assertIn(word, err.splitlines()[-1], arguments)

    def test_options_anywhere(self) -> None:
        """``--json`` and the configuration may stand before the noun, before the verb and at the end."""
        for arguments in (
            "--data d --json group list",
            "group --json --data d list",
            "group list --data d --json",
            "--json group --data d list",
        ):
            given = grammar.parser().parse_args(arguments.split())
            self.assertEqual(("d", True), (given.option_data, given.json), arguments)


class ConfigurationTests(SynchronousTestCase):
    def configured(self, *arguments: str, **environ: str) -> Config:
        for name in [name for name in os.environ if name.startswith("CHATPROTO_")]:
            self.patch(os, "environ", {key: value for key, value in os.environ.items() if key != name})
        self.patch(os, "environ", {**os.environ, **environ})
        return cli.configuration(grammar.parser().parse_args(arguments))

    def test_sources(self) -> None:
        """A command finds the database as the daemon does: command line before environment before file."""
        directory = scratch()
        self.addCleanup(shutil.rmtree, directory)
        file = directory / "chatproto.toml"
        file.write_text('database = "postgresql://file/x"\ngrace = 7\nlisten = ["tcp:1"]\n')
        environment = {"CHATPROTO_DATABASE": "postgresql://environment/x", "CHATPROTO_CONFIG": str(file)}
        config = self.configured("group", "list", **environment)
        self.assertEqual(
            ("postgresql://environment/x", 7.0, ("tcp:1",)), (config.database, config.grace, config.listen)
        )
        config = self.configured("group", "list", "--database", "postgresql://line/x", **environment)
        self.assertEqual("postgresql://line/x", config.database)

    def test_repeated_and_flags(self) -> None:
        """The doctor takes the daemon's options as they are, those that repeat and those without a value too."""
        config = self.configured("doctor", "--listen", "tcp:1", "--listen", "tcp:2", "--demo")
        self.assertEqual((("tcp:1", "tcp:2"), True), (config.listen, config.demo))

    def test_wrong(self) -> None:
        """A bad value is named."""
        with self.assertRaisesRegex(ConfigurationError, "--database"):
            self.configured("group", "list", "--database", "mysql://x")


class TableTests(SynchronousTestCase):
    def test_columns(self) -> None:
        """Columns line up on a terminal: Chinese is twice as wide, marks have no width, numbers stand to the right."""
        text = table(("ID", "NAME", "N"), [(7, "客服", 1), (12, "e\u0301t", 100)])
        self.assertEqual("ID  NAME    N\n 7  客服    1\n12  e\u0301t    100", text)

    def test_control_characters(self) -> None:
        """A name from outside cannot steer the terminal."""
        self.assertNotIn("\x1b", table(("NAME",), [("\x1b[2Jme\nyou",)]))
        self.assertEqual(2, len(table(("NAME",), [("\x1b[2Jme\nyou",)]).splitlines()))


class CommandTests(DatabaseTestCase):
    """Each command on a database, without a process of its own."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.data = scratch()
        self.addCleanup(shutil.rmtree, self.data, ignore_errors=True)
        self.config = Config(database=self.dsn, data=self.data, jwt_issuer="shop.example")

    async def run_(self, *arguments: str, **more: Any) -> Answer:
        given = grammar.parser().parse_args(arguments)
        for name, value in more.items():
            setattr(given, name, value)
        return await cli.run(self.config, reactor, given)

    async def admin(self) -> None:
        """Group 1 with admin 1, Wang."""
        await self.run_("group", "add", "Sales")
        await self.run_("admin", "add", "Wang", "--group", "1")

    def customer(self) -> int:
        gid = new_customer(self.dsn, "c-1", "An\x1bn", '{"vip": true}').id
        new_conversation(self.dsn, 1, gid)
        return gid

    async def test_groups(self) -> None:
        """Making one prints its id alone, the list shows it, a ban shows in both forms."""
        self.assertEqual("1", (await self.run_("group", "add", "Sales 客服")).text)
        listing = await self.run_("group", "list")
        self.assertEqual("ID  NAME        STATE  ADMINS  WAITING  SERVED", listing.text.splitlines()[0])
        self.assertEqual(" 1  Sales 客服  open        0        0       0", listing.text.splitlines()[1])
        banned = await self.run_("group", "ban", "1")
        self.assertEqual(
            ("", "group 1 (Sales 客服) is banned", True), (banned.text, banned.note, banned.value["banned"])
        )
        self.assertIn("banned", (await self.run_("group", "list")).text)
        self.assertFalse((await self.run_("group", "unban", "1")).value["banned"])

    async def test_admins(self) -> None:
        """An admin is made, limited, moved, banned and let in again; the last state is what the list shows."""
        await self.admin()
        await self.run_("group", "add", "Support")
        added = await self.run_("admin", "add", "Li", "--group", "1", "--capacity", "3", "--avatar", "https://x/li.png")
        self.assertEqual("2", added.text)
        self.assertEqual(
            (2, "Li", 3, "offline"), tuple(added.value[key] for key in ("id", "name", "capacity", "status"))
        )
        await self.run_("admin", "capacity", "2", "5")
        await self.run_("admin", "move", "2", "--group", "2")
        await self.run_("admin", "ban", "2")
        [row] = (await self.run_("admin", "list", "--group", "2")).value
        self.assertEqual((2, 5, True), (row["id"], row["capacity"], row["banned"]))
        self.assertEqual(2, len((await self.run_("admin", "list")).value))
        self.assertIn("2 Support  banned", (await self.run_("admin", "list")).text)
        self.assertFalse((await self.run_("admin", "unban", "2")).value["banned"])

    async def test_password(self) -> None:
        """A password is stored so that it can be checked and not be read."""
        await self.admin()
        answer = await self.run_("admin", "password", "1", password="correct horse")
        self.assertNotIn("correct horse", repr(answer))
        [(stored,)] = execute(self.dsn, "SELECT password_hash FROM admin")
        self.assertTrue(matches("correct horse", stored))
        self.assertIn("yes", (await self.run_("admin", "list")).text)

    async def test_guests(self) -> None:
        """A guest can be looked at, whatever the name holds, shut out and let in again."""
        await self.admin()
        gid = str(self.customer())
        shown = await self.run_("guest", "show", gid)
        self.assertEqual(
            ("c-1", {"vip": True}, "new"),
            (shown.value["external_id"], shown.value["profile"], shown.value["threads"][0]["state"]),
        )
        self.assertIn("1 Sales  new", shown.text)
        self.assertNotIn("\x1b", shown.text)
        json.dumps(shown.value)
        self.assertTrue((await self.run_("guest", "ban", gid)).value["banned"])
        self.assertFalse((await self.run_("guest", "unban", gid)).value["banned"])

    async def test_unknown(self) -> None:
        """A number that nobody has is said."""
        for arguments, why in (
            (("group", "ban", "9"), "there is no group 9"),
            (("admin", "add", "Wang", "--group", "9"), "there is no group 9"),
            (("admin", "list", "--group", "9"), "there is no group 9"),
            (("admin", "ban", "9"), "there is no admin 9"),
            (("guest", "show", "9"), "there is no guest 9"),
            (("token", "admin", "9"), "there is no admin 9"),
            (("token", "guest", "c-1", "--group", "9"), "there is no group 9"),
        ):
            with self.assertRaises(Refused) as caught:
                await self.run_(*arguments)
            self.assertEqual(why, str(caught.exception))

    async def test_bounds(self) -> None:
        """Names and URLs past the configured bounds, or with control characters, are wrong usage."""
        await self.run_("group", "add", "x" * 100)
        for arguments in (
            ("group", "add", ""),
            ("group", "add", "x" * 101),
            ("group", "add", "two\nlines"),
            ("admin", "add", " ", "--group", "1"),
            ("admin", "add", "Wang", "--group", "1", "--avatar", "https://x/" + "y" * 2040),
            ("token", "guest", "c-1", "--avatar", "no url"),
            ("token", "guest", "c-1", "--name", ""),
        ):
            with self.assertRaises(ConfigurationError):
                await self.run_(*arguments)
        self.assertEqual(1, len((await self.run_("group", "list")).value))
        self.assertEqual([], (await self.run_("admin", "list")).value)

    async def test_token_of_an_admin(self) -> None:
        """The token is alone on stdout, opens 31000 as this admin for as long as was asked, and nothing else."""
        await self.admin()
        before = int(time.time())
        answer = await self.run_("token", "admin", "1", "--ttl", "30m")
        claims = load_keyring(self.config).verify_admin(answer.text, time.time())
        self.assertEqual((1, "shop.example"), (claims.admin_id, claims.claims["iss"]))
        self.assertLessEqual(before + 1800, claims.exp)
        self.assertEqual((answer.text, claims.exp * 1000), (answer.value["token"], answer.value["expires_at"]))
        self.assertEqual("", answer.note)

    async def test_token_of_a_banned_admin(self) -> None:
        """Who makes a token that opens nothing is told so."""
        await self.admin()
        await self.run_("group", "ban", "1")
        self.assertIn("group banned", (await self.run_("token", "admin", "1")).note)

    async def test_token_of_a_guest(self) -> None:
        """The token opens 21000 as this customer, with what was given, and no admin's desk."""
        await self.admin()
        answer = await self.run_(
            "token", "guest", "007", "--name", "安娜", "--avatar", "https://x/a.png", "--group", "1", "--ttl", "90s"
        )
        keyring = load_keyring(self.config)
        claims = keyring.verify_guest(answer.text, time.time())
        self.assertEqual(
            ("007", "安娜", "https://x/a.png", 1), (claims.external_id, claims.name, claims.avatar, claims.group_id)
        )
        self.assertEqual(90, claims.exp - (claims.iat or 0))
        with self.assertRaises(AdminIdMissing):
            keyring.verify_admin(answer.text, time.time())


class GuestTokenTests(TestCase):
    async def test_without_database(self) -> None:
        """A token for a customer needs no database, only the secret."""
        data = scratch()
        self.addCleanup(shutil.rmtree, data)
        given = grammar.parser().parse_args(["token", "guest", "c-1"])
        answer = await cli.run(Config(data=data), reactor, given)
        self.assertEqual("c-1", load_keyring(Config(data=data)).verify_guest(answer.text, time.time()).external_id)
        self.assertEqual(["secret"], [path.name for path in data.iterdir()])


class ProcessTests(TestCase):
    """The command as a shell runs it, with an embedded PostgreSQL."""

    def setUp(self) -> None:
        self.data = scratch()
        self.addCleanup(shutil.rmtree, self.data, ignore_errors=True)

    def chatproto(self, *arguments: str, input: str = "") -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CHATPROTO_")}
        done = subprocess.run(
            [sys.executable, "-c", "from chatproto.cli import main; main()", *arguments],
            env={**environ, "CHATPROTO_DATA": str(self.data)},
            input=input,
            capture_output=True,
            text=True,
            timeout=60,
            start_new_session=True,
        )
        return done.returncode, done.stdout, done.stderr

    def test_daemon_is_down(self) -> None:
        """On a machine where nothing was set up, a shop is made by commands whose output can be piped."""
        self.assertEqual((0, "1\n", ""), self.chatproto("group", "add", "Sales"))
        self.assertEqual([], servers_in(self.data / "pg"))
        self.assertEqual((1, "", "chatproto: there is no admin 7\n"), self.chatproto("token", "admin", "7"))
        code, out, err = self.chatproto("doctor", "--listen", "tcp:0:interface=127.0.0.1", "--json")
        self.assertEqual((0, True, ""), (code, json.loads(out)["ok"], err))
        (self.data / "secret").write_text("short")
        code, out, err = self.chatproto("doctor", "--listen", "tcp:0:interface=127.0.0.1")
        self.assertEqual((1, ""), (code, err))
        self.assertIn("FAIL  server key", out)

    async def test_daemon_runs(self) -> None:
        """Beside the process that owns the database a command works too, and leaves that running."""
        server = EmbeddedPostgres(self.data, reactor=reactor, settings=FAST)
        dsn = await server.start()
        try:
            self.assertEqual((0, "1\n", ""), self.chatproto("group", "add", "Sales"))
            code, out, err = self.chatproto("admin", "add", "小王", "--group", "1", "--json")
            self.assertEqual((0, 1, ""), (code, json.loads(out)["id"], err))
            said = (0, "", "chatproto: admin 1 (小王) has a new password\n")
            self.assertEqual(said, self.chatproto("admin", "password", "1", "--stdin", input="correct horse\n"))
            [(name, stored)] = execute(dsn, "SELECT name, password_hash FROM admin")
            self.assertEqual("小王", name)
            self.assertTrue(matches("correct horse", stored))
        finally:
            await server.stop()

    def test_wrong_configuration(self) -> None:
        """A wrong value is one line and exit 2, and nothing is made."""
        for arguments, word in (
            (("group", "list", "--database", "mysql://x"), "--database"),
            (("admin", "password", "1", "--stdin"), "8 to 1024 characters"),
            (("admin", "password", "1"), "--stdin"),
        ):
            code, out, err = self.chatproto(*arguments)
            self.assertEqual((2, "", 1), (code, out, len(err.splitlines())), err)
            self.assertIn(word, err)
        self.assertEqual([], list(self.data.iterdir()))

    def test_cannot_start(self) -> None:
        """A data directory that cannot be used is one line and exit 1, without a traceback."""
        (self.data / "pg").mkdir()
        code, out, err = self.chatproto("group", "list")
        self.assertEqual((1, "", 1), (code, out, len(err.splitlines())), err)
        self.assertIn("not a PostgreSQL cluster", err)
