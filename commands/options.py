"""Options that several commands share."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from headstart.pipeline.workspace import Workspace, find_root, open_workspace

if TYPE_CHECKING:
    from headstart.experiments.training.options import Field

    ParamType = click.ParamType
else:

    class ParamType(click.ParamType):
        """click's own; older versions of it have no subscript."""

        def __class_getitem__(cls, converted: Any) -> type[click.ParamType]:
            return cls


def _given_anywhere(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The folder named behind the command, else the one before it."""
    before = context.find_root().params.get("workspace")
    return value if value is not None or not isinstance(before, str) else before


workspace_option = click.option(
    "-w",
    "--workspace",
    metavar="DIR",
    callback=_given_anywhere,
    help="Where queue and results live. [default: $HEADSTART_WORKSPACE, else the nearest parent that has one, else ./workspace]",
)
objects_option = click.option(
    "--objects",
    envvar="HEADSTART_OBJECTS",
    metavar="URL",
    help="An object store, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, that has the features instead of the workspace.",
    show_envvar=True,
)
as_json = click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object on standard output.")
run_option = click.option(
    "--run",
    default="best",
    show_default=True,
    metavar="best|N",
    help="A run's number, see `headstart runs`. best: the best on validation of those that share task and targets with the "
    "newest experiment.",
)
weights_option = click.option(
    "--weights",
    default="hub",
    show_default=True,
    metavar="hub|FILE|embedded|random:SEED",
    help="hub: pretrained, downloaded once. FILE: safetensors or a torch state dict. embedded: the small encoder that ships with "
    "Headstart, for trying things out. random:SEED: untrained.",
)
_DATA_OPTIONS = (
    click.option("--path-col", metavar="COLUMN", help="Table: where the paths are."),
    click.option("--label-col", metavar="COLUMN", help="Table: where the labels are."),
    click.option("--split-col", metavar="COLUMN", help="Table: train, val or test."),
    click.option("--group-col", metavar="COLUMN", help="Table: images of one group (a patient, a scene) stay in one split."),
    click.option(
        "--group-by",
        metavar="folder|DEPTH",
        help="Images of one folder (a site, a burst, a patient) stay in one split: of the deepest, or of the first DEPTH folders "
        "below DATA; none: no more.",
    ),
    click.option(
        "--layout",
        type=click.Choice(["auto", "classes", "flat"]),
        default="auto",
        show_default=True,
        help="Folders: what they mean.",
    ),
    click.option("--allow-symlinks", is_flag=True, help="Follow symbolic links out of DATA."),
    click.option("--keep-case", is_flag=True, help="Take 'Cat' and 'cat' for two classes."),
)


def data_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How DATA is to be read; see `features.sources.source.SourceOptions`."""
    for option in reversed(_DATA_OPTIONS):
        function = option(function)
    return function


def chosen_workspace(directory: str | None) -> Workspace:
    return open_workspace(find_root(directory))


def option_of(field: "Field") -> Callable[..., Any]:
    """The flag of an option that a user's file or a recipe says; of one that is called `data`, an argument."""
    shown = ",".join(map(str, field.default)) if field.is_many else field.default
    help = field.about.help + (
        "" if shown in (None, "") else f" [default: {str(shown).lower() if field.type is bool else shown}]"
    )
    if field.name == "data":
        return click.argument("data", required=False, metavar="[DATA]")
    if field.type is bool:
        return click.option(f"{field.flag}/--no-{field.flag[2:]}", field.name, default=None, help=help)
    if field.about.choices and not field.is_many:
        return click.option(field.flag, field.name, type=click.Choice(field.about.choices), default=None, help=help)
    metavar = {"int": "N", "float": "X", "str": "TEXT", "Path": "FILE"}[field.type.__name__]
    several = f"{metavar},..." if field.about.separator == "," else f"{metavar} ..."
    return click.option(field.flag, field.name, default=None, metavar=several if field.is_many else metavar, help=help)


class Duration(ParamType[float]):
    """`90`, `90s`, `55m`, `2h`, `1h30m` as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", str(value).strip())
        if not match or not any(match.groups()):
            self.fail(f"{value!r} is not a duration; write 90s, 55m or 1h30m", param, ctx)
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds


class Size(ParamType[int]):
    """`600MB`, `4GB`, `1.5GiB` as bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT])(i?)B", str(value).strip(), re.IGNORECASE)
        if not match:
            self.fail(f"{value!r} is not a size; write 600MB, 4GB or 1.5GiB", param, ctx)
        return int(float(match[1]) * (1024 if match[3] else 1000) ** (" KMGT".index(match[2].upper())))


