"""Lines of every format are read, a pickle runs nothing, and what cannot be used is counted."""

import json
import pickle

import numpy as np
import pytest

from headstart.experiments.strokes.pickled import RefusedPickle, unpickled
from headstart.experiments.strokes.sources import as_json_lines, by_writer, read_lines
from headstart.pipeline.errors import HeadstartError

from .made import lines, strokes


def offsets_of(text):
    points = np.concatenate(strokes(text))
    ends = np.cumsum([len(part) for part in strokes(text)]) - 1
    rows = np.column_stack([np.diff(points, axis=0, prepend=points[:1]), np.isin(np.arange(len(points)), ends)])
    return rows.astype(np.float32)


def npz(path, **changed):
    made = lines(4)
    arrays = {
        "offsets": np.round(np.concatenate([line.offsets for line in made]) * 32).astype(np.int16),
        "eos": np.concatenate([line.ends for line in made]).astype(np.uint8),
        "length": np.array([len(line) for line in made], np.int32),
        "text": np.array([line.text for line in made]),
        "writer": np.array([line.writer for line in made]),
    } | changed
    np.savez_compressed(path, **arrays)
    return path


def test_an_npz_with_integers_in_a_thirty_second_of_a_unit(tmp_path):
    read = read_lines(npz(tmp_path / "lines.npz")).lines
    assert [line.text for line in read] == [line.text for line in lines(4)]
    np.testing.assert_allclose(read[1].offsets, lines(4)[1].offsets, atol=1 / 32)


def test_json_lines_come_back_as_they_were_written(tmp_path):
    (tmp_path / "lines.jsonl").write_text("".join(f"{one}\n" for one in as_json_lines(lines(5))))
    read = read_lines(tmp_path / "lines.jsonl").lines
    assert [(line.text, line.writer) for line in read] == [(line.text, line.writer) for line in lines(5)]
    for one, other in zip(read, lines(5), strict=True):
        assert abs(len(one) - len(other)) <= len(other.strokes)


def test_a_pair_of_strokes_and_texts_in_a_pickle(tmp_path):
    (tmp_path / "lines.cpkl").write_bytes(pickle.dumps([[offsets_of("abc"), offsets_of("ba")], ["abc", "ba"]], protocol=2))
    assert [line.text for line in read_lines(tmp_path / "lines.cpkl").lines] == ["abc", "ba"]


def test_styles_as_numpy_files(tmp_path):
    np.save(tmp_path / "style-3-strokes.npy", offsets_of("abc"))
    np.save(tmp_path / "style-3-chars.npy", np.bytes_("abc"))
    assert [(line.text, line.writer) for line in read_lines(tmp_path).lines] == [("abc", "style-3")]


def test_iam_with_a_line_that_has_no_transcript(tmp_path):
    points = "".join(
        "<Stroke>" + "".join(f'<Point x="{x:.2f}" y="{y:.2f}" time="0"/>' for x, y in part) + "</Stroke>"
        for part in strokes("abc")
    )
    folder = tmp_path / "lineStrokes" / "a01" / "a01-000"
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"a01-000u-0{number}.xml").write_text(f"<W><StrokeSet>{points}</StrokeSet></W>")
    (folder / "a01-000u-03.xml").write_text('<!DOCTYPE x [<!ENTITY a "b">]><W/>')
    texts = tmp_path / "ascii" / "a01" / "a01-000"
    texts.mkdir(parents=True)
    (texts / "a01-000u.txt").write_text("OCR:\n\nold\n\nCSR:\n\nabc\n")
    read = read_lines(tmp_path)
    assert [(line.text, line.writer) for line in read.lines] == [("abc", "a01-000")]
    assert read.dropped == {"strokes without transcript": 2}
    assert read.words == "1 line; left out: 2 strokes without transcript (such as a01-000u-02.xml)"
    (texts / "a01-000u.txt").write_text("CSR:\nabc\nabc\nabc\n")
    assert read_lines(tmp_path).dropped == {"XML that declares entities": 1}


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e400", "NaN", "null", "[1]"], ids=lambda number: number[:6])
def test_a_coordinate_that_is_no_number_costs_its_line(tmp_path, number):
    whole = next(as_json_lines(lines(1)))
    place = tmp_path / "lines.jsonl"
    place.write_text(f'{whole}\n{{"text": "a", "writer": "b", "strokes": [[[1, {number}], [2, 2]]]}}\n')
    read = read_lines(place)
    assert (len(read.lines), sum(read.dropped.values())) == (1, 1)


class Evil:
    def __reduce__(self):
        return (exec, ("open('stolen', 'w').write('x')",))


class Attribute:
    def __reduce__(self):
        return (getattr, ("text", "upper"))


