from dataclasses import replace
from pathlib import Path

import pytest

import headstart
from headstart.features.encoders import resolve
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.planning import enqueue
from headstart.features.planning.enqueue import enqueue_images
from headstart.features.sources.find import find_images
from headstart.features.sources.source import SourceOptions
from headstart.pipeline.errors import HeadstartError
from tests.jobs.extraction import draw, enqueued

SMALL = {"encoder": EncoderRequest("test_resnet", "random:0", 32), "job_size": 2}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("enqueue") / "photos"
    for number in range(5):
        draw(folder / f"{'cats' if number % 2 else 'dogs'}/{number}.png", number)
    return folder


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name not in ("workspace.json", "encoder.onnx.json") and path.suffix != ".lock"
    }


def test_the_call_and_the_command_write_the_same_files_and_say_the_same(photos, tmp_path):
    lines: list[str] = []
    done = enqueue_images(photos, tmp_path / "call", **SMALL, report=lines.append)
    said = enqueued(photos, tmp_path / "command", "--job-size", "2").splitlines()
    assert contents(tmp_path / "call") == contents(tmp_path / "command") != {}
    assert said[: len(lines)] == lines
    assert lines[-3].startswith("encoder test_resnet, 32x32 pixels")
    assert (done.added.new, len(done.fresh), done.restored, done.graph_refused) == (5, 3, (), "")
    assert done.folder == done.workspace.features / done.encoder.folder_name


def test_what_was_found_already_is_taken_as_it_is(photos, tmp_path):
    source = find_images(photos, SourceOptions(layout="flat"))
    assert {image.label for image in source.images} == {""}
    done = enqueue_images(source, tmp_path / "w", **SMALL)
    assert set(done.added.manifest.read_all().label) == {""}


def test_the_same_call_again_adds_nothing(photos, tmp_path):
    first = headstart.enqueue_images(photos, tmp_path / "w", **SMALL)
    again = headstart.enqueue_images(photos, first.workspace, **SMALL)
    assert (again.added.new, again.added.known, again.fresh) == (0, 5, ())
    assert again.folder == first.folder


@pytest.mark.parametrize("is_wrong", [False, True], ids=["sound", "a wrong name"])
def test_images_are_digested_while_a_named_encoder_is_made_ready(photos, tmp_path, monkeypatch, is_wrong):
    steps: list[str] = []
    digest, begin = enqueue.digest_images, enqueue.begin_encoder

    class Begun:
        def __init__(self, *arguments):
            steps.append("begun")
            self.making = begin(*arguments)

        def require_sound(self):
            if is_wrong:
                raise HeadstartError("no such encoder")

        def finished(self):
            steps.append("finished")
            return self.making.finished()

    def digested(*arguments):
        steps.append("digesting")
        done = digest(*arguments)
        steps.append("digested")
        return done

    monkeypatch.setattr(enqueue, "begin_encoder", Begun)
    monkeypatch.setattr(enqueue, "digest_images", digested)
    if is_wrong:
        with pytest.raises(HeadstartError, match="no such encoder"):
            enqueue_images(photos, tmp_path / "w", **SMALL)
        assert steps == ["begun", "digesting"]
    else:
        enqueue_images(photos, tmp_path / "w", **SMALL)
        assert steps == ["begun", "digesting", "digested", "finished"]


def test_a_wrong_encoder_leaves_no_manifest_and_no_job(photos, tmp_path):
    with pytest.raises(HeadstartError, match="no_such_net"):
        enqueue_images(photos, tmp_path / "w", encoder=EncoderRequest("no_such_net"))
    assert not list((tmp_path / "w").glob("features/*"))


@pytest.mark.parametrize("lacking", [{}, {"whole_range": True}], ids=["the first", "of grey alone"])
def test_a_data_set_keeps_to_the_rule_of_ranges_that_it_was_begun_with(photos, tmp_path, monkeypatch, lacking):
    now = resolve_encoder(SMALL["encoder"])[0]
    before = replace(now.transform, whole_range=False, deep_colour=False)
    before = replace(before, **lacking)
    with monkeypatch.context() as patched:
        patched.setattr(resolve, "decoded_as_asked", lambda *_: before)
        first = enqueue_images(photos, tmp_path / "w", **SMALL)
    again = enqueue_images(photos, tmp_path / "w", **SMALL)
    assert (again.encoder.transform, again.fresh) == (before, ())
    assert again.folder == first.folder != tmp_path / "w/features" / now.folder_name
