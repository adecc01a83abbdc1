"""How a training or a making fails that no other try mends, and what a command says of it."""

from __future__ import annotations


class TrainingFailed(Exception):
    """What a training cannot get over; it counts as an attempt, so that no other job waits for it for ever."""


class MakingFailed(Exception):
    """What a user's kind of job makes cannot be kept; likewise."""


def told(failure: str) -> str:
    """What a worker noted of a failed job, without the name of the error, which tells its user nothing."""
    return failure.removeprefix(f"{TrainingFailed.__name__}: ").removeprefix(f"{MakingFailed.__name__}: ")
