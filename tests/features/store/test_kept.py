import pytest

from headstart.features.sources.digits import write_digits
from headstart.features.store.kept import compare_kept, payload_digests
from tests.jobs.extraction import draw, enqueue, work


@pytest.fixture
def done(tmp_path):
    for number in range(3):
        draw(tmp_path / f"pets/{number}.png", number)
    workspace = enqueue(tmp_path / "pets", tmp_path / "w", "--job-size", "2")
    work(workspace)
    return workspace


def test_what_nobody_touched_is_kept_and_each_image_is_there_once(done):
    before = payload_digests(done)
    kept = compare_kept(done, before)
    assert (len(before), kept.is_kept, kept.images, kept.is_once) == (2, True, 3, True)
    assert kept.encoder.name.startswith("encoder_")


def test_a_payload_with_other_bytes_than_before_is_not_kept(done):
    before = payload_digests(done)
    name = next(iter(before))
    assert not compare_kept(done, {**before, name: "0" * 64}).is_kept


def test_a_payload_without_a_marker_is_not_committed(done):
    marker = next(done.features.glob("encoder_*/done/*/*.done"))
    marker.unlink()
    assert len(payload_digests(done)) == 1


def test_digits_are_a_folder_of_class_folders(tmp_path):
    pytest.importorskip("sklearn")
    assert write_digits(tmp_path) == 1797 == len(list(tmp_path.glob("[0-9]/*.png")))
