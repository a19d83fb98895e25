"""The scenarios: what is measured, step by step. Each step starts its server anew, on a fresh database."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from bench.load import flaws
from bench.people import ADMINS_PER_GROUP, People, crowd, echoes, fan_out, pairs
from bench.postgres import ROOT, execute
from bench.results import Key
from bench.servers import CHATPROTO, ECHO, LIFTED, ONE_INSERT
from bench.stage import Found, Stage, Step, cpu, times
from bench.usage import resident
from bench.yardsticks import functions, pgbench

CLOSED = "Closed loop"
RATE = "Fixed rate"
IDLE = "Idle connections"
LOGIN = "Connect and log in"
FAN_OUT = "Fan-out"
STORM = "Reconnect storm"
PGBENCH = "pgbench"
FUNCTION = "Batch function"

SCENARIOS: Mapping[str, str] = {
    "closed-loop": CLOSED,
    "fixed-rate": RATE,
    "idle": IDLE,
    "login": LOGIN,
    "fan-out": FAN_OUT,
    "storm": STORM,
    "pgbench": PGBENCH,
    "function": FUNCTION,
}
"""What ``--only`` takes."""

RATE_PAIRS = 100
"""So that 5,000 messages a second are 50 a connection: production's limit."""
FAN_OUT_CONNECTIONS = 16
"""Production's limit for one admin."""
FAN_OUT_ADMINS = 10
FAN_OUT_WINDOW = 4
GUESTS_PER_ADMIN = 100

FAN_OUT_KEY = Key(FAN_OUT, f"{FAN_OUT_ADMINS} admins on {FAN_OUT_CONNECTIONS} connections each", CHATPROTO)

