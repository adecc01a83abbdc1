"""Files that are flipped besides those that a training reads: what was asked for, corrected, launched, audited and copied."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from headstart.pipeline.doors.records import seal
from headstart.pipeline.workspace import Workspace, open_or_create_workspace, open_workspace
from tests.commands.calling import call
from tests.features.cut import ENCODER, draw

from .flip_target import Noticed, Target


def more_targets(workspace: Workspace) -> Iterator[Target]:
    """Args: workspace: as `flips.make_workspace` leaves it; none of its features or trainings is changed here but labels."""
    [encoder] = workspace.features.glob("encoder_*")
    yield from _of_encoder(workspace, encoder)
    yield from _of_runs(workspace)
    yield from _of_notes(workspace, encoder)
    yield from _of_labels(workspace)
    yield from _of_copies(workspace)
    yield from _of_patches(workspace.root.parent / "cut")


def _required(read: Callable[[], Any]) -> Callable[[], Any]:
    """What is derived says nothing where it is damaged: it is made again."""

    def look() -> Any:
        value = read()
        if not value:
            raise Noticed
        return value

    return look


def _of_encoder(workspace: Workspace, encoder: Path) -> Iterator[Target]:
    from headstart.features.encoders.openvino_encoder import calibrated_graph
    from headstart.features.encoders.precision import CALIBRATED_NAME, INT8
    from headstart.features.encoders.remembered import REQUEST_NAME, remember_request, remembered_encoder
    from headstart.features.encoders.resolve import EncoderRequest
    from headstart.features.encoders.spec import read_encoder
    from headstart.features.store.activations import SPEC_FILE, ActivationSpec, read_spec, works_for

    spec = read_encoder(encoder)
    request = EncoderRequest("test_resnet", "random:0", 32)
    remember_request(workspace, request, spec)
    remembered = _required(lambda: remembered_encoder(workspace, request))
    yield Target(REQUEST_NAME, encoder / REQUEST_NAME, remembered)
    # Calibrating needs libraries that are an extra; who reads the graph compares its digest and nothing else.
    graph = encoder / CALIBRATED_NAME
    graph.write_bytes(hashlib.shake_256(b"a graph").digest(8_000))
    precise = replace(spec, precision=INT8, calibrated_sha256=hashlib.sha256(graph.read_bytes()).hexdigest())
    yield Target(CALIBRATED_NAME, graph, lambda: calibrated_graph(encoder, precise))
    graph.unlink()
    activations = ActivationSpec(workspace.relative(encoder), spec.fingerprint, 2, ("conv1", "bn1"), 2)
    works_for(workspace, activations, ())
    folder = activations.folder(workspace)
    yield Target(SPEC_FILE, folder / SPEC_FILE, lambda: read_spec(folder))
    shutil.rmtree(folder)


def _of_runs(workspace: Workspace) -> Iterator[Target]:
    from headstart.experiments.making.making import MADE_FILE, Making, encode_making, read_making
    from headstart.experiments.runs.course import COURSE, read_course
    from headstart.experiments.runs.head_experiment import REMOVED_HEADS, removed_heads
    from headstart.pipeline.launch import Asked, _read, begin

    heads, recipe = sorted(workspace.experiments.glob("exp_*"))
    workspace.files.replace(heads / REMOVED_HEADS, seal({"heads": ["ridge", "lda"]}, indent=None))
    yield Target(REMOVED_HEADS, heads / REMOVED_HEADS, lambda: removed_heads(heads))
    (heads / REMOVED_HEADS).unlink()
    yield Target(COURSE, recipe / "checkpoints" / COURSE, _required(lambda: read_course(recipe)))
    making = Making("mine.py", "0" * 64, {"count": 3}, {"table": "1" * 64}, 3, ("a", "b", "c"))
    folder = making.folder(workspace)
    workspace.make_folder(folder)
    workspace.files.replace(folder / MADE_FILE, encode_making(making))
    yield Target(MADE_FILE, folder / MADE_FILE, lambda: read_making(folder))
    shutil.rmtree(folder)
    begin(workspace, "local", Asked(workers=2, work=("--device", "cpu")))
    yield Target("launch.json", workspace.launch_record("local"), lambda: _read(workspace, "local"))
    shutil.rmtree(workspace.launch_folder("local"))


def _of_notes(workspace: Workspace, encoder: Path) -> Iterator[Target]:
    from headstart.experiments.audit.audit_data import AuditedImage, CopyPair, DataAudit, OddImage
    from headstart.experiments.audit.audit_record import read_audit, write_audit
    from headstart.experiments.audit.clean_score import CleanScore
    from headstart.experiments.audit.label_errors import LabelAudit, SuspectLabel
    from headstart.experiments.evaluation.anytime.record import Score, read_scores, score_path, write_scores
    from headstart.features.planning.forecast import Forecast, keep_forecast, read_forecast
    from headstart.pipeline import summaries
    from headstart.pipeline.status import read_status

    image = AuditedImage("features/manifests/a", 3, "a.png", "train", "light")
    suspect = SuspectLabel("a.png", "train", "light", "dark", 0.1, 0.9, "features/manifests/a", 3)
    pair = CopyPair(image, replace(image, row=4, path="b.png"), 0.97, 0.9, "alike")
    labels, odd, score = LabelAudit(24, 0.9, (suspect,)), OddImage(image, 3.5), CleanScore("copies", 20, 18)
    write_audit(workspace, encoder, DataAudit("0" * 64, 24, ("labels", "copies"), labels, (pair,), 0, (odd,), (score,)))
    yield Target("audit.json", encoder / "audit.json", _required(lambda: read_audit(encoder)))
    (encoder / "audit.json").unlink()
    path = score_path(encoder, "flipped-00000000")
    write_scores(workspace, path, [Score(24, 2, 16, 8, 0.75, 0.5, 0.9, 1.0, "here-1-2")])
    yield Target("anytime/*.json", path, _required(lambda: read_scores(encoder).get("flipped-00000000")))
    path.unlink()
    kept = keep_forecast(workspace, "0" * 64, Forecast(1.5, 0.25, 8, 1 << 30, 0))
    yield Target("plans/*.json", kept, _required(lambda: read_forecast(workspace, "0" * 64)))
    kept.unlink()

    def counted() -> str:
        with (
            mock.patch.object(summaries, "LEAST_JOBS", 1),
            mock.patch.object(summaries, "_SETTLED_S", -60.0),
            mock.patch.object(summaries.Look, "_is_dated", return_value=True),  # in memory a job takes no tick of the clock
        ):
            return str(read_status(workspace))

    counted()
    yield Target("summaries/*.json", next(workspace.summaries()), counted)


def _of_labels(workspace: Workspace) -> Iterator[Target]:
    from headstart.features.manifest.corrections import CORRECTIONS, as_corrected, correct_labels
    from headstart.features.sources.find import find_images
    from headstart.features.sources.source import SourceOptions

    [manifest] = workspace.manifests.iterdir()
    photos = workspace.root.parent / "photos" / "table.csv"
    source = find_images(photos, SourceOptions(path_col="path", label_col="label"))
    table = photos.with_name("corrections.csv")
    table.write_text("path,label\nlight00.png,dark\ndark01.png,light\n")
    correct_labels(workspace, table)
    corrections = manifest / CORRECTIONS
    yield Target(CORRECTIONS, corrections, lambda: [image.label for image in as_corrected(manifest, source)[0].images])


def _of_copies(workspace: Workspace) -> Iterator[Target]:
    from headstart.pipeline.sync import STATE_FILE, _state, synchronize_folder

    small = open_or_create_workspace(workspace.root.parent / "small")
    (small.root / "features").mkdir()
    small.queue.write_bytes(workspace.queue.read_bytes())
    drive, again = workspace.root.parent / "drive", workspace.root.parent / "again"
    synchronize_folder(small.root, drive)
    [pack] = drive.iterdir()

    def brought_back() -> Any:
        shutil.rmtree(again, ignore_errors=True)
        synchronize_folder(again, drive)
        return open_workspace(again).id, open_workspace(again).queue.read_bytes()

    yield Target("pack of sync", pack, brought_back)
    yield Target(STATE_FILE, small.root / STATE_FILE, lambda: _state(small))


def _of_patches(root: Path) -> Iterator[Target]:
    from headstart.features.encoders.spec import projection_of, read_encoder
    from headstart.features.manifest.patch_versions import read_version
    from headstart.features.manifest.patches import read_patches
    from headstart.features.store import maps as store
    from headstart.pipeline.verify import verify

    patches = ("--patches", "48", "--overlap", "0", "--masks", "mask", "--image-size", "48")
    table = draw(root / "data", 14)  # 8 to train on, which --compress asks for
    workspace = root / "workspace"
    for command in (
        ("enqueue", table, *patches, *ENCODER, "--compress", "pca:4,int8", "-w"),
        ("work", "--device", "cpu", "-w"),
    ):
        done = call(*command, workspace)
        if done.status:
            raise RuntimeError(f"{command[0]}: {done.errors}")
    cut = open_workspace(workspace)

    def opened() -> Any:
        store._mapped.cache_clear()  # whoever opens them is another process
        maps = store.open_patch_maps(cut)
        assert maps.cut is not None
        if maps.waiting:
            raise Noticed
        known = maps.index.tolist(), maps.columns.path, maps.columns.split, maps.waiting, maps.failed, maps.digest
        of_patches = maps.cut.windows.tolist(), maps.cut.sizes.tolist(), maps.cut.masks, maps.cut.is_whole.tolist()
        return known, of_patches, hashlib.sha256(maps.read(range(len(maps)))).hexdigest()

    def jobs() -> Any:
        findings = verify(cut)
        if findings.torn or findings.problems or findings.pending:
            raise Noticed
        return opened()

    [encoder] = cut.features.glob("encoder_*")
    spec, version = read_encoder(encoder), read_version(cut, 1)
    [payload, *_] = sorted(version.folder.glob("shards/*/*.npz"))
    # A training refuses to begin where a patch waits for its job.
    yield Target("list of patches", cut.root / version.source, opened, read=lambda: read_patches(cut, version))
    yield Target("patches.json", version.folder / "patches.json", opened, read=lambda: read_version(cut, 1))
    yield Target("payload of patches (int8 maps)", payload, opened)
    yield Target("marker of patches", sorted(version.folder.glob("done/*/*.done"))[0], jobs)
    yield Target("encoder.maps.npz", encoder / "encoder.maps.npz", opened, read=lambda: projection_of(encoder, spec))
    yield Target("encoder.json with --compress", encoder / "encoder.json", opened, read=lambda: read_encoder(encoder))
