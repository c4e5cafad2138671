"""Finished runs as values: their record, direction, figures and table; and functions that make or load
them."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from persona_probe.api.figures import Figures
from persona_probe.base.errors import BadInput
from persona_probe.interventions.persona_direction import PersonaDirection, load_persona_direction
from persona_probe.measurement.closure import Closure, closure
from persona_probe.pages.cells import arms_table
from persona_probe.pages.report import write_report
from persona_probe.plots import direction_run, latents
from persona_probe.plots.closure import closure_figure
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.files import FILES, Record, read_record
from persona_probe.records.latents import LatentRecord
from persona_probe.records.rows import ScoredRow, read_rows
from persona_probe.storage.shipped import DIRECTION, REFERENCE, shipped_folder

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

DIRECTION_FILE, ROWS = "persona_direction.safetensors", "rows.jsonl"
RECORD, LATENTS = FILES
MEASURES = {
    "S": "persona_score",
    "R": "restoration",
    "C": "closure",
    "base moved": "base_moved",
    "induction": "induction",
    "ΔNLL": "delta_nll",
    "KL": "kl",
    "aligned": "aligned",
    "misaligned": "misaligned",
}


RecordT = TypeVar("RecordT", DirectionRecord, LatentRecord)


class FinishedRun(Generic[RecordT]):
    """What the runs of both experiments have: a record, the folder of their files, a page."""

    def __init__(self, record: RecordT, folder: Path | None, *, keep: Any = None) -> None:
        self.record, self.folder, self._keep = record, folder, keep

    def report(self, path: str | Path) -> Path:
        """Write the page of the run, one HTML file that needs no network; returns its path."""
        write_report(self.record, Path(path))
        return Path(path)

    def __repr__(self) -> str:
        return self.record.summary


class DirectionRun(FinishedRun[DirectionRecord]):
    """A finished run of `find_direction`.

    `record` is everything that was measured, typed. `folder` is where its files are, None for a record alone.
    """

    @cached_property
    def direction(self) -> PersonaDirection:
        """The selected direction, to be ablated from or added to a model. BadInput where its file is
        missing."""
        if self.folder is None:
            raise BadInput(
                f"a record alone holds no vectors: load the folder of the run, with its {DIRECTION_FILE}"
            )
        return load_direction(self.folder)

    @cached_property
    def figures(self) -> Figures:
        """The figures of the report as methods; `closure` has an interval where the run's folder holds its
        rows."""
        return Figures(self.record, direction_run.FIGURES, {"closure": self._closure})

    @cached_property
    def rows(self) -> tuple[ScoredRow, ...]:
        """What every arm scored on every reply; empty for a record alone."""
        if self.folder is None or not any((self.folder / name).is_file() for name in (ROWS, f"{ROWS}.gz")):
            return ()
        return read_rows(self.folder / ROWS)

    @cached_property
    def closure(self) -> Closure | None:
        """C of the ablation that was applied to both models, with the gap in S before and after; see
        `Closure`."""
        return closure(self.record, self.rows, seed=self.record.provenance.seed)

    def _closure(self) -> "Figure":
        """Both models without an edit and with the same edit in both, R and C beside their controls."""
        return closure_figure(self.record, self.closure and self.closure.share)

    def table(self) -> "pd.DataFrame":
        """One row an arm: estimates and ends of their 95% intervals. R, C, induction and base moved are
        shares of the shift, all others nats per token; aligned and misaligned are levels against base."""
        return frame(self.record.arms)

    def _repr_html_(self) -> str:
        return arms_table(self.record)._repr_html_()


class LatentRun(FinishedRun[LatentRecord]):
    """A finished run of `diff_latents`: `record` is everything that was measured, `folder` where its files
    are."""

    @cached_property
    def figures(self) -> Figures:
        """The figures of the report as methods, and `histograms`, a slider over the latents that were looked
        at."""
        return Figures(
            self.record, latents.FIGURES, {"histograms": lambda: latents.histogram_slider(self.record)}
        )


def load(what: str | Path = REFERENCE) -> DirectionRun:
    """A finished run of `find_direction`: its folder, its `record.json`, or "reference" for the run that
    ships."""
    record, folder = _loaded(what, RECORD)
    if not isinstance(record, DirectionRecord):
        raise BadInput(f"{what} is a run of diff_latents: load it with load_latents")
    return DirectionRun(record, folder)


def load_latents(what: str | Path = REFERENCE) -> LatentRun:
    """A finished run of `diff_latents`: its folder, its `latents.json`, or "reference" for the run that
    ships."""
    record, folder = _loaded(what, LATENTS)
    if not isinstance(record, LatentRecord):
        raise BadInput(f"{what} is a run of find_direction: load it with load")
    return LatentRun(record, folder)


def load_direction(what: str | Path = DIRECTION) -> PersonaDirection:
    """The direction of a run: its folder, its `persona_direction.safetensors`, or what ships by default."""
    place = _place(what)
    if place == shipped_folder(REFERENCE):
        place = shipped_folder(DIRECTION)
    return load_persona_direction(place / DIRECTION_FILE if place.is_dir() else place)


def frame(arms: Sequence[Any]) -> "pd.DataFrame":
    """Arms of a record as a frame, one row each."""
    import pandas as pd

    rows = []
    for arm in arms:
        row: dict[str, Any] = {"arm": arm.name, "model": arm.model, "control": arm.control}
        for short, name in MEASURES.items():
            value = getattr(arm, name)
            low, high = (None, None) if value is None else value.ci95
            row |= {short: value and value.estimate, f"{short} low": low, f"{short} high": high}
        because = arm.judged and arm.judged.because
        rows.append(row | {"questions": arm.n_questions, "verdict": arm.verdict, "because": because})
    return pd.DataFrame(rows).set_index("arm").dropna(axis="columns", how="all")


def _loaded(what: str | Path, name: str) -> tuple[Record, Path]:
    place = _place(what)
    if place.is_dir() and not (place / name).is_file():
        raise BadInput(f"{what} holds no {name}: give the folder of a finished run")
    file = place / name if place.is_dir() else place
    return read_record(file), file.parent


def _place(what: str | Path) -> Path:
    path = Path(what).expanduser()
    if path.exists():
        return path
    if str(what) in (REFERENCE, DIRECTION):
        return shipped_folder(str(what))
    raise BadInput(f"no run {str(what)!r}: give the folder of a run, a record file, or {REFERENCE!r}")
