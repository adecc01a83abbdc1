import json

import pytest

from headstart.pipeline import paths
from headstart.pipeline.doors.records import seal
from headstart.pipeline.kinds import Fingerprints
from headstart.pipeline.markers import GroupMarkers, NotDone, read_marker
from headstart.pipeline.worker import run_job
from tests.support import enqueue_fakes, flipped


def _facts(**changes):
    return lambda facts: {**facts, **changes}


def _payload(**changes):
    return lambda facts: {**facts, "payload": {**facts["payload"], **changes}}


def _job(**changes):
    return lambda facts: {**facts, "job": {**facts["job"], **changes}}


MARKERS = {
    "as written": _facts(),
    "a true format": _facts(format=True),
    "a format with a point": _facts(format=1.0),
    "an older format": _facts(format=0),
    "no facts": _facts(facts=[]),
    "facts that are no numbers": _facts(facts={"seconds": float("nan")}),
    "more ok than items": _facts(ok=11),
    "less than nothing ok": _facts(ok=-1),
    "true items": _facts(items=True, ok=True),
    "half an item": _facts(items=10.0),
    "endless items": _facts(items=2**53 + 1),
    "a failed item": _facts(failed=[{"item": 3, "name": "x", "code": "bad", "reason": "cut off"}]),
    "failed of nobody": _facts(failed={}),
    "another fingerprint": _facts(fingerprint="other"),
    "another job": _job(job_id="job_000001"),
    "another start": _job(start=1),
    "a start with a point": _job(start=0.0),
    "a false start": _job(start=False),
    "one more key": _job(novel=1),
    "a job of words": _facts(job="job_000000"),
    "another payload's name": _payload(name="job_000001.0123.txt"),
    "a name that leads away": _payload(name="job_000000.a/../../x"),
    "a name of another file": _payload(name="job_000000.x"),
    "a name that is none": _payload(name=["job_000000."]),
    "another size": _payload(bytes=1),
    "a size with a point": lambda facts: _payload(bytes=float(facts["payload"]["bytes"]))(facts),
    "no digest": _payload(sha256=None),
    "arrays in a list": _payload(arrays=[]),
    "in objects": _payload(**{"in": "objects"}),
    "no payload": _facts(payload=None),
    "a list": lambda facts: [facts],
}


def _judged(read):
    try:
        marker = read()
    except NotDone as flaw:
        return str(flaw)
    return marker.items, marker.ok, marker.payload_bytes, str(marker.facts)


@pytest.mark.parametrize("edit", MARKERS.values(), ids=MARKERS.keys())
@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_glance_at_a_marker_says_what_a_reading_of_it_says(workspace, edit, is_sealed):
    [job] = enqueue_fakes(workspace, 10)
    run_job(workspace, job.job_id)
    [payload] = workspace.payloads(job).iterdir()
    payload.with_name("job_000001.0123.txt").write_bytes(payload.read_bytes())
    facts = json.loads(workspace.marker(job).read_bytes())
    del facts["seal"]
    facts = edit(facts)
    data = seal(facts) if is_sealed and isinstance(facts, dict) else json.dumps(facts).encode()
    workspace.marker(job).write_bytes(data)
    fingerprint = Fingerprints(workspace).of(job)
    glancing = GroupMarkers(workspace, job, fingerprint)
    assert _judged(lambda: glancing.counts(job)) == _judged(lambda: read_marker(workspace, job, fingerprint))


@pytest.mark.skipif(not paths._RELATIVE, reason="there no file is opened by its folder, and each marker is read")
def test_a_glance_is_enough_for_markers_as_they_are_written_and_sees_every_flipped_bit(workspace):
    [job] = enqueue_fakes(workspace, 10)
    run_job(workspace, job.job_id)
    glancing = GroupMarkers(workspace, job, Fingerprints(workspace).of(job))
    assert glancing._glance(job).items == 10
    data = workspace.marker(job).read_bytes()
    for bit in range(0, len(data) * 8, 5):
        workspace.marker(job).write_bytes(flipped(data, bit))
        assert glancing._glance(job) is None, bit
