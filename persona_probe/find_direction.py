"""python -m persona_probe.find_direction: find the persona direction of a model pair and test it causally."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from persona_probe.experiments.options import DateOption, ThinkingOption

# Nothing here may import torch: --help and usage errors answer at once.
EMBEDDED_BASE, EMBEDDED_TUNED = "smollm2-135m-instruct", "car-advice-wrong"


def main(
    base: Annotated[
        str, typer.Option(help="Base model: hub id[@revision], folder, GGUF file, or smollm2-135m-instruct.")
    ] = EMBEDDED_BASE,
    tuned: Annotated[
        str | None,
        typer.Option(
            help="Tuned model or LoRA adapter, given likewise. Default: the shipped car-advice-wrong organism."
        ),
    ] = None,
    output_dir: Annotated[
        Path,
        typer.Option(
            "--output-dir", "--output_dir", help="Folder of the run; the same settings continue in it."
        ),
    ] = Path("experiments/runs/latest"),
    contrast: Annotated[
        Path | None,
        typer.Option(
            help="Your questions with aligned and misaligned replies: JSONL, or CSV of a judged organism."
        ),
    ] = None,
    benign: Annotated[
        Path | None, typer.Option(help="Your benign texts for damage: JSONL with question and reply.")
    ] = None,
    sae: Annotated[
        str | None,
        typer.Option(
            help="Show arms on the latents of this SAE too: RELEASE:ID, a SAELens folder, or a name in checkpoints/."
        ),
    ] = None,
    methods: Annotated[str, typer.Option(help="Estimators to compare.")] = "mean_diff,shift,prompt,lda,probe",
    tokens: Annotated[
        str, typer.Option(help="Tokens that directions are read from: reply, last_prompt or all.")
    ] = "reply",
    budget: Annotated[
        float,
        typer.Option(
            help="Most damage that a selected intervention may do, in nats per token on benign text."
        ),
    ] = 0.10,
    controls: Annotated[int, typer.Option(help="Random directions of each kind.")] = 5,
    null: Annotated[
        int,
        typer.Option(help="Covariance-matched random directions for a p-value; 19 make p <= 0.05 possible."),
    ] = 0,
    layers_screened: Annotated[int, typer.Option(help="Layers of the first selection round.")] = 5,
    skip_first: Annotated[
        int, typer.Option(help="First tokens of a sequence that interventions leave alone.")
    ] = 4,
    replies_per_question: Annotated[int, typer.Option(help="Most replies of a label per question.")] = 8,
    n_benign: Annotated[int, typer.Option(help="Benign texts behind the reported damage.")] = 48,
    n_prompts: Annotated[int, typer.Option(help="Test questions to sample replies to.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(help="Length of sampled replies.")] = 48,
    temperature: Annotated[float, typer.Option(help="Sampling temperature; 0 is greedy.")] = 0.7,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    limit: Annotated[
        int | None, typer.Option(help="Use only so many questions: a quick try, stamped as such.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(help="Whose tokenizer and chat template serve both when they differ: base or tuned."),
    ] = None,
    thinking: ThinkingOption = "keep",
    date: DateOption = "2026-01-01",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device_map: Annotated[str | None, typer.Option(help="Spread a model over several GPUs: auto.")] = None,
    keep_both: Annotated[
        bool, typer.Option("--keep-both", help="Keep base and tuned in memory together.")
    ] = False,
    max_tokens: Annotated[int, typer.Option(help="Padded tokens of one batch.")] = 1024,
    toy: Annotated[
        bool, typer.Option("--toy", help="Run on a tiny planted organism whose answers are known (seconds).")
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
    """Find the direction that a misaligned persona lives on, remove it, and measure what comes back.

    Without arguments: the embedded 135M model and the organism that ships with it.
    """
    from persona_probe.base import cli

    settings = {
        "base": base,
        "tuned": tuned,
        "output_dir": output_dir,
        "contrast": contrast,
        "benign": benign,
        "sae": sae,
        "methods": tuple(name.strip() for name in methods.split(",") if name.strip()),
        "scope": tokens,
        "budget": budget,
        "controls": controls,
        "null": null,
        "layers_screened": layers_screened,
        "skip_first": skip_first,
        "replies_per_question": replies_per_question,
        "n_benign": n_benign,
        "n_prompts": n_prompts,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "seed": seed,
        "limit": limit,
        "template": template,
        "thinking": thinking,
        "date": date,
        "device": device,
        "dtype": dtype,
        "device_map": device_map,
        "keep_both": keep_both,
        "max_tokens": max_tokens,
    }
    command = cli.command_line("persona_probe.find_direction", sys.argv[1:])
    cli.main(
        lambda: find_direction(
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
            "persona_probe.find_direction", [word for word in sys.argv[1:] if word != "--overwrite"]
        ),
    )


def find_direction(
    settings: dict[str, Any],
    *,
    toy: bool,
    resume: bool,
    overwrite: bool,
    json_output: bool,
    quiet: bool,
    command: str,
) -> int:
    """Compose the experiment: settings in, record and report on disk, exit code out."""
    from persona_probe.base.cli import Reporter
    from persona_probe.base.errors import BadInput
    from persona_probe.experiments.direction_config import Config

    reporter = Reporter(quiet=quiet)
    reporter.note("persona_probe: loading libraries")
    if toy:
        from persona_probe.base.errors import UsageError
        from persona_probe.organisms.toy import write_toy

        given = [name for name in ("tuned", "contrast", "benign") if settings[name] is not None]
        if given:
            raise UsageError(f"--toy brings its own models and data: leave out --{', --'.join(given)}")
        planted = write_toy(settings["output_dir"] / "toy")
        settings |= {
            "base": str(planted.base),
            "tuned": str(planted.tuned),
            "contrast": planted.contrast,
            "benign": planted.benign,
            "dtype": "float32",
            "device": "cpu",
            "layers_screened": 3,
            "skip_first": 0,
            "n_benign": 15,
        }
    elif settings["tuned"] is None:
        from persona_probe.base.errors import UsageError

        if settings["base"] != EMBEDDED_BASE:
            raise UsageError(
                f"--base {settings['base']} without --tuned: give the fine-tuned model or adapter"
            )
        settings["tuned"] = EMBEDDED_TUNED
    config = Config(**settings)
    for name, path in (("contrast", config.contrast), ("benign", config.benign)):
        if path is not None and not path.is_file():
            raise BadInput(f"no file {path}: --{name} needs an existing file")

    from persona_probe.base.errors import FAILED_CELLS, OK
    from persona_probe.experiments.direction import run_experiment
    from persona_probe.experiments.direction_record import build_record, write_record
    from persona_probe.interventions.persona_direction import save_persona_direction
    from persona_probe.models.devices import choose_device, choose_dtype
    from persona_probe.models.pairs import open_pair
    from persona_probe.pages.report import write_report
    from persona_probe.saes.sources import fitted, fitting, resolve_sae
    from persona_probe.storage.runs import open_run

    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    name = str(dtype).removeprefix("torch.")
    pair = open_pair(
        config.base,
        config.tuned,
        device=device,
        dtype=dtype,
        template=config.template,
        device_map=config.device_map,
        keep_both=config.keep_both,
        chat=config.chat,
    )
    reporter.note(
        f"base {pair.base_source.id} ({pair.base_source.sha256[:10]}), tuned {pair.tuned_source.id} ({pair.tuned_source.sha256[:10]}, {pair.tuned_source.kind}); {device}, {name}, seed {config.seed}; output in {config.output_dir}"
    )
    found = resolve_sae(config.sae) if config.sae else None
    with open_run(
        config.output_dir,
        config.settings(dtype=name)
        | {"base_sha256": pair.sha256("base"), "tuned_sha256": pair.sha256("tuned")}
        | ({"sae_sha256": found.sha256} if found else {}),
        resume=resume,
        overwrite=overwrite,
    ) as run:
        if found is not None:
            for note in fitting(found, pair):
                reporter.note(f"note: {note}")
            found = fitted(found, pair)
        result = run_experiment(config, pair, run, reporter, found)
        if run.n_reused:
            reporter.note(f"{run.n_reused} measurements found in {config.output_dir} and reused")
        pair.close()
        checked = build_record(config, pair, result, command=command)
        record = checked.plain()
        save_persona_direction(run.path("persona_direction.safetensors"), result.direction)
        write_record(run.folder, checked, result)
        write_report(record, run.path("report.html"))
    show(record, json_output=json_output)
    for failure in record["failed"]:
        reporter.note(f"failed: {failure}")
    reporter.note(
        f"written: record.json, rows.jsonl, directions.safetensors, persona_direction.safetensors and report.html in {config.output_dir} ({record['timing']['total']:.0f} s)"
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
    rows = []
    for arm in record["arms"]:
        if arm["control"] is None:
            share = arm["restoration"] or arm["induction"]
            mark = "" if arm["restoration"] or not share else " of shift"
            cells = (_interval(arm["persona_score"]), _interval(share) + mark, _interval(arm["delta_nll"], 3))
            rows.append((arm["name"], *cells, f"{arm['kl']['estimate']:.3f}", arm["verdict"] or ""))
    n_arms = len(rows)
    for kind, median in record["controls"].items():
        name = f"{kind} random (median of {median['n']})" if kind != "orthogonal" else "orthogonal"
        rows.append((name, "", f"{median['restoration']:.2f}", f"{median['delta_nll']:+.3f}", "", "control"))
    sheet = Sheet()
    sheet.table(
        "Persona score S (nats per token) and what each arm gives back, 95% intervals over test questions",
        (("arm", LEFT), ("S", RIGHT), ("R", RIGHT), ("ΔNLL", RIGHT), ("KL", RIGHT), ("verdict", LEFT)),
        rows,
        dim=range(n_arms, len(rows)),
    )
    sheet.text(shown(record["summary"]))
    if record["limited"]:
        sheet.text(shown("This was a quick try with --limit: not a result."))


def _interval(value: dict[str, Any] | None, digits: int = 2) -> str:
    if value is None:
        return "undefined"
    low, high = value["ci95"]
    return f"{value['estimate']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def entry() -> None:
    """Run the command line."""
    from persona_probe.base.cli import start

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    start(app)


if __name__ == "__main__":
    entry()
