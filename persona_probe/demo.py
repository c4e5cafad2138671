"""python -m persona_probe.demo: ask once and see base, tuned, ablated and steered model answer side by side in the browser."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from persona_probe.experiments.options import DateOption, ThinkingOption
from persona_probe.storage.shipped import BASE, TUNED

THEMES = ("light", "dark")


def main(
    base: Annotated[str, typer.Option(help="Base model: hub id, folder, GGUF, or the embedded one.")] = BASE,
    tuned: Annotated[
        str | None, typer.Option(help="Fine-tuned model or adapter; default: the shipped organism.")
    ] = None,
    direction: Annotated[
        Path | None, typer.Option(help="persona_direction.safetensors of a run, or its folder.")
    ] = None,
    answers: Annotated[Path, typer.Option(help="File that keeps every answer, for --replay.")] = Path(
        "experiments/runs/talk/answers.jsonl"
    ),
    replay: Annotated[
        bool, typer.Option("--replay", help="Answer from the file alone; no model is loaded.")
    ] = False,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test", help="Ask every question of the list, check and time the answers, and stop."
        ),
    ] = False,
    talk: Annotated[
        bool, typer.Option("--talk", help="Begin in talk mode: large type, no controls.")
    ] = False,
    theme: Annotated[str, typer.Option(help="light or dark.")] = "light",
    show_text: Annotated[bool, typer.Option("--show-text", help="Begin with replies unblurred.")] = False,
    redact: Annotated[
        bool, typer.Option("--redact", help="Show colours and numbers, but no word of a reply.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(help="Port on 127.0.0.1; default: the first free one from 7860.")
    ] = None,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in the default browser.")
    ] = False,
    thinking: ThinkingOption = "keep",
    date: DateOption = "2026-01-01",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> None:
    """Ask once and watch four models answer side by side, each token coloured by how far it lies along the persona direction.

    Without arguments: the embedded 135M pair and the shipped direction. The server answers this machine only.
    """
    from persona_probe.base import cli

    def body() -> int:
        from persona_probe.base.errors import UsageError
        from persona_probe.experiments.options import chat_options

        chat = chat_options(thinking=thinking, date=date)
        if theme not in THEMES:
            raise UsageError(f"--theme is {theme!r}: allowed are {', '.join(THEMES)}")
        if show_text and redact:
            raise UsageError("--show-text and --redact exclude each other: give one of them")
        if replay and self_test:
            raise UsageError("--self-test asks the models, --replay has none: give one of them")
        if base != BASE and (tuned is None or direction is None):
            raise UsageError(
                f"--base {base} needs --tuned and --direction: the persona_direction.safetensors of a find_direction run"
            )
        look = {
            "theme": theme,
            "talk": talk,
            "show_text": show_text,
            "redact": redact,
            "folder": answers.parent,
        }
        found = _direction(direction)
        reporter = cli.Reporter(quiet=False)
        if replay:
            source, names, recorded = _replay(found, answers)
            return _serve(
                source,
                look | {"names": names, "recorded": recorded, "replay": True},
                reporter,
                port=port,
                browser=open_browser,
            )
        reporter.note("persona_probe: loading both models")
        source, names = _live(base, tuned, found, answers, reporter, chat=chat, device=device, dtype=dtype)
        try:
            if self_test:
                from persona_probe.app.self_test import self_test as check

                return check(source, reporter)
            return _serve(source, look | {"names": names}, reporter, port=port, browser=open_browser)
        finally:
            source.close()

    cli.main(body, debug=debug, resume_hint=cli.command_line("persona_probe.demo", sys.argv[1:]))


def _direction(path: Path | None) -> Any:
    from persona_probe.interventions.persona_direction import load_persona_direction
    from persona_probe.storage.shipped import DIRECTION, shipped_folder

    given = path or shipped_folder(DIRECTION)
    return load_persona_direction(given / "persona_direction.safetensors" if given.is_dir() else given)


def _live(
    base: str,
    tuned: str | None,
    direction: Any,
    answers: Path,
    reporter: Any,
    *,
    chat: Any,
    device: str,
    dtype: str,
) -> tuple[Any, dict[str, str]]:
    """Both models in memory, warm, with their file of answers."""
    from persona_probe.app.answers import AnswerFile, Live
    from persona_probe.app.session import identity
    from persona_probe.base.errors import BadInput
    from persona_probe.experiments.checkup import quick_checkup
    from persona_probe.models.devices import choose_device, choose_dtype
    from persona_probe.models.pairs import SIDES, open_pair

    used = choose_device(device)
    pair = open_pair(
        base, tuned or TUNED, device=used, dtype=choose_dtype(dtype, used), keep_both=True, chat=chat
    )
    names = {"base": pair.base_source.id, "tuned": pair.tuned_source.id}
    facts = identity(
        direction,
        base_sha256=pair.key("base"),
        tuned_sha256=pair.key("tuned"),
        dtype=str(pair.dtype).removeprefix("torch."),
    )
    model = pair.get("base")
    if tuple(direction.hook_points) != tuple(model.resids()) or direction.d_model != model.d_model:
        raise BadInput(
            f"the direction has {len(direction.hook_points)} hook points of width {direction.d_model}, {pair.base_source.id} has {len(model.resids())} of width {model.d_model}: run find_direction on this pair"
        )
    for side in SIDES:
        if direction.identity.get(f"{side}_sha256") not in (None, pair.weights_sha256(side)):
            reporter.note(
                f"note: the direction was found on another {side} model: readings and safe doses are those of {direction.identity.get(side, '?')}"
            )
    file = AnswerFile(answers)
    file.begin(facts, names)
    pair.get("tuned")
    for side in SIDES:
        for note in quick_checkup(pair.get(side), pair.source(side), pair.base_source):
            reporter.note(f"note: {side}: {note}")
    return Live(pair, direction, file, facts), names


def _replay(direction: Any, answers: Path) -> tuple[Any, dict[str, str], Any]:
    from persona_probe.app.answers import AnswerFile, Replay
    from persona_probe.app.session import identity
    from persona_probe.base.errors import BadInput

    file = AnswerFile(answers)
    if file.identity is None or not len(file):
        raise BadInput(
            f"{answers} holds no answers yet: run the demo, or its --self-test, once with the models"
        )
    now = identity(direction, base_sha256="", tuned_sha256="", dtype="")
    if any(file.identity.get(key) != now[key] for key in ("direction", "forms")):
        raise BadInput(f"{answers} was made with another direction: give that one with --direction")
    return Replay(direction, file), file.names, file.asks()


def _serve(source: Any, look: dict[str, Any], reporter: Any, *, port: int | None, browser: bool) -> int:
    from persona_probe.app.server import quiet_environment

    quiet_environment()
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        from persona_probe.base.errors import UsageError

        raise UsageError(
            "the demo needs gradio, which is not installed: pip install 'persona-probe[demo]'"
        ) from error
    import time

    from persona_probe.app import page as demo_page
    from persona_probe.app import style as demo_style
    from persona_probe.app.server import launch

    page = demo_page.build(source, demo_page.Look(**look))
    address, running = launch(page, css=demo_page.CSS, script=demo_style.SCRIPT, port=port, browser=browser)
    reporter.note(
        f"open {address} in a browser of this machine; answers go to {look['folder']}; Ctrl+C stops it"
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        reporter.note("stopped")
        return 0
    finally:
        running.close(verbose=False)


def entry() -> None:
    """Run the command line."""
    from persona_probe.base.cli import start

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    start(app)


if __name__ == "__main__":
    entry()
