"""Takes from this process, and from its children, what Windows has not or does otherwise; the package's own code alone sees it.

Libraries and tests keep what they have: on Windows they are other code. What is not here is the same as on Linux: separators
and letters of drives, consoles, exit statuses.
"""

import builtins
import errno
import fcntl
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = ROOT / "tests"
CHILDREN = Path(__file__).resolve().parent / "children"
NAMES = "HEADSTART_TESTS_WITHOUT"  # in the environment of children: what `missing_names` said
MODULES = ("curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty")
IN_USE = "The process cannot access the file because it is being used by another process"
_F_SETSIG = 10  # the kernel's number, which `fcntl` has a name for since Python 3.13
_LOOKS, _LOOK_S = 20, 0.001  # another look at the same file, or a child that is about to start, is gone by then
_LONGEST = 259  # characters of a path, 247 of that of a folder, unless somebody changed the registry
_LONGEST_FOLDER = 247
_NO_NAME = re.compile(r'.*[<>:"|?*\x00-\x1f].*|.*[. ]|(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?', re.IGNORECASE)
_BETWEEN = {"contextlib", "io", "os", "pathlib", "shutil", "subprocess", "tempfile", __name__}


class Reduced(ModuleType):
    """A module without some of its names, and with others in their place."""

    def __init__(self, module, missing, instead):
        super().__init__(module.__name__)
        self.__dict__.update(instead, _module=module, _missing=frozenset(missing))

    def __getattr__(self, name):
        if name in self._missing:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} on Windows")
        return getattr(self._module, name)

    def __setattr__(self, name, value):
        if name in ("stdout", "stderr"):  # which are everybody's
            setattr(self._module, name, value)
        else:
            super().__setattr__(name, value)


def install(missing):
    """For this process. Args: missing: names by module, as of `names.missing_names`."""
    instead = {
        "os": {"name": "nt", "supports_dir_fd": set(), "supports_fd": {os.stat}, "supports_follow_symlinks": {os.stat}},
        "sys": {"platform": "win32"},
        "signal": {"SIGBREAK": signal.Signals(21), "CTRL_C_EVENT": signal.SIGINT, "CTRL_BREAK_EVENT": signal.Signals(21)},
    }
    reduced = {name: Reduced(__import__(name), gone, instead.get(name, {})) for name, gone in missing.items()}
    _import_reduced(reduced)
    _share_as_windows()
    _translate_text()
    _refuse_other_calls()
    sys.addaudithook(_refuse_paths)


