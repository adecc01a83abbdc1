"""What comes from outside passes the door of its kind, and no module calls past it. Part of `make check`."""

from pathlib import Path

import pytest

from tests.doors import Door, passed_by, sources

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "it is part of the package"
SYSTEM = "the kernel's own file"
OPENED = "of a file that the door of reading opened"


def door(calls, modules, exceptions=None):
    return Door(frozenset(calls.split()), tuple(modules.split()), exceptions or {})


DOORS = {
    "reading": door(
        "open io.open os.open os.fdopen builtins.open codecs.open .open .read_text .read_bytes io.FileIO mmap.mmap",
        "pipeline/paths.py pipeline/doors/reading.py features/arrays.py",
        {
            "cli.py": "the log of a bug, a new file of its own",
            "experiments/report/page.py": PACKAGE,
            "experiments/training/recipe.py": PACKAGE,
            "features/devices.py": SYSTEM,
            "features/encoders/graph_check.py": OPENED,
            "features/images/decode.py": "the door of images: regular files, unchanged, in the data's folder unless allowed",
            "features/manifest/digests.py": "the same door for digests, which reads no whole file; and a journal, through paths",
            "features/networks/embedded_encoder.py": PACKAGE,
            "features/networks/quiet.py": SYSTEM,
            "features/planning/machine.py": SYSTEM,
            "features/sources/results/ingest.py": "the table that the user named, a new file",
            "features/store/mapped_shards.py": OPENED,
            "pipeline/child.py": "a pipe to its own child",
            "pipeline/enqueue.py": "the kind of a file that paths opened",
            "pipeline/files.py": "likewise",
            "pipeline/liveness.py": SYSTEM,
            "pipeline/memory.py": SYSTEM,
            "pipeline/supervisor.py": "memory that it shares with its own child",
        },
    ),
    "writing": door(
        ".write_text .write_bytes .symlink_to .hardlink_to os.link os.symlink os.truncate os.mkdir os.makedirs os.utime os.chmod",
        "pipeline/paths.py",
        {"pipeline/child.py": SYSTEM},
    ),
    "removing": door(
        "os.remove os.unlink os.rename os.renames os.replace os.rmdir os.removedirs shutil.rmtree shutil.move shutil.copy "
        "shutil.copy2 shutil.copyfile shutil.copytree .unlink .rmdir .rename .replace",
        "pipeline/paths.py",
        {
            "features/acceptance/gpu_acceptance.py": "a workspace that it just made, in a temporary folder",
            "features/sources/results/ingest.py": "the table that the user named",
        },
    ),
    "arrays": door(
        "numpy.load numpy.fromfile numpy.memmap numpy.loadtxt numpy.genfromtxt zipfile.ZipFile numpy.lib.format.read_array",
        "features/arrays.py",
        {
            "experiments/serving/torch_head.py": "bytes that it just made",
            "features/store/cache_part.py": OPENED,
            "features/store/maps.py": OPENED,
        },
    ),
    "HDF5": door(
        "h5py.File",
        "features/arrays.py",
        {
            "experiments/interchange/formats/h5.py": "written into memory",
            "features/images/reader.py": "data sets only through arrays.hdf5_dataset, which refuses what leads out",
            "features/manifest/digests.py": "likewise",
            "features/sources/hdf5.py": "likewise, and a regular file",
            "features/store/cache_part.py": OPENED,
        },
    ),
    "Parquet": door(
        "pyarrow.parquet.ParquetFile pyarrow.parquet.read_table pyarrow.parquet.read_pandas pyarrow.parquet.read_metadata "
        "pyarrow.parquet.read_schema pyarrow.parquet.ParquetDataset pyarrow.dataset.dataset pandas.read_parquet",
        "features/sources/parquet.py features/sources/parquet_child.py",
    ),
    "pickles": door(
        "torch.load torch.jit.load torch.export.load pickle.load pickle.loads pickle.Unpickler marshal.load marshal.loads "
        "shelve.open joblib.load dill.load dill.loads pandas.read_pickle",
        "",
        {
            "experiments/strokes/pickled.py": "builds data alone: every name is looked up in a table of harmless ones",
            "experiments/heads/trained_head.py": "weights_only, of bytes that the door of reading read",
            "experiments/serving/export.py": "bytes that it just made",
            "experiments/serving/recipe_run.py": "bytes that it just made",
            "experiments/serving/whole.py": "bytes that it just made",
            "experiments/training/state/checkpoints.py": "weights_only, of a file whose digest its name says",
            "features/networks/weights_file.py": "weights_only, of a file that the user named",
        },
    ),
    "databases": door(
        "sqlite3.connect sqlite3.Connection",
        "experiments/runs/database/database.py",
        {"features/sources/results/ingest.py": "a database of its own without a name"},
    ),
    "processes": door(
        "subprocess.run subprocess.Popen subprocess.call subprocess.check_call subprocess.check_output subprocess.getoutput "
        "subprocess.getstatusoutput os.system os.popen os.execv os.execve os.execvp os.spawnv os.posix_spawn os.fork pty.spawn "
        "multiprocessing.Process concurrent.futures.ProcessPoolExecutor",
        "pipeline/doors/python.py pipeline/doors/programs.py",
        {"cli.py": "itself, in another mode", "pipeline/forked.py": "itself, before anything was read"},
    ),
    "records": door(
        "json.load json.loads json.JSONDecoder",
        "pipeline/doors/records.py",
        {
            "experiments/heads/trainer.py": "of a checkpoint whose digest its name says",
            "experiments/training/loop.py": "of a checkpoint whose digest its name says",
            "features/images/decode_child.py": "what its parent asks",
            "features/sources/parquet_child.py": "what its parent asks",
            "features/encoders/prepare_child.py": "what its parent asks",
            "features/sources/results/ingest.py": "what it wrote into a database of its own",
            "features/sources/results/json_stream.py": "tables of the user, piece by piece; it knows depth and length",
            "pipeline/child.py": "what its child answers",
            "pipeline/suspect_child.py": "what its parent asks",
        },
    ),
    "graphs": door(
        "onnx.load onnx.load_model onnxruntime.InferenceSession .read_model .import_model",
        "features/encoders/onnx_encoder.py features/encoders/compiled.py",
        {
            "experiments/serving/export.py": "bytes that it just made",
            "experiments/serving/onnx_head.py": "a graph that the door opened, which has no other file",
            "features/encoders/pooled_map.py": "a graph that the door opened, with one more output",
            "experiments/serving/recipe_run.py": "bytes that it just made",
            "experiments/serving/whole.py": "bytes that it just made",
        },
    ),
    "weights": door(
        "safetensors.safe_open safetensors.torch.load_file safetensors.torch.load_model safetensors.numpy.load_file",
        "features/networks/weights_file.py",
        {"features/networks/embedded_encoder.py": PACKAGE},
    ),
    "trackers": door(
        "torch.utils.tensorboard.SummaryWriter tensorboardX.SummaryWriter "
        "tensorboard.backend.event_processing.event_accumulator.EventAccumulator",
        "experiments/tracking/tensorboard.py",  # which looks at what lies there first
    ),
    "networks": door(
        "socket.socket socket.create_connection urllib.request.urlopen urllib.request.urlretrieve http.client.HTTPConnection "
        "http.client.HTTPSConnection requests.get requests.post requests.request requests.Session huggingface_hub.get_session "
        "huggingface_hub.hf_hub_download huggingface_hub.snapshot_download torch.hub.load torch.hub.load_state_dict_from_url "
        "torch.hub.download_url_to_file mlflow.tracking.MlflowClient ray.init webbrowser.open "
        "fsspec.filesystem fsspec.open fsspec.open_files fsspec.url_to_fs fsspec.core.url_to_fs",
        # Where the user named an address.
        "features/networks/weights_hub.py experiments/tracking/mlflow.py pipeline/executors/* pipeline/objects.py",
        {"commands/output/terminal.py": "a page that it just wrote, by its path, and only with --open"},
    ),
    "locks": door("fcntl.flock fcntl.lockf filelock.FileLock filelock.SoftFileLock", "pipeline/doors/locks.py"),
    "code": door(
        "eval exec compile builtins.eval builtins.exec importlib.import_module runpy.run_path runpy.run_module "
        "importlib.util.spec_from_file_location ctypes.CDLL ctypes.PyDLL ctypes.cdll.LoadLibrary torch.ops.load_library "
        "torch.classes.load_library .register_custom_ops_library .add_extension",
        "pipeline/doors/code.py pipeline/kinds.py",
        {
            "cli.py": PACKAGE,
            "headstart/__init__.py": PACKAGE,
            "experiments/interchange/export_features.py": PACKAGE,
            "experiments/training/recipe.py": PACKAGE,
            "features/accelerators.py": "the system's own library of the driver",
            "features/networks/torch_roots.py": "the installed torch's own library",
            "features/networks/quiet.py": "the C library that is there already",
            "pipeline/memory.py": "the C library that is there already",
            "pipeline/child.py": "likewise",
            "pipeline/executor.py": PACKAGE,
            "experiments/linear/method.py": PACKAGE,
            "pipeline/versions.py": "of a fixed table of libraries",
        },
    ),
    "YAML": door(
        "yaml.load yaml.safe_load yaml.full_load yaml.unsafe_load yaml.load_all yaml.safe_load_all yaml.compose yaml.parse",
        "pipeline/doors/yaml_files.py",
    ),
    "pictures": door(
        "PIL.Image.open cv2.imread imageio.imread",
        "features/images/decode.py",
    ),
    "printing": door(
        "print pprint.pprint click.echo click.secho click.echo_via_pager sys.stdout sys.stderr sys.__stdout__ sys.__stderr__",
        "cli.py commands/*",  # in them every stream is a text.Screen, which escapes; libraries print nothing
        {
            "experiments/tracking/console.py": "on the stream that the command escapes",
            "features/encoders/onnx_export.py": "a line for the process that started it",
            "features/encoders/calibrate.py": "likewise",
            "features/encoders/runtime.py": "on the stream that the command escapes",
            "features/networks/quiet.py": "flushes",
            "pipeline/stop.py": "flushes",
        },
    ),
}

