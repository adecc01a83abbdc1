"""Text becomes strokes of a pen: Graves' network with a window over the characters.

headstart train handwriting                         on lines composed from fonts, in 24 made-up hands
headstart train handwriting --lines lines.npz       on lines of people
headstart train handwriting --preset quality        a larger network
headstart sample RUN --text "Hello there" --biases 1.5

Graves, "Generating Sequences With Recurrent Neural Networks", 2013 (arXiv 1308.0850).
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from headstart.experiments.strokes.data_set import Alphabet
from headstart.experiments.strokes.drawing import FORMS, DrawingPage, PenCommands, drawn_as
from headstart.experiments.strokes.line import LONGEST_TEXT, PenLine, as_line
from headstart.experiments.strokes.line_splits import LineOptions, line_parts
from headstart.experiments.strokes.mixture import mixture_of, nats
from headstart.experiments.strokes.network import SynthesisNetwork
from headstart.experiments.strokes.sampling import Wish
from headstart.experiments.strokes.sampling import sample as write_lines
from headstart.experiments.strokes.sources import drawn_line, read_lines, read_text
from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.sets import Splits
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table, mean
from headstart.experiments.training.options import SampleOptions, option
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

_STYLES, _STYLE_CHARACTERS = 12, 40


@dataclass(frozen=True)
class Options(LineOptions):
    PRESETS: ClassVar = {"fast": {"rnn_size": 100, "mixtures": 8}, "quality": {"rnn_size": 400, "mixtures": 20}}

    rnn_size: int = option(100, "units of each layer", at_least=8, at_most=900)
    layers: int = option(3, "recurrent layers", at_least=1, at_most=4)
    windows: int = option(5, "parts of the window", at_least=1, at_most=50)
    mixtures: int = option(10, "components of the density", at_least=1, at_most=100)
    epochs: int = 8
    batch_size: int = 16
    optimizer: str = "adam"
    learning_rate: float = 4e-3
    weight_decay: float = 0.0
    clip: float = 10.0
    threads: int = 1


def data(options: Options, workspace: Workspace) -> Splits:
    parted = line_parts(options)
    return parted.splits({"styles": _styles(parted.parts["val"])})


def _styles(lines: list[PenLine]) -> list[dict[str, Any]]:
    """Lines that are kept with the model, to write in their hands: a long one of each of a dozen writers it has not seen."""
    chosen: dict[str, PenLine] = {}
    for line in lines:
        best = chosen.get(line.writer)
        if len(line.text) <= _STYLE_CHARACTERS and (best is None or len(line.text) > len(best.text)):
            chosen[line.writer] = line
    return [_kept(line) for line in list(chosen.values())[:_STYLES]]


def _kept(line: PenLine) -> dict[str, Any]:
    offsets = np.round(line.offsets * 32).astype(int)
    return {"text": line.text, "offsets": offsets.tolist(), "ends": np.flatnonzero(line.ends).tolist()}


def _style(about: Facts, number: int) -> PenLine:
    kept = about.styles[number]
    offsets = np.array(kept["offsets"], np.float32) / 32
    ends = np.zeros(len(offsets), bool)
    ends[kept["ends"]] = True
    return as_line(offsets, ends, kept["text"], f"style {number}")


def model(options: Options, about: Facts) -> SynthesisNetwork:
    symbols = Alphabet(about.alphabet).end
    return SynthesisNetwork(options.rnn_size, options.windows, options.mixtures, symbols, options.layers)


def _nats_of_lines(network: SynthesisNetwork, batch: Batch) -> Tensor:
    """(b,) of each line, summed over its points."""
    steps: Tensor = batch.steps
    before = torch.cat([torch.zeros_like(steps[:, :1]), steps[:, :-1]], dim=1)
    before[:, 0, 2] = 1  # the pen is up where a line begins
    outputs, _ = network(before, batch.text)
    is_there = torch.arange(steps.shape[1], device=steps.device) < batch.points[:, None]
    points = nats(mixture_of(outputs), steps[..., :2], steps[..., 2])
    return torch.where(is_there, points, 0.0).sum(dim=1)


def loss(model: SynthesisNetwork, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Any]]:
    lines = _nats_of_lines(model, batch)
    return lines.sum() / batch.points.sum(), {"nats_per_line": lines.detach().mean()}


def evaluate(model: SynthesisNetwork, batches: Batches) -> Iterator[Metric | Table]:
    parts = [(_nats_of_lines(model, batch), batch.points) for batch in batches]
    lines, points = (torch.cat(column).cpu().double().numpy() for column in zip(*parts, strict=True))
    yield mean("nats_per_point", lines / points, weights=points, better="lower", judged_by=True)
    yield mean("nats_per_line", lines, better="lower")


def show(model: SynthesisNetwork, batches: Batches) -> Iterator[tuple[str, Any]]:
    texts = ["The quick brown fox", "writes a line of text", "and then another one."]
    alphabet = Alphabet(batches.about.alphabet)
    texts = ["".join(c for c in text if not alphabet.unknown(c)) for text in texts]
    wishes = [Wish(text, bias, number=number) for number, bias in enumerate((0.0, 1.0, 2.0)) for text in texts if text]
    samples = write_lines(model, alphabet, wishes)
    yield "samples.png", drawn_as("png", [sample.line for sample in samples], DrawingPage(), PenCommands())
    yield "strokes.json", _written_beforehand(model, batches.about, wishes, [sample.line for sample in samples])


def _written_beforehand(model: SynthesisNetwork, about: Facts, wishes: list[Wish], lines: list[PenLine]) -> bytes:
    """For the report: these lines, and what was wished for in two of the kept hands besides."""
    hands = {f"style {number}": _style(about, number) for number in range(min(2, len(about.styles)))}
    primed = [(name, Wish(one.text, one.bias, hand, one.number)) for name, hand in hands.items() for one in wishes]
    shown = [*(("any", one) for one in wishes), *primed]
    samples = write_lines(model, Alphabet(about.alphabet), [wish for _, wish in primed])
    written = [
        {
            "text": wish.text,
            "bias": f"{wish.bias:g}",
            "hand": hand,
            "strokes": [np.round(part, 1).tolist() for part in line.strokes],
        }
        for (hand, wish), line in zip(shown, [*lines, *(sample.line for sample in samples)], strict=True)
    ]
    return json.dumps({"lines": written}).encode()


@dataclass(frozen=True)
class Sampling(SampleOptions):
    text: str = option("", "what to write; a new line begins at \\n")
    lines: tuple[str, ...] = option((), "what to write instead, line by line: --lines 'First line' Second", separator="\n")
    text_file: Path | None = option(None, "file with the text instead")
    biases: tuple[float, ...] = option((1.0,), "of each line, in turn: 0 as learnt, 2 very tidy", at_least=0, at_most=10)
    styles: tuple[int, ...] = option((), "hands to write in, in turn: numbers of kept lines; none: any hand", at_least=0)
    list_styles: bool = option(False, "write nothing but these hands: a picture in their order, and what each line says")
    own_hand: Path | None = option(None, "file of one line of yours (.svg, .jsonl or .npz) to go on in; goes before styles")
    own_text: str = option("", "what your line says, where it is an SVG")
    wrap: int = option(0, "characters after which a line ends at the latest; 0: lines are as given", at_least=0)
    format: str = option("svg", "of the file", choices=FORMS)
    width: float = option(210.0, "of the page, mm", at_least=10, at_most=5000)
    height: float = option(0.0, "of the page, mm; 0: what it takes", at_least=0, at_most=5000)
    margin: float = option(15.0, "mm", at_least=0)
    letter: float = option(3.0, "height of a small letter, mm", at_least=0.1, at_most=500)
    align: str = option("left", "of lines between the margins", choices=("left", "center", "right"))
    pen_up: str = option("M3 S0", "G-code that lifts the pen")
    pen_down: str = option("M3 S90", "G-code that lowers it")


def sample(model: SynthesisNetwork, wanted: Sampling, options: Options, about: Facts) -> Iterator[tuple[str, bytes]]:
    page = DrawingPage(wanted.width, wanted.height, wanted.margin, wanted.letter, wanted.align)
    pen = PenCommands(wanted.pen_up, wanted.pen_down)
    if wanted.list_styles:
        hands = [_style(about, number) for number in range(len(about.styles))]
        if not hands:
            raise HeadstartError(
                f"the model has kept no hands: no line of validation has {_STYLE_CHARACTERS} characters or fewer"
            )
        yield "styles.txt", "".join(f"{number}  {hand.text}\n" for number, hand in enumerate(hands)).encode()
        yield f"styles.{wanted.format}", drawn_as(wanted.format, hands, page, pen)
        return
    alphabet, lines = Alphabet(about.alphabet), _lines_of(wanted)
    unknown = alphabet.unknown("".join(lines))
    if unknown:
        raise HeadstartError(f"the model does not know {', '.join(map(repr, unknown))}. It knows {about.alphabet.strip()}")
    primes = _primes(wanted, about, alphabet)
    wishes = [
        Wish(line, wanted.biases[number % len(wanted.biases)], primes[number % len(primes)], number)
        for number, line in enumerate(lines)
    ]
    samples = write_lines(model, alphabet, wishes, wanted.seed)
    yield f"handwriting.{wanted.format}", drawn_as(wanted.format, [one.line for one in samples], page, pen)


def _lines_of(wanted: Sampling) -> list[str]:
    said = [
        flag for flag, value in (("--text", wanted.text), ("--lines", wanted.lines), ("--text-file", wanted.text_file)) if value
    ]
    if len(said) > 1:
        raise HeadstartError(f"{' and '.join(said)} each say what to write; give one of them")
    text = wanted.text.replace("\\n", "\n") if wanted.text_file is None else read_text(wanted.text_file)
    text = "\n".join(wanted.lines) or text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    if wanted.wrap:
        lines = [part for line in lines for part in textwrap.wrap(line, wanted.wrap)]
    lines = [line for line in lines if line]
    if not lines:
        raise HeadstartError("there is nothing to write. Give --text 'Hello there'")
    longest = max(lines, key=len)
    if len(longest) > LONGEST_TEXT:
        raise HeadstartError(f"a line of {len(longest)} characters is too long, {LONGEST_TEXT} are the most. Pass --wrap 40")
    return lines


def _own_line(path: Path, said: str) -> PenLine:
    if path.suffix.lower() == ".svg":
        if not said.strip():
            raise HeadstartError(f"{path} does not tell what is written there. Pass --own-text 'Hello there'")
        return drawn_line(path, said)
    if said:
        raise HeadstartError(f"--own-text is for an SVG; {path} says itself what is written there")
    return read_lines(path).lines[0]


def _primes(wanted: Sampling, about: Facts, alphabet: Alphabet) -> list[PenLine | None]:
    if wanted.own_hand is not None:
        own = _own_line(wanted.own_hand, wanted.own_text)
        unknown = alphabet.unknown(own.text)
        if unknown:
            raise HeadstartError(f"{wanted.own_hand} says {', '.join(map(repr, unknown))}, which the model does not know")
        return [own]
    wrong = [number for number in wanted.styles if number >= len(about.styles)]
    if wrong:
        raise HeadstartError(f"there is no style {wrong[0]}; the model has 0 to {len(about.styles) - 1}")
    return [_style(about, number) for number in wanted.styles] or [None]
