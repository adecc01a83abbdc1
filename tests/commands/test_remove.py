"""Taking back what was made: whole or not at all, whoever is at it, whenever it is killed."""

import csv
import io
import json
import shutil
import sqlite3
from functools import partial

import pytest

from headstart.experiments.runs import removal
from headstart.experiments.runs.removal import finish_removals, perform, plan_data, plan_encoder, plan_experiment, plan_run
from headstart.features.store.load import load_features
from headstart.pipeline.claims import Claimant
from headstart.pipeline.errors import TryLaterError
from headstart.pipeline.kinds import Settings, known_kinds
from headstart.pipeline.quarantine import NO_HISTORY
from headstart.pipeline.queue import Reader
from headstart.pipeline.retire import read_withdrawn
from headstart.pipeline.worker import Limits, Worker
from tests.jobs.extraction import enqueue, work

from .calling import call

ABLATION = "exp_0001_ablation"


class Killed(BaseException):
    """Ends a removal as a signal would: nothing after it runs."""


def experiment(workspace):
    return plan_experiment(workspace, "ablation")


def encoder(workspace):
    return plan_encoder(workspace, "encoder_")


def data(workspace):
    return plan_data(workspace, "pictures")


def run(workspace):
    return plan_run(workspace, ABLATION, "mlp-512", 2)


def contents(workspace):
    """All files but those that every look at a workspace may write."""
    skipped = ("experiments.db", ".lock")
    return {
        path.relative_to(workspace.root).as_posix(): path.read_bytes()
        for path in workspace.root.rglob("*")
        if path.is_file() and not any(word in path.name for word in skipped)
    }


def is_left(workspace, what):
    """Whether anything of it is still there."""
    reader = Reader(workspace, known_kinds())
    jobs = list(reader)
    heads = {line["head"] for line in call("runs", "--json", "-w", workspace.root).json["runs"]} if what is run else ()
    return {
        experiment: lambda: (workspace.experiments / ABLATION).exists() or any(job.kind == "train_head" for job in jobs),
        encoder: lambda: any(workspace.features.glob("encoder_*")) or any(job.kind == "extract" for job in jobs),
        data: lambda: any(workspace.manifests.iterdir()) or any(workspace.features.glob("encoder_*/*/*/job_*")),
        run: lambda: "mlp-512" in heads or (workspace.experiments / ABLATION / "checkpoints" / "mlp-512.pt").exists(),
    }[what]()


REMOVALS = [experiment, encoder, data, run]
POINTS = ["written down", "withdrawn", "moved", "unlinked", "deleted"]


@pytest.mark.parametrize("what", REMOVALS, ids=lambda what: what.__name__)
def test_what_is_removed_is_gone_and_nothing_else_is(own, what):
    before = contents(own)
    plan = what(own)
    perform(own, plan.removal)
    assert not is_left(own, what)
    after = contents(own)
    kept = {name: data for name, data in before.items() if name in after}
    assert kept == {name: after[name] for name in kept}
    gone = before.keys() - after.keys()
    assert all(name.startswith(plan.removal.trees) or name in plan.removal.files for name in gone)
    assert not own.removed.exists()


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("what", REMOVALS, ids=lambda what: what.__name__)
def test_a_removal_that_is_killed_is_ended_by_the_next_clean(own, what, point):
    plan = what(own)

    def kill(reached):
        if reached == point:
            raise Killed

    if what is run and point == "moved":
        point = "noted"
    with pytest.raises(Killed):
        perform(own, plan.removal, reached=kill)
    assert call("status", "-w", own.root).status == 0
    assert call("clean", "--yes", "--keep-caches", "-w", own.root).status == 0
    assert not is_left(own, what)
    assert not own.removed.exists()


def test_a_removal_killed_again_and_again_still_ends(own):
    plan = experiment(own)
    for point in POINTS:

        def kill(reached, point=point):
            if reached == point:
                raise Killed

        again = partial(perform, own, plan.removal) if point == POINTS[0] else partial(finish_removals, own)
        with pytest.raises(Killed):
            again(reached=kill)
    assert finish_removals(own) == [f"experiment {ABLATION}"]
    assert not is_left(own, experiment)


def test_what_was_made_anew_under_the_same_name_stays(own):
    def kill(reached):
        if reached == "deleted":
            raise Killed

    with pytest.raises(Killed):
        perform(own, experiment(own).removal, reached=kill)
    assert call("train-head", "--ablation", "--epochs", "1", "-w", own.root).status == 0
    assert (own.experiments / ABLATION).is_dir()
    finish_removals(own)
    assert (own.experiments / ABLATION / "metrics.json").exists()
    assert not own.removed.exists()


def test_the_same_images_can_be_enqueued_again(own, pictures):
    perform(own, data(own).removal)
    assert call("work", "-w", own.root).status == 0
    enqueue(pictures, own.root)
    work(own)
    assert len(load_features(next(own.features.glob("encoder_*"))).paths) == 90


