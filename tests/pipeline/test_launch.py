"""What every launch keeps, whatever executor it is on."""

import json
from pathlib import Path

import pytest

import headstart.pipeline.executors
from headstart.pipeline.doors import records
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.executor import Launch, known_executors, worker_environment
from headstart.pipeline.launch import ACTIVE, ENDED, STOPPED, Asked, begin, follow, stop
from tests.support import enqueue_fakes

from .workers import work

SMALL = '''
"""Workers that are one call in this process."""

from tests.pipeline.workers import work

answers = []


def open_executor(workspace, launch):
    return Called(workspace, launch)


class Called:
    script = "#!/bin/sh\\n"
    poll_s = 0.0

    def __init__(self, workspace, launch):
        self.workspace, self.launch = workspace, launch

    def start(self, count):
        for _ in range(count):
            work(self.workspace, max_jobs=1)

    def running(self):
        if answers and (answer := answers.pop(0)) is not None:
            raise answer
        return 0

    def stop(self):
        if answers and (answer := answers.pop(0)) is not None:
            raise answer
        return 0
'''


@pytest.fixture
def called(tmp_path, monkeypatch):
    """An executor that is one new file, and no edit elsewhere."""
    folder = tmp_path / "executors"
    folder.mkdir()
    (folder / "called.py").write_text(SMALL)
    monkeypatch.setattr(headstart.pipeline.executors, "__path__", [*headstart.pipeline.executors.__path__, str(folder)])
    yield __import__("headstart.pipeline.executors.called", fromlist=["answers"])
    __import__("sys").modules.pop("headstart.pipeline.executors.called")


def test_an_executor_is_one_file_that_is_found_by_its_name(workspace, called):
    assert {"called", "local", "slurm"} <= set(known_executors())
    enqueue_fakes(workspace, 70)
    begin(workspace, "called", Asked(workers=3))
    courses = []
    followed = follow(workspace, "called", courses.append)
    assert (followed.state, followed.started, followed.course.done) == (ENDED, 7, 7)
    assert courses[0].note == "3 workers started"


def test_one_that_gives_no_answer_is_asked_again(workspace, called):
    enqueue_fakes(workspace, 20)
    begin(workspace, "called", Asked(workers=2))
    called.answers += [TryLaterError("squeue gave no answer"), TryLaterError("squeue gave no answer"), None]
    courses = []
    assert follow(workspace, "called", courses.append).state == ENDED
    assert next(course.note for course in courses if course.note).startswith("called gives no answer; it is asked again")


def test_an_executor_that_gives_no_answer_keeps_no_worker_of_another_one(workspace, called):
    begin(workspace, "called", Asked())
    begin(workspace, "local", Asked())
    called.answers.append(HeadstartError("no cluster answers here"))
    with pytest.raises(HeadstartError, match="no cluster answers here"):
        stop(workspace)
    for on in ("called", "local"):
        assert json.loads(workspace.launch_record(on).read_bytes())["state"] == STOPPED


def test_who_does_not_follow_asks_once(workspace, called):
    enqueue_fakes(workspace, 70)
    begin(workspace, "called", Asked(workers=3))
    followed = follow(workspace, "called", detach=True)
    assert (followed.state, followed.started) == (ACTIVE, 3)


def test_an_empty_queue_starts_nobody(workspace, called):
    begin(workspace, "called", Asked(workers=2))
    followed = follow(workspace, "called")
    assert (followed.state, followed.started) == (ENDED, 0)


def test_only_jobs_that_its_workers_are_for_count(workspace, called):
    enqueue_fakes(workspace, 20)
    begin(workspace, "called", Asked(workers=1, work=("--jobs", "extract")))
    assert follow(workspace, "called").started == 0


