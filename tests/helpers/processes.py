"""A command in a fresh process: what it prints, its exit code and the libraries that it loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def outcome(module: str, *arguments: str) -> dict[str, Any]:
    """Exit code, output and loaded libraries of `python -m module arguments` in a fresh process."""
    code = (
        f"import json, runpy, sys\nsys.argv = {[module, *arguments]!r}\ntry:\n   "
        f" runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n    code = 0\nexcept SystemExit"
        " as end:\n    code = end.code or 0\nheavy = sorted({'torch', 'transformers', 'numpy',"
        " 'transformer_lens', 'plotly'} & set(sys.modules))\nsys.stdout.write('\\n' + json.dumps({'code':"
        " code, 'heavy': heavy}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"},
        check=True,
    )
    *out, last = done.stdout.split("\n")
    return {"out": "\n".join(out), "err": done.stderr, **json.loads(last)}
