"""Makes an encoder ready for a process that is not to hold torch: this one may, and ends with it."""

import json
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.pipeline.child import follow_parent, open_answers
from headstart.pipeline.errors import ExplainedError, as_explained

from .onnx_export import export_graph
from .prepared import parse_preparation, prepare


def main() -> None:
    follow_parent(int(sys.argv[1]), is_expendable=True)
    answer = open_answers()
    answer(_answer(json.loads(sys.stdin.buffer.readline())))
    sys.stdin.buffer.read()  # the parent ends this process; torch would take its time for that


def _answer(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        if "export" in asked:
            export_graph(Path(asked["export"]))
            return {}
        folder, is_whole = prepare(parse_preparation(asked))
    except Exception as error:
        known = as_explained(error)
        if isinstance(known, ExplainedError):
            return {"error": str(known), "exit_code": known.exit_code}
        return {"bug": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    return {"folder": str(folder), "is_whole": is_whole}


if __name__ == "__main__":
    main()
