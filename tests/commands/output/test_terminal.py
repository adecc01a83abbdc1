import subprocess
import sys
import webbrowser

import pytest

from headstart.commands.output import terminal
from headstart.commands.output.terminal import aligned
from tests.support import ROOT


def test_columns_are_as_wide_as_their_widest_text_and_end_without_blanks():
    assert list(aligned([["a", "time", ""], ["longer", "3s", ""]], "<><")) == ["a       time", "longer    3s"]


def test_a_note_is_printed_once_where_both_streams_end_at_one_place():
    code = (
        "from headstart.commands.output.terminal import Teller\n"
        "teller = Teller()\n"
        "teller.say('note: few images')\n"
        "teller.show(['note: few images', 'accuracy'])\n"
    )
    command = [sys.executable, "-c", code]
    together = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True, cwd=ROOT)
    assert together.stdout.splitlines() == ["note: few images", "accuracy"]
    apart = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert apart.stdout.splitlines() == ["note: few images", "accuracy"]
    assert apart.stderr.splitlines() == ["note: few images"]


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


@pytest.mark.parametrize(("has_browser", "said"), [(True, ""), (False, "open the page by hand")])
def test_where_no_browser_is_that_is_one_line(monkeypatch, capsys, tmp_path, has_browser, said):
    shown = []
    monkeypatch.setattr(webbrowser, "open", lambda address: shown.append(address) or has_browser)
    terminal.show_in_browser(tmp_path / "a page.html")
    assert shown == [(tmp_path / "a page.html").as_uri()]
    line = capsys.readouterr().err
    assert said in line
    assert bool(said) == bool(line)
