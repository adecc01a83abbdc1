"""Which encoder the user means: a model, weights and an image size become one EncoderSpec that was tried out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from headstart.features.images.gpu_jpeg import GPU_INTERPOLATIONS
from headstart.features.images.transform import Transform, parse_transform
from headstart.features.networks.architectures import build, load, pooling_of, require_known
from headstart.features.networks.embedded_encoder import EmbeddedWeights, embedded_weights
from headstart.features.networks.feature_map import FeatureMap, find_map, find_maps, find_parts
from headstart.features.networks.weights import Weights, embedded_card, resolve_weights
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import reason_of

from .map_compression import parse_compression
from .precision import FLOAT32, INT8, PRECISIONS, require_installed, require_precision
from .spec import EncoderSpec

if TYPE_CHECKING:
    import torch

DEFAULT_MODEL = "efficientnet_b0"
HUB = "hub"


@dataclass(frozen=True)
class EncoderRequest:
    """What a user says of the encoder; what is left at its default was not said.

    Attributes:
        model: a name of timm's; None is efficientnet_b0, or the embedded encoder's own if weights == 'embedded'.
        weights: see networks.weights.resolve_weights.
        image_size: edge of the square that the network sees, in pixels, or (height, width); None is timm's own for this model.
        fast_decode, device_decode, exif_rotate: see Transform.
        spatial: edge of the grid that the feature map is averaged to and kept; 0 keeps it as it is, None keeps none.
        maps: strides of the maps that are kept; the network then sees the whole image, scaled without regard to its proportions,
            so that a place of the map is a place of the image.
        stages, image_stats: whether mean and deviation of the network's stages, and statistics of the image, are part of the
            vector, see `networks.vector_parts`.
        precision: that the network is to compute in, see `precision`; which features it gives is tried out where images are.
        else_float32: float32 where this processor has no instructions for that precision, or its features are not good enough.
        compress: how maps are made smaller before they are kept, such as 'pca:128,int8'; '': not at all. It is fitted to a sample
            of the images, see `planning.compressed`.
    """

    model: str | None = None
    weights: str = HUB
    image_size: int | tuple[int, int] | None = None
    fast_decode: bool = False
    spatial: int | None = None
    device_decode: bool = False
    maps: tuple[int, ...] = ()
    exif_rotate: bool = False
    stages: bool = False
    image_stats: bool = False
    precision: str = FLOAT32
    else_float32: bool = False
    compress: str = ""


def resolve_encoder(request: EncoderRequest) -> tuple[EncoderSpec, Weights | EmbeddedWeights]:
    """The encoder that `request` means, tried out on one image; the one inside the package was before.

    Raises: HeadstartError if model, weights or image size are unknown, or do not go together.
    """
    packaged = packaged_encoder(request)
    if packaged is not None:
        return packaged
    model, weights, image_size, maps = request.model, request.weights, request.image_size, request.maps
    if weights == "embedded":
        card = embedded_card()
        model, model_args, transform = model or str(card["model"]), dict(card["model_args"]), parse_transform(card["transform"])
    else:
        model, model_args = model or DEFAULT_MODEL, {}
        require_known(model)
        transform = _transform_of(model)
    transform = decoded_as_asked(transform, model, request)
    if maps:
        if request.spatial is not None:
            raise HeadstartError("--maps keeps feature maps, and so does --spatial. Leave one of them out")
        transform = replace(transform, crop_mode="squash", crop_pct=1.0)
    if image_size is not None:
        edges = (image_size, image_size) if isinstance(image_size, int) else image_size
        transform = replace(transform, image_size=edges)
        model_args |= _size_argument(model, image_size)
        _try_out(model, model_args, None, transform)  # before weights are fetched, or called the wrong ones
    resolved = resolve_weights(model, model_args, weights)
    network, embed_dim = _try_out(model, model_args, resolved.tensors, transform)
    if maps:
        kept: FeatureMap | None = find_maps(network, model, transform.image_size, maps)
    else:
        grid = request.spatial
        kept = None if grid is None else find_map(network, model, transform.image_size, grid or None)
    parts = find_parts(network, model, transform.image_size, embed_dim, request.stages, request.image_stats)
    spec = EncoderSpec(
        model=model,
        model_args=model_args,
        weights_source=resolved.source,
        weights_sha256=resolved.sha256,
        transform=transform,
        pooling=pooling_of(network),
        embed_dim=embed_dim if parts is None else parts.length,
        spatial=kept,
        parts=parts,
    )
    return spec, resolved


def packaged_encoder(request: EncoderRequest) -> tuple[EncoderSpec, EmbeddedWeights] | None:
    """The encoder inside the package, which was tried out when it was made: neither torch nor timm; None if another is meant.

    Raises: HeadstartError if the request contradicts itself, whatever encoder it means.
    """
    _require_precision(request)
    if request.compress:
        parse_compression(request.compress)
        if not request.maps and request.spatial is None:
            raise HeadstartError(
                f"--compress {request.compress} makes feature maps smaller, and none are kept. Pass --maps 8,16,32"
            )
        if request.precision != FLOAT32:
            raise HeadstartError("--compress was fitted for no other precision than float32. Leave --compress or --precision out")
    is_more = (
        request.image_size is not None or request.spatial is not None or request.maps or request.stages or request.image_stats
    )
    if request.weights != "embedded" or is_more:
        return None
    card = embedded_card()
    model, given = str(card["model"]), embedded_weights()
    if request.model not in (None, model) or given is None:
        return None
    transform = decoded_as_asked(parse_transform(card["transform"]), model, request)
    pooling, embed_dim = str(card["graph"]["pooling"]), int(card["embed_dim"])
    return EncoderSpec(model, dict(card["model_args"]), given.source, given.sha256, transform, pooling, embed_dim), given


def decoded_as_asked(transform: Transform, model: str, request: EncoderRequest) -> Transform:
    """timm's transform for `model`, and how `request` wants images read. Raises: HeadstartError if a GPU cannot scale them so."""
    if request.device_decode and transform.interpolation not in GPU_INTERPOLATIONS:
        raise HeadstartError(
            f"--device-decode: {model} has its images scaled by {transform.interpolation}, a GPU knows "
            f"{' and '.join(GPU_INTERPOLATIONS)}. Leave it out, or choose another --encoder"
        )
    return replace(
        transform,
        fast_decode=request.fast_decode,
        device_decode=request.device_decode,
        whole_range=True,
        deep_colour=True,
        exif_rotate=request.exif_rotate,
    )


