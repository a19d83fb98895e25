"""Runs the load generator, and reads what it says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.people import Connection, handshake, write_plan

Event = dict[str, Any]

FLAWS = ("refused", "duplicate", "missing", "strange", "closed")
"""What the load generator counts that must not happen."""


class Load:
    """One run of the load generator, which starts at once.

    :param directory: for its files.
    :param mode: closed, rate, hold or storm; *options* are those of load.c.
    """

    def __init__(
        self,
        program: Path,
        directory: Path,
        port: int,
        connections: Iterable[Connection],
        mode: str,
        **options: float,
    ) -> None:
        plan, head, self._counts = directory / "plan", directory / "head", directory / "counts"
        write_plan(plan, connections)
        head.write_bytes(handshake(port).encode())
        arguments = [f"{name}={value}" for name, value in {**options, "counts": self._counts}.items()]
        self._process = subprocess.Popen(
            [program, str(port), plan, head, mode, *arguments], stdout=subprocess.PIPE, text=True
        )

    def wait_for(self, name: str) -> Event:
        """The next event, which has to be this one.

        :raises BenchError: it is another, or the load generator has failed.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        event = json.loads(line) if line else {"event": f"exit code {self._process.wait()}"}
        if event["event"] != name or event.get("failed"):
            self.close(0)
            raise BenchError(f"the load generator: expected {name}, got {json.dumps(event)}")
        return dict(event)

    def counts(self) -> dict[int, tuple[int, int]]:
        """thread → messages sent and acknowledged; after the result."""
        self.close()
        lines = (map(int, line.split()) for line in self._counts.read_text().splitlines())
        return {thread: (sent, acknowledged) for thread, sent, acknowledged in lines}

    def close(self, patience: float = 5.0) -> None:
        """Wait for its end; one that does not come to it in so many seconds is stopped."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def flaws(result: Event) -> list[str]:
    """What the load generator found wrong, for people."""
    found = [f"{result[name]} {name}" for name in FLAWS if result.get(name)]
    if result.get("acked_all", 0) != result.get("sent", 0):
        found.append(f"{result['sent'] - result['acked_all']} not acknowledged")
    if result.get("pushed_all", 0) != result.get("expected_pushes", 0):
        found.append(f"{result['expected_pushes'] - result['pushed_all']} not delivered")
    if found and result.get("error"):
        found.append(f"the first: {result['error']}")
    return found
