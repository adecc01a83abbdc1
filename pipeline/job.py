"""What one row of the queue says: a job is a kind, a folder that owns its results, and a range of a source."""

import re
from typing import NamedTuple

JOBS_PER_GROUP = 1000

_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-")
# Far beyond what this project writes: a folder that lies a thousand deep takes minutes to make.
_LONGEST, _DEEPEST = 1000, 16
_JOB_ID = re.compile(r"job_(\d{6,12})")


class Job(NamedTuple):
    """One unit of work, small enough to lose.

    Attributes:
        job_id: `job_000042`, unique in the workspace.
        kind: name of a module in `jobs/`.
        folder: owner of markers, claims and payloads, relative to the workspace, with forward slashes.
        source: what is worked on, relative to the workspace (a manifest part, an encoder folder).
        start, stop: half-open range of items of the source.
    """

    job_id: str
    kind: str
    folder: str
    source: str
    start: int
    stop: int

    @property
    def number(self) -> int:
        return int(self.job_id[4:])

    @property
    def group(self) -> str:
        """Subfolder of at most 1,000 jobs, because folders with a million files are slow everywhere."""
        return self.job_id[4:-3].zfill(4)  # as `group_of`, which takes longer: it is asked for several times a job


def group_of(number: int) -> str:
    return f"{number // JOBS_PER_GROUP:04d}"


def job_id_of(number: int) -> str:
    return f"job_{number:06d}"


def is_job_id(text: str) -> bool:
    """Whether `text` is a job id as this project writes it; anything else never becomes part of a path."""
    match = _JOB_ID.fullmatch(text)
    return match is not None and job_id_of(int(match[1])) == text


def is_plain_path(path: str) -> bool:
    """Whether `path` is one as this project writes it: relative, with forward slashes, of plain words, never upwards."""
    parts = path.split("/")
    return (
        0 < len(path) <= _LONGEST
        and len(parts) <= _DEEPEST
        and all(part not in ("", ".", "..") and _WORD.issuperset(part) for part in parts)
    )
