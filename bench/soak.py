"""Does anything grow? Steady traffic for a long time, while one of a hundred connections is replaced each second."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.load import flaws
from bench.peers import Company, Peer
from bench.people import Logins, People, pairs
from bench.report import number
from bench.results import Key
from bench.servers import CHATPROTO
from bench.stage import Found, Running, Stage, Step, times
from bench.verify import compare, lengths, read
from bench.watch import Flat, Sample, Watch, first_and_last, growth, shown, tell

SOAK = "Soak"
EVERY = 10.0
"""Seconds between two samples."""
SETTLED = 90.0
"""Seconds until as many connections are half open as ever will be: the server notices one after 50 s and 5 s more."""
REPLACED = 0.01
"""The part of all connections that is replaced each second."""
WAYS = ("log out", "close", "reset", "vanish")

MEMORY = Flat("memory", " MiB", 0.05, 4.0)
FILES = Flat("open files", "", 0.05, 25)
MOST_SLOWER = 2.0
"""How many times the p99 of the beginning the p99 of the end may be."""

_WORKERS = 4


@dataclass(frozen=True, slots=True)
class SoakSizes:
    """:ivar pairs: that write to each other, and whose messages are all verified.
    :ivar crowd: pairs of which the connections are replaced.
    :ivar rate: messages a second.
    """

    minutes: float = 30.0
    pairs: int = 100
    crowd: int = 900
    rate: int = 500

    @property
    def connections(self) -> int:
        return 2 * (self.pairs + self.crowd)


QUICK = SoakSizes(minutes=3.0, crowd=400)


class Crowd:
    """Guests and admins who come, do something, and leave: by a log-out, a close, a reset, or by falling silent.

    Each worker has identities of its own. None of them has to do with the pairs that are verified.
    """

    def __init__(self, running: Running, people: People, first: int, replaced: float) -> None:
        """:param first: the first guest of the crowd, and the first admin.
        :param replaced: connections a second.
        """
        self._port = running.server.port
        self._logins: Logins = running.logins
        self._people = people
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._leaving: set[Peer] = set()
        self._vanished: list[tuple[float, Peer]] = []
        self._complaints: list[str] = []
        self.replaced = 0
        self._company = Company(self._gone)
        identities = [(kind, id_) for id_ in range(first, people.guests + 1) for kind in ("admin", "guest")]
        parts = [identities[n::_WORKERS] for n in range(_WORKERS)]
        with ThreadPoolExecutor(_WORKERS) as workers:
            present = list(workers.map(self._fill, parts))
        self._threads = [
            threading.Thread(target=self._replace, args=(here, replaced / _WORKERS, n), name=f"crowd {n}", daemon=True)
            for n, here in enumerate(present)
        ]

    def start(self) -> None:
        """Begin to leave and to come."""
        for thread in self._threads:
            thread.start()

    def close(self) -> list[str]:
        """Go home; returns what was wrong, for people."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._company.close()
        for _, peer in self._vanished:
            peer.socket.close()
        if not self._complaints:
            return []
        return [f"{len(self._complaints)} of the crowd had trouble; the first: {self._complaints[0]}"]

    def _fill(self, identities: list[tuple[str, int]]) -> dict[tuple[str, int], Peer]:
        return {identity: self._come(identity) for identity in identities}

    def _come(self, identity: tuple[str, int]) -> Peer:
        """Log in and do something that the server has to do work for."""
        kind, id_ = identity
        login = self._logins.admin(id_) if kind == "admin" else self._people.guest(self._logins, id_)
        # Behind the places of the pairs, in steps that keep production's limit of connections from one address.
        peer = Peer(self._port, 2 * id_ + (kind == "guest"), login)
        peer.say(api_key=32000) if kind == "admin" else peer.say(api_key=22300, msg="Hello again!")
        self._company.add(peer)
        return peer

    def _replace(self, here: dict[tuple[str, int], Peer], rate: float, seed: int) -> None:
        chance = random.Random(seed)
        identities = list(here)
        due = time.monotonic()
        while True:
            due += 1 / rate
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                return
            identity = chance.choice(identities)
            try:
                self._leave(here[identity], identity[0], chance.choice(WAYS))
                here[identity] = self._come(identity)
                with self._lock:
                    self.replaced += 1
            except (BenchError, OSError) as error:
                self._complain(str(error))

    def _leave(self, peer: Peer, kind: str, way: str) -> None:
        now = time.monotonic()
        with self._lock:
            self._leaving.add(peer)
            over = [one for at, one in self._vanished if now > at + SETTLED]
            self._vanished = [(at, one) for at, one in self._vanished if now <= at + SETTLED]
        for one in over:
            one.socket.close()
        if way == "log out":
            peer.say(api_key=31020 if kind == "admin" else 21020)
        elif way == "close":
            peer.close_in_order()
        elif self._company.remove(peer):
            self._leaving.discard(peer)
            if way == "reset":
                peer.reset()
            else:
                with self._lock:
                    self._vanished.append((now, peer))

    def _gone(self, peer: Peer) -> None:
        with self._lock:
            expected = peer in self._leaving
            self._leaving.discard(peer)
        if not expected:
            self._complain("closed by the server")

    def _complain(self, what: str) -> None:
        with self._lock:
            self._complaints.append(what)


