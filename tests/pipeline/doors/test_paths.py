"""Nothing below a workspace is reached through a link, whichever component is one and whatever is done there."""

import os
import time
from pathlib import Path

import pytest

from headstart.pipeline import paths
from headstart.pipeline.paths import LinkError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "w"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").write_text("mine")
    (root / "a" / "other").write_text("other")
    paths.enter(root)
    return root


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text("thesis")
    return folder


def read(path):
    descriptor = paths.open_file(path)
    try:
        return os.read(descriptor, 99)
    finally:
        os.close(descriptor)


def write(path):
    os.close(paths.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))


def linked(existing, new):
    paths.link_held(existing, new, paths.Held(existing.parent), paths.Held(new.parent))


# Each touches `folder / name` in one way; through a link all of them must leave what is there as it was.
ACTIONS = {
    "read": read,
    "create or cut": write,
    "stat": paths.stat,
    "exists": paths.exists,
    "remove": paths.remove,
    "make a folder": lambda path: paths.make_folder(path.with_name("new")),
    "remove a folder": paths.remove_folder,
    "rename away": lambda path: paths.rename(path, path.parent.parent.parent / "a" / "taken"),
    "rename to": lambda path: paths.rename(path.parent.parent.parent / "a" / "other", path),
    "link": lambda path: paths.link(path, path.parent.parent.parent / "a" / "second"),
    "link to": lambda path: paths.link(path.parent.parent.parent / "a" / "other", path.with_name("new")),
    "touch": paths.touch,
    "list": lambda path: paths.names(path.parent),
    "remove a tree": lambda path: paths.remove_tree(path.parent),
    "remove a file as a tree": paths.remove_tree,
    "list folders": lambda path: list(paths.folders(path.parent)),
    "look by name": lambda path: paths.Held(path.parent).may_have(path.name),
    "link by name": lambda path: linked(path.parent.parent.parent / "a" / "other", path.with_name("new")),
    "link from by name": lambda path: linked(path, path.parent.parent.parent / "a" / "second"),
    "sync": lambda path: paths.sync_folder(path.parent),
}


