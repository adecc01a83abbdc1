"""The score that `work` tells while it runs: its curve over a fair queue and one in the order of folders, and what it costs.

python -m benchmarks.anytime DATA [--encoder mobilenetv2_100] [--weights FILE|random:0] [--json FILE]

The first score comes when a worker has run for 40 s, so cost shows with data that take longer. Each queue is worked off once, as
`headstart work` does; then the score is computed anew after each eighth of its jobs, without a
limit of time. `enqueue` always draws a fair order; that of folders is forced here.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from headstart import enqueue_images
from headstart.experiments.evaluation.anytime.record import Score, read_scores
from headstart.experiments.evaluation.anytime.score import AnytimeScore
from headstart.features.encoders.resolve import EncoderRequest
from headstart.features.manifest import adding
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import finished_job
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import open_or_create_workspace, open_workspace

STAGES = 8


def in_order_of_folders(strata: Sequence[tuple[str, str]], lots: Sequence[int], seed: int, salt: int) -> list[int]:
    return sorted(range(len(strata)), key=lambda place: strata[place][0])


def worked_off(root: Path) -> tuple[float, float]:
    """Seconds of a worker, and what the score took of them."""
    begun = time.monotonic()
    worker = Worker(open_workspace(root), Settings("cpu"), Limits(), lambda finished: None)
    worker.run()
    return time.monotonic() - begun, worker.observing.spent_s


class Replay(AnytimeScore):
    """Sees the first jobs alone."""

    shown = 0

    def _new_jobs(self):
        paths = sorted(self._folder.glob("done/*/job_*.done"))[: self.shown]
        yield from ((path.stem, finished_job(self._workspace, path)) for path in paths if path.stem not in self._seen)


def curve(root: Path) -> list[Score]:
    workspace = open_workspace(root)
    [folder] = (root / "features").glob("encoder_*")
    [dataset] = (root / "features" / "manifests").iterdir()
    jobs = len(list(folder.glob("done/*/job_*.done")))
    replay = Replay(workspace, folder, dataset)
    scores = []
    for stage in range(1, STAGES + 1):
        replay.shown = jobs * stage // STAGES
        replay._take_in(float("inf"))
        if replay._is_enough():
            scores.append(replay._score())
    replay.close()
    return scores


def one_queue(folder: Path, name: str, options: argparse.Namespace) -> dict[str, object]:
    root = folder / name
    fair = adding.order_by_lots
    adding.order_by_lots = in_order_of_folders if name == "by folder" else fair
    try:
        encoder = EncoderRequest(options.encoder, options.weights, options.image_size)
        enqueue_images(options.data, open_or_create_workspace(root), encoder=encoder)
    finally:
        adding.order_by_lots = fair
    seconds, spent = worked_off(root)
    [encoder_folder] = (root / "features").glob("encoder_*")
    told = [score for scores in read_scores(encoder_folder).values() for score in scores]
    scores = curve(root)
    last = scores[-1]
    print(f"queue {name}: {seconds:.1f} s, {spent:.2f} s of them for the score ({spent / seconds:.2%}), told {len(told)} times")
    for score in scores:
        holds = "holds" if score.low <= last.accuracy <= score.high else "misses"
        print(f"  {score.images:6,} images, {score.classes} classes: {score.words}: {holds} the last", flush=True)
    return {
        "seconds": seconds,
        "score_seconds": spent,
        "share": spent / seconds,
        "told": [asdict(score) for score in told],
        "curve": [asdict(score) for score in scores],
        "holding_the_last": sum(score.low <= last.accuracy <= score.high for score in scores) / len(scores),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", default="mobilenetv2_100")
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        results = {order: one_queue(Path(name), order, options) for order in ("fair", "by folder")}
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
