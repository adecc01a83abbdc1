"""One flipped bit of any file: noticed with one line, or without any effect on features, labels and numbers.

python -m tests.faults.flips                 every bit below 100 kB, 2,000 random ones else
python -m tests.faults.flips --bits 40       so many random bits of each file
"""

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from headstart.pipeline.doors.records import read_record
from headstart.pipeline.errors import ExplainedError
from headstart.pipeline.workspace import Workspace, open_workspace
from tests.commands.calling import call

from .__main__ import add_share, conclude
from .flip_target import Noticed, Target
from .more_flips import more_targets

EXHAUSTIVE_BELOW = 100_000
RANDOM_BITS = 2_000
HEADER = (
    "| file | bytes | bits | noticed | without effect | silent | other errors | s |\n|---|---:|---:|---:|---:|---:|---:|---:|"
)
_ENCODER = ("--encoder", "test_resnet", "--weights", "random:0", "--image-size", "32", "--job-size", "8")
_QUIET = ("--device", "cpu", "-w")


@dataclass
class Outcome:
    """Counts of one file; `silent` and `errors` name the bits."""

    target: Target
    size: int
    bits: int = 0
    noticed: int = 0
    harmless: int = 0
    silent: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def row(self) -> str:
        counts = (self.size, self.bits, self.noticed, self.harmless, len(self.silent), len(self.errors))
        return f"| {self.target.name} | {' | '.join(f'{count:,}' for count in counts)} | {self.seconds:.0f} |"


def flip(target: Target, bits: int | None, seed: int = 0) -> Outcome:
    """Flips one bit after the other. Args: bits: so many random ones; None: all of a small file, RANDOM_BITS of another."""
    expected = target.observe()
    sound = target.path.read_bytes()
    times = target.path.stat().st_mtime_ns
    outcome = Outcome(target, len(sound))
    every = range(8 * len(sound))
    if bits is None:
        bits = len(every) if len(sound) < EXHAUSTIVE_BELOW else RANDOM_BITS
    begun = time.monotonic()
    sample = set(random.Random(seed + 1).sample(every, min(len(every), RANDOM_BITS)))
    for bit in every if bits >= len(every) else random.Random(seed).sample(every, bits):
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        _put(target.path, bytes(flipped), times)
        outcome.bits += 1
        where = f"byte {bit // 8} bit {bit % 8}"
        try:
            if bit not in sample:
                target.read()
            seen = target.observe()
        except Noticed:
            outcome.noticed += 1
        except ExplainedError as error:
            if len(str(error).splitlines()) != 1:
                outcome.errors.append(f"{where}: several lines: {str(error)[:200]!r}")
            outcome.noticed += 1
        except Exception as error:
            outcome.errors.append(f"{where}: {type(error).__name__}: {str(error)[:200]}")
        else:
            if seen == expected:
                outcome.harmless += 1
            else:
                outcome.silent.append(where)
        _put(target.path, sound, times)
        target.restore()
    outcome.seconds = time.monotonic() - begun
    return outcome


def _put(path: Path, data: bytes, mtime_ns: int) -> None:
    # As a disk does it: same file, same size, same time.
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.write(data)
        file.truncate()
    os.utime(path, ns=(mtime_ns, mtime_ns))