def test_a_job_in_a_workers_hands_is_withdrawn_and_its_files_stay_until_it_lets_go(own):
    shutil.rmtree(own.experiments)
    [job, *_] = [job for job in Reader(own, known_kinds()) if job.kind == "extract"]
    own.marker(job).unlink()
    with Claimant(own) as claimant:
        claim = claimant.acquire(job, NO_HISTORY)
        with pytest.raises(TryLaterError, match="worker still holds"):
            perform(own, data(own).removal, wait_s=0.3)
        assert read_withdrawn(own).is_removed(job.job_id)
        assert own.payloads(job).exists()
        claimant.release(claim)
    finish_removals(own)
    assert not is_left(own, data)


def test_a_removed_run_is_no_more_listed_chosen_or_made_again(own):
    before = call("runs", "--json", "-w", own.root).json["runs"]
    assert call("remove", "run", "2", "--yes", "-w", own.root).status == 0
    after = call("runs", "--json", "-w", own.root).json["runs"]
    assert after == [line for line in before if line["run"] != 2]
    done = call("train-head", "--ablation", "--epochs", "3", "-w", own.root)
    assert "is finished" in done.errors
    assert not (own.experiments / ABLATION / "checkpoints" / "mlp-512.pt").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("experiment", "nothing"), "no experiment 'nothing' in this workspace; there are exp_0001_ablation"),
        (("encoder", "nothing"), "no encoder 'nothing'"),
        (("data", "nothing"), "no data 'nothing'"),
        (("run", "9"), "there is no finished run '9'"),
        (("experiment", "../.."), "no experiment '../..'"),
        (("data", "."), "no data '.'"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_what_is_not_there_is_not_removed(own, words, says):
    before = contents(own)
    done = call("remove", *words, "--yes", "-w", own.root)
    assert done.status == 1
    assert says in done.reason
    assert contents(own) == before


def test_a_dry_run_says_how_much_it_would_be_and_removes_nothing(own):
    before = contents(own)
    done = call("remove", "experiment", "1", "--dry-run", "--json", "-w", own.root)
    size = sum(path.stat().st_size for path in (own.experiments / ABLATION).rglob("*") if path.is_file())
    assert done.json == {"what": f"experiment {ABLATION}", "jobs": 1, "bytes": size, "removed": False}
    assert contents(own) == before


def test_nobody_who_cannot_be_asked_loses_anything(own, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    before = contents(own)
    for command in (("remove", "experiment", "1"), ("clean",)):
        done = call(*command, "-w", own.root)
        assert done.status == 1
        assert "Say so: --yes" in done.errors
    assert contents(own) == before


def test_cleaning_frees_checkpoints_and_caches_and_costs_no_number(own):
    numbers = call("evaluate", "1", "--json", "-w", own.root).json
    assert list(own.experiments.glob("*/checkpoints/step_*"))
    shown = call("status", "--disk", "--json", "-w", own.root).json["disk"]
    done = call("clean", "--yes", "--json", "-w", own.root)
    assert done.json["bytes"] == sum(part["derived_bytes"] for part in shown)
    assert not list(own.experiments.glob("*/checkpoints/step_*"))
    assert not list(own.features.glob("encoder_*/cache/*.h5"))
    assert call("evaluate", "1", "--json", "-w", own.root).json == numbers
    assert "is finished" in call("train-head", "--ablation", "--epochs", "3", "-w", own.root).errors


def test_the_sum_of_what_takes_space_is_the_size_of_the_workspace(own):
    parts = call("status", "--disk", "--json", "-w", own.root).json["disk"]
    whole = sum(path.stat().st_size for path in own.root.rglob("*") if path.is_file())
    assert abs(sum(part["total_bytes"] for part in parts) - whole) < 200  # the cache of status is written meanwhile


def test_a_paused_training_waits_and_goes_on_when_it_is_asked_for(own):
    shutil.rmtree(own.experiments)
    begin = ("train-head", "--epochs", "2", "--name", "slow", "-w", own.root)
    assert call(*begin).status == 0
    job = next(job for job in Reader(own, known_kinds()) if job.kind == "train_head")
    (own.folder(job) / "metrics.json").unlink(missing_ok=True)
    own.marker(job).unlink(missing_ok=True)
    assert call("pause", "slow", "-w", own.root).status == 0
    assert "is paused" in call("status", "-w", own.root).output
    assert call("work", "-w", own.root).status == 0
    assert not (own.folder(job) / "metrics.json").exists()
    assert call("pause", "slow", "--undo", "-w", own.root).status == 0
    assert call("work", "-w", own.root).status == 0
    assert (own.folder(job) / "metrics.json").exists()


def test_an_experiment_deleted_by_hand_holds_up_nobody(own):
    shutil.rmtree(own.experiments / ABLATION)
    done = call("work", "--exit-status", "-w", own.root)
    assert done.status == 0
    assert "all jobs are done" in done.errors
    assert call("verify", "--repair", "-w", own.root).status == 0


def numbers(workspace):
    return call("runs", "--json", "-w", workspace.root).json["runs"]


def edited(workspace):
    with sqlite3.connect(workspace.database) as connection:
        connection.execute("UPDATE about SET stamp = 'other'")
        connection.execute("UPDATE metrics SET value = 0.5")
    connection.close()


def emptied(workspace):
    with sqlite3.connect(workspace.database) as connection:
        connection.execute("DELETE FROM metrics")
        connection.execute("DELETE FROM about")
    connection.close()


LOSSES = {
    "deleted": lambda workspace: [path.unlink() for path in workspace.experiments.glob("experiments.db*")],
    "edited": edited,
    "emptied": emptied,
}


@pytest.mark.parametrize("harm", LOSSES.values(), ids=LOSSES)
def test_a_database_that_differs_is_made_again_from_the_folders(own, harm):
    before = numbers(own)
    harm(own)
    assert numbers(own) == before
    assert call("runs", "--rebuild", "--json", "-w", own.root).json["runs"] == before


def test_a_damaged_database_comes_back_with_the_command_that_the_error_names(own):
    before = numbers(own)
    own.database.write_bytes(b"what is this?" * 999)
    assert "headstart runs --rebuild" in call("runs", "-w", own.root).reason
    assert call("runs", "--rebuild", "--json", "-w", own.root).json["runs"] == before


def test_a_retrained_experiment_has_its_new_numbers_alone(own):
    shutil.rmtree(own.experiments / ABLATION)
    assert call("train-head", "--epochs", "1", "--name", "ablation", "-w", own.root).status == 0
    noted = json.loads((own.experiments / ABLATION / "metrics.json").read_text())
    lines = numbers(own)
    assert {line["head"] for line in lines} >= {"linear"}
    assert not {"mlp-512", "mlp-512-augmented"} & {line["head"] for line in lines}
    assert next(line for line in lines if line["head"] == "linear")["test"] == noted["heads"][0]["test"]["accuracy"]


def test_the_database_answers_questions_alone(own):
    rows = list(csv.DictReader(io.StringIO(call("runs", "--csv", "-w", own.root).output)))
    notes = json.loads((own.experiments / ABLATION / "metrics.json").read_text())
    assert {row["head"] for row in rows if row["is_chosen"] == "1"} == {notes["selected"]}
    for row in rows:
        assert row["date"].startswith("20")
        assert row["encoder"].startswith("encoder_")
        assert int(row["train"]) + int(row["val"]) + int(row["test"]) == int(row["images"]) == 90
        assert "torch" in row["versions"]
    [linear] = [row for row in rows if row["head"] == "linear"]
    assert float(linear["test_accuracy"]) == notes["heads"][0]["test"]["accuracy"]


def test_removals_in_a_folder_of_a_stranger_reach_nothing_outside(own, tmp_path):
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    (treasure / "gold").write_text("gold")
    own.removed.mkdir()
    facts = {"format": 1, "what": "x", "through": 9, "folder": None, "source": None, "head": None}
    for number, path in enumerate(["../treasure", "/" + str(treasure), "experiments/../../treasure"]):
        (own.removed / f"{number}.json").write_text(json.dumps({**facts, "trees": [path], "files": [f"{path}/gold"]}))
    (own.removed / "link").symlink_to(treasure)
    removal.finish_removals(own)
    assert (treasure / "gold").read_text() == "gold"


@pytest.mark.parametrize(
    "odd",
    [
        {"trees": ["features"]},
        {"trees": ["workers"]},
        {"trees": [".removed"]},
        {"files": ["workspace.json"]},
        {"files": ["features/jobs_queue.csv"]},
        {"head": ["../../treasure", "linear"]},
        {"head": ["/treasure", "linear"]},
        {"head": ["exp_0001_a"]},
        {"through": "9"},
        {"trees": "features/encoder_a"},
    ],
    ids=str,
)
def test_an_intent_that_no_removal_writes_is_passed_over(own, odd):
    before = contents(own)
    own.removed.mkdir()
    facts = {"format": 1, "what": "x", "through": 9, "folder": None, "source": None, "head": None, "trees": [], "files": []}
    (own.removed / "x.json").write_text(json.dumps({**facts, **odd}))
    assert removal.unfinished_removals(own) == []
    removal.finish_removals(own)
    assert {path: data for path, data in contents(own).items() if not path.startswith(".removed")} == before


def test_jobs_in_hand_that_were_removed_together_are_one_line(own):
    jobs = [job for job in Reader(own, known_kinds()) if job.kind == "extract"]
    worker = Worker(own, Settings(), Limits(), lambda finished: None)
    for job in jobs[:2]:
        worker._note_withdrawn("data pictures was removed", job)
    worker._note_withdrawn("experiment x was paused", jobs[0])
    assert worker.summary.withdrawn == [
        f"data pictures was removed; {jobs[0].job_id}, {jobs[1].job_id} are given back",
        f"experiment x was paused; {jobs[0].job_id} is given back",
    ]
