"""Fault campaign 7: photos move, change and leave, and each command in between is killed before each call and at random moments.

    python -m tests.faults.moved_data [--count 1500] [--seed 0] [--photos FOLDER] [--story NAME]

After each kill the same command runs again, or, as somebody does who thinks no more of it, the photos go on changing and only
the next commands run. Whatever happened: no image is computed twice, none is in two splits, no training learns from a row that
left or has another label by now, features and heads have the bytes of an undisturbed run.
"""

import argparse
import functools
import importlib
import json
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
import numpy as np
from PIL import Image

from headstart import cli
from headstart.pipeline import worker as worker_module

from .command_line import command, in_one_thread
from .fakes import scratch
from .moving import (
    FIRST,
    LONG,
    STORIES,
    WORKSPACE,
    Step,
    flaws,
    outcome,
    place,
    rows_now,
    training_flaws,
    truths,
    words_of,
)
from .report import HEADER, Report, report_of
from .steps import watch

EACH_CLASS = 8
SOONEST = 6  # commands of a story that others tell to the end: what is new in it is over by then
MOMENTS = 6  # kills of each command at a random moment, which also fall into what is not Python
_PATIENCE_S = 60.0
_MOMENT = "a random moment"


@dataclass(frozen=True)
class Trial:
    """One kill: of the command after `step`, before its `at`-th call, or after `part` of its time if `at` is 0."""

    story: str
    step: int
    at: int
    part: float
    goes_on: bool


@dataclass
class Told:
    """An undisturbed run of a story: what each of its commands starts from, and what must come out.

    Attributes:
        before: for each step a copy of everything after its change.
        calls, seconds: of its command.
        after: `moving.outcome` once it is over.
        expected, most: see `moving.flaws`.
    """

    base: Path
    steps: Sequence[Step]
    before: list[Path] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    after: list[dict[str, str]] = field(default_factory=list)
    expected: dict[str, bytes] = field(default_factory=dict)
    most: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Ended:
    """How a command ended: `status` as of `os.waitpid`, `label` of the call that it was killed before, `calls` it made."""

    status: int
    label: str
    calls: int
    errors: str

    @property
    def was_killed(self) -> bool:
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL


def draw_photos(folder: Path) -> None:
    """Small pictures in two classes, two of them the same."""
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(EACH_CLASS):
            seed = number % (EACH_CLASS - 1) if label == "cat" else 100 + number
            pixels = np.random.default_rng(seed).integers(0, 256, (24, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number:02d}.png")


def copy_photos(source: Path, folder: Path) -> None:
    """The first photos of the first classes of a folder of classes."""
    for label in sorted(path for path in source.iterdir() if path.is_dir())[:3]:
        (folder / label.name).mkdir(parents=True)
        for path in sorted(path for path in label.iterdir() if path.is_file())[:EACH_CLASS]:
            shutil.copy2(path, folder / label.name / path.name)


def load_everything(stories: Sequence[str]) -> None:
    """What commands import, once for all children; this process itself computes nothing, so that forking stays safe."""
    os.environ["OMP_NUM_THREADS"] = "1"
    commands = {"verify", *(step.command for story in stories for step in STORIES[story])}
    for name in commands:
        cli.group.get_command(click.Context(cli.group), name)
    modules = ["timm", "headstart.features.planning.enqueue"]
    if "train-head" in commands:
        modules += ["scipy.stats", "sklearn.metrics", "headstart.experiments.train_heads"]
    for module in modules:
        importlib.import_module(module)
    importlib.import_module("torch").set_num_threads(1)
    worker_module.DEATHS = 10**9  # nobody starts Python children for jobs whose workers died: that has tests of its own


def run(base: Path, words: Sequence[str], at: int = 0, moment_s: float = 0.0) -> Ended:
    """A command in a child that kills itself before its `at`-th call to files below `base`, or is killed after a time."""
    board = mmap.mmap(-1, 8 + 64)
    said = base.parent / f"said-{os.getpid()}"

    def step(label: str) -> None:
        calls = struct.unpack("q", board[:8])[0] + 1
        board[:8] = struct.pack("q", calls)
        if calls == at:
            text = label.encode()[:64]
            board[8 : 8 + len(text)] = text
            os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        _child(base, words, step, said)
    status = _waited(pid, moment_s)
    label = bytes(board[8:]).rstrip(b"\0").decode()
    return Ended(status, label, struct.unpack("q", board[:8])[0], said.read_text() if said.exists() else "")


def _child(base: Path, words: Sequence[str], step: Callable[[str], None], said: Path) -> None:
    status = 99
    try:
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - a test runner may have put something else there
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        watch(base, step)
        status = in_one_thread([command(*words)], base / WORKSPACE)
    finally:
        os._exit(status)


def _waited(pid: int, moment_s: float) -> int:
    begun = time.monotonic()
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        elapsed = time.monotonic() - begun
        if (moment_s and elapsed > moment_s) or elapsed > _PATIENCE_S:
            os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1] if elapsed <= _PATIENCE_S else signal.SIGALRM
        time.sleep(0.001)


