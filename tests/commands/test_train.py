import json
import shutil
import sqlite3
from dataclasses import replace

import pytest
import torch
from PIL import Image

import headstart
from headstart.experiments.runs.recipe_experiment import list_recipe_experiments
from headstart.experiments.train_recipe import trained_recipe
from headstart.experiments.training.state.checkpoints import Checkpoints
from headstart.experiments.training.state.final_weights import read_final
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import FileSystem
from headstart.pipeline.worker import run_job
from headstart.pipeline.workspace import open_or_create_workspace
from tests.support import ROOT

from .calling import call

MINE = '''"""A line through points.

Mine.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import neighbour
from headstart.experiments.training.judging.metrics import gather, mean
from headstart.experiments.training.options import RecipeOptions, option
from headstart.experiments.training.data.sets import Arrays, Splits


@dataclass(frozen=True)
class Options(RecipeOptions):
    slope: float = option(2.0, "of the line")
    epochs: int = 2
    threads: int = 1


def data(options, workspace):
    x = np.linspace(-1, 1, 60, dtype=np.float32)[:, None]
    rows = Arrays(x=x, y=options.slope * x + neighbour.OFFSET)
    return Splits(rows, Arrays(x=x[::3], y=options.slope * x[::3] + neighbour.OFFSET))


def model(options, about):
    return nn.Linear(1, 1)


def loss(model, batch, step):
    return ((model(batch.x) - batch.y) ** 2).mean()


def evaluate(model, batches):
    yield mean("error", gather(batches, lambda batch: (model(batch.x) - batch.y).abs()[:, 0]), better="lower")
'''


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CONFIG", str(tmp_path / "configuration"))
    return tmp_path / "configuration"


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    (folder / "neighbour.py").write_text("OFFSET = 0.5\n")
    (folder / "unrelated.py").write_text("raise SystemExit(7)\n")
    return folder / "mine.py"


FOLLOWED = """from headstart.experiments.training.judging.metrics import Table
    yield Table("angles", 3.0, is_followed=True)
    yield mean"""


def train(root, *arguments):
    return call("train", *arguments, "-w", root / "workspace")


def test_tiny_is_trained_judged_and_written_down(tmp_path):
    done = train(tmp_path, "tiny", "--epochs", 4)
    assert done.status == 0, done.errors
    folder = tmp_path / "workspace" / "experiments" / "exp_0001_tiny"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.7
    low, high = metrics["test"]["accuracy_interval"]
    assert low < metrics["test"]["accuracy"] < high
    assert json.loads((folder / "test_results.json").read_text())["accuracy"] == metrics["test"]["accuracy"]
    assert len(json.loads((folder / "training_history.json").read_text())["entries"]) == 4
    assert "precision" in (folder / "classification_report.txt").read_text()
    with Image.open(folder / "figures" / "curves.png") as curves:
        assert curves.size == (2 * 560, 380)  # the loss, and the accuracy that it is judged by
    assert (folder / "recipe" / "tiny.py").read_bytes() == (ROOT / "experiments" / "recipes" / "tiny.py").read_bytes()
    rows = sqlite3.connect(tmp_path / "workspace" / "experiments" / "experiments.db").execute(
        "SELECT value FROM metrics WHERE split = 'test' AND metric = 'accuracy'"
    )
    assert rows.fetchall() == [(metrics["test"]["accuracy"],)]
    again = train(tmp_path, "tiny", "--epochs", 4)
    assert "exp_0001_tiny is finished" in again.errors
    judged = train(tmp_path, "tiny", "--epochs", 4, "--test-only", "--json")
    assert {name: value for name, value in judged.json.items() if name not in ("experiment", "split")} == metrics["test"]
    assert "warning" not in judged.errors


def test_float16_is_no_matter_of_the_device_for_a_network_without_lstm(tmp_path):
    done = train(tmp_path, "tiny", "--epochs", 1, "--amp", "float16", "--device", "cpu")
    assert done.status == 0, done.errors


def test_what_a_limit_of_time_left_is_gone_on_with_by_the_same_command(tmp_path):
    left = train(tmp_path, "tiny", "--epochs", 12, "--time-limit", "0s")  # no machine is too fast for it
    assert left.status == 10
    assert "left; the same command goes on" in left.errors
    done = train(tmp_path, "tiny", "--epochs", 12)
    assert done.status == 0
    assert "goes on with exp_0001_tiny" in done.errors


