"""python -m persona_probe.find_direction: find the persona direction of a model pair and test it causally."""

from typing import TYPE_CHECKING, Any

from persona_probe.base.command import Call, Command
from persona_probe.base.formatting import interval, number, signed
from persona_probe.experiments.direction_config import Config
from persona_probe.experiments.options import Start, check_layers, need_files, refuse_with_toy, with_tuned

if TYPE_CHECKING:
    from persona_probe.base.printing import Sheet
    from persona_probe.models.pairs import Pair
    from persona_probe.records.arms import ArmNumbers
    from persona_probe.records.direction import DirectionRecord
    from persona_probe.saes.sae import Sae

# Nothing here may import torch: --help and usage errors answer at once.
TOY_SETTINGS: dict[str, Any] = {"layers_screened": 3, "skip_first": 0, "n_benign": 15}
WRITTEN = "record.json, rows.jsonl, directions.safetensors, persona_direction.safetensors and report.html"


def find_direction(config: Config, start: Start, call: Call) -> int:
    """Find the direction that a misaligned persona lives on, remove it, and measure what comes back.

    Without arguments: the embedded 135M model and the organism that ships with it.
    """
    brought = ("base", "tuned", "twin", "contrast", "benign")
    config = refuse_with_toy(config, *brought) if start.toy else with_tuned(config)
    need_files(config)
    call.reporter.note("persona_probe: loading libraries")

    from persona_probe.experiments.closing import closed
    from persona_probe.experiments.opening import on_toy, open_models
    from persona_probe.saes.sources import resolve_sae

    sae = resolve_sae(config.sae) if config.sae else None
    config = on_toy(config, **TOY_SETTINGS)[0] if start.toy else config
    pair = open_models(config, keep_both=config.keep_both)
    record = experiment(config, pair, sae, start, call)
    return closed(record, show, written=WRITTEN, config=config, start=start, call=call)


def experiment(
    config: Config, pair: "Pair", sae: "Sae | None", start: Start, call: Call
) -> "DirectionRecord":
    """Run the experiment on an open pair and write its folder; gives the record."""
    from persona_probe.experiments.direction import run_experiment
    from persona_probe.experiments.direction_record import build_record, write_record
    from persona_probe.experiments.opening import described, open_folder
    from persona_probe.interventions.persona_direction import save_persona_direction
    from persona_probe.pages.report import write_report
    from persona_probe.saes.sources import fitted, fitting

    check_layers(config.layers, pair.n_layers)
    note = call.reporter.note
    note(described(pair, config))
    with open_folder(config, pair, sae, start, call) as run:
        if sae is not None:
            for line in fitting(sae, pair):
                note(f"note: {line}")
            sae = fitted(sae, pair)
        result = run_experiment(config, pair, run, call.reporter, sae)
        pair.close()
        record = build_record(config, pair, result, command=call.command)
        save_persona_direction(run.path("persona_direction.safetensors"), result.direction)
        write_record(run.folder, record, result)
        write_report(record, run.path("report.html"))
    return record


def show(sheet: "Sheet", record: "DirectionRecord") -> None:
    """The arms in a table, the medians of their controls, and the verdicts with the rule behind each."""
    from persona_probe.base.cli import shown
    from persona_probe.base.printing import LEFT, RIGHT
    from persona_probe.records.displaced import displacement_note

    rows = [(arm.name, *_cells(arm), arm.verdict or "") for arm in record.arms if arm.control is None]
    rows += [(entry.name, *_cells(entry), "no removal") for entry in record.comparators]
    n_arms = len(rows)
    for kind, median in record.controls.items():
        what = "contrast" if kind in ("unrelated", "style") else "random"
        name = f"{kind} {what} (median of {median.n})"  # short words: a table of 80 columns has room
        closed = "" if median.closure is None else number(median.closure)
        kl = "" if median.kl is None else number(median.kl, digits=3)
        rows.append((name, "", number(median.restoration), closed, signed(median.delta_nll), kl, "control"))
    sheet.table(
        "Persona score S (nats per token) and what each arm gives back, 95% intervals over test questions",
        (
            ("arm", LEFT),
            ("S", RIGHT),
            ("R", RIGHT),
            ("C", RIGHT),
            ("ΔNLL", RIGHT),
            ("KL", RIGHT),
            ("verdict", LEFT),
        ),
        rows,
        dim=range(n_arms, len(rows)),
    )
    for arm in record.arms:
        if arm.judged:
            sheet.text(shown(f"{arm.name}: {arm.judged.verdict}. {arm.judged.because}."))
    for arm in (record.untouched("tuned"), record.arm(record.selected.arm)):
        if arm and arm.health:
            sheet.text(shown(f"replies of {arm.name}: {arm.health.phrase}."))
    if moved := displacement_note(record):
        sheet.text(moved)


def _cells(arm: "ArmNumbers") -> tuple[str, str, str, str, str]:
    """S, the share of the shift, C, ΔNLL and KL of a row of the table."""
    mark = " of shift" if arm.induction and not arm.restoration else ""
    return (
        interval(arm.persona_score, sign=True),
        interval(arm.restoration or arm.induction, sign=True, missing="undefined") + mark,
        interval(arm.closure, sign=True, missing=""),
        interval(arm.delta_nll, digits=3, sign=True),
        number(arm.kl.estimate, digits=3),
    )


COMMAND = Command(find_direction)

if __name__ == "__main__":
    COMMAND.start()