def tell(story: str, folder: Path, make_photos: Callable[[Path], None]) -> Told:
    """Runs a story undisturbed, and keeps what each command started from. Raises: RuntimeError if it goes wrong already."""
    base = folder / "now"
    base.mkdir(parents=True)
    make_photos(base / FIRST)
    told = Told(base, STORIES[story])
    copies: dict[str | None, Counter[str]] = {}
    for number, step in enumerate(told.steps):
        step.change(base)
        for (_, file), truth in truths(base, step.data_sets).items():
            copies[file] = copies.get(file, Counter()) | Counter(digest for _, digest in truth.values())
        told.before.append(folder / str(number))
        shutil.copytree(base, told.before[-1])
        begun = time.monotonic()
        ended = run(base, words_of(step, base))
        if ended.status:
            raise RuntimeError(
                f"undisturbed, `{step.command}` after photos {step.name} ended with {ended.status}: {ended.errors}"
            )
        told.seconds.append(time.monotonic() - begun)
        told.calls.append(ended.calls)
        told.after.append(outcome(base / WORKSPACE))
    told.most = sum(copies.values(), Counter())
    for _, rows in rows_now(base / WORKSPACE).values():
        told.expected |= {row.digest: row.features[0] for row in rows if row.features}
    told.expected |= _computed_anew(folder, base, told.steps[-1])
    last = told.steps[-1]
    wrong: list[str] = []
    if last.command == "train-head":  # and nothing is left to do
        wrong += [*flaws(base, last.data_sets, told.expected, told.most), *training_flaws(base, last.data_sets)]
    if wrong:
        raise RuntimeError(f"undisturbed: {wrong}")
    return told


def _computed_anew(folder: Path, base: Path, last: Step) -> dict[str, bytes]:
    """Features of the photos as they are in the end, from a workspace that knows nothing of what they were."""
    anew = folder / "anew"
    shutil.copytree(base, anew, ignore=lambda path, names: [WORKSPACE] if path == str(base) else [])
    first = STORIES["today"]
    for step in (first[0], first[1]):
        ended = run(anew, words_of(step, anew))
        if ended.status:
            raise RuntimeError(f"anew: {ended.errors}")
    [(_, rows)] = rows_now(anew / WORKSPACE).values()
    shutil.rmtree(anew)
    return {row.digest: row.features[0] for row in rows}


def trials_of(story: str, told: Told) -> list[Trial]:
    """Every kill that is tried, in the order of the story."""
    trials = []
    for number, step in enumerate(told.steps[:SOONEST] if story == "version 1" else told.steps):
        for goes_on in (False, True) if step.is_known and _next_look(told.steps, number) else (False,):
            trials += [Trial(story, number, at, 0.0, goes_on) for at in range(1, told.calls[number] + 1)]
            trials += [Trial(story, number, 0, (moment + 0.5) / MOMENTS, goes_on) for moment in range(MOMENTS)]
    return trials


def _next_look(steps: Sequence[Step], number: int) -> int:
    """The next step that enqueues what this one enqueues or moves; 0 if there is none."""
    later = range(number + 1, len(steps))
    return next((one for one in later if steps[number].data_set and steps[one].data_set == steps[number].data_set), 0)


