"""How a run of `work` came out beside what `plan` had predicted."""

from collections.abc import Iterator, Mapping

from headstart.features.encoders.folder import read_fingerprint
from headstart.features.planning.forecast import read_forecast
from headstart.pipeline.errors import ExplainedError
from headstart.pipeline.memory import peak_rss_bytes
from headstart.pipeline.status import Status
from headstart.pipeline.text import plural, size_words, span
from headstart.pipeline.workspace import Workspace


def planned_against_actual(workspace: Workspace, items: Mapping[str, int], seconds: float, status: Status) -> Iterator[str]:
    """A line for the encoder that this run used, if `plan` was asked about it; none if it used several.

    Args:
        items: images that this run encoded, by folder.
        seconds: that it took, from start to end.
    """
    if len(items) != 1:
        return
    [(folder, images)] = items.items()
    try:
        predicted = read_forecast(workspace, read_fingerprint(workspace.root / folder))
    except ExplainedError:  # no encoder folder: another kind of job
        return
    if predicted is None or not images:
        return
    line = f"planned for {plural(images, 'image')}: {span(predicted.seconds(images))}, {size_words(predicted.peak_rss_bytes)}"
    line += f"; it took {span(seconds)}, {size_words(peak_rss_bytes())}"
    used = max(tally.peak_vram_bytes for (_, name), tally in status.folders.items() if name == folder)
    if predicted.peak_vram_bytes and used:
        line += f"; on the GPU {size_words(predicted.peak_vram_bytes)}, it took {size_words(used)}"
    yield line
