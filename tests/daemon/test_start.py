"""The program: what it keeps out of its process."""

from __future__ import annotations

import subprocess
import sys


def test_the_program_runs_without_the_tls_library() -> None:
    code = "import sys; from featurekeyd.daemon import start; sys.argv[1:] = ['--version']; start.main()"
    told = f"import atexit, sys; atexit.register(lambda: print(sys.modules['ssl'], '_ssl' in sys.modules)); {code}"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "None False", done.stderr
    assert done.stdout.startswith("featurekeyd ")
