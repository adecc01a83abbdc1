"""The recipe quality on results of a few images: trained, resumed, judged, ranked with and exported."""

import csv
import json

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from headstart.experiments.recipes import quality
from headstart.experiments.report.write_report import write_report
from headstart.experiments.runs.recipe_experiment import list_recipe_experiments
from headstart.experiments.serving import whole as whole_module
from headstart.experiments.serving.export import check_images
from headstart.experiments.serving.rank import rank_parameters, read_parameter_grid
from headstart.experiments.serving.recipe_run import example_of, exported_model, open_trained
from headstart.experiments.serving.whole import _rounded, export_whole
from headstart.experiments.training.data.batch import Facts
from headstart.features.encoders.saved import read_network
from headstart.features.encoders.spec import read_encoder
from headstart.features.encoders.torch_encoder import open_torch
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_workspace
from tests.commands.calling import call
from tests.support import killed_at_an_epoch

from .on_fake_gpu import ends_as_on_the_cpu

QUICK = ("--aux", "a,b", "--hidden", "16", "--dropout", "0.1", "--trees", 20, "--epochs", 6, "--folds", 3, "--threads", 1)
IMAGES, EACH = 30, 8


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CONFIG", str(tmp_path / "configuration"))


def results(folder, name="results.csv"):
    """What comes out is better for bright images and a large `a`; `b` does nothing."""
    draw = np.random.default_rng(0)
    with open(folder / name, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "logo_type", "method", "a", "b", "ssim"])
        for number in range(IMAGES):
            level = 30 + 6 * number
            for _ in range(EACH):
                a, b = draw.integers(1, 9), round(float(draw.uniform(0, 1)), 3)
                ssim = 0.2 + level / 400 + a / 40 + draw.normal(0, 0.01)
                kind = "dark" if number < IMAGES // 2 else "light"
                writer.writerow([f"{number:02}.png", kind, "random", a, b, round(float(ssim), 6)])
    return folder / name


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """A workspace with features of the images, and the table of results beside them."""
    root = tmp_path_factory.mktemp("quality")
    draw = np.random.default_rng(1)
    (root / "images").mkdir()
    for number in range(IMAGES):
        pixels = np.clip(draw.normal(30 + 6 * number, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number:02}.png")
    table = results(root / "images")
    words = ("enqueue", table, "--label-col", "", "--weights", "embedded", "--stages", "--image-stats", "-w", root / "w")
    assert call(*words).status == 0
    assert call("work", "-w", root / "w").status == 0
    return root


@pytest.fixture(scope="module")
def trained(extracted):
    words = ("train", "quality", "--results", extracted / "images" / "results.csv", "--features", "early", "--image-stats")
    done = call(*words, *QUICK, "-w", extracted / "w")
    assert done.status == 0, done.errors
    return extracted


def numbers(root, name="quality"):
    [folder] = (root / "w" / "experiments").glob(f"exp_*_{name}")
    return json.loads((folder / "test_results.json").read_text())


def test_every_image_is_judged_by_heads_that_have_not_seen_it(trained):
    said = numbers(trained)
    assert said["rows"] == IMAGES * EACH
    assert said["pearson"] > 0.7
    heads = {head["head"]: head for head in said["heads"]}
    assert list(heads) == ["classic", "trees", "parameters_alone"]
    assert heads["trees"]["grouped"] == pytest.approx(said["pearson_trees"])
    assert said["pearson_parameters_alone"] < said["pearson_trees"]
    every = ("pearson", "spearman", "mae", "r2", "within_image_pearson")
    assert {f"{name} of logo_type {kind}" for name in every for kind in ("dark", "light")} <= said.keys()
    assert {f"{name}_interval" for name in every} <= said.keys()
    assert "pearson_trees_leaking" in said
    assert "pearson of method random" not in said  # one method alone is all rows
    low, high = said["pearson_interval"]
    assert low < said["pearson"] < high


def test_the_leaking_figure_stands_beside_the_honest_one_wherever_numbers_are(trained):
    said = numbers(trained)
    first, line = call("runs", "-w", trained / "w").output.splitlines()[:2]
    assert first.split()[-3:] == ["%", "interval", "leaking"]
    assert line.endswith(f"  {said['pearson_leaking']:.4f}")
    assert call("runs", "--json", "-w", trained / "w").json["runs"][0]["leaking"] == said["pearson_leaking"]
    shown = call("runs", "show", 1, "-w", trained / "w").output
    trees = said["heads"][1]
    beside = f"{trees['grouped']:.4f}   {trees['leaking']:.4f}" + (" yes" if trees["answers"] else "")
    assert [line.split() for line in shown.splitlines()].count(["trees", *beside.split()]) == 1
    content = write_report("1", trained / "w").path.read_text()
    assert "Head beside head" in content
    assert "the number to distrust" in content
    assert f"<td>{trees['grouped']:.4g}</td><td>{trees['leaking']:.4g}</td>" in content


@pytest.mark.parametrize("head", quality.HEADS)
def test_the_number_that_is_told_is_that_of_the_head_that_answers(extracted, head):
    words = ("train", "quality", "--results", extracted / "images" / "results.csv", "--head", head, "--name", f"told_{head}")
    done = call(*words, *QUICK, "--json", "-w", extracted / "w").json
    own, other = (done["test"][f"pearson_{name}"] for name in (head, *(set(quality.HEADS) - {head})))
    assert own != other
    assert [row["head"] for row in done["test"]["heads"] if row["answers"]] == [head]
    assert done["judged_by"] == {"metric": "pearson_classic", "better": "higher", "headline": "pearson"}  # trees have no epochs
    [run] = [run for run in call("runs", "--json", "-w", extracted / "w").json["runs"] if run["experiment"] == done["experiment"]]
    assert (run["metric"], run["test"]) == ("pearson", pytest.approx(own))
    assert run["leaking"] == pytest.approx(done["test"][f"pearson_{head}_leaking"])
    page = write_report(str(run["run"]), extracted / "w").path.read_text()
    assert f"pearson on {done['rows']['test']:,} test items" in page
    assert "pearson_classic on validation was highest" in page


def test_more_images_say_more_and_the_last_point_is_the_number_of_the_trees(trained):
    [folder] = (trained / "w" / "experiments").glob("exp_*_quality")
    assert (folder / "shown" / "learning_curve.png").is_file()
    head, *lines = (folder / "shown" / "learning_curve.csv").read_text().splitlines()
    assert head == "images,pearson,low,high"
    curve = np.array([line.split(",") for line in lines], float)
    assert curve[:, 0].tolist() == [5, 10, 20]  # an eighth of 20 are too few
    assert (curve[:, 2] < curve[:, 1]).all()
    assert (curve[:, 1] < curve[:, 3]).all()
    assert curve[-1, 1] == pytest.approx(numbers(trained)["pearson_trees"], abs=1e-4)
    assert curve[-1, 1] > curve[0, 1]


def small(root):
    table = root / "images" / "results.csv"
    return quality.Options(results=table, aux=("a", "b"), hidden=(4,), dropout=(0.0,), trees=3, folds=3)


def test_no_image_is_on_both_sides_of_a_fold(extracted):
    options = quality.Options(results=extracted / "images" / "results.csv", aux=("a", "b"), folds=4)
    splits = quality.data(options, open_workspace(extracted / "w"))
    table = splits.train.table
    for number in range(options.folds):
        inside = set(table.results.image[table.fold == number].tolist())
        assert inside
        assert not inside & set(table.results.image[table.fold != number].tolist())
    both = set(table.results.image[table.leak == 0].tolist()) & set(table.results.image[table.leak != 0].tolist())
    assert len(both) > IMAGES / 2  # that is what leaks


def test_a_copy_learns_nothing_of_what_it_is_judged_on(extracted):
    options = small(extracted)
    workspace = open_workspace(extracted / "w")
    splits = quality.data(options, workspace)
    model = quality.model(options, splits.facts)
    quality.start(model, options, splits.facts, workspace)
    rows = splits.train
    batch = rows.batch(np.flatnonzero(rows.table.fold == 1), None)
    step = type("Step", (), {"options": options, "about": splits.facts})()
    value, _ = quality.loss(model, batch, step)
    value.backward()
    for weight in model.bank.weights:
        assert not weight.grad[1].any()
        assert weight.grad[0].any()
        assert weight.grad[2].any()


def test_units_are_those_of_the_rows_that_a_copy_learns_from(extracted):
    options = small(extracted)
    workspace = open_workspace(extracted / "w")
    splits = quality.data(options, workspace)
    model = quality.model(options, splits.facts)
    quality.start(model, options, splits.facts, workspace)
    table = splits.train.table
    for number in range(3):
        own = table.results.target[table.fold != number]
        assert float(model.target_mean[number]) == pytest.approx(own.mean(), abs=1e-5)
        assert float(model.mean[number, 0, -2]) == pytest.approx(table.results.values[table.fold != number, 0].mean(), rel=1e-5)


def test_a_few_parameters_count_for_more_than_a_thousand_features():
    about = Facts({"places": [[0, 900], [900, 916]], "parts": ["pooled", "image_stats"], "auxiliary": ["a", "b"]})
    weights = np.array(quality._weights(about))
    together = [np.sqrt((weights[part] ** 2).sum()) for part in (slice(0, 900), slice(900, 916), slice(916, 918))]
    assert together == pytest.approx([1.2, 6, 6])


@pytest.mark.parametrize("head", ["classic", "trees"])
def test_the_one_that_answers_says_for_one_image_what_it_says_row_by_row(trained, head):
    [experiment] = [one for one in list_recipe_experiments(open_workspace(trained / "w")) if one.folder.name.endswith("_quality")]
    model = open_trained(experiment).model
    model.answers.fill_(quality.HEADS.index(head))
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(1, model.chosen.max() + 1, generator=draw)
    values = torch.rand(9, 2, generator=draw) * 8
    with torch.inference_mode():
        together = model(features, values)
        alone = torch.cat([model(features, row[None]) for row in values])
        rows = torch.cat([features[:, model.chosen].expand(9, -1), values], 1)
        last = model.predicted(rows)[-1] if head == "classic" else model.forest(rows, model.copies - 1)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, last, rtol=1e-4, atol=1e-5)


