import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from headstart.cli import COMMANDS, _is_work
from headstart.pipeline.queue import HEADER
from headstart.pipeline.workspace import open_or_create_workspace
from tests.support import ROOT, run_cli, run_python


def test_every_command_teaches_itself():
    listed = run_cli("--help").stdout
    for name in COMMANDS:
        assert f"  {name} " in listed
        page = run_cli(name, "--help")
        assert page.returncode == 0
        assert "Usage: headstart" in page.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        pytest.param(["nonsense"], 2, "No such command", id="unknown command"),
        pytest.param(["work", "--max-jobs", "0"], 2, "--max-jobs", id="option out of range"),
        pytest.param(["work", "--time-limit", "soon"], 2, "is not a duration", id="no duration"),
        pytest.param(["work", "--batch-size", "-3"], 2, "neither a positive number nor 'auto'", id="no batch size"),
        pytest.param(["status"], 1, "no workspace at", id="no workspace"),
        pytest.param(["enqueue", "nowhere"], 1, "nowhere", id="no data"),
        pytest.param(["retry"], 2, "name the jobs to try again", id="retry of nothing"),
        pytest.param(["retry", "--all", "job_000001"], 2, "or pass --all", id="retry of one and of all"),
        pytest.param(["retry", "--all"], 1, "no workspace at", id="retry without a workspace"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(tmp_path, arguments, status, said):
    done = run_cli(*arguments, cwd=tmp_path)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert status == 2 or len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["-w", "--workspace"])
def test_the_workspace_may_be_named_before_the_command(workspace, tmp_path, name):
    behind, before = (
        run_cli(*order, cwd=tmp_path.parent) for order in (["status", name, workspace.root], [name, workspace.root, "status"])
    )
    assert (before.returncode, before.stdout) == (0, behind.stdout)
    assert str(workspace.root) in before.stdout


def test_the_workspace_named_behind_the_command_wins(workspace, tmp_path):
    assert str(workspace.root) in run_cli("-w", tmp_path / "nowhere", "status", "-w", workspace.root).stdout


def test_a_command_with_a_workspace_of_its_own_takes_none():
    done = run_cli("-w", "somewhere", "demo")
    assert (done.returncode, "demo makes a workspace of its own" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "is_work"),
    [
        ("work", True),
        ("-w a work", True),
        ("-wa work --max-jobs 1", True),
        ("--workspace=a work", True),
        ("--workspace a work", True),
        ("-w work status", False),
        ("work --help", False),
        ("-w a work -h", False),
        ("--version", False),
        ("-w", False),
        ("", False),
    ],
)
def test_a_worker_gets_its_parent_wherever_the_workspace_is_named(words, is_work):
    assert _is_work(words.split()) is is_work


def test_a_bug_is_one_line_with_the_place_of_its_traceback(tmp_path):
    code = """
sys.argv = ["headstart", "status"]
import headstart.commands.running.status as status
status.chosen_workspace = None
from headstart.cli import main
main()
"""
    status, _, errors = run_python(code)
    assert status == 3
    [line, where] = errors.strip().splitlines()
    assert line.startswith("bug: TypeError")
    log = Path(where.split(" is in ")[1].split(". Please")[0])
    assert "Traceback" in log.read_text()
    log.unlink()


INTERRUPTED = """
import os, signal, sys
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("unwound", flush=True)
    raise
sys.exit(7)
"""


