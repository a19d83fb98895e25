"""CPU and memory of processes, from /proc (proc(5))."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CLIENT = re.compile(r"postgres: \S+ \S+ \[local\]")


@dataclass(frozen=True, slots=True)
class Stat:
    """Of ``/proc/PID/stat``: the parent, and CPU seconds of the process and of children it has waited for."""

    parent: int
    own: float
    children: float


def parse_stat(text: str) -> Stat:
    # The name stands in parentheses and may hold anything, also spaces and parentheses.
    fields = text[text.rindex(")") + 2 :].split()
    user, system, children_user, children_system = map(int, fields[11:15])
    return Stat(int(fields[1]), (user + system) * _TICK, (children_user + children_system) * _TICK)


def is_client_backend(command_line: str) -> bool:
    """Whether a process of PostgreSQL serves a client (and is no writer, worker or the like)."""
    return _CLIENT.match(command_line) is not None


def stat(pid: int) -> Stat | None:
    """None where there is no such process."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def cpu(pid: int) -> float:
    """CPU seconds of a process, all threads."""
    found = stat(pid)
    return found.own if found is not None else 0.0


def exact_cpu(pid: int) -> float:
    """CPU seconds of the first thread of a process, to the nanosecond where the kernel counts so."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except FileNotFoundError:
        return cpu(pid)


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


@dataclass(frozen=True, slots=True)
class PostgresCpu:
    """CPU seconds: of the processes that serve clients, and of all others, also those that have ended."""

    backends: float
    others: float


def postgres_cpu(postmaster: int) -> PostgresCpu:
    own = stat(postmaster)
    backends, others = 0.0, own.own + own.children if own is not None else 0.0
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        found = stat(int(entry))
        if found is None or found.parent != postmaster:
            continue
        try:
            command_line = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if is_client_backend(command_line):
            backends += found.own
        else:
            others += found.own
    return PostgresCpu(backends, others)


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds of a server and of PostgreSQL, at one moment or between two."""

    server: float
    backends: float
    others: float

    @classmethod
    def now(cls, server: int, postmaster: int | None) -> Usage:
        """:param postmaster: None where the server uses no database."""
        if postmaster is None:
            return cls(cpu(server), 0.0, 0.0)
        postgres = postgres_cpu(postmaster)
        return cls(cpu(server), postgres.backends, postgres.others)

    def since(self, before: Usage) -> Usage:
        return Usage(self.server - before.server, self.backends - before.backends, self.others - before.others)

    @property
    def total(self) -> float:
        return self.server + self.backends + self.others
