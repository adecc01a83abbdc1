"""`final.safetensors`: a trained model's best weights, and what it takes to build the model again without its data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.experiments.training.data.batch import Facts
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults

from .recipe import Recipe, asking

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .options import RecipeOptions

FORMAT = 1
_KEY = "headstart"


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
    return save(tensors, {_KEY: json.dumps(facts, sort_keys=True)})


def read_final(path: Path) -> Final:
    """Raises: HeadstartError if it is missing, damaged or of a newer version."""
    from safetensors import SafetensorError, safe_open

    try:
        with environment_faults(f"cannot read {path}"), safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})[_KEY])
            if facts.pop("format") > FORMAT:
                raise HeadstartError(f"{path} is of a newer version. Upgrade: pip install -U headstart")
            about = facts.pop("about")
            return Final(facts, about, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except FileNotFoundError:
        raise HeadstartError(f"{path} is missing. The same headstart train command writes it again") from None
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise HeadstartError(f"{path} is damaged ({error}). The same headstart train command writes it again") from None


def built(recipe: Recipe, options: RecipeOptions, final: Final, device: str = "cpu") -> nn.Module:
    """The trained model, in evaluation mode. Raises: HeadstartError if the recipe builds another one by now."""
    with asking("model"):
        model = recipe.model(options, Facts(final.about))
    try:
        model.load_state_dict(dict(final.weights))
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[-1].strip()
        raise HeadstartError(f"the recipe builds another model than was trained: {reason}") from None
    return model.to(device).eval()
