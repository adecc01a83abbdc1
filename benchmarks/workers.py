"""One worker against two at once over the same jobs, from process start, in turn.

python -m benchmarks.workers PHOTOS [--encoder mobilenetv2_100] [--weights FILE|random:0] [--count 1024] [--repeats 3]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from .photos import HERE, arguments, enqueue, forget, repeat
from .synthetic import medians, verdict


def main():
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Path(scratch) / "workspace"
        photos = repeat(options.photos, Path(scratch) / "photos", options.count)
        folder = enqueue(photos, workspace, options.encoder, options.weights)
        command = [sys.executable, "-m", "headstart.cli", "work", "--device", "cpu", "-w", str(workspace)]

        def run(workers):
            forget(folder)
            started = [subprocess.Popen(command, env=HERE, stderr=subprocess.DEVNULL) for _ in range(workers)]
            ended = [worker.wait() for worker in started]
            if any(ended):
                raise SystemExit("a worker failed")

        found = medians({"one worker": lambda: run(1), "two workers": lambda: run(2)}, options.repeats)
    verdict("two workers against one, times as long", found["two workers"] / found["one worker"], 1, is_least=False)


if __name__ == "__main__":
    main()
