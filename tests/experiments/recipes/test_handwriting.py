"""The recipe handwriting on made-up lines: trained, killed, resumed to the same bits, and what it writes when asked to."""

import json
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from headstart.experiments.recipes import handwriting
from headstart.experiments.recipes.handwriting import Options
from headstart.experiments.report.pen_section import pen_lines
from headstart.experiments.strokes.line_splits import line_parts
from headstart.experiments.strokes.sources import as_json_lines, read_lines
from headstart.experiments.training.judge_model import judge
from headstart.experiments.training.loop import Loop
from headstart.experiments.training.options import merged_options
from headstart.pipeline.errors import HeadstartError
from tests.commands.calling import call
from tests.experiments.strokes.made import lines
from tests.support import run_python, spawn_python

from .on_fake_gpu import ends_as_on_the_cpu

QUICK = ("--rnn-size", 12, "--mixtures", 2, "--windows", 2, "--layers", 2, "--epochs", 3, "--batch-size", 8)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "lines.jsonl"
    path.write_text("".join(f"{one}\n" for one in as_json_lines(lines(60, writers=30))))
    return path


@pytest.fixture(scope="module")
def trained(source, tmp_path_factory):
    root = tmp_path_factory.mktemp("handwriting") / "workspace"
    done = call("train", "handwriting", "--lines", source, *QUICK, "-w", root)
    assert done.status == 0, done.errors
    return root


def final(root):
    return (root / "experiments" / "exp_0001_handwriting" / "checkpoints" / "final.safetensors").read_bytes()


def test_it_learns_and_says_nats_of_points_and_of_lines(trained):
    experiment = trained / "experiments" / "exp_0001_handwriting"
    history = json.loads((experiment / "training_history.json").read_text())["entries"]
    scores = [entry["val"]["nats_per_point"] for entry in history]
    assert scores[-1] < scores[0]
    assert (experiment / "shown" / "samples.png").stat().st_size > 100


def test_float16_without_a_gpu_is_refused_before_anything_is_written_and_wherever_it_would_be_computed(source, tmp_path):
    refused = "--amp float16: torch computes no LSTM layer so on a CPU. Train with --amp bfloat16, or on a GPU (--device cuda)"
    arguments = ("train", "handwriting", "--lines", source, *QUICK, "--amp", "float16", "--device", "cpu", "-w", tmp_path / "w")
    for more in ((), ("--dry-run",)):
        assert call(*arguments, *more).reason == refused
    assert not (tmp_path / "w" / "experiments").exists()
    # Begun on a GPU, gone on with or judged without one.
    options = merged_options(Options, {"lines": source, "rnn_size": 8, "amp": "float16"})
    loop = Loop(handwriting, options, handwriting.data(options, None))
    with pytest.raises(HeadstartError, match="no LSTM layer so on a CPU"):
        loop.run(None, "")
    with pytest.raises(HeadstartError, match="no LSTM layer so on a CPU"):
        judge(handwriting, loop.model, loop.batches("val"), "float16")


def test_its_report_draws_lines_at_each_bias_and_in_hands_that_it_kept(trained):
    shown = trained / "experiments" / "exp_0001_handwriting" / "shown" / "strokes.json"
    lines = json.loads(shown.read_text())["lines"]
    assert {(one["bias"], one["hand"]) for one in lines} == {
        (bias, hand) for bias in ("0", "1", "2") for hand in ("any", "style 0", "style 1")
    }
    assert pen_lines(shown.read_bytes()) is not None


def test_help_has_each_command_of_the_recipe_on_a_line_of_its_own():
    said = [line.split("  ")[1] for line in call("train", "handwriting", "--help").output.splitlines() if "  headstart " in line]
    assert said == [
        "headstart train handwriting",
        "headstart train handwriting --lines lines.npz",
        "headstart train handwriting --preset quality",
        'headstart sample RUN --text "Hello there" --biases 1.5',
    ]