def for_children(missing):
    """What makes the children of a process do the same, if it is in their environment. Args: missing: as of `install`."""
    path = os.pathsep.join([str(CHILDREN), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {NAMES: json.dumps(missing), "PYTHONPATH": path}


def _is_of_package(variables):
    name, file = variables.get("__name__", ""), variables.get("__file__", "")
    if name == "__main__":
        name = "headstart.cli" if file == str(ROOT / "cli.py") else getattr(variables.get("__spec__"), "name", "")
    return name.split(".")[0] == "headstart" and not file.startswith(str(TESTS))  # where kinds of job are that die on purpose


def _is_asked_by_package(between=frozenset(_BETWEEN)):
    """Whether the package's own code called, directly or through the modules `between`."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") in between:
        if frame.f_code is _peak_of.__code__:
            return False
        frame = frame.f_back
    return frame is not None and _is_of_package(frame.f_globals)


def _import_reduced(reduced):
    original = builtins.__import__

    def import_reduced(name, globals=None, locals=None, fromlist=(), level=0):
        if level == 0 and globals is not None and _is_of_package(globals):
            first = name.partition(".")[0]
            if first in MODULES:
                raise ModuleNotFoundError(f"No module named {name!r} on Windows", name=name)
            if first == "psutil":
                _have_peak_of_windows()
            if first in reduced and not (name != first and fromlist):
                return reduced[first]
        return original(name, globals, locals, fromlist, level)

    builtins.__import__ = import_reduced


def _have_peak_of_windows():
    import psutil

    original = psutil.Process.memory_info
    if original.__name__ == "memory_info_of_windows":
        return

    def memory_info_of_windows(process):
        facts = original(process)
        return type("pmem", (type(facts),), {"peak_wset": _peak_of(process.pid)})(*facts)

    psutil.Process.memory_info = memory_info_of_windows


def _peak_of(pid):
    import psutil

    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")), 0)
    except (FileNotFoundError, ProcessLookupError):  # it ended since psutil looked
        raise psutil.NoSuchProcess(pid) from None


def is_in_use(path, dir_fd=None):
    """Whether any process has the file open or mapped, under whatever name: else the kernel grants a lease for writing."""
    try:
        descriptor = _open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGURG)  # which is ignored: who opens the file meanwhile waits for us
        for _ in range(_LOOKS):
            try:
                fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
                return False
            except BlockingIOError:
                time.sleep(_LOOK_S)
        return True
    finally:
        os.close(descriptor)


_open, _listdir = os.open, os.listdir


def _require_free(path, dir_fd=None):
    if _is_asked_by_package() and is_in_use(path, dir_fd):
        raise PermissionError(errno.EACCES, IN_USE, path)


def _share_as_windows():
    unlink, rename, replace = os.unlink, os.rename, os.replace

    def unlink_free(path, *, dir_fd=None):
        _require_free(path, dir_fd)
        unlink(path, dir_fd=dir_fd)

    def move_free(move, may_replace):
        def moved(src, dst, *, src_dir_fd=None, dst_dir_fd=None):
            _require_free(src, src_dir_fd)
            if _is_asked_by_package():
                for below in Path(src).rglob("*"):
                    _require_free(below)
            if not may_replace and _is_asked_by_package() and os.path.lexists(dst):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), src, None, dst)
            _require_free(dst, dst_dir_fd)
            move(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        return moved

    os.unlink = os.remove = unlink_free
    os.rename, os.replace = move_free(rename, may_replace=False), move_free(replace, may_replace=True)


def _translate_text():
    original = io.open

    def open_text(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        if "b" not in mode and _is_asked_by_package():
            encoding = "cp1252" if encoding in (None, "locale") else encoding
            if newline is None and set(mode) & set("wax+"):
                newline = "\r\n"
        return original(file, mode, buffering, encoding, errors, newline, closefd, opener)

    io.open = builtins.open = open_text


def _refuse_other_calls():
    readlink, start = os.readlink, subprocess.Popen.__init__

    def read_link(path, *, dir_fd=None):
        _refuse_paths("open", (path,))
        return readlink(path, dir_fd=dir_fd)

    def start_as_windows(self, *arguments, **options):
        if _is_asked_by_package() and (options.get("preexec_fn") is not None or options.get("pass_fds")):
            raise ValueError("preexec_fn is not supported on Windows platforms")
        start(self, *arguments, **options)

    os.readlink, subprocess.Popen.__init__ = read_link, start_as_windows


def _refuse_paths(event, arguments):
    if event == "open" and len(arguments) == 3 and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT:
        _require_name(arguments[0], _LONGEST)
    elif event == "os.mkdir":
        _require_name(arguments[0], _LONGEST_FOLDER)
    elif event in ("os.rename", "os.link", "os.symlink"):
        _require_name(arguments[1], _LONGEST)
    if event not in ("open", "os.listdir", "os.scandir"):
        return
    try:
        path = os.fspath(arguments[0])
    except TypeError:
        return
    if isinstance(path, str) and path.startswith("/proc") and _is_asked_by_package():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if event == "open" and arguments[1:2] == (None,) and _is_asked_by_package({__name__}) and Path(path).is_dir():
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _require_name(path, longest):
    """That Windows knows such a name, and no other that differs from it by case alone: of the two it would make one."""
    if not isinstance(path, str | os.PathLike) or not _is_asked_by_package():
        return
    whole = Path.cwd() / path
    if len(str(whole)) > longest:
        raise FileNotFoundError(errno.ENOENT, "The filename or extension is too long", str(path))
    if _NO_NAME.fullmatch(whole.name):
        raise OSError(errno.EINVAL, "The filename, directory name, or volume label syntax is incorrect", str(path))
    if not os.path.lexists(whole):
        others = _listdir(whole.parent) if whole.parent.is_dir() else []
        same = [other for other in others if other.casefold() == whole.name.casefold()]
        if same:
            raise FileExistsError(errno.EEXIST, f"is the same name as {same[0]}", str(path))
