"""python -m persona_probe.figures RUN_FOLDER…: figures of finished runs as pages or pictures; needs no
model."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from persona_probe.base.choices import Theme
from persona_probe.base.command import Call, Command
from persona_probe.base.errors import UsageError
from persona_probe.base.options import Option, check, documented

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from persona_probe.plots.judged import Judged
    from persona_probe.plots.parts import FigureSpec
    from persona_probe.records.direction import DirectionRecord
    from persona_probe.records.latents import LatentRecord

WIDTH, TALK_WIDTH, DOTS = 1000, 1280, 1600  # a picture in CSS pixels, and in dots across
PICTURE = "one picture a figure; needs kaleido and Chrome or Chromium."


@documented
@dataclass(frozen=True)
class FiguresConfig:
    """What `figures` is asked for."""

    records: Annotated[
        tuple[Path, ...],
        Option("record.json, latents.json, or folders of runs that hold them.", "data", argument=True),
    ] = ()
    judged: Annotated[
        tuple[Path, ...],
        Option("CSV of judged answers: question, response, aligned, coherent. May be repeated.", "data"),
    ] = ()
    only: Annotated[tuple[str, ...], Option("Names of figures; --list shows them.", "output")] = ()
    theme: Annotated[Theme, Option("Colours of the figures.", "output")] = "light"
    talk: Annotated[bool, Option("Large text, marks and lines, for slides.", "output")] = False
    output_dir: Annotated[
        Path | None, Option("Folder to write to. Default: beside each record.", "output", also=("output",))
    ] = None
    html: Annotated[
        bool, Option("One self-contained page a record; the default without --png and --svg.", "output")
    ] = False
    png: Annotated[bool, Option(f"PNG: {PICTURE}", "output")] = False
    svg: Annotated[bool, Option(f"SVG: {PICTURE}", "output")] = False
    show_text: Annotated[bool, Option("Show tokens that a model wrote when hovered.", "output")] = False
    redact: Annotated[bool, Option("Leave every text that a model wrote out.", "output")] = False
    list: Annotated[bool, Option("List the figures and stop.", "output", in_file=False)] = False

    def __post_init__(self) -> None:
        check(self)
        if self.show_text and self.redact:
            raise UsageError("--show-text and --redact exclude each other: give one of them")

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of pictures that are asked for."""
        return tuple(name for name, wanted in (("png", self.png), ("svg", self.svg)) if wanted)

    @property
    def look(self) -> str:
        """What the names of files in another look end with."""
        return ("-talk" if self.talk else "") + ("-dark" if self.theme == "dark" else "")


class Source(NamedTuple):
    """A record with the file it came from and what can be drawn of it."""

    path: Path
    kind: str
    record: "DirectionRecord | LatentRecord | Judged"
    specs: "tuple[FigureSpec, ...]"


Drawn = Sequence[tuple["FigureSpec", "go.Figure"]]


def figures(config: FiguresConfig, call: Call) -> int:
    """Draw the figures of finished runs again, as pages or as pictures. Needs no model."""
    if config.list:
        return _list()
    if config.formats:
        _need_kaleido()
    sources = [*_records(config.records), *_judged(config.judged)]
    if not sources:
        raise UsageError(
            "nothing to draw: give record.json, latents.json, the folder of a run, or --judged FILE.csv"
        )
    sources = _only(sources, config.only)
    pages: dict[Path, tuple[Source, Drawn]] = {}
    pictures: dict[Path, go.Figure] = {}
    for source, prefix in zip(sources, _prefixes(sources), strict=True):
        folder, drawn = config.output_dir or source.path.parent, _drawn(source, config)
        if config.html or not config.formats:
            pages[folder / f"{prefix}{source.kind}-figures{config.look}.html"] = (source, drawn)
        pictures |= {
            folder / f"{prefix}{spec.slug}{config.look}.{kind}": figure
            for spec, figure in drawn
            for kind in config.formats
        }
    for path, (source, drawn) in pages.items():
        _write_page(path, source, drawn, config)
    if pictures:
        _write_pictures(pictures, width=TALK_WIDTH if config.talk else WIDTH)
    sys.stdout.write("".join(f"{path}\n" for path in (*pages, *pictures)))
    return 0


def _records(paths: Sequence[Path]) -> list[Source]:
    from persona_probe.plots import direction_run, latents
    from persona_probe.records.files import read_record, record_files

    sources = []
    for file in (file for path in paths for file in record_files(path)):
        record = read_record(file)
        kind, module = ("latents", latents) if record.kind == "latents" else ("record", direction_run)
        specs = tuple(spec for spec in module.FIGURES if spec.there(record))
        sources.append(Source(file, kind, record, specs))
    return sources


