"""The result of a command on stdout: a table where it fits, one block a row where it does not."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

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
        least = 1  # the left edge; each column has two spaces and its right edge
        for i, (header, side) in enumerate(columns):
            # Rich shrinks the widest column first, below its longest word if need be.
            words = [word for row in rows for word in plain(row[i]).split()] + plain(header).split()
            longest = max(map(len, words), default=0)
            least += longest + 3
            justify = "left" if side == LEFT else "right"
            table.add_column(Text(plain(header)), justify=justify, min_width=longest)
        for number, row in enumerate(rows):
            table.add_row(*(Text(plain(cell)) for cell in row), style="dim" if number in dim else None)
        if least <= self._console.width:
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
