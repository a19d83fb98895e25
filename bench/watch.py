"""What a server is like while something goes on for long: memory, files, CPU and lag, and whether they stay flat."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bench.load import Event
from bench.report import number, table
from bench.stage import Running
from bench.usage import resident

_LATE = re.compile(r"The event loop is .*?(\d+) ms (?:late|at most)")
MOST_ROWS = 40


@dataclass(frozen=True, slots=True)
class Sample:
    """One look.

    :ivar at: seconds since the beginning.
    :ivar rss: MiB of the server.
    :ivar files: that it has open.
    :ivar p99: milliseconds from when a message was due to its receiver, since the look before; so is *p50*.
    :ivar lag: the most milliseconds that the server said its loop was late, since the look before.
    :ivar cores: CPU seconds a second of the server; *backends* of the database's.
    """

    at: float
    rss: float
    files: int
    p50: float
    p99: float
    lag: int
    cores: float
    backends: float

    def json(self) -> dict[str, Any]:
        return asdict(self)


class Watch:
    """Looks at a server from the beginning of a measurement on."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._pid = running.server.pid
        self._log = running.server.data / "server.log"
        self._seen = self._log.stat().st_size
        self._began = self._looked = time.monotonic()
        self._used = running.usage()
        self.samples: list[Sample] = []

    def look(self, event: Event) -> Sample:
        """:param event: the load generator's sample of the same time."""
        now, used = time.monotonic(), self._running.usage()
        spent, seconds = used.since(self._used), now - self._looked
        self._looked, self._used = now, used
        sample = Sample(
            at=round(now - self._began, 1),
            rss=round(self.rss(), 2),
            files=self.files(),
            p50=event["push"]["p50"],
            p99=event["push"]["p99"],
            lag=self._lag(),
            cores=round(spent.server / seconds, 3),
            backends=round(spent.backends / seconds, 3),
        )
        self.samples.append(sample)
        return sample

    def rss(self) -> float:
        """MiB."""
        return resident(self._pid) / (1 << 20)

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self._pid}/fd"))

    def _lag(self) -> int:
        with self._log.open("rb") as log:
            log.seek(self._seen)
            new = log.read()
        self._seen += len(new)
        return max(map(int, _LATE.findall(new.decode(errors="replace"))), default=0)


def tell(what: str, sample: Sample) -> None:
    """The progress line of a long step."""
    line = (
        f"    {what}: {sample.at:.0f} s, RSS {sample.rss:.1f} MiB, {sample.files} files, p99 {number(sample.p99)} ms,"
        f" lag {sample.lag} ms, {sample.cores:.2f} cores"
    )
    start, end = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")
    print(f"{start}{line}", end=end, file=sys.stderr, flush=True)


def growth(samples: Sequence[tuple[float, float]]) -> float:
    """How much the straight line through the (time, value) pairs rises from the first to the last."""
    if len(samples) < 2:
        return 0.0
    times, values = zip(*samples, strict=True)
    middle, level = sum(times) / len(times), sum(values) / len(values)
    spread = sum((at - middle) ** 2 for at in times)
    slope = sum((at - middle) * (value - level) for at, value in samples) / spread if spread else 0.0
    return float(slope * (times[-1] - times[0]))


@dataclass(frozen=True, slots=True)
class Flat:
    """A bound on how something may change.

    :ivar part: as a part of its mean, and never less than *least*.
    """

    what: str
    unit: str
    part: float
    least: float

    def flaw(self, samples: Sequence[tuple[float, float]]) -> str | None:
        """What is wrong with its (time, value) pairs, for people."""
        grown = growth(samples)
        mean = sum(value for _, value in samples) / max(len(samples), 1)
        if grown <= max(self.least, self.part * mean):
            return None
        return f"{self.what} grew by {number(grown)}{self.unit} around {number(mean)}{self.unit}"


def first_and_last(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the first third and of the last."""
    third = max(1, len(values) // 3)
    return median(values[:third]), median(values[-third:])


HEADS: Mapping[str, str] = {
    "at": "s",
    "rss": "RSS MiB",
    "files": "files",
    "p50": "push p50 ms",
    "p99": "push p99 ms",
    "lag": "lag ms",
    "cores": "server, cores",
    "backends": "backends, cores",
}


def shown(samples: Sequence[Sample], most: int = MOST_ROWS) -> list[str]:
    """A Markdown table of the samples; of very many every second, third …"""
    step = -(-len(samples) // most) if samples else 1
    rows = [[number(value) for value in sample.json().values()] for sample in samples[::step]]
    return table(list(HEADS.values()), rows)
