import re
import sys

import pytest

from headstart.features.sources.find import describe, find_images
from headstart.features.sources.source import SourceOptions
from headstart.pipeline.errors import HeadstartError


def read(root, content, name="table.csv", **options):
    (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return find_images(root / name, SourceOptions(**options))


@pytest.fixture
def root(data):
    return data("a.jpg", "b.jpg", "sub/c.jpg", "with, comma.jpg", "new\nline.jpg")


def test_columns_are_found_by_their_common_names(root):
    source = read(root, "File Name,Class,Partition,Patient_ID,age\na.jpg,cat,training,p1,7\nsub/c.jpg,dog,TEST,p2,-1\n")
    assert [(i.path, i.label, i.split, i.group, i.extra) for i in source.images] == [
        ("a.jpg", "cat", "train", "p1", ("7",)),
        ("sub/c.jpg", "dog", "test", "p2", ("-1",)),
    ]
    assert (source.layout, source.file, source.columns, source.root) == ("table", "table.csv", ("age",), root)
    assert dict(source.roles) == {"path": "File Name", "label": "Class", "split": "Partition", "group": "Patient_ID"}
    assert source.images[0].size == (root / "a.jpg").stat().st_size
    assert source.images[0].mtime_ns == (root / "a.jpg").stat().st_mtime_ns


def test_flags_choose_the_columns(root):
    source = read(root, "path,label,file,kind\nx,1,a.jpg,cat\n", path_col="file", label_col="kind", split_col="", group_col="")
    assert [(i.path, i.label, i.extra) for i in source.images] == [("a.jpg", "cat", ("x", "1"))]
    assert source.columns == ("table_path", "table_label")


def test_column_taken_by_a_flag_is_no_candidate_for_another_role(root):
    source = read(root, "path,label,class\na.jpg,cat,7b\n", group_col="class")
    assert [(i.label, i.group) for i in source.images] == [("cat", "7b")]


def test_line_ends_inside_quotes_are_kept(root):
    assert read(root, 'path,label\r\na.jpg,"x\r\ny"\r\n').images[0].label == "x\r\ny"


def test_empty_flag_means_no_such_column(root):
    assert [i.label for i in read(root, "path,label,class\na.jpg,,\n", label_col="").images] == [""]


def test_tsv_quotes_bom_and_crlf_are_read(root):
    text = '\ufeffpath\tlabel\r\n"new\nline.jpg"\tcat\r\nwith, comma.jpg\tcat\r\n\t\r\n\r\n'
    assert [i.path for i in read(root, text, "t.tsv").images] == ["new\nline.jpg", "with, comma.jpg"]


@pytest.mark.parametrize("label", ["NA", "None", "null", "N/A", "007", "1.0", "True"])
def test_labels_are_text_as_they_stand(root, label):
    assert read(root, f"path,label\na.jpg,{label}\n").images[0].label == label


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        pytest.param("", {}, ["is empty", "header"], id="no-bytes"),
        pytest.param("path,label\n", {}, ["has no rows", "path, label"], id="no-rows"),
        pytest.param("path,label\n,\n", {}, ["has no rows"], id="only-blank-rows"),
        pytest.param("a.jpg,cat\nb.jpg,dog\n", {}, ["no header", "row 1", "a.jpg", "path,label"], id="no-header"),
        pytest.param("\n\nb.jpg,dog\n", {}, ["no header", "row 3", "b.jpg"], id="no-header-after-blank-lines"),
        pytest.param("a.jpg\tcat\n", {}, ["no header", "a.jpg"], id="no-header-tabs"),
        pytest.param(
            "a.jpg,cat\nb.jpg,dog\n", {"path_col": "a.jpg", "label_col": "cat"}, ["no header", "a.jpg"], id="no-header-and-flags"
        ),
        pytest.param("image_id,label\na,cat\nb,dog\n", {}, ["'image_id' names files", "--path-col image_id"], id="ids"),
        pytest.param("x,kind\nsub/c.jpg,cat\n", {}, ["'x' names files", "--path-col x"], id="unusual-name-of-the-column"),
        pytest.param("path\na.jpg\nhttps://example.org/b.jpg\n", {}, ["row 3", "URL", "not downloaded"], id="url"),
        pytest.param("path\ns3://bucket/b.jpg\n", {}, ["row 2", "URL", "Download"], id="bucket"),
        pytest.param("path,label\na.jpg,1.0\nb.jpg,1\nsub/c.jpg,1\n", {}, ["'1.0'", "'1'", "--keep-case"], id="1.0-and-1"),
        pytest.param("path,label\na.jpg,2\nb.jpg,2.00\nsub/c.jpg,2\n", {}, ["'2.00'", "'2'"], id="2.00-and-2"),
        pytest.param("picture,label\na.jpg,cat\n", {}, ["no column of file names", "picture, label", "--path-col"], id="no-path"),
        pytest.param(
            "path,species\na.jpg,cat\n", {"label_col": "specie"}, ["'specie'", "path, species", "--label-col species"], id="near"
        ),
        pytest.param("path,x\na.jpg,cat\n", {"group_col": "ward"}, ["'ward'", "Choose one with --group-col"], id="far"),
        pytest.param("path,file\na.jpg,b.jpg\n", {}, ["2 columns", "the path", "path, file", "--path-col"], id="two-paths"),
        pytest.param("path,label,class\na.jpg,1,2\n", {}, ["the label", "label, class", "--label-col ''"], id="two-labels"),
        pytest.param("path,x\na.jpg,1\n", {"label_col": "x", "group_col": "x"}, ["'x'", "two roles"], id="one-column-two-roles"),
        pytest.param("path,path\na.jpg,b.jpg\n", {}, ["'path' twice"], id="column-twice"),
        pytest.param("path,label\na.jpg,cat\nb.jpg,\nsub/c.jpg,NaN\n", {}, ["2 of 3 rows", "row 3", "'label'"], id="nan-labels"),
        pytest.param("path,label\na.jpg,\nb.jpg, \n", {}, ["all 2 rows", "--label-col ''"], id="no-label-at-all"),
        pytest.param(
            "path,label\na.jpg,Cat\nb.jpg,cat\nsub/c.jpg,cat\n",
            {},
            ["row 2 has label 'Cat'", "2 other", "--keep-case"],
            id="case",
        ),
        pytest.param("path,label\na.jpg,cat\n,dog\n", {}, ["row 3", "no path"], id="no-path-in-row"),
        pytest.param("path\na.jpg\nx/../../b.jpg\n", {}, ["row 3", "x/../../b.jpg", "'..'"], id="dot-dot"),
        pytest.param("path\n/etc/a.jpg\n", {}, ["row 2", "/etc/a.jpg", "absolute"], id="absolute"),
        pytest.param("path\nC:\\x\\a.jpg\n", {}, ["row 2", "absolute"], id="absolute-windows"),
        pytest.param(
            "path,split\na.jpg,train\nb.jpg,holdout\n", {}, ["row 3", "'holdout'", "train, val or test"], id="unknown-split"
        ),
        pytest.param(
            "path,label\na.jpg,cat\n./a.jpg,dog\n", {}, ["a.jpg", "'cat' in row 2", "'dog' in row 3"], id="two-labels-one-path"
        ),
        pytest.param("path,split\na.jpg,train\na.jpg,test\n", {}, ["a.jpg", "split 'train' in row 2"], id="two-splits-one-path"),
        pytest.param("path,label\na.jpg,cat\nb.jpg\n", {}, ["row 3 has 1 fields", "expected 2"], id="short-row"),
        pytest.param("path,label\na.jpg,cat\nwith, comma.jpg,cat\n", {}, ["row 3 has 3 fields", "Quote"], id="unquoted-comma"),
        pytest.param('path,label\n"a.jpg,cat\n', {}, ["not valid CSV"], id="open-quote"),
        pytest.param(b"path,label\na.jpg,caf\xe9\n", {}, ["line 2", "not UTF-8", "0xe9"], id="latin-1"),
        pytest.param("path\nx.jpg\ny.jpg\n", {}, ["none of its 2 files", "row 2", "x.jpg"], id="all-files-missing"),
        pytest.param("path,note\na.jpg," + "x" * 20_001 + "\n", {}, ["row 2", "'note'", "20,001"], id="huge-value"),
        pytest.param("path\na.jpg\n", {"layout": "flat"}, ["--layout"], id="layout-flag"),
        pytest.param("My data\npath,label\na.jpg,cat\n", {}, ["row 2 has 2 fields", "a title, delete"], id="title-above"),
        pytest.param("My data,\npath,label\na.jpg,cat\n", {}, ["Row 2 looks like the header"], id="title-of-as-many-fields"),
        pytest.param("a,cat\nb,dog\n", {}, ["'a' is an image", "header is missing"], id="no-header-and-no-extension"),
        pytest.param("path,label\na.jpg,cat\nlabel,path\n", {}, ["row 3", "another order"], id="joined-in-another-order"),
        pytest.param("path label\na.jpg cat\n", {}, ["one column", "commas"], id="blanks-between-values"),
        pytest.param("path,label,x\na.jpg,cat\n", {}, ["2 fields, expected 3", "Add the missing"], id="fewer-fields"),
        pytest.param("path\nc.jpg\n", {}, ["row 2", "sub/c.jpg is there", "sub/ before"], id="table-above-its-folder"),
        pytest.param("path\nc\n", {}, ["sub/c.jpg is there"], id="id-of-another-folder"),
        pytest.param("path\ndata/sub/c.jpg\n", {}, ["sub/c.jpg is there", "cut"], id="its-own-folder-named"),
        pytest.param("path\na.png\nsub/c.webp\n", {}, ["a.jpg is there", "ending"], id="another-ending"),
        pytest.param("path,label\na.jpg,01\nb.jpg,1\nsub/c.jpg,1\n", {}, ["'01'", "'1'", "--keep-case"], id="01-and-1"),
        pytest.param("path,label\na.jpg,1e0\nb.jpg,1\nsub/c.jpg,1\n", {}, ["'1e0'", "'1'", "--keep-case"], id="1e0-and-1"),
        pytest.param(
            "path,label\na.jpg,1.000e+00\nb.jpg,1\nsub/c.jpg,1\n", {}, ["'1.000e+00'", "'1'", "--keep-case"], id="1.000e+00-and-1"
        ),
        pytest.param("path,label\na.jpg,1.\nb.jpg,1\nsub/c.jpg,1\n", {}, ["'1.'", "'1'", "--keep-case"], id="1.-and-1"),
        pytest.param("path,label\na.jpg,+1\nb.jpg,1\nsub/c.jpg,1\n", {}, ["'+1'", "'1'", "--keep-case"], id="+1-and-1"),
        pytest.param("path,label\na.jpg,-1.0\nb.jpg,-1\nsub/c.jpg,-1\n", {}, ["'-1.0'", "'-1'", "--keep-case"], id="-1.0-and--1"),
        pytest.param("path,label\na.jpg,-0\nb.jpg,0\nsub/c.jpg,0\n", {}, ["'-0'", "'0'", "--keep-case"], id="-0-and-0"),
        pytest.param(
            "path,label\na.jpg,1e2\nb.jpg,100\nsub/c.jpg,100\n", {}, ["'1e2'", "'100'", "--keep-case"], id="1e2-and-100"
        ),
        pytest.param("path,label\na.jpg,a\u200b\nb.jpg,a\n", {}, ["--keep-case"], id="invisible-mark"),
        pytest.param("path,label\na.jpg,big  cat\nb.jpg,big cat\n", {}, ["--keep-case"], id="two-blanks"),
        pytest.param("path,label\na.jpg,big_cat\nb.jpg,big cat\n", {}, ["--keep-case"], id="underscore-and-blank"),
        pytest.param("path,label\na.jpg,\uff21\nb.jpg,A\n", {}, ["--keep-case"], id="full-width"),
        pytest.param(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", {}, ["pointer of Git LFS", "git lfs pull"], id="lfs"
        ),
    ],
)
def test_bad_table_is_explained_in_one_line(root, content, options, says):
    with pytest.raises(HeadstartError) as caught:
        read(root, content, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in says if part not in message] == []


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("\npath,label\na.jpg,cat\nsub/c.jpg,dog\n", id="blank-first-line"),
        pytest.param(" \n,\npath,label\na.jpg,cat\n\nsub/c.jpg,dog\n", id="blank-lines"),
        pytest.param("path,label\na.jpg,cat\npath,label\nsub/c.jpg,dog\n", id="header-in-the-middle"),
        pytest.param("path;label\na.jpg;cat\nsub/c.jpg;dog\n", id="semicolons"),
        pytest.param("path\tlabel\na.jpg\tcat\nsub/c.jpg\tdog\n", id="tabs-in-a-csv"),
        pytest.param("path,label\na.jpg,cat\nsub\\c.jpg,dog\n", id="backslash"),
        pytest.param("path,label\n.\\a.jpg,cat\n.\\sub\\c.jpg,dog\n", id="backslashes-and-a-dot"),
        pytest.param("path,label\na,cat\nsub/c,dog\n", id="without-extension"),
        pytest.param("path,label\nA.JPG,cat\nSub/C.jpg,dog\n", id="other-case"),
        pytest.param("path,label\n{root}/a.jpg,cat\n{root}/sub/c.jpg,dog\n", id="absolute-below-the-root"),
        pytest.param("path,label\nfile://{root}/a.jpg,cat\nsub/c.jpg,dog\n", id="file-url"),
        pytest.param("path,label\na.jpg,cat\nPATH, Label\nsub/c.jpg,dog\n", id="header-again-in-another-case"),
        pytest.param("path,label,\na.jpg,cat\nsub/c.jpg,dog\n", id="separator-after-the-header-only"),
        pytest.param('path,label\n\'a.jpg\',cat\n"""sub/c.jpg""",dog\n', id="names-in-quotes"),
        pytest.param("path,label\n a.jpg ,cat\nsub/c.jpg ,dog\n", id="blanks-around-names"),
        pytest.param("path,label\na.jpg,cat\nsub%2Fc.jpg,dog\n", id="escaped-as-in-urls"),
        pytest.param("path,label\nC:\\data\\a.jpg,cat\nC:\\data\\sub\\c.jpg,dog\n", id="absolute-windows"),
        pytest.param("path,label\n/home/old/data/a.jpg,cat\n/home/old/data/sub/c.jpg,dog\n", id="absolute-on-another-machine"),
    ],
)
def test_what_plainly_means_files_that_are_there_is_read(root, content):
    source = read(root, content.replace("{root}", str(root)))
    assert [(image.path, image.label) for image in source.images] == [("a.jpg", "cat"), ("sub/c.jpg", "dog")]
    assert all(image.size >= 0 for image in source.images)


