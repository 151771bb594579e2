"""Seconds to import the four packages in a fresh process: `python scripts/bench/imports.py`."""

import statistics
import subprocess
import sys

CODE = "import time; t = time.perf_counter(); import retrieval, prf, eval, training; print(time.perf_counter() - t)"
seconds = [float(subprocess.check_output([sys.executable, "-c", CODE])) for _ in range(11)][1:]
print(f"import retrieval, prf, eval, training: {statistics.median(seconds):.3f} s, median of 10 fresh processes")
