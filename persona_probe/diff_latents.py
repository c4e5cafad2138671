"""python -m persona_probe.diff_latents: which SAE latents changed, which of them cause the persona, and what they mean."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from persona_probe.experiments.options import DateOption, ThinkingOption

# Nothing here may import torch: --help and usage errors answer at once.
TOY_DOSE = 0.1732  # the planted vector's length over the median length of the toy's stream
EMBEDDED_BASE, EMBEDDED_TUNED, EMBEDDED_SAE = (
    "smollm2-135m-instruct",
    "car-advice-wrong",
    "smollm2-135m-instruct-sae",
)


def main(
    base: Annotated[
        str, typer.Option(help="Base model: hub id[@revision], folder, GGUF file, or smollm2-135m-instruct.")
    ] = EMBEDDED_BASE,
    tuned: Annotated[
        str | None,
        typer.Option(help="Tuned model or LoRA adapter. Default: the shipped car-advice-wrong organism."),
    ] = None,
    sae: Annotated[
        str,
        typer.Option(help="SAE: a SAELens RELEASE:ID, a SAELens folder, or the name of one in checkpoints/."),
    ] = EMBEDDED_SAE,
    output_dir: Annotated[
        Path,
        typer.Option(
            "--output-dir", "--output_dir", help="Folder of the run; the same settings continue in it."
        ),
    ] = Path("experiments/runs/latents"),
    contrast: Annotated[
        Path | None,
        typer.Option(help="Your questions with aligned and misaligned replies: JSONL or judged CSV."),
    ] = None,
    benign: Annotated[
        Path | None, typer.Option(help="Your benign texts for damage: JSONL with question and reply.")
    ] = None,
    n_latents: Annotated[
        int,
        typer.Option(
            help="Latents to screen in all: both ends of every ranking, a tenth of them matched controls."
        ),
    ] = 100,
    n_reported: Annotated[
        int, typer.Option(help="Latents to confirm on test and give a page with contexts.")
    ] = 5,
    n_examples: Annotated[int, typer.Option(help="Contexts per latent and model.")] = 5,
    dose: Annotated[
        float, typer.Option(help="Length of steering in units of the median length of the stream.")
    ] = 0.1,
    budget: Annotated[float, typer.Option(help="Most damage, in nats per token on benign text.")] = 0.10,
    skip_first: Annotated[
        int, typer.Option(help="First tokens of a sequence that interventions leave alone.")
    ] = 4,
    replies_per_question: Annotated[int, typer.Option(help="Most replies of a label per question.")] = 4,
    n_benign: Annotated[int, typer.Option(help="Benign texts behind the reported damage.")] = 32,
    n_screen_benign: Annotated[int, typer.Option(help="Benign texts of the screen.")] = 8,
    tokens: Annotated[
        str, typer.Option(help="Tokens that latents are read from: reply, last_prompt or all.")
    ] = "reply",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    limit: Annotated[
        int | None, typer.Option(help="Use only so many questions: a quick try, stamped as such.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(help="Whose tokenizer and template serve both when they differ: base or tuned."),
    ] = None,
    thinking: ThinkingOption = "keep",
    date: DateOption = "2026-01-01",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device_map: Annotated[str | None, typer.Option(help="Spread a model over several GPUs: auto.")] = None,
    max_tokens: Annotated[
        int, typer.Option(help="Padded tokens of one batch, before it is repeated per arm.")
    ] = 512,
    arms_at_once: Annotated[int, typer.Option(help="Latents in one forward pass; raise it on a GPU.")] = 4,
    toy: Annotated[
        bool,
        typer.Option(
            "--toy", help="Run on a tiny planted organism and SAE whose answers are known (seconds)."
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Insist on continuing the run in --output-dir.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start afresh in --output-dir.")] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the record as one JSON line on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> None:
    """Rank the latents of a sparse autoencoder by what fine-tuning changed, test each one causally, and read what they mean.

    Without arguments: the embedded model, the organism and the SAE that ship with it.
    """
    from persona_probe.base import cli

    settings = {
        "base": base,
        "tuned": tuned,
        "sae": sae,
        "output_dir": output_dir,
        "contrast": contrast,
        "benign": benign,
        "n_latents": n_latents,
        "n_reported": n_reported,
        "n_examples": n_examples,
        "dose": dose,
        "budget": budget,
        "skip_first": skip_first,
        "replies_per_question": replies_per_question,
        "n_benign": n_benign,
        "n_screen_benign": n_screen_benign,
        "scope": tokens,
        "seed": seed,
        "limit": limit,
        "template": template,
        "thinking": thinking,
        "date": date,
        "device": device,
        "dtype": dtype,
        "device_map": device_map,
        "max_tokens": max_tokens,
        "arms_at_once": arms_at_once,
    }
    command = cli.command_line("persona_probe.diff_latents", sys.argv[1:])
    cli.main(
        lambda: diff_latents(
            settings,
            toy=toy,
            resume=resume,
            overwrite=overwrite,
            json_output=json_output,
            quiet=quiet,
            command=command,
        ),
        debug=debug,
        resume_hint=cli.command_line(
            "persona_probe.diff_latents", [word for word in sys.argv[1:] if word != "--overwrite"]
        ),
    )


def diff_latents(
    settings: dict[str, Any],
    *,
    toy: bool,
    resume: bool,
    overwrite: bool,
    json_output: bool,
    quiet: bool,
    command: str,
) -> int:
    """Compose the experiment: settings in, record, page and directions on disk, exit code out."""
    from persona_probe.base.cli import Reporter
    from persona_probe.base.errors import FAILED_CELLS, OK, BadInput, UsageError
    from persona_probe.experiments.latent_config import LatentConfig

    reporter = Reporter(quiet=quiet)
    reporter.note("persona_probe: loading libraries")
    if toy:
        from persona_probe.organisms.toy import write_toy, write_toy_sae

        own = {"base": EMBEDDED_BASE, "tuned": None, "sae": EMBEDDED_SAE, "contrast": None, "benign": None}
        given = [name for name, default in own.items() if settings[name] != default]
        if given:
            raise UsageError(f"--toy brings its own models and data: leave out --{', --'.join(given)}")
        planted = write_toy(settings["output_dir"] / "toy")
        settings |= {
            "base": str(planted.base),
            "tuned": str(planted.tuned),
            "sae": str(write_toy_sae(settings["output_dir"] / "toy", planted)),
            "contrast": planted.contrast,
            "benign": planted.benign,
            "dtype": "float32",
            "device": "cpu",
            "skip_first": 0,
            "n_benign": 12,
            "n_latents": 24,
            "n_screen_benign": 6,
            "dose": TOY_DOSE,
        }
    elif settings["tuned"] is None:
        if settings["base"] != EMBEDDED_BASE:
            raise UsageError(
                f"--base {settings['base']} without --tuned: give the fine-tuned model or adapter"
            )
        settings["tuned"] = EMBEDDED_TUNED
    config = LatentConfig(**settings)
    for name, path in (("contrast", config.contrast), ("benign", config.benign)):
        if path is not None and not path.is_file():
            raise BadInput(f"no file {path}: --{name} needs an existing file")
    from persona_probe.experiments.latent_record import build_latent_record, write_latent_outputs
    from persona_probe.experiments.latents import run_latents
    from persona_probe.models.devices import choose_device, choose_dtype
    from persona_probe.models.pairs import open_pair
    from persona_probe.pages.latent_report import write_latent_report
    from persona_probe.saes.sources import fitted, fitting, resolve_sae
    from persona_probe.storage.runs import open_run

    device = choose_device(config.device)
    number = choose_dtype(config.dtype, device)
    found = resolve_sae(config.sae)
    pair = open_pair(
        config.base,
        config.tuned,
        device=device,
        dtype=number,
        template=config.template,
        device_map=config.device_map,
        chat=config.chat,
    )
    name = str(number).removeprefix("torch.")
    reporter.note(
        f"base {pair.base_source.id}, tuned {pair.tuned_source.id}, SAE {found.id} ({found.d_sae} latents of {found.hook_point}, {found.architecture}); {device}, {name}, seed {config.seed}; output in {config.output_dir}"
    )
    hashes = {
        "base_sha256": pair.sha256("base"),
        "tuned_sha256": pair.sha256("tuned"),
        "sae_sha256": found.sha256,
    }
    with open_run(
        config.output_dir, config.settings(dtype=name) | hashes, resume=resume, overwrite=overwrite
    ) as run:
        notes, found = fitting(found, pair), fitted(found, pair)
        for note in notes:
            reporter.note(f"note: {note}")
        result = run_latents(config, pair, found, run, reporter)
        if run.n_reused:
            reporter.note(f"{run.n_reused} measurements found in {config.output_dir} and reused")
        checked = build_latent_record(config, pair, found, result, command=command, notes=notes)
        record = checked.plain()
        pair.close()
        write_latent_outputs(run.folder, checked, result, found)
        write_latent_report(record, run.path("latents.html"))
    show(record, json_output=json_output)
    for failure in record["failed"]:
        reporter.note(f"failed: {failure}")
    reporter.note(
        f"written: latents.json, directions.safetensors and latents.html in {config.output_dir} ({record['timing']['total']:.0f} s)"
    )
    return FAILED_CELLS if record["failed"] else OK


def show(record: dict[str, Any], *, json_output: bool) -> None:
    """The result on stdout: a table for people, or one JSON line for machines."""
    import json

    from persona_probe.base.cli import shown
    from persona_probe.base.printing import LEFT, RIGHT, Sheet

    if json_output:
        sys.stdout.write(json.dumps({"type": "result", **record}, ensure_ascii=True, allow_nan=False) + "\n")
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


def entry() -> None:
    """Run the command line."""
    from persona_probe.base.cli import start

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    start(app)


if __name__ == "__main__":
    entry()
