"""A table costs what is in it, and says so before it is unpacked."""

import functools
import os
import time

import pytest

from headstart.features.sources import parquet_footer
from headstart.features.sources import read_table as tables
from headstart.features.sources.read_table import read_table
from headstart.pipeline.errors import HeadstartError

pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
pq = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")


def parquet(path, table, times=1, **options):
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, table.schema, compression="zstd", **options) as writer:
        for _ in range(times):
            writer.write_table(table)


def many_rows(path):
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x.jpg"]))
    parquet(path, pa.table({"path": words}), 30)


def one_long_word_many_times(path):
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 10**6]))
    parquet(path, pa.table({"path": words}))


def one_long_value(path):
    parquet(path, pa.table({"path": ["x" * 10**7]}))


def much_text(path):
    parquet(path, pa.table({"path": ["x" * 15_000] * 80_000}), use_dictionary=False)


def sparse(path):
    path.write_text("path,label\n")
    os.truncate(path, 12 << 30)


def sparse_below_the_limit(path):
    path.write_text("path,label\n")
    os.truncate(path, 100 << 20)


def says_rows(path, said):
    """A table of two rows whose footer says that it has so many: a count is twice itself, behind its kind of field."""
    parquet(path, pa.table({"path": ["a.png", "b.png"]}))
    data, count = path.read_bytes(), b"\x16\x04"
    places = [place for place in range(len(data)) if data.startswith(count, place)]
    for place in places:
        path.write_bytes(data[: place + 1] + bytes([2 * said]) + data[place + 2 :])
        if pq.ParquetFile(path).metadata.num_rows == said:
            return


def contradicts_itself(path, old, new, which=0):
    """A footer that pyarrow ends the process for: the calls that look at a column chunk cannot raise."""
    parquet(path, pa.table({"path": ["a.png", "b.png"], "label": ["x", "y"]}))
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    places = [place for place in range(footer, len(data)) if data.startswith(old, place)]
    path.write_bytes(data[: places[which]] + new + data[places[which] + len(new) :])


def one_word_in_every_row(path):
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 70_000]))
    parquet(path, pa.table({"path": words}))


def dated(kind, number):
    return pa.table({"path": ["a.png"], "when": pa.array([number], kind)})


def no_text(path):
    kind, offsets, data = pa.array([b"a\xff.png"]).buffers()
    parquet(path, pa.table({"path": pa.StringArray.from_buffers(1, offsets, data, kind)}))


OPTIONAL, REQUIRED = b"\x25\x02", b"\x25\x00"
TEXT, WHOLE_NUMBERS = b"\x15\x0c", b"\x15\x04"

ODD = {
    # Levels are counted of values that may not be missing.
    "levels of a required column.parquet": lambda path: contradicts_itself(path, OPTIONAL, REQUIRED),
    "text that is said to be numbers.parquet": lambda path: contradicts_itself(path, TEXT, WHOLE_NUMBERS, which=2),
    "one word in every row.parquet": one_word_in_every_row,
    "dates after all others.parquet": lambda path: parquet(path, dated(pa.timestamp("ms"), -(2**62))),
    "days after all others.parquet": lambda path: parquet(path, dated(pa.date32(), 2**31 - 1)),
    "a zone that there is not.parquet": lambda path: parquet(path, dated(pa.timestamp("s", tz="No/Where"), 1)),
    "text that is no UTF-8.parquet": no_text,
    "more rows than it holds.parquet": lambda path: says_rows(path, 3),
    "fewer rows than it holds.parquet": lambda path: says_rows(path, 1),
    "many rows.parquet": many_rows,
    "one long word many times.parquet": one_long_word_many_times,
    "one long value.parquet": one_long_value,
    "much text.parquet": much_text,
    "sparse.csv": sparse,
    "sparse below the limit.csv": sparse_below_the_limit,
    "three million columns.csv": lambda path: path.write_text("path,label" + ",c" * 3_000_000 + "\na.png,x\n"),
    "three million columns.tsv": lambda path: path.write_text("path\tlabel" + "\tc" * 3_000_000 + "\na.png\tx\n"),
    "one field of many bytes.csv": lambda path: path.write_text("path,label\n" + "a" * 10**8 + ",x\n"),
    "a quote that never ends.csv": lambda path: path.write_text('path,label\n"' + "a\n" * 10**7),
    "a pipe.csv": os.mkfifo,
    "a pipe.parquet": os.mkfifo,
    "a device.csv": lambda path: path.symlink_to("/dev/zero"),
    "a device.parquet": lambda path: path.symlink_to("/dev/zero"),
    "a folder.csv": os.mkdir,
    "noise.parquet": lambda path: path.write_bytes(b"PAR1" + os.urandom(999) + b"PAR1"),
}


