"""The daemon as an operator runs it: a ``twistd -n chatproto`` process of its own.

Its output is read by a thread, so that trial's reactor has nothing of it open between tests, and one daemon may serve
many tests.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

import jwt
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, readBody

from tests.database import ROOT, execute, scratch

reactor = cast(Any, installed_reactor)

PATIENCE = 20.0
"""Seconds after which waiting fails a test."""

SHOP_SECRET = "a shop's secret of the tests, 32+ bytes"
CHANNEL = "chatproto"

_READY = re.compile(r"chatproto \S+ listens on .*?port=(\d+)")
_CHATPROTO = "import sys; from chatproto.cli import main; sys.exit(main())"
_TWISTD = "from twisted.scripts.twistd import run; run()"


class Daemon:
    """A daemon, from :meth:`start` to :meth:`close`; it may be started again on the same data.

    :param options: of the command line, besides ``--listen``, ``--data`` and ``--jwt-secret-file``.
    :param database: DSN; None is the embedded one.
    :param program: Python arguments to run instead of twistd's.
    """

    def __init__(
        self,
        *options: str,
        database: str | None = None,
        listen: str = "tcp:0:interface=127.0.0.1",
        data: Path | None = None,
        environment: Mapping[str, str] | None = None,
        program: tuple[str, ...] = ("-c", _TWISTD),
    ) -> None:
        self._own_data = data is None
        self.data = data or scratch()
        self.data.mkdir(parents=True, exist_ok=True)
        self.secret_file = self.data / "shop.key"
        if not self.secret_file.exists():
            self.secret_file.write_text(SHOP_SECRET)
        self.database = database
        self._command = [
            *(sys.executable, *program, "--nodaemon", "--pidfile=", "chatproto"),
            *("--listen", listen, "--data", str(self.data), "--jwt-secret-file", str(self.secret_file)),
            *(("--database", database) if database else ()),
            *options,
        ]
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[str] | None = None
        self._changed = threading.Condition()
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self.lines: list[str] = []
        self.exit_code: int | None = None
        self.port = 0
        self._ended = False

    # Life.

    async def start(self) -> Daemon:
        """Run it, and wait for the line that says where it listens."""
        self.run()
        await self.until(lambda: self.port != 0 or self._ended, "the start-up line")
        if not self.port:
            raise AssertionError(f"the daemon ended with {self.exit_code}:\n{self.log}")
        return self

    def run(self) -> None:
        """Run it, whatever becomes of it."""
        self.port, self.exit_code, self._ended = 0, None, False
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=self._environment,
            start_new_session=True,
        )
        atexit.register(self._kill_at_exit)
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        with self._changed:
            return "".join(self.lines)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """End it as the kernel does."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        if not self._ended:
            self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for its end; returns the exit code, negative for a signal."""
        await self.until(lambda: self._ended, "the end of the daemon")
        assert self.exit_code is not None
        return self.exit_code

    async def close(self) -> None:
        """End it and remove its files."""
        if self._process is not None and not self._ended:
            await self.stop()
        if self._own_data:
            shutil.rmtree(self.data, ignore_errors=True)

    # What it says.

    async def until(self, condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Wait until *condition*, which is looked at after each line of the log and at the end, is true."""
        changed: Deferred[None] = Deferred()
        with self._changed:
            if condition():
                return
            self._waiting.append((condition, changed))
        changed.addTimeout(patience, reactor, lambda *_: Failure(AssertionError(f"no {what} in:\n{self.log}")))
        await changed

    async def logged(self, pattern: str, times: int = 1) -> None:
        """Wait for so many lines that *pattern* is found in."""
        await self.until(lambda: len(re.findall(pattern, "".join(self.lines))) >= times, f"log line {pattern!r}")

    async def http(self, path: str) -> tuple[int, str]:
        """GET on the port of the daemon."""
        pool = HTTPConnectionPool(reactor, persistent=False)
        response = await Agent(reactor, connectTimeout=PATIENCE, pool=pool).request(
            b"GET", f"http://127.0.0.1:{self.port}{path}".encode()
        )
        return response.code, (await readBody(response)).decode()

    async def ready(self, code: int = 200) -> None:
        """Ask /readyz, as a load balancer does, until it answers *code*."""

        async def answers() -> bool:
            return (await self.http("/readyz"))[0] == code

        await eventually(answers, f"/readyz {code}")

    # Its accounts.

    @property
    def dsn(self) -> str:
        """Of its database; for an embedded one by its socket."""
        if self.database is not None:
            return self.database
        lines = (self.data / "pg" / "postmaster.pid").read_text().splitlines()
        return f"postgresql://chatproto@/chatproto?host={lines[4]}&port={lines[3]}"

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return execute(self.dsn, statement, *parameters)

    def add_group(self, name: str = "Shoes") -> int:
        [(group_id,)] = self.sql("INSERT INTO service_group (name) VALUES (%s) RETURNING id", name)
        return int(group_id)

    def add_admin(self, group_id: int, name: str, capacity: int = 10) -> int:
        [(admin_id,)] = self.sql(
            "INSERT INTO admin (group_id, name, capacity) VALUES (%s, %s, %s) RETURNING id", group_id, name, capacity
        )
        return int(admin_id)

    def tell(self) -> None:
        """NOTIFY, as whoever changes accounts has to."""
        self.sql("SELECT pg_notify(%s, '{}')", CHANNEL)

    async def command_line(self, *arguments: str) -> str:
        """Run ``chatproto NOUN VERB`` on the same data; returns what it prints."""
        command = [sys.executable, "-c", _CHATPROTO, "--data", str(self.data)]
        if self.database is not None:
            command += ["--database", self.database]
        command += arguments

        def work() -> str:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, env=self._environment
            )
            if done.returncode:
                raise AssertionError(f"{arguments} ended with {done.returncode}: {done.stderr}")
            return done.stdout

        return await deferToThread(work)

    # The thread that reads.

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in cast("IO[str]", process.stdout):
            with self._changed:
                self.lines.append(line)
                if (found := _READY.search(line)) is not None:
                    self.port = int(found[1])
                self._tell_waiting()
        code = process.wait()
        cast("IO[str]", process.stdout).close()
        atexit.unregister(self._kill_at_exit)
        with self._changed:
            self.exit_code, self._ended = code, True
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        done = [waiting for waiting in self._waiting if waiting[0]()]
        for waiting in done:
            self._waiting.remove(waiting)
            reactor.callFromThread(_fire, waiting[1])

    def _kill_at_exit(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._own_data:
            shutil.rmtree(self.data, ignore_errors=True)


def _fire(waiting: Deferred[None]) -> None:
    if not waiting.called:
        waiting.callback(None)


async def eventually(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> None:
    """Ask *condition* (a coroutine function) again and again, until it is true."""
    give_up_at = time.monotonic() + patience
    while not await condition():
        if time.monotonic() > give_up_at:
            raise AssertionError(f"it never came to {what}")
        await deferLater(reactor, 0.02, lambda: None)


def token(*, secret: str = SHOP_SECRET, life: float = 3600, age: float = 0, **claims: Any) -> str:
    """A token as the shop makes it; *age* seconds of its *life* are over."""
    now = time.time() - age
    return jwt.encode({"iat": int(now), "exp": int(now + life), **claims}, secret, algorithm="HS256")