SCHEMA = ROOT / "chatproto" / "storage" / "schema"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything; times are seconds."""

    warm: float = 1.5
    measure: float = 4.0
    pairs: Sequence[int] = (10, 100, 500)
    windows: Sequence[int] = (1, 10)
    rates: Sequence[int] = (100, 1000, 5000)
    idle: Sequence[int] = (2000, 10000)
    hold: float = 22.0
    logins: int = 2000
    storm: int = 10000
    storm_limit: float = 180.0
    clients: Sequence[int] = (16, 32, 64)
    batches: Sequence[int] = (50, 300)


QUICK = Sizes(
    warm=1.0,
    measure=2.0,
    pairs=(10, 100),
    rates=(1000,),
    idle=(2000,),
    hold=4.0,
    storm=1000,
    storm_limit=60.0,
    clients=(32,),
    batches=(50,),
)


class Scenarios:
    """The comparison."""

    def __init__(self, stage: Stage, sizes: Sizes) -> None:
        self._stage = stage
        self._sizes = sizes

    def steps(self) -> Iterator[Step]:
        """One round, with the systems that are compared as neighbours."""
        sizes = self._sizes
        for clients in sizes.clients:
            yield Step(pgbench_key(1, clients), partial(self._pgbench, 1, clients))
        yield Step(pgbench_key(50, 1), partial(self._pgbench, 50, 1))
        for size in sizes.batches:
            yield Step(Key(FUNCTION, f"{size} rows a batch", "PostgreSQL"), partial(self._function, size))
        for count in sizes.pairs:
            for window in sizes.windows:
                for system in (CHATPROTO, ONE_INSERT, ECHO):
                    key = Key(CLOSED, f"{count} pairs, window {window}", system)
                    yield Step(key, partial(self._closed, system, count, window))
        for rate in sizes.rates:
            yield Step(Key(RATE, f"{rate:,} a second", CHATPROTO), partial(self._fixed, rate))
        yield Step(FAN_OUT_KEY, self._fan_out)
        yield Step(Key(LOGIN, f"{sizes.logins:,} clients", CHATPROTO), self._login)
        for count in sizes.idle:
            yield Step(Key(IDLE, f"{count:,} connections", CHATPROTO), partial(self._idle, count))
        yield Step(Key(STORM, f"{sizes.storm:,} clients", CHATPROTO), self._storm)

    # Messages.

    def _closed(self, system: str, count: int, window: int) -> Found:
        people = None if system == ECHO else People(count, count)
        with self._stage.server(system, people, None if system == ECHO else LIFTED) as running:
            connections = echoes(count) if people is None else pairs(people, running.logins)
            return running.exchange(connections, "closed", window=window)

    def _fixed(self, rate: int) -> Found:
        people = People(RATE_PAIRS, RATE_PAIRS)
        with self._stage.server(CHATPROTO, people) as running:
            return running.exchange(pairs(people, running.logins), "rate", rate=rate)

    def _fan_out(self) -> Found:
        """The rate is that of pushes: sixteen a message."""
        people = People(FAN_OUT_ADMINS, FAN_OUT_ADMINS)
        with self._stage.server(CHATPROTO, people, LIFTED) as running:
            connections = fan_out(people, running.logins, FAN_OUT_CONNECTIONS)
            return running.exchange(connections, "closed", window=FAN_OUT_WINDOW)

    # Connections.

    def _crowd(self, count: int) -> People:
        admins = max(1, count // GUESTS_PER_ADMIN)
        return People(admins, count - admins)

    def _login(self) -> Found:
        people = self._crowd(self._sizes.logins)
        with self._stage.server(CHATPROTO, people) as running:
            before = running.usage()
            load = running.load(crowd(people, running.logins), "hold", measure=0, concurrency=64)
            ready = load.wait_for("ready")
            spent = running.usage().since(before)
            load.wait_for("measuring")
            load.wait_for("measured")
            result = running.result(load)
        count = ready["connections"]
        return Found(
            {
                "rate": count / ready["seconds"],
                **times("", ready["login"], ("p50", "p99", "max")),
                **cpu(spent, count),
                "load_cores": ready["cpu"] / ready["seconds"],
            },
            flaws(result),
        )

    def _idle(self, count: int) -> Found:
        people = self._crowd(count)
        with self._stage.server(CHATPROTO, people) as running:
            empty = resident(running.server.pid)
            load = running.load(crowd(people, running.logins), "hold", measure=self._sizes.hold)
            load.wait_for("ready")
            load.wait_for("measuring")
            before, began = running.usage(), time.monotonic()
            load.wait_for("measured")
            spent, seconds = running.usage().since(before), time.monotonic() - began
            full = resident(running.server.pid)
            result = running.result(load)
        return Found(
            {
                "kib": (full - empty) / count / 1024,
                "rss_mib": full / (1 << 20),
                "idle_cores": spent.server / seconds,
                "idle_backends": spent.backends / seconds,
                "pings": result["pings"],
                "load_cores": result["cpu"] / result["seconds"],
            },
            flaws(result),
        )

    def _storm(self) -> Found:
        """Everybody is logged in; the server is stopped as by an operator and started again; everybody comes back."""
        people = self._crowd(self._sizes.storm)
        with self._stage.server(CHATPROTO, people) as running:
            server = running.server
            load = running.load(crowd(people, running.logins), "storm", limit=self._sizes.storm_limit)
            load.wait_for("ready")
            load.wait_for("measuring")
            stopping = time.monotonic()
            server.stop()
            serving = server.start()
            before = running.usage()
            load.wait_for("measured")
            spent = running.usage().since(before)
            result = running.result(load)
        wrong = flaws(result)
        count = result["lost"]
        if result["back"] < people.admins + people.guests:
            away = people.admins + people.guests - result["back"]
            wrong.append(f"{away} did not come back in {self._sizes.storm_limit:.0f} s; the first: {result['error']}")
        back = {f"back_{part}": at - serving for part, at in result["back_at"].items() if part in ("50", "99", "100")}
        metrics = {
            "down": serving - stopping,
            **back,
            **times("", result["login"], ("p50", "p99")),
            **{
                name: result[name] / count
                for name in ("attempts", "told", "failed_connect", "failed_handshake", "failed_login")
            },
            **cpu(spent, count),
            "load_cores": result["cpu"] / result["seconds"],
        }
        return Found(metrics, wrong)

    # PostgreSQL alone.

    def _pgbench(self, rows: int, clients: int) -> Found:
        seconds = self._sizes.measure
        return Found(pgbench.run(self._stage.cluster, self._stage.scratch, rows=rows, clients=clients, seconds=seconds))

    def _function(self, size: int) -> Found:
        people = People(max(1, size // ADMINS_PER_GROUP), size)
        dsn = self._stage.cluster.fresh("bench")
        try:
            for file in sorted(SCHEMA.glob("*.sql")):
                execute(dsn, file.read_text())
            people.insert(dsn)
            return Found(functions.measure(dsn, people, size, self._sizes.measure))
        finally:
            self._stage.cluster.drop("bench")


def pgbench_key(rows: int, clients: int) -> Key:
    what = "one row a commit" if rows == 1 else f"{rows} rows an INSERT"
    return Key(PGBENCH, f"{what}, {clients} client{'s' if clients > 1 else ''}", "PostgreSQL")
