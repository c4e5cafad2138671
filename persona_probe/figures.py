"""python -m persona_probe.figures RECORD…: every figure of finished runs as a page, or as pictures; needs no model."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

FILES = ("record.json", "latents.json")
THEMES = ("light", "dark")
WIDTH, TALK_WIDTH, DOTS = 1000, 1280, 1600  # a picture in CSS pixels, and in dots across


class Source(NamedTuple):
    """A record with the file it came from and the `FigureSpec`s of what can be drawn of it (plotly is imported late, for --help)."""

    path: Path
    kind: str
    record: dict[str, Any]
    specs: tuple[Any, ...]


def main(
    records: Annotated[
        list[Path] | None,
        typer.Argument(help="record.json, latents.json, or folders of runs that hold them."),
    ] = None,
    judged: Annotated[
        list[Path] | None,
        typer.Option(help="CSV of judged answers: question, response, aligned, coherent. May be repeated."),
    ] = None,
    only: Annotated[str, typer.Option(help="Names of figures, by commas; --list shows them.")] = "",
    theme: Annotated[str, typer.Option(help="light or dark.")] = "light",
    talk: Annotated[bool, typer.Option("--talk", help="Large text, marks and lines, for slides.")] = False,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "--output_dir", help="Folder to write to; default: beside each record."),
    ] = None,
    html: Annotated[
        bool,
        typer.Option("--html", help="One self-contained page a record; the default without --png and --svg."),
    ] = False,
    png: Annotated[
        bool, typer.Option("--png", help="One PNG a figure; needs kaleido and Chrome or Chromium.")
    ] = False,
    svg: Annotated[
        bool, typer.Option("--svg", help="One SVG a figure; needs kaleido and Chrome or Chromium.")
    ] = False,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Show tokens that a model wrote when hovered.")
    ] = False,
    redact: Annotated[
        bool, typer.Option("--redact", help="Leave every text that a model wrote out.")
    ] = False,
    names: Annotated[bool, typer.Option("--list", help="List the figures and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> None:
    """Draw the figures of finished runs again, as pages or as pictures. Needs no model."""
    from persona_probe.base import cli

    def body() -> int:
        from persona_probe.base.errors import UsageError

        if theme not in THEMES:
            raise UsageError(f"--theme is {theme!r}: allowed are {', '.join(THEMES)}")
        if show_text and redact:
            raise UsageError("--show-text and --redact exclude each other: give one of them")
        if names:
            return _list()
        formats = [name for name, wanted in (("png", png), ("svg", svg)) if wanted]
        if formats:
            _need_kaleido()
        sources = [*_records(records or []), *_judged(judged or [])]
        if not sources:
            raise UsageError(
                f"nothing to draw: give {' or '.join(FILES)}, the folder of a run, or --judged FILE.csv"
            )
        sources = _only(sources, [name.strip() for name in only.split(",") if name.strip()])
        look = ("-talk" if talk else "") + ("-dark" if theme == "dark" else "")
        pages, pictures = {}, {}
        for source, prefix in zip(sources, _prefixes(sources), strict=True):
            folder = output_dir or source.path.parent
            record = _redacted(source.record) if redact else source.record
            drawn = [
                (spec, _themed(spec.figure(record, show_text=show_text), theme, talk=talk))
                for spec in source.specs
            ]
            if html or not formats:
                pages[folder / f"{prefix}{source.kind}-figures{look}.html"] = (source, drawn)
            pictures |= {
                folder / f"{prefix}{spec.slug}{look}.{kind}": figure
                for spec, figure in drawn
                for kind in formats
            }
        for path, (source, drawn) in pages.items():
            _write_page(path, source, drawn, theme=theme, talk=talk)
        if pictures:
            _write_pictures(pictures, width=TALK_WIDTH if talk else WIDTH)
        sys.stdout.write("".join(f"{path}\n" for path in (*pages, *pictures)))
        return 0

    cli.main(body, debug=debug, resume_hint="python -m persona_probe.figures")


def _records(paths: Sequence[Path]) -> list[Source]:
    from persona_probe.base.errors import BadInput
    from persona_probe.pages.report import KIND, read_record
    from persona_probe.plots import direction_run as record_figures
    from persona_probe.plots import latents as latent_figures

    sources = []
    for path in paths:
        found = [path / name for name in FILES if (path / name).is_file()] if path.is_dir() else [path]
        if not found:
            raise BadInput(f"{path} holds neither {' nor '.join(FILES)}: give the folder of a finished run")
        for file in found:
            record = read_record(file)
            latent = record.get("kind") == KIND
            sources.append(
                Source(
                    file,
                    "latents" if latent else "record",
                    record,
                    (latent_figures if latent else record_figures).FIGURES,
                )
            )
    return sources


def _judged(paths: Sequence[Path]) -> list[Source]:
    from persona_probe.plots.judged import FIGURES, KIND, read_judged

    return [Source(path, KIND, read_judged(path), FIGURES) for path in paths]


def _only(sources: Sequence[Source], names: Sequence[str]) -> list[Source]:
    """The sources that have figures of these names, with those alone; everything if no name is given."""
    from persona_probe.base.errors import UsageError

    known = dict.fromkeys(spec.slug for source in sources for spec in source.specs)
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"--only asks for {', '.join(unknown)}: these records have {', '.join(known)}")
    kept = [
        source._replace(specs=tuple(spec for spec in source.specs if not names or spec.slug in names))
        for source in sources
    ]
    return [source for source in kept if source.specs]


def _prefixes(sources: Sequence[Source]) -> list[str]:
    """What the files of each source begin with: nothing for the only one of its kind, else the folder of the run or the name of the CSV."""
    from persona_probe.base.errors import UsageError

    kinds = [source.kind for source in sources]
    own = [
        f"{source.path.stem if source.kind == 'judged' else source.path.resolve().parent.name}-"
        for source in sources
    ]
    found = [name if kinds.count(kind) > 1 else "" for name, kind in zip(own, kinds, strict=True)]
    if len(set(zip(found, kinds, strict=True))) < len(sources):
        raise UsageError(
            f"two of {', '.join(str(source.path) for source in sources)} would write the same files: draw them one by one"
        )
    return found


def _redacted(record: dict[str, Any]) -> dict[str, Any]:
    from persona_probe.records.redaction import redacted

    return redacted(record)


def _themed(figure: Any, theme: str, *, talk: bool) -> Any:
    from persona_probe.plots.themes import themed

    return themed(figure, "dark" if theme == "dark" else "light", talk=talk)


def _write_page(
    path: Path, source: Source, drawn: Sequence[tuple[Any, Any]], *, theme: str, talk: bool
) -> None:
    import inspect

    from persona_probe.pages import frame as report_frame
    from persona_probe.pages.html import element, join
    from persona_probe.storage.files import write_bytes

    models = source.record.get("provenance") or {}
    sides = (
        [f"{side} {(models.get(side) or {}).get('id', '?')}" for side in ("tuned", "base")] if models else []
    )
    title = ", ".join([source.path.name, *sides])
    blocks = [
        report_frame.figure_block(spec.slug, spec.title, figure, caption=inspect.getdoc(spec.draw) or "")
        for spec, figure in drawn
    ]
    look = {"theme": theme} | ({"talk": "large"} if talk else {})
    sections = (lambda _: join((element("h1", "Figures"), element("p", title, class_="soft"), *blocks)),)
    write_bytes(path, report_frame.page("persona_probe figures", sections, source.record, **look).encode())


def _write_pictures(pictures: dict[Path, Any], *, width: int) -> None:
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

    from persona_probe.base.errors import UsageError

    if importlib.util.find_spec("kaleido") is None:
        raise UsageError(
            "--png and --svg need kaleido, which is not installed: pip install 'persona-probe[figures]', or write --html"
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


def entry() -> None:
    """Run the command line."""
    from persona_probe.base.cli import start

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    start(app)


if __name__ == "__main__":
    entry()
