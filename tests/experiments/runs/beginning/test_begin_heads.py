import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from headstart.experiments.config import BaselineOptions, HeadConfig, TrainingOptions
from headstart.experiments.runs.beginning.begin_heads import Request, begin_heads
from headstart.experiments.runs.experiment import METRICS
from headstart.experiments.runs.experiment_data import experiment_data
from headstart.experiments.runs.head_experiment import list_head_experiments, read_head_experiment
from headstart.features.store.packing import open_cache
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.kinds import known_kinds
from headstart.pipeline.queue import Reader
from tests.features.packed import Extracted

COUNT = 60


def features(first=0, count=COUNT):
    return np.random.default_rng(first).standard_normal((count, 4)).astype(np.float16)


@pytest.fixture
def extracted(workspace) -> Extracted:
    result = Extracted(workspace, job_size=16)
    splits = ["train"] * 36 + ["val"] * 12 + ["test"] * 12
    extra = {"score": [f"{i / COUNT}" for i in range(COUNT)], "size": [f"{i % 7}" for i in range(COUNT)]}
    result.add(features(), [f"class {i % 3}" for i in range(COUNT)], splits, extra=extra)
    return result


def request(extracted, **changes) -> Request:
    plain = Request(open_cache(extracted.folder), "classification", (), (), (HeadConfig(),), TrainingOptions(epochs=2))
    return replace(plain, **changes)


def add_more(extracted):
    names = [f"later_{i}.png" for i in range(16)]
    columns = {"score": ["0.5"] * 16, "size": ["1"] * 16}
    extracted.add(features(1, 16), ["class 0"] * 16, ["train"] * 16, extra=columns, names=names)


def test_an_experiment_is_read_back_as_it_was_begun(workspace, extracted):
    asked = request(extracted, targets=("score",), task="regression", auxiliary=("size",), name="first")
    begun = begin_heads(workspace, asked)
    assert begun.is_new
    assert begun.experiment.folder.name == "exp_0001_first"
    assert read_head_experiment(workspace, begun.experiment.folder) == begun.experiment
    assert list_head_experiments(workspace) == [begun.experiment]
    assert [head.weight_decay for head in begun.experiment.heads] == [head.decay for head in asked.heads]
    assert begun.experiment.counts == {"train": 36, "val": 12, "test": 12, "images": 60}
    [job] = [job for job in Reader(workspace, known_kinds()) if job.kind == "train_head"]
    assert job == begun.job
    found = experiment_data(workspace, begun.experiment)
    assert found.data.targets.names == ("score",)
    assert found.data.auxiliary is not None
    assert found.data.auxiliary_units is not None
    row = int(found.data.train[0])
    number = int(found.features.paths[row].removeprefix("image_").removesuffix(".png"))
    assert found.data.auxiliary_units.undo(found.data.auxiliary[row]).tolist() == pytest.approx([number % 7], abs=1e-6)
    assert found.data.targets.in_table(found.data.targets.values[row])[0] == pytest.approx(number / COUNT, abs=1e-6)


def test_the_same_again_finds_it_and_another_name_forks(workspace, extracted):
    first = begin_heads(workspace, request(extracted))
    again = begin_heads(workspace, request(extracted))
    assert (again.experiment, again.job, again.is_new) == (first.experiment, first.job, False)
    fork = begin_heads(workspace, request(extracted, name="fork"))
    assert fork.is_new
    assert fork.experiment.folder.name == "exp_0002_fork"
    assert fork.experiment.identity == first.experiment.identity


def test_one_that_was_never_finished_goes_on_with_the_rows_it_began_with(workspace, extracted):
    first = begin_heads(workspace, request(extracted)).experiment
    add_more(extracted)
    again = begin_heads(workspace, request(extracted))
    assert again.experiment == first
    assert len(experiment_data(workspace, first).features) == COUNT
    (first.folder / METRICS).write_text("{}")
    anew = begin_heads(workspace, request(extracted))
    assert anew.experiment.number == 2
    assert anew.experiment.counts["train"] == 52


CHANGES = {
    "epochs": (lambda asked: replace(asked, options=replace(asked.options, epochs=3)), "its epochs is 2, now 3"),
    "a head's option": (
        lambda asked: replace(asked, heads=(HeadConfig(mixup=0.1),)),
        "its mixup of head 'linear' is 0.0, now 0.1",
    ),
    "one more head": (
        lambda asked: replace(asked, heads=(*asked.heads, HeadConfig(name="b"))),
        "its number of heads is 1, now 2",
    ),
    "one more baseline": (lambda asked: replace(asked, baselines=BaselineOptions(True)), "its logistic is False, now True"),
    "folds": (lambda asked: replace(asked, baselines=BaselineOptions(folds=3)), "its folds is 0, now 3"),
    "an auxiliary column": (lambda asked: replace(asked, auxiliary=("size",)), "its auxiliary is"),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES)
def test_another_configuration_under_the_same_name_is_refused(workspace, extracted, change, said):
    begin_heads(workspace, request(extracted, name="mine"))
    with pytest.raises(HeadstartError, match=f"--name mine is taken by exp_0001_mine, which differs: {said}.*another --name"):
        begin_heads(workspace, change(request(extracted, name="mine")))
    assert begin_heads(workspace, change(request(extracted))).experiment.number == 2


