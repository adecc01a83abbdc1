import os
import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.pipeline import queue
from headstart.pipeline.blocks import Span
from headstart.pipeline.enqueue import Work, append_work, queue_lock, restorable_jobs
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.job import Job, is_job_id, job_id_of
from headstart.pipeline.markers import Result, commit, recorded_jobs
from headstart.pipeline.queue import HEADER, Reader
from headstart.pipeline.retire import REMOVED, withdraw
from headstart.pipeline.workspace import open_or_create_workspace
from tests.support import KINDS, enqueue_fakes, flipped


def read(workspace):
    reader = Reader(workspace, KINDS)
    return list(reader), reader.problems


def edit(workspace, change):
    lines = workspace.queue.read_text().splitlines(keepends=True)
    workspace.queue.write_text("".join(change(lines)))


def restore(workspace, items, folder="features/fake", job_size=10):
    with queue_lock(workspace):
        work = Work("fake", folder, "features/source", items, job_size)
        return append_work(workspace, [work], KINDS, lambda reader: restorable_jobs(workspace, reader))


def test_an_absent_queue_is_an_empty_queue(workspace):
    assert read(workspace) == ([], [])


def test_items_are_cut_into_jobs_and_the_last_is_shorter(workspace):
    jobs = enqueue_fakes(workspace, 25)
    assert [(job.job_id, job.start, job.stop) for job in jobs] == [
        ("job_000000", 0, 10),
        ("job_000001", 10, 20),
        ("job_000002", 20, 25),
    ]
    assert read(workspace) == (jobs, [])


def test_enqueueing_again_adds_only_what_is_new_and_regroups_nothing(workspace):
    before = enqueue_fakes(workspace, 25)
    assert enqueue_fakes(workspace, 25) == []
    assert [(job.start, job.stop) for job in enqueue_fakes(workspace, 40)] == [(25, 35), (35, 40)]
    assert read(workspace)[0][:3] == before


def test_another_folder_gets_jobs_of_its_own(workspace):
    enqueue_fakes(workspace, 10)
    [job] = enqueue_fakes(workspace, 10, folder="features/other")
    assert (job.job_id, job.folder) == ("job_000001", "features/other")


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_half_written_last_line_is_dropped_and_restored(workspace, cut):
    jobs = enqueue_fakes(workspace, 30)
    whole = workspace.queue.read_bytes()
    workspace.queue.write_bytes(whole[:-cut])
    assert read(workspace) == (jobs[:2], [])
    assert restore(workspace, 30) == ([], [jobs[2]])
    assert workspace.queue.read_bytes() == whole


def test_a_half_written_last_line_goes_even_when_nothing_is_added(workspace):
    enqueue_fakes(workspace, 30)
    whole = workspace.queue.read_bytes()
    workspace.queue.write_bytes(whole + b"job_000003,fake,fea")
    assert restore(workspace, 30) == ([], [])
    assert workspace.queue.read_bytes() == whole


def test_a_queue_torn_inside_its_header_is_written_anew(workspace):
    enqueue_fakes(workspace, 10)
    workspace.queue.write_bytes(HEADER.encode()[:7])
    assert [job.job_id for job in restore(workspace, 10)[1]] == ["job_000000"]
    assert read(workspace)[1] == []


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param(
            "job_000001,fake,features/fake,features/source,10", "line 3: expected 6 fields, found 5", id="too few fields"
        ),
        pytest.param(
            "job_000001,nonsense,features/fake,features/source,10,20", "line 3: unknown kind 'nonsense'", id="unknown kind"
        ),
        pytest.param(
            "../../x,fake,features/fake,features/source,10,20", "line 3: '../../x' is not a job id", id="slash in job id"
        ),
        pytest.param("job_1,fake,features/fake,features/source,10,20", "line 3: 'job_1' is not a job id", id="short job id"),
        pytest.param("job_0000001,fake,features/fake,features/source,10,20", "'job_0000001' is not a job id", id="padded job id"),
        pytest.param(
            "job_000001,fake,../elsewhere,features/source,10,20", "line 3: '../elsewhere' is not a path inside", id="folder ..."
        ),
        pytest.param("job_000001,fake,/etc,features/source,10,20", "line 3: '/etc' is not a path inside", id="absolute folder"),
        pytest.param("job_000001,fake,features/fake,features//source,10,20", "is not a path inside", id="empty part"),
        pytest.param(f"job_000001,fake,{'d/' * 3000}d,features/source,10,20", "is not a path inside", id="very deep folder"),
        pytest.param(f"job_000001,fake,features/fake,{'d' * 2000},10,20", "is not a path inside", id="very long source"),
        pytest.param(
            "job_000001,fake,features/fake,features/source,20,10", "line 3: '20' to '10' is not a range", id="backwards"
        ),
        pytest.param("job_000001,fake,features/fake,features/source,x,10", "line 3: 'x' to '10' is not a range", id="no number"),
        pytest.param(
            "job_000001;fake;features/fake;features/source;10;2E+01",
            "passed over, a spreadsheet rounded it. Delete the row",
            id="rounded",
        ),
        pytest.param('job_000001,fake,features/fake,features/source,"10,20', "is not a range", id="one quote"),
        pytest.param("job_000001,fake,features/fake,features/source,-1,10", "is not a range", id="negative"),
        pytest.param("job_000000,fake,features/fake,features/source,10,20", "line 3: job_000000 appears twice", id="repeated"),
        pytest.param("job_999999999,fake,features/fake,features/source,10,20", "is far beyond job_000000", id="absurd number"),
    ],
)
def test_a_row_edited_by_hand_is_named_by_its_line_and_costs_only_itself(workspace, row, expected):
    jobs = enqueue_fakes(workspace, 30)
    edit(workspace, lambda lines: [*lines[:2], row + "\n", lines[3]])
    listed, problems = read(workspace)
    assert listed == [jobs[0], jobs[2]]
    assert any(expected in problem for problem in problems), problems


