"""Makes the int8 graph of an encoder from its float32 graph: scales are calibrated on images that stand on standard input.

`python -m headstart.features.encoders.calibrate FOLDER COUNT`, a process of its own: NNCF takes seconds to be imported and much
memory, and only `enqueue` needs it. Nothing is sent to anybody.
"""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.networks.quiet import quiet_logger, silent_output
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import ExplainedError, HeadstartError
from headstart.pipeline.text import reason_of
from headstart.pipeline.workspace import open_workspace

from .onnx_encoder import GRAPH_NAME
from .precision import CALIBRATED_NAME, LARGEST_GRAPH
from .spec import read_encoder


def calibrate(graph: bytes, images: NDArray[np.uint8]) -> bytes:
    """The graph with weights and activations of its products in int8; the same graph and images give the same bytes.

    Args:
        images: (n, h, w, 3), as the encoder takes them.

    Raises: HeadstartError if NNCF cannot do it.
    """
    # It and OpenVINO, which it imports, would report their use to their makers. This is what they look at first.
    os.environ["NNCF_DEV"] = "1"
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # no such module
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with silent_output(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nncf
        import onnx

        try:
            with quiet_logger("nncf", logging.ERROR):
                model = _without_last_casts(onnx.load_from_string(graph))
                sample = nncf.Dataset([{"images": images[i : i + 1]} for i in range(len(images))])
                made = nncf.quantize(model, sample, subset_size=len(images), **_kind_of(model))
        except Exception as error:  # it raises anything
            raise HeadstartError(f"NNCF cannot make an int8 graph of it: {reason_of(error)}. Use --precision bfloat16") from None
        return bytes(made.SerializeToString(deterministic=True))


def _without_last_casts(model: Any) -> Any:
    """The model without the casts (to what they are) that make its outputs: NNCF takes them away, and misses the outputs."""
    outputs = {output.name for output in model.graph.output}
    for cast in [node for node in model.graph.node if node.op_type == "Cast" and node.output[0] in outputs]:
        source, output = cast.input[0], cast.output[0]
        model.graph.node.remove(cast)
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [output if name == source else name for name in names]
    return model


def _kind_of(model: Any) -> dict[str, Any]:
    """What NNCF should know: attention's products are quantized otherwise, and the first layer like all others.

    It would round the first layer's weights to 7 bits, because sums of int8 products can overflow where they are added in 16.
    Every processor that `require_precision` lets through adds in 32.
    """
    import nncf

    has_attention = any(node.op_type == "Softmax" for node in model.graph.node)
    whole_range = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.DISABLE)
    return {"advanced_parameters": whole_range, **({"model_type": nncf.ModelType.TRANSFORMER} if has_attention else {})}


def main() -> int:
    """Exit status and one line on standard error."""
    try:
        folder, count = Path(sys.argv[1]), int(sys.argv[2])
        pixels = np.frombuffer(sys.stdin.buffer.read(), np.uint8)
        images = pixels.reshape(count, *read_encoder(folder).transform.image_size, 3)
        data = calibrate(reading.read(folder / GRAPH_NAME, LARGEST_GRAPH), images)
        open_workspace(folder.parent.parent).files.replace(folder / CALIBRATED_NAME, data)
    except ExplainedError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
