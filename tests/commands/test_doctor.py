"""`headstart doctor`: each line ok or with its fix, and nothing that a check meets is worse than a line."""

import json
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from headstart.features import accelerators
from headstart.features.planning import machine
from headstart.pipeline.files import FileSystem
from headstart.pipeline.workspace import open_or_create_workspace
from tests.fake_gpu import fake_gpu
from tests.support import enqueue_fakes, run_python

from .calling import call


def lines_of(root):
    return {(line.subject, line.state): line for line in machine.examine_machine(root)}


def test_every_line_that_is_not_ok_has_a_fix_and_an_ok_one_has_none(tmp_path):
    root = open_or_create_workspace(tmp_path / "w").root
    for line in machine.examine_machine(root):
        assert bool(line.fix) == (line.state != machine.OK), line
        assert "\n" not in line.text + line.fix


def test_a_sound_machine_is_said_to_be_so_and_exits_with_0(tmp_path):
    workspace = open_or_create_workspace(tmp_path / "w")
    enqueue_fakes(workspace, 20)
    done = call("doctor", "-w", workspace.root)
    assert done.status == 0, done.output
    assert "0 of 2 jobs done" in done.output
    facts = call("doctor", "--json", "-w", workspace.root).json
    assert facts["wrong"] == 0
    assert {line["subject"] for line in facts["lines"]} >= {
        "Python",
        "libraries",
        "ONNX Runtime",
        "GPU",
        "cores",
        "disk",
        "queue",
    }


def test_no_workspace_is_a_note_and_not_a_mistake(tmp_path):
    done = call("doctor", "-w", tmp_path / "nothing")
    assert done.status == 0
    assert "headstart enqueue DATA makes one" in done.output


def damaged(root, monkeypatch):
    (root / "workspace.json").write_text("{")


def no_library(root, monkeypatch):
    monkeypatch.setattr(machine, "_version", lambda library: None if library == "timm" else "1.0")


def less_able_disk(root, monkeypatch):
    monkeypatch.setattr(machine, "probe", lambda folder: FileSystem(hard_links=False, fsync=True))


def little_disk(root, monkeypatch):
    monkeypatch.setattr(machine, "_LITTLE_DISK", 1 << 60)


def little_memory(root, monkeypatch):
    monkeypatch.setattr(machine, "_LITTLE_MEMORY", 1 << 60)


def quarantined(root, monkeypatch):
    monkeypatch.setattr(machine, "quarantined_jobs", lambda workspace: iter([("job", ["broken"])]))


def a_runtime_that_raises(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)


WRONG = {
    "a damaged workspace": (damaged, "workspace", "workspace.json"),
    "a library that is missing": (no_library, "libraries", "pip install timm"),
    "a disk that can do less than it could": (less_able_disk, "workspace", "copy it back"),
    "a full disk": (little_disk, "disk", "headstart clean"),
    "little memory": (little_memory, "memory", "--ram-budget"),
    "quarantined jobs": (quarantined, "queue", "headstart retry"),
    "a check that raises": (a_runtime_that_raises, "ONNX Runtime", "mend"),
}