def test_rows_of_a_kind_that_only_another_version_knows_keep_their_numbers_and_items(workspace):
    enqueue_fakes(workspace, 10)
    with workspace.queue.open("a") as queue:
        queue.write("job_000001,novel,features/novel,features/source,0,10\n")
    assert [job.job_id for job in enqueue_fakes(workspace, 20)] == ["job_000002"]
    size = workspace.queue.stat().st_size
    assert enqueue_fakes(workspace, 10, folder="features/novel") == []
    assert restore(workspace, 20) == ([], [])
    assert workspace.queue.stat().st_size == size
    listed, problems = read(workspace)
    assert [job.job_id for job in listed] == ["job_000000", "job_000002"]
    assert problems == ["jobs_queue.csv line 3: unknown kind 'novel' (this version knows extract, fake); the row is passed over"]


def test_a_header_edited_by_hand_is_named(workspace):
    jobs = enqueue_fakes(workspace, 10)
    edit(workspace, lambda lines: ["id;kind\n", *lines[1:]])
    assert read(workspace) == (
        jobs,
        [f"jobs_queue.csv line 1: expected the header {HEADER}, found 'id,kind'; save it as CSV, in UTF-8"],
    )


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "byte order mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("quote", ["", '"'], ids=["", "quotes"])
@pytest.mark.parametrize("separator", [",", ";", "\t"], ids=["commas", "semicolons", "tabs"])
def test_a_queue_that_a_spreadsheet_saved_is_the_same_queue(workspace, separator, quote, end, mark):
    jobs = enqueue_fakes(workspace, 30)
    rows = workspace.queue.read_text().splitlines()
    saved = "".join(separator.join(f"{quote}{field}{quote}" for field in row.split(",")) + end for row in rows)
    workspace.queue.write_bytes((mark + saved).encode())
    assert read(workspace) == (jobs, [])
    assert enqueue_fakes(workspace, 30) == []
    more = enqueue_fakes(workspace, 50)  # rows with commas below those
    assert [(job.job_id, job.start, job.stop) for job in more] == [("job_000003", 30, 40), ("job_000004", 40, 50)]
    assert read(workspace) == (jobs + more, [])


