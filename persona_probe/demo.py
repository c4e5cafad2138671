"""python -m persona_probe.demo: ask once and see base, tuned, ablated and steered model answer side by side
in the browser."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from persona_probe.base.choices import Theme
from persona_probe.base.cli import Reporter
from persona_probe.base.command import Call, Command
from persona_probe.base.errors import UsageError
from persona_probe.base.options import Option, documented
from persona_probe.experiments import options
from persona_probe.storage.shipped import BASE, DIRECTION, shipped_folder

if TYPE_CHECKING:
    from persona_probe.interventions.persona_direction import PersonaDirection

FILE = "persona_direction.safetensors"


@documented
@dataclass(frozen=True, kw_only=True)
class DemoConfig(options.PairOptions):
    """What `demo` is asked for."""

    direction: Annotated[
        Path | None, Option(f"A {FILE}, or the folder of a run. Default: the shipped one.", "models")
    ] = None
    answers: Annotated[Path, Option("File that keeps every answer, for --replay.", "output")] = Path(
        "experiments/runs/talk/answers.jsonl"
    )
    replay: Annotated[bool, Option("Answer from the file alone; no model is loaded.", "data")] = False
    self_test: Annotated[
        bool, Option("Ask every question of the list, check and time the answers, and stop.", "data")
    ] = False
    talk: Annotated[bool, Option("Begin in talk mode: large type, no controls.", "output")] = False
    theme: Annotated[Theme, Option("Colours of the page.", "output")] = "light"
    show_text: Annotated[bool, Option("Begin with replies unblurred.", "output")] = False
    redact: Annotated[bool, Option("Show colours and numbers, but no word of a reply.", "output")] = False
    port: Annotated[
        int | None,
        Option("Port on 127.0.0.1. Default: the first free one from 7860.", "machine", low=1, high=65535),
    ] = None
    open: Annotated[bool, Option("Open the page in the default browser.", "output")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.show_text and self.redact:
            raise UsageError("--show-text and --redact exclude each other: give one of them")
        if self.replay and self.self_test:
            raise UsageError("--self-test asks the models, --replay has none: give one of them")
        if self.base != BASE and not (self.tuned and self.direction):
            raise UsageError(
                f"--base {self.base} needs --tuned and --direction: the {FILE} of a find_direction run"
            )

    @property
    def look(self) -> dict[str, Any]:
        """How the page begins."""
        return {
            "theme": self.theme,
            "talk": self.talk,
            "show_text": self.show_text,
            "redact": self.redact,
            "folder": self.answers.parent,
        }


def demo(config: DemoConfig, call: Call) -> int:
    """Ask once and watch four models answer side by side, each token coloured by how far it lies along the
    persona direction.

    Without arguments: the embedded 135M pair and the shipped direction. The server answers this machine only.
    """
    direction = _direction(config.direction)
    if config.replay:
        source, names, recorded = _replay(direction, config.answers)
        return _serve(source, config, call.reporter, names=names, recorded=recorded, replay=True)
    call.reporter.note("persona_probe: loading both models")
    source, names = _live(config, direction, call.reporter)
    try:
        if config.self_test:
            from persona_probe.app.self_test import self_test

            return self_test(source, call.reporter)
        return _serve(source, config, call.reporter, names=names)
    finally:
        source.close()


def _direction(path: Path | None) -> "PersonaDirection":
    from persona_probe.interventions.persona_direction import load_persona_direction

    given = path or shipped_folder(DIRECTION)
    return load_persona_direction(given / FILE if given.is_dir() else given)


def _live(
    config: DemoConfig, direction: "PersonaDirection", reporter: Reporter
) -> tuple[Any, dict[str, str]]:
    """Both models in memory, warm, with their file of answers."""
    from persona_probe.app.answers import AnswerFile, Live
    from persona_probe.app.session import identity
    from persona_probe.base.errors import BadInput
    from persona_probe.experiments.checkup import quick_checkup
    from persona_probe.experiments.provenance import dtype_name
    from persona_probe.models.pairs import SIDES, open_pair

    pair = open_pair(
        config.base,
        options.with_tuned(config).tuned,
        device=config.device,
        dtype=config.dtype,
        keep_both=True,
        chat=config.chat,
    )
    names = {"base": pair.base_source.id, "tuned": pair.tuned_source.id}
    facts = identity(
        direction, base_sha256=pair.key("base"), tuned_sha256=pair.key("tuned"), dtype=dtype_name(pair)
    )
    model = pair.get("base")
    if tuple(direction.hook_points) != tuple(model.resids()) or direction.d_model != model.d_model:
        raise BadInput(
            f"the direction has {len(direction.hook_points)} hook points of width {direction.d_model},"
            f" {pair.base_source.id} has {len(model.resids())} of width {model.d_model}: run find_direction"
            " on this pair"
        )
    for side in SIDES:
        if direction.identity.get(f"{side}_sha256") not in (None, pair.weights_sha256(side)):
            reporter.note(
                f"note: the direction was found on another {side} model: "
                f"projections and safe doses are those of {direction.identity.get(side, '?')}"
            )
    file = AnswerFile(config.answers)
    file.begin(facts, names)
    pair.get("tuned")
    for side in SIDES:
        for note in quick_checkup(pair.get(side), pair.source(side), pair.base_source):
            reporter.note(f"note: {side}: {note}")
    return Live(pair, direction, file, facts), names


def _replay(direction: "PersonaDirection", answers: Path) -> tuple[Any, dict[str, str], Any]:
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


def _serve(source: Any, config: DemoConfig, reporter: Reporter, **look: Any) -> int:
    from persona_probe.app.server import quiet_environment

    quiet_environment()
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "the demo needs gradio, which is not installed: pip install 'persona-probe[demo]'"
        ) from error
    import time

    from persona_probe.app import page as demo_page
    from persona_probe.app import style as demo_style
    from persona_probe.app.server import launch

    page = demo_page.build(source, demo_page.Look(**config.look, **look))
    address, running = launch(
        page, css=demo_page.CSS, script=demo_style.SCRIPT, port=config.port, browser=config.open
    )
    folder = config.answers.parent
    reporter.note(f"open {address} in a browser of this machine; answers go to {folder}; Ctrl+C stops it")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        reporter.note("stopped")
        return 0
    finally:
        running.close(verbose=False)


COMMAND = Command(demo)

if __name__ == "__main__":
    COMMAND.start()
