"""python -m persona_probe.diff_latents: which SAE latents changed, which cause the persona, what they
mean."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from persona_probe.base.command import Call, Command
from persona_probe.base.formatting import interval, number, signed
from persona_probe.experiments.latent_config import LatentConfig
from persona_probe.experiments.options import Start, need_files, refuse_with_toy, with_tuned

if TYPE_CHECKING:
    from persona_probe.base.printing import Sheet
    from persona_probe.models.pairs import Pair
    from persona_probe.records.latent_sets import LatentSet
    from persona_probe.records.latents import LatentRecord
    from persona_probe.saes.sae import Sae

# Nothing here may import torch: --help and usage errors answer at once.
WRITTEN = "latents.json, rows.jsonl, directions.safetensors and latents.html"
TOY_SETTINGS: dict[str, Any] = {"skip_first": 0, "n_benign": 12, "n_latents": 24, "n_screen_benign": 6}
TOY_SETTINGS["dose"] = 0.1732  # the planted vector's length over the median length of the toy's stream


def diff_latents(config: LatentConfig, start: Start, call: Call) -> int:
    """Rank the latents of an SAE by what fine-tuning changed, test each one causally, and read what they
    mean.

    Without arguments: the embedded model, the organism and the SAE that ship with it.
    """
    brought = ("base", "tuned", "sae", "contrast", "benign")
    config = refuse_with_toy(config, *brought) if start.toy else with_tuned(config)
    need_files(config)
    call.reporter.note("persona_probe: loading libraries")

    from persona_probe.experiments.closing import closed
    from persona_probe.experiments.opening import on_toy, open_models
    from persona_probe.organisms.toy import write_toy_sae
    from persona_probe.saes.sources import resolve_sae

    if start.toy:
        config, toy = on_toy(config, **TOY_SETTINGS)
        config = replace(config, sae=str(write_toy_sae(config.output_dir / "toy", toy)))
    sae = resolve_sae(config.sae)
    record = experiment(config, open_models(config), sae, start, call)
    return closed(record, show, written=WRITTEN, config=config, start=start, call=call)


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


def show(sheet: "Sheet", record: "LatentRecord") -> None:
    """The latents that do something, and the sets of them beside matched ones."""
    from persona_probe.base.printing import LEFT, RIGHT
    from persona_probe.records.latents import ARMS

    active = [(latent, latent.screen) for latent in record.latents if latent.label != "inert"]
    rows = []
    for latent, screen in sorted(active, key=lambda item: min(cell.q for cell in item[1].values()))[:20]:
        changes = [signed(screen[name].delta_s) if name in screen else "" for name in ARMS]
        worst = max((cell.delta_nll for cell in screen.values()), key=abs)
        closed = signed(latent.gap.closed.estimate) if latent.gap else ""
        rose = signed(latent.activity.change.estimate) if latent.activity else ""
        q = number(min(cell.q for cell in screen.values()), digits=3)
        rows.append((str(latent.latent), latent.label, *changes, closed, rose, signed(worst), q))
    more = ("gap closed", "activity", "largest ΔNLL", "least q")
    sheet.table(
        "Change of S on the select questions (nats per token) and of activity, latents that do something",
        (("latent", RIGHT), ("label", LEFT), *((name, RIGHT) for name in (*ARMS, *more))),
        rows,
    )
    sets = [set_row(item) for item in record.sets]
    matched = ("matched sets", "their R", "their C", "their ΔNLL")
    columns = ("k", "used as", "R", "C", "ΔNLL", *matched, "")
    sheet.table("Sets of latents on the test questions", [(name, RIGHT) for name in columns], sets)


def set_row(item: "LatentSet") -> tuple[str, ...]:
    """A set with its matched sets, in the order of the terminal's columns."""
    control = item.control
    matched = ("", "", "", "")
    if control is not None:
        shares = (control.restoration, control.closure)
        written = ["" if share is None else number(share, sign=True) for share in shares]
        matched = (str(control.n), *written, signed(control.delta_nll))
    return (
        str(item.k),
        item.kind,
        interval(item.restoration, sign=True, missing="undefined"),
        interval(item.closure, sign=True, missing=""),
        signed(item.delta_nll.estimate),
        *matched,
        "chosen" if item.selected else "",
    )


COMMAND = Command(diff_latents)

if __name__ == "__main__":
    COMMAND.start()
