"""The configuration: what an operator may write, where, and what is said of mistakes."""

from __future__ import annotations

import io
import os
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatproto.config import CONFIG_FILE, OPTIONS, Config, Options, load
from chatproto.errors import ConfigurationError

CWD = Path("/srv/chat")


def read(environ: dict[str, str] | None = None, **options: Any) -> Config:
    return load(options, environ or {}, CWD)


class Refusals(SynchronousTestCase):
    def refused(self, *words: str, environ: dict[str, str] | None = None, **options: Any) -> str:
        """The one line that is said, which must hold all *words*."""
        with self.assertRaises(ConfigurationError, msg=f"{environ} {options}") as caught:
            read(environ, **options)
        line = str(caught.exception)
        self.assertNotIn("\n", line)
        for word in words:
            self.assertIn(word, line)
        return line


class Defaults(SynchronousTestCase):
    def test_contract(self) -> None:
        """Without any option the server does what the documents say."""
        config = read()
        self.assertEqual(config, Config())
        self.assertEqual(config.listen, ("tcp:8420",))
        self.assertEqual((config.database, config.bus, config.language), (None, "local", "en"))
        self.assertEqual((config.jwt_algorithm, config.jwt_audience, config.jwt_issuer), ("HS256", None, None))
        self.assertEqual((config.jwt_secret_files, config.jwt_public_key_files), ((), ()))
        self.assertEqual((config.origins, config.trusted_proxies), ((), ()))
        self.assertIs(config.anonymous_guests, True)
        self.assertIs(config.demo, False)
        self.assertTrue(config.data.is_absolute())
        self.assertEqual(config.data.name, "chatproto")
        self.assertEqual((config.grace, config.ping_after, config.dead_after, config.login_timeout), (45, 20, 50, 10))
        self.assertEqual((config.query_timeout, config.drain_timeout), (5, 10))
        self.assertEqual((config.service_idle, config.queue_leave, config.refresh_limit), (1800, 600, 30 * 86400))
        self.assertEqual((config.max_frame, config.max_header, config.max_fragments), (65536, 16384, 70000))
        self.assertEqual((config.max_connections, config.max_connections_per_address), (20000, 200))
        self.assertEqual((config.max_connections_per_identity, config.anonymous_per_minute), (16, 30))
        self.assertEqual((config.rate, config.burst, config.max_waiting), (50, 200, 64))
        self.assertEqual((config.pause_unsent, config.max_unsent), (262144, 1048576))
        self.assertEqual((config.max_name, config.max_url, config.max_profile, config.max_note), (100, 2048, 4096, 500))
        self.assertEqual((config.max_text, config.max_body), (5000, 16384))
        self.assertEqual((config.max_page, config.max_page_bytes), (100, 524288))
        self.assertEqual(
            (config.pool_size, config.pool_waiting, config.batch_size, config.queue_size), (8, 1000, 500, 20000)
        )

    def test_table(self) -> None:
        """The table that help and documentation are made of has each option once, in words of its own."""
        for names in ([row.name for row in OPTIONS], [row.field for row in OPTIONS], [row.help for row in OPTIONS]):
            self.assertEqual(len(set(names)), len(names))
        for row in OPTIONS:
            self.assertRegex(row.name, r"\A[a-z]+(-[a-z]+)*\Z")
            self.assertTrue(row.help.endswith("."), row.name)
            self.assertTrue(row.group and row.default, row.name)
            self.assertEqual(isinstance(getattr(Config(), row.field), tuple), row.repeats)
        self.assertEqual(
            [(row.variable, row.key) for row in OPTIONS if row.name == "jwt-secret-file"],
            [("CHATPROTO_JWT_SECRET_FILE", "jwt_secret_file")],
        )

    def test_shown_defaults(self) -> None:
        """A default that help shows as a value is one that may be written, and means the same."""
        for row in OPTIONS:
            try:
                value = row.kind.parse(row.default)
            except ValueError:
                self.assertIn(getattr(Config(), row.field), ((), None), row.name)
                continue
            if (
                row.name in ("data", "files")
                or (row.repeats and not getattr(Config(), row.field))
                or row.kind.metavar == "TEXT"
            ):
                continue
            self.assertEqual((value,) if row.repeats else value, getattr(Config(), row.field), row.name)


