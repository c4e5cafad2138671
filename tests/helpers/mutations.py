"""Random damage to JSON values, for tests of whatever reads files that other people may have written."""

import copy
import json
import random
from pathlib import Path
from typing import Any

NASTY = (
    None,
    True,
    0,
    -1,
    3,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "1",
    "\ud800",
    "../../etc/passwd",
    "a" * 10_000,
    [],
    [[]],
    [None],
    ["x"] * 3,
    {},
    {"x": 1},
    {"estimate": 1.0, "ci95": [2.0, 0.0]},
)


def mutated(value: Any, rng: random.Random) -> Any:
    """A copy with one to three random places replaced, removed, added or moved."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        container = _somewhere(value, rng)
        if container is not None:
            _damage(container, rng)
    return value


def _somewhere(value: Any, rng: random.Random) -> Any:
    """A random object or list inside, found by walking down; None if the value is neither."""
    if not isinstance(value, (dict, list)):
        return None
    while True:
        inner = [item for item in (value.values() if isinstance(value, dict) else value) if item]
        inner = [item for item in inner if isinstance(item, (dict, list))]
        if not inner or rng.random() < 0.3:
            return value
        value = rng.choice(inner)


def _damage(container: Any, rng: random.Random) -> None:
    keys = list(container) if isinstance(container, dict) else list(range(len(container)))
    nasty = copy.deepcopy(rng.choice(NASTY))
    if not keys:
        container.update(x=nasty) if isinstance(container, dict) else container.append(nasty)
        return
    key, action = rng.choice(keys), rng.randrange(4)
    if action == 0:
        del container[key]
    elif action == 1:
        container[key] = copy.deepcopy(container[rng.choice(keys)])
    elif action == 2 and isinstance(container, list):
        container.append(nasty)
    else:
        container[key] = nasty


def write_facts(path: Path, tensors: dict[str, Any], facts: Any) -> None:
    """A direction file with any facts, also those that our writer refuses, such as NaN."""
    from safetensors.torch import save_file

    save_file(tensors, path, metadata={"persona_probe": json.dumps(facts)})
