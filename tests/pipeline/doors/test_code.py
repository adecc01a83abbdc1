"""What runs of a user's file is what was read and digested, and nothing else that lies beside it."""

import importlib.util
import py_compile

import pytest

from headstart.pipeline.doors import code as door
from headstart.pipeline.doors.code import load_kept, read_code, run_code
from headstart.pipeline.errors import HeadstartError

EVIL = "VALUE = 'evil'\n"


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "beside_mine.py").write_text("VALUE = 'neighbour'\n")
    path = tmp_path / "mine.py"
    path.write_text("from beside_mine import VALUE as OTHER\nVALUE = 'good'\n")
    return path


def compiled(path, source):
    """A compiled module in the cache that claims to fit `path`, whatever stands there."""
    evil = path.with_suffix(".evil")
    evil.write_text(source)
    target = importlib.util.cache_from_source(str(path))
    py_compile.compile(str(evil), target, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def change(path):
    path.write_text(EVIL)


def sourceless(path):
    evil = path.with_suffix(".evil")
    evil.write_text(EVIL)
    py_compile.compile(str(evil), str(path.with_suffix(".pyc")))
    path.unlink()


@pytest.mark.parametrize("name", ["mine.py", "beside_mine.py"])
@pytest.mark.parametrize("harm", [change, lambda path: compiled(path, EVIL), lambda path: path.unlink(), sourceless],
                         ids=["changed", "compiled", "gone", "compiled without a source"])  # fmt: skip
def test_what_runs_is_what_was_read(mine, name, harm):
    code = read_code(mine)
    harm(mine.with_name(name))
    module = run_code(code)
    assert (module.VALUE, module.OTHER) == ("good", "neighbour")


def test_a_kept_file_that_is_exchanged_while_it_is_asked_about_runs_as_it_was(mine, monkeypatch):
    monkeypatch.setattr(door, "require_allowed", lambda digest, path: change(path))
    assert load_kept(mine, read_code(mine).digest, "headstart train").VALUE == "good"


def package(folder):
    (folder / "lying").mkdir()
    (folder / "lying/__init__.py").write_text(EVIL)


def compiled_beside(folder):
    (folder / "lying.py").touch()
    sourceless(folder / "lying.py")


@pytest.mark.parametrize("put", [package, compiled_beside], ids=["package", "compiled module"])
def test_what_nobody_was_asked_about_is_not_imported(tmp_path, put):
    put(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text("import lying\n")
    assert read_code(path).files == (("mine.py", b"import lying\n"),)
    with pytest.raises(HeadstartError, match="No module named 'lying'"):
        run_code(read_code(path))


def test_modules_of_one_name_beside_two_files_are_two(tmp_path):
    values = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shared_name.py").write_text(f"VALUE = {name!r}\n")
        (tmp_path / name / "mine.py").write_text("from shared_name import VALUE\n")
        values.append(run_code(read_code(tmp_path / name / "mine.py")).VALUE)
    assert values == ["one", "other"]


def test_a_digest_is_of_names_and_bytes_of_all_that_may_run(mine):
    digests = [read_code(mine).digest]
    for name in ("mine.py", "beside_mine.py"):
        path = mine.with_name(name)
        path.write_text(path.read_text() + "\n")
        digests.append(read_code(mine).digest)
    assert len(set(digests)) == 3