def _require_precision(request: EncoderRequest) -> None:
    if request.precision not in PRECISIONS:
        raise HeadstartError(f"precision {request.precision!r} is none of {', '.join(PRECISIONS)}")
    if request.precision == FLOAT32:
        if request.else_float32:
            raise HeadstartError(
                "--else-float32 says what to do if --precision cannot be had, which is missing. Pass --precision"
            )
        return
    if request.device_decode:
        raise HeadstartError("--precision is for CPUs, --device-decode for a GPU. Leave one of them out")
    require_installed("openvino", *(("nncf", "onnx") if request.precision == INT8 else ()))
    if not request.else_float32:
        require_precision(request.precision)


def _transform_of(model: str) -> Transform:
    from timm.data.config import resolve_data_config

    config = resolve_data_config({}, pretrained_cfg=_pretrained_config(model))  # type: ignore[no-untyped-call]
    channels, *image_size = config["input_size"]
    if channels != 3:
        raise HeadstartError(f"{model} takes images of {channels} channels, expected 3 (RGB). Choose another encoder")
    return parse_transform({**config, "image_size": image_size})


def _pretrained_config(model: str) -> dict[str, Any]:
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(model, allow_unregistered=True)
    return asdict(config) if config else {"input_size": (3, 224, 224)}


def _size_argument(model: str, image_size: int | tuple[int, int]) -> dict[str, Any]:
    # Transformers are built for one size of image; convolutional networks take what comes.
    return {"img_size": image_size} if _pretrained_config(model).get("fixed_input_size") else {}


def _try_out(
    model: str, model_args: Mapping[str, Any], tensors: "Mapping[str, torch.Tensor] | None", transform: Transform
) -> tuple["torch.nn.Module", int]:
    """The network, and the length of the vector that it makes of a black image. Raises: HeadstartError if it makes none."""
    import torch

    height, width = transform.image_size
    try:
        network = build(model, model_args)
        if tensors is not None:
            load(network, tensors)
        with torch.inference_mode():
            features = network(torch.zeros(1, 3, height, width))
        if features.ndim != 2:
            raise ValueError(f"it gives {list(features.shape)} instead of one vector an image")
    except Exception as error:
        raise HeadstartError(
            f"{model} does not work on images of {height} x {width}: {reason_of(error)}. Choose another --image-size or --encoder"
        ) from error
    if not torch.isfinite(features).all():
        raise HeadstartError(f"{model} with these weights gives NaN or infinity for a black image. Pass other --weights")
    return network, int(features.shape[1])
