"""Runs tests as on Windows, as far as that can be had elsewhere: `python -m pytest -p tests.without_posix` (`make windows`).

Of all test files it takes `FILES`: engine, cache, extraction, heads, checkpoints, report. docs/platforms.md says what that shows.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = (
    "tests/commands/test_report.py",
    "tests/experiments/training/state/test_checkpoints.py",
    "tests/experiments/training/state/test_final_weights.py",
    "tests/features/store/test_kept.py",
    "tests/features/store/test_maps.py",
    "tests/features/store/test_packing.py",
    "tests/features/store/test_shards.py",
    "tests/features/store/test_snapshot.py",
    "tests/jobs/test_extract.py",
    "tests/jobs/test_train_head.py",
    "tests/pipeline/doors/test_locks.py",
    "tests/pipeline/doors/test_records.py",
    "tests/pipeline/test_blocks.py",
    "tests/pipeline/test_claims.py",
    "tests/pipeline/test_deadlines.py",
    "tests/pipeline/test_durable_names.py",
    "tests/pipeline/test_errors.py",
    "tests/pipeline/test_group_markers.py",
    "tests/pipeline/test_hard_links.py",
    "tests/pipeline/test_many_workers.py",
    "tests/pipeline/test_markers.py",
    "tests/pipeline/test_output_files.py",
    "tests/pipeline/test_queue.py",
    "tests/pipeline/test_reopen.py",
    "tests/pipeline/test_repair.py",
    "tests/pipeline/test_retire.py",
    "tests/pipeline/test_retry.py",
    "tests/pipeline/test_status.py",
    "tests/pipeline/test_summaries.py",
    "tests/pipeline/test_supervisor.py",
    "tests/pipeline/test_suspect.py",
    "tests/pipeline/test_sync.py",
    "tests/pipeline/test_temporary_folders.py",
    "tests/pipeline/test_verify.py",
    "tests/pipeline/test_work.py",
    "tests/pipeline/test_worker.py",
    "tests/pipeline/test_worker_ends.py",
    "tests/pipeline/test_workspace.py",
)
_SIGNALS = "passes signals on by fork, of which Windows has neither"
_MAPPED = "has a part mapped that has to go, and on Windows it stays until it is not mapped any more"
_CHANGED = "changes a file that is mapped, which Windows lets nobody do"
# Why a test of these files is not run: what it claims is not so on Windows, or it uses what is not there.
LEFT_OUT = {
    "test_markers.py::test_a_payload_is_durable_before_its_marker_appears": "no folder can be synced there",
    "test_markers.py::test_no_flipped_bit_of_a_marker_changes_what_is_read": "takes 13 s, in which nothing of a system is asked",
    "test_supervisor.py::test_a_signal_reaches_the_worker_once_and_ends_both": _SIGNALS,
    "test_supervisor.py::test_a_signal_that_does_not_interrupt_the_wait_still_reaches_the_worker": _SIGNALS,
    "test_supervisor.py::test_neither_the_worker_nor_what_follows_keeps_a_handler_or_a_file": _SIGNALS,
    "test_supervisor.py::test_a_worker_does_not_outlive_its_parent": "its dead parent stays a zombie, which it does not there",
    "test_packing.py::test_a_part_with_a_payload_that_its_marker_no_longer_names_is_packed_again": _MAPPED,
    "test_packing.py::test_many_small_parts_become_one": _MAPPED,
    "test_packing.py::test_a_harmed_part_comes_back[cut off]": _CHANGED,
    "test_packing.py::test_a_harmed_part_comes_back[overwritten]": _CHANGED,
    "test_locks.py::test_what_stands_in_its_place_is_left_alone[pipe]": "no folder of Windows holds a pipe",
    "test_temporary_folders.py::test_neither_links_nor_folders_of_others_are_removed": "each user has a place of their own there",
    "test_workspace.py::test_the_tests_find_no_workspace_above_their_temporary_folder": "runs test files that are not listed",
    "test_workspace.py::test_what_is_made_in_a_shared_workspace_follows_its_mode": "files have no mode there",
}


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests():
    # Before anything of the package is imported: what a module has taken it keeps.
    from .names import missing_names
    from .removal import for_children, install

    missing = missing_names()
    install(missing)
    os.environ.update(for_children(missing))


def pytest_ignore_collect(collection_path):
    is_listed = collection_path.is_dir() or collection_path.relative_to(ROOT).as_posix() in FILES
    return None if is_listed else True


def pytest_collection_modifyitems(config, items):
    for item in items:
        name = f"{item.path.name}::{item.name}"
        why = LEFT_OUT.get(name) or LEFT_OUT.get(name.partition("[")[0])
        if why is not None:
            item.add_marker(pytest.mark.skip(reason=why))
