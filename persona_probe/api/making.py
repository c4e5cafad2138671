"""Runs made from Python: what the commands `find_direction` and `diff_latents` do, on a pair that is already
open."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from persona_probe.api.runs import DIRECTION_FILE, DirectionRun, LatentRun
from persona_probe.base.cli import Reporter
from persona_probe.base.errors import BadInput, UsageError
from persona_probe.experiments.direction import run_experiment
from persona_probe.experiments.direction_config import Config
from persona_probe.experiments.direction_record import build_record, write_record
from persona_probe.experiments.latent_config import LatentConfig
from persona_probe.experiments.latent_record import build_latent_record, write_latent_outputs
from persona_probe.experiments.latents import run_latents
from persona_probe.interventions.persona_direction import save_persona_direction
from persona_probe.models.pairs import SIDES, Pair
from persona_probe.pages.report import write_report
from persona_probe.prompts.tokenizers import options_of
from persona_probe.saes.sae import Sae
from persona_probe.saes.sources import fitted, fitting, resolve_sae
from persona_probe.storage.runs import Run, open_run
from persona_probe.storage.shipped import SAE

OF_PAIR = ("base", "tuned", "template", "thinking", "date", "dtype", "device", "device_map", "keep_both")
ConfigT = TypeVar("ConfigT", bound=Any)


def find_direction(
    pair: Pair,
    output_dir: str | Path | None = None,
    *,
    overwrite: bool = False,
    progress: bool = True,
    **settings: Any,
) -> DirectionRun:
    """Find the direction that a misaligned persona lies on in a pair, remove it, and measure what comes back.

    `settings`: the options of the command, with underscores, such as `null=19`, `limit=16`,
    `methods=("mean_diff",)` or `contrast="questions.jsonl"`; `python -m persona_probe.find_direction --help`
    lists them. What belongs to the models is said to `open_pair`. The same settings continue in `output_dir`,
    `overwrite` starts afresh; without a folder the run is kept in a temporary one as long as its value lives.
    UsageError for a setting that does not exist.
    """
    folder, keep = _folder(output_dir)
    config = _config(Config, pair, folder, settings)
    sae = resolve_sae(config.sae) if config.sae else None
    reporter = Reporter(quiet=not progress, on_stdout=True)
    with _opened(config, pair, sae, overwrite) as run:
        if sae is not None:
            for note in fitting(sae, pair):
                reporter.note(f"note: {note}")
            sae = fitted(sae, pair)
        result = run_experiment(config, pair, run, reporter, sae)
        pair.close()
        record = build_record(config, pair, result, command=_words("find_direction", config))
        save_persona_direction(run.path(DIRECTION_FILE), result.direction)
        write_record(run.folder, record, result)
        write_report(record, run.path("report.html"))
    return DirectionRun(record, folder, keep=keep)


def diff_latents(
    pair: Pair,
    sae: str | Path = SAE,
    output_dir: str | Path | None = None,
    *,
    overwrite: bool = False,
    progress: bool = True,
    **settings: Any,
) -> LatentRun:
    """Rank the latents of an SAE by what the tuning changed, test each one causally, and read what they mean.

    `sae`: a SAELens RELEASE:ID, a SAELens folder, or the name of one that ships. Everything else as in
    `find_direction`.
    """
    folder, keep = _folder(output_dir)
    config = _config(LatentConfig, pair, folder, settings | {"sae": str(sae)})
    chosen, reporter = resolve_sae(config.sae), Reporter(quiet=not progress, on_stdout=True)
    with _opened(config, pair, chosen, overwrite) as run:
        notes, used = fitting(chosen, pair), fitted(chosen, pair)
        result = run_latents(config, pair, used, run, reporter)
        words = _words("diff_latents", config)
        record = build_latent_record(config, pair, used, result, command=words, notes=notes)
        pair.close()
        write_latent_outputs(run.folder, record, result, used)
        write_report(record, run.path("latents.html"))
    return LatentRun(record, folder, keep=keep)


@contextmanager
def _opened(config: Config | LatentConfig, pair: Pair, sae: Sae | None, overwrite: bool) -> Iterator[Run]:
    weights = {f"{side}_sha256": pair.sha256(side) for side in SIDES}
    settings = config.settings(dtype=str(pair.dtype).removeprefix("torch."))
    settings |= weights | ({"sae_sha256": sae.sha256} if sae else {})
    with open_run(config.output_dir, settings, overwrite=overwrite) as run:
        yield run


def _folder(output_dir: str | Path | None) -> tuple[Path, Any]:
    if output_dir is not None:
        return Path(output_dir).expanduser(), None
    keep = TemporaryDirectory(prefix="persona_probe-")
    return Path(keep.name), keep


def _config(kind: type[ConfigT], pair: Pair, folder: Path, settings: dict[str, Any]) -> ConfigT:
    """The configuration of a run of an open pair; UsageError for settings that are the pair's, or that do not
    exist."""
    names = [field.name for field in fields(kind)]
    allowed = [name for name in names if name not in (*OF_PAIR, "output_dir")]
    if unknown := [name for name in settings if name not in allowed]:
        of_pair = [name for name in unknown if name in OF_PAIR]
        hint = f"; {', '.join(of_pair)} is said to open_pair" if of_pair else ""
        raise UsageError(f"no setting {', '.join(unknown)}: there are {', '.join(allowed)}{hint}")
    given = dict(settings)
    for name in ("contrast", "benign"):
        if given.get(name) is not None:
            given[name] = Path(given[name]).expanduser()
    if isinstance(given.get("methods"), list):
        given["methods"] = tuple(given["methods"])
    options = options_of(pair.tokenizer)
    of_pair = {
        "base": pair.base_source.id,
        "tuned": pair.tuned_source.id,
        "thinking": options.thinking,
        "date": options.date,
        "dtype": str(pair.dtype).removeprefix("torch."),
        "device": str(pair.device),
        "device_map": pair.device_map,
    }
    config = kind(output_dir=folder, **{name: of_pair[name] for name in of_pair if name in names}, **given)
    for name in ("contrast", "benign"):
        path = getattr(config, name)
        if path is not None and not path.is_file():
            raise BadInput(f"no file {path}: {name} needs an existing file")
    return config


def _words(name: str, config: Config | LatentConfig) -> str:
    """How a record says that it was made."""
    return f"persona_probe.{name}(open_pair({config.base!r}, {config.tuned!r}), ...)"