@pytest.fixture
def _listening_to_interrupts():
    """A shell that starts something in the background has it ignore them, and what it starts inherits that."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("_listening_to_interrupts")
@pytest.mark.parametrize(
    ("module", "prefix", "status", "printed"),
    [
        pytest.param("click", "", 130, "", id="while it is imported"),
        pytest.param("click", "trap '' INT; ", 7, "", id="in the background of a shell"),
        pytest.param("h5py", "", 130, "unwound\n", id="in a command"),
    ],
)
def test_an_interrupt_ends_a_command_quietly(tmp_path, module, prefix, status, printed):
    (tmp_path / f"{module}.py").write_text(INTERRUPTED)
    (tmp_path / "data.h5").touch()
    command = f"{prefix}exec {sys.executable} {ROOT / 'cli.py'} enqueue data.h5"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (status, printed, "")


@pytest.mark.parametrize("command", ["status", "work", "retry", "verify", "runs"])
def test_a_command_that_computes_nothing_loads_neither_numpy_nor_torch_nor_anything_heavy(workspace, command):
    workspace.features.mkdir()
    workspace.queue.write_text(f"{HEADER}\n")
    arguments = [command, *(["--all"] if command == "retry" else []), "-w", str(workspace.root)]
    code = f"sys.argv[1:] = {arguments}\nfrom headstart.cli import _run\n_run()\nprint(*sys.modules)"
    status, output, errors = run_python(code)
    assert status == 0, errors
    heavy = {"numpy", "torch", "timm", "pandas", "h5py", "PIL", "onnxruntime", "sklearn", "filelock"}
    heavy |= {"psutil", "tempfile"} if command == "status" else set()
    heavy |= {"shutil", "headstart.pipeline.enqueue", "headstart.experiments.runs.removal"} if command == "runs" else set()
    loaded = heavy & set(output.split())
    assert not loaded


def test_status_as_json_is_one_object(workspace):
    done = run_cli("status", "--json", "--failed", "-w", workspace.root)
    assert json.loads(done.stdout) == {
        "workspace": str(workspace.root),
        "remaining_jobs": 0,
        "folders": [],
        "workers": [],
        "problems": [],
        "failed_items": [],
        "quarantined_jobs": [],
        "suspect_jobs": [],
        "datasets": [],
        "withdrawn": [],
    }


def test_a_vanished_reader_is_no_bug(workspace):
    command = f"{sys.executable} {ROOT / 'cli.py'} status --json -w {workspace.root} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


def test_a_name_that_the_terminal_cannot_print_is_spelled_out(tmp_path):
    open_or_create_workspace(tmp_path / "ż")
    done = run_cli("status", "-w", tmp_path / "ż", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u017c" in done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [built] = target.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


def read_metadata(wheel: zipfile.ZipFile, file: str) -> str:
    return wheel.read(next(name for name in wheel.namelist() if name.endswith(f".dist-info/{file}"))).decode()


def test_the_wheel_holds_one_package_and_the_embedded_encoder(wheel):
    names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"headstart"}
    for inside in (
        "__init__.py",
        "cli.py",
        "pipeline/worker.py",
        "features/images/decode.py",
        "jobs/extract.py",
        "commands/running/work.py",
    ):
        assert f"headstart/{inside}" in names
    assert "headstart = headstart.cli:main" in read_metadata(wheel, "entry_points.txt")
    assert any(name.startswith("headstart/features/networks/embedded/") and name.endswith(".safetensors") for name in names)


def test_the_wheel_tells_type_checkers_that_it_is_typed(wheel):
    assert "headstart/py.typed" in wheel.namelist()
    assert "Classifier: Typing :: Typed" in read_metadata(wheel, "METADATA")


def test_the_wheel_brings_its_licence_and_says_what_ships_and_of_what_it_was_made(wheel):
    metadata = read_metadata(wheel, "METADATA")
    assert "License-Expression: Apache-2.0" in metadata
    assert "Author: Headstart contributors" in metadata
    assert "Apache License" in read_metadata(wheel, "licenses/LICENSE")
    notice = read_metadata(wheel, "licenses/NOTICE")
    data = {name.removeprefix("headstart/") for name in wheel.namelist() if name.endswith(".safetensors")}
    assert data
    assert all(name in notice for name in data)


def test_an_installed_wheel_runs_without_the_checkout(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        archive.extractall(tmp_path / "site")
    code = "import headstart.pipeline.worker as worker; print(worker.__file__)"
    environment = {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert str(tmp_path / "site") in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows spells names in UTF-16")
@pytest.mark.parametrize("locale", ["POSIX", "C"])
def test_a_locale_that_cannot_spell_a_name_fails_no_image(tmp_path, locale):
    from PIL import Image

    for number, name in enumerate(["Öl/a.png", "Öl/b.png", "tea/ñ.png"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    poor = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert run_cli("enqueue", tmp_path / "photos", "--weights", "embedded", "-w", tmp_path / "w").returncode == 0
    done = run_cli("work", "-w", tmp_path / "w", **poor)
    assert (done.returncode, "3 images" in done.stderr, "failed" in done.stderr) == (0, True, False)


ENDS = """
import atexit, os, sys, threading, time, types
sys.modules["torch"] = types.ModuleType("torch")
atexit.register(lambda: print("at exit"))
threading.Thread(target=lambda: (time.sleep(0.3), print("thread"))).start()
from headstart.cli import main
sys.argv = ["headstart", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(("words", "status"), [(["--version"], 0), (["no-such-command"], 2)])
def test_an_end_without_taking_torch_apart_waits_for_threads_says_everything_and_has_its_status(words, status):
    done = subprocess.run([sys.executable, "-c", ENDS, *words], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert done.stdout.split("\n")[-3:] == ["thread", "at exit", ""]
