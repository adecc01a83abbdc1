"""Handwriting: how long it learns, how legible it then writes, whether a prime's slant is carried over, and how fast it learns.

python -m benchmarks.handwriting FOLDER                         on lines composed from fonts, the reader on those of another seed
python -m benchmarks.handwriting FOLDER --lines LINES.npz       on lines of people, the reader on the same training writers
    [--writer epochs=1,max_steps=9] [--reader max_steps=9]      options of the two trainings, over those below
    [--judged 200]                                              texts that are written and read

FOLDER keeps the workspace of both trainings, ten lines as SVG and PNG, the same ones primed, and `figures.json`: killed, the same
command goes on. Seconds are of CPU, those of imports, data and judgement, too, over all starts of a training. Wanted are at most
8 minutes of one core on composed lines and 30 on those of people; the reader's are not counted.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart.experiments.evaluation.evaluate_handwriting import BIASES, evaluate_handwriting
from headstart.experiments.runs.recipe_experiment import RecipeExperiment
from headstart.experiments.serving.recipe_run import open_trained
from headstart.experiments.serving.sample_run import sample_run, write_samples
from headstart.experiments.strokes.network import SynthesisNetwork
from tests.experiments.strokes.test_network import plain

from .finetune_splits import write_numbers
from .synthetic import verdict
from .trainings import Seconds, said, trained

PEOPLE, COMPOSED = "people", "composed"
WRITERS = {PEOPLE: {"epochs": 21, "evaluate_rows": 160}, COMPOSED: {"epochs": 8, "evaluate_rows": 160}}
READERS = {PEOPLE: {"evaluate_rows": 160}, COMPOSED: {"evaluate_rows": 160, "seed": 1}}
MINUTES = {PEOPLE: 30, COMPOSED: 8}
LEGIBLE = {PEOPLE: {"bias 2": 0.25, "bias 1": 0.30, "primed": 0.40}, COMPOSED: {"bias 2": 0.30}}
TEXT = (
    "The quick brown fox jumps over",
    "a lazy dog, and then it sleeps.",
    "Every line is written by a pen",
    "that never saw these words before.",
    "Some letters lean, others stand",
    "upright; a few are hard to read.",
    "What will the next one look like?",
    "It was a quarter past seven when",
    "the train came in from the north",
    "and nobody was there to meet it!",
)


def ten_lines(writer: RecipeExperiment, folder: Path) -> dict[str, float]:
    """Points a character of ten lines and of the same ten primed, which are drawn in `folder`."""
    ready, points = open_trained(writer), {}
    hands = tuple(range(min(len(TEXT), len(ready.about.styles))))
    for name, styles in (("lines", ()), ("primed", hands)):
        for form in ("svg", "png", "npy"):
            wanted = {"text": "\n".join(TEXT), "biases": (1.0,), "styles": styles, "format": form}
            [path] = write_samples(sample_run(ready, wanted), folder / name, force=True)
        # As they were written: a file of strokes would be brought to ten points a character when it is read.
        points[name] = len(np.load(path)) / len("".join(TEXT))
    return points


def speed(rounds: int = 7) -> float:
    """How many times the CPU seconds of ours a plain loop of cells takes for a batch, forwards and backwards."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = SynthesisNetwork(100, 5, 10, 75)
    steps, text = torch.randn(16, 250, 3), torch.randint(1, 76, (16, 25))
    took: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(rounds):  # they take turns, so that a busy machine slows both
        for name, outputs in (("plain", lambda: plain(network, steps, text)), ("ours", lambda: network(steps, text)[0])):
            begun = time.process_time()
            outputs().sum().backward()
            took[name].append(time.process_time() - begun)
    slow, fast = (statistics.median(took[name]) for name in ("plain", "ours"))
    print(f"a batch of 16 lines of 250 points: plain loop of cells {slow:.3f} s of CPU, ours {fast:.3f}")
    return slow / fast


def judge(kind: str, figures: Mapping[str, Any]) -> None:
    """What was wanted beside what was reached."""
    numbers, minutes = figures["read"]["numbers"], figures["cpu_s"]["writer"] / 60
    verdict("minutes of CPU in which it learnt", minutes, MINUTES[kind], is_least=False)
    own, held_out = figures["reader"]["character_error_rate"], numbers["real"]["character_error_rate"]
    print(
        f"characters that the reader gets wrong in held-out lines: {own:.3f} of its own, {held_out:.3f} of those of these texts"
    )
    for way, most in LEGIBLE[kind].items():
        verdict(f"characters wrong, {way}, %", 100 * numbers[way]["character_error_rate"], 100 * most, is_least=False)
    print("fewer wrong with each bias" if figures["is_monotone"] else "NOT fewer wrong with each bias")
    if kind == PEOPLE:
        verdict("lines mostly wrong at bias 2, %", 100 * numbers["bias 2"]["mostly_wrong"], 6, is_least=False)
        verdict("last character right at bias 2, %", 100 * numbers["bias 2"]["last_right"], 60)
        verdict("slant r of primed lines with their primes", numbers["primed"]["slant_r"] or 0.0, 0.6)
        verdict("|slant r| of lines that were not primed", abs(numbers["bias 1"]["slant_r"] or 0.0), 0.2, is_least=False)
    points = figures["points_a_character"]
    print(f"points a character: {points['lines']:.1f}, primed {points['primed']:.1f}: twice as many if the primes were not cut")
    verdict("a plain loop of cells takes times as long", figures["times_faster"], 1.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lines", type=Path)
    parser.add_argument("--writer", type=said, default={})
    parser.add_argument("--reader", type=said, default={})
    parser.add_argument("--judged", type=int, default=200)
    options = parser.parse_args()
    kind, folder = PEOPLE if options.lines else COMPOSED, options.folder
    data = {"lines": options.lines.absolute()} if options.lines else {}
    workspace = folder / "workspace"
    folder.mkdir(parents=True, exist_ok=True)
    seconds = Seconds(folder / "cpu_s.json")
    writer = trained(seconds, workspace, "writer", "handwriting", {**data, **WRITERS[kind], **options.writer})
    reader = trained(seconds, workspace, "reader", "recogniser", {**data, **READERS[kind], **options.reader})
    read = evaluate_handwriting(writer.number, reader.number, workspace, most_lines=options.judged).as_json()
    wrong = [read["numbers"][f"bias {bias:g}"]["character_error_rate"] for bias in BIASES]
    figures = {
        "options": {"writer": dict(writer.values), "reader": dict(reader.values)},
        "cpu_s": seconds.took,
        "nats": json.loads((writer.folder / "metrics.json").read_text())["test"],
        "reader": json.loads((reader.folder / "metrics.json").read_text())["test"],
        "read": read,
        "is_monotone": bool((np.diff(wrong) < 0).all()),
        "points_a_character": ten_lines(writer, folder),
        "times_faster": speed(),
    }
    write_numbers(folder / "figures.json", figures)
    judge(kind, figures)
    for name, one in read["numbers"].items():
        print(name, {key: round(value, 4) for key, value in one.items() if isinstance(value, float)})


if __name__ == "__main__":
    main()
