"""What this machine and a workspace offer to the work, line by line: each is well, worth knowing, or wrong with its fix.

Loads no torch, unless there may be a GPU: whether torch can use it is only known by asking torch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from headstart.features.accelerators import DeviceKind, likely_accelerators
from headstart.features.devices import cores
from headstart.pipeline.claims import live_workers, read_owner
from headstart.pipeline.drives import is_networked, kind_of_drive, seen_late
from headstart.pipeline.errors import ExplainedError
from headstart.pipeline.files import FileSystem, probe
from headstart.pipeline.liveness import is_alive
from headstart.pipeline.quarantine import names_in
from headstart.pipeline.status import quarantined_jobs, read_status, suspect_jobs
from headstart.pipeline.text import plural, printable, reason_of, size_words
from headstart.pipeline.workspace import Workspace, has_workspace, open_workspace

OK, NOTE, WRONG = "ok", "note", "wrong"
_LIBRARIES = ("torch", "timm", "onnxruntime", "numpy", "pillow", "pandas", "h5py", "scikit-learn", "safetensors")
_EXTRAS = {
    "pyarrow": ("Parquet tables", "pip install 'headstart[parquet]'"),
    "openvino": ("bfloat16 and int8 on a CPU", "pip install 'headstart[fast]'"),
    "torchcodec": ("decoding on a GPU", "pip install 'headstart[device-decode]'"),
    "tensorboard": ("TensorBoard", "pip install 'headstart[tensorboard]'"),
}
_LITTLE_MEMORY, _LITTLE_DISK = 2 * 10**9, 2 * 10**9


@dataclass(frozen=True)
class Checked:
    """Attributes:
    state: 'ok', 'note' where something is absent that not everybody needs, 'wrong' where work will fail or suffer.
    fix: what to do, '' where it is ok.
    """

    subject: str
    state: str
    text: str
    fix: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def examine_machine(root: Path) -> list[Checked]:
    """Every line, in the order in which trouble is best looked for. Whatever a check meets is said on its line: none raises.

    Args:
        root: the workspace; it need not be there.
    """
    checks: list[tuple[str, Callable[[], Iterator[Checked]]]] = [
        ("Python", _python),
        ("libraries", _libraries),
        ("extras", _extras),
        ("ONNX Runtime", _runtime),
        ("GPU", _gpu),
        ("cores", _cores),
        ("memory", _memory),
        ("temporary files", _temporary),
        ("weights cache", _weights),
    ]
    lines = [line for subject, check in checks for line in _safely(subject, check)]
    if not has_workspace(root):
        lines.append(Checked("workspace", NOTE, f"none at {printable(str(root))}", "headstart enqueue DATA makes one"))
        return [*lines, *(_safely("folder", lambda: _drive("folder", root, probe(root))) if root.is_dir() else [])]
    try:
        workspace = open_workspace(root)
    except ExplainedError as error:
        return [*lines, Checked("workspace", WRONG, f"{printable(str(root))} cannot be opened", str(error))]
    inside: list[tuple[str, Callable[[Workspace], Iterator[Checked]]]] = [
        ("workspace", _file_system),
        ("disk", _disk),
        ("workers", _workers),
        ("queue", _queue),
    ]
    for subject, look in inside:
        lines += _safely(subject, lambda look=look: look(workspace))  # type: ignore[misc]
    return lines


def _safely(subject: str, check: Callable[[], Iterator[Checked]]) -> list[Checked]:
    lines: list[Checked] = []
    try:
        lines += check()
    except Exception as error:  # a doctor that falls ill helps nobody
        lines.append(
            Checked(subject, WRONG, f"cannot be looked at: {type(error).__name__}: {reason_of(error)}", "mend what the line says")
        )
    return lines


def _python() -> Iterator[Checked]:
    words = f"{sys.version.split()[0]} on {sys.platform}"
    if sys.prefix == sys.base_prefix and "CONDA_PREFIX" not in os.environ:
        fix = "python3 -m venv .venv, and install there: other programs then keep their versions"
        yield Checked("Python", NOTE, f"{words}, not in a virtual environment", fix)
    else:
        yield Checked("Python", OK, f"{words}, in an environment of its own")
    if sys.getfilesystemencoding() != "utf-8":
        yield Checked("Python", WRONG, f"names of files are {sys.getfilesystemencoding()}", "export PYTHONUTF8=1")


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _libraries() -> Iterator[Checked]:
    versions = {library: _version(library) for library in _LIBRARIES}
    missing = [library for library, version in versions.items() if version is None]
    if missing:
        yield Checked("libraries", WRONG, f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    there = ", ".join(f"{library} {version}" for library, version in versions.items() if version is not None)
    yield Checked("libraries", OK, there)


def _extras() -> Iterator[Checked]:
    for library, (purpose, fix) in _EXTRAS.items():
        version = _version(library)
        if version is None:
            yield Checked("extras", NOTE, f"{purpose}: {library} is not installed", f"if you want it: {fix}")
        else:
            yield Checked("extras", OK, f"{purpose}: {library} {version}")


def _runtime() -> Iterator[Checked]:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if "CPUExecutionProvider" in available:
        yield Checked("ONNX Runtime", OK, f"{onnxruntime.__version__} runs encoders on the CPU")
    else:
        fix = "pip install --force-reinstall onnxruntime"
        yield Checked("ONNX Runtime", WRONG, f"{onnxruntime.__version__} has no CPU provider: {', '.join(available)}", fix)


def examine_gpu() -> list[Checked]:
    """What the driver and torch say of the GPUs; none of it raises."""
    return list(_safely("GPU", _gpu))


def _gpu() -> Iterator[Checked]:
    kinds = list(likely_accelerators())
    if not kinds:
        none = "no NVIDIA device, no torch that was built for a GPU of Apple or Intel"
        yield Checked("GPU", OK, f"{none}: everything runs on the CPU, encoders in ONNX Runtime")
    for kind in kinds:
        yield from _nvidia() if kind.name == "cuda" else _other_gpu(kind)


def _other_gpu(kind: DeviceKind) -> Iterator[Checked]:
    import torch

    memory = kind.memory(kind.name) if kind.count() else None
    if memory is None:
        fix = "pytorch.org, Get Started, says what driver or system it needs. Or go on without: --device cpu"
        yield Checked("GPU", NOTE, f"torch {torch.__version__} finds none to use as {kind.name}", fix)
    else:
        yield Checked("GPU", OK, f"torch {torch.__version__} uses it as {kind.name}, {size_words(memory.free_bytes())} free")


def _nvidia() -> Iterator[Checked]:
    import pynvml

    pynvml.nvmlInit()
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        for number in range(pynvml.nvmlDeviceGetCount()):
            device = pynvml.nvmlDeviceGetHandleByIndex(number)
            memory = pynvml.nvmlDeviceGetMemoryInfo(device)
            name = pynvml.nvmlDeviceGetName(device)
            yield Checked(
                "GPU", OK, f"{name}, driver {driver}, {size_words(int(memory.free))} of {size_words(int(memory.total))} free"
            )
    finally:
        pynvml.nvmlShutdown()
    import torch

    if torch.version.cuda is None:
        fix = "install a torch that was built with CUDA: pytorch.org, Get Started. Or go on without: --device cpu"
        yield Checked("GPU", WRONG, f"torch {torch.__version__} was built without CUDA and cannot use it", fix)
    elif not torch.cuda.is_available():
        fix = f"a driver for CUDA {torch.version.cuda} or newer, or a torch built for an older CUDA. Or go on with --device cpu"
        yield Checked("GPU", WRONG, f"torch {torch.__version__} for CUDA {torch.version.cuda} cannot use it", fix)
    else:
        yield Checked("GPU", OK, f"torch {torch.__version__} uses it through CUDA {torch.version.cuda}")


def _cores() -> Iterator[Checked]:
    usable, there = cores(), os.cpu_count() or 1
    if usable < there:
        yield Checked("cores", OK, f"{usable} of the machine's {there}: an affinity or a container's quota leaves no more")
    else:
        yield Checked("cores", OK, f"{usable}")


def _memory() -> Iterator[Checked]:
    import psutil

    memory = psutil.virtual_memory()
    limit = _container_limit()
    total = memory.total if limit is None else min(limit, memory.total)
    words = f"{size_words(memory.available)} available of {size_words(total)}"
    if limit is not None and limit < memory.total:
        words += ", which is what this container may take"
    if min(memory.available, total) < _LITTLE_MEMORY:
        yield Checked("memory", WRONG, words, "end other programs, or headstart work --ram-budget 1GB --batch-size 4")
    else:
        yield Checked("memory", OK, words)


def _container_limit() -> int | None:
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(name, encoding="ascii") as file:
            return int(file.read(30))
    return None


def _temporary() -> Iterator[Checked]:
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    words = f"{size_words(free)} free in {printable(str(folder))}"
    if free < _LITTLE_DISK:
        yield Checked("temporary files", WRONG, words, "free some, or export TMPDIR=DIR on a larger disk")
    else:
        yield Checked("temporary files", OK, words)


def _weights() -> Iterator[Checked]:
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    folder = Path(named) if named else Path(home) / "hub"
    models = sorted(path for path in folder.glob("models--*") if path.is_dir()) if folder.is_dir() else []
    words = f"{plural(len(models), 'model')} in {printable(str(folder))}"
    if os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "True", "ON", "YES"):
        yield Checked("weights cache", NOTE, f"{words}; HF_HUB_OFFLINE forbids more", "unset HF_HUB_OFFLINE, or --weights FILE")
    else:
        yield Checked("weights cache", OK, words if models else f"{words}: the first enqueue with --weights hub fetches one")


def _file_system(workspace: Workspace) -> Iterator[Checked]:
    noted, able = workspace.files, probe(workspace.root)
    if (noted.hard_links and not able.hard_links) or (noted.fsync and not able.fsync):
        fix = "it was made on another disk: copy it back there, or enqueue the data into a new workspace here"
        words = (
            f"{printable(str(workspace.root))} on {kind_of_drive(workspace.root)}: {_abilities(able)}, less than when it was made"
        )
        yield Checked("workspace", WRONG, words, fix)
    else:
        yield from _drive("workspace", workspace.root, able)


def _drive(subject: str, folder: Path, able: FileSystem) -> Iterator[Checked]:
    """What a folder can do, and what follows for a workspace in it."""
    kind = kind_of_drive(folder)
    late = seen_late(folder, kind)
    where = f"{printable(str(folder))} on {kind}"
    if is_networked(kind):
        fix = "works, and is slower; a local disk and headstart sync are faster"
        yield Checked(subject, NOTE, f"{where}: {_abilities(able)}", fix)
    else:
        yield Checked(subject, OK, f"{where}: {_abilities(able)}")
    if not able.fsync:
        fix = "headstart verify --deep after a power cut"
        yield Checked(subject, NOTE, "no durable writes: a power cut may cost the last jobs, a kill costs nothing", fix)
    if late:
        words = f"on {late}: other machines see changes late; two at once do the same jobs and may lose each other's rows"
        fix = (
            "let one machine at a time enqueue and work here; faster: a workspace on a local disk, and headstart sync to this one"
        )
        yield Checked(subject, NOTE, words, fix)


def _abilities(able: FileSystem) -> str:
    links = (
        "hard links" if able.hard_links else "no hard links (a kill in the moment of a claim holds that job up for two minutes)"
    )
    return f"{links}, {'durable writes' if able.fsync else 'no durable writes'}"


def _disk(workspace: Workspace) -> Iterator[Checked]:
    free = shutil.disk_usage(workspace.root).free
    words = f"{size_words(free)} free under the workspace"
    if free < _LITTLE_DISK:
        fix = "headstart status --disk says what takes how much, headstart clean frees what comes back by itself"
        yield Checked("disk", WRONG, words, fix)
    else:
        yield Checked("disk", OK, words)


def _workers(workspace: Workspace) -> Iterator[Checked]:
    live = live_workers(workspace)
    owners = [read_owner(workspace.workers / name) for name in sorted(names_in(workspace.workers))]
    dead = sum(owner is not None and is_alive(owner) is False for owner in owners)
    if dead:
        words = f"{plural(len(live), 'worker')} at work, {dead:,} died; whoever works next takes over what they held"
        yield Checked("workers", NOTE, words, "headstart work; headstart verify --deep --repair also sweeps what they left")
    else:
        yield Checked("workers", OK, f"{plural(len(live), 'worker')} at work, no claim of a dead one")


def _queue(workspace: Workspace) -> Iterator[Checked]:
    status = read_status(workspace)
    for problem in status.problems:
        yield Checked("queue", WRONG, "it has a problem", problem)
    quarantined, suspects = sum(1 for _ in quarantined_jobs(workspace)), sum(1 for _ in suspect_jobs(workspace))
    if quarantined:
        fix = "headstart status --failed says why; headstart retry tries again"
        yield Checked("queue", WRONG, f"{plural(quarantined, 'job')} quarantined", fix)
    if suspects:
        yield Checked("queue", NOTE, f"{plural(suspects, 'job')} ended workers", "the next worker tries their images one by one")
    if not status.problems and not quarantined:
        jobs = sum(tally.jobs for tally in status.folders.values())
        yield Checked("queue", OK, f"{jobs - status.remaining:,} of {plural(jobs, 'job')} done")
