import json

from headstart.pipeline.status import suspect_jobs
from tests.support import run_cli, run_python

from .suspects import die_holding, enqueue_fragile, work
from .workers import MAIN


def test_status_names_a_suspect_until_it_is_done(workspace):
    jobs = enqueue_fragile(workspace, 15, "crash_3")
    die_holding(workspace, jobs[0], times=2)
    die_holding(workspace, jobs[1], times=1)
    die_holding(workspace, jobs[2], times=2, machine="another boot")
    assert list(suspect_jobs(workspace)) == [(jobs[0], 2)]
    status, output, _ = run_python(MAIN, "status", "--failed", "-w", str(workspace.root))
    assert status == 0
    assert f"{jobs[0].job_id}  suspect: 2 workers died with it in hand; its items are tried one by one" in output
    listed = json.loads(run_python(MAIN, "status", "--failed", "--json", "-w", str(workspace.root))[1])
    assert listed["suspect_jobs"] == [{"job_id": jobs[0].job_id, "folder": jobs[0].folder, "deaths": 2}]
    for job in jobs[2:]:
        for path in workspace.claims(job).glob(f"{job.job_id}.*"):
            path.unlink()  # its lease would have to end first
    work(workspace)
    assert not list(suspect_jobs(workspace))
    output = run_python(MAIN, "status", "--failed", "-w", str(workspace.root))[1]
    assert f"{jobs[0].job_id}  item 3  killed: ended its process with SIGSEGV" in output


def test_help_of_work_names_the_timeout_and_starts_no_worker():
    assert "--job-timeout" in run_cli("work", "--help").stdout