@pytest.mark.parametrize(("preset", "sizes"), [("fast", (100, 8, 3)), ("quality", (400, 20, 3))])
def test_a_preset_is_a_size_of_the_network_that_other_options_change(preset, sizes):
    chosen = merged_options(Options, {"preset": preset})
    assert (chosen.rnn_size, chosen.mixtures, chosen.layers) == sizes
    assert merged_options(Options, {"preset": preset, "mixtures": "3"}) == replace(chosen, mixtures=3)


def test_a_dry_run_says_what_a_file_holds_and_what_of_it_is_left_out(source, tmp_path):
    written = [json.loads(line) for line in source.read_text().splitlines()]
    written[3]["strokes"][0][0][0] = float("nan")
    for number in (7, 9):
        written[number]["strokes"][0][0][1] = 1e12
    written[59]["text"] += "Q"
    place = tmp_path / "lines.jsonl"
    place.write_text("".join(f"{json.dumps(one)}\n" for one in [*written, {"text": "a"}]))
    arguments = ("train", "handwriting", "--lines", place, *QUICK, "--dry-run", "-w", tmp_path / "w")
    done = call(*arguments)
    assert done.status == 0, done.errors
    rows, writers, points, characters, known, rare, note, plan = done.output.splitlines()
    assert sum(int(number) for number in re.findall(r"\d+", rows)) == 57
    assert re.fullmatch(r"data: writers: 2\d in train, 2 in val, 2 in test", writers)
    assert re.fullmatch(r"data: points a line: \d+ to \d+, median \d+", points)
    assert characters == "data: characters a line: 2 to 8, median 6"
    assert (known, rare) == (
        "data: 4 different characters, blanks aside: Qabc",
        "data: in fewer than 10 training lines each: Q",
    )
    assert note == (
        "note: 57 lines; left out: 2 coordinates beyond 1,000,000,000 (such as line 8), 1 coordinates that are NaN or infinite "
        "(line 4), 1 not as {'text': ..., 'writer': ..., 'strokes': [[[x, y], ...], ...]} (line 61)"
    )
    assert plan.startswith("plan: ")
    assert call(*arguments, "--json").json["data"]["notes"] == [note.removeprefix("note: ")]
    assert not list((tmp_path / "w").glob("experiments/*"))


def test_lines_of_validation_with_a_character_of_their_own_are_said_with_it(tmp_path):
    parted = line_parts(Options(lines=_one_odd_line(tmp_path, "Q")))
    [note] = parted.notes[1:]
    assert re.fullmatch(r"1 line of (val|test) left out: characters that no training line has: Q", note)


def _one_odd_line(folder, odd):
    """A file of four writers, of whom the one that is judged on has a character that no other has."""
    written = [json.loads(line) for line in as_json_lines(lines(8, writers=4))]
    path = folder / "lines.jsonl"
    path.write_text("".join(f"{json.dumps(one)}\n" for one in written))
    judged = line_parts(Options(lines=path)).parts["test"][0].writer
    next(one for one in written if one["writer"] == judged)["text"] += odd
    path.write_text("".join(f"{json.dumps(one)}\n" for one in written))
    return path


def test_lines_are_in_one_place_and_a_folder_is_none_of_their_files(source, tmp_path):
    for arguments, reason in (
        (("--lines", source, "--folder", tmp_path), "--lines and --folder each say where lines are; give one of them"),
        (("--lines", tmp_path), f"--lines {tmp_path}: it is a folder, expected a file"),
    ):
        for more in ((), ("--dry-run",)):
            assert call("train", "handwriting", *arguments, *more, "-w", tmp_path / "w").reason == reason


KILLED = """
import os, signal, sys
from headstart.experiments.training import loop
whole = loop.Loop._step
def step(self, *given):
    said = whole(self, *given)
    if self.progress.step == int(os.environ["KILL_AT"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return said
loop.Loop._step = step
from headstart.cli import main
sys.exit(main())
"""