class Pool(ParamType[int]):
    """A positive number: the edge of a grid."""

    name = "pool"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int) or (str(value).isdecimal() and int(value) > 0):
            return int(value)
        self.fail(f"{value!r} is not a positive number. If it is DATA, write it before --spatial", param, ctx)


class ImageSize(ParamType["int | tuple[int, int]"]):
    """`224` as the edge of a square, `360x480` as (height, width)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, int]:
        edges = [int(edge) for edge in str(value).lower().split("x") if edge.isdecimal() and int(edge) > 0]
        if len(edges) != str(value).lower().count("x") + 1 or len(edges) > 2:
            self.fail(f"{value!r} is no size in pixels; write 224, or 360x480 for a height of 360", param, ctx)
        return edges[0] if len(edges) == 1 else (edges[0], edges[1])


class Strides(ParamType["tuple[int, ...]"]):
    """`8,16,32`: positive numbers."""

    name = "strides"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if not all(part.isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} are no strides in pixels; write 8,16,32", param, ctx)
        return tuple(sorted({int(part) for part in parts}))


maps_option = click.option(
    "--maps",
    type=Strides(),
    default=(),
    metavar="8,16,32",
    help="Also keep feature maps of these strides, brought to the finest one: for segmentation. The encoder then sees the whole "
    "image, scaled to --image-size.",
)
compress_option = click.option(
    "--compress",
    default="",
    metavar="pca:N,int8",
    help="Keep these maps smaller: N channels by PCA, numbers in one byte, or both, fitted to a sample of DATA.",
)


def patch_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How images are cut into patches; see `features.planning.patches.PatchRequest`."""
    size = click.option(
        "--patches",
        "patch_size",
        type=click.IntRange(min=1),
        metavar="PIXELS",
        help="Cut the images into squares of so many pixels, 16 a job, at their own resolution: for segmentation of images of "
        "any size. Keeps maps of strides 8, 16 and 32 if --maps says nothing else.",
    )
    overlap = click.option(
        "--overlap", type=click.IntRange(min=0), metavar="PIXELS", help="With --patches: of neighbouring patches. [default: 0]"
    )
    return size(overlap(function))


ram_budget = click.option(
    "--ram-budget", type=Size(), metavar="SIZE", help="Memory this process may take, such as 600MB: batches are made to fit."
)
vram_budget = click.option(
    "--vram-budget",
    type=Size(),
    metavar="SIZE",
    help="GPU memory this process may take, driver included; of a GPU that "
    "shares the machine's memory, all that it may take. [default: 4GB]",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "xpu", "mps"]),
    default="auto",
    show_default=True,
    help="auto: a GPU where torch can use one: of NVIDIA (cuda), Intel (xpu) or Apple (mps), in this order.",
)


def work_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How jobs run, for every command that may run some."""
    batch = click.option(
        "--batch-size", default="auto", show_default=True, metavar="N|auto", callback=_batch_size, help="Images at once."
    )
    return device_option(batch(ram_budget(vram_budget(function))))


def _batch_size(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) == 0:
        raise click.BadParameter(f"{value!r} is neither a positive number nor 'auto'")
    return int(value)
