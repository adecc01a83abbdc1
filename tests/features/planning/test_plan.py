import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import headstart
from headstart.features.planning.probe import Pace, cosines_between, take_probe
from headstart.features.sources.source import Image, Source
from headstart.pipeline.workspace import open_or_create_workspace, open_workspace
from tests.features.samples import picture
from tests.support import ROOT, run_cli


def source(count):
    return Source(
        Path(), "flat", None, tuple(Image(f"{i:03}.png", "", "", "", 1, 1, ()) for i in range(count)), notes=("a note",)
    )


@pytest.mark.parametrize(("count", "probe", "rows"), [(100, 5, 12), (3, 32, 256), (1, 1, 4)])
def test_the_probe_comes_from_the_whole_length_as_often_as_it_takes(count, probe, rows):
    taken = [image.path for image in take_probe(source(count), probe, rows).images]
    assert len(taken) == rows
    assert len(set(taken)) == min(count, probe)
    assert {"000.png", f"{count - 1:03}.png"} <= set(taken) or probe == 1


def test_time_grows_by_the_pace_and_memory_has_a_margin():
    pace = Pace(begin_s=3.0, image_s=0.01, rss_bytes=100, vram_bytes=None, batch=2, failed=0.0)
    predicted = pace.forecast(64)
    assert predicted.seconds(64) == predicted.seconds(10) == 3.0
    assert predicted.seconds(1064) == pytest.approx(13.0)
    assert predicted.peak_rss_bytes > 100


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe") / "photos"
    folder.mkdir()
    for number in range(40):
        picture(300, 260, number).save(folder / f"{number}.jpg")
    return folder


