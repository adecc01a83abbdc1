import pytest

import headstart
from headstart.features.planning.data_sets import move_data, show_data
from headstart.features.planning.enqueue import preview_enqueue
from tests.jobs.extraction import draw, enqueue, enqueued

from .calling import call


@pytest.fixture
def data(tmp_path):
    for number in range(8):
        draw(tmp_path / f"pets/{'ab'[number % 2]}/{number}.png", number)
    return tmp_path / "pets"


def test_data_sets_are_listed_shown_and_moved(data, tmp_path):
    workspace = enqueue(data, tmp_path / "w")
    (data / "a/0.png").unlink()
    enqueued(data, workspace.root)
    [one] = call("data", "list", "--json", "-w", workspace.root).json
    assert (one["images"], one["retired"], one["reasons"], one["is_there"]) == (7, 1, {"gone": 1}, True)
    assert one["place"] == str(data)
    listed = call("data", "list", "-w", workspace.root).output.splitlines()
    assert [line.split()[:3] for line in listed] == [["data", "set", "images"], [one["name"], "7", "1"]]
    place = data.rename(tmp_path / "elsewhere")
    assert "gone: headstart data move" in call("data", "list", "-w", workspace.root).output
    assert call("data", "move", "pets", place, "-w", workspace.root).output == f"{one['name']} lies at {place}\n"
    shown = call("data", "show", "pets", "-w", workspace.root).output
    assert f"lies at   {place}\n" in shown
    assert "retired   1 row, 1 gone\n" in shown
    assert f"data  {one['name']}  7 images, 1 retired" in call("status", "-w", workspace.root).output


def test_data_sets_are_listed_shown_and_moved_by_calls(data, tmp_path):
    workspace = enqueue(data, tmp_path / "w")
    [one] = headstart.list_data(workspace.root)
    assert [one.as_json()] == call("data", "list", "--json", "-w", workspace.root).json
    assert (one.images, one.classes, len(one.encoders)) == (8, 2, 1)
    move_data("pets", data.rename(tmp_path / "elsewhere"), workspace)
    assert show_data("pets", workspace).place == str(tmp_path / "elsewhere")


def test_a_look_before_enqueueing_says_what_the_command_says_and_writes_nothing(data, tmp_path):
    heard = []
    seen = preview_enqueue(data, tmp_path / "w", job_size=3, report=heard.append)
    assert (seen.jobs, seen.job_size, len(seen.source.images)) == (3, 3, 8)
    said = call("enqueue", data, "--dry-run", "--job-size", "3", "-w", tmp_path / "w").output.splitlines()
    assert said == [*heard, "dry run: at most 3 jobs of 3; nothing was written"]
    assert not (tmp_path / "w").exists()


def test_a_dry_run_without_a_hub_says_so_in_one_short_line(data, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    [note] = [line for line in call("enqueue", data, "--dry-run", "-w", tmp_path / "w").output.splitlines() if "note" in line]
    assert "cannot get the pretrained weights of efficientnet_b0. Name --weights FILE" in note
    assert len(note) < 160


@pytest.mark.parametrize(
    ("more", "says"),
    [
        pytest.param(["--encoder", "resnet9000"], "resnet9000", id="encoder"),
        pytest.param(["--encoder", "test_resnet", "--weights", "nowhere.pth"], "no such file", id="weights"),
        pytest.param(["--encoder", "resnet18", "--weights", "embedded"], "embedded weights are of", id="other-model"),
    ],
)
def test_a_look_before_enqueueing_refuses_what_the_command_refuses(data, tmp_path, more, says):
    look, real = (call("enqueue", data, *more, *extra, "-w", tmp_path / "w") for extra in (["--dry-run"], []))
    assert (look.status, look.reason) == (real.status, real.reason)
    assert says in look.reason


def test_a_look_before_enqueueing_names_the_encoder_that_the_data_keeps_to(data, tmp_path):
    workspace = enqueue(data, tmp_path / "w")
    before = digests_of(workspace.root)
    said = call("enqueue", data, "--dry-run", "-w", tmp_path / "w").output
    assert "encoder test_resnet, 32x32 pixels, 96 features, as before" in said
    assert digests_of(workspace.root) == before


def digests_of(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_workspace_without_data_says_so(workspace):
    assert "headstart enqueue DATA" in call("data", "list", "-w", workspace.root).output
    assert "it has: none" in call("data", "show", "pets", "-w", workspace.root).reason


def test_patches_of_a_data_set_are_listed_by_version_with_or_without_masks(tmp_path):
    from tests.features.cut import cut
    from tests.features.cut import draw as draw_scenes

    table, root = draw_scenes(tmp_path / "scenes", 12), tmp_path / "w"
    cut(table, root)
    cut(table, root, "--patches", "32")
    counts = [
        (root / f"features/patches/patch_manifest.{version}.csv").read_text().count("\n") - 1 for version in ("v001", "v002")
    ]
    [one] = call("data", "list", "--json", "-w", root).json
    encoders = [each.pop("encoder") for each in one["patch_sets"]]
    assert all((root / "features" / encoder).is_dir() for encoder in encoders)
    assert one["patch_sets"] == [
        {"version": "v001", "size": 48, "overlap": 16, "patches": counts[0], "images": 12, "masks": "mask"},
        {"version": "v002", "size": 32, "overlap": 0, "patches": counts[1], "images": 12, "masks": ""},
    ]
    listed = call("data", "list", "-w", root).output.splitlines()
    assert listed[-3].split() == ["data", "set", "version", "patch", "overlap", "patches", "images", "masks"]
    assert [line.split()[1:] for line in listed[-2:]] == [
        ["v001", "48", "16", str(counts[0]), "12", "mask"],
        ["v002", "32", "0", str(counts[1]), "12", "none"],
    ]
    shown = call("data", "show", one["name"], "-w", root).output
    assert f"patches   v001: {counts[0]} of 12 images, 48 x 48 pixels that overlap by 16, masks mask\n" in shown
    # A list that is gone takes nothing from what is known beside it, and says no wrong number.
    (root / "features/patches/patch_manifest.v001.csv").unlink()
    assert "of ? images" in call("data", "show", one["name"], "-w", root).output
