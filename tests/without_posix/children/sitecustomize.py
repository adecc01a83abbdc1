"""On the path of processes that tests without POSIX start: they lack the same."""

import json
import os
import sys
import traceback
from pathlib import Path

try:
    # First: there are packages that install a `tests` of theirs.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent.parent))
    from tests.without_posix.removal import NAMES, install

    del sys.path[0]
    install(json.loads(os.environ[NAMES]))
except BaseException:
    traceback.print_exc()
    os._exit(1)  # Python itself would go on, with all that Windows lacks
