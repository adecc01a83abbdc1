"""`final.safetensors`: a trained model's best weights, and what it takes to build the model again without its data."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.experiments.training.data.batch import Facts
from headstart.experiments.training.options import sha256_of_file
from headstart.experiments.training.recipe import Recipe, asking
from headstart.features.accelerators import move
from headstart.pipeline.doors import reading, records
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headstart.experiments.training.options import RecipeOptions

FORMAT = 1
_KEY = "headstart"
_HINT = "The same headstart train command writes it again"


@dataclass(frozen=True, eq=False)  # tensors have no single truth value
class Final:
    """Attributes:
    training: recipe, code and options, as the experiment's description has them.
    about: what the data said about itself.
    weights: by name, on the CPU.
    """

    training: Mapping[str, Any]
    about: Mapping[str, Any]
    weights: Mapping[str, Tensor]


def encode_final(final: Final) -> bytes:
    """The bytes of the file: equal weights and facts give equal bytes."""
    from safetensors.torch import save

    facts = {"format": FORMAT, **final.training, "about": dict(final.about)}
    # Copies, because the format holds no two names for one tensor; one entry, because the order of several is not fixed.
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in final.weights.items()}
    facts["digest"] = _digest(facts, tensors)
    return save(tensors, {_KEY: json.dumps(facts, sort_keys=True)})


def read_final(path: Path) -> Final:
    """Raises: HeadstartError if it is missing, damaged or of a newer version."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    with _faults_of(path):
        data = reading.read(path, reading.WEIGHTS_BYTES)
    try:
        weights = load(data)
        header = records.parse_record(data[8 : 8 + int.from_bytes(data[:8], "little")], path, None, _HINT)
        facts = records.parse_record(header.record("__metadata__").text(_KEY), path, FORMAT, _HINT)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise records.DamagedError(path, str(error), _HINT) from None
    said = dict(facts)
    # Earlier versions noted none.
    if "digest" in said and said.pop("digest") != _digest(said, weights):
        raise records.DamagedError(path, "it has other bytes than were written", _HINT)
    del said["format"]
    about = dict(facts.record("about"))
    del said["about"]
    return Final(said, about, weights)


def sha256_of_final(path: Path) -> str:
    """sha256 (hex) of its bytes, of which a few at a time are in memory. Raises: HeadstartError if it cannot be read."""
    with _faults_of(path):
        return sha256_of_file(path)


@contextlib.contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    try:
        with environment_faults(f"cannot read {path}"):
            yield
    except FileNotFoundError:
        raise HeadstartError(f"{path} is missing. {_HINT}") from None
    except reading.UnreadableError as error:
        raise records.DamagedError(path, str(error), _HINT) from None


def _digest(facts: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    """sha256 (hex) of all that the file says: safetensors keeps no checksum."""
    import torch

    sha256 = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        sha256.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        sha256.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def built(recipe: Recipe, options: RecipeOptions, final: Final, device: str = "cpu") -> nn.Module:
    """The trained model, in evaluation mode.

    Raises: HeadstartError if the recipe builds another one by now, or the device lacks its numbers.
    """
    with asking("model"):
        model = recipe.model(options, Facts(final.about))
    try:
        model.load_state_dict(dict(final.weights))
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[-1].strip()
        raise HeadstartError(f"the recipe builds another model by now than was trained; train it anew. {reason}") from None
    return move(model, device).eval()
