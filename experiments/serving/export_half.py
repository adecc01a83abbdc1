"""A run with its encoder in one file, weights in float16: what `headstart export --with-encoder --half` does.

Answers are compared with those of float32 on images of the run's own data.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.experiments.data.pictures import Pictures
from headstart.experiments.heads.trained_head import TrainedHead, read_head
from headstart.experiments.runs.catalog import choose_run, recipe_of_run
from headstart.features.encoders.spec import read_encoder
from headstart.features.images.decode import ImageError
from headstart.features.images.transform import fit
from headstart.features.images.windows import WindowReader
from headstart.features.manifest.patches import Window
from headstart.features.store.maps import open_patch_maps
from headstart.features.store.packing import open_cache
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.output_files import refuse_place, write_output
from headstart.pipeline.workspace import Workspace

from .export import FORMATS, export_facts
from .recipe_run import example_of, exported_model, makes_masks, open_trained
from .whole import HALF_FORMS, WholeFile, export_whole

if TYPE_CHECKING:
    from torch import Tensor, nn

_IMAGES = 40


def export_half(workspace: Workspace, run: str, form: str, output: Path | None, force: bool) -> tuple[Path, str, WholeFile]:
    """Writes the file; returns where it lies, the run's name, and what was measured.

    Raises: HeadstartError if there is no such run, its model takes no features, none of the images that it learnt from can be
        read, or answers differ too much from float32.
    """
    if form not in HALF_FORMS:
        raise HeadstartError(
            f"--half makes {' and '.join(HALF_FORMS)}, not {form}. Choose one with --format, or leave out --half"
        )
    one = _chosen(workspace, run)
    folder, name = one.encoder, one.name
    target = output or Path(f"{name}-half{FORMATS[form]}")
    refuse_place(target)
    own = _own_patches(workspace, one.patches) if one.patches else _own_images(folder)
    whole = export_whole(folder, one.head, one.beside, form, one.facts, own, one.of_maps)
    write_output(target, whole.data, force)
    return target, name, whole


def _own_images(folder: Path) -> NDArray[np.uint8]:
    """(m, h, w, 3) of images that the encoder in `folder` has encoded, _IMAGES at most, from all over the data.

    Not made ones: what noise answers says little of how far answers of photos or logos move.
    """
    cached = open_cache(folder)
    places = np.unique(np.linspace(0, len(cached) - 1, _IMAGES).astype(np.int64))
    taken = Pictures(cached).as_encoded(places, replace(read_encoder(folder).transform, device_decode=False))
    return _stacked([pixels for pixels in taken if pixels is not None], folder.name)


def _own_patches(workspace: Workspace, version: str) -> NDArray[np.uint8]:
    """As `_own_images`, of the patches of a version: of its encoder there need be no features of whole images."""
    maps = open_patch_maps(workspace, version)
    assert maps.cut is not None
    read, readable = WindowReader(maps.dataset, maps.cut.size), list[NDArray[np.uint8]]()
    for item in np.unique(np.linspace(0, len(maps) - 1, _IMAGES).astype(np.int64)):
        window, (height, width) = Window(*map(int, maps.cut.windows[item])), map(int, maps.cut.sizes[item])
        with contextlib.suppress(ImageError):
            pixels = read(maps.columns.row(int(maps.index[item])), window, (height, width))
            readable.append(fit(Image.fromarray(pixels), maps.spec.transform))
    return _stacked(readable, f"patches {version}")


def _stacked(readable: list[NDArray[np.uint8]], place: str) -> NDArray[np.uint8]:
    if not readable:
        raise HeadstartError(
            f"none of the images of {place} that were tried can be read, and answers are compared on them. Bring them back "
            "to where they were when they were enqueued"
        )
    return np.stack(readable)


@dataclass(frozen=True)
class _Chosen:
    """A run, and what stands `beside` its features; with `of_maps` they are maps, of `patches` (a version) if not of images."""

    encoder: Path
    name: str
    head: nn.Module
    beside: tuple[Tensor, ...]
    facts: dict[str, Any]
    of_maps: bool = False
    patches: str = ""


def _chosen(workspace: Workspace, run: str) -> _Chosen:
    experiment = recipe_of_run(workspace, run)
    if experiment is None:
        chosen = choose_run(workspace, run)
        head, spec = read_head(chosen.head_path), chosen.encoder_spec()
        auxiliary = len(chosen.experiment.auxiliary)
        name = f"{chosen.run.experiment}-{chosen.run.head}"
        return _Chosen(chosen.experiment.encoder, name, _beside(head), _zeros(auxiliary), export_facts(chosen, head, spec, False))
    trained = open_trained(experiment)
    if "encoder" not in trained.about:
        raise HeadstartError(
            f"the recipe {experiment.recipe} takes no features of a whole image. Export its model alone: leave out --with-encoder"
        )
    of_maps = makes_masks(trained)
    beside = () if of_maps else example_of(trained)[1:]
    patches = str(experiment.settled["patches"]) if "window" in trained.about else ""
    facts = {"recipe": experiment.recipe, "about": dict(trained.about)}
    folder = workspace.features / trained.about.encoder
    return _Chosen(folder, experiment.folder.name, exported_model(trained), beside, facts, of_maps, patches)


def _zeros(columns: int) -> tuple[Tensor, ...]:
    import torch

    return (torch.zeros(2, columns),) if columns else ()


def _beside(head: TrainedHead) -> nn.Module:
    """The head with its auxiliary columns as a second argument."""
    import torch

    from .torch_head import module_of

    module = module_of(head.for_the_table())

    class Beside(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, features: Tensor, *auxiliary: Tensor) -> Any:
            return self.module(torch.cat([features, *auxiliary], 1) if auxiliary else features)

    return Beside().eval()
