import json

import pytest

from headstart.pipeline.markers import DoneCounts
from headstart.pipeline.tally import Tally


@pytest.mark.parametrize("noted", ["1" + "0" * 400, "1e308", "Infinity", "NaN", "-1", '"3"', "null", "[3]"])
def test_a_fact_that_is_no_number_of_its_kind_counts_as_none(noted):
    """A marker may come from anywhere: its seal says that it is whole, not that its facts make sense."""
    names = "seconds", "peak_rss_bytes", "vram_process_bytes", "peak_vram_reserved_bytes"
    tally = Tally(jobs=2, items=8)
    tally.add_done(DoneCounts(4, 4, 10, json.loads("{" + ", ".join(f'"{name}": {noted}' for name in names) + "}")))
    tally.add_done(DoneCounts(4, 3, 10, {"seconds": 2, "peak_rss_bytes": 7, "peak_vram_reserved_bytes": 5}))
    assert (tally.seconds, tally.peak_rss_bytes, tally.peak_vram_bytes) == (2, 7, 5)
    assert (tally.done, tally.items_done, tally.items_failed) == (2, 7, 1)