REFUSED = {
    "runs code": pickle.dumps(Evil()),
    "code in a list": pickle.dumps([[1, 2], Evil()]),
    "reaches for an attribute": pickle.dumps(Attribute()),
    "objects of numpy": pickle.dumps(np.array([object()], dtype=object)),
    "a function": pickle.dumps(np.load),
    "cut off": pickle.dumps([1, 2, 3])[:-3],
    "no pickle": b"hello",
    "empty": b"",
    "a dtype of records": pickle.dumps(np.zeros(2, np.dtype([("a", "f4")]))),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_a_pickle_that_is_no_data_is_refused_and_runs_nothing(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RefusedPickle):
        unpickled(data)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("protocol", range(6))
def test_data_of_every_protocol_are_unpickled(protocol):
    said = unpickled(pickle.dumps([np.arange(3.0), np.int64(4), "abc", b"x", {"a": (1, None)}], protocol=protocol))
    assert said[0].tolist() == [0, 1, 2]
    assert said[1:] in ([4, "abc", b"x", {"a": (1, None)}], [4, "abc", "x", {"a": (1, None)}])


def written(name, content):
    def write(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return write


BAD = {
    "nothing there": (lambda folder: folder / "no.npz", "there is no file or folder"),
    "no folder there": (lambda folder: folder / "no", "there is no file or folder"),
    "another format": (written("a.txt", b"x"), "holds no lines"),
    "an empty folder": (lambda folder: folder, "style-N-strokes.npy"),
    "no zip": (written("a.npz", b"x"), "cannot be read"),
    "counts that do not fit": (lambda folder: npz(folder / "a.npz", length=np.array([1, 2, 3, 4])), "do not fit together"),
    "an array of another length": (lambda folder: npz(folder / "a.npz", eos=np.zeros(3)), "do not fit together"),
    "one text for all": (lambda folder: npz(folder / "a.npz", text=np.array("a")), "do not fit together"),
    "words for numbers": (lambda folder: npz(folder / "a.npz", offsets=np.array([["a", "b"]])), "do not fit together"),
    "objects": (lambda folder: npz(folder / "a.npz", text=np.array([1, "a", 2, 3], dtype=object)), "cannot be read"),
    "no line can be used": (written("a.jsonl", b'{"text": "a"}\n{"strokes": 3}\n[1]\nnull\n'), "4 not as"),
    "texts and strokes of other counts": (written("a.pkl", pickle.dumps([[], ["a"]])), "0 strokes and 1 texts"),
    "a pickle of something else": (written("a.pkl", pickle.dumps({"a": 1})), "no pair"),
    "NaN": (written("a.jsonl", b'{"text": "a", "strokes": [[[0, 0], [NaN, 1]]]}'), r"1 coordinates that are NaN .*\(line 1\)"),
    "1e400": (written("a.jsonl", b'{"text": "a", "strokes": [[[0, 0], [1e400, 1]]]}'), "1 coordinates that are NaN"),
    "1e12": (written("a.jsonl", b'{"text": "a", "strokes": [[[0, 0], [1e12, 1]]]}'), "1 coordinates beyond"),
    "1e-12": (written("a.jsonl", b'{"text": "a", "strokes": [[[0, 0], [1e-12, 0]]]}'), "1 less than 0.000001 of ink"),
    "offsets of 1e308": (written("a.pkl", pickle.dumps([[np.full((9, 3), 1e308)], ["a"]])), "1 coordinates beyond"),
    "a stroke that ends at NaN": (written("a.pkl", pickle.dumps([[[[1, 0, 0], [1, 0, float("nan")]]], ["a"]])), "1 coordinates"),
    "deep": (written("a.jsonl", b'{"text": "a", "strokes": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "no line that can"),
}


@pytest.mark.parametrize(("make", "reason"), BAD.values(), ids=BAD)
def test_what_is_no_file_of_lines_is_said_in_one_line(tmp_path, make, reason):
    with pytest.raises(HeadstartError, match=reason) as caught:
        read_lines(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_an_npz_with_a_flag_that_is_no_number_loses_that_line_alone(tmp_path):
    ends = np.concatenate([line.ends for line in lines(4)]).astype(np.float32)
    ends[-1] = np.nan
    read = read_lines(npz(tmp_path / "lines.npz", eos=ends))
    assert read.words == "3 lines; left out: 1 coordinates that are NaN or infinite (line 4)"


def test_no_writer_is_in_two_splits_and_too_few_are_refused():
    parts = by_writer(lines(60, writers=20), seed=0)
    writers = [{line.writer for line in part} for part in parts.values()]
    assert sum(map(len, writers)) == 20
    assert set.union(*writers) == {f"w{n}" for n in range(20)}
    assert sum(map(len, parts.values())) == 60
    with pytest.raises(HeadstartError, match="three are needed"):
        by_writer(lines(10, writers=2), seed=0)


def test_lines_are_composed_from_fonts_the_same_for_the_same_seed():
    pytest.importorskip("HersheyFonts", reason="the package hershey-fonts is not installed")
    from headstart.experiments.strokes.composer import composed

    one, again, other = (list(composed(30, seed)) for seed in (1, 1, 2))
    assert json.dumps(list(as_json_lines(one))) == json.dumps(list(as_json_lines(again)))
    assert [line.text for line in one] != [line.text for line in other]
    assert len({line.writer for line in one}) == 24