def test_plan_predicts_what_work_then_takes_and_keeps_only_that(photos, tmp_path):
    options = ["--weights", "embedded", "--probe", "8", "--job-size", "16", "--fast-decode", "--json", "-w", "w"]
    planned = run_cli("plan", photos, *options, cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    exact, fast = json.loads(planned.stdout)
    assert {path.name for path in tmp_path.glob("w/*")} == {"workspace.json", "features"}
    assert [path.name for path in tmp_path.glob("w/features/*")] == ["plans"]
    assert (exact["images"], exact["fast_decode"], fast["fast_decode"]) == (40, False, True)
    assert 0.9 < fast["worst_cosine"] <= fast["mean_cosine"] <= 1.0001
    assert run_cli("enqueue", photos, "--weights", "embedded", "--job-size", "16", "-w", "w", cwd=tmp_path).returncode == 0
    # Behind a small process: a peak counts what was resident where the process was forked, and this one may hold torch.
    work = [sys.executable, str(ROOT / "cli.py"), "work", "--device", "cpu", "-w", "w"]
    between = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
    worked = subprocess.run([sys.executable, "-c", between, *work], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "planned for 40 images: " in worked.stderr
    assert f"{exact['peak_rss_bytes'] / 1e9:.2f} GB; it took " in worked.stderr
    workspace = open_workspace(tmp_path / "w")
    markers = [json.loads(path.read_text()) for path in workspace.features.glob("encoder_*/done/*/*.done")]
    actual = max(marker["facts"]["peak_rss_bytes"] for marker in markers)
    files = [path for name in ("shards", "done") for path in workspace.features.glob(f"encoder_*/{name}/*/*")]
    assert sum(path.stat().st_size for path in files) <= exact["disk_bytes"]
    assert actual <= exact["peak_rss_bytes"] <= actual + 60e6
    assert exact["seconds"] > 0


def test_a_trial_run_that_fails_says_why_in_one_line(photos, tmp_path):
    done = run_cli("plan", photos, "--weights", "embedded", "--device", "cuda", "--probe", "2", "--job-size", "2", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the trial run ended with exit status")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_prediction_that_cannot_be_kept_takes_nothing_from_the_answer(photos, tmp_path):
    (tmp_path / "file").touch()
    options = ["--weights", "embedded", "--probe", "2", "--job-size", "2", "-w", "file"]
    done = run_cli("plan", photos, *options, cwd=tmp_path)
    assert done.returncode == 0
    assert "resnet10t" in done.stdout
    assert done.stderr.startswith("warning: the prediction was not kept: ")


@pytest.fixture
def quick_trial(monkeypatch):
    """No worker runs: the trial went as this pace says."""
    from headstart.features.planning import plan

    pace = Pace(begin_s=3.0, image_s=0.5, rss_bytes=10**8, vram_bytes=None, batch=2, failed=0.0)
    monkeypatch.setattr(plan, "_run_worker", lambda workspace, options: None)
    monkeypatch.setattr(plan, "read_pace", lambda workspace, folder, fingerprint, began: pace)


def test_a_plan_makes_no_workspace_that_nobody_named(photos, tmp_path, monkeypatch, quick_trial):
    from tests.commands.calling import call

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    done = call("plan", photos, "--weights", "embedded", "--job-size", "2")
    assert (done.status, list((tmp_path / "here").iterdir())) == (0, [])
    assert done.errors.startswith("not kept: ")
    open_or_create_workspace(tmp_path / "here" / "workspace")
    kept = headstart.plan(photos, weights="embedded", job_size=2)
    assert kept.kept_in == tmp_path / "here" / "workspace"
    assert len(list(kept.kept_in.glob("features/plans/*.json"))) == len(kept.forecasts) == 1


@pytest.mark.parametrize("named", ["option", "environment"])
def test_a_plan_makes_the_workspace_that_was_named(named, photos, tmp_path, monkeypatch, quick_trial):
    if named == "environment":
        monkeypatch.setenv("HEADSTART_WORKSPACE", str(tmp_path / "w"))
    planned = headstart.plan(photos, (None,), tmp_path / "w" if named == "option" else None, weights="embedded", job_size=2)
    assert planned.kept_in == tmp_path / "w"
    assert (tmp_path / "w/workspace.json").exists()


def test_the_call_says_what_the_command_prints(photos, tmp_path, quick_trial):
    from tests.commands.calling import call

    planned = headstart.plan(photos, workspace=tmp_path / "w", weights="embedded", job_size=2)
    rows = call("plan", photos, "--weights", "embedded", "--job-size", "2", "-w", tmp_path / "w", "--json").json
    assert rows == [estimate.record() for estimate in planned.estimates]
    assert (rows[0]["images"], rows[0]["seconds"], rows[0]["images_per_second"]) == (40, 3.0 + 0.5 * 38, 2.0)
    assert "mean_cosine" not in rows[0]


def test_images_are_compared_row_by_row(photos, tmp_path):
    assert run_cli("enqueue", photos, "--weights", "embedded", "-w", "w", cwd=tmp_path).returncode == 0
    assert run_cli("work", "-w", "w", cwd=tmp_path).returncode == 0
    folder = next((tmp_path / "w/features").glob("encoder_*"))
    np.testing.assert_allclose(cosines_between(folder, folder), (1, 1), atol=1e-6)


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_images_that_cannot_be_decoded_are_planned_for_in_one_line(tmp_path, as_json):
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / f"photos/{number}.jpg").write_bytes(b"no picture")
    options = ["--weights", "embedded", "--fast-decode", "--job-size", "2", "-w", "w", *(["--json"] if as_json else [])]
    done = run_cli("plan", "photos", *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    if as_json:
        assert [(row["failed"], "worst_cosine" in row) for row in json.loads(done.stdout)] == [(1.0, False)] * 2
    else:
        assert done.stdout.count("none of the images tried gave features") == 1
        assert "cosine" not in done.stdout
    assert not (tmp_path / "w").exists()  # nothing was learned that work could cosines_between itself with


def test_a_trial_that_was_too_short_for_the_clock_has_no_speed(photos, tmp_path, monkeypatch):
    from headstart.features.planning import plan
    from tests.commands.calling import call

    pace = Pace(begin_s=3.0, image_s=0.0, rss_bytes=10**8, vram_bytes=None, batch=2, failed=0.0)
    monkeypatch.setattr(plan, "_run_worker", lambda workspace, options: None)
    monkeypatch.setattr(plan, "read_pace", lambda workspace, folder, fingerprint, began: pace)
    options = ["--weights", "embedded", "--job-size", "2", "-w", tmp_path / "w"]
    [row] = call("plan", photos, *options, "--json").json
    assert (row["images_per_second"], row["seconds"]) == (None, 3.0)
    assert "images/s" not in call("plan", photos, *options).output


def test_a_plan_of_patches_counts_them_all_and_predicts_what_they_take(tmp_path):
    from tests.commands.calling import call
    from tests.features.cut import PATCHES, cut, draw
    from tests.jobs.extraction import work

    table = draw(tmp_path / "data", 12)
    words = ("--encoder", "test_efficientnet", "--weights", "random:0", "--maps", "4,8", *PATCHES[:4], "--device", "cpu")
    done = run_cli("plan", table, *words, "--probe", "3", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [planned] = json.loads(done.stdout)
    workspace = cut(table, tmp_path / "w")
    patches = (workspace.root / "features/patches/patch_manifest.v001.csv").read_text().count("\n") - 1
    assert (planned["images"], planned["patches"], planned["disk_fault"]) == (12, patches, "")
    work(workspace)
    files = [*workspace.features.glob("patches_v001/shards/*/*"), *workspace.features.glob("patches_v001/done/*/*")]
    taken = sum(-(-path.stat().st_size // 4096) * 4096 for path in files)
    assert taken <= planned["disk_bytes"] <= 1.25 * taken
    assert planned["seconds"] > 0
    assert call("plan", table, "--overlap", "8").errors.endswith("--overlap goes with --patches PIXELS\n")


def test_a_plan_says_that_enqueue_will_refuse_what_the_disk_cannot_hold(tmp_path, monkeypatch, quick_trial):
    import shutil

    from tests.commands.calling import call
    from tests.features.cut import ENCODER, PATCHES, draw

    table = draw(tmp_path / "data", 12)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**12, 0, 10**12))
    assert "enqueue will refuse" not in call("plan", table, *ENCODER, *PATCHES[:4], "-w", tmp_path / "w").output
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(1000, 0, 1000))
    said = call("plan", table, *ENCODER, *PATCHES[:4], "-w", tmp_path / "w").output
    refused = call("enqueue", table, *ENCODER, *PATCHES[:4], "-w", tmp_path / "w").reason
    assert f"test_efficientnet: enqueue will refuse: {refused}" in said
    assert "for 12 images in " in said
    # Features of whole images by that encoder are none of the patches'.
    [encoder] = (tmp_path / "w/features").glob("encoder_*")
    (encoder / "shards/0000").mkdir(parents=True)
    with (encoder / "shards/0000/job.npz").open("wb") as file:
        file.truncate(10**9)
    assert refused in call("plan", table, *ENCODER, *PATCHES[:4], "-w", tmp_path / "w").output


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--patches", "48", "--overlap", "48"), "leaves no step"),
        (("--patches", "48", "--fast-decode"), "--fast-decode changes an image before a patch is cut out of it"),
        (("--patches", "48", "--image-size", "64"), "--image-size is that of a patch, 48"),
    ],
    ids=["no step", "drafted", "another size"],
)
def test_a_plan_of_patches_refuses_what_enqueue_refuses(photos, tmp_path, more, words):
    from tests.commands.calling import call

    look, real = (call(name, photos, "--weights", "embedded", *more, "-w", tmp_path / "w") for name in ("plan", "enqueue"))
    assert words in look.reason
    assert (look.status, look.reason) == (1, real.reason)
