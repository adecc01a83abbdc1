import contextlib
import json
import shutil

import pytest

from headstart.features.encoders import prepare_child, prepared
from headstart.features.encoders.onnx_encoder import GRAPH_FACTS_NAME, GRAPH_NAME
from headstart.features.encoders.prepared import Preparation, begin_encoder, parse_preparation, prepare, ready_graph
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.spec import WEIGHTS_NAME, read_encoder
from headstart.pipeline.child import ChildEnded
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.workspace import open_or_create_workspace

TINY = EncoderRequest("test_efficientnet", "random:3", 64)


@pytest.fixture
def workspace(tmp_path):
    return open_or_create_workspace(tmp_path / "workspace")


@pytest.fixture
def elsewhere(monkeypatch):
    """As in a process that has not loaded torch."""
    monkeypatch.setattr(prepared, "_has_torch", lambda: False)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


def test_a_child_makes_the_same_files_and_leaves_nothing_but_them(workspace, elsewhere, monkeypatch):
    spec, weights = resolve_encoder(TINY)
    there = save_encoder(workspace, spec, weights)
    with contextlib.ExitStack() as held:
        again, made = begin_encoder(
            open_or_create_workspace(workspace.root.with_name("other")), TINY, held, with_graph=True
        ).finished()
        assert again == spec
        other = save_encoder(open_or_create_workspace(workspace.root.with_name("other")), again, made)
        assert not ready_graph(other, made).refused
        monkeypatch.undo()
        assert not ready_graph(there, None).refused
        assert contents(other) == contents(there)
    assert not made.exists()


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(EncoderRequest("no_such_net", "random:0"), id="unknown model"),
        pytest.param(EncoderRequest("test_efficientnet", "no/such/file"), id="no file"),
    ],
)
def test_what_is_wrong_is_said_in_the_same_line_by_a_child(workspace, elsewhere, request_):
    with pytest.raises(HeadstartError) as here:
        resolve_encoder(request_)
    with contextlib.ExitStack() as held, pytest.raises(HeadstartError) as there:
        begin_encoder(workspace, request_, held, with_graph=False).finished()
    assert str(there.value) == str(here.value)
    assert "\n" not in str(there.value)


def test_what_is_whole_in_the_workspace_is_not_made_again(workspace, tmp_path):
    folder = save_encoder(workspace, *resolve_encoder(TINY))
    asked = Preparation(TINY, workspace.root, tmp_path / "place", with_graph=True)
    asked.place.mkdir()
    made, is_whole = prepare(asked)
    assert not is_whole
    assert (made / GRAPH_NAME).exists()  # the workspace had none yet
    ready_graph(folder, made)
    assert contents(folder) == contents(made)
    shutil.rmtree(asked.place)
    asked.place.mkdir()
    made, is_whole = prepare(asked)
    assert is_whole
    assert [path.name for path in made.iterdir()] == ["encoder.json"]


@pytest.mark.parametrize("name", ["encoder.json", WEIGHTS_NAME, GRAPH_NAME, GRAPH_FACTS_NAME])
def test_what_is_damaged_in_the_workspace_is_made_again_and_put_back(workspace, tmp_path, name):
    folder = save_encoder(workspace, *resolve_encoder(TINY))
    ready_graph(folder, None)
    before = contents(folder)
    (folder / name).write_bytes(b"other")
    place = tmp_path / "place"
    place.mkdir()
    made, is_whole = prepare(Preparation(TINY, workspace.root, place, with_graph=True))
    assert not is_whole
    save_encoder(workspace, resolve_encoder(TINY)[0], made)
    ready_graph(folder, made)
    assert contents(folder) == before


class FakeChild(contextlib.nullcontext):
    """One that says what `answer` gives."""

    def __init__(self, answer):
        super().__init__(self)
        self.answer = answer

    def send(self, request):
        pass

    def has_answered(self):
        return True

    def close(self):
        pass


def test_a_child_makes_it_while_its_parent_does_something_else_and_says_early_what_is_wrong(workspace, elsewhere):
    with contextlib.ExitStack() as held:
        begun = begin_encoder(workspace, TINY, held, with_graph=False)
        begun.require_sound()  # waits for nothing
        spec, made = begun.finished()
        assert (begun.finished(), read_encoder(made)) == ((spec, made), spec)
    assert not made.exists()
    with contextlib.ExitStack() as held:
        begun = begin_encoder(workspace, EncoderRequest("test_efficientnett", "random:3"), held, with_graph=False)
        while not begun._is_done():
            pass
        with pytest.raises(HeadstartError, match="test_efficientnett"):
            begun.require_sound()


def test_a_child_that_nobody_waits_for_any_more_ends_before_its_folder_goes(workspace, elsewhere, monkeypatch):
    children, start = [], prepared.Child
    monkeypatch.setattr(prepared, "Child", lambda module: children.append(start(module)) or children[-1])
    with contextlib.ExitStack() as held:
        begin_encoder(workspace, TINY, held, with_graph=True)
    [child] = children
    assert child._process.poll() is not None


def test_a_child_that_is_ended_can_be_tried_again(workspace, elsewhere, monkeypatch):
    def ends(*_):
        raise ChildEnded("ended its process with SIGKILL")

    monkeypatch.setattr(prepared, "Child", lambda module: FakeChild(ends))
    with contextlib.ExitStack() as held, pytest.raises(TryLaterError, match="SIGKILL, which may be for want of memory"):
        begin_encoder(workspace, TINY, held, with_graph=False).finished()


def test_a_fault_of_the_program_reaches_the_parent_with_its_traceback(workspace, elsewhere, monkeypatch):
    def fails(*_):
        return json.loads(json.dumps(prepare_child._answer({}))), b""

    monkeypatch.setattr(prepared, "Child", lambda module: FakeChild(fails))
    with contextlib.ExitStack() as held, pytest.raises(RuntimeError, match="KeyError: 'request'") as fault:
        begin_encoder(workspace, TINY, held, with_graph=False).finished()
    assert "parse_preparation" in fault.value.__notes__[0]


@pytest.mark.parametrize("size", [None, 64, (48, 64)], ids=["none", "a square", "height and width"])
def test_a_preparation_survives_json(tmp_path, size):
    asked = Preparation(EncoderRequest("resnet18", image_size=size, maps=(8, 16)), tmp_path, tmp_path / "place", True)
    assert parse_preparation(json.loads(json.dumps(asked.to_json()))) == asked
