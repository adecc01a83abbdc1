"""1,280,000 x 1,280 float16 on disk: time of an epoch and anonymous memory, against the same rows in memory.

python -m benchmarks.heads_from_disk FOLDER [MILLIONS]: needs 3.3 GB of disk, and as much memory to compare. Files that were just
written or read lie in the page cache. Three heads of 100 classes, an epoch each, one way after the other. About 3 minutes on two
quiet cores.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from headstart.experiments.config import HeadConfig, TrainingOptions
from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.data.targets import Targets
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.heads.trainer import train
from headstart.features.store.cache_part import PackedShard, open_part, serialize_part
from headstart.features.store.cached_features import CachedFeatures, CachedRows, Codes
from headstart.pipeline.files import FileSystem
from headstart.pipeline.workspace import Workspace

from .synthetic import verdict

CHANNELS, PART_ROWS, CLASSES = 1280, 25_600, 100


def anonymous_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return float(status.partition("RssAnon:")[2].split()[0]) / 1024


def on_disk(folder: Path, rows: int) -> CachedFeatures:
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for number in range(rows // PART_ROWS):
        path = folder / f"part_{number:04d}.h5"
        if not path.exists():
            random = np.random.default_rng(number)
            features = random.standard_normal((PART_ROWS, CHANNELS), np.float32).astype(np.float16)
            shard = PackedShard(f"job_{number:06d}", "features/manifests/x/part", "0" * 64, PART_ROWS)
            path.write_bytes(serialize_part("f", [shard], features, np.arange(number * PART_ROWS, (number + 1) * PART_ROWS))[1])
        parts.append(open_part(path))
    none = Codes(("",), np.zeros(rows, np.int32))
    names = tuple(part.path.name for part in parts)
    every = np.arange(rows)
    found = CachedRows("f", "digest", names, every, ("x",), np.zeros(rows, np.int32), every, none, none, none, rows)
    return CachedFeatures(Workspace(folder, "0", FileSystem()), folder, found, tuple(parts))


def epoch(name: str, data: TrainingData, options: TrainingOptions) -> tuple[float, float]:
    """Seconds, and the most anonymous memory above what there was before, in MB."""
    before, begun, cpu = anonymous_mb(), time.perf_counter(), time.process_time()
    most = [before]
    train(data, [HeadConfig(name=f"linear {i}", learning_rate=1e-3 * (i + 1)) for i in range(3)], options,
          check=lambda: most.append(max(most.pop(), anonymous_mb())))  # fmt: skip
    seconds = time.perf_counter() - begun
    spent = time.process_time() - cpu
    rate = len(data.train) / seconds
    print(f"{name:24} {seconds:6.1f} s wall {spent:6.1f} s CPU, {rate:9,.0f} rows/s, +{most[0] - before:.0f} MB", flush=True)
    return seconds, most[0] - before


def main() -> None:
    rows = int(float((sys.argv[2:] or ["1.28"])[0]) * 1_000_000) // PART_ROWS * PART_ROWS
    import torch

    torch.zeros(1)
    cached = on_disk(Path(sys.argv[1]), rows)
    codes = np.random.default_rng(0).integers(0, CLASSES, rows)
    targets = Targets("classification", tuple(f"{i:03d}" for i in range(CLASSES)), codes, np.empty((rows, 0), np.float32))
    data = TrainingData(cached, targets, np.arange(rows - 5000), np.arange(rows - 5000, rows))
    options = TrainingOptions(epochs=1)
    by_rows, grown = epoch("mapped, by rows", data, options)
    by_blocks, grown_by_blocks = epoch("mapped, by blocks", data, replace(options, by_blocks=True))
    matrix = np.concatenate([part.features for part in cached.parts])
    source = ArrayFeatures(matrix)
    source.__dict__["digest"] = "digest"  # of 3.3 GB takes seconds that have nothing to do with training
    in_memory, _ = epoch("in memory, by rows", replace(data, source=source), options)
    print()
    verdict("anonymous memory above the imports, MB", max(grown, grown_by_blocks), 400, is_least=False)
    verdict("of the throughput in memory, %, by rows", 100 * in_memory / by_rows, 70)
    verdict("of the throughput in memory, %, by blocks", 100 * in_memory / by_blocks, 70)


if __name__ == "__main__":
    main()
