"""What an operator may set: one table of options, read from three sources and checked once.

Each field of :class:`Config` declares its option. From that one table come the command line of
``twistd chatproto`` (:class:`Options`), the environment (``--ping-after`` is ``CHATPROTO_PING_AFTER``), the keys
of ``--config FILE.toml`` (``ping_after``), ``--help`` and the table of docs/operations.

The command line comes before the environment, the environment before the file; a source replaces what another
says of the same option, also where it may repeat. An empty environment variable counts as not set. In the
environment commas separate the values of an option that may repeat (an endpoint has colons, never commas); in the
file they are an array. Relative paths start at the working directory, those in the file at the file's directory.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from platformdirs import user_data_dir
from twisted.python import usage

from chatproto.errors import ConfigurationError

Network: TypeAlias = IPv4Network | IPv6Network

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 3650 * 86400.0
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:@/?#,\[\]]*)(?::[0-9]{1,5})?"
_DATABASE = re.compile(
    rf"postgresql://(?:([^:@/?#\s]*)(:[^@/\s]*)?@)?({_HOST}(?:,{_HOST})*(?:/[^@?#\s]*)?)(?:\?[^#\s]*)?", re.ASCII
)
# Kubernetes gives each container the address of every service, named after it: these are not ours.
_KUBERNETES = re.compile(r"CHATPROTO_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_[A-Z]+(_[A-Z]+)?)?)")


@dataclass(frozen=True, slots=True)
class Kind:
    """What values an option takes.

    :ivar parse: text → value; raises ValueError for what is not allowed.
    :ivar allowed: what is, for people.
    :ivar native: the TOML types that the file may use beside a string.
    :ivar secret: the value may hold a password, so no error shows it.
    """

    metavar: str
    allowed: str
    parse: Callable[[str], Any]
    native: tuple[type, ...] = ()
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table.

    :ivar name: with dashes, as after ``--``.
    :ivar field: the name in :class:`Config`.
    :ivar default: as a person would write it, for ``--help`` and docs/operations.
    :ivar repeats: it may be given several times; the value is a tuple.
    :ivar flag: on the command line it stands without a value.
    """

    name: str
    field: str
    group: str
    kind: Kind
    default: str
    help: str
    repeats: bool
    flag: bool

    @property
    def key(self) -> str:
        """Its key in the configuration file."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "CHATPROTO_" + self.key.upper()


def _duration(least: float, allowed: str) -> Kind:
    def parse(text: str) -> float:
        match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)([smhd]?)", text)
        if not match:
            raise ValueError
        seconds = float(match[1]) * _UNITS[match[2]]
        if not least <= seconds <= _LONGEST:
            raise ValueError
        return seconds

    return Kind("TIME", f"{allowed} such as 45, 1.5s, 30m, 12h or 30d (at most 3650d)", parse, (int, float))


def _whole(metavar: str, units: Mapping[str, int], least: int, most: int, example: str = "") -> Kind:
    def parse(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,12})([A-Za-z]?)", text)
        if not match or match[2].upper() not in units:
            raise ValueError
        value = int(match[1]) * units[match[2].upper()]
        if not least <= value <= most:
            raise ValueError
        return value

    return Kind(metavar, f"a whole number from {least} to {most}{example}", parse, (int,))


def _choice(metavar: str, *choices: str) -> Kind:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return Kind(metavar, "one of " + ", ".join(choices), parse)


def _text(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError
    return text


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError("no home directory for ~") from error


def _yes_no(text: str) -> bool:
    word = text.lower()
    if word not in ("yes", "true", "on", "1", "no", "false", "off", "0"):
        raise ValueError
    return word in ("yes", "true", "on", "1")


def _endpoint(text: str) -> str:
    kind, colon, rest = text.partition(":")
    if not re.fullmatch(r"[a-zA-Z][\w-]*", kind, re.ASCII) or not rest or not text.isprintable():
        raise ValueError
    if kind.lower() in ("tcp", "tcp4", "tcp6", "ssl"):
        ports = [part.removeprefix("port=") for part in rest.split(":") if part.startswith("port=")]
        port = ports[0] if ports else rest.split(":")[0]
        if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError("the port is no number from 0 to 65535")
    return text


def _origin(text: str) -> str:
    """As browsers write it in ``Origin`` (RFC 6454, section 6.2): lower case, ASCII, no default port."""
    parts = urlsplit(text)
    port = parts.port
    if not parts.scheme or not parts.hostname or parts.username is not None or "*" in text:
        raise ValueError
    if parts.path not in ("", "/") or parts.query or parts.fragment or re.search(r"[\s,?#]", text):
        raise ValueError
    host = parts.hostname
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    if ":" in host:
        host = f"[{host}]"
    shown = "" if port is None or port == _DEFAULT_PORTS.get(parts.scheme) else f":{port}"
    return f"{parts.scheme}://{host}{shown}"


def _database(text: str) -> str | None:
    if text == "embedded":
        return None
    if not text.startswith("postgresql://"):
        raise ValueError
    if not _DATABASE.fullmatch(text):
        raise ValueError("not a URL that PostgreSQL can read; write special characters of the password as %XX")
    return text


def _place(text: str) -> Path | str:
    if not text.startswith("s3:"):
        return _path(text)
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()/-]*)?", text):
        raise ValueError("no name of a bucket")
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or not text.isprintable():
        raise ValueError
    return text.rstrip("/")


def _bus(text: str) -> str:
    if text.startswith(("redis://", "rediss://")):
        raise ValueError("this version has no Redis bus yet")
    if text != "local":
        raise ValueError
    return text


TEXT = Kind("TEXT", "a text that is not empty", _text)
PATH = Kind("PATH", "a path", _path)
YES_NO = Kind("yes|no", "yes or no", _yes_no, (bool,))
ENDPOINT = Kind("ENDPOINT", "an endpoint such as tcp:8420 or ssl:8443:privateKey=key.pem:certKey=cert.pem", _endpoint)
ORIGIN = Kind("ORIGIN", "an origin such as https://desk.example.com", _origin)
NETWORK = Kind("NETWORK", "an address or network such as 10.0.0.7 or 10.0.0.0/8", ip_network)
DATABASE = Kind("URL", "embedded, or postgresql://USER:PASSWORD@HOST:PORT/NAME", _database, secret=True)
BUS = Kind("BUS", "local", _bus, secret=True)
PLACE = Kind("PLACE", "a path, or s3://BUCKET or s3://BUCKET/PREFIX", _place)
URL = Kind("URL", "an address such as https://s3.example.com, without a password", _url)
ALGORITHM = _choice("NAME", "HS256", "RS256", "ES256", "EdDSA")
LANGUAGE = _choice("NAME", "en", "zh")
TIME = _duration(0.001, "a time over 0")
TIME_OR_ZERO = _duration(0.0, "0 or a time")
COUNT = _whole("N", {"": 1}, 1, 10_000_000)
SIZE = _whole("BYTES", {"": 1, "K": 1 << 10, "M": 1 << 20}, 1, 1 << 30, ", or such as 64K or 1M")
LARGE = _whole("BYTES", {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}, 0, 1 << 40, ", or such as 64K, 10M or 2G")


def _option(
    group: str, kind: Kind, default: str | None, help: str, *, repeated: str = "", flag: bool = False, shown: str = ""
) -> Any:
    """A field of :class:`Config` and its option, which has the field's name.

    :param default: as a person would write it.
    :param repeated: the option's name where it may be given several times.
    :param shown: the default for ``--help``, where *default* says nothing.
    """
    value: Any = None if default is None else kind.parse(default)
    if repeated:
        value = () if default is None else (value,)
    row = partial(
        Option, group=group, kind=kind, default=shown or default or "none", help=help, repeats=bool(repeated), flag=flag
    )
    return field(default=value, metadata={"row": row, "name": repeated})


_network = partial(_option, "Network")
_storage = partial(_option, "Storage")
_tokens = partial(_option, "Tokens")
_service = partial(_option, "Service")
_files = partial(_option, "Files")
_waits = partial(_option, "Time limits")
_limits = partial(_option, "Limits")
_work = partial(_option, "Database work")


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Config:
    """What the server runs with. Times are seconds, sizes bytes.

    :raises ConfigurationError: two values contradict each other.
    """

    listen: tuple[str, ...] = _network(
        ENDPOINT, "tcp:8420", "Where to listen, a Twisted endpoint; ssl:... for TLS.", repeated="listen"
    )
    origins: tuple[str, ...] = _network(
        ORIGIN, None, "A web origin that may connect.", repeated="origin", shown="the server's own, always allowed"
    )
    image_hosts: tuple[str, ...] = _network(
        ORIGIN,
        None,
        "An origin from which our pages may show pictures of products and people.",
        repeated="image-host",
        shown="the server's own, always allowed",
    )
    trusted_proxies: tuple[Network, ...] = _network(
        NETWORK, None, "A proxy whose X-Forwarded-For is believed.", repeated="trusted-proxy"
    )

    data: Path = _storage(
        PATH,
        user_data_dir("chatproto"),
        "Directory of the embedded database, of files and of the secret.",
        shown="the user's data directory",
    )
    database: str | None = _storage(
        DATABASE, "embedded", "The PostgreSQL to use; embedded is one of its own under --data."
    )
    bus: str = _storage(BUS, "local", "How processes tell each other what is new.")

    jwt_secret_files: tuple[Path, ...] = _tokens(
        PATH,
        None,
        "File with a secret the shop signs tokens with (HS256); of several, each is accepted.",
        repeated="jwt-secret-file",
        shown="secret in --data",
    )
    jwt_public_key_files: tuple[Path, ...] = _tokens(
        PATH,
        None,
        "File with a public key of the shop (PEM; RS256, ES256, EdDSA); of several, each is accepted.",
        repeated="jwt-public-key-file",
    )
    jwt_algorithm: str = _tokens(ALGORITHM, "HS256", "How the shop signs tokens; no other algorithm is accepted.")
    jwt_audience: str | None = _tokens(TEXT, None, "Tokens must name this audience (aud).", shown="any or none")
    jwt_issuer: str | None = _tokens(TEXT, None, "Tokens must name this issuer (iss).", shown="any or none")
    refresh_limit: float = _tokens(
        TIME_OR_ZERO, "30d", "How long after the first log-in a token may be renewed; 0 is for ever."
    )
    password_life: float = _tokens(
        TIME, "12h", "How long the token of a log-in by password is good for; it is renewed while it is used."
    )

    anonymous_guests: bool = _service(YES_NO, "yes", "Whether guests may come without a token of the shop.")
    grace: float = _service(TIME_OR_ZERO, "45", "How long an admin who lost every connection keeps the guests.")
    service_idle: float = _service(
        TIME_OR_ZERO, "30m", "A service ends after this silence, unless the guest wrote last; 0 is never."
    )
    queue_leave: float = _service(
        TIME_OR_ZERO, "10m", "A queued guest who wrote nothing leaves the queue after so long off line; 0 is never."
    )
    recall_within: float = _service(
        TIME_OR_ZERO, "2m", "How long after sending a message its sender may recall it; 0 is never."
    )
    language: str = _service(LANGUAGE, "en", "Language of error messages.")
    demo: bool = _service(YES_NO, "no", "Make a group, two admins and their tokens, and print where to go.", flag=True)

    files: Path | str | None = _files(
        PLACE, None, "Where files are kept: a directory, or a bucket as s3://BUCKET/PREFIX.", shown="files in --data"
    )
    bucket_endpoint: str | None = _files(URL, None, "Where the bucket is, when not at AWS.", shown="AWS")
    max_image: int = _files(LARGE, "10M", "Bytes of an image; 0 takes none, here and with the next three.")
    max_voice: int = _files(LARGE, "10M", "Bytes of a sound.")
    max_video: int = _files(LARGE, "100M", "Bytes of a video.")
    max_file: int = _files(LARGE, "50M", "Bytes of any other file.")
    upload_quota: int = _files(LARGE, "200M", "Bytes that one guest may send in 24 hours.")
    uploads_per_minute: int = _files(COUNT, "30", "Files that one guest or admin may send in a minute.")
    max_uploads: int = _files(COUNT, "64", "Files that arrive at once, past which senders are told to come back later.")
    upload_timeout: float = _files(TIME, "10m", "The longest time that one file may take to arrive and be kept.")
    min_free: int = _files(LARGE, "512M", "Bytes that files leave free on the disk that they arrive on.")

    ping_after: float = _waits(TIME, "20", "A connection that was silent so long is pinged.")
    dead_after: float = _waits(TIME, "50", "A connection that was silent so long is closed.")
    login_timeout: float = _waits(TIME, "10", "Time for a handshake, then for a login; or for each HTTP request.")
    query_timeout: float = _waits(TIME, "5", "The longest wait for the database.")
    drain_timeout: float = _waits(TIME_OR_ZERO, "10", "The longest wait for what is under way at a stop.")

    max_connections: int = _limits(COUNT, "20000", "Connections of this process.")
    max_connections_per_address: int = _limits(COUNT, "200", "Connections of one address.")
    max_connections_per_identity: int = _limits(COUNT, "16", "Connections of one guest or admin.")
    anonymous_per_minute: int = _limits(COUNT, "30", "New anonymous guests a minute from one address.")
    password_tries: int = _limits(COUNT, "10", "Wrong passwords in 15 minutes for one name.")
    password_tries_per_address: int = _limits(COUNT, "50", "Wrong passwords in 15 minutes from one address.")
    rate: int = _limits(COUNT, "50", "Frames a second of one connection in the long run; each 4K of one are one more.")
    burst: int = _limits(COUNT, "200", "Frames of one connection at once.")
    max_waiting: int = _limits(COUNT, "64", "Commands of one connection that may wait, and messages to be stored.")
    max_logins: int = _limits(COUNT, "16", "Logins under way at once; more wait in line.")
    max_logins_waiting: int = _limits(COUNT, "500", "Logins in line, past which they are told to come back later.")
    pause_unsent: int = _limits(SIZE, "256K", "Bytes unsent to a connection past which it is not read.")
    max_unsent: int = _limits(SIZE, "1M", "Bytes unsent past which a push closes a connection that takes nothing.")
    max_header: int = _limits(SIZE, "16K", "Bytes of an HTTP request's header.")
    max_http_body: int = _limits(SIZE, "4K", "Bytes of an HTTP request's body.")
    max_frame: int = _limits(SIZE, "64K", "Bytes of a frame that a client sends.")
    max_fragments: int = _limits(COUNT, "70000", "WebSocket fragments of one frame's message.")
    max_text: int = _limits(COUNT, "5000", "Characters of a text message.")
    max_body: int = _limits(SIZE, "16K", "Bytes (as JSON) of a message of another kind.")
    max_name: int = _limits(COUNT, "100", "Characters of a name; longer ones are cut.")
    max_url: int = _limits(COUNT, "2048", "Characters of a URL.")
    max_profile: int = _limits(SIZE, "4K", "Bytes (as JSON) of a profile, and of a context.")
    max_note: int = _limits(COUNT, "500", "Characters of a transfer's note, and of a rating.")
    max_page: int = _limits(COUNT, "100", "Messages of one page of history.")
    max_page_bytes: int = _limits(SIZE, "512K", "Bytes at which a page read by seq ends early.")

    pool_size: int = _work(COUNT, "8", "Connections to the database.")
    pool_waiting: int = _work(COUNT, "1000", "Statements that may wait for one.")
    batch_size: int = _work(COUNT, "500", "Messages stored in one transaction.")
    queue_size: int = _work(COUNT, "20000", "Messages that may wait to be stored.")

    def __post_init__(self) -> None:
        for at_fault, complaint in (
            (
                self.jwt_secret_files and self.jwt_public_key_files,
                "--jwt-secret-file and --jwt-public-key-file contradict each other: give one of them",
            ),
            (
                self.jwt_secret_files and self.jwt_algorithm != "HS256",
                f"--jwt-secret-file and --jwt-algorithm {self.jwt_algorithm} contradict each other:"
                f" a secret is for HS256, {self.jwt_algorithm} takes --jwt-public-key-file",
            ),
            (
                self.jwt_public_key_files and self.jwt_algorithm == "HS256",
                "--jwt-public-key-file needs --jwt-algorithm RS256, ES256 or EdDSA",
            ),
            (
                self.jwt_algorithm != "HS256" and not self.jwt_public_key_files,
                f"--jwt-algorithm {self.jwt_algorithm} needs --jwt-public-key-file",
            ),
            (not self.listen, "--listen needs at least one endpoint such as tcp:8420"),
            self._above("ping_after", "dead_after", strictly=True),
            self._above("pause_unsent", "max_unsent"),
            self._above("max_text", "max_frame"),
            self._above("max_body", "max_frame"),
            self._above("max_profile", "max_frame"),
            self._above("max_body", "max_page_bytes"),
            self._above("batch_size", "queue_size"),
        ):
            if at_fault:
                raise ConfigurationError(complaint)

    def _above(self, low: str, high: str, strictly: bool = False) -> tuple[bool, str]:
        """Whether *low* exceeds (*strictly*: reaches) *high*, and what to say then."""
        first, second = getattr(self, low), getattr(self, high)
        names = f"--{low.replace('_', '-')} {first:.12g} and --{high.replace('_', '-')} {second:.12g}"
        wanted = "less than" if strictly else "at most"
        return first >= second if strictly else first > second, f"{names}: the first must be {wanted} the second"

    @property
    def database_shown(self) -> str:
        """The database for people: without password and URL parameters (which may hold one)."""
        if self.database is None:
            return "embedded"
        match = _DATABASE.fullmatch(self.database)
        if not match:
            return "postgresql://***"
        user, password, place = match.groups()
        return "postgresql://" + ("" if user is None else f"{user}{':***' if password else ''}@") + place

    def __repr__(self) -> str:
        shown = {one.name: getattr(self, one.name) for one in fields(self)} | {"database": self.database_shown}
        return f"Config({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


OPTIONS: tuple[Option, ...] = tuple(
    one.metadata["row"](name=one.metadata["name"] or one.name.replace("_", "-"), field=one.name)
    for one in fields(Config)
)
"""All options of the daemon but ``--config``, in the order of ``--help``."""

CONFIG_FILE = Option(
    "config", "", "Sources", PATH, "none", "TOML file with options; keys have underscores.", repeats=False, flag=False
)


def load(options: Mapping[str, Any], environ: Mapping[str, str], cwd: Path) -> Config:
    """Read the configuration.

    :param options: the command line: option name (dashes or underscores) → text, list of texts where it may repeat,
        True for a flag; None, False and [] are *not given*. ``config`` names the file.
    :param environ: the environment; ``CHATPROTO_TEST_…`` is not ours to read.
    :param cwd: where relative paths start.
    :raises ConfigurationError: one line that names the option, its source and what is allowed.
    """
    given = {name.replace("_", "-"): value for name, value in options.items() if value or value == ""}
    _refuse_unknown(given, {row.name for row in (*OPTIONS, CONFIG_FILE)}, "option --")
    known = {row.variable: row for row in (*OPTIONS, CONFIG_FILE)}
    ours = {name: value for name, value in environ.items() if name.startswith("CHATPROTO_") and value}
    foreign = {name for name in ours if name.startswith("CHATPROTO_TEST_") or _KUBERNETES.fullmatch(name)}
    _refuse_unknown(ours.keys() - foreign, known.keys(), "environment variable ")

    sources = (
        (f"--{CONFIG_FILE.name}", given.get(CONFIG_FILE.name)),
        (CONFIG_FILE.variable, ours.get(CONFIG_FILE.variable)),
    )
    file = next((_value(CONFIG_FILE, value, source, cwd) for source, value in sources if value is not None), None)
    written = {} if file is None else _read(file)

    values: dict[str, Any] = {}
    for row in OPTIONS:
        if row.name in given:
            values[row.field] = _value(row, given[row.name], f"--{row.name}", cwd)
        elif row.variable in ours:
            text = ours[row.variable]
            parts = [part.strip() for part in text.split(",") if part.strip()] if row.repeats else text
            values[row.field] = _value(row, parts, row.variable, cwd)
        elif row.key in written and file is not None:
            values[row.field] = _value(row, written[row.key], f"{row.key} in {file}", file.parent)
    return Config(**values)


def _read(file: Path) -> dict[str, Any]:
    try:
        written = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--config {file}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"--config {file}: not TOML: {_one_line(str(error))}") from error
    _refuse_unknown(written, {row.key for row in OPTIONS}, f"{file}: key ")
    return written


def _refuse_unknown(names: Sequence[str] | set[str] | Mapping[str, Any], known: Any, what: str) -> None:
    for name in sorted(set(names) - set(known)):
        near = difflib.get_close_matches(name, known, 1, 0.8)
        advice = f"did you mean {near[0]}?" if near else "twistd chatproto --help lists what there is"
        raise ConfigurationError(f"unknown {what}{_one_line(name)}: {advice}")


def _value(row: Option, given: Any, source: str, base: Path) -> Any:
    """*given* as the field's value; relative paths start at *base*."""
    if isinstance(given, list | tuple):
        if not row.repeats:
            raise ConfigurationError(f"{source}: only one value may be given, {row.kind.allowed}")
        return tuple(_single(row.kind, one, source, base) for one in given)
    value = _single(row.kind, given, source, base)
    return (value,) if row.repeats else value


