"""Which heads a few words mean: a preset or an ablation, what is changed of each head, and seeds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.experiments.config import DEFAULT_ABLATION, PRESETS, HeadConfig, default_ablation, linear_head, quality_head
from headstart.pipeline.errors import HeadstartError

from .grid import named, read_grid, refuse_too_many, with_seeds


class ContradictionError(HeadstartError):
    """Two choices of which only one can be meant."""


def choose_heads(
    ablation: Path | str | None = None,
    preset: str | None = None,
    seeds: int = 1,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
) -> tuple[HeadConfig, ...]:
    """The heads that `headstart train-head` trains by the same words; without any, one linear head.

    Args:
        ablation: a grid file, see `read_grid`, or 'default': linear, MLP-512 and MLP-512 with augmentation.
        preset: what one head begins from: linear, mlp or quality.
        seeds: each head so many times; seed: added to the seed of each.
        changes: fields of HeadConfig that each head gets; dropout and batch_norm pass by linear heads of an ablation.

    Raises: ContradictionError if an ablation stands beside a preset or one shape for all; HeadstartError for a bad value.
    """
    changes = dict(changes or {})
    if ablation is not None and preset is not None:
        raise ContradictionError("--ablation and --preset each say which heads; give one of them")
    if ablation is not None and "hidden" in changes:
        raise ContradictionError(
            "--ablation compares shapes of heads, and --hidden would make them all one; put it into the grid file"
        )
    if preset is not None and preset not in PRESETS:
        raise HeadstartError(f"preset is '{preset}', expected one of {', '.join(PRESETS)}")
    if ablation is not None:
        heads = default_ablation() if ablation == DEFAULT_ABLATION else read_grid(Path(ablation))
        heads = tuple(replace(head, **_fitting(head, changes)) for head in heads)
    elif preset == "quality":
        heads = (replace(quality_head(), **changes),)
    else:
        is_linear = not changes.get("hidden") and preset != "mlp"
        begin = linear_head() if is_linear else HeadConfig(hidden=(512,), dropout=0.3) if preset == "mlp" else HeadConfig()
        heads = (named(replace(begin, **_shape_first(changes))),)
    refuse_too_many(len(heads) * seeds)
    return with_seeds([replace(head, seed=head.seed + seed) for head in heads], seeds)


def _fitting(head: HeadConfig, changes: dict[str, Any]) -> dict[str, Any]:
    """A linear head has no hidden layer to drop anything of."""
    return changes if head.hidden else {key: value for key, value in changes.items() if key not in ("dropout", "batch_norm")}


def _shape_first(changes: dict[str, Any]) -> dict[str, Any]:
    """Without hidden layers the preset's dropout means nothing, and one number stays one for all layers."""
    return {"dropout": 0.0, **changes} if changes.get("hidden") == () else changes