def violations(trial: Trial, told: Told) -> tuple[str, list[str]]:
    """Kills, goes on, and judges: the label of the call that the kill met ('' if the command was over), and what was broken."""
    base, step = told.base, told.steps[trial.step]
    shutil.rmtree(base)
    shutil.copytree(told.before[trial.step], base)
    killed = run(base, words_of(step, base), trial.at, trial.part * told.seconds[trial.step])
    if not killed.was_killed:
        return "", [] if killed.status == 0 else [
            f"wedged: {_shown(trial, step)}: it ended with {killed.status}: {_last(killed)}"
        ]
    last = _next_look(told.steps, trial.step) if trial.goes_on else trial.step
    broken = [] if trial.goes_on else list(_failed(base, [words_of(step, base)]))
    for later in told.steps[trial.step + 1 : last + 1] if not broken else ():
        later.change(base)
        broken += _failed(base, [words_of(later, base)])
    if not broken and step.command == "train-head":
        after, expected = outcome(base / WORKSPACE), told.after[trial.step]
        differ = sorted(name for name in after.keys() | expected.keys() if after.get(name) != expected.get(name))
        if differ:
            broken.append(f"wrong: an undisturbed training leaves other bytes: {', '.join(differ)}")
        broken += training_flaws(base, step.data_sets)
    if not broken and not step.has_digests:
        broken += _failed(base, [["enqueue", str(place(base))]])
    broken = broken or list(_failed(base, [["work"], ["verify", "--deep", "--repair"]]))
    broken = broken or list(flaws(base, told.steps[last].data_sets, told.expected, told.most))
    return killed.label or _MOMENT, [f"{one} ({_shown(trial, step)}, {killed.label})" for one in broken]


def _failed(base: Path, commands: Sequence[Sequence[str]]) -> Iterator[str]:
    for words in commands:
        ended = run(base, words)
        if ended.status:
            yield f"wedged: `{words[0]}` ended with {ended.status}: {_last(ended)}"
            return


def _last(ended: Ended) -> str:
    lines = ended.errors.strip().splitlines()
    return lines[-1][:200] if lines else "nothing said"


def _shown(trial: Trial, step: Step) -> str:
    return f"{trial.story}: `{step.command}` after photos {step.name}{', and go on' if trial.goes_on else ''}, at {trial.at}"


def campaign(count: int, seed: int, make_photos: Callable[[Path], None] = draw_photos, stories: Sequence[str] = LONG) -> Report:
    """At most `count` kills, spread evenly over all that there are, on every core. This process must have one thread only."""
    begun = time.monotonic()
    load_everything(stories)
    cores = min(len(os.sched_getaffinity(0)), 1 + count // 20)  # each tells the stories for itself
    with scratch() as folder:
        answers = []
        for core in range(cores):
            answer = folder / f"answer{core}"
            answers.append((os.fork(), answer))
            if answers[-1][0] == 0:
                _work_off(folder / str(core), answer, core, cores, count, seed, make_photos, stories)
        labels: Counter[str] = Counter()
        broken: list[str] = []
        total = kills = 0
        for pid, answer in answers:
            os.waitpid(pid, 0)
            if not answer.exists():
                raise RuntimeError("a process of the campaign died; see above")
            facts = json.loads(answer.read_text())
            labels.update(facts["labels"])
            broken += facts["broken"]
            total = facts["total"]
    kills = labels.total()
    commands = " and ".join(str(len(STORIES[story])) for story in stories)
    notes = (
        f"of {total:,} places to kill at, in stories of {commands} commands; {len(labels) - 1} sorts of call, "
        f"{labels[_MOMENT]:,} kills at random moments"
    )
    return report_of("moved data", kills, broken, time.monotonic() - begun, notes)


def _work_off(
    folder: Path,
    answer: Path,
    core: int,
    cores: int,
    count: int,
    seed: int,
    make_photos: Callable[[Path], None],
    stories: Sequence[str],
) -> None:
    status = 1
    try:
        told = {story: tell(story, folder / story, make_photos) for story in stories}
        trials = [trial for story in stories for trial in trials_of(story, told[story])]
        chance = random.Random(seed)
        moments = [trial for trial in trials if not trial.at]  # these first: what is not Python dies only so
        chosen = [*chance.sample(moments, min(len(moments), count // 4)), *chance.sample([*trials], len(trials))][:count]
        labels: Counter[str] = Counter()
        broken: list[str] = []
        for trial in chosen[core::cores]:
            label, wrong = violations(trial, told[trial.story])
            labels.update([label] if label else [])
            broken += wrong
            for one in wrong:
                print(one, file=sys.stderr, flush=True)
            if len(broken) >= 20:
                break
        answer.write_text(json.dumps({"labels": labels, "broken": broken, "total": len(trials)}))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photos", type=Path, help="a folder of classes to take photos from; without it they are drawn")
    parser.add_argument("--story", choices=STORIES, action="append", help="[default: the two long ones]")
    asked = parser.parse_args()
    make = draw_photos if asked.photos is None else functools.partial(copy_photos, asked.photos)
    report = campaign(asked.count, asked.seed, make, asked.story or LONG)
    if asked.photos is not None:
        report = replace(report, notes=f"photos of {asked.photos.name}; {report.notes}")
    print(f"{HEADER}\n{report.row()}")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
