"""Made runs, which the tests of storage hold, are at hand here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "storage"))
