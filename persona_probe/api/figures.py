"""The figures of a record as methods: `run.figures.<Tab>` lists them."""

from collections.abc import Callable, Sequence
from typing import Any

from plotly.graph_objects import Figure

from persona_probe.plots.parts import FigureSpec


class Figures:
    """One method a figure. Each takes `show_text` where it shows words that a model wrote, and gives a plotly
    figure."""

    def __init__(
        self, record: Any, specs: Sequence[FigureSpec], drawn: dict[str, Callable[[], Figure]] | None = None
    ) -> None:
        self._record = record
        self._specs = {spec.slug.replace("-", "_"): spec for spec in specs}
        self._drawn = drawn or {}

    def __dir__(self) -> list[str]:
        return [*self._specs, *(name for name in self._drawn if name not in self._specs)]

    def __getattr__(self, name: str) -> Callable[..., Figure]:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._drawn:
            return self._drawn[name]
        if name not in self._specs:
            raise AttributeError(f"no figure {name!r}: there are {', '.join(dir(self))}")
        spec = self._specs[name]

        def draw(*, show_text: bool = False) -> Figure:
            return spec.figure(self._record, show_text=show_text)

        draw.__name__, draw.__doc__ = name, f"{spec.title}\n\n{spec.draw.__doc__}"
        return draw

    def __repr__(self) -> str:
        return f"figures: {', '.join(f'{name}()' for name in dir(self))}"
