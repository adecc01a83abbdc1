"""Fault campaign 5: random sequences of work, crashes, damage and reboots, compared step by step with a model in memory.

    python -m tests.faults.state_machine [--count 200] [--seed 0]

Workers are made of the engine's own parts in this process; that they are alive, and on which boot, the model decides.
"""

import hashlib
import os
import sys
import time
from collections import Counter

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test

from headstart.pipeline import liveness, status
from headstart.pipeline.kinds import Fingerprints
from headstart.pipeline.next_job import Frontier
from headstart.pipeline.retry import retry
from headstart.pipeline.summaries import finished_spans

from .fakes import scratch
from .invariants import age
from .kinds import tiny
from .model import Hand, Model, Violation
from .report import Report, main, report_of


class Queue(Model):
    """What may happen, in any order."""

    @initialize(items=st.integers(5, 30))
    def begin(self, items: int) -> None:
        self.items = items
        self.fill()

    # What people and workers do.

    @rule(more=st.integers(1, 12))
    def enqueue(self, more: int) -> None:
        self.items += more
        self.fill()

    @rule()
    def enqueue_again(self) -> None:
        self.fill()

    @rule()
    def claim(self) -> None:
        claimant = self.hire()
        claim = Frontier(self.workspace, claimant, None, None).next_claim()
        free = self.pending() - self.held()
        if claim is None:
            self.leave(claimant)
            self.require(not free, f"wedged: nobody may have {sorted(free)}")
            return
        self.hands.append(Hand(claimant, claim))
        self.require(claim.job in free, f"duplicated: {claim.job.job_id} was handed out although it is held, done or quarantined")

    @precondition(lambda self: not self.hands)
    @rule(data=st.data())
    def work_off(self, data: st.DataObject) -> None:
        """One worker does all, and more. Of what summaries let it pass over one marker is torn, and one goes meanwhile."""
        self.items += 5
        self.fill()
        over = finished_spans(self.workspace, Fingerprints(self.workspace))
        passed_over = [job for job in sorted(self.sound()) if any(span.covers(job.number) for span in over)]
        passed_over = data.draw(st.permutations(passed_over))[:2]
        claimant = self.hire()
        frontier = Frontier(self.workspace, claimant, None, None)
        if passed_over:
            self.seen["damages"] += 1
            torn = passed_over.pop()
            self.workspace.marker(torn).write_bytes(b"{")
            self.done.discard(torn)
        for claim in iter(frontier.next_claim, None):
            self.require(claim.job in self.pending(), f"duplicated: {claim.job.job_id} was handed out although it is done")
            if passed_over and claim.job.number > over[-1].last:  # so the last look, which finds it, is yet to come
                gone = passed_over.pop()
                self.workspace.marker(gone).unlink()
                self.done.discard(gone)
            self.commit(claim.job)
            claimant.release(claim)
        self.leave(claimant)
        self.require(not self.pending(), f"wedged: nobody was given {sorted(self.pending())}")

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        hand = self.take(data)
        self.commit(hand.claim.job)
        hand.claimant.release(hand.claim)
        self.leave(hand.claimant)

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        hand = self.take(data)
        hand.claimant.fail(hand.claim, "it would not work")
        age(hand.claim.path.parent, seconds=60, pattern=f"{hand.claim.path.name}.failed")  # the pause after a failure is over
        self.leave(hand.claimant)
        self.failures[hand.claim.job] += 1

    @rule()
    def retry(self) -> None:
        retry(self.workspace, None)
        self.failures.clear()

    @precondition(lambda self: not self.hands)
    @rule()
    def repair(self) -> None:
        torn = {job for job in self.rows() - self.done if self.workspace.marker(job).exists()} | self.flipped
        self.mend()
        self.done |= torn & self.rows()
        self.flipped -= self.rows()
        for job in torn:
            self.failures.pop(job, None)

    # What happens to them.

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), stage=st.sampled_from(["claimed", "payload", "committed", "temporary"]))
    def crash(self, data: st.DataObject, stage: str) -> None:
        hand = self.take(data)
        self.seen["crashes"] += 1
        job = hand.claim.job
        payload = tiny.squares(job.start, job.stop)
        if stage == "committed":
            self.commit(job)
        elif stage == "temporary":
            token = f"{liveness.process_token(os.getpid()).split('-')[0]}-{hand.claimant.owner.pid}-1-0"
            self.workspace.make_folder(self.workspace.payloads(job))
            (self.workspace.payloads(job) / f".tmp-{token}").write_bytes(payload[:3])
        elif stage == "payload":
            self.workspace.make_folder(self.workspace.payloads(job))
            sha256 = hashlib.sha256(payload).hexdigest()
            path, marker = self.workspace.payload(job, sha256, ".txt"), self.workspace.marker(job)
            self.workspace.files.publish(path, payload)
            # A marker whose payload was gone counts again; one that was cut holds two bytes at most.
            if marker.exists() and marker.stat().st_size > 2 and path.read_bytes() == payload:
                self.done.add(job)
        self.die(hand)

    @precondition(lambda self: self.hands)
    @rule()
    def reboot(self) -> None:
        self.seen["reboots"] += 1
        for hand in self.hands:
            self.die(hand)
        self.hands.clear()
        self.boots += 1
        age(self.workspace.root)  # of another boot only the heartbeat tells, so claims last until the lease is over

    @precondition(lambda self: self.sound())
    @rule(data=st.data(), how=st.sampled_from(["cut marker", "no marker", "cut payload", "no payload", "flip payload"]))
    def corrupt(self, data: st.DataObject, how: str) -> None:
        job = data.draw(st.sampled_from(sorted(self.sound())))
        self.seen["damages"] += 1
        marker = self.workspace.marker(job)
        [payload] = self.workspace.payloads(job).glob(f"{job.job_id}.*")
        path = marker if "marker" in how else payload
        if how.startswith("no"):
            path.unlink()
        elif how.startswith("cut"):
            path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, 2))])
        else:
            path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
            self.flipped.add(job)
            return
        self.done.discard(job)

    @precondition(lambda self: self.workspace.queue.exists())
    @rule(lost=st.integers(1, 90))
    def cut_queue(self, lost: int) -> None:
        self.seen["damages"] += 1
        data = self.workspace.queue.read_bytes()
        self.workspace.queue.write_bytes(data[: max(60, len(data) - lost)])  # the header stays
        rows = self.rows()
        for hand in [hand for hand in self.hands if hand.claim.job not in rows]:
            self.hands.remove(hand)
            self.die(hand)
        self.failures = Counter({job: count for job, count in self.failures.items() if job in rows})

    @invariant()
    def status_tells_what_the_model_knows(self) -> None:
        self.seen["steps"] += 1
        tally = status.Tally()
        for part in status.read_status(self.workspace).folders.values():
            tally.add(part)
        rows, held = self.rows(), self.held()
        counts = (tally.done, tally.quarantined, tally.running, tally.pending)
        quarantined = self.quarantined() & rows - self.done
        pending = rows - self.done - quarantined - held
        wanted = (len(rows & self.done), len(quarantined), len(held & rows - self.done - quarantined), len(pending))
        self.require(counts == wanted, f"wrong: status says done, quarantined, running, pending {counts}, the model {wanted}")


def run(count: int, seed_: int) -> Report:
    """`count` random sequences of up to 40 steps; a violation ends the campaign and tells the steps to it."""
    begun = time.monotonic()
    violations: list[str] = []
    seen: Counter[str] = Counter()
    with scratch() as base:
        machine = seed(seed_)(type("Queue", (Queue,), {"base": base, "seen": seen}))
        chosen = settings(
            max_examples=count,
            stateful_step_count=40,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # shrinking takes longer than the campaign; the steps are told as they were
            suppress_health_check=list(HealthCheck),
        )
        try:
            run_state_machine_as_test(machine, settings=chosen)
        except Exception as error:
            said = str(error) if isinstance(error, Violation) else f"wedged: {type(error).__name__}: {error}"
            violations.append("; ".join([said, *getattr(error, "__notes__", [])]).replace("\n", " "))
    faults = seen["crashes"] + seen["damages"] + seen["reboots"]
    notes = ", ".join(f"{seen[what]:,} {what}" for what in ("runs", "steps", "crashes", "damages", "reboots"))
    return report_of("state machine", faults, violations, time.monotonic() - begun, notes)


if __name__ == "__main__":
    sys.exit(main(run, 200))
