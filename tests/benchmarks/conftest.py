"""The benchmark's modules under their own names, as `python benchmarks/bench.py` finds them."""

import sys

from repository import ROOT

sys.path.append(str(ROOT / "benchmarks"))
