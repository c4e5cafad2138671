"""python -m persona_probe.diff_latents: which SAE latents changed, which cause the persona, what they
mean."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from persona_probe.base.command import Call, Command
from persona_probe.experiments.latent_config import LatentConfig
from persona_probe.experiments.options import Start, need_files, refuse_with_toy, with_tuned

if TYPE_CHECKING:
    from persona_probe.models.pairs import Pair
    from persona_probe.records.latents import LatentRecord
    from persona_probe.saes.sae import Sae

# Nothing here may import torch: --help and usage errors answer at once.
TOY_DOSE = 0.1732  # the planted vector's length over the median length of the toy's stream


def diff_latents(config: LatentConfig, start: Start, call: Call) -> int:
    """Rank the latents of an SAE by what fine-tuning changed, test each one causally, and read what they
    mean.

    Without arguments: the embedded model, the organism and the SAE that ship with it.
    """
    brought = ("base", "tuned", "sae", "contrast", "benign")
    config = refuse_with_toy(config, *brought) if start.toy else with_tuned(config)
    need_files(config)
    note = call.reporter.note
    note("persona_probe: loading libraries")

    from persona_probe.base.errors import FAILED_CELLS, OK
    from persona_probe.experiments.opening import open_models
    from persona_probe.saes.sources import resolve_sae

    config = _on_toy(config) if start.toy else config
    sae = resolve_sae(config.sae)
    record = experiment(config, open_models(config), sae, start, call)
    show(record.plain(), as_json=start.json)
    for failure in record.failed:
        note(f"failed: {failure}")
    note(
        f"written: latents.json, rows.jsonl, directions.safetensors and latents.html in {config.output_dir} "
        f"({record.timing['total']:.0f} s)"
    )
    return FAILED_CELLS if record.failed else OK


def experiment(config: LatentConfig, pair: "Pair", sae: "Sae", start: Start, call: Call) -> "LatentRecord":
    """Run the experiment on an open pair and write its folder; gives the record."""
    from persona_probe.experiments.latent_record import build_latent_record, write_latent_outputs
    from persona_probe.experiments.latents import run_latents
    from persona_probe.experiments.opening import described, open_folder
    from persona_probe.pages.report import write_report
    from persona_probe.saes.sources import fitted, fitting

    note = call.reporter.note
    note(
        described(
            pair, config, f", SAE {sae.id} ({sae.d_sae} latents of {sae.hook_point}, {sae.architecture})"
        )
    )
    with open_folder(config, pair, sae, start, call) as run:
        notes, sae = fitting(sae, pair), fitted(sae, pair)
        for line in notes:
            note(f"note: {line}")
        result = run_latents(config, pair, sae, run, call.reporter)
        record = build_latent_record(config, pair, sae, result, command=call.command, notes=notes)
        pair.close()
        write_latent_outputs(run.folder, record, result, sae)
        write_report(record, run.path("latents.html"))
    return record


def _on_toy(config: LatentConfig) -> LatentConfig:
    """The configuration for the planted organism and its SAE, which are written beside the run."""
    from persona_probe.organisms.toy import write_toy, write_toy_sae

    planted = write_toy(config.output_dir / "toy")
    return replace(
        config,
        base=str(planted.base),
        tuned=str(planted.tuned),
        sae=str(write_toy_sae(config.output_dir / "toy", planted)),
        contrast=planted.contrast,
        benign=planted.benign,
        dtype="float32",
        device="cpu",
        skip_first=0,
        n_benign=12,
        n_latents=24,
        n_screen_benign=6,
        dose=TOY_DOSE,
    )


def show(record: dict[str, Any], *, as_json: bool = False) -> None:
    """The result on stdout: a table for people, or one JSON line for machines."""
    from persona_probe.base.cli import shown
    from persona_probe.base.printing import LEFT, RIGHT, Sheet, print_json

    if as_json:
        print_json("result", record)
        return
    sheet, rows = Sheet(), []
    active = [found for found in record["latents"] if found["label"] != "inert"]
    for found in sorted(active, key=lambda found: min(cell["q"] for cell in found["screen"].values()))[:20]:
        cells = found["screen"]
        changes = [f"{cells[name]['delta_s']:+.3f}" for name in ("base+steer", "tuned-steer", "tuned+ablate")]
        worst, q = (
            max(cell["delta_nll"] for cell in cells.values()),
            min(cell["q"] for cell in cells.values()),
        )
        rows.append((str(found["latent"]), found["label"], *changes, f"{worst:+.3f}", f"{q:.3f}"))
    numbers = ("base+steer", "tuned-steer", "tuned+ablate", "largest ΔNLL", "smallest q")
    sheet.table(
        "Change of S on the select questions (nats per token), latents that do something",
        (("latent", RIGHT), ("label", LEFT), *((name, RIGHT) for name in numbers)),
        rows,
    )
    sets = []
    for found in record["sets"]:
        r, control = found["restoration"], found["control"] or {}
        matched = "" if control.get("restoration") is None else f"{control['restoration']:+.2f}"
        restored = (
            "undefined" if r is None else f"{r['estimate']:+.2f} [{r['ci95'][0]:+.2f}, {r['ci95'][1]:+.2f}]"
        )
        nll = "" if "delta_nll" not in control else f"{control['delta_nll']:+.3f}"
        own = f"{found['delta_nll']['estimate']:+.3f}"
        sets.append(
            (
                str(found["k"]),
                found["kind"],
                restored,
                own,
                matched,
                nll,
                "chosen" if found["selected"] else "",
            )
        )
    columns = ("k", "used as", "R", "ΔNLL", "matched controls: R", "ΔNLL", "")
    sheet.table("Sets of latents on the test questions", [(name, RIGHT) for name in columns], sets)
    sheet.text(shown(record["summary"]))
    if record["limited"]:
        sheet.text(shown("This was a quick try with --limit: not a result."))


COMMAND = Command(diff_latents)

if __name__ == "__main__":
    COMMAND.start()