@pytest.mark.parametrize("mark_and_code", [(b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")], ids=["little", "big"])
def test_a_queue_saved_as_unicode_text_is_refused_and_nothing_is_added_to_it(workspace, mark_and_code):
    jobs, (mark, code) = enqueue_fakes(workspace, 30), mark_and_code
    whole = workspace.queue.read_text()
    workspace.queue.write_bytes(mark + whole.replace(",", "\t").replace("\n", "\r\n").encode(code))
    saved = workspace.queue.read_bytes()
    for use in (read, lambda workspace: enqueue_fakes(workspace, 50)):
        with pytest.raises(HeadstartError, match=r"is UTF-16.*'CSV UTF-8'"):
            use(workspace)
    assert workspace.queue.read_bytes() == saved
    workspace.queue.write_bytes(saved.decode("utf-16").encode("utf-8-sig"))
    assert read(workspace) == (jobs, [])


def test_rows_in_another_order_are_the_same_queue(workspace):
    jobs = enqueue_fakes(workspace, 40)
    edit(workspace, lambda lines: [lines[0], *reversed(lines[1:])])
    listed, problems = read(workspace)
    assert sorted(listed) == jobs
    assert problems == []


@pytest.mark.parametrize("removed", [0, 1, 3], ids=["first", "middle", "last"])
def test_a_removed_row_of_a_done_job_comes_back_and_the_job_is_not_done_twice(workspace, removed):
    jobs = enqueue_fakes(workspace, 40)
    commit(workspace, jobs[removed], "fingerprint of features/fake", Result(b"x", ".txt", {}, 10, 10))
    edit(workspace, lambda lines: [line for line in lines if not line.startswith(jobs[removed].job_id)])
    if removed != 3:  # that the last row is gone shows only in its marker
        assert any(f"{jobs[removed].job_id} is missing" in problem for problem in read(workspace)[1])
    assert restore(workspace, 40) == ([jobs[removed]], [])
    assert sorted(read(workspace)[0]) == jobs


def test_a_removed_row_of_a_job_nobody_did_comes_back_under_its_number(workspace):
    jobs = enqueue_fakes(workspace, 40)
    edit(workspace, lambda lines: [*lines[:2], *lines[3:]])
    assert restore(workspace, 40) == ([], [jobs[1]])
    assert read(workspace)[1] == []


def test_a_queue_that_was_deleted_comes_back_from_its_markers(workspace):
    jobs = enqueue_fakes(workspace, 40)
    commit(workspace, jobs[2], "fingerprint of features/fake", Result(b"x", ".txt", {}, 10, 10))
    workspace.queue.unlink()
    restored, fresh = restore(workspace, 40)
    assert restored == [jobs[2]]
    assert sorted((job.start, job.stop) for job in fresh) == [(0, 10), (10, 20), (30, 40)]
    assert list(recorded_jobs(workspace)) == [jobs[2]]


def test_two_enqueuers_at_once_add_each_job_once(workspace):
    threads = [threading.Thread(target=enqueue_fakes, args=(workspace, 500)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    jobs, problems = read(workspace)
    assert problems == []
    assert [(job.number, job.start) for job in jobs] == [(number, number * 10) for number in range(50)]


def test_a_lock_held_too_long_says_so(workspace):
    with (
        queue_lock(workspace),
        pytest.raises(TryLaterError, match="another enqueue holds"),
        queue_lock(workspace, timeout_s=0.05),
    ):
        pass


@given(st.integers(min_value=0, max_value=10**12 - 1))
def test_job_ids_round_trip(number):
    assert is_job_id(job_id_of(number))
    assert Job(job_id_of(number), "fake", "a", "b", 0, 1).number == number


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(1, 30)), max_size=8), st.integers(1, 120), st.integers(1, 40))
def test_every_item_is_in_exactly_one_job_whatever_rows_are_left(tmp_path_factory, holes, items, job_size):
    from headstart.pipeline.enqueue import _uncovered

    covered = sorted({(start, min(start + length, items)) for start, length in holes if start < items})
    disjoint = [pair for index, pair in enumerate(covered) if index == 0 or pair[0] >= max(stop for _, stop in covered[:index])]
    fresh = list(_uncovered(Work("fake", "a", "b", items, job_size), disjoint))
    assert sorted(item for start, stop in [*disjoint, *fresh] for item in range(start, stop)) == list(range(items))
    assert all(0 < stop - start <= job_size for start, stop in fresh)


def flaws_of(workspace, items=30):
    os.utime(workspace.queue, (0, 0))
    reader = Reader(workspace, KINDS, lambda kind, source: items)
    return list(reader), reader.problems


RANGES = {
    "starts later": ("10,20", "12,20", "no row asks for items 10 to 12 of features/source (features/fake)"),
    "starts earlier": ("10,20", "8,20", "two rows ask for items 8 to 10 of features/source (features/fake)"),
    "stops earlier": ("10,20", "10,16", "no row asks for items 16 to 20 of features/source (features/fake)"),
    "stops later": ("10,20", "10,22", "two rows ask for items 20 to 22 of features/source (features/fake)"),
    "the first starts later": ("0,10", "2,10", "no row asks for items 0 to 2 of features/source (features/fake)"),
    "the last stops earlier": ("20,30", "20,22", "no row asks for items 22 to 30 of features/source (features/fake)"),
    "the last stops later": ("20,30", "20,94", "a row asks for items up to 94 of features/source (features/fake), which has 30"),
}


@pytest.mark.parametrize(("was", "now", "flaw"), RANGES.values(), ids=RANGES)
def test_a_row_with_other_items_than_were_written_is_named(workspace, was, now, flaw):
    enqueue_fakes(workspace, 30)
    assert flaws_of(workspace)[1] == []
    workspace.queue.write_text(workspace.queue.read_text().replace(f",{was}\n", f",{now}\n"))
    [problem] = flaws_of(workspace)[1]
    assert flaw in problem


def test_no_flipped_bit_of_a_queue_nobody_worked_on_changes_its_jobs_unseen(workspace):
    enqueue_fakes(workspace, 30)
    enqueue_fakes(workspace, 30, folder="features/other")
    sound, expected = workspace.queue.read_bytes(), flaws_of(workspace)
    for bit in range(8 * len(sound)):
        workspace.queue.write_bytes(flipped(sound, bit))
        jobs, problems = flaws_of(workspace)
        assert problems or (jobs, problems) == expected, f"byte {bit // 8} bit {bit % 8}"


def test_rows_that_fill_a_gap_later_or_of_withdrawn_jobs_are_as_they_should_be(workspace):
    jobs = enqueue_fakes(workspace, 30)
    edit(workspace, lambda lines: [*lines[:2], *lines[3:]])
    restore(workspace, 30)
    assert flaws_of(workspace)[1] == []
    withdraw(workspace, jobs[:1], REMOVED, "data")
    restore(workspace, 30)
    assert flaws_of(workspace)[1] == []


def test_a_half_written_row_is_named_unless_an_enqueue_may_be_under_way(workspace):
    enqueue_fakes(workspace, 30)
    workspace.queue.write_bytes(workspace.queue.read_bytes()[:-5])
    reader = Reader(workspace, KINDS, lambda kind, source: 30)
    assert (len(list(reader)), reader.problems) == (2, [])
    [problem] = flaws_of(workspace)[1]  # long ago
    assert "no row asks for items 20 to 30" in problem


@pytest.mark.parametrize("is_begun", [False, True], ids=["nothing but holes", "rows and then holes"])
def test_a_queue_that_ends_in_a_terabyte_of_nothing_grows_by_no_row_and_is_one_line_at_once(workspace, is_begun):
    jobs = enqueue_fakes(workspace, 20) if is_begun else []
    workspace.queue.parent.mkdir(exist_ok=True)
    workspace.queue.touch()
    os.truncate(workspace.queue, 1 << 40)
    with pytest.raises(HeadstartError, match=r"jobs_queue\.csv is damaged .* move it away"):
        enqueue_fakes(workspace, 20, folder="features/fake2")
    assert workspace.queue.stat().st_size == 1 << 40
    workspace.queue.rename(workspace.root / "away")
    assert len(enqueue_fakes(workspace, 20)) == 2
    assert len(jobs) in (0, 2)


def write_rows(workspace, numbers):
    workspace.features.mkdir(exist_ok=True)
    rows = [f"job_{number:06d},fake,features/fake,features/source,{number * 10},{number * 10 + 10}\n" for number in numbers]
    workspace.queue.write_text("".join([f"{HEADER}\n", *rows]))


@given(
    numbers=st.lists(st.integers(0, 400), unique=True, max_size=300),
    is_sorted=st.booleans(),
    ends=st.lists(st.integers(0, 400), unique=True, max_size=6),
)
def test_rows_that_are_not_passed_over_are_all_read(tmp_path_factory, numbers, is_sorted, ends):
    workspace = open_or_create_workspace(tmp_path_factory.mktemp("queue") / "workspace")
    numbers = sorted(numbers) if is_sorted else numbers
    write_rows(workspace, numbers)
    over = [Span(first, last - 1) for first, last in list(pairwise(sorted(ends)))[::2]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "LONGEST_LINE", 200)
        read = [job.number for job in Reader(workspace, KINDS, passed_over=over)]
    assert set(read) <= set(numbers)
    if is_sorted:
        assert read == [
            number
            for number in numbers
            if not any(span.covers(number) and {span.first, span.last} <= set(numbers) for span in over)
        ]


def test_the_first_row_behind_what_is_passed_over_is_not_taken_for_the_header(workspace):
    write_rows(workspace, range(5))
    workspace.queue.write_text(workspace.queue.read_text().replace(f"{HEADER}\n", ""))
    assert {3, 4} <= {job.number for job in Reader(workspace, KINDS, passed_over=[Span(0, 2)])}


def test_a_queue_of_many_rows_is_halved_and_not_read(workspace, monkeypatch):
    write_rows(workspace, range(20_000))
    read = []
    lines = queue._Lines.readinto
    monkeypatch.setattr(queue._Lines, "readinto", lambda self, buffer: read.append(lines(self, buffer)) or read[-1])
    reader = Reader(workspace, KINDS, passed_over=[Span(0, 9_998), Span(10_000, 19_997)])
    assert [job.number for job in reader] == [9_999, 19_998, 19_999]
    assert sum(read) < 1_000
    assert reader.problems == []
