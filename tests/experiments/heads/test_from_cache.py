import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import headstart
from headstart.experiments.config import HeadConfig, TrainingOptions
from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.data.statistics import gather_statistics
from headstart.experiments.data.targets import class_targets
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.heads.trainer import train
from headstart.features.store.packing import open_cache
from headstart.pipeline.workspace import open_or_create_workspace
from tests.experiments.samples import clouds
from tests.features.packed import Extracted

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = TrainingOptions(epochs=2, batch_size=32)


@pytest.fixture
def extracted(tmp_path) -> Extracted:
    made = clouds()
    result = Extracted(open_or_create_workspace(tmp_path / "workspace"), embed_dim=12, job_size=64)
    splits = ["train"] * 240 + ["val"] * 80 + ["test"] * 80
    result.add(made.source.features, [made.targets.names[code] for code in made.targets.codes], splits)
    return result


def data_of(source, cached) -> TrainingData:
    train_rows, val_rows = (np.flatnonzero(cached.rows.split.is_(name)) for name in ("train", "val"))
    return TrainingData(source, class_targets(cached.labels, train_rows, [val_rows]), train_rows, val_rows)


def test_training_on_the_cache_gives_the_bits_of_training_in_memory(extracted):
    cached = open_cache(extracted.folder)
    in_memory = ArrayFeatures(cached.take(np.arange(len(cached))))
    heads = [HeadConfig(), HeadConfig(name="mlp", hidden=(16,), dropout=0.2)]
    from_disk, from_memory = (train(data_of(source, cached), heads, OPTIONS) for source in (cached, in_memory))
    assert [outcome.head.digest for outcome in from_disk] == [outcome.head.digest for outcome in from_memory]


def test_how_rows_lie_in_parts_changes_no_bit_of_a_head(extracted):
    digests, orders = set(), set()
    for part_bytes in (1 << 20, 3000):
        shutil.rmtree(extracted.folder / "cache", ignore_errors=True)
        cached = open_cache(extracted.folder, part_bytes)
        orders.add(cached.rows.parts)
        digests |= {outcome.head.digest for outcome in train(data_of(cached, cached), [HeadConfig()], OPTIONS)}
    assert [len(parts) > 1 for parts in sorted(orders, key=len)] == [False, True]
    assert len(digests) == 1


def test_statistics_come_from_the_cache_as_from_memory(extracted):
    cached = open_cache(extracted.folder)
    data = data_of(cached, cached)
    in_memory = ArrayFeatures(cached.take(np.arange(len(cached))))
    left, right = (gather_statistics(source, data.targets, {"train": data.train})["train"] for source in (cached, in_memory))
    assert np.allclose(left.about(right.shift).gram, right.gram, rtol=1e-5, atol=1e-3)


def test_the_names_of_notebooks_work_together(extracted):
    cached = headstart.load_cached_features(extracted.folder)
    outcome = headstart.train_head_only(cached, headstart.HeadConfig(learning_rate=0.05), options=OPTIONS)
    assert outcome.best_score > 0.5
    assert outcome.head.names == ("class 0", "class 1", "class 2")


def test_importing_what_commands_need_first_imports_nothing_heavy():
    modules = (
        "config runs.database training.schedule data.targets data.statistics linear.closed_form linear.cross_validation "
        "evaluation.metrics heads.trainer training.state.checkpoints heads.trained_head"
    )
    code = f"""
import sys
for name in "{modules}".split():
    __import__("headstart.experiments." + name)
heavy = {{"torch", "timm", "pandas", "h5py", "sklearn", "scipy", "PIL"}} & set(sys.modules)
sys.exit(", ".join(sorted(heavy)) or 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
