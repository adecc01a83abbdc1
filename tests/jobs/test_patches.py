"""Kind `patches`, and the versions that it works on: what is cut out of which image, once and for all."""

import csv
import hashlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from headstart.features.encoders.runtime import open_encoder
from headstart.features.images.decode import ImageError
from headstart.features.manifest.patch_versions import list_versions
from headstart.features.manifest.patches import jobs_of, read_patches
from headstart.features.planning import patches as planning
from headstart.features.store.maps import open_patch_maps
from headstart.jobs import patches
from headstart.pipeline.doors.records import read_record, seal
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.kinds import Settings
from headstart.pipeline.queue import Reader
from headstart.pipeline.workspace import open_workspace
from tests.commands.calling import call
from tests.features.cut import ENCODER, PATCHES, SIZES, cut, draw, large_scene, said
from tests.jobs.extraction import enqueue, work

IMAGES = 12


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder with images, masks, their table, and a workspace that has the maps of their patches."""
    root = tmp_path_factory.mktemp("patches")
    work(cut(draw(root / "data", IMAGES), root / "w"))
    return root


@pytest.fixture
def own(done, tmp_path):
    """A copy of the workspace that a test may harm."""
    shutil.copytree(done / "w", tmp_path / "w")
    return open_workspace(tmp_path / "w")


def lines(root, version="v001"):
    with (root / f"features/patches/patch_manifest.{version}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_names_window_mask_split_and_job_of_every_patch(done):
    rows = lines(done / "w")
    assert [int(row["patch_id"]) for row in rows] == list(range(len(rows)))
    by_image = {}
    for row in rows:
        by_image.setdefault(row["parent_image"], []).append(row)
    assert sorted(by_image) == [f"in/{number:02}.png" for number in range(IMAGES)]
    for name, its_rows in by_image.items():
        number = int(name[3:5])
        height, width = SIZES[number % len(SIZES)]
        covered = np.zeros((height, width), int)
        for row in its_rows:
            x, y, wide, tall = (int(row[column]) for column in ("x", "y", "width", "height"))
            assert (wide, tall) == (48, 48)  # shifted at the edges, never padded
            covered[y : y + tall, x : x + wide] += 1
        assert covered.shape == (height, width)
        assert covered.min() == 1
        assert {row["mask"] for row in its_rows} == {f"in/{number:02}_mask.png"}
        assert {row["split"] for row in its_rows} == {("train", "train", "val", "test")[number // 3 % 4]}
    places = [row["features_path"] for row in rows]
    for place in dict.fromkeys(places):
        folder, job = place.rsplit("/", 1)
        [marker] = (done / "w" / folder).glob(f"done/*/{job}.done")
        [payload] = (done / "w" / folder).glob(f"shards/*/{json.loads(marker.read_text())['payload']['name']}")
        index = np.load(payload)["index"].tolist()
        assert index == [patch for patch, other in enumerate(places) if other == place]
        assert len(index) <= 16


def test_a_patch_has_the_map_of_its_pixels(done):
    workspace = open_workspace(done / "w")
    maps = open_patch_maps(workspace)
    assert (maps.waiting, maps.failed, len(maps)) == (0, 0, len(lines(done / "w")))
    encoder = open_encoder(workspace.features / maps.spec.folder_name, "cpu")
    for item in (0, 7, len(maps) - 1):
        x, y, width, height = maps.cut.windows[item]
        pixels, _ = large_scene(int(maps.columns.path[maps.index[item]][3:5]))
        part = np.ascontiguousarray(pixels[y : y + height, x : x + width])
        expected = encoder.encode(part[None])[0, maps.spec.embed_dim :].reshape(maps.shape)
        np.testing.assert_allclose(maps.read([item])[0], expected, rtol=2e-3, atol=2e-3)
    assert maps.cut.is_whole.all()


def test_enqueueing_again_adds_nothing_and_another_setting_is_another_version(done, own):
    table, before = done / "data/table.csv", (own.root / "features/patches/patch_manifest.v001.csv").read_bytes()
    assert "0 jobs added" in said(table, own.root)
    assert "0 jobs added" in said(table, own.root, "--patches", "48", "--overlap", "16")  # its masks are known
    words = said(table, own.root, "--patches", "48", "--overlap", "0")
    assert "patches v002: " in words
    assert len(lines(own.root, "v002")) < len(lines(own.root))
    assert [version.name for version in list_versions(own)] == ["v001", "v002"]
    assert (own.root / "features/patches/patch_manifest.v001.csv").read_bytes() == before


def test_images_that_come_later_are_a_version_of_their_own_and_both_are_read(done, own):
    grown = draw(own.root.parent / "more", IMAGES + 3)
    # The same data set at another place: it moved there, and grew.
    shutil.move(done / "data", done / "away")
    try:
        words = said(grown, own.root)
        work(own)
        assert "3 new images" in words
        assert {row["parent_image"] for row in lines(own.root, "v002")} == {f"in/{n}.png" for n in (12, 13, 14)}
        maps = open_patch_maps(own)
        assert len(maps) == len(lines(own.root)) + len(lines(own.root, "v002"))
        assert maps.cut.version == "v002"
    finally:
        shutil.move(done / "away", done / "data")


def test_killed_between_writing_down_and_queueing_the_same_again_queues_what_was_written(done, tmp_path, monkeypatch):
    table, root = done / "data/table.csv", tmp_path / "w"

    def killed(workspace, jobs):
        if jobs:
            raise KeyboardInterrupt

    monkeypatch.setattr(planning, "append_jobs", killed)
    with pytest.raises(AssertionError, match="Aborted!"):
        cut(table, root)
    monkeypatch.undo()
    before = (root / "features/patches/patch_manifest.v001.csv").read_bytes()
    words = said(table, root)
    assert (root / "features/patches/patch_manifest.v001.csv").read_bytes() == before
    workspace = open_workspace(root)
    assert [version.name for version in list_versions(workspace)] == ["v001"]
    queued = list(Reader(workspace, frozenset({"patches"})))
    assert f"{len(queued)} jobs added" in words
    assert sum(job.stop - job.start for job in queued) == len(lines(root))


def test_numbers_that_others_took_meanwhile_make_another_version(done, tmp_path, monkeypatch):
    table, root = done / "data/table.csv", tmp_path / "w"
    monkeypatch.setattr(planning, "append_jobs", lambda workspace, jobs: None)
    cut(table, root)
    monkeypatch.undo()
    assert call("enqueue", table, "--weights", "embedded", "-w", root).status == 0  # takes number 0
    assert "patches v002: " in said(table, root)
    work(open_workspace(root))
    assert open_patch_maps(open_workspace(root)).waiting == 0


def _damaged(root):
    path = root / "features/patches/patch_manifest.v001.csv"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"48,48", b"48,47", 1))


def _gone(root):
    (root / "features/patches/patch_manifest.v001.csv").unlink()


def _with(harm):
    """Its list harmed so: by what its bytes become, or by what is made in its place."""

    def write(root):
        path = root / "features/patches/patch_manifest.v001.csv"
        data = path.read_bytes()
        path.unlink()
        made = harm(path, data)
        if isinstance(made, bytes):
            path.write_bytes(made)

    return write


LISTS = {
    "torn": (lambda path, data: data[: len(data) // 2], "was changed: "),
    "empty": (lambda path, data: b"", "was changed: "),
    "another header": (lambda path, data: data.replace(b"patch_id", b"patch", 1), "was changed: "),
    "foreign bytes": (lambda path, data: bytes(range(256)) * 20, "was changed: "),
    "another line end": (lambda path, data: data.replace(b"\n", b"\r\n"), "was changed: "),
    "gone": (lambda path, data: None, "cannot be read (No such file or directory). "),
    "a folder": (lambda path, data: path.mkdir(), "is a folder, expected a file. Take it away. "),
    "a pipe": (lambda path, data: os.mkfifo(path), "is a pipe, expected a file. Take it away. "),
}


@pytest.mark.parametrize(("harm", "words"), LISTS.values(), ids=LISTS)
def test_whoever_reads_a_damaged_list_names_it_and_what_helps_and_that_helps(done, tmp_path, harm, words):
    table, root = done / "data/table.csv", tmp_path / "w"
    cut(table, root)
    _with(harm)(root)
    path, remedy = root / "features/patches/patch_manifest.v001.csv", "headstart remove patches patches_v001"
    enqueueing = ("enqueue", table, *ENCODER, "--image-size", "48", *PATCHES)
    for command in (enqueueing, ("work",), ("train", "segment", "--epochs", "1")):
        refused = call(*command, "-w", root)
        assert refused.status == 1, command[0]
        assert refused.errors.count(str(path)) == 1, refused.errors
        assert f"error: {path} {words}" in refused.errors
        assert f"{remedy}, then the same enqueue again\n" in refused.errors
        assert len(refused.errors.splitlines()) == 1
    status = call("status", "-w", root)  # which reads no list
    assert (status.status, status.errors) == (0, "")
    if "Take it away" in words and path.is_dir():
        path.rmdir()
    assert call(*remedy.split()[1:], "--yes", "-w", root).status == 0
    assert "patches v00" in said(table, root)
    work(open_workspace(root))
    maps = open_patch_maps(open_workspace(root))
    assert (maps.waiting, maps.failed) == (0, 0)


def _flipped(root):
    path = root / "features/patches_v001/patches.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"overlap": 16', b'"overlap": 17'))


def test_a_version_whose_description_is_damaged_is_not_cut_once_more_without_a_word(done, own):
    _flipped(own.root)
    refused = call("enqueue", done / "data/table.csv", *ENCODER, "--image-size", "48", *PATCHES, "-w", own.root)
    assert refused.status == 1
    assert f"{own.root / 'features/patches_v001/patches.json'} is damaged" in refused.reason
    assert "headstart remove patches patches_v001, then the same enqueue again" in refused.reason
    assert not list(own.root.glob("features/patches_v002/*"))
    assert call("remove", "patches", "patches_v001", "--yes", "-w", own.root).status == 0
    assert "patches v002: " in said(done / "data/table.csv", own.root)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_damaged, "was changed: a version of patches never changes. Restore it from a copy"),
        (_gone, "patch_manifest.v001.csv cannot be read"),
        (_flipped, "patches.json is damaged"),
    ],
    ids=["a number", "gone", "a flipped setting"],
)
def test_damaged_patches_are_a_mistake_of_one_line(own, harm, words):
    harm(own.root)
    with pytest.raises(HeadstartError) as caught:
        open_patch_maps(own)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--patches", "48", "--overlap", "48"), "an overlap of 48 in windows of 48 leaves no step. Give one from 0 to 47"),
        (("--patches", "48", "--exif-rotate"), "--exif-rotate changes an image before a patch is cut out of it"),
        (("--patches", "48", "--fast-decode"), "--fast-decode changes an image before a patch is cut out of it"),
        (("--patches", "48", "--image-size", "64"), "--image-size is that of a patch, 48"),
        (("--patches", "48", "--masks", "nowhere"), "--masks nowhere: neither a folder nor a column of the table"),
    ],
    ids=["no step", "turned", "drafted", "another size", "no masks"],
)
def test_what_cannot_be_cut_is_a_mistake_of_one_line(done, tmp_path, options, words):
    done_ = call("enqueue", done / "data/table.csv", *ENCODER, *options, "-w", tmp_path / "w")
    assert done_.status == 1
    assert words in done_.reason


@pytest.mark.parametrize("options", [("--overlap", "8"), ("--masks", "m")], ids=["overlap", "masks"])
def test_what_is_said_of_patches_without_patches_is_refused(done, tmp_path, options):
    refused = call("enqueue", done / "data/table.csv", *ENCODER, *options, "-w", tmp_path / "w")
    assert refused.status == 2
    assert "--overlap and --masks go with --patches PIXELS" in refused.errors


def test_too_small_a_disk_is_said_before_anything_is_queued(done, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    refused = call("enqueue", done / "data/table.csv", *ENCODER, *PATCHES, "-w", tmp_path / "w")
    assert refused.status == 1
    assert "on disk" in refused.reason
    assert not (tmp_path / "w/features/jobs_queue.csv").exists()


def test_small_and_broken_images_cost_their_own_patches_alone(tmp_path):
    table = draw(tmp_path / "data", 3)
    Image.fromarray(np.full((30, 60, 3), 200, np.uint8)).save(tmp_path / "data/in/small.png")
    (tmp_path / "data/in/broken.png").write_bytes(b"no image")
    sound = (tmp_path / "data/in/00.png").read_bytes()
    (tmp_path / "data/in/cut_off.png").write_bytes(sound[: len(sound) // 2])
    with table.open("a") as file:
        file.writelines(f"in/{name}.png,train,\n" for name in ("small", "broken", "cut_off"))
    words = said(table, tmp_path / "w")
    assert "note: no patches are cut out of 1 image that cannot be read, such as in/broken.png (" in words
    assert "note: 1 image is smaller than a patch of 48, such as in/small.png (60 x 30)" in words
    workspace = open_workspace(tmp_path / "w")
    work(workspace)
    rows = lines(tmp_path / "w")
    whole = len([row for row in rows if row["parent_image"] == "in/cut_off.png"])
    failed = call("status", "--failed", "--json", "-w", tmp_path / "w").json["failed_items"]
    assert len(failed) == whole + 1 > 1
    assert {item["name"].split("#")[0] for item in failed} == {"in/cut_off.png", "in/broken.png"}
    maps = open_patch_maps(workspace)
    assert (maps.failed, maps.waiting) == (whole + 1, 0)
    small = [item for item, row in enumerate(maps.index.tolist()) if maps.columns.path[row] == "in/small.png"]
    assert maps.cut.windows[small].tolist() == [[0, 0, 48, 30], [12, 0, 48, 30]]
    # What is beyond the edge goes on as the edge is: of one colour, all of it is that colour.
    encoder = open_encoder(workspace.features / maps.spec.folder_name, "cpu")
    expected = encoder.encode(np.full((1, 48, 48, 3), 200, np.uint8))[0, maps.spec.embed_dim :].reshape(maps.shape)
    np.testing.assert_allclose(maps.read(small[:1])[0], expected, rtol=2e-3, atol=2e-3)


def test_why_a_patch_failed_is_told_in_the_words_of_a_job_of_whole_images(tmp_path):
    table = draw(tmp_path / "data", 1)
    sound = (tmp_path / "data/in/00.png").read_bytes()
    (tmp_path / "data/in/cut_off.png").write_bytes(sound[: len(sound) // 2])
    (tmp_path / "data/in/page.png").write_bytes(b"<!doctype html>")
    with table.open("a") as file:
        file.writelines(f"in/{name}.png,train,\n" for name in ("cut_off", "page"))
    words = said(table, tmp_path / "w")
    work(open_workspace(tmp_path / "w"))
    work(enqueue(table, tmp_path / "whole"))

    def failed(root):
        items = call("status", "--failed", "--json", "-w", tmp_path / root).json["failed_items"]
        return {(item["name"].partition("#")[0], item["code"], item["reason"]) for item in items}

    whole = {name: (code, reason) for name, code, reason in failed("whole")}
    assert failed("w") == {(name, *whole[name]) for name in ("in/cut_off.png", "in/page.png")}
    assert whole["in/cut_off.png"][1].startswith("OSError: image file is truncated")
    assert "cannot be read, such as in/page.png (an HTML page, as of a download that failed, not an image)" in words
    assert whole["in/page.png"][1] in words


def test_an_image_that_could_not_be_read_is_listed_once_and_cut_when_it_can_be(tmp_path):
    table, broken = draw(tmp_path / "data", 3), tmp_path / "data/in/later.png"
    sound = (tmp_path / "data/in/00.png").read_bytes()
    broken.write_bytes(b"no image")
    with table.open("a") as file:
        file.write("in/later.png,train,in/00_mask.png\n")
    preview = said(table, tmp_path / "w", *PATCHES, "--dry-run")
    assert not (tmp_path / "w").exists()
    words = said(table, tmp_path / "w")
    cut = len(lines(tmp_path / "w")) - 1
    assert f"patches v001: {cut} of 3 images" in preview
    assert f"patches v001: {cut} of 3 images" in words
    assert "After work, status --failed lists it" in words
    [row] = [row for row in lines(tmp_path / "w") if row["parent_image"] == "in/later.png"]
    assert {row[name] for name in ("x", "y", "width", "height", "parent_width", "parent_height")} == {"0"}
    workspace = open_workspace(tmp_path / "w")
    work(workspace)
    assert "0 jobs added" in said(table, tmp_path / "w")
    [listed] = call("data", "list", "--json", "-w", tmp_path / "w").json
    assert (listed["patch_sets"][0]["patches"], listed["patch_sets"][0]["images"]) == (cut, 3)
    maps = open_patch_maps(workspace)
    assert (len(maps), maps.failed) == (cut, 1)
    broken.write_bytes(sound)
    assert "patches v002: " in said(table, tmp_path / "w")
    work(workspace)
    assert {row["parent_image"] for row in lines(tmp_path / "w", "v002")} == {"in/later.png"}
    maps = open_patch_maps(workspace)
    assert (len(maps), maps.failed, maps.waiting) == (cut + len(lines(tmp_path / "w", "v002")), 0, 0)
    assert maps.cut.is_whole.all()


def test_an_image_that_could_not_be_opened_is_cut_when_it_can_be_though_it_did_not_change(tmp_path, monkeypatch):
    table = draw(tmp_path / "data", 2)
    size_of_image = planning.size_of_image

    def refused(root, path, allow_symlinks):
        if path == "in/01.png":
            raise ImageError("missing", "PermissionError: Permission denied")
        return size_of_image(root, path, allow_symlinks)

    monkeypatch.setattr(planning, "size_of_image", refused)
    workspace = cut(table, tmp_path / "w")
    monkeypatch.undo()
    work(workspace)
    [failed] = call("status", "--failed", "--json", "-w", tmp_path / "w").json["failed_items"]
    assert (failed["name"], failed["code"]) == ("in/01.png", "changed")
    assert "now it can; enqueue it again" in failed["reason"]
    assert "patches v002: " in said(table, tmp_path / "w")
    work(workspace)
    maps = open_patch_maps(workspace)
    assert sorted({maps.columns.path[row] for row in maps.index.tolist()}) == ["in/00.png", "in/01.png"]
    assert (maps.failed, maps.cut.is_whole.all()) == (0, True)


@pytest.mark.parametrize("is_broken", [False, True], ids=["all can be read", "one cannot"])
def test_only_a_version_that_lists_an_unread_image_is_of_the_newer_format(is_broken, tmp_path):
    table = draw(tmp_path / "data", 1)
    if is_broken:
        (tmp_path / "data/in/00.png").rename(tmp_path / "data/in/sound.png")
        (tmp_path / "data/in/00.png").write_bytes(b"no image")
        with table.open("a") as file:
            file.write("in/sound.png,train,in/00_mask.png\n")
    cut(table, tmp_path / "w")
    facts = json.loads((tmp_path / "w/features/patches_v001/patches.json").read_text())
    assert facts["format"] == (2 if is_broken else 1)


def test_the_same_job_gives_the_same_bytes(done, own):
    payloads = {path.name: path.read_bytes() for path in own.features.glob("patches_v001/shards/*/*")}
    for name in ("shards", "done"):
        shutil.rmtree(own.features / "patches_v001" / name)
    work(own)
    assert {path.name: path.read_bytes() for path in own.features.glob("patches_v001/shards/*/*")} == payloads


def test_patches_go_before_what_they_are_of_and_nothing_of_them_is_left(own):
    [version] = list_versions(own)
    for kind, name in (("encoder", version.setting.encoder), ("data", version.setting.dataset)):
        refused = call("remove", kind, name, "--yes", "-w", own.root)
        assert refused.status == 1
        assert "They go first: headstart remove patches patches_v001" in refused.reason
    assert call("remove", "patches", "patches_v001", "--yes", "-w", own.root).status == 0
    assert not list(own.features.glob("patches*/*"))
    assert call("remove", "data", version.setting.dataset, "--yes", "-w", own.root).status == 0


def _rewritten(root, old, new, **facts):
    """As somebody writes it who wants it to be believed: the digest and the seal are right."""
    path, description = root / "features/patches/patch_manifest.v001.csv", root / "features/patches_v001/patches.json"
    data = path.read_bytes()
    assert old in data
    data = data.replace(old, new, 1)
    known = {**read_record(description, None), "sha256": hashlib.sha256(data).hexdigest(), **facts}
    known.pop("seal", None)
    for one, content in ((path, data), (description, seal(known))):
        one.chmod(0o644)
        one.write_bytes(content)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b",0,0,48,48,", b",0,99999,48,48,", "is damaged (a patch does not lie in its image)"),
        (b",0,0,48,48,", b",0,9223372036854775807,48,48,", "is damaged (a patch does not lie in its image)"),
        (b",0,0,48,48,", b",0,99999999999999999999,48,48,", "is damaged (Python int too large"),
        (b",0,0,48,48,", b",0,1,48,48,", "is damaged (row 0 of the data is not cut as it says)"),
        (b",120,90\n", b",16000000,16000000\n", "is damaged (row 0 of the data is not cut as it says)"),
        (b",val,1,", b",val,0,", "is damaged (row 0 of the data is not cut as it says)"),
        (b",test,2,", b",test,0,", "has patches of row 0 of the data, which has some already"),
    ],
    ids=["outside", "a sum that wraps", "no int64", "elsewhere", "a huge image", "of the image before", "of an image again"],
)
def test_a_hostile_list_names_nothing_but_the_windows_of_its_images(own, old, new, words):
    _rewritten(own.root, old, new)
    with pytest.raises(HeadstartError) as caught:
        open_patch_maps(own)
    assert words in str(caught.value)


def test_patches_of_another_size_than_their_encoder_sees_are_refused_before_pixels_are_made(own):
    _rewritten(own.root, b"", b"", size=2**20, overlap=16)
    [version] = list_versions(own)
    with pytest.raises(HeadstartError, match="patches v001 are of 1048576 x 1048576 pixels, their encoder sees 48 x 48"):
        open_patch_maps(own)
    for job in jobs_of(version, read_patches(own, version), own):
        with pytest.raises(HeadstartError, match="their encoder sees 48 x 48"):
            patches.open_session(own, job, Settings())
        break


def test_a_damaged_version_is_not_left_out_without_a_word_and_what_is_said_makes_it_anew(done, own):
    table = done / "data/table.csv"
    said(table, own.root, "--patches", "48", "--overlap", "0")  # another setting, v002
    _flipped(own.root)
    with pytest.raises(HeadstartError, match="patches_v001, then the same enqueue again"):
        open_patch_maps(own, "v002")
    assert call("remove", "patches", "patches_v001", "--yes", "-w", own.root).status == 0
    assert "patches v003: " in said(table, own.root)
    work(own)
    assert len(open_patch_maps(own, "v003")) == len(lines(own.root, "v003"))


def _everything(root):
    """Each path below it, what it holds and when it was touched."""
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in [root, *root.rglob("*")]}


def test_a_dry_run_says_what_enqueue_then_says_and_writes_nothing(tmp_path):
    table, root = draw(tmp_path / "data", IMAGES), tmp_path / "w"
    before = _everything(tmp_path)
    looked = call("enqueue", table, *ENCODER, *PATCHES, "--dry-run", "-w", root).output.splitlines()
    assert _everything(tmp_path) == before
    enqueued = call("enqueue", table, *ENCODER, *PATCHES, "-w", root).output.splitlines()
    rows = lines(root)
    jobs = -(-len(rows) // 16)
    assert looked[-1] == f"dry run: at most {jobs} jobs of 16; nothing was written"
    assert f"{jobs} jobs added to {root / 'features/jobs_queue.csv'}" in enqueued
    for begin in ("encoder ", "weights ", "disk about ", f"patches v001: {len(rows)} of {IMAGES} images, "):
        [line] = [line for line in looked if line.startswith(begin)]
        assert line in enqueued


def test_a_dry_run_beside_patches_that_there_are_counts_new_ones_alone_and_touches_none(tmp_path):
    root = tmp_path / "w"
    cut(draw(tmp_path / "data", IMAGES), root)
    table = draw(tmp_path / "data", IMAGES)  # drawn again: other times, the same bytes and sizes
    cut(table, root)
    before = _everything(root)
    same = call("enqueue", table, *ENCODER, *PATCHES, "--dry-run", "-w", root).output
    assert "patches v001: none to add\n" in same
    assert "dry run: at most 0 jobs of 16; nothing was written" in same
    other = call("enqueue", table, *ENCODER, "--patches", "48", "--compress", "pca:9", "--dry-run", "-w", root).output
    assert "patches v002: " in other
    assert "map 9 x 12 x 12" in other
    draw(tmp_path / "more", IMAGES + 3)
    for path in (tmp_path / "more").rglob("*1[234]*"):
        path.rename(tmp_path / "data/in" / path.name)
    shutil.copy(tmp_path / "more/table.csv", table)
    grown = call("enqueue", table, *ENCODER, *PATCHES, "--dry-run", "-w", root).output
    assert _everything(root) == before
    assert "patches v002: " in grown
    assert next(line for line in grown.splitlines() if line.startswith("patches ")) in said(table, root)


@pytest.mark.parametrize(
    ("options", "free"),
    [(("--patches", "48", "--overlap", "48"), 10**12), (("--patches", "48", "--masks", "nowhere"), 10**12), (PATCHES, 1000)],
    ids=["no step", "no masks", "a full disk"],
)
def test_a_dry_run_refuses_what_enqueue_refuses(done, tmp_path, monkeypatch, options, free):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(free, 0, free))
    look, real = (
        call("enqueue", done / "data/table.csv", *ENCODER, *options, *more, "-w", tmp_path / "w") for more in (["--dry-run"], [])
    )
    assert (look.status, look.reason) == (1, real.reason)
