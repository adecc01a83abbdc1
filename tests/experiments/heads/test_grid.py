import pytest

from headstart.experiments.config import HeadConfig
from headstart.experiments.heads.grid import read_grid, refuse_too_large, with_seeds
from headstart.pipeline.errors import HeadstartError


def grid(tmp_path, text, name="grid.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return read_grid(path)


def test_lists_multiply_out_and_names_tell_what_differs(tmp_path):
    heads = grid(tmp_path, "hidden: [0, 512, [64, 32]]\nlearning_rate: [1e-3, 0.01]\nlabel_smoothing: 0.1\n")
    assert [(head.name, head.hidden, head.learning_rate) for head in heads] == [
        ("linear_lr-0.001", (), 0.001),
        ("linear_lr-0.01", (), 0.01),
        ("mlp-512_lr-0.001", (512,), 0.001),
        ("mlp-512_lr-0.01", (512,), 0.01),
        ("mlp-64-32_lr-0.001", (64, 32), 0.001),
        ("mlp-64-32_lr-0.01", (64, 32), 0.01),
    ]
    assert {head.label_smoothing for head in heads} == {0.1}


def test_whole_heads_stand_as_they_are_and_are_multiplied_with_the_rest(tmp_path):
    text = "heads:\n- {name: wide, hidden: [64, 32], dropout: [0.2, 0.1]}\n- {hidden: 0}\nweight_decay: [0, 0.1]\n"
    heads = grid(tmp_path, text)
    assert [head.name for head in heads] == ["wide_wd-0", "wide_wd-0.1", "linear_wd-0", "linear_wd-0.1"]
    assert heads[0].dropout == (0.2, 0.1)


def test_heads_that_differ_in_what_no_name_tells_are_counted(tmp_path):
    heads = grid(tmp_path, "heads: [{hidden: 8}, {hidden: 8, noise: 0.1}]")
    assert [head.name for head in heads] == ["mlp-8-1", "mlp-8-2"]


def test_json_means_the_same(tmp_path):
    assert grid(tmp_path, '{"hidden": [0, 16], "seed": [0, 1]}', "grid.json") == grid(tmp_path, "hidden: [0, 16]\nseed: [0, 1]\n")


def test_five_hundred_heads_are_as_many_different_names(tmp_path):
    rates = ", ".join(f"{number / 1e5}" for number in range(1, 51))
    heads = grid(tmp_path, f"learning_rate: [{rates}]\nseed: [0, 1, 2, 3, 4]\nmixup: [0, 0.2]\n")
    assert len({head.name for head in heads}) == 500


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("learning_rte: [1]", "unknown option 'learning_rte'.*did you mean 'learning_rate'", id="unknown key"),
        pytest.param("learning_rate: [fast]", "learning_rate is 'fast', expected a number", id="no number"),
        pytest.param("hidden: [-3]", "hidden is", id="no width"),
        pytest.param("hidden: [8]\ndropout: [0, much]", "dropout is 'much', expected one part", id="dropout that is a word"),
        pytest.param("hidden: [8]\ndropout:", "dropout is None, expected one part", id="no dropout"),
        pytest.param("hidden: {8: 8}", "hidden is .*, expected a list of widths", id="widths by name"),
        pytest.param("activation: {a: b}", "activation is .*, expected one of relu", id="an activation that is no word"),
        pytest.param("seed: [x]", "seed is 'x', expected a whole number", id="a seed that is a word"),
        pytest.param("batch_norm: 3", "batch_norm is 3, expected true or false", id="batch norm that is a number"),
        pytest.param("hidden: []", "`hidden` is an empty list", id="empty list"),
        pytest.param("- 1", "holds list, expected options", id="no options"),
        pytest.param("", "holds NoneType", id="empty file"),
        pytest.param("heads: 3", "`heads` is no list", id="heads that are none"),
        pytest.param("a: [1\nb: 2", "no YAML in line 2", id="no YAML"),
        pytest.param("seed: " + str(list(range(1001))), "has 1,001 heads, one experiment takes 1,000", id="too many"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file(tmp_path, text, said):
    with pytest.raises(HeadstartError, match=said) as error:
        grid(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_grid_that_is_not_there_is_said(tmp_path):
    with pytest.raises(HeadstartError, match="No such file"):
        read_grid(tmp_path / "none.yaml")


def test_seeds_are_more_heads(tmp_path):
    heads = with_seeds([HeadConfig(seed=3), HeadConfig(name="mlp", hidden=(8,))], 2)
    assert [(head.name, head.seed) for head in heads] == [("linear-s0", 3), ("linear-s1", 4), ("mlp-s0", 0), ("mlp-s1", 1)]


def test_more_than_memory_takes_is_refused_with_what_fits():
    heads = [HeadConfig(name=f"{i}", hidden=(512,)) for i in range(500)]
    refuse_too_large(heads, 1280, 10, 20 * 10**9)
    with pytest.raises(HeadstartError, match=r"500 heads on 1,280 inputs need about 10.6 GB.*About 189 of them fit.*`--hidden`"):
        refuse_too_large(heads, 1280, 10, 4 * 10**9)
