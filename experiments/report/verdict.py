"""The sentence at the top of a report: made from the numbers by rules, so that it says no more than they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from headstart.experiments.evaluation.intervals import SMALL

from .standings import Standing, Standings

_FEW = 4  # mistakes of which no sentence is made
_MOST_NAMED = 3  # pairs of classes that a sentence may name
_PART = 0.1  # of the mistakes that a pair must have to be named


@dataclass(frozen=True)
class Phrase:
    """Some words; `is_claim` where they are what counts."""

    words: str
    is_claim: bool = False


@dataclass(frozen=True)
class Difference:
    """Of two heads on the same images, the shown one less the other, with its interval; what only one of them has right."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Judged:
    """Attributes:
    units: what is drawn: groups, else images; unit_words: what they are called.
    commonest: the class that training has most often, and its part of the judged images; None for numbers.
    against: the shown head less its best rival, see `rival_of`; None where that was not compared.
    pairs: (true, said) of each mistake.
    unsure_of: heads that did better on validation than the chosen one, but not beyond doubt, so that the simplest was taken.
    """

    standings: Standings
    units: int
    unit_words: str
    commonest: tuple[str, float] | None
    against: Difference | None
    pairs: Sequence[tuple[str, str]]
    unsure_of: Sequence[str] = ()


def rival_of(standings: Standings) -> Standing | None:
    """What the shown head is measured against: the best baseline; if it is one itself, the best trained head."""
    return standings.best_trained if standings.shown.is_baseline else standings.best_baseline


def verdict_of(judged: Judged, is_selected: bool = True) -> list[Phrase]:
    """Args: is_selected: whether the shown head is the one that validation chose."""
    return [*_choice(judged, is_selected), *_worth(judged), *_mistakes(judged)]


def score_words(metric: str, value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value * 100:.1f} %" if metric == "accuracy" else f"{value:.3f}"


def _choice(judged: Judged, is_selected: bool) -> list[Phrase]:
    standings = judged.standings
    name = standings.shown.name
    kind = ", a baseline," if standings.shown.is_baseline else ""
    validation = f"{standings.validation_images:,} validation images"
    if not is_selected:
        parts = [Phrase(name, True), Phrase(f"{kind} is shown; validation chose another head.")]
    elif not standings.others:
        parts = [Phrase(name, True), Phrase(f"{kind} is the only head.")]
    elif judged.unsure_of:
        better = judged.unsure_of[0]
        scores = {each.name: score_words(standings.metric, each.on_validation) for each in (standings.shown, *standings.others)}
        lead = f"{better} did better there ({scores.get(better, 'none')} against {scores[name]}), but that may be luck, "
        lead += "so the simpler one is taken"
        parts = [Phrase(name, True), Phrase(f"{kind} was chosen on {validation}: {lead}.")]
    else:
        parts = [Phrase(name, True), Phrase(f"{kind} was chosen on {validation}.")]
    if standings.split != "test":
        parts.append(Phrase(" There is no test split: the number is of the images that heads are chosen by, so it flatters."))
    return parts


def _worth(judged: Judged) -> list[Phrase]:
    standings, shown = judged.standings, judged.standings.shown
    if judged.units < SMALL:
        return [
            Phrase(f" {judged.units:,} {judged.unit_words} are "),
            Phrase("too few to tell", True),
            Phrase(" how good it is."),
        ]
    if shown.value is None or shown.low is None or shown.high is None:
        return [Phrase(" How good it is "), Phrase("cannot be said", True), Phrase(": its answers, or the truth, never change.")]
    if judged.commonest is not None:
        name, share = judged.commonest
        if shown.low <= share:
            words = "worse than" if shown.high < share else "no better than"
            return [Phrase(" It is "), Phrase(f"{words} always saying '{name}'", True), Phrase(f" ({share * 100:.1f} %).")]
    elif shown.low <= 0:
        return [Phrase(" It is "), Phrase("no better than chance", True), Phrase(": the interval holds 0.")]
    rival = rival_of(standings)
    if rival is None or rival.value is None:
        return []
    return _against(judged, rival)


def _against(judged: Judged, rival: Standing) -> list[Phrase]:
    shown = judged.standings.shown
    value = score_words(judged.standings.metric, rival.value)
    kind = "baseline" if rival.is_baseline else "trained head"
    role = f", the best {kind} on validation"
    named = f" {rival.name}"
    if judged.against is not None:
        low, high = judged.against.low, judged.against.high
        words = "better than" if low > 0 else "worse than" if high < 0 else "not clearly better than"
        same = f"{judged.standings.images:,} {'test' if judged.standings.split == 'test' else 'validation'} images"
        numbers = f"{score_words(judged.standings.metric, shown.value)} against {value}"
        interval = f"95 % interval {low * 100:+.1f} to {high * 100:+.1f}"
        return [
            Phrase(" It is "),
            Phrase(words + named, True),
            Phrase(f", the {kind} that did best on validation: on the same {same} {numbers}, "),
            Phrase(f"a difference of {judged.against.value * 100:+.1f} points, {interval}."),
        ]
    if shown.low is None or shown.high is None or rival.low is None or rival.high is None:
        return []
    apart = "the intervals are apart"
    if shown.low > rival.high:
        return [Phrase(" It is "), Phrase("better than" + named, True), Phrase(f" ({value}){role}: {apart}.")]
    if shown.high < rival.low:
        return [Phrase(" It is "), Phrase("worse than" + named, True), Phrase(f" ({value}){role}: {apart}.")]
    return [
        Phrase(" It is "),
        Phrase("not clearly better than" + named, True),
        Phrase(f" ({value}){role}: the intervals overlap."),
    ]


def _mistakes(judged: Judged) -> list[Phrase]:
    if judged.commonest is None:
        return []
    if not judged.pairs:
        return [Phrase(f" Of {judged.standings.images:,} images none is wrong.")]
    named = frequent_confusions(judged.pairs)
    if len(judged.pairs) < _FEW or not named:
        return []
    said = [f"{count:,} between '{first}' and '{second}'" for first, second, count in named]
    rest = len(judged.pairs) - sum(count for *_, count in named)
    if rest:
        _, most = _between_classes(judged.pairs)[len(named)]
        said.append(f"{rest:,} between others" + (f", at most {most} between any two" if most < rest else ""))
    return [Phrase(f" The {len(judged.pairs):,} mistakes of {judged.standings.shown.name}: {'; '.join(said)}.")]


def frequent_confusions(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str, int]]:
    """Two classes and how many mistakes lie between them, either way, the most frequent first.

    At most three, and only those with two mistakes or more and a tenth of all: others are chance. None that is as frequent as
    one that is left out.
    """
    ranked = _between_classes(pairs)
    often = [(first, second, count) for (first, second), count in ranked if count >= max(2, _PART * len(pairs))]
    left_out = often[_MOST_NAMED][2] if len(often) > _MOST_NAMED else 0
    return [each for each in often[:_MOST_NAMED] if each[2] > left_out]


def _between_classes(pairs: Sequence[tuple[str, str]]) -> list[tuple[tuple[str, ...], int]]:
    """How many mistakes lie between two classes, either way: the most frequent first, then by name."""
    counts = Counter(tuple(sorted(pair)) for pair in pairs)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