def _begun_by_an_earlier_version(folder, progress):
    """It noted the device in the description alone, and as part of what the training is."""
    del progress["device"]
    begun = next(iter(list_recipe_experiments(open_or_create_workspace(folder.parent.parent))))
    (folder / "experiment.json").write_bytes(replace(begun, device="cuda").encode())
    return replace(begun, device="cuda").identity


def _begun_on_a_gpu(folder, progress):
    progress["device"] = "cuda"


@pytest.mark.parametrize("begun", [_begun_on_a_gpu, _begun_by_an_earlier_version])
@pytest.mark.parametrize("command", [("train", "tiny", "--epochs", "3"), ("work",), ("work", "--device", "cpu")], ids=" ".join)
def test_a_training_begun_on_a_gpu_goes_on_without_one_and_its_record_says_since_when(command, begun, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words = ("tiny", "--epochs", "3")
    assert train(tmp_path / "undisturbed", *words).status == 0
    assert train(tmp_path, *words, "--time-limit", "0s").status == 10
    [folder] = (tmp_path / "workspace" / "experiments").glob("exp_*")
    [path] = (folder / "checkpoints").glob("step_*.pt")
    state = torch.load(path, weights_only=True)
    progress = json.loads(state["progress"])
    assert progress["device"] == "cpu"  # by which whoever goes on elsewhere knows
    identity = begun(folder, progress) or state["identity"]
    path.unlink()
    state["progress"] = json.dumps(progress)
    del state["identity"]
    Checkpoints(folder / "checkpoints", FileSystem()).keep(progress["step"], identity, state)

    done = call(*command, "-w", tmp_path / "workspace")
    assert done.status == 0, done.errors
    assert "goes on on cpu, on cuda before: the same training, other last digits" in done.errors
    assert [one.folder.name for one in list_recipe_experiments(open_or_create_workspace(tmp_path / "workspace"))] == [folder.name]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["device"] == "cpu"
    [note] = metrics["notes"]
    assert note.startswith(f"on cpu from step {progress['step']} on, on cuda before")
    [whole] = (tmp_path / "undisturbed" / "workspace" / "experiments").glob("exp_*")
    # No GPU had a hand in it, so the bits are those of a CPU.
    weights, expected = (read_final(place / "checkpoints" / "final.safetensors").weights for place in (folder, whole))
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert "is finished" in train(tmp_path, *words).errors


def test_a_lost_file_is_made_again_with_the_same_bytes(tmp_path):
    train(tmp_path, "tiny", "--epochs", 1)
    path = tmp_path / "workspace" / "experiments" / "exp_0001_tiny" / "checkpoints" / "final.safetensors"
    before = path.read_bytes()
    path.unlink()
    assert "lost checkpoints/final.safetensors; it is made again" in train(tmp_path, "tiny", "--epochs", 1).errors
    assert path.read_bytes() == before


def test_other_options_are_another_experiment(tmp_path):
    for words in (("--epochs", 1), ("--epochs", 1, "--hidden", 8), ("--epochs", 1, "--seed", 1)):
        assert train(tmp_path, "tiny", *words).status == 0
    assert len(list_recipe_experiments(open_or_create_workspace(tmp_path / "workspace"))) == 3


def test_flags_go_before_the_file_and_the_file_before_the_recipe(tmp_path):
    (tmp_path / "c.yaml").write_text("epochs: 9\nlearning_rate: 1e-2\nhidden: 8\n")
    assert train(tmp_path, "tiny", "--config", tmp_path / "c.yaml", "--epochs", 1).status == 0
    [experiment] = list_recipe_experiments(open_or_create_workspace(tmp_path / "workspace"))
    assert [experiment.values[name] for name in ("epochs", "learning_rate", "hidden", "batch_size")] == [1, 0.01, 8, 64]


PRESETS = """class Options(RecipeOptions):
    PRESETS = {"steep": {"slope": 8.0, "epochs": 1, "judge_start": True}, "flat": {"slope": 0.5}}
"""


@pytest.fixture
def preset(mine):
    """A recipe with presets."""
    mine.write_text(mine.read_text().replace("class Options(RecipeOptions):\n", PRESETS))
    return mine


@pytest.mark.parametrize(
    ("content", "flags", "expected"),
    [
        pytest.param("", ("--preset", "steep"), [8.0, 1, 64], id="a flag"),
        pytest.param("preset: steep\nepochs: 1", (), [8.0, 1, 64], id="a file"),
        pytest.param("preset: steep", ("--preset", "flat", "--epochs", 1), [0.5, 1, 64], id="a flag before the file's"),
        pytest.param("slope: 3\nbatch-size: 30", ("--preset", "steep"), [3.0, 1, 30], id="options of a file before the preset"),
        pytest.param("", ("--slope", 3, "--preset", "steep"), [3.0, 1, 64], id="flags before it"),
    ],
)
def test_a_preset_is_what_options_begin_from_and_is_recorded_as_plain_values(content, flags, expected, preset, tmp_path):
    (tmp_path / "c.yaml").write_text(content)
    done = train(tmp_path, preset, "--config", tmp_path / "c.yaml", *flags)
    assert done.status == 0, done.errors
    [experiment] = list_recipe_experiments(open_or_create_workspace(tmp_path / "workspace"))
    assert [experiment.values[name] for name in ("slope", "epochs", "batch_size")] == expected
    assert "preset" not in experiment.values


def test_a_preset_and_the_options_that_it_stands_for_are_the_same_training(preset, tmp_path):
    assert train(tmp_path, preset, "--preset", "steep").status == 0
    assert "exp_0001_mine is finished" in train(tmp_path, preset, "--slope", 8, "--epochs", 1, "--judge-start").errors
    ours = headstart.train_recipe(str(preset), {"preset": "steep"}, tmp_path / "workspace")
    assert ours.experiment.folder.name == "exp_0001_mine"


def test_help_and_refusals_say_what_presets_there_are(preset, tmp_path):
    said = "".join(train(tmp_path, preset, "--help").output.split())  # lines are broken at hyphens, too
    assert "steep:--slope8.0--epochs1--judge-start;flat:--slope0.5." in said
    assert "'steep', 'flat'" in train(tmp_path, preset, "--preset", "huge").errors
    (tmp_path / "c.yaml").write_text("preset: huge")
    assert train(tmp_path, preset, "--config", tmp_path / "c.yaml").reason == (
        f"{tmp_path / 'c.yaml'}: preset is 'huge', expected one of steep, flat"
    )
    assert "--preset" not in train(tmp_path, "tiny", "--help").output


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param("epochs: 2\nepochs: 3\n", "says 'epochs' in line 1 and again in line 2", id="a key twice"),
        pytest.param("epcohs: 2\n", "unknown option 'epcohs'; did you mean 'epochs'?", id="an unknown key"),
        pytest.param("epochs: 2\nbatch: 32\n", "unknown option 'batch'; did you mean 'batch_size'?", id="an older version's key"),
        pytest.param("epochs: 2\nlr: 0.1\n", "unknown option 'lr'; known are hidden, epochs,", id="an older version's short key"),
        pytest.param("- epochs\n", "is a list, expected lines such as 'epochs: 20'", id="a list"),
        pytest.param("epochs: [\n", "is no YAML in line 2", id="no YAML"),
        pytest.param("epochs: many\n", "epochs is 'many', expected a whole number", id="a word for a number"),
        pytest.param("epochs: 0\n", "epochs is 0, expected 1 or more", id="out of bounds"),
        pytest.param("optimizer: lion\n", "optimizer is 'lion', expected one of adamw, adam, sgd", id="no such choice"),
        pytest.param("learning_rate: .nan\n", "learning_rate is nan, expected a finite number", id="no number"),
        pytest.param("hidden: !!python/object/apply:os.system [id]\n", "is no YAML in line 1", id="code"),
    ],
)
def test_a_bad_file_of_options_is_one_line(content, reason, tmp_path):
    (tmp_path / "c.yaml").write_text(content)
    done = train(tmp_path, "tiny", "--config", tmp_path / "c.yaml")
    assert done.status == 1
    assert "c.yaml" in done.reason
    assert reason in done.reason
    assert not (tmp_path / "workspace" / "experiments").exists()


