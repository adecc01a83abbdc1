"""What a U-Net sees, brought into the form of true structure."""

import numpy as np

from headstart.experiments.designs.seen_structure import tidied_structure


def planes():
    made = np.zeros((4, 32, 32), np.uint8)
    made[2] = 3
    return made


def test_a_ragged_line_is_the_box_it_fills_in_its_commonest_colour():
    seen = planes()
    seen[0, 4:9, 3:20] = 1
    seen[0, 4, 3:20:5] = 0  # its edge is frayed
    seen[2, 4:9, 3:20] = 7
    seen[2, 6, 5] = 9
    seen[3, 4:9, 3:20] = 100
    seen[3, 8, 3:20] = 140
    tidy = tidied_structure(seen)
    expected = planes()
    expected[0, 4:9, 3:20] = 1
    assert (tidy[:2] == expected[:2]).all()
    assert set(np.unique(tidy[2, 4:9, 3:20])) == {7}
    assert set(np.unique(tidy[3, 4:9, 3:20])) == {108}  # the mean over the pixels of the region
    assert (tidy[2, 10:] == 3).all()


def test_an_ellipse_keeps_its_shape():
    rows, columns = np.mgrid[:32, :32]
    seen = planes()
    seen[1] = ((columns - 16) / 9) ** 2 + ((rows - 15) / 12) ** 2 <= 1
    assert (tidied_structure(seen)[1] == seen[1]).all()


def test_specks_are_nothing():
    seen = planes()
    seen[0, 5, 5] = seen[1, 9, 3:9] = 1
    assert not tidied_structure(seen)[:2].any()


def test_what_is_tidy_stays_as_it_is():
    seen = planes()
    seen[0, 4:8, 4:20] = seen[1, 12:28, 6:30] = 1
    seen[2, 12:28, 6:30] = 1
    seen[3, 4:8, 4:20] = 90
    assert (tidied_structure(seen) == seen).all()
