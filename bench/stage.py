"""What a step is made of: a server with its people, the load, and what both sides say of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.load import Event, Load, flaws
from bench.people import Connection, Logins, People
from bench.postgres import Cluster
from bench.results import Key
from bench.servers import ECHO, Server
from bench.usage import Usage
from bench.verify import compare, lengths, read


@dataclass(frozen=True, slots=True)
class Found:
    """What a step measured, and what was wrong."""

    metrics: dict[str, float]
    flaws: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    key: Key
    run: Callable[[], Found]


class Stage:
    """Where the steps take place, one after the other.

    :param program: the load generator.
    :param scratch: for the servers' directories.
    :param warm: seconds of traffic before the measurement.
    :param measure: seconds of the measurement.
    """

    def __init__(self, cluster: Cluster, program: Path, scratch: Path, warm: float, measure: float) -> None:
        self.cluster = cluster
        self.program = program
        self.scratch = scratch
        self.warm = warm
        self.measure = measure

    @contextmanager
    def server(self, system: str, people: People | None, options: Mapping[str, str] | None = None) -> Iterator[Running]:
        """A server on a fresh database with its people, from its start to its end."""
        data = self.scratch / "server"
        shutil.rmtree(data, ignore_errors=True)
        dsn = None if people is None else self.cluster.fresh("bench")
        server = Server(system, data, dsn, options)
        running = Running(self, server, dsn)
        try:
            server.start()
            if people is not None and dsn is not None:
                people.insert(dsn)
            yield running
        finally:
            running.close()
            try:
                server.stop()
            finally:
                server.close()
            self.cluster.drop("bench")


class Running:
    """A server that runs, within a step.

    :ivar dsn: of its database; None where it has none.
    """

    def __init__(self, stage: Stage, server: Server, dsn: str | None) -> None:
        self._stage = stage
        self._load: Load | None = None
        self.server = server
        self.dsn = dsn

    @property
    def logins(self) -> Logins:
        return Logins(self.server.data)

    def usage(self) -> Usage:
        return Usage.now(self.server.pid, None if self.server.name == ECHO else self._stage.cluster.postmaster)

    def load(self, connections: Iterable[Connection], mode: str, **options: float) -> Load:
        self.close()
        stage, server = self._stage, self.server
        self._load = Load(stage.program, server.data, server.port, connections, mode, **options)
        return self._load

    def close(self) -> None:
        """End the load, if there is one."""
        if self._load is not None:
            self._load.close(0)
        self._load = None

    def result(self, load: Load) -> Event:
        """The result of a load that has been measured."""
        result = load.wait_for("result")
        load.close()
        return result

    def exchange(self, connections: Iterable[Connection], mode: str, **options: float) -> Found:
        """Messages, measured on both sides and compared with the database."""
        stood = {} if self.dsn is None else lengths(self.dsn)
        load, result, metrics = self._measured(connections, mode, **options)
        wrong = flaws(result)
        count = max(result["pushed"], 1)
        metrics = {
            "rate": result["pushed"] / result["seconds"],
            **times("ack_", result["ack"], ("p50", "p99")),
            **times("push_", result["push"], ("p50", "p99", "max")),
            **{name: value / count for name, value in metrics.items() if name.startswith("cpu")},
            "load_cores": result["cpu"] / result["seconds"],
            "login_server": metrics["login_server"],
            "login_backends": metrics["login_backends"],
        }
        if mode == "rate":
            metrics["lag_p99"] = result["lag"]["p99"]
        if self.dsn is not None:
            verdict = compare(load.counts(), read(self.dsn, stood))
            wrong += verdict.flaws
            metrics["acknowledged"] = result["acked_all"]
            metrics["lost"] = verdict.lost
            metrics["undelivered"] = result["expected_pushes"] - result["pushed_all"]
        return Found(metrics, wrong)

    def ask(self, connections: Iterable[Connection], mode: str, **options: float) -> Found:
        """Commands that are no messages: how many are answered, and what one costs."""
        _, result, metrics = self._measured(connections, mode, **options)
        count = max(result["acked"], 1)
        return Found(
            {
                "rate": result["acked"] / result["seconds"],
                **times("", result["ack"], ("p50", "p99", "max")),
                **{name: value / count for name, value in metrics.items() if name.startswith("cpu")},
                "load_cores": result["cpu"] / result["seconds"],
            },
            flaws(result),
        )

    def _measured(
        self, connections: Iterable[Connection], mode: str, **options: float
    ) -> tuple[Load, Event, dict[str, float]]:
        """The load, its result, and 1,000 times the CPU seconds of the measurement and of a login."""
        start = self.usage()
        load = self.load(connections, mode, **{"warm": self._stage.warm, "measure": self._stage.measure, **options})
        ready = load.wait_for("ready")
        coming = cpu(self.usage().since(start), ready["connections"])
        load.wait_for("measuring")
        before = self.usage()
        load.wait_for("measured")
        spent = self.usage().since(before)
        result = self.result(load)
        numbers = {**cpu(spent, 1), "login_server": coming["cpu_server"], "login_backends": coming["cpu_backends"]}
        return load, result, numbers


def times(prefix: str, histogram: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Milliseconds of a histogram."""
    return {prefix + name: histogram[name] for name in names}


def cpu(spent: Usage, count: float) -> dict[str, float]:
    """CPU seconds per 1,000 of what was counted."""
    per = 1000 / count
    return {
        "cpu": spent.total * per,
        "cpu_server": spent.server * per,
        "cpu_backends": spent.backends * per,
        "cpu_others": spent.others * per,
    }
