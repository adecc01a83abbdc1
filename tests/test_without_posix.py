"""That tests without POSIX are without it, and the shortest of them; all are run by `make windows`."""

import contextlib
import json
import os
import subprocess
import sys

import pytest

from tests.support import ROOT, run_python
from tests.without_posix import FILES, LEFT_OUT
from tests.without_posix.names import missing_names
from tests.without_posix.removal import for_children

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for what is open, and takes away what Linux has")

# As the package's own code would do it, in an empty folder, and what comes of that.
USES = {
    "fork": ("os.fork", "AttributeError"),
    "setitimer": ("signal.setitimer", "AttributeError"),
    "pthread_sigmask": ("signal.pthread_sigmask", "AttributeError"),
    "SIGKILL": ("signal.SIGKILL", "AttributeError"),
    "getuid": ("os.getuid", "AttributeError"),
    "geteuid": ("os.geteuid", "AttributeError"),
    "sched_getaffinity": ("os.sched_getaffinity", "AttributeError"),
    "O_NOFOLLOW": ("os.O_NOFOLLOW", "AttributeError"),
    "O_NONBLOCK": ("os.O_NONBLOCK", "AttributeError"),
    "O_DIRECTORY": ("os.O_DIRECTORY", "AttributeError"),
    "a clock by its number": ("time.clock_gettime", "AttributeError"),
    "a name that is imported": ("from os import killpg", "ImportError"),
    "fcntl": ("import fcntl", "ModuleNotFoundError"),
    "resource": ("import resource", "ModuleNotFoundError"),
    "pwd": ("from pwd import getpwuid", "ModuleNotFoundError"),
    "/proc opened": ("open('/proc/self/stat').close()", "FileNotFoundError"),
    "/proc read by its path": ("Path('/proc/self/stat').read_text()", "FileNotFoundError"),
    "/proc listed": ("os.listdir('/proc/self')", "FileNotFoundError"),
    "/proc followed": ("Path('/proc/self/ns/pid').readlink()", "FileNotFoundError"),
    "a folder opened": ("os.close(os.open('.', os.O_RDONLY))", "PermissionError"),
    "another function at the start of a process": ("subprocess.run('true', preexec_fn=int)", "ValueError"),
    "an open file removed": ("keep = open('a', 'w'); os.unlink('a')", "PermissionError"),
    "an open file replaced": ("Path('b').touch(); keep = open('a', 'w'); os.replace('b', 'a')", "PermissionError"),
    "an open file renamed": ("keep = open('a', 'w'); os.rename('a', 'c')", "PermissionError"),
    "a folder with an open file renamed": ("os.mkdir('d'); keep = open('d/a', 'w'); os.rename('d', 'e')", "PermissionError"),
    "a file renamed to one that is there": ("Path('b').touch(); Path('c').touch(); os.rename('b', 'c')", "FileExistsError"),
    "another name of an open file removed": ("keep = open('a', 'w'); os.link('a', 'f'); os.unlink('f')", "PermissionError"),
    "a mapped file removed": (
        "Path('g').write_bytes(b'g'); f = open('g', 'r+b'); keep = mmap.mmap(f.fileno(), 1); f.close(); Path('g').unlink()",
        "PermissionError",
    ),
    "a reserved name": ("Path('aux.txt').write_text('')", "OSError"),
    "a folder of a reserved name": ("os.mkdir('NUL')", "OSError"),
    "a name with a colon": ("Path('a:b').write_text('')", "OSError"),
    "a name that ends in a dot": ("os.mkdir('a.')", "OSError"),
    "a file moved to a reserved name": ("Path('j').touch(); os.rename('j', 'con')", "OSError"),
    "a long path": ("os.makedirs('k' * 120 + '/' + 'l' * 120)", "FileNotFoundError"),
    "a name that differs by case alone": ("Path('m').touch(); Path('M').touch()", "FileExistsError"),
    "text with a line end": ("Path('h').write_text('\\n'); assert len(Path('h').read_bytes()) == 1", "AssertionError"),
    "text in no named encoding": ("Path('i').write_text('\\u2192')", "UnicodeEncodeError"),
}
TRY = """
import json, os, tempfile
outcomes = {}
for name, use in json.loads(sys.argv[1]).items():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            exec("import mmap, os, signal, subprocess, time; from pathlib import Path; " + use, {"__name__": "headstart.planted"})
            outcomes[name] = "nothing"
        except Exception as error:
            outcomes[name] = type(error).__name__
        os.chdir("/")
print(json.dumps(outcomes))
"""


def tried():
    status, output, errors = run_python(TRY, json.dumps({name: use for name, (use, _) in USES.items()}))
    assert status == 0, errors
    return json.loads(output)


@contextlib.contextmanager
def without_posix():
    """In the environment of processes: what `tests.without_posix` puts there."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in for_children(missing_names()).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def outcomes():
    with without_posix():
        return tried()


@pytest.mark.parametrize("name", USES)
def test_what_windows_lacks_or_refuses_is_missing_or_refused(outcomes, name):
    assert outcomes[name] == USES[name][1]


def test_here_every_one_of_these_uses_works():
    assert set(tried().values()) == {"nothing"}


REMOVE = """
import threading
from pathlib import Path
from headstart.pipeline import paths
file = open(sys.argv[1], "w")
if sys.argv[2] == "a moment":
    threading.Timer(0.1, file.close).start()
paths.CHANGE
"""


@pytest.mark.parametrize(("time", "error"), [("a moment", ""), ("ever", "PermissionError")])
@pytest.mark.parametrize("change", ["remove(sys.argv[1])", "rename(sys.argv[3], sys.argv[1])"], ids=["removed", "replaced"])
def test_a_file_that_is_open_for_a_moment_is_waited_for(tmp_path, change, time, error):
    (tmp_path / "b").touch()
    with without_posix():
        status, _, errors = run_python(REMOVE.replace("CHANGE", change), str(tmp_path / "a"), time, str(tmp_path / "b"))
    assert (status == 0) is (error == ""), errors
    assert error in errors


def test_every_listed_file_and_every_test_that_is_left_out_is_there():
    files = {ROOT / file for file in FILES}
    assert all(file.is_file() for file in files)
    texts = {file.name: file.read_text() for file in files}
    for name in LEFT_OUT:
        file, _, test = name.partition("::")
        assert f"def {test.partition('[')[0]}(" in texts[file], name


def test_the_shortest_of_these_tests_pass():
    files = ["test_hard_links.py", "test_markers.py", "test_retire.py", "test_work.py"]
    command = [sys.executable, "-m", "pytest", "-p", "tests.without_posix", *(f"tests/pipeline/{file}" for file in files)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
