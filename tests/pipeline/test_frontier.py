from headstart.pipeline.claims import Claimant
from headstart.pipeline.frontier import Frontier
from headstart.pipeline.worker import run_job
from tests.conftest import enqueue_fakes


def test_a_job_that_somebody_finished_since_the_look_is_not_handed_out(workspace):
    jobs = enqueue_fakes(workspace, 30)
    with Claimant(workspace) as claimant:
        frontier = Frontier(workspace, claimant, None, None)
        assert frontier.next_claim().job == jobs[0]
        run_job(workspace, jobs[1].job_id)  # the names that the frontier has listed say nothing of it yet
        assert frontier.next_claim().job == jobs[2]
        assert frontier.next_claim() is None
        assert not list(workspace.claims(jobs[1]).glob(f"{jobs[1].job_id}.*"))