@pytest.mark.parametrize("there", ["caf\u00e9", "cafe\u0301"], ids=["file-nfc", "file-nfd"])
@pytest.mark.parametrize("named", ["caf\u00e9", "cafe\u0301"], ids=["table-nfc", "table-nfd"])
@pytest.mark.parametrize("where", ["{}/a.jpg", "x/{}.jpg"], ids=["folder", "file"])
def test_a_table_finds_its_files_in_either_unicode_form(data, there, named, where):
    source = read(data(where.format(there)), f"path,label\n{where.format(named)},{named}\n")
    assert [(image.path, image.label) for image in source.images] == [(where.format(there), named)]


@pytest.mark.parametrize(
    ("files", "named"),
    [
        pytest.param(["a.jpg", "a.png"], "a", id="two-extensions"),
        pytest.param(["A.jpg", "a.JPG"], "a.jpg", id="two-cases"),
        pytest.param(["a.txt"], "a", id="no-image"),
    ],
)
def test_a_name_that_may_mean_two_files_means_none(data, files, named):
    root = data(*files, "b.jpg")
    (source,) = [read(root, f"path\n{named}\nb.jpg\n")]
    assert {image.path: image.size for image in source.images}[named] == -1


@pytest.mark.parametrize("named", ["7", "7.0", "0007", "7.jpg", "07.JPG"])
def test_an_id_that_lost_its_zeros_is_told_the_file_that_is_there(data, named):
    root = data("007.jpg", "b.jpg")
    with pytest.raises(HeadstartError, match=r"007\.jpg is there: keep the zeros"):
        read(root, f"path\n{named}\n")
    notes = read(root, f"path\n{named}\nb.jpg\n").notes
    assert any(f"for example {named} (007.jpg is there" in note for note in notes)


