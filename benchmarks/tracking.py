"""How long it takes to restore MLflow from the files of a project, and to find that nothing changed.

    python benchmarks/tracking.py [project]

The database is a new one in a temporary folder; the project's own is not touched.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    project = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    command = [sys.executable, "-m", "tgdfer", "tracking"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        for what in ("restore", "again"):
            started = time.perf_counter()
            done = subprocess.run(command, cwd=project, env=environment, text=True, capture_output=True, check=True)
            said = done.stderr.strip().splitlines()[-1]
            print(json.dumps({"what": what, "seconds": round(time.perf_counter() - started, 1), "log": said}))


if __name__ == "__main__":
    main()