class Sources(Refusals):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.file = self.folder / "chat.toml"

    def write(self, text: str) -> str:
        self.file.write_text(text, "utf-8")
        return str(self.file)

    def test_order(self) -> None:
        """The command line comes before the environment, the environment before the file."""
        file = self.write("grace = 1\nrate = 1\nburst = 1\n")
        config = read({"CHATPROTO_GRACE": "2", "CHATPROTO_RATE": "2"}, config=file, grace="3")
        self.assertEqual((config.grace, config.rate, config.burst), (3, 2, 1))

    def test_whole_lists(self) -> None:
        """A source replaces what another says of an option that may repeat."""
        file = self.write('listen = ["tcp:1", "tcp:2"]\norigin = ["https://a"]\ntrusted_proxy = ["10.0.0.1"]')
        environ = {
            "CHATPROTO_LISTEN": "tcp:3:interface=127.0.0.1, ssl:4:privateKey=k:certKey=c",
            "CHATPROTO_ORIGIN": "",
        }
        config = read(environ, config=file, trusted_proxy=["10.0.0.0/8", "::1"])
        self.assertEqual(config.listen, ("tcp:3:interface=127.0.0.1", "ssl:4:privateKey=k:certKey=c"))
        self.assertEqual(config.origins, ("https://a",))
        self.assertEqual(config.trusted_proxies, (ip_network("10.0.0.0/8"), ip_network("::1")))

    def test_not_given(self) -> None:
        """What a parser reports as not given, and an empty variable, leave the default."""
        config = read({"CHATPROTO_GRACE": ""}, demo=False, grace=None, listen=[], rate=None)
        self.assertEqual(config, Config())

    def test_file_named_by_environment(self) -> None:
        """CHATPROTO_CONFIG names the file, --config another one."""
        self.write("grace = 1")
        other = self.folder / "other.toml"
        other.write_text("grace = 2")
        environ = {"CHATPROTO_CONFIG": "chat.toml"}
        self.assertEqual(load({}, environ, self.folder).grace, 1)
        self.assertEqual(load({"config": "other.toml"}, environ, self.folder).grace, 2)

    def test_types(self) -> None:
        """The file may use numbers and true where that is natural, and a lone string where an array may stand."""
        config = read(
            config=self.write(
                'demo = true\nanonymous_guests = false\ngrace = 1.5\nping_after = 7\nservice_idle = "45m"\n'
                'max_frame = "1M"\nmax_text = 100\nlisten = "tcp:1"\njwt_secret_file = ["a", "b"]'
            )
        )
        self.assertEqual((config.demo, config.anonymous_guests), (True, False))
        self.assertEqual((config.grace, config.ping_after, config.service_idle), (1.5, 7, 2700))
        self.assertEqual((config.max_frame, config.max_text, config.listen), (1 << 20, 100, ("tcp:1",)))
        self.assertEqual(config.jwt_secret_files, (self.folder / "a", self.folder / "b"))

    def test_wrong_types(self) -> None:
        """A value of another type in the file is refused, with key and file."""
        for line in (
            "listen = 8420",
            "grace = true",
            "grace = [1]",
            "grace = nan",
            "grace = {a = 1}",
            "grace = 2024-01-01",
            "rate = 1.5",
            "data = true",
            "demo = 1",
            "jwt_issuer = 5",
            'origin = [["https://a"]]',
            "origin = [1]",
        ):
            self.refused(f"{line.split()[0]} in {self.file}: ", config=self.write(line))

    def test_paths(self) -> None:
        """A relative path starts where it was written: at the working directory, or at the file."""
        config = read({"CHATPROTO_DATA": "d"}, jwt_secret_file=["a", "/b"])
        self.assertEqual((config.data, config.jwt_secret_files), (CWD / "d", (CWD / "a", Path("/b"))))
        self.assertEqual(read(config=self.write('data = "d"')).data, self.folder / "d")
        self.assertEqual(read(data="~/d").data, Path.home() / "d")

    def test_unknown(self) -> None:
        """An unknown option, key or variable is named, with the likely one."""
        self.refused("--grase", "grace", grase="1")
        self.refused("CHATPROTO_LISTN", "CHATPROTO_LISTEN", environ={"CHATPROTO_LISTN": "tcp:1"})
        self.refused("CHATPROTO_QQQ", "--help", environ={"CHATPROTO_QQQ": "1"})
        self.refused("jwt-secret-file", "jwt_secret_file", "chat.toml", config=self.write('jwt-secret-file = "a"'))
        self.refused("key config", config=self.write('config = "other.toml"'))
        self.refused("key limits", config=self.write("[limits]\nmax_frame = 1"))

    def test_not_ours(self) -> None:
        """Variables of the tests, of other programs and of Kubernetes do not stop the server."""
        environ = {
            "CHATPROTO_TEST_DATABASE": "x",
            "CHATPROTOCOL": "x",
            "PATH": "/bin",
            "CHATPROTO_SERVICE_HOST": "10.0.0.1",
            "CHATPROTO_SERVICE_PORT": "8420",
            "CHATPROTO_SERVICE_PORT_WS": "8420",
            "CHATPROTO_PORT": "tcp://10.0.0.1:8420",
            "CHATPROTO_PORT_8420_TCP": "tcp://10.0.0.1:8420",
            "CHATPROTO_PORT_8420_TCP_ADDR": "10.0.0.1",
        }
        self.assertEqual(read(environ), Config())
        self.assertEqual(read({**environ, "CHATPROTO_SERVICE_IDLE": "1m"}).service_idle, 60)

    def test_unreadable(self) -> None:
        """A file that is absent, no file or no TOML is named, with the reason."""
        self.refused("/srv/chat/absent.toml", "No such file", config="absent.toml")
        self.refused(str(self.folder), "directory", config=str(self.folder))
        self.refused("not TOML", "line 2", config=self.write("grace = 1\nrate = ,"))
        self.file.write_bytes(b"\xff\xfe")
        self.refused("not TOML", config=str(self.file))