def test_a_flag_is_offered_as_it_is_typed(root):
    notes = read(root, "path,my kind\na.jpg,cat\nb.jpg,dog\n").notes
    assert any("(--label-col 'my kind' takes one as label)" in note for note in notes)
    notes = read(root, "path,label,is_train\na.jpg,cat,1\nb.jpg,dog,0\n").notes
    assert any("'is_train' sounds like splits" in note for note in notes)


def test_columns_that_are_not_used_are_named_with_the_flag_that_would(root):
    notes = read(root, "path,species,age\na.jpg,cat,1\nb.jpg,dog,2\n").notes
    assert any("species, age (--label-col species" in note for note in notes)
    notes = read(root, "path,label\na.jpg,0.5\nb.jpg,2.5\n").notes
    assert any("--target label" in note for note in notes)
    notes = read(root, "path,label\na.jpg,0\nb.jpg,1\n").notes
    assert not any("--target" in note for note in notes)


def test_duplicate_rows_are_counted_and_dropped(root):
    source = read(root, "path,label\na.jpg,cat\nb.jpg,cat\n./a.jpg,cat\nsub//c.jpg,cat\nsub/./c.jpg,cat\n")
    assert [i.path for i in source.images] == ["a.jpg", "b.jpg", "sub/c.jpg"]
    assert source.duplicates == 2
    assert any("dropped 2 rows" in line for line in describe(source))


