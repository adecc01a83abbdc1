"""The notebooks run from top to bottom as they stand, and go on after a disconnect."""

import json
import os
import shutil
from importlib.util import find_spec

import pytest

from tests.support import ROOT

EXTRACT, TRAIN, SEGMENT = ("02_feature_extract_microjobs", "03_train_head_fastloop", "05_seg_patch_from_features")
needs_nbclient = pytest.mark.skipif(
    find_spec("nbclient") is None or find_spec("ipykernel") is None,
    reason="nbclient and ipykernel are not installed (pip install 'headstart[notebooks]')",
)


def cells(name):
    return json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def run(name, folder, monkeypatch, changes=()):
    """Executes every cell in `folder`, with these texts changed; returns what they printed and showed."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    text = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    notebook = nbformat.reads(text, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return "\n".join(str(output) for cell in notebook.cells for output in cell.get("outputs", []))


def payloads(workspace):
    return {path.name: path.stat().st_mtime_ns for path in workspace.glob("features/encoder_*/shards/*/*")}


@pytest.mark.parametrize("name", [EXTRACT, TRAIN, SEGMENT])
def test_a_notebook_is_kept_without_outputs_and_begins_by_saying_what_it_is(name):
    first, *rest = cells(name)
    assert first["cell_type"] == "markdown"
    assert "".join(first["source"]).startswith("# ")
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in rest)


@needs_nbclient
def test_both_run_from_top_to_bottom_and_a_disconnect_costs_only_what_was_not_copied(tmp_path, monkeypatch):
    drive = ("DRIVE = None", "DRIVE = Path('drive')")
    leave = ('print(f\\"{worked.summary.jobs:,} jobs', 'raise RuntimeError(\\"disconnected\\")  # ')
    from nbclient.exceptions import CellExecutionError

    with pytest.raises(CellExecutionError, match="disconnected"):
        run(EXTRACT, tmp_path, monkeypatch, [drive, ("seconds=600", "max_jobs=5"), leave])
    before = payloads(tmp_path / "workspace")
    assert len(before) == 5
    shutil.rmtree(tmp_path / "workspace")  # the machine is gone, and its disk with it
    said = run(EXTRACT, tmp_path, monkeypatch, [drive])
    assert "files brought back" in said
    after = payloads(tmp_path / "workspace")
    assert before.keys() < after.keys()
    assert "24 jobs, 1,477 images; 0 jobs are left" in said
    said = run(TRAIN, tmp_path, monkeypatch, [drive])
    assert "open it in a browser" in said
    assert next((tmp_path / "workspace").glob("experiments/*/report/report.html")).stat().st_size > 10_000


@needs_nbclient
def test_masks_from_patches_run_from_top_to_bottom_and_again_compute_nothing_twice(tmp_path, monkeypatch):
    said = run(SEGMENT, tmp_path, monkeypatch)
    assert "0 jobs are left" in said
    assert len(list(tmp_path.glob("masks/*.png"))) == 3
    [folder] = tmp_path.glob("workspace/experiments/exp_*")
    assert len(list(folder.glob("shown/*.png"))) == 6
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("workspace/features/patches_v001/shards/*/*")}
    assert "0 jobs, 0 patches; 0 jobs are left" in run(SEGMENT, tmp_path, monkeypatch)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("workspace/features/patches_v001/shards/*/*")} == before
