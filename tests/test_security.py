"""Each promise of docs/security.md names tests that hold it, and they are there."""

import ast
import re
from pathlib import Path

import pytest

from tests.support import run_python

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`")


def promises():
    """Rows of the tables whose last column is called `held by`: what is promised, and that column."""
    is_promise = False
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            is_promise = False
        elif cells[-1] == "held by":
            is_promise = True
        elif is_promise and not set(line) <= set("|-: "):
            yield cells[0], cells[-1]


def names_of_tests(path):
    return {node.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)}


def test_there_are_promises():
    assert len(list(promises())) >= 15


@pytest.mark.parametrize(("promise", "held_by"), list(promises()), ids=[promise[:50] for promise, _ in promises()])
def test_each_promise_names_a_test_that_is_there(promise, held_by):
    named = NAMED.findall(held_by)
    assert named, f"{promise}: no test is named"
    for path, name in named:
        assert (ROOT / path).is_file(), path
        assert any(test.startswith("test_") for test in names_of_tests(ROOT / path)), path
        assert not name or name in names_of_tests(ROOT / path), f"{path}::{name}"


@pytest.mark.parametrize("first", ["headstart", "headstart.pipeline.text", "headstart.features.encoders.onnx_encoder"])
def test_onnx_runtime_is_told_to_send_nothing_before_it_is_imported(first):
    code = f"import os, sys, {first}\nprint('onnxruntime' in sys.modules, os.environ['ORT_DISABLE_TELEMETRY'])"
    status, output, errors = run_python(code)
    assert (status, output) == (0, "False 1\n"), errors


CALIBRATED = "from headstart.features.encoders.calibrate import calibrate; calibrate(b'', numpy.zeros((1, 2, 2, 3), 'u1'))"
LAUNCHED = "from headstart.pipeline.executors.ray import open_executor; open_executor(Mock(), Mock())"
REPORTS = {
    "onnxruntime": ("ORT_DISABLE_TELEMETRY", "1", "import headstart, onnxruntime"),
    "huggingface_hub": ("HF_HUB_DISABLE_TELEMETRY", "1", "import headstart, huggingface_hub"),
    "nncf": ("NNCF_DEV", "1", f"import numpy; {CALIBRATED}"),
    "ray": ("RAY_USAGE_STATS_ENABLED", "0", f"from unittest.mock import Mock; {LAUNCHED}"),
}


@pytest.mark.parametrize("library", REPORTS)
def test_a_library_that_would_report_its_use_is_told_not_to_before_it_is_imported(library, tmp_path, monkeypatch):
    variable, wanted, code = REPORTS[library]
    monkeypatch.delenv(variable, raising=False)
    said = f"sys.stderr.write(os.environ.get({variable!r}, 'not told')); sys.stderr.flush(); os._exit(7)"
    (tmp_path / f"{library}.py").write_text(f"import os, sys\n{said}\n")  # in its place
    assert run_python(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}") == (7, "", wanted)