def write_photos(folder: Path) -> Path:
    """Two classes that differ in brightness, two images of each patient; returns the table that names them."""
    draw = np.random.default_rng(0)
    lines = ["path,label,patient"]
    for number in range(24):
        name, level = ("dark", 60) if number % 2 else ("light", 190)
        path = folder / f"{name}{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(draw.normal(level, 40, (36, 36, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        lines.append(f"{path.name},{name},p{number // 2}")
    table = folder / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def make_workspace(root: Path) -> Workspace:
    """A few images with groups, features, a cache, heads, a trained recipe: everything that there are readers for."""
    table = write_photos(root / "photos")
    lines = table.read_text().splitlines()
    workspace = root / "workspace"
    training = ("--epochs", "2", "--threads", "1", "--batch-size", "8")
    for command in (
        ("enqueue", table, "--group-col", "patient", *_ENCODER, "-w"),
        ("work", *_QUIET),
        ("train-head", "--epochs", "3", *_QUIET),
        (
            "train",
            "classify",
            root / "photos" / "table.csv",
            "--encoder",
            "test_resnet",
            "--image-size",
            "32",
            *training,
            *_QUIET,
        ),
    ):
        done = call(*command, workspace)
        if done.status:
            raise RuntimeError(f"{command[0]}: {done.errors}")
    # A label that changed makes a revision.
    lines[-1] = lines[-1].replace(",dark,", ",light,")
    table.write_text("\n".join(lines) + "\n")
    done = call("enqueue", table, "--group-col", "patient", *_ENCODER, "-w", workspace)
    if done.status:
        raise RuntimeError(done.errors)
    return open_workspace(workspace)


def make_waiting(root: Path) -> Workspace:
    """The same images enqueued for two encoders, and nobody worked on them yet."""
    workspace = root / "waiting"
    for size in ("32", "48"):
        encoder = ("--encoder", "test_resnet", "--weights", "random:0", "--image-size", size, "--job-size", "8")
        done = call("enqueue", root / "photos" / "table.csv", "--group-col", "patient", *encoder, "-w", workspace)
        if done.status:
            raise RuntimeError(done.errors)
    os.utime(open_workspace(workspace).queue, (0, 0))
    return open_workspace(workspace)


def targets(workspace: Workspace) -> Iterator[Target]:
    """Every file that is flipped, with its readers."""
    from headstart.experiments.evaluation.record import show_run
    from headstart.experiments.heads.trained_head import read_head
    from headstart.experiments.runs.catalog import choose_run, list_runs
    from headstart.experiments.runs.database.database import open_database
    from headstart.experiments.runs.database.synchronize import open_synchronized
    from headstart.experiments.runs.experiment import read_metrics
    from headstart.experiments.runs.experiment_data import experiment_data
    from headstart.experiments.runs.head_experiment import read_head_experiment
    from headstart.experiments.runs.recipe_experiment import options_of, read_recipe_experiment, recipe_of, splits_of
    from headstart.experiments.training.state.checkpoints import Checkpoints
    from headstart.experiments.training.state.final_weights import read_final
    from headstart.features.encoders.onnx_encoder import find_graph
    from headstart.features.encoders.saved import read_weights
    from headstart.features.encoders.spec import read_encoder
    from headstart.features.manifest.digests import _Journal, digest_images, forget_journal, journal_path
    from headstart.features.manifest.reading import open_manifest
    from headstart.features.networks.weights import digest as digest_of
    from headstart.features.sources.find import find_images
    from headstart.features.sources.source import SourceOptions
    from headstart.features.store.load import load_features
    from headstart.features.store.packing import DamagedPart, load_cached_features, open_checked
    from headstart.pipeline.enqueue import queue_lock
    from headstart.pipeline.kinds import known_kinds
    from headstart.pipeline.queue import Reader
    from headstart.pipeline.retire import CANCELLED, PAUSED, REMOVED, withdraw
    from headstart.pipeline.status import read_status
    from headstart.pipeline.verify import verify

    [encoder] = workspace.features.glob("encoder_*")
    [manifest] = workspace.manifests.iterdir()
    heads, recipe = sorted(workspace.experiments.glob("exp_*"))
    payload = sorted(encoder.glob("shards/*/*.npz"))[0]
    cached = load_cached_features(encoder)
    [part] = encoder.glob("cache/part_*.h5")

    def features() -> Any:
        loaded = load_features(encoder)
        return loaded.features.tobytes(), loaded.labels.tolist(), loaded.splits.tolist(), loaded.paths

    def jobs() -> Any:
        findings = verify(workspace)
        if findings.torn or findings.problems or findings.pending:
            raise Noticed
        tally = read_status(workspace)
        return features(), str(tally)

    waiting = make_waiting(workspace.root.parent)

    def asked() -> Any:
        if read_status(waiting).problems:
            raise Noticed
        return list(Reader(waiting, known_kinds()))

    def whole_part() -> None:
        try:
            open_checked(workspace, part)
        except DamagedPart:
            raise Noticed from None  # packed anew

    def packed() -> Any:
        rows = load_cached_features(encoder)
        return rows.take(np.arange(len(rows))).tobytes(), rows.labels.tolist(), rows.splits.tolist()

    def columns() -> Any:
        opened = open_manifest(manifest)
        read = opened.read_all()
        return opened.dataset, read.path, read.label, read.split, read.group, read.digest, read.extra, read.retired

    def head(name: str) -> Callable[[], Any]:
        def look() -> Any:
            read = read_head(heads / "checkpoints" / name)
            return read.digest, read.names, read.task, str(read.config), str(read.fitted), str(read.auxiliary), str(read.outputs)

        return look

    keys: dict[str, None] = {}

    def runs() -> Any:
        said: list[str] = []
        listed = [(line.as_json(), line.run.config) for line in list_runs(workspace, said.append)]
        if said:
            raise Noticed
        shown = [show_run(str(line["run"]), workspace).record for line, _ in listed]
        # The name of a seal that was flipped is a key that nobody knows.
        keys.update({} if keys else dict.fromkeys(key for record in shown for key in record))
        return listed, choose_run(workspace, "best").as_json(), [{key: each.get(key) for key in keys} for each in shown]

    def described() -> Any:
        one, other = read_head_experiment(workspace, heads), read_recipe_experiment(workspace, recipe)
        used = options_of(other, recipe_of(other))
        return runs(), rows(), one.identity, other.identity, str(used), list(sets_of(workspace, other, used))

    def sets_of(workspace: Workspace, experiment: Any, used: Any) -> Any:
        return splits_of(workspace, experiment, recipe_of(experiment), used).named()

    def state() -> Any:
        read = Checkpoints(recipe / "checkpoints", workspace.files).latest(identity)
        if read is None:
            raise Noticed  # passed over: the training goes on from the state before, or begins, and ends in the same bits
        return _digested(read)

    def final() -> Any:
        read = read_final(recipe / "checkpoints" / "final.safetensors")
        known = {key: read.training[key] for key in ("recipe", "code", "options")}
        return known, dict(read.about), _digested(dict(read.weights))

    def rows() -> Any:
        read = experiment_data(workspace, read_head_experiment(workspace, heads))
        taken, positions = read.features.take(np.arange(len(read.features))), (read.data.train, read.data.val, read.test)
        return _digested(taken), _digested(positions), read.features.labels.tolist(), read.features.paths, read.counts

    identity = read_recipe_experiment(workspace, recipe).identity
    runs()
    sound_cache, database = part.read_bytes(), workspace.database.read_bytes()
    checked = part.with_name(".checked")

    def cache_again() -> None:
        for path in part.parent.glob("part_*.h5"):
            if path != part:
                path.unlink()
        if not part.exists() or part.read_bytes() != sound_cache:
            part.write_bytes(sound_cache)

    def database_again() -> None:
        for path in workspace.experiments.glob("experiments.db*"):
            path.unlink()
        workspace.database.write_bytes(database)

    def rows_of_runs() -> Any:
        # Made again by itself where it differs: what it says then is right.
        with open_synchronized(workspace, in_full=True) as opened:
            listed = opened.runs(), opened.final_metrics(), opened.wide(), opened.image_counts()
            return listed, [opened.metrics(run.run) for run in listed[0]]

    with open_database(workspace.database) as opened:
        stamps = opened.stamps(in_full=True)

    def rows_as_stamped() -> None:
        with open_database(workspace.database) as opened:
            if opened.stamps(in_full=True) != stamps:
                raise Noticed  # made again, by what `rows_of_runs` calls

    del cached
    yield Target("payload (NPZ)", payload, features)
    yield Target("payload, packed anew", payload, lambda: (shutil.rmtree(part.parent, ignore_errors=True), packed())[1])
    packed()
    yield Target("marker", sorted(encoder.glob("done/*/*.done"))[0], jobs)
    yield Target("manifest part", sorted(manifest.glob("part_*"))[0], columns)
    yield Target("revision", sorted(manifest.glob("revision_*"))[-1], columns)
    yield Target("dataset.json", manifest / "dataset.json", columns)
    yield Target("queue", workspace.queue, jobs)
    yield Target("queue, nothing done", waiting.queue, asked)
    with queue_lock(waiting):
        for number, wanted in enumerate((PAUSED, CANCELLED, REMOVED)):
            withdraw(waiting, asked()[number : number + 2], wanted, f"experiment exp_000{number}_tiny")
    yield Target("jobs_withdrawn.csv", waiting.withdrawn, asked)
    source = find_images(workspace.root.parent / "photos" / "table.csv", SourceOptions(path_col="path", label_col="label"))
    journal = _Journal(journal_path(workspace, source))
    for image in digest_images(workspace, source, None, "now").source.images:
        journal.add(image.path, image.digest, image.size, image.mtime_ns)
    journal.flush()
    yield Target("digests/*.csv", journal_path(workspace, source), lambda: digest_images(workspace, source, None).source)
    forget_journal(workspace, source)
    yield Target("workspace.json", workspace.root / "workspace.json", lambda: (open_workspace(workspace.root).files, features()))
    packed()
    part_now = sorted(encoder.glob("cache/part_*.h5"))[0]
    sound_cache = part_now.read_bytes()
    part = part_now
    yield Target("cache part", part_now, packed, cache_again, whole_part)
    packed()
    yield Target("cache/.checked", checked, packed, cache_again)
    yield Target("encoder.json", encoder / "encoder.json", lambda: read_encoder(encoder).fingerprint)
    yield Target(
        "weights.safetensors", encoder / "weights.safetensors", lambda: digest_of(read_weights(encoder, read_encoder(encoder)))
    )
    spec = read_encoder(encoder)

    def graph() -> Any:
        facts = find_graph(encoder, spec.fingerprint)
        if facts is None:
            raise Noticed  # exported anew
        return facts.sha256, hashlib.sha256((encoder / "encoder.onnx").read_bytes()).hexdigest()

    if (encoder / "encoder.onnx.json").exists():
        yield Target("encoder.onnx.json", encoder / "encoder.onnx.json", graph)
        yield Target("encoder.onnx", encoder / "encoder.onnx", graph)
    yield Target("rows.bin", heads / "rows.bin", rows)
    yield Target("head (gradient)", heads / "checkpoints" / "best_head.pt", head("best_head.pt"))
    yield Target("head (baseline)", heads / "checkpoints" / "ridge.pt", head("ridge.pt"))
    yield Target("recipe's state", sorted((recipe / "checkpoints").glob("step_*.pt"))[-1], state)
    yield Target("recipe's final weights", recipe / "checkpoints" / "final.safetensors", final)
    # What the database says comes from these files: without one, they are read again.
    for folder, what, read in ((heads, "heads", read_head_experiment), (recipe, "recipe", read_recipe_experiment)):
        for name in ("metrics.json", "training_history.json", "runs.json", "experiment.json"):
            if (folder / name).exists():
                first = (
                    partial(read, workspace, folder) if name == "experiment.json" else partial(read_record, folder / name, None)
                )
                yield Target(f"{name} of {what}", folder / name, _without(workspace.database, described), database_again, first)
    results = recipe / "test_results.json"
    yield Target("test_results.json", results, lambda: dict(read_record(results, None)))
    yield Target("metrics.json, read alone", heads / "metrics.json", lambda: read_metrics(read_head_experiment(workspace, heads)))
    yield Target("database", workspace.database, rows_of_runs, database_again, rows_as_stamped)
    yield from more_targets(workspace)


def _without(database: Path, observe: Callable[[], Any]) -> Callable[[], Any]:
    def look() -> Any:
        for path in database.parent.glob(f"{database.name}*"):
            path.unlink()
        return observe()

    return look


def _digested(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return (
            str(value.dtype),
            list(value.shape),
            hashlib.sha256(value.contiguous().reshape(-1).view(torch.uint8).numpy()).hexdigest(),
        )
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value)).hexdigest()
    if isinstance(value, dict):
        return {key: _digested(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_digested(each) for each in value]
    return value


def run(
    bits: int | None, only: str = "", told: Callable[[str], None] = lambda line: None, share: tuple[int, int] = (0, 1)
) -> list[Outcome]:
    """Args: only: a part of the names of the files that are meant; told: called with each row; share: which of how many parts."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    root = Path(tempfile.mkdtemp(prefix="headstart-flips-", dir=place))
    outcomes = []
    try:
        with contextlib.chdir(root):
            os.environ["HEADSTART_CONFIG"] = str(root / "configuration")
            workspace = make_workspace(root)
            for number, target in enumerate(targets(workspace)):
                if only in target.name and number % share[1] == share[0]:
                    outcomes.append(flip(target, bits))
                    told(outcomes[-1].row())
                    for line in [*outcomes[-1].silent[:5], *outcomes[-1].errors[:5]]:
                        told(f"    {line}")
    finally:
        shutil.rmtree(root)
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", type=int)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/reliability.md")
    add_share(parser)
    arguments = parser.parse_args()
    print(HEADER, flush=True)
    outcomes = run(arguments.bits, arguments.only, lambda line: print(line, flush=True), arguments.share)
    violations = sum(len(outcome.silent) + len(outcome.errors) for outcome in outcomes)
    said = f"{sum(outcome.bits for outcome in outcomes):,} flipped bits"
    return conclude(HEADER, [outcome.row() for outcome in outcomes], said, violations, "make flips", arguments)


if __name__ == "__main__":
    sys.exit(main())
