"""From the numbers of all rounds to medians, ratios and verdicts. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several rounds, and the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))

    def json(self) -> dict[str, float]:
        return {"median": self.median, "min": self.least, "max": self.most}


@dataclass(frozen=True, slots=True)
class Key:
    """What was measured: which scenario, at which point, with which system."""

    scenario: str
    point: str
    system: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """One step of one round.

    :ivar metrics: name → number.
    :ivar flaws: what was wrong with it, for people; a run with any is no result.
    """

    round: int
    key: Key
    metrics: Mapping[str, float]
    flaws: Sequence[str] = ()

    def json(self) -> dict[str, Any]:
        key = self.key
        return {
            "round": self.round,
            "scenario": key.scenario,
            "point": key.point,
            "system": key.system,
            "metrics": dict(self.metrics),
            "flaws": list(self.flaws),
        }

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> Measurement:
        """What :meth:`json` made."""
        key = Key(kept["scenario"], kept["point"], kept["system"])
        return cls(kept["round"], key, kept["metrics"], kept["flaws"])


class Results:
    """All measurements of a run."""

    def __init__(self, measurements: Iterable[Measurement] = ()) -> None:
        self.measurements = list(measurements)

    def add(self, measurement: Measurement) -> None:
        self.measurements.append(measurement)

    def measured(self) -> list[Key]:
        """What was measured, in the order of the first time."""
        return list(dict.fromkeys(one.key for one in self.measurements))

    def metrics(self, key: Key) -> list[str]:
        return list(dict.fromkeys(name for one in self.measurements if one.key == key for name in one.metrics))

    def spread(self, key: Key, metric: str) -> Spread | None:
        """None where it was not measured."""
        values = list(self.by_round(key, metric).values())
        return Spread.of(values) if values else None

    def by_round(self, key: Key, metric: str) -> dict[int, float]:
        return {one.round: one.metrics[metric] for one in self.measurements if one.key == key and metric in one.metrics}

    def flaws(self) -> list[str]:
        return [
            f"round {one.round}, {one.key.scenario}, {one.key.point}, {one.key.system}: {flaw}"
            for one in self.measurements
            for flaw in one.flaws
        ]


@dataclass(frozen=True, slots=True)
class Term:
    """A metric of one or several measured things: of several the best, that is the highest, of each round counts."""

    metric: str
    keys: tuple[Key, ...]

    def by_round(self, results: Results) -> dict[int, float]:
        found: dict[int, float] = {}
        for key in self.keys:
            for number, value in results.by_round(key, self.metric).items():
                found[number] = max(value, found.get(number, value))
        return found


@dataclass(frozen=True, slots=True)
class Target:
    """A number to reach.

    :ivar what: for people.
    :ivar of: what is measured.
    :ivar over: what it is divided by, in the same round; None: nothing.
    :ivar must: the least that is good enough; the most, where *low* is good.
    :ivar reach: what to reach for.
    """

    what: str
    of: Term
    over: Term | None
    must: float
    reach: float
    low: bool = False
    unit: str = ""

    def spread(self, results: Results) -> Spread | None:
        """The median of the rounds' ratios; None where something was not measured."""
        values = self.of.by_round(results)
        if self.over is not None:
            below = self.over.by_round(results)
            values = {number: value / below[number] for number, value in values.items() if below.get(number)}
        return Spread.of(list(values.values())) if values else None

    def verdict(self, value: float) -> str:
        """reached, enough or missed."""
        for bound, word in ((self.reach, "reached"), (self.must, "enough")):
            if value <= bound if self.low else value >= bound:
                return word
        return "missed"
