import pytest

from headstart.commands.training.head_options import _OF_EACH_HEAD, heads_of
from headstart.pipeline.errors import HeadstartError

NONE = dict.fromkeys(_OF_EACH_HEAD)


@pytest.mark.parametrize(
    ("preset", "given", "wanted"),
    [
        pytest.param("mlp", {}, ("mlp-512", (512,), 0.3), id="mlp"),
        pytest.param("mlp", {"hidden": ()}, ("linear", (), 0.0), id="mlp without hidden layers"),
        pytest.param("mlp", {"hidden": (64,)}, ("mlp-64", (64,), 0.3), id="mlp of another width"),
        pytest.param("linear", {}, ("linear", (), 0.0), id="linear"),
    ],
)
def test_a_preset_is_what_one_head_begins_from(preset, given, wanted):
    [head] = heads_of(None, preset, 1, 0, {**NONE, **given})
    assert (head.name, head.hidden, head.dropout) == wanted


def test_options_change_each_head_of_an_ablation_that_has_them():
    heads = heads_of("default", None, 1, 0, {**NONE, "dropout": 0.1, "batch_norm": True, "mixup": 0.5})
    assert [(head.dropout, head.batch_norm, head.mixup) for head in heads] == [(0.0, False, 0.5)] + [(0.1, True, 0.5)] * 2


def test_seeds_count_as_heads():
    with pytest.raises(HeadstartError, match="1,001 heads"):
        heads_of(None, None, 1001, 0, NONE)
