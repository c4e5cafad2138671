"""The record of the latent experiment: what was asked, with what, and what came out, every number finite
or None.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from persona_probe.directions.direction import DirectionSet
from persona_probe.directions.direction_file import save_directions
from persona_probe.experiments.confirmation import DirectionResult, Measured, SetTrial
from persona_probe.experiments.latent_config import LatentConfig
from persona_probe.experiments.latent_summary import summary
from persona_probe.experiments.latents import SIZES, LatentResult
from persona_probe.experiments.provenance import model_facts, record_head
from persona_probe.experiments.scored_rows import arm_rows
from persona_probe.experiments.set_verdicts import SetJudge
from persona_probe.measurement.arms import Battery, Measurement
from persona_probe.measurement.comparison import Comparison
from persona_probe.measurement.statistics import paired_difference
from persona_probe.models.pairs import Pair
from persona_probe.records import files
from persona_probe.records.latents import LatentRecord
from persona_probe.records.rows import ScoredRow, write_rows
from persona_probe.records.sharing import shared
from persona_probe.saes.contexts import histogram
from persona_probe.saes.diff import rank_correlations
from persona_probe.saes.edits import latent_direction
from persona_probe.saes.labels import ABLATED, PARTNER, TREATMENTS
from persona_probe.saes.sae import Sae
from persona_probe.saes.screen import Screened, s_rows

SPLITS = ("find", "select", "test")


def build_latent_record(
    config: LatentConfig, pair: Pair, sae: Sae, result: LatentResult, *, command: str, notes: list[str]
) -> LatentRecord:
    """The record of a run; a value that does not fit its model is refused."""
    contrast, reading, screening = result.contrast, result.reading, result.screening
    entries = _Entries(result, sae, Comparison(s_rows(result.test), result.untouched, config.seed))
    judge = SetJudge(
        entries.comparison, result.limits, n_tried=result.n_tried, limited=config.limit is not None
    )
    names, median_norm = list(reading.scores), reading.diff.tuned.median_norm
    head = record_head(config, pair, command=command)
    record = {
        **head,
        "kind": "latents",
        "config": head["config"] | {"sae": sae.id},
        "provenance": model_facts(pair, seed=config.seed)
        | {
            "sae": _sae_facts(sae),
            "prompts_sha256": contrast.sha256,
            "engine": {side: facts.plain() for side, facts in result.examined.items()},
        },
        "quality": {side: fit.json() for side, fit in reading.fit.items()},
        "data": {
            "n_questions": {split: len(contrast.split(split)) for split in SPLITS},
            "n_benign": {"select": len(result.screen.benign), "test": len(result.test.benign)},
            "n_tokens": reading.diff.tuned.n_tokens,
            "dropped": reading.diff.dropped,
            "notes": [*contrast.notes, *notes, *reading.notes],
        },
        "effect": entries.comparison.effect.plain(),
        "select_effect": screening.terms.shift.plain(),
        "budget": config.budget,
        "dose": {"relative": config.dose, "length": result.length, "median_norm": median_norm},
        "rankings": names,
        "rank_correlations": {
            "names": names,
            "matrix": rank_correlations(reading.scores, reading.diff.alive),
            "n_latents": len(reading.diff.living),
        },
        "latents": [entries.latent(screened) for screened in screening.labelled],
        "controls": [
            entries.latent(control, matched_to=latent) for latent, control in screening.controls.items()
        ],
        "n_sets_tried": result.n_tried,
        "sets": [judge.entry(item) for item in result.sets],
        "direction": [entries.direction(item) for item in result.directions],
        "agreement": {name: rebuilt.json(SIZES) for name, rebuilt in result.decompositions.items()}
        | {"overlap": entries.overlap()},
        "failed": screening.failed,
        "timing": result.timing,
        "summary": "",
    }
    plain = shared(record, run=config.output_dir)
    checked = files.checked(LatentRecord, plain, at="the record of this run")
    return checked.model_copy(update={"summary": summary(checked)})


@dataclass(frozen=True, eq=False)
class _Entries:
    """Measurements against the untouched models, in the record's form."""

    result: LatentResult
    sae: Sae
    comparison: Comparison

    def latent(self, screened: Screened, *, matched_to: int | None = None) -> dict[str, Any]:
        """One latent: how it ranks, what it does, what it means where that was read."""
        reading, reported, latent = self.result.reading, self.result.reported, screened.latent
        diff, control = reading.diff, matched_to is not None
        known = not control and latent in reported.latents
        of_label = diff.tuned.mean_of
        page = f"https://www.neuronpedia.org/{self.sae.neuronpedia_id}/{latent}"
        return {
            "latent": latent,
            "label": screened.label,
            "why": screened.why,
            "control": control,
            "matched_to": matched_to,
            "scores": {name: float(values[latent]) for name, values in reading.scores.items()},
            "ranks": {name: places[latent] for name, places in reading.rankings.items() if latent in places},
            "density": {"base": float(diff.base.density[latent]), "tuned": float(diff.tuned.density[latent])},
            "mean": {
                "base": float(diff.base.mean[latent]),
                "tuned": float(diff.tuned.mean[latent]),
                **{label: float(of_label[label][latent]) for label in ("aligned", "misaligned")},
            },
            "decoder_norm": float(diff.decoder_norm[latent]),
            "screen": {name: effect.json() for name, effect in screened.effects.items()},
            "gap": screened.facts.gap and screened.facts.gap.json(),
            "activity": screened.facts.activity.json(),
            "confirmed": self._confirmed(reported.confirmed[latent]) if known else None,
            "meaning": self._meaning(latent) if known else None,
            "neuronpedia": page if self.sae.neuronpedia_id else None,
        }

    def direction(self, item: DirectionResult) -> dict[str, Any]:
        """A single direction at the SAE's hook point."""
        direction = item.use.direction
        place = {"method": direction.method, "hook_point": direction.hook_point, "kind": item.use.kind}
        return place | self._removal(item.measurement)

    def overlap(self) -> dict[str, Any]:
        """Correlation over questions of what the chosen set and the steered mean difference do to S."""
        chosen = [item.trial.tuned[1] for item in self.result.sets if item.selected]
        single = [
            item.measurement
            for item in self.result.directions
            if (item.use.direction.method, item.use.kind) == ("mean_diff", "steer")
        ]
        n, correlation = len(self.comparison.base), None
        if chosen and single:
            moved = [self.comparison.scores(m) - self.comparison.tuned for m in (chosen[0], single[0])]
            if n > 2 and all(float(np.ptp(values)) > 0 for values in moved):
                correlation = float(np.corrcoef(moved[0], moved[1])[0, 1])
        return {"effect_correlation": correlation, "n_questions": n}

    def _removal(self, measurement: Measurement) -> dict[str, Any]:
        restored = self.comparison.share("tuned", measurement)
        return {
            "restoration": restored.plain() if restored else None,
            "delta_nll": self.comparison.delta_nll("tuned", measurement).plain(),
        }

    def _confirmed(self, measured: dict[str, Measured]) -> dict[str, Any] | None:
        """The treatments of a latent on the test questions; None when none of them gave numbers."""
        comparison, cells = self.comparison, {}
        ablated = {ABLATED.name: PARTNER.name, PARTNER.name: ABLATED.name}
        for name, (_, measurement) in measured.items():
            side = TREATMENTS[name].side
            before = comparison.base if side == "base" else comparison.tuned
            change = paired_difference(comparison.scores(measurement), before, seed=comparison.seed)
            partner = measured.get(ablated.get(name, ""))
            numbers = comparison.numbers(side, measurement, partner=partner and partner[1])
            shown = ("restoration", "induction", "closure", "delta_nll", "kl")
            cells[name] = {"delta_s": change.plain()} | {key: numbers[key] for key in shown}
        return cells or None

    def _meaning(self, latent: int) -> dict[str, Any]:
        reported = self.result.reported
        base, tuned = reported.firing["base"], reported.firing["tuned"]
        return {
            **{end: [list(token) for token in tokens] for end, tokens in reported.lens[latent].items()},
            "examples": {
                side: [context.json() for context in firing.contexts[latent]]
                for side, firing in (("base", base), ("tuned", tuned))
            },
            "histogram": histogram(base.acts[latent], tuned.acts[latent]),
        }