def test_a_kill_in_the_middle_changes_no_bit(trained, source, tmp_path, monkeypatch):
    root = tmp_path / "workspace"
    arguments = ("train", "handwriting", "--lines", source, *QUICK, "--save-every", 1, "-w", root)
    for step in (2, 9):
        monkeypatch.setenv("KILL_AT", str(step))
        process = spawn_python(KILLED, *map(str, arguments))
        assert process.wait(300) == -signal.SIGKILL
    assert call(*arguments).status == 0
    assert final(root) == final(trained)


def sampled(trained, folder, *arguments):
    done = call("sample", 1, "-w", trained, "-o", folder, *arguments)
    assert done.status == 0, done.errors
    [path] = folder.iterdir()
    return path


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(trained, tmp_path):
    one, again, other = (
        sampled(trained, tmp_path / str(place), "--text", "abc ba", "--seed", seed).read_bytes()
        for place, seed in enumerate((5, 5, 6))
    )
    assert one == again
    assert one != other


def test_each_line_has_its_bias_and_its_hand(trained, tmp_path):
    path = sampled(trained, tmp_path / "a", "--text", "ab\\nba\\nab", "--biases", "0,3", "--styles", "0,1", "--format", "json")
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(one["text"], one["writer"]) for one in written] == [("ab", "style 0"), ("ba", "style 1"), ("ab", "style 0")]


def test_a_line_of_ones_own_is_gone_on_in(trained, source, tmp_path):
    own = tmp_path / "own.jsonl"
    own.write_text(source.read_text().splitlines()[0])
    plain = sampled(trained, tmp_path / "plain", "--text", "abc", "--format", "npy").read_bytes()
    assert sampled(trained, tmp_path / "own", "--text", "abc", "--format", "npy", "--own-hand", own).read_bytes() != plain


OWN = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0l20 5 5-5"/><path d="M30 5C40 0 40 9 50 4"/></svg>'


def test_a_line_that_was_drawn_as_svg_is_gone_on_in(trained, tmp_path):
    own = tmp_path / "own.svg"
    own.write_text(OWN)
    plain = sampled(trained, tmp_path / "plain", "--text", "abc", "--format", "npy").read_bytes()
    primed = sampled(trained, tmp_path / "own", "--text", "abc", "--format", "npy", "--own-hand", own, "--own-text", "ab")
    assert primed.read_bytes() != plain


def test_lines_biases_and_styles_may_stand_side_by_side(trained, tmp_path):
    said = ("--lines", "ab c", "ba", "--biases", 0, 3, "--styles", 0, 1, "--format", "json")
    path = sampled(trained, tmp_path / "a", *said)
    expected = sampled(trained, tmp_path / "b", "--text", "ab c\\nba", "--biases", "0,3", "--styles", "0,1", "--format", "json")
    assert [json.loads(line)["text"] for line in path.read_text().splitlines()] == ["ab c", "ba"]
    assert path.read_bytes() == expected.read_bytes()


def test_kept_hands_are_drawn_and_said_by_their_numbers(trained, tmp_path):
    done = call("sample", 1, "-w", trained, "-o", tmp_path, "--list-styles", "--format", "json")
    assert done.status == 0, done.errors
    said = [line.split("  ") for line in (tmp_path / "styles.txt").read_text().splitlines()]
    drawn = [json.loads(line) for line in (tmp_path / "styles.json").read_text().splitlines()]
    assert [f"style {number}" for number, _ in said] == [one["writer"] for one in drawn]
    assert [text for _, text in said] == [one["text"] for one in drawn]
    assert len(said) > 1


def test_what_was_written_can_be_learnt_from_again(trained, tmp_path):
    path = sampled(trained, tmp_path / "a", "--text", "abc abc", "--format", "json")
    path = path.rename(path.with_suffix(".jsonl"))
    try:
        assert read_lines(path).lines[0].text == "abc abc"
    except Exception as error:  # an untrained network may write too little for a line
        assert "no line that can be used" in str(error)  # noqa: PT017


