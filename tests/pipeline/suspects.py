"""Jobs of the fragile kind, the deaths that make them suspects, and what workers make of them."""

import json
from dataclasses import replace

from headstart.pipeline.claims import LEASE_S, Claimant
from headstart.pipeline.enqueue import Work, append_work, queue_lock
from headstart.pipeline.kinds import Settings
from headstart.pipeline.liveness import current_owner
from headstart.pipeline.markers import read_marker
from headstart.pipeline.quarantine import read_histories
from headstart.pipeline.worker import Limits, Worker

FOLDER = "features/fragile"
FINGERPRINT = f"fingerprint of {FOLDER}"


def enqueue_fragile(workspace, items, *mishaps, job_size=5):
    """Queues jobs; a mishap such as `crash_7` is what item 7 does."""
    with queue_lock(workspace):
        folder = workspace.root / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        for mishap in mishaps:
            (folder / mishap).touch()
        work = Work("fragile", FOLDER, "features/source", items, job_size)
        return append_work(workspace, [work], frozenset({"fragile"}), lambda reader: [])[1]


def die_holding(workspace, job, times=1, **owner):
    """As if `times` workers had taken the job and died; `owner` says what is special about them."""
    folder = workspace.claims(job)
    folder.mkdir(parents=True, exist_ok=True)
    before = history_of(workspace, job).generation
    # This process's pid with another start: a process that is gone.
    dead = replace(current_owner(LEASE_S), started=1.0, **owner)
    for generation in range(before + 1, before + 1 + times):
        (folder / f"{job.job_id}.g{generation}").write_text(json.dumps(dead.as_json()))


def history_of(workspace, job):
    from headstart.pipeline.quarantine import NO_HISTORY

    return read_histories(workspace.claims(job)).get(job.job_id, NO_HISTORY)


def claim(workspace, job):
    """What a worker would hold."""
    with Claimant(workspace) as claimant:
        return claimant.acquire(job, history_of(workspace, job))


def work(workspace, settings=None, **limits):
    return Worker(workspace, settings or Settings(), Limits(**limits), lambda finished: None).run()


def outcome(workspace, job):
    """Lines of the payload, and the reasons by item."""
    marker = read_marker(workspace, job, FINGERPRINT, deep=True)
    return marker.payload.read_text().splitlines(), {item.item: (item.code, item.reason) for item in marker.failed}


def squares(*items):
    return [f"{item} {item * item}" for item in items]
