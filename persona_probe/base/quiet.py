"""Libraries without their progress bars: what a log shows of progress is ours."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LOCK = threading.Lock()
_inside: list[Any] = []  # the bar's own __init__, once for everyone who is inside


@contextmanager
def no_bars() -> Iterator[None]:
    """Inside, no bar of tqdm is drawn, by any library and in any thread; what runs outside afterwards has its
    bars again.

    transformers, the hub's client and SAELens have a switch each, and the GGUF reader of transformers has
    none: it takes tqdm as it is. So the class under all of them is told.
    """
    from tqdm.std import tqdm

    with _LOCK:
        before = _inside[0] if _inside else tqdm.__init__
        _inside.append(before)

        def without_a_bar(bar: Any, *given: Any, **settings: Any) -> None:
            before(bar, *given, **settings | {"disable": True})

        if len(_inside) == 1:
            tqdm.__init__ = without_a_bar  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        with _LOCK:
            _inside.pop()
            if not _inside:
                tqdm.__init__ = before
