"""`final.safetensors`: read back as it was written, or refused: the format itself has no checksum."""

import random

import pytest
import torch

from headstart.experiments.training.state.final_weights import Final, encode_final, read_final
from headstart.pipeline.errors import HeadstartError

FINAL = Final(
    {"recipe": "tiny", "code": "ab", "options": {"width": 4}},
    {"classes": ["cat", "dog"]},
    {
        "a.weight": torch.arange(6.0).reshape(2, 3),
        "b": torch.tensor(3, dtype=torch.int64),
        "c": torch.ones(2, dtype=torch.bfloat16),
    },
)


def said(final):
    # A flip in the name of the digest leaves a key that nobody knows, and all that it stood for as it was.
    training = {key: final.training[key] for key in FINAL.training}
    return training, dict(final.about), {name: (str(t.dtype), t.tolist()) for name, t in final.weights.items()}


def test_what_was_written_is_read_back(tmp_path):
    path = tmp_path / "final.safetensors"
    path.write_bytes(encode_final(FINAL))
    assert said(read_final(path)) == said(FINAL)


def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path):
    path = tmp_path / "final.safetensors"
    data = encode_final(FINAL)
    noticed, bits = 0, random.Random(0).sample(range(8 * len(data)), 1000)
    for bit in bits:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            read = read_final(path)
        except HeadstartError as error:
            noticed += str(path) in str(error)
        else:
            assert said(read) == said(FINAL), bit
    assert noticed > 0.8 * len(bits)


def test_weights_behind_a_link_are_not_read(tmp_path):
    real = tmp_path / "elsewhere"
    real.write_bytes(encode_final(FINAL))
    (tmp_path / "final.safetensors").symlink_to(real)
    with pytest.raises(HeadstartError, match="symbolic link"):
        read_final(tmp_path / "final.safetensors")
