"""Runs thousands of independent trials on every core; each trial's violations come back with it."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TypeVar

Trial = TypeVar("Trial")
MISSED = "the fault met nothing"  # no violation, and no fault either
ENOUGH = 5  # violations: the campaign has failed, and more would only take longer


def in_parallel(check: Callable[[Trial], list[str]], trials: Sequence[Trial]) -> list[tuple[Trial, str]]:
    """What `check` finds in each trial. Processes are forked: trials are inherited, not copied."""
    fork = multiprocessing.get_context("fork")
    count = max(1, min(len(os.sched_getaffinity(0)), len(trials)))
    pipes = []
    for start in range(count):
        receiving, sending = fork.Pipe(duplex=False)
        process = fork.Process(target=_check_each, args=(check, trials, range(start, len(trials), count), sending))
        process.start()
        sending.close()
        pipes.append((process, receiving))
    violations = []
    for process, receiving in pipes:
        violations += [(trials[place], violation) for place, violation in receiving.recv()]
        process.join()
    return violations


def _check_each(check: Callable[[Trial], list[str]], trials: Sequence[Trial], places: range, sending: Connection) -> None:
    violations: list[tuple[int, str]] = []
    for place in places:
        violations += [(place, violation) for violation in check(trials[place])]
        told = [violation for _, violation in violations if violation != MISSED]
        if len(told) >= ENOUGH or any(violation.startswith("wedged") for violation in told):  # each of those takes long
            break
    sending.send(violations)
