"""Peak resident memory of a worker after 10 and after 100 jobs.

python -m benchmarks.memory PHOTOS [--encoder mobilenetv2_100] [--weights FILE|random:0] [--jobs 100]
"""

import json
import tempfile
from pathlib import Path

from .photos import arguments, enqueue, headstart, repeat


def main():
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Path(scratch) / "workspace"
        photos = repeat(options.photos, Path(scratch) / "photos", options.jobs * 64)
        folder = enqueue(photos, workspace, options.encoder, options.weights)
        headstart("work", "--device", "cpu", "-w", workspace)
        # One worker does the jobs in the order of the queue, and the peak of a process never shrinks.
        peaks = [json.loads(path.read_text())["facts"]["peak_rss_bytes"] for path in sorted(folder.glob("done/*/*.done"))]
    for number in sorted({1, 10, options.jobs // 2, options.jobs}):
        print(f"after job {number:4}  {peaks[number - 1] / 1e6:7.1f} MB")
    print(f"growth from job 10 to {options.jobs}: {(peaks[-1] - peaks[9]) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