def state(folder):
    return {path.name: (path.read_text(), path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
@pytest.mark.parametrize("is_known", [False, True], ids=["first look", "folder was used before"])
@pytest.mark.parametrize("at", ["a/b", "a"], ids=["last folder", "folder above"])
def test_what_lies_behind_a_link_is_not_touched(root, outside, action, at, is_known):
    if is_known:
        assert read(root / "a" / "b" / "file") == b"mine"
    if at == "a":
        (outside / "b").mkdir()
        inner = outside / "b"
        (outside / "file").rename(inner / "file")
    else:
        inner = outside
    (root / at).rename(root / "moved")
    (root / at).symlink_to(outside)
    (root / "x").mkdir()
    before = state(inner)
    with pytest.raises((LinkError, FileNotFoundError)):
        action(root / "a" / "b" / "file")
    assert state(inner) == before


@pytest.mark.parametrize("target", ["file", "nowhere"], ids=["to a file", "dangling"])
def test_a_link_in_the_place_of_a_file_is_refused_by_name(root, outside, target):
    (root / "a" / "linked").symlink_to(outside / target)
    for action in (read, write):
        with pytest.raises(LinkError, match="linked is a symbolic link"):
            action(root / "a" / "linked")
    assert sorted(os.listdir(outside)) == ["file"]
    assert (outside / "file").read_text() == "thesis"


def test_of_a_link_the_link_itself_is_removed_renamed_and_told_of(root, outside):
    place = root / "a" / "linked"
    place.symlink_to(outside / "file")
    assert paths.exists(place)
    assert not paths.is_file(place)
    assert not paths.is_folder(place)
    paths.rename(place, root / "a" / "renamed")
    paths.remove(root / "a" / "renamed")
    assert (outside / "file").read_text() == "thesis"


def test_a_dangling_link_exists_and_no_new_file_replaces_it(root, outside):
    (root / "a" / "linked").symlink_to(outside / "nowhere")
    with pytest.raises(FileExistsError):
        paths.open_file(root / "a" / "linked", os.O_WRONLY | os.O_CREAT | os.O_EXCL)


@pytest.mark.parametrize("name", ["..", ".", "", "\0", "\ud800"], ids=["up", "same", "empty", "NUL", "lone surrogate"])
def test_what_is_no_name_is_refused(root, name):
    with pytest.raises(LinkError):
        paths.open_file(f"{root}/a/{name}")


@pytest.mark.parametrize("middle", ["..", "../../outside", "b/.."], ids=["up", "out", "down and up"])
def test_no_path_leads_upwards(root, outside, middle):
    with pytest.raises(LinkError, match="upwards"):
        paths.open_file(f"{root}/a/{middle}/file")


def test_what_is_looked_for_is_not_looked_for_behind_links(root, outside):
    (root / "a" / "c").symlink_to(outside)
    (root / "a" / "b" / "link").symlink_to(outside / "file")
    assert list(paths.matching(root, "a/*/f*")) == [root / "a" / "b" / "file"]
    assert list(paths.matching(root, "gone/*/f*")) == []
    assert outside / "file" not in set(paths.walk(root))
    assert {root / "a" / "c", root / "a" / "b" / "file", root / "a" / "b" / "link"} <= set(paths.walk(root))


def test_a_workspace_may_itself_be_named_by_a_link(root, tmp_path):
    (tmp_path / "short").symlink_to(root)
    paths.enter(tmp_path / "short")
    assert read(tmp_path / "short" / "a" / "b" / "file") == b"mine"


def test_a_folder_that_was_made_anew_is_looked_up_anew(root):
    assert read(root / "a" / "b" / "file") == b"mine"
    (root / "a" / "b").rename(root / "a" / "old")
    (root / "a" / "b").mkdir()
    (root / "a" / "b" / "file").write_text("new")
    assert read(root / "a" / "b" / "file") == b"new"


def test_errors_name_the_whole_path(root):
    for action in (paths.stat, paths.remove, read):
        with pytest.raises(FileNotFoundError) as caught:
            action(root / "a" / "gone")
        assert caught.value.filename == str(root / "a" / "gone")


def test_a_pipe_keeps_nobody_waiting(root):
    os.mkfifo(root / "a" / "pipe")
    os.close(paths.open_file(root / "a" / "pipe"))


def test_a_tree_is_removed_and_counted_without_what_its_links_lead_to(root, outside):
    (root / "a" / "b" / "to").symlink_to(outside)
    (root / "a" / "b" / "deep").mkdir()
    (root / "a" / "b" / "deep" / "to").symlink_to(outside / "file")
    assert paths.tree_bytes(root / "a") < len("mine" + "other") + 2 * len(str(outside)) + 20
    paths.remove_tree(root / "a")
    assert not (root / "a").exists()
    assert (outside / "file").read_text() == "thesis"


def test_a_tree_that_is_deeper_than_any_path_is_removed(root):
    here = os.open(root / "a", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deeper", dir_fd=here)
        below = os.open("deeper", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    paths.remove_tree(root / "a")
    assert not (root / "a").exists()


def test_descriptors_are_closed(root):
    folders = [root / f"f{number}" for number in range(50)]
    for folder in folders:
        folder.mkdir()
        (folder / "file").write_text("x")
    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc here")
    for folder in folders:
        read(folder / "file")
    before = len(os.listdir("/proc/self/fd"))
    for folder in folders * 3:
        read(folder / "file")
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def later(monkeypatch):
    """From now on it is two seconds later."""
    now = time.monotonic
    monkeypatch.setattr(paths.time, "monotonic", lambda: now() + 2)


def test_a_folder_held_open_stays_the_true_one_behind_a_link_and_is_refused_a_second_later(root, outside, monkeypatch):
    held, above = paths.Held(root / "a" / "b"), paths.Held(root / "a")
    assert held.may_have("file")
    assert above.may_have("other")
    (root / "a" / "b").rename(root / "real")
    (root / "a" / "b").symlink_to(outside)
    (outside / "gold").write_text("gold")
    before = state(outside)
    assert not held.may_have("gold")
    paths.link_held(root / "a" / "other", root / "a" / "b" / "second", above, held)
    assert (root / "real" / "second").read_text() == "other"
    later(monkeypatch)
    with pytest.raises(LinkError):
        held.may_have("gold")
    with pytest.raises(LinkError):
        paths.link_held(root / "a" / "other", root / "a" / "b" / "third", above, held)
    assert state(outside) == before


@pytest.mark.parametrize("made", ["a/b/new", "a/b/new/deep"], ids=["the folder", "one above it, too"])
def test_of_a_held_folder_that_is_made_later_what_is_in_it_is_seen_at_once(root, made):
    folder = root / made
    held, source = paths.Held(folder), paths.Held(root / "a")
    assert not held.may_have("other")
    unlooked = paths.Held(folder)
    with pytest.raises(FileNotFoundError):
        paths.link_held(root / "a" / "other", folder / "other", source, unlooked)
    folder.mkdir(parents=True)
    assert held.may_have("other"), "only a look can tell"
    assert not held.may_have("other")
    paths.link_held(root / "a" / "other", folder / "other", source, unlooked)
    assert held.may_have("other")
    with pytest.raises(FileExistsError):
        paths.link_held(root / "a" / "other", folder / "other", source, held)


def test_a_held_folder_that_was_removed_and_made_again_is_looked_for_again(root):
    held, source = paths.Held(root / "a" / "b"), paths.Held(root / "a")
    assert held.may_have("file")
    (root / "a" / "b" / "file").unlink()
    (root / "a" / "b").rmdir()
    (root / "a" / "b").mkdir()
    with pytest.raises(FileNotFoundError):
        paths.link_held(root / "a" / "other", root / "a" / "b" / "new", source, held)
    paths.link_held(root / "a" / "other", root / "a" / "b" / "new", source, held)
    assert (root / "a" / "b" / "new").read_text() == "other"


def test_a_file_in_the_place_of_a_held_folder_is_for_who_looks_by_its_path(root):
    assert paths.Held(root / "a" / "other").may_have("x")
    assert not paths.Held(root / "nowhere" / "else").may_have("x")


def test_a_link_swapped_in_between_check_and_use_leads_nobody_out(root, outside):
    """The swaps are in a second process."""
    swaps_and_escapes(root, outside, tries=600)


def swaps_and_escapes(root: Path, outside: Path, tries: int) -> None:
    child = os.fork()
    if child == 0:
        try:
            while True:
                os.rename(root / "a" / "b", root / "a" / "real")
                (root / "a" / "b").symlink_to(outside)
                os.unlink(root / "a" / "b")
                os.rename(root / "a" / "real", root / "a" / "b")
                time.sleep(1e-4)  # else the true folder is hardly ever there
        finally:
            os._exit(0)
    try:
        outcomes = {"mine": 0, "refused": 0}
        while sum(outcomes.values()) < tries or not outcomes["mine"]:
            try:
                assert read(root / "a" / "b" / "file") == b"mine"
                os.close(paths.open_file(root / "a" / "b" / "new", os.O_WRONLY | os.O_CREAT))
                paths.remove(root / "a" / "b" / "new")
                outcomes["mine"] += 1
            except (LinkError, FileNotFoundError, NotADirectoryError):
                outcomes["refused"] += 1
            assert os.listdir(outside) == ["file"]
        assert (outside / "file").read_text() == "thesis"
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