def test_wrapped_text_becomes_several_lines(trained, tmp_path):
    path = sampled(trained, tmp_path / "a", "--text", "abc abc abc", "--wrap", 4, "--format", "json")
    assert [json.loads(line)["text"] for line in path.read_text().splitlines()] == ["abc"] * 3


REFUSED = {
    "characters it never saw": (("--text", "abz!"), "'!', 'z'"),
    "no text": ((), "nothing to write"),
    "blank text": (("--text", "  "), "nothing to write"),
    "a line of 500 characters": (("--text", "a" * 500), "--wrap 40"),
    "a style that is not there": (("--text", "a", "--styles", "99"), "no style 99"),
    "a bias that is none": (("--text", "a", "--biases", "much"), "biases"),
    "a comma, which is no end of a line": (("--lines", "a,b"), "does not know ','"),
    "two texts": (("--text", "a", "--lines", "b", "c"), "--text and --lines each say"),
    "an SVG that says nothing": (("--text", "a", "--own-hand", "own.svg"), "--own-text"),
    "an SVG that was turned": (("--text", "a", "--own-hand", "own.svg", "--own-text", "ab"), "with rotate()"),
    "an SVG of another world": (("--text", "a", "--own-hand", "far.svg", "--own-text", "ab"), "coordinates beyond"),
    "strokes that are none": (("--text", "a", "--own-hand", "none.jsonl"), "1 coordinates that are NaN or infinite (line 1)"),
    "a text beside one": (("--text", "a", "--own-hand", "own.jsonl", "--own-text", "ab"), "is for an SVG"),
    "an unknown option": (("--text", "a", "--colour", "red"), "--colour"),
    "a file that is not there": (("--text-file", "nowhere.txt"), "no such file"),
    "a page without room": (("--text", "a", "--width", "20", "--margin", "10"), "no room"),
}


@pytest.mark.parametrize(("arguments", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_written_is_said_in_one_line(trained, tmp_path, monkeypatch, arguments, reason):
    (tmp_path / "given").mkdir()
    monkeypatch.chdir(tmp_path / "given")
    Path("own.svg").write_text("<svg><path transform='rotate(9)' d='M0 0L2 2'/></svg>")
    Path("far.svg").write_text("<svg><path d='M0 0L1e12 2'/></svg>")
    Path("own.jsonl").write_text("{}")
    Path("none.jsonl").write_text('{"text": "ab", "strokes": [[[0, 0], [NaN, 1]]]}')
    done = call("sample", 1, "-w", trained, "-o", tmp_path / "written", *arguments)
    assert done.status in (1, 2)
    assert reason in done.errors
    assert not list(tmp_path.glob("written/*"))


def test_help_of_a_run_lists_what_its_recipe_can_be_told(trained):
    said = call("sample", 1, "-w", trained, "--help").output
    assert "--biases" in said
    assert "handwriting" in said
    assert "RUN" in call("sample", "--help").output


def test_another_kind_of_run_makes_no_samples(trained):
    assert "headstart runs" in call("sample", 99, "-w", trained, "--text", "a").errors


def test_without_the_fonts_it_says_what_to_install(tmp_path):
    hidden = "import sys; sys.modules['HersheyFonts'] = None; from headstart.cli import main; sys.exit(main())"
    status, _, errors = run_python(hidden, "train", "handwriting", "-w", str(tmp_path / "w"))
    assert status == 1
    assert "pip install" in errors
    assert "\n" not in errors.strip()


def test_a_gpu_of_apple_s_is_asked_for_nothing_that_it_lacks(source, tmp_path, monkeypatch):
    ends_as_on_the_cpu(("handwriting", "--lines", source, *QUICK), tmp_path / "w", monkeypatch)
