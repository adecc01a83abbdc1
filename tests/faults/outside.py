"""Every command under strace: no socket, nothing written outside, nothing opened but what belongs to it.

python -m tests.faults.outside

With an empty HOME that nobody may write to. Needs strace (`apt-get install strace`) and the right to trace.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .flips import write_photos

_LONGEST_S = 1800.0
ROOT = Path(__file__).resolve().parents[2]
_CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(\w+)\((.*)\) += +(-?\d+)")
_PATH = re.compile(r'(?:AT_FDCWD(?:<[^>]*>)?|\d+<([^>]*)>), "((?:[^"\\]|\\.)*)"|^"((?:[^"\\]|\\.)*)"')
_WRITES = {"mkdir", "mkdirat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"}
_WRITES |= {"rmdir", "creat", "truncate", "chmod", "fchmodat", "mknod", "mknodat", "utimensat"}
_OPENS = {"open", "openat", "openat2", "creat"}
# Packages and the system's own; a folder above a place that is meant may be opened to reach it.
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/sys", "/dev", "/opt", "/run", "/var/lib")
_FAMILIES = re.compile(r"AF_INET6?|AF_NETLINK|AF_PACKET")


@dataclass(frozen=True)
class Scene:
    """What one run may touch.

    Attributes:
        written: folders and files that may be written: workspace, temporary folder, named outputs.
        read: folders that may be read besides.
    """

    written: tuple[Path, ...]
    read: tuple[Path, ...]


def violations(lines: Sequence[str], scene: Scene, folder: Path) -> Iterator[str]:
    """What a trace shows beyond what is allowed. Args: folder: that relative paths are of."""
    for line in lines:
        match = _CALL.match(line)
        if match is None or int(match[3]) < 0:
            continue
        call, arguments = match[1], match[2]
        if call == "socket":
            if _FAMILIES.search(arguments):
                yield f"a socket: {line.strip()[:200]}"
            continue
        if call not in _OPENS | _WRITES:
            continue
        is_writing = call in _WRITES or bool(re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND", arguments))
        for path in _named(arguments, folder):
            if not is_writing and _is_below(path, (*scene.read, *scene.written)):
                continue
            if is_writing and (_is_below(path, scene.written) or path.startswith(("/dev/", "/proc/self/"))):
                continue
            if not is_writing and (
                _is_below(path, map(Path, _SYSTEM)) or any(_is_below(str(each), (Path(path),)) for each in scene.read)
            ):
                continue
            yield f"{'wrote' if is_writing else 'opened'} {path}: {line.strip()[:160]}"


def _named(arguments: str, folder: Path) -> Iterator[str]:
    for match in _PATH.finditer(arguments):
        base, below, alone = match[1], match[2], match[3]
        path = below if below is not None else alone
        yield os.path.normpath(Path(base or folder) / path)


def _is_below(path: str, folders: object) -> bool:
    return any(path == str(each) or path.startswith(f"{each}/") for each in folders)  # type: ignore[attr-defined]


OWN_FILE = '''"""Numbers."""

from dataclasses import dataclass

from headstart.experiments.training.options import CheckedOptions, option


@dataclass(frozen=True)
class Options(CheckedOptions):
    count: int = option(3, "how many", at_least=1)


def items(options):
    return options.count


def make(item, options):
    return {"number": str(item.number)}
'''
_BOUNDS = {
    "filter_speckle": 128,
    "color_precision": 8,
    "layer_difference": 255,
    "corner_threshold": 180,
    "length_threshold": 10,
    "max_iterations": 1000,
    "splice_threshold": 180,
    "path_precision": 16,
}


def write_given(data: Path) -> None:
    """What a user gives besides photos: a file of code, and results of an optimizer for each photo."""
    (data / "mine.py").write_text(OWN_FILE)
    results = [
        {"image": photo.name, "parameters": {name: most - number for name, most in _BOUNDS.items()}, "ssim": 0.9 - number / 10}
        for photo in sorted(data.glob("*.png"))
        for number in range(2)
    ]
    (data / "optimization_1.json").write_text(json.dumps(results))
    (data / "labels.csv").write_text("path,label\nlight00.png,dark\n")


def commands(photos: Path, workspace: Path, out: Path) -> list[tuple[str, ...]]:
    """Every command that can run without a network, in an order in which each has what it needs.

    A word `{recipe}` is the number of that recipe's run.
    """
    here, there = ("-w", str(workspace)), ("-w", str(out / "second"))
    encoder = ("--encoder", "test_resnet", "--weights", "random:0", "--image-size", "32")
    enqueue = ("enqueue", str(photos), *encoder, "--job-size", "8")
    data, table, doubts = photos.parent, str(out / "results.csv"), str(out / "doubts.csv")
    photo = str(data / "dark01.png")
    vectorized = ("--results", table, "--epochs", "2", "--device", "cpu")
    handwriting = ("--composed-lines", "24", "--rnn-size", "8", "--layers", "1", "--max-steps", "2", "--device", "cpu")
    quick = ("--epochs", "2", "--threads", "1", "--batch-size", "8", "--device", "cpu")
    endless = ("--epochs", "100000", "--threads", "1", "--name", "endless", "--device", "cpu")
    formats = ("parquet", "npz-per-image", "h5", "faiss", "tensorboard")
    return [
        ("plan", *enqueue[1:-2], *here),
        (*enqueue, "--dry-run", *here),
        (*enqueue, *here),
        (*enqueue, *here),
        (*enqueue, "--precision", "bfloat16", "--else-float32", *here),
        (*enqueue, "--precision", "int8", *here),
        ("work", "--device", "cpu", *here),
        (*enqueue, "--maps", "16,32", "--stages", "--image-stats", *there),
        ("work", "--device", "cpu", "--block", "4", *there),
        ("remove", "encoder", "test_resnet", "--yes", *there),
        ("doctor", *here),
        ("watch", "--once", *here),
        ("status", *here),
        ("status", "--disk", *here),
        ("status", "--failed", *here),
        ("verify", "--deep", "--repair", *here),
        ("retry", "--all", *here),
        ("train-head", "--epochs", "2", "--device", "cpu", *here),
        ("train", "classify", str(photos), *encoder[:2], *encoder[4:], *quick, *here),
        ("train", "finetune", "--head", "1", "--blocks", "1", *quick, *here),
        ("train", "--list"),
        ("runs", *here),
        ("runs", "show", "1", *here),
        ("runs", "compare", "1", "2", *here),
        ("evaluate", "1", *here),
        ("evaluate", "{classify}", *here),
        ("predict", photo, *here),
        ("predict", str(data), "--csv", *here),
        ("predict", photo, "--run", "{classify}", *here),
        *(
            ("export", "--run", "1", "--format", name, "-o", str(out / f"head.{name}"), *here)
            for name in ("onnx", "torchscript", "pt2")
        ),
        ("export", "--run", "1", "--with-encoder", "-o", str(out / "whole.onnx"), *here),
        ("report", "1", *here),
        ("report", "{classify}", *here),
        ("audit", "--corrections", doubts, *here),
        ("enqueue", "--labels", str(data / "labels.csv"), *here),
        *(("export-features", "--format", name, "-o", str(out / f"features-{name}"), *here) for name in formats),
        ("data", "list", *here),
        ("data", "show", "table", *here),
        ("data", "move", "table", str(photos), *here),
        ("evaluate", "1", "--csv", *here),
        ("runs", "--csv", *here),
        ("runs", "--rebuild", *here),
        ("ingest", str(data), "--images", str(data), "--out", table),
        ("train", "quality", *vectorized, *here),
        ("rank", photo, "--run", "{quality}", "--sets", "20", *here),
        ("train", "handwriting", *handwriting, *here),
        ("sample", "{handwriting}", "--text", "Hello", "-o", str(out / "lines"), *here),
        ("train", "recogniser", *handwriting, *here),
        ("allow", str(data / "mine.py")),
        ("make", str(data / "mine.py"), *here),
        (*enqueue, "--exif-rotate", *there),
        ("launch", "--on", "local", "--workers", "2", *there, "--", "--device", "cpu"),
        ("launch", "--on", "local", "--stop", *there),
        ("train", "tiny", *endless, "--time-limit", "5s", *here),
        ("pause", "endless", *here),
        ("pause", "endless", "--undo", *here),
        ("pause", "endless", "--cancel", *here),
        ("sync", str(out / "copy"), *here),
        ("sync", str(out / "copy"), "-w", str(out / "again")),
        ("demo", "--folder", str(out / "demo")),
        ("clean", "--yes", *here),
        ("remove", "run", "2", "--yes", *here),
        ("remove", "experiment", "endless", "--yes", *here),
        ("remove", "data", "table", "--yes", *here),
    ]


def _with_runs(words: Sequence[str], workspace: Path) -> list[str]:
    """`words` with the numbers of the runs that they name by their recipe."""
    from headstart.experiments.runs.catalog import list_runs
    from headstart.pipeline.workspace import open_workspace

    if not any(word.startswith("{") for word in words):
        return list(words)
    numbers = {f"{{{line.run.head}}}": str(line.run.run) for line in list_runs(open_workspace(workspace))}
    return [numbers.get(word, word) for word in words]


def run(only: Sequence[str] = ()) -> list[str]:
    """What was seen beyond what is allowed, a line each. Args: only: the first words of the commands that are looked at."""
    root = Path(tempfile.mkdtemp(prefix="headstart-outside-"))
    told = []
    try:
        photos = write_photos(root / "data")
        write_given(root / "data")
        workspace, home, out, temporary = root / "workspace", root / "home", root / "out", root / "tmp"
        for folder in (home, out, temporary):
            folder.mkdir()
        home.chmod(0o555)
        kept = ("PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS")
        environment = {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "HEADSTART_CONFIG": str(out / "configuration"),  # in which `allow` notes what may run
            "HEADSTART_CACHE": str(out / "cache"),  # in which encoders are kept that were exported
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        read = (photos.parent, ROOT, *{Path(place).resolve() for place in (sys.prefix, sys.base_prefix)}, Path(sys.prefix))
        scene = Scene((workspace, out, temporary), (*read, *map(Path, filter(os.path.isabs, sys.path))))
        for words in commands(photos, workspace, out):
            log = root / "trace"
            trace = ["strace", "-f", "-y", "-qq", "-s", "400", "-e", "trace=%file,%network", "-o", str(log)]
            if only and words[0] not in only:
                continue
            start = [sys.executable, str(ROOT / "cli.py"), *_with_runs(words, workspace)]
            try:
                done = subprocess.run(
                    [*trace, *start], cwd=out, env=environment, capture_output=True, text=True, check=False, timeout=_LONGEST_S
                )
            except subprocess.TimeoutExpired:
                told.append(f"{words[0]}: did not end within {_LONGEST_S:g} s")
                continue
            said = done.stderr.strip()
            if done.returncode not in (0, 1, 10) or "Traceback" in said or "Usage:" in said or said.startswith("bug"):
                told.append(f"{words[0]}: ended with {done.returncode}: {said[-300:]}")
            seen = dict.fromkeys(violations(log.read_text(errors="replace").splitlines(), scene, out))
            told += [f"{' '.join(words[:2])}: {line}" for line in seen]
            why = f" ({said.splitlines()[-1]})" if done.returncode and said else ""
            print(f"{' '.join(words[:2])}: exit {done.returncode}{why}, {len(seen)} violations", flush=True)
        told += [f"HOME has {name}" for name in os.listdir(home)]
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return told


def why_not() -> str:
    """Why it cannot run here, '' if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "this user may not trace"


def main() -> int:
    if reason := why_not():
        print(f"left out: {reason}")
        return 0
    told = run()
    for line in told:
        print(line)
    print(f"{len(told)} violations")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