class Soak:
    """:param out: where soak.json and soak.md go."""

    def __init__(self, stage: Stage, sizes: SoakSizes, out: Path) -> None:
        self._stage = stage
        self._sizes = sizes
        self._out = out

    def steps(self) -> Iterator[Step]:
        sizes = self._sizes
        point = f"{number(sizes.minutes)} minutes, {sizes.connections:,} connections, {sizes.rate} messages a second"
        key = Key(SOAK, point, CHATPROTO)
        yield Step(key, partial(self._run, point))

    def _run(self, point: str) -> Found:
        sizes = self._sizes
        everybody = sizes.pairs + sizes.crowd
        people = People(everybody, everybody)
        with self._stage.server(CHATPROTO, people) as running:
            assert running.dsn is not None
            stood = lengths(running.dsn)
            crowd = Crowd(running, people, sizes.pairs + 1, REPLACED * sizes.connections)
            try:
                seconds = sizes.minutes * 60
                load = running.load(
                    _talking(people, running.logins, sizes.pairs),
                    "rate",
                    rate=sizes.rate,
                    warm=self._stage.warm,
                    # A little more than the samples, so that the last one is told.
                    measure=seconds + 0.5,
                    sample=EVERY,
                )
                load.wait_for("ready")
                load.wait_for("measuring")
                crowd.start()
                watch = Watch(running)
                for _ in range(int(seconds / EVERY)):
                    tell(f"soak, {crowd.replaced} replaced", watch.look(load.wait_for("sample")))
                load.wait_for("measured")
                result = running.result(load)
            finally:
                trouble = crowd.close()
            verdict = compare(load.counts(), read(running.dsn, stood))
        wrong = [*flaws(result), *verdict.flaws, *trouble]
        metrics = {
            "rate": result["pushed"] / result["seconds"],
            **times("push_", result["push"], ("p50", "p99", "max")),
            "load_cores": result["cpu"] / result["seconds"],
            "replaced": crowd.replaced,
            "lost": verdict.lost,
            "undelivered": result["expected_pushes"] - result["pushed_all"],
            **judged(watch.samples),
        }
        wrong += not_flat(watch.samples)
        self._keep(point, watch.samples, metrics, wrong)
        return Found(metrics, wrong)

    def _keep(self, point: str, samples: Sequence[Sample], metrics: dict[str, float], wrong: list[str]) -> None:
        self._out.mkdir(parents=True, exist_ok=True)
        kept: dict[str, Any] = {
            "point": point,
            "metrics": metrics,
            "flaws": wrong,
            "samples": [sample.json() for sample in samples],
        }
        (self._out / "soak.json").write_text(json.dumps(kept, indent=1) + "\n")
        (self._out / "soak.md").write_text(report(point, samples, metrics, wrong))


def _talking(people: People, logins: Logins, count: int) -> Iterator[Any]:
    """The pairs that write, without the crowd."""
    return (one for one in pairs(people, logins, count) if one.role != "idle")


def _settled(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Those after the start; of a very short run the second half."""
    late = [sample for sample in samples if sample.at > SETTLED]
    return late if len(late) >= len(samples) / 2 else samples[len(samples) // 2 :]


def judged(samples: Sequence[Sample]) -> dict[str, float]:
    """The figures of the verdict."""
    settled = _settled(samples)
    first, last = first_and_last([sample.p99 for sample in settled])
    hours = (settled[-1].at - settled[0].at) / 3600 or 1.0
    of = {"rss": [(one.at, one.rss) for one in settled], "files": [(one.at, float(one.files)) for one in settled]}
    return {
        "rss_first": settled[0].rss,
        "rss_last": settled[-1].rss,
        "rss_slope": growth(of["rss"]) / hours,
        "files_first": settled[0].files,
        "files_last": settled[-1].files,
        "files_slope": growth(of["files"]) / hours,
        "p99_first": first,
        "p99_last": last,
        "lag_max": max(sample.lag for sample in samples),
        "cores": sum(sample.cores for sample in settled) / len(settled),
    }


def not_flat(samples: Sequence[Sample]) -> list[str]:
    """What grew, for people; nothing where all is as it has to be."""
    settled = _settled(samples)
    first, last = first_and_last([sample.p99 for sample in settled])
    found = [
        MEMORY.flaw([(one.at, one.rss) for one in settled]),
        FILES.flaw([(one.at, float(one.files)) for one in settled]),
        f"p99 went from {number(first)} to {number(last)} ms" if last > MOST_SLOWER * first else None,
    ]
    return [one for one in found if one is not None]


def report(point: str, samples: Sequence[Sample], metrics: dict[str, float], wrong: Sequence[str]) -> str:
    """Verdict and table as Markdown."""
    verdict = [f"- {flaw}" for flaw in wrong] or [
        "Memory, open files and p99 stayed flat; every message came once, in order."
    ]
    figures = (
        f"RSS {number(metrics['rss_first'])} → {number(metrics['rss_last'])} MiB ({number(metrics['rss_slope'])} MiB an"
        f" hour), open files {number(metrics['files_first'])} → {number(metrics['files_last'])}"
        f" ({number(metrics['files_slope'])} an hour), p99 {number(metrics['p99_first'])} →"
        f" {number(metrics['p99_last'])} ms, {number(metrics['replaced'])} connections replaced. The first"
        f" {number(SETTLED)} s, in which half-open connections gather, do not count."
    )
    return "\n".join([f"**Soak**: {point}.", "", *verdict, "", figures, "", *shown(samples), ""])
