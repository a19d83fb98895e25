"""``chatproto doctor``: whether everything is as a daemon with this configuration needs it. It changes nothing.

Run it as the user of the daemon, with the daemon's options.
"""

from __future__ import annotations

import http.client
import os
import resource
import shutil
import ssl
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from autobahn.websocket import USES_NVX
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThreadPool

from chatproto.config import Config
from chatproto.domain.tokens import load_server_secret, read_shop_keys
from chatproto.embedded import EmbeddedPostgres
from chatproto.embedded.programs import find
from chatproto.errors import StartError, StorageError
from chatproto.files.place import Unavailable
from chatproto.files.s3 import Bucket
from chatproto.listening import OTHER_FILES
from chatproto.storage import migrations, registry
from chatproto.storage.pool import Pool

OK, WARN, FAIL = "ok", "warn", "FAIL"

OLDEST, NEWEST = 14, 18
"""PostgreSQL's versions that are tested."""

CLOCKS_APART = 2.0
"""Seconds that the clocks of the database and of this machine may differ."""

_LEAST_FREE = 1 << 30
_LEAST_DISTINCT = 10
_ANSWER_LIMIT = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """
    :ivar status: OK, WARN (works, but not as it should) or FAIL.
    :ivar found: what is there, or what is wrong with it.
    :ivar advice: what to do.
    """

    name: str
    status: str
    found: str
    advice: str = ""


async def examine(config: Config, reactor: Any) -> list[Check]:
    """All checks, in the order in which a daemon would meet what they are about."""
    return [
        data_directory(config.data),
        *keys(config),
        *await database(config, reactor),
        await deferToThreadPool(reactor, reactor.getThreadPool(), file_store, config),
        nvx(),
        file_limit(config.max_connections),
        *[await port(endpoint, reactor) for endpoint in config.listen],
    ]


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    return {"ok": all(check.status != FAIL for check in checks), "checks": [asdict(check) for check in checks]}


def as_text(checks: Sequence[Check]) -> str:
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.status:<4}  {check.name:<{width}}  {check.found}")
        if check.advice:
            lines.append(f"{'':<{width + 8}}-> {check.advice}")
    return "\n".join(lines)


# Files.