def test_other_rows_under_the_name_of_a_finished_one_are_refused(workspace, extracted):
    first = begin_heads(workspace, request(extracted, name="mine")).experiment
    (first.folder / METRICS).write_text("{}")
    add_more(extracted)
    with pytest.raises(HeadstartError, match="learnt from 36 training images as they were then"):
        begin_heads(workspace, request(extracted, name="mine"))


def test_many_at_once_get_a_number_each_and_the_same_ones_share_it(workspace, extracted):
    asked = [request(extracted, name=f"n{i % 4}") for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(lambda one: begin_heads(workspace, one), asked))
    assert sorted({found.experiment.number for found in begun}) == [1, 2, 3, 4]
    assert sum(found.is_new for found in begun) == 4
    assert len([job for job in Reader(workspace, known_kinds()) if job.kind == "train_head"]) == 4


def test_a_row_that_the_queue_lost_comes_back(workspace, extracted):
    begun = begin_heads(workspace, request(extracted))
    lines = workspace.queue.read_text().splitlines(keepends=True)
    workspace.queue.write_text("".join(line for line in lines if "train_head" not in line))
    assert begin_heads(workspace, request(extracted)).job == begun.job


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        pytest.param(lambda text: text[: len(text) // 2], "is damaged", id="cut off"),
        pytest.param(lambda text: text.replace('"epochs": 2', '"epochs": 3'), "was changed after it was written", id="edited"),
        pytest.param(lambda text: text.replace('"format": 1', '"format": 2'), "pip install -U", id="newer"),
        pytest.param(lambda text: text.replace('"features/', '"../'), "is damaged", id="outside the workspace"),
        pytest.param(lambda text: "[]", "is damaged", id="no object"),
    ],
)
def test_a_harmed_description_is_refused_in_one_line(workspace, extracted, harm, said):
    folder = begin_heads(workspace, request(extracted)).experiment.folder
    path = folder / "experiment.json"
    path.write_text(harm(path.read_text()))
    with pytest.raises(HeadstartError, match=said) as error:
        read_head_experiment(workspace, folder)
    assert "\n" not in str(error.value)


def test_a_forged_description_writes_nothing_outside_its_folder(workspace, extracted):
    honest = begin_heads(workspace, request(extracted)).experiment
    forged = replace(honest, heads=(HeadConfig(name="../../../escaped"),))
    (honest.folder / "experiment.json").write_bytes(forged.encode())  # its identity fits
    with pytest.raises(HeadstartError, match=r"experiment.json is damaged .*a head is named '../../../escaped'"):
        read_head_experiment(workspace, honest.folder)


@pytest.mark.parametrize("left", [(), ("rows.bin",), ("rows.bin", ".tmp-x-1-1-1")], ids=["folder", "rows", "temporary"])
def test_what_was_killed_before_it_began_leaves_its_number(workspace, extracted, left):
    folder = workspace.experiments / "exp_0001_other"
    folder.mkdir(parents=True)
    for name in left:
        (folder / name).write_text("half")
    assert begin_heads(workspace, request(extracted)).experiment.number == 1
    assert not folder.exists()


def test_a_folder_whose_description_was_lost_is_left_alone(workspace, extracted):
    lost = begin_heads(workspace, request(extracted)).experiment.folder
    (lost / "experiment.json").unlink()
    (lost / "metrics.json").write_text("{}")
    assert begin_heads(workspace, request(extracted)).experiment.number == 2
    assert (lost / "rows.bin").exists()


def test_harmed_rows_are_refused(workspace, extracted):
    experiment = begin_heads(workspace, request(extracted)).experiment
    (experiment.folder / "rows.bin").write_bytes(b"")
    with pytest.raises(HeadstartError, match=r"rows.bin is missing or damaged"):
        experiment_data(workspace, experiment)


@pytest.mark.parametrize("name", ["", "../up", "a b", "a" * 61, ".hidden", "a/b"])
def test_a_name_that_is_no_folder_s_is_refused(workspace, extracted, name):
    with pytest.raises(HeadstartError, match="--name is"):
        begin_heads(workspace, request(extracted, name=name))


@pytest.mark.parametrize("name", ["best_head", "step_1", "a/b", "Linear"])
def test_a_head_s_name_that_is_no_file_s_is_refused(workspace, extracted, name):
    with pytest.raises(HeadstartError, match=r"a head is named|differ only in case"):
        begin_heads(workspace, request(extracted, heads=(HeadConfig(), HeadConfig(name=name))))


def test_the_description_holds_nothing_of_this_moment(workspace, extracted):
    facts = json.loads((begin_heads(workspace, request(extracted)).experiment.folder / "experiment.json").read_text())
    assert sorted(facts) == sorted(
        [
            "format",
            "name",
            "encoder",
            "fingerprint",
            "data",
            "dataset",
            "task",
            "targets",
            "auxiliary",
            "val_part",
            "heads",
            "options",
            "rows_sha256",
            "counts",
            "identity",
        ]
    )