@pytest.mark.parametrize(("name", "make"), ODD.items(), ids=ODD.keys())
def test_it_is_one_line_at_once(tmp_path, name, make):
    make(tmp_path / name)
    begun = time.monotonic()
    with pytest.raises(HeadstartError) as caught:
        read_table(tmp_path / name)
    assert time.monotonic() - begun < 10
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_time_grows_with_the_columns_and_not_with_their_square(tmp_path, suffix):
    def seconds(count):
        names = ["path", *(f"c{number}" for number in range(count))]
        path = tmp_path / f"{count}{suffix}"
        if suffix == ".csv":
            path.write_text(f"{','.join(names)}\n{',1' * count}\n")
        else:
            parquet(path, pa.table({name: ["1"] for name in names}))
        begun = time.process_time()
        assert len(read_table(path).columns) == count + 1
        return time.process_time() - begun

    few = min(seconds(500), seconds(501))
    assert seconds(8_000) < 60 * few + 1  # the square would be 256 times as long


def test_a_parquet_file_of_too_many_columns_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_MAX_COLUMNS", 3)
    for count in (3, 4):
        parquet(tmp_path / f"{count}.parquet", pa.table({f"c{n}": ["1"] for n in range(count)}))
    assert len(read_table(tmp_path / "3.parquet").columns) == 3
    with pytest.raises(HeadstartError, match="has 4 columns, at most 3 are read"):
        read_table(tmp_path / "4.parquet")


def test_a_table_at_the_limit_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_ROWS", 3)
    parquet(tmp_path / "t.parquet", pa.table({"path": ["a", "b", "c"], "n": [1, None, 3]}))
    assert read_table(tmp_path / "t.parquet").columns == {"path": ["a", "b", "c"], "n": ["1", "", "3"]}


def test_a_footer_that_ends_who_looks_at_it_is_named_and_the_next_table_is_read(tmp_path, capfd):
    contradicts_itself(tmp_path / "bad.parquet", OPTIONAL, REQUIRED)
    parquet(tmp_path / "good.parquet", pa.table({"path": ["a"]}))
    for _ in range(2):
        with pytest.raises(HeadstartError, match=r"bad.parquet cannot be read as Parquet: .*(SIGABRT|mismatch)"):
            read_table(tmp_path / "bad.parquet")
        assert read_table(tmp_path / "good.parquet").columns == {"path": ["a"]}
    assert capfd.readouterr() == ("", "")


def test_one_process_looks_at_the_footers_of_all_files_of_a_folder(tmp_path, monkeypatch):
    started = []

    class Counted(parquet_footer.Child):
        def __init__(self, *arguments, **options):
            started.append(arguments)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(parquet_footer, "Child", Counted)
    monkeypatch.setattr(parquet_footer, "_looker", functools.cache(lambda process: parquet_footer._Looker()))
    for name in "abc":
        parquet(tmp_path / f"{name}.parquet", pa.table({"path": [name]}))
        assert read_table(tmp_path / f"{name}.parquet").columns == {"path": [name]}
    assert len(started) == 1


def test_a_child_that_ended_by_itself_blames_no_file(tmp_path):
    parquet(tmp_path / "t.parquet", pa.table({"path": ["a"]}))
    looker = parquet_footer._Looker()
    stamp = (0,)
    looker.look(str(tmp_path / "t.parquet"), stamp)
    looker._child.close()
    assert looker.look(str(tmp_path / "t.parquet"), (1,)).rows == 1
