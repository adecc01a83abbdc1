"""`train-head --quantum`: the recipe quantum by another name."""

import numpy as np
import pytest
from PIL import Image

from tests.commands.calling import call


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    root = tmp_path_factory.mktemp("quantum-head")
    draw = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = np.clip(draw.normal(level, 30, (36, 36, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "photos" / name / f"{number:02}.png")
    assert call("enqueue", root / "photos", "--weights", "embedded", "-w", root / "w").status == 0
    assert call("work", "-w", root / "w").status == 0
    return root / "w"


def test_three_heads_are_trained_and_the_same_command_trains_nothing(extracted):
    words = ("train-head", "--quantum", 2, "--layers", 1, "--epochs", 2, "--json", "-w", extracted)
    first = call(*words)
    assert first.status == 0, first.errors
    assert [head["head"] for head in first.json["test"]["heads"]] == ["quantum", "classical", "linear"]
    again = call(*words)
    assert again.json == first.json
    assert len(list((extracted / "experiments").glob("exp_*"))) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--hidden", "64"), "--hidden does not go with --quantum"),
        (("--ablation",), "--ablation does not go with --quantum"),
        (("--preset", "mlp"), "--preset does not go with --quantum"),
        (("--no-amp",), "--amp does not go with --quantum"),
        (("--batch-norm",), "--batch-norm does not go with --quantum"),
    ],
    ids=["hidden", "ablation", "preset", "no amp", "batch norm"],
)
def test_options_of_other_heads_do_not_go_with_it(extracted, words, why):
    done = call("train-head", "--quantum", 2, *words, "-w", extracted)
    assert done.status == 2
    assert why in done.errors
