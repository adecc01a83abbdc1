import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.experiments.config import as_facts
from headstart.experiments.heads.trained_head import UnknownLayout, read_content, read_head
from headstart.pipeline.errors import HeadstartError
from tests.experiments.made_heads import KINDS, made_head
from tests.support import run_python


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_is_read_as_torch_reads_it(kind):
    data = made_head(kind).encode()
    expected = torch.load(io.BytesIO(data), weights_only=True)
    found = read_content(data)
    assert list(found) == list(expected)
    assert found.pop("facts") == expected.pop("facts")
    for name, tensor in expected.items():
        assert np.array_equal(found[name], tensor.numpy())


def test_heads_of_one_input_and_one_output_are_read(tmp_path):
    head = made_head("numbers", inputs=1, names=("score",))
    (tmp_path / "head.pt").write_bytes(head.encode())
    assert read_head(tmp_path / "head.pt").digest == head.digest


@pytest.mark.parametrize("inputs", [1, 8])
def test_a_head_whose_weights_lie_transposed_is_read_without_torch_and_has_the_same_bytes(inputs):
    head = made_head("linear softmax", inputs=inputs)
    turned = replace(head, layers=tuple((np.ascontiguousarray(weight.T).T, bias) for weight, bias in head.layers))
    assert turned.encode() == head.encode()
    assert read_content(turned.encode()).keys() == read_content(head.encode()).keys()


def test_reading_and_asking_a_head_imports_no_torch(tmp_path):
    (tmp_path / "head.pt").write_bytes(made_head("deep softmax").encode())
    code = """
import sys, numpy
from pathlib import Path
from headstart.experiments.heads.trained_head import read_head
from headstart.experiments.serving.predict import answering
print(answering(read_head(Path(sys.argv[1])))(numpy.zeros((2, 8))).shape, "torch" in sys.modules, "sklearn" in sys.modules)
"""
    status, output, errors = run_python(code, str(tmp_path / "head.pt"))
    assert (status, output) == (0, "(2, 3) False False\n"), errors


def read_or_reason(path) -> str:
    """The head's digest, or why it was refused."""
    try:
        return read_head(path).digest
    except HeadstartError as error:
        return str(error)


def test_no_flipped_bit_makes_another_head(tmp_path):
    head = made_head("deep softmax")
    data = head.encode()
    path = tmp_path / "head.pt"
    found = []
    for place in range(0, len(data), 11):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        found.append(read_or_reason(path))
    refused = [text for text in found if text != head.digest]  # the others hit padding
    assert all("is no head, or damaged" in text and "\n" not in text for text in refused)
    assert len(refused) > len(found) / 4


def laid_out_otherwise(change) -> bytes:
    head = made_head("linear softmax")
    facts = {"format": 1, "config": as_facts(head.config), "task": head.task, "names": head.names}
    weight, bias = (torch.from_numpy(array.copy()) for array in head.layers[0])
    return saved({"facts": json.dumps(facts), **change(weight, bias)})


OTHERS = {
    "transposed": lambda weight, bias: {"0.weight": weight.T.contiguous().T, "0.bias": bias},
    "one storage": lambda weight, bias: {
        "0.weight": torch.cat([weight.flatten(), bias])[: weight.numel()].view_as(weight),
        "0.bias": torch.cat([weight.flatten(), bias])[weight.numel() :],
    },
    "another kind of tensor": lambda weight, bias: {"0.weight": torch.nn.Parameter(weight, requires_grad=False), "0.bias": bias},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_what_torch_laid_out_otherwise_is_left_to_torch(tmp_path, change):
    data = laid_out_otherwise(change)
    with pytest.raises(UnknownLayout):
        read_content(data)
    (tmp_path / "head.pt").write_bytes(data)
    assert read_head(tmp_path / "head.pt").digest == made_head("linear softmax").digest


def test_code_in_a_head_is_refused_and_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    buffer = io.BytesIO()
    torch.save({"facts": Evil(), "x": "facts"}, buffer)
    (tmp_path / "head.pt").write_bytes(buffer.getvalue())
    with pytest.raises(HeadstartError, match="no head, or damaged"):
        read_head(tmp_path / "head.pt")
    assert not (tmp_path / "ran").exists()
