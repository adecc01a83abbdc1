import subprocess
import sys

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
