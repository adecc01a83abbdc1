import contextlib
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from headstart.features.encoders import compiled as module
from headstart.features.encoders import user_cache
from headstart.features.encoders.compiled import compiled
from headstart.features.encoders.onnx_encoder import GRAPH_NAME
from headstart.features.encoders.onnx_export import export_graph
from headstart.features.encoders.precision import require_precision
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_or_create_workspace
from tests.support import ROOT, flip

openvino = pytest.importorskip("openvino", reason="OpenVINO, of the extra `fast`, is not installed")
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 2}
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    workspace = open_or_create_workspace(tmp_path_factory.mktemp("compiled") / "workspace")
    folder = save_encoder(workspace, *resolve_encoder(EncoderRequest("test_resnet", "random:0", 64)))
    assert not export_graph(folder).refused
    return (folder / GRAPH_NAME).read_bytes()


@pytest.fixture
def done(monkeypatch):
    """What OpenVINO is asked from now on: 'compile' or 'import'."""
    asked = []

    class Core(openvino.Core):
        def compile_model(self, *arguments):
            asked.append("compile")
            return super().compile_model(*arguments)

        def import_model(self, *arguments):
            asked.append("import")
            return super().import_model(*arguments)

    monkeypatch.setattr(openvino, "Core", Core)
    return asked


def features(model):
    request = model.create_infer_request()
    request.infer([IMAGES])
    return request.get_output_tensor(0).data.tobytes()


def test_what_was_compiled_once_is_read_and_gives_the_same_bits(graph, cache, done):
    first, second = compiled(graph, SETTINGS), compiled(graph, SETTINGS)
    assert done == ["compile", "import"]
    assert features(first) == features(second)


def test_other_bytes_settings_versions_and_processors_are_compiled_for_themselves(graph, cache, done, monkeypatch):
    compiled(graph, SETTINGS)
    compiled(graph, {**SETTINGS, "NUM_STREAMS": 1})
    compiled(graph + b"\xd2\x3e\x02no", SETTINGS)  # one more field, which no reader knows
    monkeypatch.setattr(openvino, "get_version", lambda: "another")
    compiled(graph, SETTINGS)
    monkeypatch.setattr(user_cache, "processor_features", lambda: frozenset({"sse2"}))
    compiled(graph, SETTINGS)
    assert done == 5 * ["compile"]


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: path.with_name(user_cache.KEPT_NAME).write_bytes(b"{}"),
        lambda path: path.with_name(user_cache.KEPT_NAME).unlink(),
    ],
    ids=["flipped", "torn", "empty", "gone", "a folder", "another record", "no record"],
)
def test_what_is_damaged_is_never_read_by_openvino_and_made_anew(graph, cache, done, damage):
    right = features(compiled(graph, SETTINGS))
    [path] = cache.rglob("compiled.blob")
    damage(path)
    assert features(compiled(graph, SETTINGS)) == right
    assert done == ["compile", "compile"]
    compiled(graph, SETTINGS)  # a folder in its place is taken away by the first, filled by the second
    assert features(compiled(graph, SETTINGS)) == right
    assert done[-1] == "import"


def test_what_openvino_refuses_is_compiled(graph, cache, done):
    right = features(compiled(graph, SETTINGS))
    [kept] = (cache / "compiled").iterdir()
    module._keep(kept, type("Refused", (), {"export_model": lambda self: __import__("io").BytesIO(b"of another OpenVINO")})())
    assert features(compiled(graph, SETTINGS)) == right
    assert done == ["compile", "import", "compile"]
    compiled(graph, SETTINGS)
    assert done[3:] == ["import"]


def test_without_a_folder_to_keep_it_in_all_works(graph, tmp_path, done, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", "")
    right = features(compiled(graph, SETTINGS))
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "file"))
    assert features(compiled(graph, SETTINGS)) == right
    assert done == ["compile", "compile"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_large_graph_is_not_kept(graph, cache, done, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", len(graph) - 1)
    compiled(graph, SETTINGS)
    assert not cache.exists()


def test_openvino_comes_without_its_tools(graph, tmp_path):
    (tmp_path / "graph.onnx").write_bytes(graph)
    code = """
import sys
from headstart.features.encoders.compiled import compiled
compiled(open(sys.argv[1], "rb").read(), {})
print(*[name for name in sys.modules if "telemetry" in name or name.startswith("openvino.tools")])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "graph.onnx")], capture_output=True, text=True, check=True)
    assert done.stdout.split() in ([], ["openvino.tools"])


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_neither_enqueue_nor_work_reports_to_the_makers_of_openvino(tmp_path, precision):
    """They would say who they are in the user's home, whether or not there is a network."""
    if precision not in ready():
        pytest.skip(f"this processor has no instructions for {precision}, or NNCF is not installed")
    home, photos = tmp_path / "home", tmp_path / "photos"
    for folder in (home, photos):
        folder.mkdir()
    for number, image in enumerate(np.random.default_rng(1).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)):
        Image.fromarray(image).save(photos / f"{number}.png")
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment = {**kept, "HOME": str(home), "HEADSTART_CACHE": ""}
    enqueue = ["enqueue", str(photos), "--weights", "embedded", "--precision", precision]
    for words in (enqueue, ["work"]):
        command = [sys.executable, str(ROOT / "cli.py"), *words, "-w", str(tmp_path / "w")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert not (home / "intel").exists()


def ready() -> list[str]:
    has_nncf = importlib.util.find_spec("nncf") is not None
    found = []
    for precision in ("bfloat16", "int8"):
        with contextlib.suppress(HeadstartError):
            require_precision(precision)
            found += [precision] if precision == "bfloat16" or has_nncf else []
    return found


def test_two_threads_may_be_the_first_to_run_it(graph, tmp_path):
    (tmp_path / "graph.onnx").write_bytes(graph)
    # What OpenVINO asks NumPy once, and lets other threads run meanwhile, takes long enough here for another to come in between.
    code = """
import sys, threading, time
import numpy as np
from headstart.features.encoders.compiled import compiled
version = np.lib.NumpyVersion
np.lib.NumpyVersion = lambda text: time.sleep(0.2) or version(text)
model = compiled(open(sys.argv[1], "rb").read(), {"NUM_STREAMS": 2})
together = threading.Barrier(2)
def run():
    request = model.create_infer_request()
    together.wait()
    request.start_async([np.zeros((2, 64, 64, 3), np.uint8)])
    request.wait()
threads = [threading.Thread(target=run) for _ in range(2)]
for thread in threads:
    thread.start()
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "graph.onnx")], timeout=120, check=True)
