"""What `plan` predicts of a probe of 32 against what `work` takes.

python -m benchmarks.plan PHOTOS [--encoder mobilenetv2_100] [--weights FILE|random:0] [--count 10000]
"""

import json
import tempfile
from pathlib import Path

from .photos import arguments, enqueue, headstart, repeat
from .synthetic import seconds_of, verdict


def main():
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Path(scratch) / "workspace"
        photos = repeat(options.photos, Path(scratch) / "photos", options.count)
        chosen = ["--encoder", options.encoder, "--weights", options.weights]
        [planned] = json.loads(headstart("plan", photos, *chosen, "--probe", "32", "--json", "-w", workspace).stdout)
        folder = enqueue(photos, workspace, options.encoder, options.weights)
        seconds = seconds_of(lambda: headstart("work", "-w", workspace))
        markers = [json.loads(path.read_text()) for path in folder.glob("done/*/*.done")]
        peak = max(marker["facts"]["peak_rss_bytes"] for marker in markers)
    print(f"time: {planned['seconds']:.1f} s predicted, {seconds:.1f} s it took")
    print(f"memory: {planned['peak_rss_bytes'] / 1e6:.1f} MB predicted, {peak / 1e6:.1f} MB at its peak")
    verdict("error of the time, %", 100 * abs(planned["seconds"] / seconds - 1), 25, is_least=False)
    verdict("memory predicted beyond what it was, %", 100 * (planned["peak_rss_bytes"] / peak - 1), 10, is_least=False)
    verdict("memory predicted, times what it was", planned["peak_rss_bytes"] / peak, 1)


if __name__ == "__main__":
    main()
