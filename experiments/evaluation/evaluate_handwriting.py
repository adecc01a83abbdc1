"""How legible a run of handwriting writes: a run of recogniser reads its lines, and lines of people with the same texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.experiments.runs.recipe_experiment import RecipeExperiment, options_of, recipe_of, splits_of
from headstart.experiments.training.data.keys import Key
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural
from headstart.pipeline.workspace import Workspace, as_workspace

from .publish_recipe import numbers_of
from .trained_model import trained_model

if TYPE_CHECKING:
    from headstart.experiments.strokes.line import PenLine

BIASES = (0.0, 0.5, 1.0, 2.0)
_PRIMED_BIAS = 1.0


@dataclass(frozen=True)
class HandwritingEvaluation:
    """How well the same texts are read, as people wrote them and as a network did.

    Attributes:
        run, reader: names of the experiments.
        lines: how many texts.
        notes: what was left out.
        numbers: by 'real', 'bias 0' and so on, and 'primed': see `strokes.legibility`, and slant_r, the correlation of the slant
            with that of the lines that prime, each number with its 95 % interval over lines. None: it does not exist.
    """

    run: str
    reader: str
    split: str
    lines: int
    notes: tuple[str, ...]
    numbers: Mapping[str, Mapping[str, Any]]

    def as_json(self) -> dict[str, Any]:
        facts = {"experiment": self.run, "reader": self.reader, "split": self.split, "lines": self.lines}
        return {**facts, "notes": list(self.notes), "numbers": {name: dict(one) for name, one in self.numbers.items()}}


def evaluate_handwriting(
    run: str | int,
    reader: str | int,
    workspace: Workspace | Path | str | None = None,
    *,
    split: str = "test",
    most_lines: int = 200,
    seed: int = 0,
) -> HandwritingEvaluation:
    """How legible a run of handwriting writes: what `headstart evaluate RUN --reader READER` says.

    The texts are those of the run's split. Each is written at every bias of BIASES in any hand, and at bias 1 in the hand of the
    line after it, which primes the network.

    Args:
        run, reader: numbers of runs of the recipes handwriting and recogniser.
        workspace: a folder; None is the one that every command would take, see `find_root`.
        split: test or val.
        most_lines: texts, drawn by the seed where there are more.
        seed: of what is written, too.

    Raises: HeadstartError if there is no such run, it is of another recipe, the reader has learnt from one of these lines, or it
        knows the characters of fewer than two of them.
    """
    from headstart.experiments.strokes.data_set import Alphabet
    from headstart.experiments.strokes.legibility import legibility
    from headstart.experiments.strokes.network import SynthesisNetwork
    from headstart.experiments.strokes.recogniser import RecogniserNetwork, recognised
    from headstart.experiments.strokes.sampling import Wish, sample
    from headstart.experiments.strokes.slant import slant_carried

    opened = as_workspace(workspace)
    writing, writer, about = trained_model(opened, run, SynthesisNetwork, "writes, such as one of handwriting")
    reading, network, known = trained_model(opened, reader, RecogniserNetwork, "reads, such as one of recogniser")
    alphabet, letters = Alphabet(about.alphabet), Alphabet(known.alphabet)
    lines, notes = _judged_lines(opened, writing, reading, split, letters)
    chosen = Key((seed, "legibility")).numpy().permutation(len(lines))[:most_lines]
    lines = [lines[place] for place in np.sort(chosen)]
    texts, hands = [line.text for line in lines], [*lines[1:], lines[0]]
    written = {"real": lines}
    wishes = {f"bias {bias:g}": [Wish(text, bias, number=number) for number, text in enumerate(texts)] for bias in BIASES}
    wishes["primed"] = [
        Wish(text, _PRIMED_BIAS, hand, number) for number, (text, hand) in enumerate(zip(texts, hands, strict=True))
    ]
    for name, wanted in wishes.items():
        written[name] = [one.line for one in sample(writer, alphabet, wanted, seed)]
    numbers = {
        name: numbers_of([*legibility(recognised(network, letters, ours), texts), slant_carried(ours, hands)])
        for name, ours in written.items()
    }
    return HandwritingEvaluation(writing.folder.name, reading.folder.name, split, len(lines), notes, numbers)


def _judged_lines(
    workspace: Workspace, writing: RecipeExperiment, reading: RecipeExperiment, split: str, alphabet: Any
) -> tuple[list[PenLine], tuple[str, ...]]:
    """Lines of that split of the one who writes, none of which the one who reads has learnt from."""
    lines, others = _lines(workspace, writing, split), _lines(workspace, reading, "train")
    learnt = {(line.text, line.offsets.tobytes()) for line in others}
    shared = sum((line.text, line.offsets.tobytes()) in learnt for line in lines)
    if shared:
        raise HeadstartError(
            f"{reading.folder.name} has learnt from {plural(shared, 'line')} of the split '{split}' of {writing.folder.name}, so "
            "it cannot judge by it. Train both on the same lines with the same --seed"
        )
    known = [line for line in lines if not alphabet.unknown(line.text)]
    if len(known) < 2:
        raise HeadstartError(f"{reading.folder.name} knows the characters of {plural(len(known), 'line')}, two are needed")
    left_out = len(lines) - len(known)
    notes = (f"{plural(left_out, 'line')} left out: characters that the reader does not know",) if left_out else ()
    return known, notes


def _lines(workspace: Workspace, experiment: RecipeExperiment, split: str) -> Sequence[PenLine]:
    recipe = recipe_of(experiment)
    splits = splits_of(workspace, experiment, recipe, options_of(experiment, recipe), split)
    lines: Sequence[PenLine] = splits.named()[split].lines  # type: ignore[attr-defined]
    return lines