class Values(Refusals):
    def test_times(self) -> None:
        """Times are seconds, or have a unit."""
        for text, seconds in (
            ("45", 45),
            ("1.5s", 1.5),
            ("0.25", 0.25),
            ("30m", 1800),
            ("12h", 43200),
            ("30d", 2592000),
            ("0", 0),
            ("0d", 0),
        ):
            self.assertEqual(read(service_idle=text).service_idle, seconds)
        for bad in ("", "-1", "1e3", "nan", "inf", "1 m", "1w", "m", "1.m", ".5", "1M", "٣", "3651d", "9" * 400, "1\n"):
            self.refused("--grace", "30m", grace=bad)

    def test_zero(self) -> None:
        """0 is *never* or *at once* where that makes sense, and refused where it does not."""
        for name in ("grace", "service_idle", "queue_leave", "refresh_limit", "drain_timeout"):
            zero: dict[str, Any] = {name: "0"}
            self.assertEqual(getattr(read(**zero), name), 0)
        for name in ("ping_after", "dead_after", "login_timeout", "query_timeout"):
            zero = {name: "0"}
            self.refused("over 0", **zero)

    def test_sizes_and_counts(self) -> None:
        """Sizes may end in K or M; counts are plain."""
        for text, size in (("65536", 65536), ("64K", 65536), ("64k", 65536), ("1M", 1 << 20)):
            self.assertEqual(read(max_frame=text).max_frame, size)
        for bad in ("", "0", "-1", "1.5K", "1G", "1KB", "64 K", "2000M", "0x10", "1_000"):
            self.refused("--max-frame", "64K", max_frame=bad)
        for bad in ("", "0", "-1", "1K", "1.0", "10000001"):
            self.refused("--rate", "from 1 to 10000000", rate=bad)

    def test_yes_no(self) -> None:
        """Anonymous guests can be turned off in the words people use."""
        for text in ("no", "No", "false", "off", "0"):
            self.assertIs(read(anonymous_guests=text).anonymous_guests, False)
        for text in ("yes", "TRUE", "on", "1"):
            self.assertIs(read({"CHATPROTO_ANONYMOUS_GUESTS": text}).anonymous_guests, True)
        self.refused("--anonymous-guests", "yes or no", anonymous_guests="maybe")
        self.assertIs(read({"CHATPROTO_DEMO": "no"}, demo=True).demo, True)

    def test_choices(self) -> None:
        """Languages and algorithms are those that exist."""
        self.assertEqual(read(language="zh").language, "zh")
        self.refused("--language", "en, zh", language="fr")
        for bad in ("none", "HS512", "rs256", ""):
            self.refused("--jwt-algorithm", "HS256, RS256, ES256, EdDSA", jwt_algorithm=bad)

    def test_endpoints(self) -> None:
        """Endpoints are Twisted's; a bare port or an impossible one is refused."""
        for good in (
            "tcp:8420",
            "tcp:0",
            "tcp:port=8420:interface=::1",
            "tcp6:8420",
            "ssl:8443:privateKey=k:certKey=c",
            "unix:/run/c.sock",
            "systemd:domain=INET:index=0",
            "haproxy:tcp:8420",
        ):
            self.assertEqual(read(listen=[good]).listen, (good,))
        for bad in ("8420", "", "tcp", "tcp:", ":8420", "tcp:x", "tcp:65536", "tcp:-1", "ssl:port=99999", "tcp:1\n"):
            self.refused("--listen", "tcp:8420", listen=["tcp:1", bad])
        self.refused("--listen", environ={"CHATPROTO_LISTEN": ","})

    def test_origins(self) -> None:
        """An origin is kept as browsers send it."""
        for text, origin in (
            ("https://Desk.Example.com", "https://desk.example.com"),
            ("https://desk.example.com/", "https://desk.example.com"),
            ("https://desk.example.com:443", "https://desk.example.com"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("https://商店.example", "https://xn--czrs0t.example"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("capacitor://localhost", "capacitor://localhost"),
        ):
            self.assertEqual(read(origin=[text]).origins, (origin,))
        for bad in (
            "",
            "*",
            "null",
            "desk.example.com",
            "https://",
            "https://*.example.com",
            "https://a/b",
            "https://a?b",
            "https://a#",
            "https://u@a",
            "https://a:x",
            "https://a:99999",
            "https://a b",
            "https://[::1",
        ):
            self.refused("--origin", "https://desk.example.com", origin=[bad])

    def test_networks(self) -> None:
        """Proxies are addresses or networks."""
        for bad in ("", "proxy", "10.0.0.1/8", "10.0.0.0/33", "::1/129"):
            self.refused("--trusted-proxy", "10.0.0.0/8", trusted_proxy=[bad])

    def test_bus(self) -> None:
        """Redis is refused by name, without showing its password."""
        for url in ("redis://:hush@host", "rediss://:hush@host"):
            self.assertNotIn("hush", self.refused("--bus", "local", "no Redis bus yet", bus=url))
        self.refused("--bus", "local", bus="kafka")

    def test_database(self) -> None:
        """A PostgreSQL URL, or embedded to take back what a file says."""
        for url in (
            "postgresql://chat:hush@db.example.com:5432/chat",
            "postgresql://u:hu%20sh#?x@[::1]:5432,other:5433/chat?sslmode=require",
            "postgresql:///chat?host=/run/postgresql&password=hush",
            "postgresql://",
        ):
            self.assertEqual(read(database=url).database, url)
        self.assertIsNone(read({"CHATPROTO_DATABASE": "postgresql://h/d"}, database="embedded").database)
        for bad in (
            "",
            "mysql://u:hush@h/d",
            "postgres://u:hush@h/d",
            "host=h password=hush",
            "postgresql://u:hu/sh@h/d",
            "postgresql://u:123/hush@h/d",
            "postgresql://u:hush@h:port/d",
            "postgresql://u:hu@sh@h/d",
            "postgresql://u:hush@h/d e",
        ):
            self.assertNotIn("hush", self.refused("--database", "postgresql://USER", database=bad))

    def test_long_value(self) -> None:
        """However long or odd a wrong value, the line stays one short line."""
        self.assertLess(len(self.refused("--grace", grace="9\n" * 5000)), 300)


class Contradictions(Refusals):
    def test_keys(self) -> None:
        """Secrets are for HS256, public keys for the others, and there are no two kinds at once."""
        key: dict[str, Any] = {"jwt_public_key_file": ["k"]}
        secret: dict[str, Any] = {"jwt_secret_file": ["s"]}
        self.refused("--jwt-secret-file", "--jwt-public-key-file", **key, **secret)
        self.refused("--jwt-secret-file", "RS256", jwt_algorithm="RS256", **secret)
        self.refused("--jwt-public-key-file", "--jwt-algorithm RS256, ES256 or EdDSA", **key)
        self.refused("--jwt-algorithm EdDSA", "--jwt-public-key-file", jwt_algorithm="EdDSA")
        for algorithm in ("RS256", "ES256", "EdDSA"):
            self.assertEqual(read(jwt_algorithm=algorithm, **key).jwt_public_key_files, (CWD / "k",))
        self.assertEqual(read(jwt_algorithm="HS256", **secret).jwt_secret_files, (CWD / "s",))

    def test_across_sources(self) -> None:
        """It does not matter where the two come from."""
        self.refused("--ping-after 60", "--dead-after 50", environ={"CHATPROTO_PING_AFTER": "60"}, dead_after="50")

    def test_order(self) -> None:
        """Bounds that make another one meaningless are refused at the edge, and named with their values."""
        self.refused("--ping-after 50", "--dead-after 50", ping_after="50")
        self.assertEqual(read(ping_after="49.9").ping_after, 49.9)
        self.refused("--pause-unsent 1048577", "--max-unsent", pause_unsent="1048577")
        self.assertEqual(read(pause_unsent="1M").pause_unsent, 1 << 20)
        for low, high in (
            ("max_text", "max_frame"),
            ("max_body", "max_frame"),
            ("max_profile", "max_frame"),
            ("max_body", "max_page_bytes"),
            ("batch_size", "queue_size"),
        ):
            bound = max(getattr(Config(), low) - 1, 1024)
            named = (f"--{low.replace('_', '-')} {bound + 1} ", f"--{high.replace('_', '-')} {bound}:")
            room: dict[str, Any] = {"max_body": "1", "max_text": "1", "max_profile": "1", "batch_size": "1"}
            self.refused(*named, **{**room, low: str(bound + 1), high: str(bound)})
            self.assertEqual(getattr(read(**{**room, low: str(bound), high: str(bound)}), low), bound)


class NothingSecret(SynchronousTestCase):
    def test_shown(self) -> None:
        """What start-up prints of the database has no password, wherever in the URL it stands."""
        for url, shown in (
            (None, "embedded"),
            ("postgresql://chat:hush@h:5432/d", "postgresql://chat:***@h:5432/d"),
            ("postgresql://chat@h/d", "postgresql://chat@h/d"),
            ("postgresql://h:5432/d", "postgresql://h:5432/d"),
            ("postgresql://:hush@h/d", "postgresql://:***@h/d"),
            ("postgresql://h/d?password=hush&sslpassword=hush", "postgresql://h/d"),
            ("postgresql://u:hush@[::1]:5,g:6/d?x=y", "postgresql://u:***@[::1]:5,g:6/d"),
            ("postgresql://u:hu#sh?hush@h/d", "postgresql://u:***@h/d"),
            ("no URL of ours: hush", "postgresql://***"),
        ):
            config = Config(database=url)
            self.assertEqual(config.database_shown, shown)
            self.assertNotIn("hush", repr(config))
            self.assertIn("max_frame=65536", repr(config))

    @given(st.text("abc:@/?#%[],1 ", max_size=12), st.text("abc/?&=@:", max_size=12))
    def test_any_password(self, password: str, rest: str) -> None:
        """No password that is accepted is ever printed."""
        url = f"postgresql://user:SECRET{password}@host/{rest}"
        try:
            config = read(database=url)
        except ConfigurationError as error:
            self.assertNotIn("SECRET", str(error))
        else:
            self.assertNotIn("SECRET", config.database_shown)


class CommandLine(SynchronousTestCase):
    def setUp(self) -> None:
        self.err, self.out = io.StringIO(), io.StringIO()
        self.patch(sys, "stderr", self.err)
        self.patch(sys, "stdout", self.out)
        self.patch(os, "environ", {"COLUMNS": "80"})

    def parse(self, *words: str) -> Config:
        options = Options()
        options.parseOptions(words)
        return options.config

    def exits(self, *words: str) -> int:
        with self.assertRaises(SystemExit) as caught:
            self.parse(*words)
        code: int = caught.exception.code
        return code

    def test_every_option(self) -> None:
        """Each option of the table can be given, and arrives."""
        values = {"TIME": "21", "N": "600", "BYTES": "300K", "yes|no": "no", "TEXT": "x", "PATH": "/p", "NAME": None}
        for row in OPTIONS:
            value = values.get(row.kind.metavar)
            if (
                value is None
                or row.flag
                or row.name.startswith("jwt-public")
                or row.name in ("max-profile", "max-body")
            ):
                continue
            wanted = row.kind.parse(value)
            config = self.parse(f"--{row.name}={value}", *(["--max-frame=1M"] if row.name != "max-frame" else []))
            self.assertEqual(getattr(config, row.field), (wanted,) if row.repeats else wanted, row.name)

    def test_repeats(self) -> None:
        """What may repeat is collected in order, a flag needs no value, of the others the last one counts."""
        config = self.parse(
            "--listen", "tcp:1", "--demo", "--listen=tcp:2", "--grace=1", "--grace=2", "--origin=https://a"
        )
        self.assertEqual((config.listen, config.demo, config.grace), (("tcp:1", "tcp:2"), True, 2))
        self.assertEqual(config.origins, ("https://a",))
        self.assertEqual(self.parse().listen, ("tcp:8420",))

    def test_environment(self) -> None:
        """The environment counts where the command line is silent."""
        self.patch(os, "environ", {"CHATPROTO_GRACE": "1", "CHATPROTO_RATE": "2"})
        config = self.parse("--grace=3")
        self.assertEqual((config.grace, config.rate), (3, 2))

    def test_mistakes(self) -> None:
        """A mistake is one line on stderr and exit 2."""
        for words, hint in (
            (("--grase=1",), "grase"),
            (("--grace",), "grace"),
            (("--grace=x",), "--grace: 'x'"),
            (("--demo=yes",), "demo"),
            (("--max=1",), "max"),
            (("tcp:8420",), "tcp:8420"),
            (("--grace=",), "--grace"),
            (("--dead-after=1",), "--ping-after 20"),
        ):
            self.err.truncate(0)
            self.err.seek(0)
            self.assertEqual(self.exits(*words), 2)
            self.assertRegex(self.err.getvalue(), r"\Achatproto: [^\n]+\n\Z")
            self.assertIn(hint, self.err.getvalue())

    def test_help(self) -> None:
        """--help shows each option once, under its group, with its default, within the terminal's width."""
        self.assertFalse(self.exits("--help"))
        text = self.out.getvalue()
        for row in (*OPTIONS, CONFIG_FILE):
            self.assertEqual(text.count(f"\n  --{row.name}{'' if row.flag else ' ' + row.kind.metavar}"), 1, row.name)
            self.assertIn(f"\n{row.group}:\n", text)
        flowing = " ".join(text.split())
        for row in OPTIONS:
            self.assertIn(f"{row.help} [{row.default}", flowing)
        self.assertLessEqual(max(map(len, text.splitlines())), 80)
