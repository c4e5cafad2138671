"""What both experiments open before they measure: the two models, the folder of the run, and the data. Wrong
input is refused before there is a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from persona_probe.base.cli import Reporter
from persona_probe.base.command import Call
from persona_probe.directions.fitting import split_rows
from persona_probe.experiments.options import ExperimentOptions, Start
from persona_probe.experiments.provenance import dtype_name
from persona_probe.models.pairs import Pair, open_pair
from persona_probe.organisms.toy import Toy, write_toy
from persona_probe.prompts.contrast import Contrast
from persona_probe.prompts.contrast_files import contrast_file, read_contrast
from persona_probe.prompts.rows import Row, Split
from persona_probe.saes.sae import Sae
from persona_probe.storage.files import need_writable
from persona_probe.storage.runs import Run, open_run

ConfigT = TypeVar("ConfigT", bound=ExperimentOptions)


def open_models(config: ExperimentOptions, *, keep_both: bool = False) -> Pair:
    """The pair that a configuration names, checked against each other; no weights are loaded yet."""
    need_writable(config.output_dir)
    return open_pair(
        config.base,
        config.tuned,
        device=config.device,
        dtype=config.dtype,
        template=config.template,
        device_map=config.device_map,
        keep_both=keep_both,
        chat=config.chat,
    )


def on_toy(config: ConfigT, **changes: Any) -> tuple[ConfigT, Toy]:
    """The configuration for the planted organism, with `changes`; the organism is written beside the run."""
    toy = write_toy(config.output_dir / "toy")
    of_toy = {"base": str(toy.base), "tuned": str(toy.tuned), "contrast": toy.contrast, "benign": toy.benign}
    return replace(config, **of_toy, dtype="float32", device="cpu", **changes), toy


@contextmanager
def open_folder(
    config: ExperimentOptions, pair: Pair, sae: Sae | None, start: Start, call: Call
) -> Iterator[Run]:
    """The run's folder for these settings and these weights, with the settings file in it."""
    weights = {f"{side}_sha256": pair.sha256(side) for side in ("base", "tuned")}
    settings = config.settings(dtype=dtype_name(pair)) | weights | ({"sae_sha256": sae.sha256} if sae else {})
    with open_run(config.output_dir, settings, resume=start.resume, overwrite=start.overwrite) as run:
        call.write_settings(run.folder, dtype=dtype_name(pair))
        yield run
        if run.n_reused:
            call.reporter.note(f"{run.n_reused} measurements found in {config.output_dir} and reused")


def read_data(
    config: ExperimentOptions, pair: Pair, reporter: Reporter
) -> tuple[Contrast, dict[Split, tuple[Row, ...]]]:
    """The contrast set of a run, and its rows by split; what is odd about it goes to the reporter."""
    contrast = read_contrast(
        contrast_file(config.contrast), replies_per_question=config.replies_per_question, limit=config.limit
    )
    for note in contrast.notes:
        reporter.note(f"data: {note}")
    return contrast, split_rows(contrast, pair.tokenizer)


def described(pair: Pair, config: ExperimentOptions, extra: str = "") -> str:
    """One line about what is run, where to and in which numbers."""
    models = (
        f"base {pair.base_source.id} ({pair.base_source.sha256[:10]}), tuned {pair.tuned_source.id}"
        f" ({pair.tuned_source.sha256[:10]}, {pair.tuned_source.kind})"
    )
    how = f"{pair.device}, {dtype_name(pair)}, seed {config.seed}"
    return f"{models}{extra}; {how}; output in {config.output_dir}"
