"""Each rule of the judge is shown to speak up: a campaign is worth no more than what it can notice."""

import json

import pytest

from headstart.pipeline.kinds import Settings
from headstart.pipeline.worker import Limits, Worker

from .fakes import enqueue, expected_squares, new_workspace
from .invariants import Ledger, check_drained, payloads_of, torn_files, unsound_markers
from .report import report_of

ITEMS = 12


@pytest.fixture
def drained(tmp_path):
    workspace = new_workspace(tmp_path / "workspace")
    enqueue(workspace, ITEMS)
    Worker(workspace, Settings(), Limits(), lambda finished: None).run()
    return workspace


def only(workspace, pattern):
    return sorted(workspace.root.glob(pattern))[0]


def rewrite(path, change):
    facts = json.loads(path.read_bytes())
    change(facts)
    path.write_text(json.dumps(facts))


def add(workspace, path, text="x"):
    (workspace.root / path).parent.mkdir(parents=True, exist_ok=True)
    (workspace.root / path).write_text(text)


DONE, SHARD = "features/tiny/done/0000/job_000000.done", "features/tiny/shards/*/job_000000.*"
DAMAGE = {
    "a marker is gone": (lambda w: (w.root / DONE).unlink(), "lost"),
    "a marker is torn": (lambda w: (w.root / DONE).write_text("{"), "wrong"),
    "a marker is of another job": (lambda w: rewrite(w.root / DONE, lambda f: f["job"].update(start=1)), "wrong"),
    "an innocent item failed": (lambda w: rewrite(w.root / DONE, lambda f: f.update(ok=4)), "lost"),
    "a payload is gone": (lambda w: only(w, SHARD).unlink(), "lost"),
    "a payload has other bytes": (lambda w: only(w, SHARD).write_text("x"), "wrong"),
    "a row is gone": (lambda w: w.queue.write_text("".join(w.queue.read_text().splitlines(True)[:-1])), "lost"),
    "a row stands twice": (
        lambda w: w.queue.write_text(w.queue.read_text() + w.queue.read_text().splitlines(True)[-1]),
        "duplicated",
    ),
    "a row is of more items": (lambda w: w.queue.write_text(w.queue.read_text().replace(",10,12", ",10,13")), "wrong"),
    "a job is quarantined": (
        lambda w: [add(w, f"features/tiny/claims/0000/job_000001.g{n}.failed") for n in (1, 2, 3)],
        "lost",
    ),
    "a claim is left": (lambda w: add(w, "features/tiny/claims/0000/job_000001.g1"), "orphan"),
    "a temporary is left": (lambda w: add(w, "features/tiny/done/0000/.tmp-1-2-3-4"), "orphan"),
    "a worker file is left": (lambda w: add(w, "workers/a.json"), "orphan"),
    "a payload is left": (lambda w: add(w, "features/tiny/shards/0000/job_000000.0000.txt"), "orphan"),
}


def test_an_uninterrupted_run_violates_nothing(drained):
    assert check_drained(drained, expected_squares(ITEMS)) == []
    assert payloads_of(drained) == expected_squares(ITEMS)
    assert torn_files(drained) == unsound_markers(drained) == Ledger(drained).look() == []


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_noticed_by_its_sort(drained, name):
    damage, sort = DAMAGE[name]
    damage(drained)
    assert sort in {violation.split(":")[0] for violation in check_drained(drained, expected_squares(ITEMS))}


def test_a_ledger_notices_what_changes_after_it_was_committed(drained):
    ledger = Ledger(drained)
    assert ledger.look() == []
    rewrite(drained.root / DONE, lambda facts: facts["payload"].update(sha256="0" * 64))
    assert any("names other bytes" in violation for violation in ledger.look())
    (drained.root / DONE).unlink()
    assert any("is gone" in violation for violation in ledger.look())
    ledger.forget()
    assert ledger.look() == []


def test_a_torn_payload_and_a_marker_that_lies_are_noticed_before_any_repair(drained):
    only(drained, SHARD).write_text("half")
    assert len(torn_files(drained)) == len(unsound_markers(drained)) == 1


def test_a_report_counts_by_sort_and_refuses_what_it_does_not_know():
    report = report_of("kills", 7, ["lost: a", "orphan: b", "orphan: c"], 1.0, "note")
    assert (report.lost, report.orphans, report.violations) == (1, 2, 3)
    assert report.row().startswith("| kills | 7 | 1 | 0 | 0 | 2 | 0 | 1 | note; lost: a")
    with pytest.raises(ValueError, match="unknown sort"):
        report_of("kills", 7, ["odd: a"], 1.0, "")
