"""What becomes of an image that a GPU refuses, and of work whose GPU fails."""

import json
import sys

import numpy as np
import pytest
import torch

from headstart.features.extraction import memory_budget
from headstart.features.images import reader
from headstart.features.images.decode import decode, open_decoder
from headstart.features.images.gpu_jpeg import DeviceJpeg
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.worker import run_job
from headstart.pipeline.workspace import open_workspace
from tests.features.samples import CENTER
from tests.support import run_cli

from .test_gpu_jpeg import DATA, ON_DEVICE, Watched


class Failing(Watched):
    """Raises `errors`, one a call, then decodes; what is asked for again and again fails with the last error if `forever`."""

    def fail(self, *errors, forever=False):
        plain, left = self._decode, list(errors)

        def decode_jpeg(*arguments, **options):
            if left:
                raise left[0] if forever else left.pop(0)
            return plain(*arguments, **options)

        self._decode = decode_jpeg


def test_an_image_that_the_device_refuses_is_pillows_to_decide_on():
    watched = Failing()
    watched.fail(RuntimeError("DecodeJpegCuda.cpp:1, Failed to decode batch: 4"))
    np.testing.assert_array_equal(decode(DATA, ON_DEVICE, watched), decode(DATA, CENTER))
    assert watched.decoded == 0


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"),
        RuntimeError("CUDA out of memory. Tried to allocate 20 MiB\nfrom torch_call_dispatcher"),
        RuntimeError("DecodeJpegCuda.cpp:1, Failed to decode batch: 5"),
    ],
    ids=["torch", "torchcodec", "nvJPEG"],
)
def test_a_lack_of_memory_is_tried_again_and_never_a_reason_for_other_pixels(error):
    watched = Failing()
    watched.fail(error)
    assert decode(DATA, ON_DEVICE, watched).shape == (224, 224, 3)
    assert watched.decoded == 1
    watched.fail(error, forever=True)
    with pytest.raises(HeadstartError, match="could not decode an image of 300 x 200 pixels") as caught:
        decode(DATA, ON_DEVICE, watched)
    assert "\n" not in str(caught.value)
    assert not watched._turn.locked()


def test_a_device_that_fails_at_everything_ends_the_work_instead_of_giving_other_pixels():
    watched = Failing()
    watched.fail(RuntimeError("CUDA error: unspecified launch failure"), forever=True)
    with pytest.raises(HeadstartError, match="torchcodec cannot decode on cpu"):
        decode(DATA, ON_DEVICE, watched)


def test_a_device_that_cannot_decode_at_all_is_found_out_at_once(monkeypatch):
    import torchcodec.decoders

    def fail(*arguments, **options):
        raise RuntimeError("not compiled with nvJPEG support\nmore")

    monkeypatch.setattr(torchcodec.decoders, "decode_jpeg", fail)
    with pytest.raises(HeadstartError, match="torchcodec cannot decode on cpu \\(not compiled with nvJPEG support"):
        DeviceJpeg(ON_DEVICE, "cpu")


def test_without_torchcodec_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(HeadstartError, match=r"pip install 'torchcodec>=0.16'"):
        open_decoder(ON_DEVICE, "cuda")


def test_a_job_decodes_on_the_device_and_says_with_what(tmp_path, monkeypatch):
    order = []

    def opened(transform, device):
        on_device = DeviceJpeg(transform, "cpu")
        return lambda data: order.append("decode") or decode(data, transform, on_device)

    plan_batching = memory_budget.plan_batching
    monkeypatch.setattr(memory_budget, "plan_batching", lambda *given: order.append("plan") or plan_batching(*given))
    monkeypatch.setattr(reader, "open_decoder", opened)
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / f"photos/{number}.jpg").write_bytes(DATA)
    done = run_cli("enqueue", "photos", "--weights", "embedded", "--device-decode", "-w", "w", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run_job(open_workspace(tmp_path / "w"), "job_000000")
    [path] = (tmp_path / "w/features").glob("encoder_*/done/*/*.done")
    marker = json.loads(path.read_text())
    assert marker["ok"] == 3
    assert "torchcodec" in marker["facts"]["versions"]
    assert order == ["plan", "decode", "decode", "decode"]  # planned while nothing else takes memory there
