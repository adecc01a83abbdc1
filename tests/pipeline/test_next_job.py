from headstart.pipeline.claims import Claimant
from headstart.pipeline.next_job import Frontier
from headstart.pipeline.retry import bytes_of, retire
from headstart.pipeline.worker import run_job
from tests.support import enqueue_fakes


def test_a_job_that_somebody_finished_since_the_look_is_not_handed_out(workspace):
    jobs = enqueue_fakes(workspace, 30)
    with Claimant(workspace) as claimant:
        frontier = Frontier(workspace, claimant, None, None)
        assert frontier.next_claim().job == jobs[0]
        run_job(workspace, jobs[1].job_id)  # the names that the frontier has listed say nothing of it yet
        assert frontier.next_claim().job == jobs[2]
        assert frontier.next_claim() is None
        assert not list(workspace.claims(jobs[1]).glob(f"{jobs[1].job_id}.*"))


def test_a_job_that_is_made_pending_again_is_handed_out_by_a_worker_that_saw_it_done(workspace):
    [job] = enqueue_fakes(workspace, 10)
    run_job(workspace, job.job_id)
    with Claimant(workspace) as claimant:
        frontier = Frontier(workspace, claimant, None, None)
        assert frontier.next_claim() is None  # what a worker with --loop sees before it waits
        retire(workspace, job, bytes_of(workspace, job))
        frontier.restart()
        assert frontier.next_claim().job == job