def _sae_facts(sae: Sae) -> dict[str, Any]:
    names = ("id", "hook_point", "d_sae", "architecture", "model_name", "sha256", "neuronpedia_id")
    return {name: getattr(sae, name) for name in names}


def write_latent_outputs(folder: Path, record: LatentRecord, result: LatentResult, sae: Sae) -> None:
    """Write the reported latents as directions, which every command takes, then `rows.jsonl` and
    `latents.json`."""
    directions = [latent_direction(sae, latent, length=result.length) for latent in result.reported.latents]
    if directions:
        sets = [
            DirectionSet(
                method=direction.method, hook_points=(direction.hook_point,), vectors=direction.vector[None]
            )
            for direction in directions
        ]
        facts = {
            "sae": record.provenance.sae.plain(),
            "find_questions": result.contrast.hashes("find"),
            "select_questions": result.contrast.hashes("select"),
            "median_norm": [result.reading.diff.tuned.median_norm],
        }
        save_directions(folder / "directions.safetensors", sets, metadata=facts)
    write_rows(folder / "rows.jsonl", latent_rows(result))
    files.write_record(folder / "latents.json", record)


def latent_rows(result: LatentResult) -> Iterator[ScoredRow]:
    """Every arm on the test questions, reply by reply: `base`, `tuned`, `steer 5` for a set of latents and
    `matched steer 5` for its matched ones (numbered beside the chosen set), `base: steer 5` for the same on
    base, `mean_diff steer` for single directions, `tuned-steer 301` for a reported latent.
    """
    for side, measurement in result.untouched.items():
        yield from arm_rows(result.test, measurement, arm=side, model=side, edited=False)
    for item in result.sets:
        name = f"{item.chosen.kind} {item.chosen.k}"
        yield from _set_rows(result.test, item.trial, name)
        for number, one in enumerate(item.matched, start=1):
            counted = f" {number}" if item.selected else ""
            yield from _set_rows(result.test, one, f"matched {name}{counted}")
    for item in result.directions:
        name = f"{item.use.direction.method} {item.use.kind}"
        yield from arm_rows(result.test, item.measurement, arm=name, model="tuned")
    for measured in result.reported.confirmed.values():
        for arm, measurement in measured.values():
            yield from arm_rows(result.test, measurement, arm=arm.name, model=arm.side, edit=arm.edit)


def _set_rows(test: Battery, trial: SetTrial, name: str) -> Iterator[ScoredRow]:
    for arm, measurement in trial.both:
        prefix = "base: " if arm.side == "base" else ""
        yield from arm_rows(
            test, measurement, arm=f"{prefix}{name}", model=arm.side, edit=arm.edit, control=arm.control
        )
