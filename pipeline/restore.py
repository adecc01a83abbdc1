"""Rows that somebody removed from the queue by hand, brought back from the markers of the jobs they named."""

from .job import Job
from .markers import recorded_jobs
from .queue import Reader
from .workspace import Workspace


def restorable_jobs(workspace: Workspace, reader: Reader) -> list[Job]:
    """Committed jobs that no row names any more, after `reader` has read the queue; in the order of their numbers.

    Only markers beyond or between the rows are looked at in a whole queue: reading all of them would cost every enqueue.
    """
    first = min(reader.missing, default=reader.highest + 1)
    found = {job.number: job for job in recorded_jobs(workspace, first)}
    return [job for number, job in sorted(found.items()) if number in reader.missing or number > reader.highest]
