"""On the path of processes that tests without POSIX start: they lack the same."""

import json
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent.parent))

from tests.without_posix.removal import NAMES, install

sys.path.pop()
install(json.loads(os.environ[NAMES]))