@pytest.mark.parametrize(("harm", "subject", "fix"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_says_its_fix_and_exits_with_1(tmp_path, monkeypatch, harm, subject, fix):
    root = open_or_create_workspace(tmp_path / "w").root
    harm(root, monkeypatch)
    assert fix in lines_of(root)[subject, machine.WRONG].fix
    assert call("doctor", "-w", root).status == 1


def test_a_folder_says_what_it_can_do_and_what_follows_before_anything_is_enqueued_there(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "probe", lambda folder: FileSystem(hard_links=False, fsync=False))
    looks, mounts = [], [SimpleNamespace(mountpoint="/", fstype="fuse.rclone")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: looks.append(all) or mounts)
    lines = [line for line in machine.examine_machine(tmp_path) if line.subject == "folder"]
    assert len(looks) == 1
    assert [line.state for line in lines] == [machine.OK, machine.NOTE, machine.NOTE]
    assert "no hard links (a kill in the moment of a claim holds that job up for two minutes)" in lines[0].text
    assert "verify --deep" in lines[1].fix
    assert "one machine at a time" in lines[2].fix
    assert not list(tmp_path.iterdir())
    assert not [line for line in machine.examine_machine(tmp_path / "absent") if line.subject == "folder"]


def test_it_loads_no_torch_where_no_gpu_is(tmp_path):
    code = (
        "import sys, json; from pathlib import Path; from headstart.features.planning.machine import examine_machine\n"
        "lines = examine_machine(Path(sys.argv[1])); print(json.dumps(['torch' in sys.modules, len(lines)]))"
    )
    status, output, errors = run_python(
        "import os; os.environ['CUDA_VISIBLE_DEVICES'] = ''\n" + code, str(open_or_create_workspace(tmp_path / "w").root)
    )
    assert status == 0, errors
    is_loaded, count = json.loads(output)
    assert (is_loaded, count > 8) == (False, True)


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_a_gpu_that_is_not_nvidia_s_is_named_with_what_is_free(kind, monkeypatch):
    monkeypatch.setattr(accelerators, "has_nvidia_device", lambda: False)
    monkeypatch.setattr(accelerators, "available_bytes", lambda: 10**11)
    monkeypatch.setattr(type(accelerators.DEVICE_KINDS[kind]), "is_likely", lambda self: True)
    [line] = machine.examine_gpu()
    assert (line.state, line.text) == (machine.NOTE, f"torch {torch.__version__} finds none to use as {kind}")
    with fake_gpu(monkeypatch, kind):
        [line] = machine.examine_gpu()
    assert (line.state, line.text) == (machine.OK, f"torch {torch.__version__} uses it as {kind}, 8.00 GB free")


def test_without_a_gpu_doctor_gpu_says_what_it_would_check_and_that_nothing_was_tried(monkeypatch):
    from headstart.features.acceptance.gpu_acceptance import CHECKS

    monkeypatch.setattr(accelerators, "has_nvidia_device", lambda: False)
    done = call("doctor", "--gpu")
    assert done.status == 1
    assert done.output.startswith("no NVIDIA device is here, so nothing was tried")
    assert len(done.output.splitlines()) == 1 + len(CHECKS)
    facts = call("doctor", "--gpu", "--json").json
    assert facts["device"] is None
    assert len(facts["would_check"]) == len(CHECKS)


def test_what_is_known_of_a_gpu_stays_known_when_the_rest_is_interrupted(monkeypatch):
    from headstart.features.acceptance import gpu_acceptance
    from headstart.features.acceptance.gpu_acceptance import GpuLine

    def interrupted(scene, report):
        yield GpuLine("memory", "at most 4 GB", "3 GB by NVML", "ok")
        raise KeyboardInterrupt

    monkeypatch.setattr(accelerators, "has_nvidia_device", lambda: True)
    monkeypatch.setattr(gpu_acceptance, "accept_gpu", interrupted)
    monkeypatch.setattr(machine, "examine_gpu", lambda: [machine.Checked("GPU", machine.OK, "a GPU, driver 1")])
    done = call("doctor", "--gpu")
    assert done.status != 0
    assert "| memory | at most 4 GB | 3 GB by NVML | ok |" in done.output


def test_what_a_gpu_was_tried_for_is_a_table_that_can_be_pasted(monkeypatch):
    from headstart.features.acceptance import gpu_acceptance
    from headstart.features.acceptance.gpu_acceptance import GpuLine

    lines = [GpuLine("memory", "at most 4 GB", "3 GB by NVML", "ok"), GpuLine("heads killed", "the same bits", "other", "wrong")]
    monkeypatch.setattr(accelerators, "has_nvidia_device", lambda: True)
    monkeypatch.setattr(gpu_acceptance, "accept_gpu", lambda scene, report: iter(lines))
    monkeypatch.setattr(machine, "examine_gpu", lambda: [machine.Checked("GPU", machine.OK, "a GPU, driver 1")])
    done = call("doctor", "--gpu")
    assert done.status == 1
    assert done.output.startswith("a GPU, driver 1; torch ")
    assert "| memory | at most 4 GB | 3 GB by NVML | ok |" in done.output
    facts = call("doctor", "--gpu", "--json").json
    assert (facts["wrong"], len(facts["lines"])) == (1, 2)
