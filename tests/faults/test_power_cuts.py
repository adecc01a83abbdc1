import os
import random

import pytest

from .command_line import in_one_thread
from .disk import Disk, Torn
from .fakes import scratch
from .power_cuts import cuts, record, run, scenarios
from .recording import Operation, Recorder
from .small_run import run as small_run
from .states import choices, digest, materialize, snapshot
from .traced import calls_on, trace, why_not

ROOT = "/disk"
CREATED = [
    Operation("open", "/disk/a", handle=1, flags=os.O_CREAT),
    Operation("write", handle=1, data=b"four"),
    Operation("sync", handle=1),
    Operation("open", "/disk", handle=2),
    Operation("sync", handle=2),
]


def disk_after(*operations, before=None):
    disk = Disk(ROOT, before)
    for operation in operations:
        disk.apply(operation)
    return disk


def states(disk):
    return {digest(disk.state(kept)): disk.state(kept) for _, kept in choices(disk, random.Random(0), 50)}.values()


def test_nothing_is_sure_before_a_sync():
    assert {} in states(disk_after(*CREATED[:2]))
    assert {"a": b"four"} in states(disk_after(*CREATED[:2]))


@pytest.mark.parametrize("torn", [b"", b"fo", b"\0\0\0\0", b"four"], ids=["size 0", "half", "zeros", "whole"])
def test_a_write_may_be_there_in_part(torn):
    assert {"a": torn} in states(disk_after(*CREATED[:2]))


def test_a_synced_file_is_whole_or_has_no_name():
    assert list(states(disk_after(*CREATED[:3]))) == [{}, {"a": b"four"}]


def test_a_synced_file_in_a_synced_folder_is_sure():
    assert list(states(disk_after(*CREATED))) == [{"a": b"four"}]


def test_a_link_and_the_removal_of_the_old_name_are_independent():
    disk = disk_after(*CREATED, Operation("link", "/disk/a", "/disk/b"), Operation("unlink", "/disk/a"))
    assert sorted(sorted(state) for state in states(disk)) == [[], ["a"], ["a", "b"], ["b"]]


def test_a_rename_happens_whole_or_not_at_all():
    disk = disk_after(*CREATED, Operation("rename", "/disk/a", "/disk/b"))
    assert list(states(disk)) == [{"a": b"four"}, {"b": b"four"}]


def test_what_lies_in_a_folder_whose_name_was_lost_is_lost():
    made = Operation("mkdir", "/disk/f")
    inside = [Operation("open", "/disk/f/a", handle=1, flags=os.O_CREAT), Operation("open", "/disk/f", handle=2)]
    disk = disk_after(made, *inside, Operation("sync", handle=2))
    assert list(states(disk)) == [{}, {"f": None, "f/a": b""}]


def test_what_was_there_before_is_sure_until_it_is_changed():
    assert list(states(disk_after(before={"a": b"old"}))) == [{"a": b"old"}]
    disk = disk_after(Operation("open", "/disk/a", handle=1), Operation("truncate", handle=1, offset=1), before={"a": b"old"})
    assert list(states(disk)) == [{"a": b"old"}, {"a": b"o"}]


def test_a_replayed_run_is_what_stands_on_the_real_disk():
    with scratch() as folder:
        disk = disk_after_run(folder)
        real = snapshot(folder)
    everything = {number: Torn.WHOLE for _, number, _ in disk.pending()}
    assert disk.state(everything) == real
    with scratch() as folder:
        materialize(real, folder)
        assert snapshot(folder) == real


def disk_after_run(folder):
    disk = Disk(str(folder))
    for operation in record(small_run, folder):
        disk.apply(operation)
    return disk


def test_the_recorder_sees_what_the_kernel_sees(tmp_path):
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with scratch() as folder:
        (folder / "disk").mkdir()
        recorder = Recorder(folder / "disk")

        def body():
            with recorder.active():
                in_one_thread([lambda root: small_run(root) or 0], folder / "disk" / "w")
            print(*(operation.call for operation in recorder.operations), flush=True)
            return 0

        ended = trace(body, None, folder / "heard")
        seen = [call for call in calls_on(folder / "disk", ended.lines) if " = -1 " not in call.text]
    heard = ended.errors.split()
    for name, mine in {
        "link": "link",
        "rename": "rename",
        "unlink": "unlink",
        "mkdir": "mkdir",
        "fsync": "sync",
        "write": "write",
    }.items():
        assert heard.count(mine) == sum(call.name in (name, f"{name}at") and ".lock" not in call.text for call in seen), name


def test_a_power_cut_loses_no_promise_and_wedges_nothing():
    report = run(100, seed=1)
    assert report.faults == 100
    assert report.violations == 0, report.notes


def test_states_are_distinct_and_many():
    scenario = next(scenarios(kills=0))
    distinct = cuts(scenario, random.Random(0), 200)
    assert len(distinct) > 400
    assert len({digest(cut.state) for cut in distinct.values()}) == len(distinct)