def test_an_unknown_recipe_gets_the_nearest_name(tmp_path):
    assert "there is no recipe 'tinny'; did you mean 'tiny'?" in train(tmp_path, "tinny").reason
    assert "missing.py: there is no such file" in train(tmp_path, "missing.py").reason


def test_a_recipe_from_a_file_is_trained_and_kept_with_the_neighbours_that_it_imports(mine, tmp_path):
    done = train(tmp_path, mine)
    assert done.status == 0, done.errors
    folder = tmp_path / "workspace" / "experiments" / "exp_0001_mine"
    assert sorted(path.name for path in (folder / "recipe").iterdir()) == ["mine.py", "neighbour.py"]


def begun_and_left(mine, root):
    assert "left;" in train(root, mine, "--time-limit", "0s", "--epochs", "40", "--save-every", 1).errors
    [experiment] = list_recipe_experiments(open_or_create_workspace(root / "workspace"))
    return experiment


def test_a_file_that_was_not_allowed_here_is_left_by_work_with_one_line_that_names_the_command(mine, configuration, tmp_path):
    experiment = begun_and_left(mine, tmp_path)
    shutil.rmtree(configuration)
    left = call("work", "-w", tmp_path / "workspace")
    assert f"headstart allow {experiment.recipe_file}" in left.errors
    assert not experiment.final_weights.exists()
    assert call("allow", experiment.recipe_file).status == 0
    assert call("work", "-w", tmp_path / "workspace").status == 0
    assert experiment.final_weights.exists()


