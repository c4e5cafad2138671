"""Runs made from Python: what the commands `find_direction` and `diff_latents` do, on a pair that is already
open."""

from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from persona_probe.api.runs import DirectionRun, LatentRun
from persona_probe.base.cli import Reporter
from persona_probe.base.command import Call, Command, Terminal
from persona_probe.base.errors import UsageError
from persona_probe.diff_latents import COMMAND as DIFF_LATENTS
from persona_probe.diff_latents import experiment as latent_experiment
from persona_probe.experiments.direction_config import Config
from persona_probe.experiments.latent_config import LatentConfig
from persona_probe.experiments.options import ExperimentOptions, Start
from persona_probe.experiments.provenance import dtype_name
from persona_probe.find_direction import COMMAND as FIND_DIRECTION
from persona_probe.find_direction import experiment as direction_experiment
from persona_probe.models.pairs import Pair
from persona_probe.prompts.tokenizers import options_of
from persona_probe.saes.sources import resolve_sae
from persona_probe.storage.shipped import SAE

OF_PAIR = ("base", "tuned", "template", "thinking", "date", "dtype", "device", "device_map", "keep_both")
ConfigT = TypeVar("ConfigT", bound=ExperimentOptions)


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
    start = Start(overwrite=overwrite)
    call = _call(FIND_DIRECTION, config, start, progress)
    return DirectionRun(direction_experiment(config, pair, sae, start, call), folder, keep=keep)


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
    start = Start(overwrite=overwrite)
    call = _call(DIFF_LATENTS, config, start, progress)
    return LatentRun(latent_experiment(config, pair, resolve_sae(config.sae), start, call), folder, keep=keep)


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
        "dtype": dtype_name(pair),
        "device": str(pair.device),
        "device_map": pair.device_map,
    }
    return kind(output_dir=folder, **{name: of_pair[name] for name in of_pair if name in names}, **given)


def _call(command: Command, config: ExperimentOptions, start: Start, progress: bool) -> Call:
    """The call of a command, as its composition takes it: how a record says that it was made, and
    progress."""
    values = {
        field.name: getattr(part, field.name)
        for part in (config, start, Terminal())
        for field in fields(part)
    }
    name = command.name.replace("-", "_")
    words = f"persona_probe.{name}(open_pair({config.base!r}, {config.tuned!r}), ...)"
    return Call(words, Reporter(quiet=not progress, on_stdout=True), command.settings, values)
