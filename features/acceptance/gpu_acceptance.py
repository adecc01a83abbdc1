"""Whether the GPU path does what is promised, tried on a real GPU: `headstart doctor --gpu`.

Extraction, heads and a training run as their users run them, as commands in a folder of their own; what they hold is what markers
and NVML say. Each check is a function of a `Scene`, so that tests can stand in for the device.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.devices import cores
from headstart.features.encoders.runtime import Encoder, open_encoder
from headstart.features.encoders.similarity import cosines
from headstart.features.extraction.batching import Batching
from headstart.features.extraction.vram_budget import DEFAULT_BUDGET
from headstart.features.planning.machine import NOTE, OK, WRONG
from headstart.features.store.load import load_features
from headstart.pipeline import paths
from headstart.pipeline.doors import python, reading
from headstart.pipeline.doors.records import read_record
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, reason_of, size_words

_WHOLE = 10**15  # a budget that no GPU fills
_LEAST_COSINE = 0.999  # of features on the GPU and on the CPU
_LEAST_DECODED = 0.98  # where the JPEG decoder and the scaling are others, too
_KILL_WITHIN_S = 120.0
_LOOK_S = 0.02
_LEAST_BUSY = 0.9
_WARM_UP = 4  # batches
_BATCHES = 40


@dataclass(frozen=True)
class GpuLine:
    """A line of the table.

    Attributes:
        state: ok, note where it could not be tried, wrong.
    """

    check: str
    wanted: str
    measured: str
    state: str

    def as_json(self) -> dict[str, str]:
        return {"check": self.check, "wanted": self.wanted, "measured": self.measured, "state": self.state}


def run_headstart(words: Sequence[str]) -> str:
    """Runs a command to its end, and returns what it said. Raises: HeadstartError with what it said last, if it fails."""
    done = python.run(_command(words), capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = (done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["nothing"])[-1]
        raise HeadstartError(f"headstart {words[0]} exited with {done.returncode}: {said}")
    return f"{done.stdout}{done.stderr}"


def begin_headstart(words: Sequence[str]) -> Any:
    """A command that runs, and says nothing here."""
    return python.start(_command(words), stdout=DEVNULL, stderr=DEVNULL)


def _command(words: Sequence[str]) -> list[str]:
    return python.module_command("headstart.cli", *words)


def _open_on_gpu(folder: Path) -> Encoder:
    return open_encoder(folder, "cuda")


@dataclass(frozen=True)
class Scene:
    """Where and on what it is tried.

    Attributes:
        folder: empty; workspaces and photos are made in it.
        device: as `--device` takes it.
        budget: bytes of `--vram-budget`.
        photos: how many are drawn. encoder: a name, with random weights; size: its images' edge in pixels.
        run: runs a command to its end. begin: begins one, which is then killed.
        encoder_in: an encoder's folder on the device.
    """

    folder: Path
    device: str = "cuda"
    budget: int = DEFAULT_BUDGET
    photos: int = 1536
    encoder: str = "efficientnet_b0"
    size: int = 224
    run: Callable[[Sequence[str]], str] = run_headstart
    begin: Callable[[Sequence[str]], Any] = begin_headstart
    encoder_in: Callable[[Path], Encoder] = _open_on_gpu

    @property
    def images(self) -> Path:
        return self.folder / "photos"


def accept_gpu(scene: Scene, report: Callable[[str], None] = lambda text: None) -> Iterator[GpuLine]:
    """A line a check, as soon as it is known; what a check raises is a line that is wrong, and the next one goes on."""
    draw_photos(scene.images, scene.photos)
    for check in CHECKS:
        report((check.__doc__ or "").partition(".")[0])
        try:
            yield from check(scene)
        except (HeadstartError, OSError, ValueError, RuntimeError) as error:
            yield GpuLine(check.__name__.removeprefix("check_").replace("_", " "), "it runs", reason_of(error), WRONG)


def draw_photos(folder: Path, count: int) -> None:
    """JPEGs of three classes that a head can tell apart, and not all of one size."""
    from PIL import Image

    for number in range(count):
        random = np.random.Generator(np.random.Philox(number))
        kind = number % 3
        edge = int(random.integers(256, 512))
        rough = random.integers(0, 256, (4 * 2**kind, 4 * 2**kind, 3), np.uint8)
        path = folder / "abc"[kind] / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rough).resize((edge, 384), Image.Resampling.BICUBIC).save(path, quality=88)


def check_extraction(scene: Scene) -> Iterator[GpuLine]:
    """Extraction within the budget, then with the whole GPU."""
    rates = {}
    for name, budget in (("capped", scene.budget), ("whole", _WHOLE)):
        root = _extracted(scene, name, ["--vram-budget", f"{budget // 1000}KB"])
        facts = _marker_facts(root)
        rates[name] = _rate(facts[1:])
        if name == "capped":
            yield _within_budget([each["facts"] for each in facts], scene.budget)
            first = plural(facts[0]["items"], "image")
            yield GpuLine("start", "measured", f"the first job, of {first}, took {facts[0]['facts']['seconds']:.1f} s", OK)
    ratio = rates["capped"] / rates["whole"]
    measured = f"{rates['capped']:,.0f} images/s within the budget, {rates['whole']:,.0f} without one ({ratio:.2f})"
    yield GpuLine("what the budget costs", "measured", measured, OK)


def _within_budget(facts: Sequence[Mapping[str, Any]], budget: int) -> GpuLine:
    wanted = f"the process holds at most {size_words(budget)}"
    held = [each["vram_process_bytes"] for each in facts if each.get("vram_process_bytes") is not None]
    reserved = max((each.get("peak_vram_reserved_bytes") or 0 for each in facts), default=0)
    cap = min((each.get("vram_cap_bytes") or 0 for each in facts), default=0)
    state = OK if 0 < reserved <= cap and max(held, default=0) <= budget else WRONG
    by_nvml = f"{size_words(max(held))} by NVML" if held else "NVML does not say here"
    return GpuLine("memory", wanted, f"{by_nvml}; allocator at most {size_words(reserved)} of {size_words(cap)}", state)


def check_waiting(scene: Scene) -> Iterator[GpuLine]:
    """How much of the time the GPU waits for images."""
    facts = _marker_facts(scene.folder / "whole")[1:]
    rate = _rate(facts)
    encoder = scene.encoder_in(_encoder_folder(scene.folder / "whole"))
    try:
        alone = _rate_alone(encoder, int(facts[0]["facts"]["batch_size"]))
    finally:
        encoder.close()
    ratio = rate / alone
    measured = f"{rate:,.0f} of {alone:,.0f} images/s ({ratio:.2f}), decoded on {plural(cores(), 'core')}"
    wanted = f"at least {_LEAST_BUSY:.0%} of what the encoder does alone"
    # How fast images are decoded is the machine's, so falling short of it is no fault.
    yield GpuLine("extraction", wanted, measured, OK if ratio >= _LEAST_BUSY else NOTE)


def _rate_alone(encoder: Encoder, batch: int) -> float:
    """Images a second of an encoder that always has a batch at hand, fed as extraction feeds it."""
    random = np.random.Generator(np.random.Philox(0))
    images = random.integers(0, 256, (batch, *encoder.spec.transform.image_size, 3), np.uint8)
    with ThreadPoolExecutor(encoder.threads) as pool:
        list(pool.map(encoder.encode, [images] * _WARM_UP))
        begun = time.perf_counter()
        list(pool.map(encoder.encode, [images] * _BATCHES))
        return batch * _BATCHES / (time.perf_counter() - begun)


def check_halving(scene: Scene) -> Iterator[GpuLine]:
    """A batch that does not fit is halved."""
    encoder = scene.encoder_in(_encoder_folder(scene.folder / "capped"))
    batching = Batching(encoder, 256)
    try:
        memory = encoder.memory
        if memory is None:
            yield GpuLine("out of memory", "the batch is halved", "this encoder has no memory of its own to fill", NOTE)
            return
        random = np.random.Generator(np.random.Philox(0))
        memory.cap(_WHOLE)
        images = random.integers(0, 256, (256, *encoder.spec.transform.image_size, 3), np.uint8)
        alone = np.concatenate([encoder.encode(images[place : place + 1]) for place in range(8)])
        one = memory.peak_reserved_bytes()
        memory.forget()
        encoder.encode(images)
        whole = memory.peak_reserved_bytes()
        memory.forget()
        # Above what single images need, below what the whole batch took.
        memory.cap((one + whole) // 2)
        rows, kept = batching.encode(images, iter(range(len(images))), lambda: None)
        worst = float(cosines(rows[:8], alone).min())
        is_right = len(kept) == len(images) and batching.batch < len(images) and worst >= _LEAST_COSINE
        measured = f"{len(images)} images in batches of {batching.batch}, cosine to one at a time at least {worst:.5f}"
        yield GpuLine("out of memory", "the batch is halved, no image is lost", measured, OK if is_right else WRONG)
        memory.cap(_WHOLE)
    finally:
        batching.close()


def check_precision(scene: Scene) -> Iterator[GpuLine]:
    """Features on the GPU and in float32 on the CPU."""
    on_cpu = _extracted(scene, "on the cpu", [], "cpu")
    worst = _worst_cosine(_encoder_folder(on_cpu), _encoder_folder(scene.folder / "capped"))
    state = OK if worst >= _LEAST_COSINE else WRONG
    yield GpuLine("features", f"cosine to float32 on the CPU at least {_LEAST_COSINE}", f"at least {worst:.5f}", state)


def check_device_decode(scene: Scene) -> Iterator[GpuLine]:
    """JPEGs decoded on the GPU."""
    wanted = f"cosine to Pillow's at least {_LEAST_DECODED} on average"
    if find_spec("torchcodec") is None:
        yield GpuLine("device decode", wanted, "not tried: pip install 'headstart[device-decode]'", NOTE)
        return
    root = _extracted(scene, "decoded there", [], enqueue=["--device-decode"])
    mean = float(np.mean(_cosines_by_path(_encoder_folder(root), _encoder_folder(scene.folder / "capped"))))
    state = OK if mean >= _LEAST_DECODED else WRONG
    yield GpuLine("device decode", wanted, f"{mean:.4f}, {_rate(_marker_facts(root)[1:]):,.0f} images/s", state)


def check_heads_killed(scene: Scene) -> Iterator[GpuLine]:
    """Heads, killed and gone on with."""
    words = ["train-head", "--ablation", "--epochs", "200", "--batch-size", "32", "--device", scene.device, "--name", "accept"]
    yield _killed(scene, "heads", words)


def check_training_killed(scene: Scene) -> Iterator[GpuLine]:
    """A training, killed and gone on with."""
    words = ["train", "classify", str(scene.images), "--encoder", "resnet18", "--image-size", "64"]
    words += ["--epochs", "6", "--save-every", "5", "--device", scene.device, "--vram-budget", f"{scene.budget // 1000}KB"]
    yield _killed(scene, "training", [*words, "--name", "accept"])


CHECKS = (
    check_extraction,
    check_waiting,
    check_halving,
    check_precision,
    check_device_decode,
    check_heads_killed,
    check_training_killed,
)


def _killed(scene: Scene, name: str, words: Sequence[str]) -> GpuLine:
    """The same training twice: to its end at once, and killed with SIGKILL after a checkpoint and gone on with."""
    whole, broken = scene.folder / f"{name} whole", scene.folder / f"{name} killed"
    for root in (whole, broken):
        shutil.copytree(scene.folder / "capped", root)
    scene.run([*words, "-w", str(whole)])
    process = scene.begin([*words, "-w", str(broken)])
    end = time.monotonic() + _KILL_WITHIN_S
    try:
        while process.poll() is None and not _checkpoints(broken) and time.monotonic() < end:
            time.sleep(_LOOK_S)
    finally:
        was_running = process.poll() is None
        process.kill()
        process.wait()
    had_one = bool(_checkpoints(broken))
    scene.run([*words, "-w", str(broken)])
    ends = _results(whole), _results(broken)
    same = bool(ends[0]) and ends[0] == ends[1]
    when = "after a checkpoint" if had_one and was_running else "before its first checkpoint" if was_running else "too late"
    state = WRONG if not same else OK if was_running else NOTE
    equal = "equal" if same else "different"
    return GpuLine(f"{name} killed", "the same bits as unkilled", f"killed {when}; {plural(len(ends[0]), 'file')} {equal}", state)


def _checkpoints(root: Path) -> list[Path]:
    return list(paths.matching(root, "experiments/*/checkpoints/step_*"))


def _results(root: Path) -> dict[str, bytes]:
    """Weights that came out, by name; what else lies there says when things were."""
    written = [path for path in paths.matching(root, "experiments/*/checkpoints/*") if path.suffix in (".pt", ".safetensors")]
    return {path.name: reading.read(path, _WHOLE) for path in written if not path.name.startswith("step_")}


def _extracted(scene: Scene, name: str, options: Sequence[str], device: str | None = None, enqueue: Sequence[str] = ()) -> Path:
    root = scene.folder / name
    queued = scene.folder / " ".join(["queued", *enqueue])
    if not queued.exists():
        request = ["--encoder", scene.encoder, "--weights", "random:0", "--image-size", str(scene.size), *enqueue]
        scene.run(["enqueue", str(scene.images), *request, "-w", str(queued)])
    shutil.copytree(queued, root)
    said = scene.run(["work", "--device", device or scene.device, *options, "-w", str(root)])
    made = sum(each["ok"] for each in _marker_facts(root))
    if made != scene.photos:
        why = next((line.partition("failed: ")[2] for line in said.splitlines() if "failed: " in line), "it does not say why")
        raise HeadstartError(f"{made:,} of {plural(scene.photos, 'image')} have features after headstart work: {why}")
    return root


def _encoder_folder(root: Path) -> Path:
    [folder] = paths.folders(root / "features", "encoder_*")
    return folder


def _marker_facts(root: Path) -> list[dict[str, Any]]:
    markers = paths.matching(root, "features/encoder_*/done/*/*.done")
    return [dict(read_record(path, None)) for path in markers]


def _rate(facts: Sequence[Mapping[str, Any]]) -> float:
    """Images a second of jobs, by what their markers say; leave out the first one, which loads the kernels."""
    return float(sum(each["items"] for each in facts) / max(1e-9, sum(each["facts"]["seconds"] for each in facts)))


def _worst_cosine(one: Path, two: Path) -> float:
    return float(_cosines_by_path(one, two).min())


def _cosines_by_path(one: Path, two: Path) -> NDArray[np.float64]:
    left, right = load_features(one), load_features(two)
    if list(left.paths) != list(right.paths) or not len(left.paths):
        raise HeadstartError(f"{one.name} has features of {len(left.paths):,} images, {two.name} of {len(right.paths):,}")
    return cosines(left.features, right.features)