def _judged(paths: Sequence[Path]) -> list[Source]:
    from persona_probe.plots.judged import FIGURES, read_judged

    return [Source(path, "judged", read_judged(path), FIGURES) for path in paths]


def _only(sources: Sequence[Source], names: Sequence[str]) -> list[Source]:
    """The sources that have figures of these names, with those alone; everything if no name is given."""
    known = dict.fromkeys(spec.slug for source in sources for spec in source.specs)
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"--only asks for {', '.join(unknown)}: these records have {', '.join(known)}")
    kept = [
        source._replace(specs=tuple(spec for spec in source.specs if not names or spec.slug in names))
        for source in sources
    ]
    return [source for source in kept if source.specs]


def _prefixes(sources: Sequence[Source]) -> list[str]:
    """What the files of each source begin with.

    Nothing for the only one of its kind, else the folder of the run or the name of the CSV.
    """
    kinds = [source.kind for source in sources]
    names = [
        f"{source.path.stem if source.kind == 'judged' else source.path.resolve().parent.name}-"
        for source in sources
    ]
    prefixes = [name if kinds.count(kind) > 1 else "" for name, kind in zip(names, kinds, strict=True)]
    if len(set(zip(prefixes, kinds, strict=True))) < len(sources):
        raise UsageError(
            f"two of {', '.join(str(source.path) for source in sources)} would write the same files: "
            "draw them one by one"
        )
    return prefixes


def _drawn(source: Source, config: FiguresConfig) -> Drawn:
    from persona_probe.plots.judged import Judged
    from persona_probe.plots.themes import themed
    from persona_probe.records.redaction import redacted

    record = source.record
    if config.redact and not isinstance(record, Judged):  # judged answers are numbers alone
        record = redacted(record)
    return [
        (spec, themed(spec.figure(record, show_text=config.show_text), config.theme, talk=config.talk))
        for spec in source.specs
    ]


def _write_page(path: Path, source: Source, drawn: Drawn, config: FiguresConfig) -> None:
    import htpy as h

    from persona_probe.pages.frame import page, spec_block
    from persona_probe.pages.html import soft
    from persona_probe.plots.judged import Judged
    from persona_probe.storage.files import write_bytes

    about = [source.path.name]
    if not isinstance(source.record, Judged):
        models = source.record.provenance
        about += [f"tuned {models.tuned.id}", f"base {models.base.id}"]
    look = {"theme": config.theme} | ({"talk": "large"} if config.talk else {})
    blocks = [spec_block(spec, figure) for spec, figure in drawn]
    content = (h.h1["Figures"], soft(", ".join(about)), *blocks)
    write_bytes(path, page("persona_probe figures", *content, **look).encode())


def _write_pictures(pictures: "Mapping[Path, go.Figure]", *, width: int) -> None:
    import kaleido
    from kaleido.errors import ChromeNotFoundError

    from persona_probe.base.errors import BadInput
    from persona_probe.storage.files import make_folder

    for folder in {path.parent for path in pictures}:
        make_folder(folder)
    jobs = [
        {
            "fig": figure.to_dict(),
            "path": path,
            "opts": {
                "format": path.suffix[1:],
                "width": width,
                "height": figure.layout.height,
                "scale": DOTS / width,
            },
        }
        for path, figure in pictures.items()
    ]
    try:
        # No MathJax, which would be fetched from the network.
        kaleido.write_fig_from_object_sync(jobs, kopts={"mathjax": False})
    except ChromeNotFoundError as error:
        raise BadInput(
            "--png and --svg need Chrome or Chromium, and none was found: install one, or write --html"
        ) from error


def _need_kaleido() -> None:
    import importlib.util

    if importlib.util.find_spec("kaleido") is None:
        raise UsageError(
            "--png and --svg need kaleido, which is not installed: "
            "pip install 'persona-probe[figures]', or write --html"
        )


def _list() -> int:
    from persona_probe.plots import direction_run as record_figures
    from persona_probe.plots import judged as judged_figures
    from persona_probe.plots import latents as latent_figures

    for name, module in (
        ("record.json", record_figures),
        ("latents.json", latent_figures),
        ("--judged", judged_figures),
    ):
        sys.stdout.write(f"{name}\n" + "".join(f"  {spec.slug:20} {spec.title}\n" for spec in module.FIGURES))
    return 0


COMMAND = Command(figures)

if __name__ == "__main__":
    COMMAND.start()