def test_the_same_launch_goes_on_as_it_was_told_and_an_ended_one_is_followed_by_a_new_one(workspace, called):
    first = begin(workspace, "called", Asked(3, 0, 60.0, ("--device", "cpu")))
    assert begin(workspace, "called", Asked()) == first
    assert begin(workspace, "called", Asked(workers=5)) == Launch(first.name, "called", 5, 0, 60.0, ("--device", "cpu"))
    assert stop(workspace) == {"called": 0}
    assert follow(workspace, "called").state == STOPPED
    assert begin(workspace, "called", Asked()) != first
    assert begin(workspace, "called", Asked()).workers == 1


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        pytest.param("format", 2, "has format 2, this version reads up to 1. Upgrade", id="newer"),
        pytest.param("state", "flying", "state is 'flying'", id="a state that there is not"),
        pytest.param("workers", 0, "workers is 0", id="no worker"),
        pytest.param("workers", True, "workers is True", id="no number"),
        pytest.param("name", "../x", "name is '../x'", id="a name that is none"),
        pytest.param("on", "local", "on is 'local'", id="of another executor"),
        pytest.param("work", [1], "work is [1]", id="an argument that is no text"),
        pytest.param("work", ["--workspace", "/another"], "work is ['--workspace', '/another']", id="another workspace"),
        pytest.param("work", ["-w/another"], "work is ['-w/another']", id="another workspace in short"),
        pytest.param("time_limit_s", 0, "time_limit_s is 0", id="no time"),
    ],
)
def test_a_record_that_is_damaged_or_newer_is_one_line(workspace, called, key, value, said):
    begin(workspace, "called", Asked())
    path = workspace.launch_record("called")
    facts = {**json.loads(path.read_bytes()), key: value}
    facts.pop("seal")
    path.write_bytes(records.seal(facts))
    for call in (lambda: begin(workspace, "called", Asked()), lambda: follow(workspace, "called"), lambda: stop(workspace)):
        with pytest.raises(HeadstartError) as error:
            call()
        assert said in str(error.value)


def test_one_flipped_bit_of_a_record_is_seen(workspace, called):
    begin(workspace, "called", Asked(workers=3))
    path = workspace.launch_record("called")
    path.write_bytes(path.read_bytes().replace(b'"workers": 3', b'"workers": 2'))
    with pytest.raises(HeadstartError, match="other bytes than were written"):
        begin(workspace, "called", Asked())


def test_what_runs_names_no_path_of_this_machine_and_no_secret(workspace, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("HF_TOKEN", "hush")
    begin(workspace, "local", Asked(workers=1, work=("--device", "cpu")))
    script = workspace.launch_script("local").read_text()
    assert script.endswith("exec python3 -P -m headstart.cli work -w . --time-limit 3300s --block 64 --device cpu\n")
    words = script.replace("#!/bin/sh", "").split()
    assert not [word for word in words if Path(word).is_absolute() or "hush" in word]
    assert not {"AWS_SECRET_ACCESS_KEY", "HF_TOKEN"} & worker_environment().keys()


def test_an_argument_that_a_shell_would_read_otherwise_is_quoted(workspace):
    launch = Launch("headstart-00000000", "local", 1, work=("--jobs", "$(touch x); y"))
    assert launch.command.endswith("--block 64 --jobs '$(touch x); y'")
    assert "--block 64" not in Launch("headstart-00000000", "local", 1, work=("--block", "2")).command


def test_what_ends_workers_by_force_waits_longer_than_they_do():
    assert Launch("headstart-00000000", "slurm", 1, time_limit_s=60).end_s > 60


def test_no_worker_is_started_after_a_stop_although_the_launch_is_in_the_middle_of_a_look(workspace, called, monkeypatch):
    enqueue_fakes(workspace, 20)
    begin(workspace, "called", Asked(workers=1))
    monkeypatch.setattr("headstart.pipeline.launch.read_status", lambda workspace: stop(workspace) and _status(workspace))
    followed = follow(workspace, "called")
    assert (followed.state, followed.started) == (STOPPED, 0)
    summary, _ = work(workspace)
    assert summary.jobs == 2


def _status(workspace):
    from headstart.pipeline.status import read_status

    return read_status(workspace)
