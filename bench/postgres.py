"""The PostgreSQL of a run: the daemon's embedded one, with its settings, in a process of its own.

All servers that are compared use it, one after the other, each with a fresh database.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.python.failure import Failure

from bench.errors import BenchError
from chatproto.embedded import EmbeddedPostgres

ROOT = Path(__file__).resolve().parent.parent


def named(dsn: str, database: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


def execute(dsn: str, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run statements on a connection of their own, and return the rows of the last one."""
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return cast("list[tuple[Any, ...]]", cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


class Cluster:
    """The server, seen from the benchmark; it ends with :meth:`close`, or when the benchmark is gone.

    :ivar dsn: of its first database, which holds nothing.
    :ivar programs: the directory of its programs, pgbench among them.
    :ivar postmaster: its process id.
    """

    def __init__(self, data: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.postgres", str(data)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("{"):
            self.close()
            raise BenchError("PostgreSQL cannot start, see above")
        told = json.loads(line)
        self.dsn: str = told["dsn"]
        self.postmaster: int = told["postmaster"]
        self.programs = Path(os.readlink(f"/proc/{self.postmaster}/exe")).parent
        self.version: str = execute(self.dsn, "SHOW server_version")[0][0]

    def fresh(self, name: str) -> str:
        """Make an empty database, in place of one that had the name, and return its DSN."""
        self.drop(name)
        execute(self.dsn, f'CREATE DATABASE "{name}"')
        # What was written before is not to be flushed while something else is measured.
        execute(self.dsn, "CHECKPOINT")
        return named(self.dsn, name)

    def drop(self, name: str) -> None:
        execute(self.dsn, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def settings(self) -> dict[str, str]:
        """What a reader of the results may want to know."""
        names = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "wal_sync_method", "max_wal_size")
        return {name: execute(self.dsn, f"SHOW {name}")[0][0] for name in names}

    def close(self) -> None:
        self._process.communicate()


class _UntilClosed(Protocol):
    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)


async def serve(reactor: Any, data: Path) -> None:
    """Run the server until standard input closes."""
    server = EmbeddedPostgres(data, reactor=reactor)
    dsn = await server.start()
    try:
        postmaster = int((server.directory / "postmaster.pid").read_text().split("\n", 1)[0])
        print(json.dumps({"dsn": dsn, "postmaster": postmaster}), flush=True)
        waiting = _UntilClosed()
        StandardIO(waiting)
        await waiting.closed
    finally:
        await server.stop()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(serve(reactor, Path(sys.argv[1]))))
