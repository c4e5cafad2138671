"""The result of a command on stdout: a table where it fits, one block a row where it does not."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from persona_probe.base.stdout import plain, width

RIGHT, LEFT = "right", "left"


def print_json(kind: str, value: Mapping[str, Any]) -> None:
    """One line on stdout for machines, with its `type`."""
    line = json.dumps({"type": kind, **value}, ensure_ascii=True, allow_nan=False)
    sys.stdout.write(f"{line}\n")


class Sheet:
    """stdout, laid out. Cells are text, never markup."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, width=width())

    def text(self, text: Text | str) -> None:
        """Sentences, broken between words."""
        self._console.print(Text(plain(str(text))))

    def table(
        self,
        title: str,
        columns: Sequence[tuple[str, str]],
        rows: Sequence[Sequence[str]],
        *,
        dim: Sequence[int] = (),
    ) -> None:
        """Columns are headers, each with its side. `dim` numbers the rows that step back.

        Where a column would cut words, each row becomes a block instead: its first cell, and under it the
        others with their headers.
        """
        table = Table(title=plain(title), title_justify="left")
        cells = [[plain(header), *(plain(row[i]) for row in rows)] for i, (header, _) in enumerate(columns)]
        widths = _widths(cells, self._console.width)
        for (header, side), size in zip(columns, widths or [0] * len(columns), strict=True):
            table.add_column(Text(plain(header)), justify="left" if side == LEFT else "right", width=size)
        for number, row in enumerate(rows):
            table.add_row(*(Text(plain(cell)) for cell in row), style="dim" if number in dim else None)
        if widths is not None:
            self._console.print(table)
            return
        self.text(title)
        for row in rows:
            named = [
                " ".join(filter(None, (header, cell)))
                for (header, _), cell in zip(columns, row, strict=True)
                if cell
            ]
            first = row[0] if columns[0][1] == LEFT else named[0]  # a name says what it is, a number does not
            for line in (first, *(f"  {part}" for part in named[1:])):
                self._console.print(Text(plain(line)), soft_wrap=True)


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """The width of every column of cells: its longest word, and more as long as there is room; None where the
    words do not fit.

    Rich would shrink the widest column first, below its longest word if need be.
    """
    widths = [
        max((cell_len(word) for cell in cells for word in cell.split()), default=0) for cells in columns
    ]
    left = room - 1 - sum(width + 3 for width in widths)  # edges, and a space on both sides of a cell
    if left < 0:
        return None
    for i, cells in enumerate(columns):
        more = min(left, max(map(cell_len, cells), default=0) - widths[i])
        widths[i], left = widths[i] + more, left - more
    return widths
