"""What every kind of job keeps: each module in `jobs/` is tried, so a new one is told here what it still lacks."""

import typing
from importlib import import_module

import pytest

from headstart.pipeline.kinds import Examiner, Kind, Session, known_kinds, missing_members
from tests.support import ROOT, run_python

KINDS = sorted(path.stem for path in (ROOT / "jobs").glob("[!_]*.py"))


def missing_in(kind: str) -> list[str]:
    """One line for each thing that the kind still lacks; none for a whole one."""
    module = import_module(f"headstart.jobs.{kind}")
    lines = [f"jobs/{kind}.py: {line}" for line in missing_members(Kind, module)]
    if not (module.__doc__ or "").startswith(f"Kind `{kind}`: "):
        lines.append(f"jobs/{kind}.py: its docstring should begin with 'Kind `{kind}`: ' and say what one job becomes")
    session = typing.get_type_hints(module.open_session).get("return") if hasattr(module, "open_session") else None
    if not isinstance(session, type):
        lines.append(f"jobs/{kind}.py: open_session should name the class that it returns: -> MySession")
        return lines
    lines += [f"jobs/{kind}.py: {session.__name__}.{line}" for line in missing_members(Session, session)]
    if hasattr(session, "examine") or hasattr(session, "prepare_without"):  # optional, but both or neither
        lines += [f"jobs/{kind}.py: {session.__name__}.{line}" for line in missing_members(Examiner, session)]
    return lines


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_all_that_the_engine_asks_for(kind):
    missing = missing_in(kind)
    assert not missing, "\n" + "\n".join(missing)


@pytest.mark.parametrize("kind", KINDS)
def test_importing_a_kind_imports_nothing_heavy(kind):
    code = (
        f"import sys, headstart.jobs.{kind}; print([n for n in ('numpy', 'torch', 'timm', 'pandas', 'h5py') if n in sys.modules])"
    )
    assert run_python(code) == (0, "[]\n", "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_tests_of_its_own(kind):
    assert list((ROOT / "tests" / "jobs").glob(f"test_{kind}*.py")), f"tests/jobs/test_{kind}.py is missing"


WHOLE = '''"""Kind `KIND`: nothing."""

def fingerprint(workspace, folder): ...

class Session:
    def prepare(self, job): ...
    def compute(self, prepared, check): ...
    def close(self): ...

def open_session(workspace, job, settings) -> Session: ...
'''
LACKING = {
    "nothing": ("", "", []),
    "fingerprint": ("def fingerprint", "def other", ["fingerprint(workspace, folder) is missing"]),
    "open_session": (
        "def open_session",
        "def other",
        ["open_session(workspace, job, settings) is missing", "open_session should name the class"],
    ),
    "the class": (" -> Session", "", ["open_session should name the class"]),
    "an argument": ("workspace, folder", "workspace", ["fingerprint does not take (workspace, folder)"]),
    "prepare": ("def prepare", "def other", ["Session.prepare(job) is missing"]),
    "check": ("prepared, check", "prepared", ["Session.compute does not take (prepared, check)"]),
    "close": (
        "def close",
        "def examine",
        ["Session.close() is missing", "Session.examine does not take", "Session.prepare_without("],
    ),
    "prepare_without": (
        "    def close",
        "    def examine(self, job, item): ...\n    def close",
        ["Session.prepare_without(job, killers) is missing"],
    ),
    "its docstring": ("Kind `KIND`", "A kind", ["its docstring should begin with"]),
}


@pytest.mark.parametrize(("old", "new", "said"), LACKING.values(), ids=LACKING)
def test_what_a_new_kind_lacks_is_named_line_by_line(tmp_path, monkeypatch, request, old, new, said):
    kind = f"new_{abs(hash(request.node.callspec.id))}"
    monkeypatch.setattr("headstart.jobs.__path__", [str(tmp_path)])
    (tmp_path / f"{kind}.py").write_text(WHOLE.replace(old, new).replace("KIND", kind))
    assert kind in known_kinds()
    lines = missing_in(kind)
    assert len(lines) == len(said)
    assert all(part in line for part, line in zip(said, lines, strict=True)), lines