def test_sets_are_ranked_for_one_image(trained, tmp_path):
    (tmp_path / "grid.yaml").write_text("a: [1, 5, 8]\nb: 0.5\n")
    image = trained / "images" / "20.png"
    ranking = rank_parameters(image, trained / "w", run=1, grid=tmp_path / "grid.yaml")
    assert ranking.sets.tolist() == [[8, 0.5], [5, 0.5], [1, 0.5]]
    assert (np.diff(ranking.predicted) <= 0).all()
    said = call("rank", image, "--run", 1, "--sets", 50, "--top", 2, "--json", "-w", trained / "w").json
    assert said["sets"] == 50
    assert said["best"][0]["ssim"] >= said["best"][1]["ssim"]
    assert said["best"][0]["parameters"]["a"] == round(said["best"][0]["parameters"]["a"])
    lines = call("rank", image, "--run", 1, "--sets", 7, "--csv", "-w", trained / "w").output.splitlines()
    assert lines[0] == "ssim,a,b"
    assert len(lines) == 8


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("a: [1]\n", "'b' is missing", id="parameter missing"),
        pytest.param("a: [1]\nb: [2]\nc: [3]\n", "'c' is no parameter", id="unknown parameter"),
        pytest.param("a: [one]\nb: [2]\n", "expected a number", id="text"),
        pytest.param("a: []\nb: [2]\n", "expected a number", id="nothing"),
        pytest.param("a: [.nan]\nb: [2]\n", "expected a number", id="no number"),
        pytest.param(f"a: {list(range(2000))}\nb: {list(range(2000))}\n", "4,000,000 combinations", id="too many"),
    ],
)
def test_what_is_no_grid_is_one_line(tmp_path, text, why):
    (tmp_path / "grid.yaml").write_text(text)
    with pytest.raises(HeadstartError, match=why) as caught:
        read_parameter_grid(tmp_path / "grid.yaml", ("a", "b"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        pytest.param((), "--results is missing", id="no table"),
        pytest.param(("--results", "none.csv"), "there is no such file", id="no such table"),
        pytest.param(("--results", "{table}", "--aux", "c"), "has no column 'c'", id="no such parameter"),
        pytest.param(("--results", "{table}", "--target", "psnr"), "has no column 'psnr'", id="no such target"),
        pytest.param(("--results", "{table}", "--dropout", "0.1,0.2"), "--dropout has 2 numbers for 1 layers", id="dropout"),
        pytest.param(("--results", "{other}"), "none of the 1 images of the table has features", id="other images"),
        pytest.param(("--results", "{few}"), "2 images cannot make 3 folds", id="too few images"),
        pytest.param(("--results", "{same}"), "have the same ssim", id="nothing to learn"),
    ],
)
def test_what_cannot_be_learnt_is_one_line(extracted, tmp_path, words, why):
    header = "image,a,b,ssim\n"
    (tmp_path / "other.csv").write_text(f"{header}other.png,1,2,0.5\n")
    (tmp_path / "few.csv").write_text(f"{header}01.png,1,2,0.5\n02.png,1,2,0.7\n")
    (tmp_path / "same.csv").write_text(header + "".join(f"{number:02}.png,1,2,0.5\n" for number in range(9)))
    places = {name: tmp_path / f"{name}.csv" for name in ("other", "few", "same")}
    places["table"] = extracted / "images" / "results.csv"
    done = call("train", "quality", *QUICK, *(str(word).format(**places) for word in words), "-w", extracted / "w")
    assert done.status == 1
    assert why in done.errors
    assert len(done.errors.strip().splitlines()) == 1


