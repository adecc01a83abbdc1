from headstart.commands.output.terminal import aligned


def test_columns_are_as_wide_as_their_widest_text_and_end_without_blanks():
    assert list(aligned([["a", "time", ""], ["longer", "3s", ""]], "<><")) == ["a       time", "longer    3s"]
