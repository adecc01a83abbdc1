"""Lines about what takes its time: every few seconds, and one at the end that closes them."""

import pytest

from headstart.commands.output import terminal


@pytest.mark.parametrize(
    ("seconds_each", "said"),
    [(2.0, ["read 2 of 5", "read 4 of 5", "read 5 of 5"]), (0.5, [])],
    ids=["long", "over before anybody asks"],
)
def test_progress_ends_with_a_line_that_closes_it(monkeypatch, capsys, seconds_each, said):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    progress = terminal.now_and_then(lambda done, of: f"read {done} of {of}")
    for done in range(1, 6):
        now[0] += seconds_each
        progress(done, 5)
    progress(5, 5)
    assert capsys.readouterr().err.splitlines() == said
