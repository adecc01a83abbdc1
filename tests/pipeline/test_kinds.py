"""Tests of how kinds of job become known."""

import pytest

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.kinds import known_kinds, load_kind
from tests.support import run_python


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """An empty folder of kinds."""
    monkeypatch.setattr("headstart.jobs.__path__", [str(tmp_path)])
    return tmp_path


def test_a_module_whose_name_begins_with_an_underscore_is_no_kind(jobs):
    for name in ("_shared.py", "__init__.py", "real.py"):
        (jobs / name).write_text("")
    assert known_kinds() == {"real"}


def test_an_unfinished_kind_is_refused_by_what_it_lacks(jobs):
    (jobs / "unfinished.py").write_text("def fingerprint(workspace, folder): ...\n")
    with pytest.raises(
        HeadstartError, match=r"unfinished\.py is no kind of job yet: open_session\(workspace, job, settings\) is"
    ):
        load_kind("unfinished")


def test_who_asks_for_the_kinds_loads_no_worker():
    code = (
        "import sys; from headstart.pipeline.kinds import known_kinds; known_kinds()\n"
        "print(sorted(n for n in sys.modules if n.startswith('headstart.') and n.rpartition('.')[2] in "
        "('worker', 'suspect', 'watchdog', 'extract', 'train_head', 'next_job')))"
    )
    assert run_python(code) == (0, "[]\n", "")


def test_status_loads_neither_worker_nor_suspect_mode():
    code = (
        "import sys; import headstart.pipeline.status\n"
        "print([n for n in ('worker', 'suspect', 'watchdog', 'child') if f'headstart.pipeline.{n}' in sys.modules])"
    )
    assert run_python(code) == (0, "[]\n", "")
