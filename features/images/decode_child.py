"""Decodes pictures for a process that cannot end a decoder: this one can be ended."""

import json
import sys
from collections.abc import Callable

from headstart.pipeline.child import follow_parent, open_answers

from .decode import ImageError, decode
from .transform import parse_transform


def main() -> None:
    follow_parent(int(sys.argv[1]), is_expendable=True)
    answer = open_answers()
    _serve(answer)


def _serve(answer: Callable[..., None]) -> None:
    requests = sys.stdin.buffer
    transform = parse_transform(json.loads(requests.readline())["transform"])
    answer({})
    for line in requests:
        data = requests.read(json.loads(line)["bytes"])
        try:
            pixels = decode(data, transform)
        except ImageError as error:
            answer({"code": error.code, "reason": error.reason})
        else:
            answer({"shape": pixels.shape}, pixels.tobytes())


if __name__ == "__main__":
    main()
