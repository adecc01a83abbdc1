"""Numbers in any unit and with any offset give the same scores and predictions."""

import csv

import numpy as np
import pytest

from headstart.pipeline.workspace import open_or_create_workspace
from tests.experiments.samples import clouds
from tests.features.packed import Extracted

from .calling import call

COUNT = 600
UNITS = {
    "bytes": (1e9, 0.0),
    "seconds since 1970": (1.0, 1.7e9),
    "tiny": (1e-9, 0.0),
    "huge": (1e37, 5e38),
    "below zero": (3.0, -1e6),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    made = clouds(COUNT)
    result = Extracted(open_or_create_workspace(tmp_path_factory.mktemp("units") / "workspace"), embed_dim=12, job_size=100)
    random = np.random.default_rng(0)
    score = made.source.features[:, 0].astype(float) + random.standard_normal(COUNT)
    beside = random.standard_normal(COUNT)
    columns = {"plain": score, "beside": beside}
    columns |= {f"score {name}": score * scale + offset for name, (scale, offset) in UNITS.items()}
    columns |= {f"beside {name}": beside * scale + offset for name, (scale, offset) in UNITS.items()}
    splits = ["train"] * 360 + ["val"] * 120 + ["test"] * 120
    extra = {name: [repr(float(value)) for value in values] for name, values in columns.items()}
    result.add(made.source.features, [made.targets.names[code] for code in made.targets.codes], splits, extra=extra)
    return result.workspace


def trained(workspace, *words):
    done = call("train-head", *words, "--epochs", "3", "--json", "-w", workspace.root)
    assert done.status == 0, done.errors
    found = done.json
    return {entry.get("head", entry.get("baseline")): entry["test"]["value"] for entry in (*found["heads"], *found["baselines"])}


@pytest.mark.parametrize("unit", UNITS)
def test_a_target_in_another_unit_is_learnt_as_well_and_said_in_that_unit(workspace, unit):
    plain = trained(workspace, "--task", "regression", "--target", "plain")
    other = trained(workspace, "--task", "regression", "--target", f"score {unit}")
    for name in ("linear", "ridge"):
        assert other[name] == pytest.approx(plain[name], abs=2e-5)
    run = max(line["run"] for line in call("runs", "--json", "-w", workspace.root).json["runs"] if line["head"] == "ridge")
    rows = list(csv.DictReader(call("evaluate", run, "--csv", "-w", workspace.root).output.splitlines()))
    scale, offset = UNITS[unit]
    said, true = (np.array([float(row[column]) for row in rows]) for column in (f"score {unit}", f"true_score {unit}"))
    assert np.corrcoef((said - offset) / scale, (true - offset) / scale)[0, 1] == pytest.approx(plain["ridge"], abs=2e-3)


@pytest.mark.parametrize("unit", UNITS)
def test_a_column_beside_the_features_in_another_unit_changes_no_score(workspace, unit):
    assert trained(workspace, "--aux", f"beside {unit}") == trained(workspace, "--aux", "beside")