def test_whoever_changes_the_kept_source_is_not_taken_for_its_author(mine, tmp_path):
    experiment = begun_and_left(mine, tmp_path)
    with (experiment.folder / "recipe" / "neighbour.py").open("a") as file:
        file.write("print('other code')\n")
    left = call("work", "-w", tmp_path / "workspace")
    assert "is missing or was changed" in left.errors
    assert "other code" not in left.output


def test_a_changed_file_is_another_experiment_and_the_old_one_is_finished_with_its_own_source(mine, tmp_path):
    old = begun_and_left(mine, tmp_path)
    (mine.parent / "neighbour.py").write_text("OFFSET = 0.25\n")
    assert train(tmp_path, mine).status == 0
    workspace = open_or_create_workspace(tmp_path / "workspace")
    assert len(list_recipe_experiments(workspace)) == 2
    run_job(workspace, "job_000000")
    assert old.final_weights.exists()


def as_another_version_began_it(experiment, values):
    """Its description, sound, with other options; no step was made."""
    shutil.rmtree(experiment.checkpoints)
    path = experiment.folder / "experiment.json"
    path.write_bytes(replace(experiment, values=values).encode())


def test_an_option_that_only_another_version_has_is_one_line_and_nothing_is_trained_with_the_rest(mine, tmp_path):
    experiment = begun_and_left(mine, tmp_path)
    as_another_version_began_it(experiment, {**experiment.values, "momentums": 0.9})
    left = call("work", "-w", tmp_path / "workspace")
    assert "exp_0001_mine was begun by another version of Headstart, with an option 'momentums'" in left.errors
    assert not experiment.final_weights.exists()


def test_an_option_that_came_later_has_its_default(mine, tmp_path):
    experiment = begun_and_left(mine, tmp_path)
    as_another_version_began_it(experiment, {name: value for name, value in experiment.values.items() if name != "patience"})
    assert call("work", "-w", tmp_path / "workspace").status == 0
    assert experiment.final_weights.exists()