def test_missing_files_are_kept_and_counted(root):
    source = read(root, "path\na.jpg\ngone.jpg\nno/such/folder.jpg\n")
    assert [(i.path, i.size, i.mtime_ns) for i in source.images[1:]] == [("gone.jpg", -1, -1), ("no/such/folder.jpg", -1, -1)]
    assert any("2 files are named but not there" in note for note in source.notes)


def test_rows_without_split_are_kept_without(root):
    assert [i.split for i in read(root, "path,split\na.jpg,valid\nb.jpg,\n").images] == ["val", ""]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_row_that_leads_out_by_a_link_is_refused_unless_allowed(root, data, kind):
    outside = data("x.jpg", at="outside")
    link = root / ("out" if kind == "folder" else "out.jpg")
    link.symlink_to(outside if kind == "folder" else outside / "x.jpg")
    text = "path\na.jpg\n" + ("out/x.jpg" if kind == "folder" else "out.jpg") + "\n"
    with pytest.raises(HeadstartError, match=re.escape("1 symbolic link leaves") + r".*row 3: out.* -> .*outside"):
        read(root, text)
    source = read(root, text, allow_symlinks=True)
    assert source.images[1].size == (outside / "x.jpg").stat().st_size


def test_missing_file_behind_an_outer_link_is_refused(root, data):
    (root / "out").symlink_to(data("x.jpg", at="outside"))
    with pytest.raises(HeadstartError, match="symbolic link"):
        read(root, "path\na.jpg\nout/none.jpg\n")


