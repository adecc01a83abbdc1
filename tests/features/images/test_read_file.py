import os
import signal
import socket
import tempfile
import time
from pathlib import Path

import pytest

from headstart.features.images import decode
from headstart.features.images.decode import MAX_FILE_BYTES, ImageError, path_inside, read_file
from headstart.pipeline.errors import TryLaterError
from tests.features.samples import picture, saved

JPEG = saved(picture(60, 40), "JPEG")


@pytest.fixture
def folder(tmp_path):
    """A data folder with one photo beside whatever a test puts there."""
    root = tmp_path / "data"
    root.mkdir()
    (root / "Photo.JPG").write_bytes(JPEG)
    return root


def read(root, relative, allow_symlinks=False, **differing):
    """As the manifest would ask, had it seen the file as it is now."""
    try:
        facts = (root / relative).stat()
    except (OSError, ValueError):
        facts = root.stat()
    return read_file(
        root, relative, differing.get("size", facts.st_size), differing.get("mtime_ns", facts.st_mtime_ns), allow_symlinks
    )


class Patched:
    """The module os with other functions, for one module only: pytest needs the true ones."""

    def __init__(self, **functions):
        self.__dict__.update(functions)

    def __getattr__(self, name):
        return getattr(os, name)


NAMES = [
    "Photo.JPG",
    "a,b.jpg",
    "a\nb.jpg",
    'a"b.jpg',
    "=1+1.jpg",
    "  a  b .jpg ",
    "日本語.jpg",
    os.fsdecode(b"\xff\xfe.jpg"),
    "x" * 250,
    "..a",
    "a..",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_is_read_byte_for_byte(folder, name):
    for path in (name, f"sub/{name}"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(JPEG)
        assert read(folder, path) == JPEG


def make_socket(path):
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's address holds 108 bytes, and temporary folders are long
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


NO_FILE = {
    "deleted": (lambda path: None, "missing"),
    "folder named x.jpg": (lambda path: path.mkdir(), "not_a_file"),
    "FIFO without a writer": (os.mkfifo, "not_a_file"),
    "socket": (make_socket, "not_a_file"),
    "loop of links": (lambda path: path.symlink_to(path.name), "unreadable"),
    "link to nothing": (lambda path: path.symlink_to("nowhere"), "missing"),
    "link out of the root": (lambda path: path.symlink_to(outside(path)), "outside_root"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "outside_root"),
    "two gigabytes": (lambda path: sparse(path, 2 * MAX_FILE_BYTES), "too_large"),
}


def outside(path):
    target = path.parent.parent / "outside.jpg"
    target.write_bytes(JPEG)
    return target


def sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize(("make", "code"), NO_FILE.values(), ids=NO_FILE)
def test_what_is_no_readable_file_is_an_error_of_its_row(folder, make, code):
    make(folder / "x.jpg")
    started = time.monotonic()
    with pytest.raises(ImageError) as caught:
        read(folder, "x.jpg")
    assert caught.value.code == code
    assert time.monotonic() - started < 5  # a FIFO would wait for its writer for ever


@pytest.mark.parametrize("relative", ["../data/Photo.JPG", "a/../Photo.JPG", "..", "/etc/hostname"])
@pytest.mark.parametrize("allow_symlinks", [False, True])
def test_a_path_that_climbs_or_is_absolute_is_refused(folder, relative, allow_symlinks):
    with pytest.raises(ImageError) as caught:
        read(folder, relative, allow_symlinks)
    assert caught.value.code == "outside_root"


@pytest.mark.parametrize(
    ("relative", "code"),
    [("", "not_a_file"), (".", "not_a_file"), ("a\0b", "unreadable"), ("Photo.JPG/x", "missing"), ("y" * 300, "unreadable")],
    ids=["empty", "dot", "zero byte", "below a file", "300 bytes"],
)
def test_a_path_that_names_no_file_is_an_error_of_its_row(folder, relative, code):
    with pytest.raises(ImageError) as caught:
        read(folder, relative)
    assert caught.value.code == code


def test_a_file_that_turns_into_a_fifo_while_it_is_opened_does_not_block(folder, monkeypatch):
    def alarm(*_):
        raise AssertionError("opening the FIFO waited for a writer")

    facts = (folder / "Photo.JPG").stat()
    (folder / "Photo.JPG").unlink()
    os.mkfifo(folder / "Photo.JPG")
    monkeypatch.setattr(decode, "os", Patched(stat=lambda path: facts))
    previous = signal.signal(signal.SIGALRM, alarm)
    signal.alarm(5)
    try:
        with pytest.raises(ImageError) as caught:
            read_file(folder, "Photo.JPG", facts.st_size, facts.st_mtime_ns, True)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert caught.value.code == "not_a_file"


def test_links_out_of_the_root_are_read_only_when_allowed(folder):
    (folder / "x.jpg").symlink_to(outside(folder / "x.jpg"))
    assert read(folder, "x.jpg", allow_symlinks=True) == JPEG


def test_a_link_to_a_folder_whose_name_begins_like_the_roots_leads_out(folder):
    beside = folder.with_name(f"{folder.name}base")
    beside.mkdir()
    (beside / "b.jpg").write_bytes(JPEG)
    (folder / "b.jpg").symlink_to(beside / "b.jpg")
    with pytest.raises(ImageError) as caught:
        read(folder, "b.jpg")
    assert caught.value.code == "outside_root"


def test_links_inside_the_root_are_read(folder):
    (folder / "x.jpg").symlink_to("Photo.JPG")
    assert read(folder, "x.jpg") == JPEG


LINKED_PATHS = [
    "Photo.JPG",
    "deep/er/b.jpg",
    "./deep//er/./b.jpg",
    "deep/er/",
    "missing/b.jpg",
    "Photo.JPG/x",
    "inside.jpg",
    "inside/b.jpg",
    "deep/up/Photo.JPG",
    "dangling.jpg",
    "loop/b.jpg",
    "outside/b.jpg",
    "deep/outside.jpg",
    "..a",
    "",
]


@pytest.mark.parametrize("root_is", ["a folder", "a link", "below a link", "spelled with dots", "relative"])
@pytest.mark.parametrize("relative", LINKED_PATHS)
def test_a_path_lies_where_the_system_says_and_never_outside(tmp_path, monkeypatch, root_is, relative):
    root = tmp_path / "disk" / "data"
    (root / "deep" / "er").mkdir(parents=True)
    (tmp_path / "beside").mkdir()
    for file in (root / "Photo.JPG", root / "deep/er/b.jpg", tmp_path / "beside/b.jpg"):
        file.write_bytes(JPEG)
    for link, target in {
        "inside.jpg": "deep/er/b.jpg",
        "inside": "deep/er",
        "deep/up": "..",
        "dangling.jpg": "nothing",
        "loop": "loop",
        "outside": "../../beside",
        "deep/outside.jpg": tmp_path / "beside/b.jpg",
    }.items():
        (root / link).symlink_to(target)
    (tmp_path / "data_link").symlink_to(root)
    (tmp_path / "disk_link").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(tmp_path)
    given = {
        "a folder": root,
        "a link": tmp_path / "data_link",
        "below a link": tmp_path / "disk_link" / "data",
        "spelled with dots": tmp_path / "disk" / ".." / "disk" / "data",
        "relative": Path("disk/data"),
    }[root_is]
    if "outside" in relative:
        with pytest.raises(ImageError, match="outside_root"):
            path_inside(given, relative, allow_symlinks=False)
    else:
        assert path_inside(given, relative, allow_symlinks=False) == os.path.realpath(given / relative)


def test_a_link_to_a_device_is_no_file_even_where_links_are_allowed(folder):
    (folder / "x.jpg").symlink_to("/dev/zero")
    with pytest.raises(ImageError) as caught:
        read(folder, "x.jpg", allow_symlinks=True)
    assert caught.value.code == "not_a_file"


@pytest.mark.parametrize("differing", [{"size": len(JPEG) - 1}, {"size": len(JPEG) + 1}, {"mtime_ns": 1}], ids=str)
def test_a_file_that_changed_since_the_manifest_is_an_error_of_its_row(folder, differing):
    with pytest.raises(ImageError) as caught:
        read(folder, "Photo.JPG", **differing)
    assert caught.value.code == "changed"


@pytest.mark.parametrize("content", [JPEG + b"more", JPEG[::-1]], ids=["longer", "of the same length"])
def test_a_file_that_changes_while_it_is_read_is_an_error_of_its_row(folder, monkeypatch, content):
    path = folder / "Photo.JPG"
    seen = (len(JPEG), path.stat().st_mtime_ns)

    def fstat(descriptor):
        facts = os.fstat(descriptor)
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
        return facts

    monkeypatch.setattr(decode, "os", Patched(fstat=fstat))
    with pytest.raises(ImageError) as caught:
        read_file(folder, "Photo.JPG", *seen, allow_symlinks=False)
    assert caught.value.code == "changed"


def test_a_file_that_may_not_be_read_is_an_error_of_its_row():
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users altogether
        root = Path(name)
        root.chmod(0o755)
        for file, mode in (("open.jpg", 0o644), ("closed.jpg", 0o000)):
            (root / file).write_bytes(JPEG)
            (root / file).chmod(mode)
        user = os.geteuid()
        if user == 0:  # root may read everything
            os.seteuid(65534)
        try:
            assert read(root, "open.jpg") == JPEG
            with pytest.raises(ImageError) as caught:
                read(root, "closed.jpg")
        finally:
            os.seteuid(user)
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize("left", ["gone", "empty"])
def test_a_data_folder_whose_disk_is_not_mounted_costs_no_row(folder, left):
    facts = (folder / "Photo.JPG").stat()
    (folder / "Photo.JPG").unlink()
    if left == "gone":
        folder.rmdir()
    with pytest.raises(TryLaterError, match="mounted"):
        read_file(folder, "Photo.JPG", facts.st_size, facts.st_mtime_ns, False)


def test_a_disk_that_fails_costs_no_row(folder, monkeypatch):
    def failing(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(decode, "os", Patched(open=failing))
    with pytest.raises(TryLaterError):
        read(folder, "Photo.JPG")