PAST = {
    "YAML": ["import yaml\nyaml.safe_load('1')", "from yaml import load as read\nread(text, Loader=FullLoader)"],
    "reading": [
        "open('x')",
        "import io\nio.open('x')",
        "import os\nos.open('x', 0)",
        "from os import open as o\no('x', 0)",
        "path.open()",
        "path.read_text()",
        "(folder / 'x').read_bytes()",
        "from pathlib import Path\nPath('x').read_bytes()",
        "from pathlib import Path\nmap(Path.read_text, [])",
        "list(map(open, names))",
        "import mmap as m\nm.mmap(3, 0)",
    ],
    "writing": ["path.write_text('x')", "path.write_bytes(b'')", "import os\nos.symlink('a', 'b')", "a.hardlink_to(b)"],
    "removing": [
        "import os\nos.remove('x')",
        "import os as system\nsystem.unlink('x')",
        "from os import rename\nrename('a', 'b')",
        "import os\nos.replace('a', 'b')",
        "import shutil\nshutil.rmtree('x')",
        "from shutil import rmtree as gone\ngone('x')",
        "path.unlink(missing_ok=True)",
        "old.rename(new)",
        "old.replace(new)",
        "import os\nremove = os.remove",
    ],
    "arrays": [
        "import numpy as np\nnp.load('x')",
        "import numpy\nnumpy.fromfile('x')",
        "from numpy import memmap\nmemmap('x')",
        "def f():\n    from zipfile import ZipFile\n    ZipFile('x')",
    ],
    "Parquet": ["import pyarrow.parquet as pq\npq.ParquetFile('x')", "from pandas import read_parquet\nread_parquet('x')"],
    "HDF5": ["import h5py\nh5py.File('x')", "from h5py import File\nFile('x')"],
    "pickles": [
        "import torch\ntorch.load('x')",
        "import torch.jit\ntorch.jit.load('x')",
        "import pickle\npickle.loads(b'')",
        "import joblib\njoblib.load('x')",
    ],
    "databases": ["import sqlite3\nsqlite3.connect('x')", "from sqlite3 import connect\nconnect('x')"],
    "processes": [
        "import subprocess\nsubprocess.run(['x'])",
        "from subprocess import Popen\nPopen(['x'])",
        "import os\nos.system('x')",
        "import concurrent.futures\nconcurrent.futures.ProcessPoolExecutor()",
    ],
    "records": ["import json\njson.load(f)", "from json import loads\nloads('x')", "import json as j\nj.loads('x')"],
    "code": [
        "eval('x')",
        "exec('x')",
        "from importlib import import_module\nimport_module(name)",
        "import runpy\nrunpy.run_path('x')",
        "import ctypes\nctypes.CDLL('x.so')",
        "import torch\ntorch.ops.load_library('x.so')",
        "options.register_custom_ops_library('x.so')",
    ],
    "graphs": [
        "import onnx\nonnx.load('x')",
        "from onnxruntime import InferenceSession\nInferenceSession('x')",
        "import openvino\nopenvino.Core().read_model('x')",
        "import openvino\nopenvino.Core().import_model(b'x', 'CPU')",
    ],
    "weights": [
        "from safetensors import safe_open\nsafe_open('x', 'pt')",
        "import safetensors.torch\nsafetensors.torch.load_file('x')",
        "from safetensors.numpy import load_file as read\nread('x')",
    ],
    "trackers": [
        "from torch.utils.tensorboard import SummaryWriter\nSummaryWriter('x')",
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\nEventAccumulator('x')",
    ],
    "networks": [
        "import socket\nsocket.create_connection(('x', 80))",
        "from urllib.request import urlopen\nurlopen('x')",
        "import requests\nrequests.get('x')",
        "from huggingface_hub import hf_hub_download\nhf_hub_download('x', 'y')",
        "import webbrowser\nwebbrowser.open('x')",
        "import fsspec\nfsspec.filesystem('s3')",
    ],
    "locks": ["import fcntl\nfcntl.flock(3, fcntl.LOCK_EX)", "from filelock import FileLock\nFileLock('x')"],
    "pictures": ["from PIL import Image\nImage.open('x')", "import PIL.Image\nPIL.Image.open('x')"],
    "printing": [
        "print('x')",
        "import click\nclick.echo('x')",
        "import sys\nsys.stdout.write('x')",
        "from sys import stderr\nstderr.write('x')",
        "import click as c\nc.secho('x')",
    ],
}
INNOCENT = {
    "a text's replace": "'x'.replace('a', 'b')",
    "a data class's replace": "from dataclasses import replace\nreplace(spec, a=1)",
    "the door's own call": "from headstart.pipeline import paths\npaths.remove(path)\npaths.rename(a, b)",
    "json written": "import json\njson.dumps({})",
    "a word in a text": "'''open('x') and os.remove('y')'''",
    "a frame's rename": "table.rename(columns={})",
}


def test_nothing_passes_by_a_door():
    """An exception needs its reason in the table above; better is to go through the door."""
    assert [line for path, source in sources(ROOT) for line in passed_by(source, path, DOORS)] == []


def test_no_exception_is_left_that_nobody_needs():
    needed = {
        (kind, path)
        for path, source in sources(ROOT)
        for kind, one in DOORS.items()
        if passed_by(source, path, {kind: Door(one.calls, (), {})})
    }
    assert [(kind, path) for kind, one in DOORS.items() for path in one.exceptions if (kind, path) not in needed] == []


@pytest.mark.parametrize(("kind", "source"), [(kind, source) for kind, sources_of in PAST.items() for source in sources_of])
def test_a_call_past_a_door_is_seen(kind, source):
    [said] = {line.partition(": ")[2].partition(" passes")[2] for line in passed_by(source, "features/new.py", DOORS)}
    assert said == f" by the door of {kind}"


@pytest.mark.parametrize("source", INNOCENT.values(), ids=INNOCENT.keys())
def test_what_goes_through_no_door_is_not_called_so(source):
    assert passed_by(source, "features/new.py", DOORS) == []


def test_each_kind_is_shown_to_fail():
    assert PAST.keys() == DOORS.keys()
