"""What the network of abstractor looks at: boxes, how pairs of them lie, and profiles."""

import numpy as np
import pytest
import torch

from headstart.experiments.designs.abstractor_network import Abstractor, _shares, boxes_of, pair_geometry

pytestmark = pytest.mark.usefixtures("one_thread")


def structure(left):
    """Two lines of text below each other, of colours 5 and 6 on 2; the second begins at pixel `left`."""
    planes = torch.zeros(1, 4, 32, 32, dtype=torch.uint8)
    planes[:, 2] = 2
    for colour, first, top, width in ((5, 4, 4, 16), (6, left, 12, 14)):
        planes[:, 0, top : top + 4, first : first + width] = 1
        planes[:, 2, top : top + 4, first : first + width] = colour
    return planes


def test_boxes_are_lines_at_full_resolution_with_their_colours():
    boxes = boxes_of(structure(9), 4)
    assert boxes.is_there.tolist() == [[True, True, False, False]]
    assert (32 * boxes.edges[0, :2]).tolist() == [[4, 4, 20, 8], [9, 12, 23, 16]]
    assert boxes.inside[0, :2].tolist() == [[1, 0, 5, 0], [1, 0, 6, 0]]
    assert boxes.ground[0, :2].tolist() == [2, 2]


def test_boxes_reach_the_edges_of_a_design_and_stand_side_by_side():
    planes = torch.zeros(1, 4, 16, 16, dtype=torch.uint8)
    planes[:, 1, 2:, :7] = 1
    planes[:, 1, :, 10:] = 1
    boxes = boxes_of(planes, 2)
    assert (16 * boxes.edges[0]).tolist() == [[0, 2, 7, 16], [10, 0, 16, 16]]


def test_the_widest_box_of_an_ellipse_has_its_centre():
    rows, columns = np.mgrid[:32, :32]
    planes = torch.zeros(1, 4, 32, 32, dtype=torch.uint8)
    planes[0, 1] = torch.from_numpy(((columns - 16.5) / 9) ** 2 + ((rows - 15) / 12) ** 2 <= 1)
    left, top, right, bottom = (32 * boxes_of(planes, 8).edges[0, 0]).tolist()
    assert (left + right, top, bottom) == (34, 4, 27)  # pixels 16 and 17 are in its middle


def test_geometry_has_the_distance_of_edges_that_alignment_is_computed_from():
    lefts, rights = torch.tensor([100, 103, 60, 94]), torch.tensor([160, 180, 230, 164])  # of the last two centres are nearest
    edges = torch.stack([lefts, torch.arange(4), rights, torch.arange(4) + 1], 1)[None] / 256
    nearest = 8 * pair_geometry(edges)[0, :, :, 3]
    assert nearest[0].tolist() == pytest.approx([0, 3, 8, 1], abs=1e-4)
    assert torch.equal(nearest, nearest.T)


def test_geometry_has_how_often_a_line_is_twice_as_high_as_another():
    edges = torch.tensor([[[10, 10, 90, 30], [10, 40, 90, 50]]]) / 256
    assert pair_geometry(edges)[0, :, :, -1].tolist() == [[0, 1], [-1, 0]]


def test_profiles_count_the_colours_of_each_line():
    shares = _shares(torch.tensor([[[0, 0, 3, 15], [1, 1, 1, 1]]], dtype=torch.uint8))
    assert shares.shape == (1, 2, 16)
    assert shares[0, 0, [0, 3, 15]].tolist() == [0.5, 0.25, 0.25]
    assert shares[0, 1, 1] == 1


def test_a_design_without_boxes_is_judged_by_its_profiles():
    torch.manual_seed(0)
    network = Abstractor(32, 16, 32, 2, (8, 4))
    empty = torch.zeros(2, 4, 32, 32, dtype=torch.uint8)
    empty[1, 2, :8] = 3
    answers = network(empty)
    assert answers.isfinite().all()
    assert not torch.allclose(answers[0], answers[1], atol=1e-4)


def test_where_an_edge_is_is_not_averaged_away():
    torch.manual_seed(0)
    network = Abstractor(32, 16, 32, 2, (8, 4))
    answers = [network(structure(left)) for left in (4, 5, 8)]
    assert not torch.allclose(answers[0], answers[1], atol=1e-4)
    assert not torch.allclose(answers[0], answers[2], atol=1e-4)
