"""Where files are kept that can be made again, such as converted models: the user's cache folder."""

import os
from pathlib import Path

VARIABLE = "PERSONA_PROBE_CACHE"


def cache_folder() -> Path:
    """The cache folder: what `PERSONA_PROBE_CACHE` names, else the system's own place for caches. It may not
    exist yet."""
    from platformdirs import user_cache_path

    named = os.environ.get(VARIABLE)
    return Path(named).expanduser().absolute() if named else user_cache_path("persona_probe", appauthor=False)