def test_link_inside_the_root_is_read_through(root):
    (root / "link.jpg").symlink_to("sub/c.jpg")
    assert read(root, "path\nlink.jpg\n").images[0].size == (root / "sub/c.jpg").stat().st_size


def test_parquet_gives_what_the_same_csv_gives(root):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rows = {"path": ["b.jpg", "a.jpg"], "label": ["dog", "cat"], "age": [3, 4]}
    pd.DataFrame(rows).to_parquet(root / "t.parquet")
    pd.DataFrame(rows).to_csv(root / "t.csv", index=False)
    parquet, csv = (find_images(root / name, SourceOptions()) for name in ("t.parquet", "t.csv"))
    assert (parquet.images, parquet.columns) == (csv.images, csv.columns)


def test_parquet_nulls_are_missing_labels_and_columns_of_pictures_are_left_out(root):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"path": ["a.jpg", "b.jpg"], "label": [1.0, float("nan")], "image": [{"bytes": b"x"}, {"bytes": b"y"}]})
    pq.write_table(table, root / "t.parquet")
    with pytest.raises(HeadstartError, match=r"1 of 2 rows, first: row 2\."):
        find_images(root / "t.parquet", SourceOptions())
    source = find_images(root / "t.parquet", SourceOptions(label_col=""))
    assert source.columns == ("table_label",)
    assert [image.extra for image in source.images] == [("1.0",), ("",)]
    assert any("'image' (struct" in note for note in source.notes)


def test_parquet_that_is_none_is_one_line(root):
    pytest.importorskip("pyarrow")
    with pytest.raises(HeadstartError, match="cannot be read as Parquet") as caught:
        read(root, b"PAR1 nonsense", "t.parquet")
    assert "\n" not in str(caught.value)


def test_parquet_without_pyarrow_says_what_to_install(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(HeadstartError, match=re.escape("pip install 'headstart[parquet]'")):
        read(root, b"PAR1", "t.parquet")