def test_features_that_were_not_kept_are_asked_for(tmp_path, extracted):
    words = ("enqueue", extracted / "images" / "results.csv", "--label-col", "", "--weights", "embedded", "-w", tmp_path / "w")
    assert call(*words).status == 0
    assert call("work", "-w", tmp_path / "w").status == 0
    table = ("--results", extracted / "images" / "results.csv")
    done = call("train", "quality", *QUICK, *table, "--features", "early", "-w", tmp_path / "w")
    assert "Enqueue the images again with --stages" in done.errors


def test_a_training_that_was_killed_ends_in_the_same_bits(extracted):
    folders = []
    for name, kills in (("whole", 0), ("killed", 2)):
        words = ["train", "quality", "--results", extracted / "images" / "results.csv", *QUICK, "--save-every", 3, "--name", name]
        killed_at_an_epoch([*words, "--seed", 1, "-w", extracted / "w"], kills)
        folders.append(next((extracted / "w" / "experiments").glob(f"exp_*_{name}")) / "checkpoints" / "final.safetensors")
    assert folders[0].read_bytes() == folders[1].read_bytes()


def test_images_get_a_number_and_broken_ones_a_reason(trained, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.png").write_bytes((trained / "images" / "20.png").read_bytes())
    (tmp_path / "new" / "b.png").write_bytes(b"no image")
    said = call("predict", tmp_path / "new", "--run", 1, "--json", "-w", trained / "w").json["predictions"]
    assert 0.2 < said[0]["ssim"] < 1.2
    assert "error" in said[1]


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_heads_are_exported(trained, tmp_path, form):
    done = call("export", "--run", 1, "--format", form, "-o", tmp_path / f"head.{form}", "-w", trained / "w")
    assert done.status == 0, done.errors


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
@pytest.mark.parametrize("head", ["classic", "trees"])
def test_encoder_and_head_are_one_file_of_half_the_size(trained, form, head):
    workspace = open_workspace(trained / "w")
    [experiment] = [one for one in list_recipe_experiments(workspace) if one.folder.name.endswith("_quality")]
    opened = open_trained(experiment)
    opened.model.answers.fill_(quality.HEADS.index(head))
    folder = workspace.features / opened.about.encoder
    module, beside = exported_model(opened).eval(), example_of(opened)[1:]
    images = check_images(read_encoder(folder))
    whole = export_whole(folder, module, beside, form, {}, images)
    assert whole.difference <= 1e-3
    assert whole.is_half == (head == "classic")  # a rounded weight would move features over thresholds
    parameters = sum(one.numel() for one in module.parameters()) + sum(
        one.numel() for one in read_network(folder, read_encoder(folder)).parameters()
    )
    if head == "classic":
        assert len(whole.data) < 3 * parameters + 400_000
    with torch.inference_mode():
        features = torch.from_numpy(open_torch(folder, "cpu").encode(images)).half().float()
        rows = beside[0][torch.arange(len(images)) % 2]
        expected = opened.model(features, rows).numpy()
        said = module(features, rows).numpy()
    np.testing.assert_allclose(said, expected, atol=1e-4)
    if form == "onnx":
        session = onnxruntime.InferenceSession(whole.data, providers=["CPUExecutionProvider"])
        [answers] = session.run(None, {"images": images, "beside_1": rows.numpy()})
        np.testing.assert_allclose(answers, expected, atol=2e-3)


@pytest.mark.parametrize(
    ("head", "moved", "is_forgiven"),
    [("trees", 2, True), ("trees", 3, False), ("classic", 1, False)],
    ids=["one tree image in ten", "more of them", "without thresholds"],
)
def test_jumps_are_counted_and_forgiven_of_one_image_in_ten(trained, monkeypatch, head, moved, is_forgiven):
    workspace = open_workspace(trained / "w")
    [experiment] = [one for one in list_recipe_experiments(workspace) if one.folder.name.endswith("_quality")]
    opened = open_trained(experiment)
    opened.model.answers.fill_(quality.HEADS.index(head))
    folder, left = workspace.features / opened.about.encoder, [moved]
    plain = whole_module._opened

    def opened_wrongly(*said):
        answer = plain(*said)

        def jumping(given):
            said = answer(given).copy()
            said[0] += 0.01 if left[0] > 0 else 0
            left[0] -= 1
            return said

        return jumping

    monkeypatch.setattr(whole_module, "_opened", opened_wrongly)
    images = np.tile(check_images(read_encoder(folder)), (5, 1, 1, 1))  # 20, in three parts
    words = folder, exported_model(opened).eval(), example_of(opened)[1:], "onnx", {}, images
    if not is_forgiven:
        with pytest.raises(HeadstartError, match=f"answers for {moved} of 20 images differ from float32, by up to 1"):
            export_whole(*words)
        return
    whole = export_whole(*words)
    assert whole.beyond == moved
    assert whole.difference == pytest.approx(0.01, rel=0.1)


def test_tensors_are_made_where_the_rows_lie(trained):
    """On CUDA one that is made without saying where would be on another device; here the other one is `meta`."""
    workspace = open_workspace(trained / "w")
    [experiment] = [one for one in list_recipe_experiments(workspace) if one.folder.name.endswith("_quality")]
    opened = open_trained(experiment)
    batch = quality.data(opened.options, workspace).train.batch(np.arange(IMAGES * EACH), None)
    with torch.no_grad(), torch.device("meta"):
        said = quality._answers(opened.model, [batch])
        value, _ = quality.loss(opened.model, batch, None)
    assert value.device.type == "cpu"
    assert np.isfinite(said["trees"]).all()


def test_export_says_size_difference_and_latency(trained, tmp_path):
    words = ("export", "--run", 1, "--with-encoder", "--half", "-o", tmp_path / "whole.onnx", "--json", "-w", trained / "w")
    said = call(*words).json
    assert said["bytes"] == (tmp_path / "whole.onnx").stat().st_size
    assert said["largest_difference"] <= 1e-3
    assert set(said["median_ms"]) == {"1", "2"}
    assert (said["images"], said["images_beyond"]) == (IMAGES, 0)  # those of the data set, not made ones


def test_export_compares_on_images_of_the_data_or_not_at_all(trained, tmp_path):
    (trained / "images").rename(trained / "elsewhere")
    try:
        done = call("export", "--run", 1, "--with-encoder", "--half", "-o", tmp_path / "whole.onnx", "-w", trained / "w")
    finally:
        (trained / "elsewhere").rename(trained / "images")
    assert done.status == 1
    assert "can be read, and answers are compared on them. Bring them back" in done.errors
    assert not (tmp_path / "whole.onnx").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--half",), "--half goes with --with-encoder"),
        (("--half", "--with-encoder", "--logits"), "exclude each other"),
        (("--with-encoder",), "in float16 only: add --half"),
        (("--half", "--with-encoder", "--format", "pt2"), "--half makes onnx and torchscript, not pt2"),
    ],
    ids=["head alone", "logits", "not half", "another format"],
)
def test_what_cannot_be_exported_is_said(trained, words, why):
    done = call("export", "--run", 1, *words, "-w", trained / "w")
    assert done.status
    assert why in done.errors


def test_weights_beyond_float16_are_refused():
    with pytest.raises(HeadstartError, match="float16 holds 65,504"):
        _rounded(np.array([1.0, 1e6], np.float32), "w")


def test_a_gpu_of_apple_s_is_asked_for_nothing_that_it_lacks(extracted, monkeypatch):
    words = ("--results", extracted / "images" / "results.csv", "--features", "early", "--image-stats")
    ends_as_on_the_cpu(("quality", *words, *QUICK), extracted / "w", monkeypatch)