def data_directory(path: Path) -> Check:
    name = "data"
    if not path.exists():
        parent = next(one for one in path.absolute().parents if one.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            return Check(name, FAIL, f"{path} is missing and cannot be made in {parent}", f"make it, or {_OTHER_DATA}")
        return Check(name, OK, f"{path} will be made at the first start")
    if not path.is_dir():
        return Check(name, FAIL, f"{path} is no directory", _OTHER_DATA)
    status = path.stat()
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return Check(name, FAIL, f"{path} is not ours to write", f"chown it to this user, or {_OTHER_DATA}")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022:
        return Check(name, FAIL, f"others may write to {path} (mode {mode:04o})", f"chmod go-w {path}")
    if mode & 0o044:
        return Check(name, WARN, f"others may list {path} (mode {mode:04o})", f"chmod go-r {path}")
    free = shutil.disk_usage(path).free
    if free < _LEAST_FREE:
        return Check(name, WARN, f"{path} has {free >> 20} MiB left", "free some space: the database stops without")
    return Check(name, OK, f"{path}, {free >> 30} GiB free")


_OTHER_DATA = "give another --data"


def file_store(config: Config) -> Check:
    """Whether files can be kept. In a bucket a file is written for it, and removed; blocks."""
    name = "file store"
    if isinstance(config.files, str):
        try:
            Bucket(config.files, config.bucket_endpoint, 1).probe()
        except (StartError, Unavailable) as error:
            return Check(name, FAIL, str(error), "see what the key may do, and --bucket-endpoint")
        return Check(name, OK, f"{config.files} can be written to")
    path = config.files or config.data / "files"
    there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    if not there.is_dir():
        return Check(name, FAIL, f"{there} is no directory", "give another --files")
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        return Check(name, FAIL, f"{there} is not ours to write", "chown it to this user, or give another --files")
    free = shutil.disk_usage(there).free
    if free < config.min_free + config.max_file:
        return Check(name, WARN, f"{path} has {free >> 20} MiB left", "free some space, or lower --min-free")
    return Check(name, OK, f"{path}, {free >> 30} GiB free")


def keys(config: Config) -> list[Check]:
    """The server's own key, and the shop's."""
    path = config.data / "secret"
    if not path.exists():
        server = Check("server key", OK, f"{path} will be made at the first start")
        secret = b""
    else:
        try:
            secret = load_server_secret(path)
        except StartError as error:
            return [Check("server key", FAIL, *_split(error)), *_shop_keys(config, b"")]
        server = Check("server key", OK, f"{path}, {len(secret)} bytes")
        if _weak(secret):
            server = Check("server key", WARN, f"{path} is easy to guess", f"remove it ({_LOG_IN_AGAIN})")
    return [server, *_shop_keys(config, secret)]


_LOG_IN_AGAIN = "everybody has to log in again then"
_RANDOM = "make one with: openssl rand -hex 32"


def _shop_keys(config: Config, server_secret: bytes) -> list[Check]:
    name = "shop key"
    files = (*config.jwt_secret_files, *config.jwt_public_key_files)
    if not files:
        return [Check(name, OK, f"the text of {config.data / 'secret'}, {config.jwt_algorithm}")]
    try:
        found = read_shop_keys(config, server_secret)
    except StartError as error:
        return [Check(name, FAIL, *_split(error))]
    checks = []
    for path, key in zip(files, found, strict=True):
        mode = stat.S_IMODE(path.stat().st_mode)
        private = path in config.jwt_secret_files
        if private and mode & 0o077:
            checks.append(Check(name, WARN, f"others may read {path} (mode {mode:04o})", f"chmod 600 {path}"))
        elif private and _weak(key):
            checks.append(Check(name, WARN, f"{path} is easy to guess", _RANDOM))
        elif private and key == server_secret:
            checks.append(Check(name, WARN, f"{path} is the server's secret too", f"the shop needs its own: {_RANDOM}"))
        else:
            checks.append(Check(name, OK, f"{path}, {config.jwt_algorithm}"))
    return checks


def _weak(secret: bytes) -> bool:
    return len(set(secret)) < _LEAST_DISTINCT


def _split(error: Exception) -> tuple[str, str]:
    """Errors of a start say what is wrong, a colon, and what to do."""
    wrong, _, advice = str(error).rpartition(": ")
    return (wrong, advice) if wrong else (advice, "")


# The database.


async def database(config: Config, reactor: Any) -> list[Check]:
    """Whether it can be reached and used, and its clock. The embedded one is started for it, but never made."""
    name = "database"
    embedded = None
    dsn = config.database
    try:
        if dsn is None:
            programs = await find(reactor)
            if not (config.data / "pg").exists():
                version = f"PostgreSQL {programs.version} in {programs.directory}"
                return [Check(name, OK, f"embedded, will be made at the first start by {version}")]
            embedded = EmbeddedPostgres(config.data, reactor=reactor)
            dsn = await embedded.start(join=True)
        pool = Pool(dsn, clock=reactor, size=1, timeout=config.query_timeout, name="doctor")
        try:
            await pool.start()
            return await _look(pool, config.database_shown)
        finally:
            await pool.close()
    except (StartError, StorageError) as error:
        outside = "is it running, and is --database right?"
        advice = f"see {config.data / 'pg.log'}" if config.database is None else outside
        return [Check(name, FAIL, f"{config.database_shown}: {error}", advice)]
    finally:
        if embedded is not None:
            await embedded.stop()


async def _look(pool: Pool, shown: str) -> list[Check]:
    before = time.time()
    number, theirs, safe = await registry.server(pool)
    after = time.time()
    version = number // 10000
    found = f"{shown}, PostgreSQL {version}.{number % 10000}"
    checks = [Check("database", OK, found)]
    if not safe:
        checks = [
            Check(
                "database",
                WARN,
                f"{found} has fsync or synchronous_commit off: a power cut loses acknowledged messages",
                "switch both on",
            )
        ]
    elif version > NEWEST:
        checks = [Check("database", WARN, f"{found} is newer than what was tested", f"use {OLDEST} to {NEWEST}")]
    return [*checks, await _schema(pool), clock(theirs, before, after)]


async def _schema(pool: Pool) -> Check:
    known = len(migrations.read(resources.files("chatproto.storage") / "schema"))
    version = await registry.schema_version(pool)
    if version < known:
        what = f"version {version} of {known}" if version else "empty"
        return Check("schema", WARN, what, "nothing: the next start or command brings it up to date")
    try:
        # Changes nothing here, but refuses what this code is too old for.
        await migrations.migrate(pool)
    except StartError as error:
        return Check("schema", FAIL, str(error), "install that version")
    newer = f", newer than this code ({known}), which may be used with it" if version > known else ""
    return Check("schema", OK, f"version {version}{newer}")


def clock(theirs: float, before: float, after: float) -> Check:
    """:param theirs: the database's time, asked for between *before* and *after* by this machine's clock."""
    apart = theirs - min(max(theirs, before), after)
    found = f"the database's is {abs(apart):.1f} s {'ahead' if apart > 0 else 'behind'}"
    if abs(apart) > CLOCKS_APART:
        return Check("clock", WARN, found, "set both by NTP: tokens expire and messages are dated by them")
    return Check("clock", OK, found if abs(apart) >= 0.1 else "as the database's")


# The process.


def nvx(used: bool = USES_NVX) -> Check:
    if not used:
        return Check(
            "NVX",
            WARN,
            "Autobahn runs without its native code: two to eight times the CPU",
            "unset AUTOBAHN_USE_NVX, and install autobahn from a wheel",
        )
    return Check("NVX", OK, "Autobahn uses its native code")


def file_limit(connections: int) -> Check:
    """:param connections: ``--max-connections``."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # the daemon raises its soft limit to the hard one
    needed = connections + OTHER_FILES
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return Check("files", OK, f"{hard} may be open, enough for {connections} connections")
    return Check(
        "files",
        WARN,
        f"{hard} may be open here: room for {max(hard - OTHER_FILES, 0)} of {connections} connections",
        f"LimitNOFILE={needed} (systemd), or a higher hard limit (ulimit -Hn), or a lower --max-connections",
    )


async def port(endpoint: str, reactor: Any) -> Check:
    """Whether a daemon could listen there, or one of ours does."""
    kind = endpoint.partition(":")[0].lower()
    if kind not in ("tcp", "tcp4", "tcp6", "ssl"):
        return Check("port", OK, f"{endpoint} was not looked at: no TCP port")
    listening: Deferred[Any]
    try:
        listening = serverFromString(reactor, endpoint).listen(Factory())
        opened = await listening
    except CannotListenError as error:
        number = error.socketError.errno
        return await _taken(endpoint, kind == "ssl", error, number, reactor)
    except Exception as error:
        # Twisted's endpoints raise what they like: bad arguments, key files that cannot be read.
        return Check("port", FAIL, f"{endpoint}: {error}", "correct --listen")
    await opened.stopListening()
    return Check("port", OK, f"{endpoint} is free")


async def _taken(endpoint: str, tls: bool, error: CannotListenError, number: int | None, reactor: Any) -> Check:
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(error.interface, error.interface)
    asking: Deferred[bool] = deferToThreadPool(reactor, reactor.getThreadPool(), _is_ours, host, error.port, tls)
    if await asking:
        return Check("port", OK, f"{endpoint}: the daemon is running")
    why = os.strerror(number) if number else str(error.socketError)
    advice = f"see who it is: ss -ltnp 'sport = :{error.port}'; or give another --listen"
    return Check("port", FAIL, f"{endpoint}: {why}", advice)


def _is_ours(host: str, number: int, tls: bool) -> bool:
    """Whether ``/healthz`` is answered there as our daemon does."""
    asked: http.client.HTTPConnection
    if tls:
        # Who it is, not whether the certificate is good for this address.
        context = ssl._create_unverified_context()
        asked = http.client.HTTPSConnection(host, number, timeout=_ANSWER_LIMIT, context=context)
    else:
        asked = http.client.HTTPConnection(host, number, timeout=_ANSWER_LIMIT)
    try:
        with suppress(OSError, http.client.HTTPException):
            asked.request("GET", "/healthz")
            answer = asked.getresponse()
            return answer.status == 200 and answer.getheader("Server") == "chatproto"
    finally:
        asked.close()
    return False
