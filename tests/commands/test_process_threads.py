"""Claims about how threads wait for work: set before torch loads, left alone where the user has set it."""

import os
import subprocess
import sys

import pytest

POLICY = "OMP_WAIT_POLICY"
# Prints what the variable is at the moment when torch is asked for, and ends there.
WATCH = """
import os
import sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("policy", os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Watch())
"""
IMPORT = "import persona_probe as pp\npp.open_pair"
COMMAND = """
import runpy
sys.argv = ["doctor", "a-model"]
runpy.run_module("persona_probe.doctor", run_name="__main__", alter_sys=True)
"""
LOADED = """
import os
import sys
import types
sys.modules["torch"] = types.ModuleType("torch")
import persona_probe
print("policy", os.environ.get("OMP_WAIT_POLICY"))
"""


def policy(code: str, **given: str) -> str:
    """What a fresh process prints of the variable; `given` is what the user has set."""
    inherited = {name: value for name, value in os.environ.items() if name != POLICY}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=inherited | given
    )
    assert done.stdout.startswith("policy "), done.stderr
    return done.stdout.split()[1]


@pytest.mark.parametrize("start", [IMPORT, COMMAND], ids=["import", "command"])
def test_waiting_threads_are_told_to_sleep_before_torch_loads(start: str) -> None:
    assert policy(WATCH + start) == "PASSIVE"
    assert policy(WATCH + start, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_nothing_is_set_where_torch_is_loaded_already() -> None:
    assert policy(LOADED) == "None"