CHANGING = """def data(options, workspace):
    whole = Arrays(x=np.zeros((60, 1), np.float32), y=np.zeros((60, 1), np.float32))
    return Splits(Changing(), whole)


class Changing:
    digest = "changing"

    def __len__(self):
        return 60

    def batch(self, rows, key):
        columns = 1 if rows.min() < 5 else 2
        return Batch({"x": torch.zeros(len(rows), columns), "y": torch.zeros(len(rows), 1)})


def rest("""
UNEQUAL = """def data(options, workspace):
    rows = Items(60, lambda row, key: {"x": torch.zeros(1 + (row == 59)), "y": torch.zeros(1)}, "unequal")
    return Splits(rows, rows)


def rest("""


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize(
    ("data", "batch_size", "reason"),
    [
        pytest.param(UNEQUAL, 60, "items have 'x' of different shapes ((1,), (2,)) and make no batch. Resize or pad", id="rows"),
        pytest.param(CHANGING, 3, "the recipe's loss() failed: RuntimeError: mat1 and mat2 shapes", id="batches"),
    ],
)
def test_shapes_that_change_are_one_line_and_the_states_before_stay(data, batch_size, reason, workers, mine, tmp_path):
    source = mine.read_text().replace("def data(", data).replace("import Arrays, Splits", "import Arrays, Items, Splits")
    mine.write_text(
        source.replace("import neighbour", "import neighbour\nfrom headstart.experiments.training.data.batch import Batch")
    )
    done = train(tmp_path, mine, "--batch-size", batch_size, "--data-workers", workers, "--save-every", 1, "--epochs", 3)
    assert done.status == 1
    last = done.errors.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert reason in last
    assert "Traceback" not in done.errors


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        pytest.param(
            "return nn.Linear(1, 1)", "return nn.Linear(1)", "the recipe's model() failed: TypeError", id="model raises"
        ),
        pytest.param(
            "import neighbour\n", "import nothing_of_that_name\n", "cannot be loaded: ModuleNotFoundError", id="an import"
        ),
        pytest.param("def loss(", "def losss(", "has no function loss", id="a function is missing"),
        pytest.param("** 2).mean()", "** 2)", "loss() returned (60, 1), expected one number", id="a loss for each row"),
        pytest.param("return ((model", "return 0 * torch.nan + ((model", "the loss is nan for 10 steps in a row", id="NaN"),
        pytest.param("return nn.Linear(1, 1)", "return nn.Identity()", "the model has no weight to train", id="no weights"),
        pytest.param("y=options.slope * x +", "y=x[1:] +", "columns of different lengths", id="lengths"),
        pytest.param("x[::3], y=options.slope * x[::3]", "x[:0], y=x[:0]", "split 'val' of the data is empty", id="empty split"),
        pytest.param("yield mean", "return\n    yield mean", "evaluate() yields no Metric", id="no metric"),
        pytest.param("yield mean", FOLLOWED, "the recipe's evaluate() failed: AttributeError", id="what is followed is no table"),
        pytest.param("option(2.0", "option({}", "", id="a default that is no number"),
        pytest.param("slope: float", "slope: list", "option slope is of type <class 'list'>", id="a type that is no flag"),
        pytest.param("batch.y)", "batch.z)", "AttributeError: a batch has no 'z', it has x, y (line", id="a column"),
        pytest.param(
            "slope: float", "PRESETS = ['fast']\n    slope: float", "PRESETS is ['fast'], expected", id="presets that are none"
        ),
        pytest.param(
            "slope: float",
            "PRESETS = {'fast': {'epoch': 1}}\n    slope: float",
            "preset fast: unknown option 'epoch'; did you mean 'epochs'?",
            id="a preset of an option that is none",
        ),
        pytest.param(
            "slope: float",
            "PRESETS = {'fast': {}}\n    preset: str = ''\n    slope: float",
            "an option called preset does not go with PRESETS",
            id="an option called preset",
        ),
        pytest.param("def model(", "def model(:", "cannot be loaded: SyntaxError", id="no Python"),
    ],
)
def test_a_recipe_that_is_wrong_is_one_line(before, after, reason, mine, tmp_path):
    source = mine.read_text()
    assert before in source
    mine.write_text(source.replace(before, after))
    done = train(tmp_path, mine, "--epochs", 20, "--batch-size", 60)
    assert done.status == 1
    assert reason in done.errors
    assert done.errors.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.errors


def test_a_training_by_a_call_is_that_of_the_command(tmp_path, mine):
    heard = []
    workspace = tmp_path / "workspace"
    ours = headstart.train_recipe(str(mine), {"slope": 3.0}, workspace, report=heard.append)
    assert (ours.is_finished, ours.exit_code, heard) == (True, 0, ["exp_0001_mine: 60 train, 20 val rows"])
    again = train(tmp_path, mine, "--slope", 3)
    assert again.status == 0
    assert "exp_0001_mine is finished" in again.errors
    assert trained_recipe(str(mine), {"slope": 3.0}, workspace) == ours.experiment
    with pytest.raises(HeadstartError, match="nothing was trained with these options"):
        trained_recipe(str(mine), {"slope": 4.0}, workspace)
