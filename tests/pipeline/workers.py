"""Workers over jobs of the fake kind, in this process and in one of their own, and what they leave."""

from headstart.pipeline.kinds import Settings
from headstart.pipeline.status import read_status
from headstart.pipeline.worker import Limits, Worker
from tests.support import spawn_python

WORK = """
from pathlib import Path
from headstart.pipeline.kinds import Settings
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import open_workspace
workspace = open_workspace(Path(sys.argv[1]))
summary = Worker(workspace, Settings(), Limits(), lambda finished: print("heard", flush=True)).run()
sys.exit(summary.exit_code)
"""


def work(workspace, **limits):
    heard = []
    return Worker(workspace, Settings(), Limits(**limits), heard.append).run(), heard


def payloads(workspace):
    return {path.name: path.read_bytes() for path in workspace.root.glob("features/fake/shards/*/*")}


def spawn_worker(workspace):
    return spawn_python(WORK, str(workspace.root))


def tally(workspace):
    return next(iter(read_status(workspace).folders.values()))


MAIN = """
from headstart.cli import main
main()
"""
