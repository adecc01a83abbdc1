"""A score that is flattered by scenes or copies in training stands beside the one that is not."""

import numpy as np
import pytest

from headstart.pipeline.workspace import open_or_create_workspace
from tests.features.packed import Extracted

from .training import record, run

COUNT = 240


def trained_on(tmp_path, names, groups=None):
    """Features tell a scene of 4 images, not a class: whoever has seen the scene knows its label."""
    random = np.random.default_rng(0)
    scenes = np.repeat(random.standard_normal((COUNT // 4, 16)), 4, axis=0)
    features = scenes + 0.05 * random.standard_normal((COUNT, 16))
    labels = [f"class {label}" for label in np.repeat(random.integers(0, 2, COUNT // 4), 4)]
    splits = ["train", "train", "val", "test"] * (COUNT // 4 - 10) + ["test"] * 40
    made = Extracted(open_or_create_workspace(tmp_path / "w"), embed_dim=16, job_size=COUNT)
    made.add(features, labels, splits, groups=groups, names=names)
    return made.workspace.root


SEEN = {
    "by names of bursts": ([f"IMG_{i // 4:04d}_{'abcd'[i % 4]}.png" for i in range(COUNT)], None),
    "by names of frames": ([f"clip{i // 4}_frame_{i % 4:04d}.png" for i in range(COUNT)], None),
    "by groups": ([f"{i:05d}.png" for i in range(COUNT)], [f"site {i // 4}" for i in range(COUNT)]),
}


@pytest.mark.parametrize(("names", "groups"), SEEN.values(), ids=SEEN)
def test_images_of_scenes_that_training_saw_are_left_out_of_a_second_score(tmp_path, names, groups):
    root = trained_on(tmp_path, names, groups)
    aware = record(root)["leak_aware"]
    assert (aware["left_out"], aware["images"]) == (COUNT // 4 - 10, 40)
    low, high = aware["accuracy_interval"]
    assert 0 <= low <= aware["accuracy"] <= high <= 1
    shown = run(root).stdout
    assert (
        f"{COUNT // 4 - 10} test images of {COUNT // 4 + 30}: a copy, the scene or the group is in training; on the other 40"
        in shown
    )


def test_where_no_scene_is_divided_there_is_one_score(tmp_path):
    root = trained_on(tmp_path, [f"IMG_{i:05d}.png" for i in range(COUNT)])
    assert "leak_aware" not in record(root)
