"""The child's side of suspect mode: opens a session and does with one item, or the whole job, what its parent asks for."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .child import follow_parent, open_answers
from .errors import ExplainedError, HeadstartError, SourceGoneError, TryLaterError
from .job import Job
from .kinds import Examiner, Settings, load_kind, look_for_kinds_in
from .markers import Result
from .memory import peak_rss_bytes
from .workspace import open_workspace

_ALIVE_S = 1.0

Answer = Callable[..., None]


def main() -> None:
    follow_parent(int(sys.argv[1]), is_expendable=True)
    answer = open_answers()
    try:
        _serve(answer)
    except ExplainedError as error:
        kinds = (SourceGoneError, TryLaterError, HeadstartError)
        answer({"error": str(error), "kind": next(kind.__name__ for kind in kinds if isinstance(error, kind))})
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}".splitlines()[0]})
    sys.stdin.readline()  # the parent ends this process once it has read all


def _serve(answer: Answer) -> None:
    order = json.loads(sys.stdin.readline())
    look_for_kinds_in(order["kinds"])
    workspace = open_workspace(Path(order["workspace"]))
    job = Job(*order["job"])
    session = load_kind(job.kind).open_session(workspace, job, Settings(**order["settings"]))
    answer({"examines": isinstance(session, Examiner)})
    for line in sys.stdin:
        request = json.loads(line)
        if "item" in request:
            assert isinstance(session, Examiner)
            session.examine(job, request["item"])
            answer({})
            continue
        killers = dict(request["killers"])
        prepared = session.prepare_without(job, killers) if isinstance(session, Examiner) else session.prepare(job)
        answer(*_in_parts(session.compute(prepared, _sign_of_life(answer))))


def _sign_of_life(answer: Answer) -> Callable[[], None]:
    import threading

    last, lock = time.monotonic(), threading.Lock()  # a kind may call it from several threads

    def check() -> None:
        nonlocal last
        with lock:
            if time.monotonic() - last > _ALIVE_S:
                last = time.monotonic()
                answer({"alive": True})

    return check


def _in_parts(result: Result) -> tuple[dict[str, Any], bytes]:
    head = asdict(result)
    head["facts"]["peak_rss_bytes"] = peak_rss_bytes()
    return head, head.pop("payload")


if __name__ == "__main__":
    main()
