"""What a worker is told about its end, and what it tells: of each job, and when it has ended."""

from dataclasses import dataclass, field

from .job import Job


@dataclass(frozen=True)
class Limits:
    """When a worker ends although work remains.

    Attributes:
        max_jobs: jobs to commit, None for no limit.
        seconds: no job is begun that would probably end later than this after the start.
        kinds: only jobs of these kinds, None for all.
        only: only these jobs, None for all.
        loop_s: instead of ending when nothing is left, look again after this time.
        job_timeout_s: a job without a sign of life for this time ends its worker; None means: by what other jobs took.
    """

    max_jobs: int | None = None
    seconds: float | None = None
    kinds: frozenset[str] | None = None
    only: frozenset[str] | None = None
    loop_s: float | None = None
    job_timeout_s: float | None = None


@dataclass(frozen=True)
class Finished:
    """What a reporter hears of one job."""

    job: Job
    items: int
    failed_items: int
    seconds: float
    is_mine: bool = True
    error: str | None = None


@dataclass
class Summary:
    jobs: int = 0
    items: int = 0
    failed_items: int = 0
    failed_jobs: int = 0
    seconds: float = 0.0
    is_drained: bool = False
    exit_code: int = 0
    problems: list[str] = field(default_factory=list)
