"""What a person sees of predictions."""

import pytest

from headstart.commands.output.predictions import PredictionLayout, write_csv, write_table
from headstart.pipeline.errors import HeadstartError


def refusing():
    raise HeadstartError("it cannot predict")
    yield


@pytest.mark.parametrize("write", [write_table, write_csv])
def test_a_refusal_comes_before_any_header(write, capsys):
    with pytest.raises(HeadstartError):
        write(refusing(), PredictionLayout("classification", ("cat", "dog"), 1, ["a.png"]))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("write", [write_table, write_csv])
def test_no_image_at_all_is_a_header_alone(write, capsys):
    assert write(iter(()), PredictionLayout("classification", ("cat", "dog"), 1, [])) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
