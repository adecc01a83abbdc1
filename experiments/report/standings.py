"""How the heads of an experiment and its baselines stand: one number each, with its interval, of one split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headstart.experiments.evaluation.intervals import wilson_interval
from headstart.experiments.evaluation.publish import headline


@dataclass(frozen=True)
class Standing:
    """Attributes:
    value, low, high: of the metric, None where it does not exist.
    on_validation: the same metric there.
    """

    name: str
    is_baseline: bool
    value: float | None
    low: float | None
    high: float | None
    on_validation: float | None


@dataclass(frozen=True)
class Standings:
    """Attributes:
    metric: accuracy or pearson; split: test, or val where there is no test.
    shown: the head that the page is about.
    others: all others, the best first.
    """

    metric: str
    split: str
    images: int
    validation_images: int
    shown: Standing
    others: tuple[Standing, ...]

    @property
    def best_baseline(self) -> Standing | None:
        """The one that validation likes best, as heads are chosen; None if there is none but the shown one."""
        baselines = [each for each in self.others if each.is_baseline and each.on_validation is not None]
        return max(baselines, key=lambda each: each.on_validation or 0.0, default=None)

    @property
    def best_trained(self) -> Standing | None:
        heads = [each for each in self.others if not each.is_baseline and each.on_validation is not None]
        return max(heads, key=lambda each: each.on_validation or 0.0, default=None)


def share_interval(right: int, count: int) -> tuple[float, float]:
    """Of a proportion, 95 %: Wilson's interval, whose bounds always exist."""
    low, high = wilson_interval(right, count)
    return float(low or 0.0), float(1.0 if high is None else high)


def standings_of(metrics: Mapping[str, Any], shown: str) -> Standings:
    """Args: metrics: as in `metrics.json`. Raises: KeyError if it has no head of that name that was judged."""
    entries = [*metrics["heads"], *metrics["baselines"]]
    judged = [entry for entry in entries if entry.get("val")]
    split = "test" if any("test" in entry for entry in judged) else "val"
    standings, metric = {}, "accuracy"
    for entry in judged:
        lines = headline(entry)
        name = entry.get("head") or entry["baseline"]
        line = lines[split]
        metric = line["metric"]
        low, high = line["interval"]
        standings[name] = Standing(name, "head" not in entry, line["value"], low, high, lines["val"]["value"])
    chosen = standings.pop(shown)
    others = sorted(standings.values(), key=lambda each: -(each.value if each.value is not None else -2.0))
    rows = metrics["rows"]
    return Standings(metric, split, rows[split], rows["val"], chosen, tuple(others))