def _single(kind: Kind, given: Any, source: str, base: Path) -> Any:
    shown = "" if kind.secret else f"{_one_line(repr(given))} is not allowed; "
    if isinstance(given, bool) and bool in kind.native:
        return given
    if not isinstance(given, str) and type(given) not in kind.native:
        raise ConfigurationError(f"{source}: {shown}it must be {kind.allowed}")
    try:
        value = kind.parse(str(given))
    except ValueError as error:
        # ip_network and urlsplit say what is wrong in words of their own, and quote the value.
        reason = f" ({_one_line(str(error))})" if str(error) else ""
        raise ConfigurationError(f"{source}: {shown}it must be {kind.allowed}{reason}") from error
    return base / value if isinstance(value, Path) else value


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else line[:117] + "..."


class Options(usage.Options):
    """The command line of ``twistd chatproto``.

    :ivar config: the checked configuration, once :meth:`parseOptions` has returned. What is wrong is said in one
        line on stderr, and the process exits with 2.
    """

    config: Config
    optParameters = [
        [row.name, None, None, row.help] for row in (*OPTIONS, CONFIG_FILE) if not row.flag and not row.repeats
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        try:
            super().parseOptions(options)
            self.config = load(self, os.environ, Path.cwd())
        except (usage.UsageError, ConfigurationError) as error:
            print(f"chatproto: {error}", file=sys.stderr)
            raise SystemExit(2) from error

    def parseArgs(self, *rest: str) -> None:
        if rest:
            raise usage.UsageError(f"{_one_line(rest[0])!r} is no option: all options start with --")

    def getUsage(self, width: int | None = None) -> str:
        width = width or int(os.environ.get("COLUMNS", "80"))
        lines = []
        for group in dict.fromkeys(row.group for row in (*OPTIONS, CONFIG_FILE)):
            lines.append(f"\n{group}:")
            for row in (*OPTIONS, CONFIG_FILE):
                if row.group == group:
                    lines += _usage(row, width)
        notes = (
            "Each option is also an environment variable (--ping-after is CHATPROTO_PING_AFTER; commas separate what"
            " may repeat) and a key of the --config file (ping_after). The command line comes before the environment,"
            " the environment before the file."
        )
        return "\n".join([*lines, "", *textwrap.wrap(notes, width), ""])


def _usage(row: Option, width: int) -> list[str]:
    head = f"  --{row.name}" + ("" if row.flag else f" {row.kind.metavar}")
    text = f"{row.help} [{row.default}{'; may repeat' if row.repeats else ''}]"
    body = textwrap.wrap(text, max(width - 32, 30), break_on_hyphens=False)
    if len(head) > 30:
        return [head, *(" " * 32 + line for line in body)]
    return [f"{head:<32}{body[0]}", *(" " * 32 + line for line in body[1:])]


def _collecting(row: Option) -> Callable[[Options, str], None]:
    def collect(self: Options, value: str) -> None:
        self[row.name] = [*self.get(row.name, ()), value]

    collect.__doc__ = row.help
    return collect


def _raising(row: Option) -> Callable[[Options], None]:
    def raise_flag(self: Options) -> None:
        self[row.name] = True

    raise_flag.__doc__ = row.help
    return raise_flag


for _row in OPTIONS:
    # usage.Options finds these by their names; of an option that repeats it would keep the last value only.
    if _row.repeats or _row.flag:
        setattr(Options, f"opt_{_row.key}", _raising(_row) if _row.flag else _collecting(_row))
