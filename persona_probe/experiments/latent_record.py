"""The record of the latent experiment: what was asked, with what, and what came out, every number finite or None."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import DirectionSet
from persona_probe.directions.direction_file import save_directions
from persona_probe.experiments.confirmation import SetResult
from persona_probe.experiments.latent_config import LatentConfig
from persona_probe.experiments.latents import SIZES, LatentResult
from persona_probe.experiments.provenance import dtype_name, model_facts, peak_memory
from persona_probe.measurement.arms import Measurement
from persona_probe.measurement.comparison import Comparison
from persona_probe.measurement.statistics import paired_difference
from persona_probe.models.pairs import SIDES, Pair, Side
from persona_probe.records import files
from persona_probe.records.latents import LatentRecord
from persona_probe.records.sharing import shared
from persona_probe.saes.contexts import histogram
from persona_probe.saes.diff import rank_correlations
from persona_probe.saes.edits import latent_direction
from persona_probe.saes.sae import Sae
from persona_probe.saes.screen import ARMS, Screened, s_rows


def build_latent_record(
    config: LatentConfig, pair: Pair, sae: Sae, result: LatentResult, *, command: str, notes: list[str]
) -> LatentRecord:
    """The record of a run; a value that does not fit its model is refused."""
    table = _Table(result, seed=config.seed)
    names = list(result.scores)
    sets = [table.set(found) for found in result.sets]
    directions = [table.direction(*found) for found in result.directions]
    record = {
        "schema": 2,
        "kind": "latents",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "limited": config.limit is not None,
        "config": config.settings(dtype=dtype_name(pair))
        | {"base": pair.base_source.id, "tuned": pair.tuned_source.id, "sae": sae.id},
        "provenance": model_facts(pair, seed=config.seed)
        | {
            "sae": _sae_facts(sae),
            "prompts_sha256": result.contrast.sha256,
            "engine": {side: dict(found) for side, found in result.examined.items()},
        },
        "quality": {side: found.json() for side, found in result.fit.items()},
        "data": {
            "n_questions": {split: len(result.contrast.split(split)) for split in ("find", "select", "test")},
            "n_benign": {"select": len(result.screen.benign), "test": len(result.test.benign)},
            "n_tokens": result.diff.tuned.n_tokens,
            "notes": [*result.contrast.notes, *notes],
        },
        "effect": table.effect.json(),
        "budget": config.budget,
        "dose": {
            "relative": config.dose,
            "length": result.length,
            "median_norm": result.diff.tuned.median_norm,
        },
        "rankings": names,
        "rank_correlations": {
            "names": names,
            "matrix": rank_correlations(result.scores, result.diff.alive),
            "n_latents": int(result.diff.alive.sum()),
        },
        "latents": [table.latent(found, sae) for found in result.screened],
        "controls": [
            table.latent(found, sae, matched_to=latent) for latent, found in result.controls.items()
        ],
        "sets": sets,
        "direction": directions,
        "agreement": {name: found.json(SIZES) for name, found in result.decompositions.items()}
        | {"overlap": table.overlap()},
        "failed": result.failed,
        "timing": result.timing,
        "memory": {"peak_bytes": peak_memory()},
    }
    record["summary"] = summary(record)
    return files.checked(LatentRecord, shared(record, run=config.output_dir), at="the record of this run")


def summary(record: Mapping[str, Any]) -> str:
    """One paragraph of verdict, computed from the numbers."""
    labels = [found["label"] for found in record["latents"]]
    effect = record["effect"]
    parts = [
        f"Tuning moved S by {effect['estimate']:+.3f} [{effect['ci95'][0]:+.3f}, {effect['ci95'][1]:+.3f}] nats per token on the test questions.",
        f"Of {len(labels)} latents screened, {labels.count('carries')} carry the persona (both ways), {labels.count('protective')} hold it down, {labels.count('one-way')} work one way only, {labels.count('inert')} are inert and {labels.count('harmful')} do damage; of {len(record['controls'])} matched controls, {sum(found['label'] != 'inert' for found in record['controls'])} are not inert.",
    ]
    best = next((found for found in record["sets"] if found["selected"]), None)
    if best is None:
        parts.append("No set of latents could be formed.")
    elif best["restoration"] is None:
        parts.append("There is no shift to restore: its interval covers 0.")
    else:
        r, control = best["restoration"], best["control"]
        what = "Steering against" if best["kind"] == "steer" else "Ablating"
        parts.append(
            f"{what} the {best['k']} chosen latents takes back {r['estimate']:.0%} [{r['ci95'][0]:.0%}, {r['ci95'][1]:.0%}] at {best['delta_nll']['estimate']:+.3f} nats per token of damage"
            + (
                f"; matched latents used alike take back {control['restoration']:.0%} at {control['delta_nll']:+.3f}."
                if control and control["restoration"] is not None
                else "."
            )
        )
    beside = [
        found
        for found in record["direction"]
        if found["restoration"] and found["method"] == "mean_diff" and found["kind"] == "steer"
    ]
    if beside:
        parts.append(
            f"The single mean difference, steered at the same layer, takes back {beside[0]['restoration']['estimate']:.0%} at {beside[0]['delta_nll']['estimate']:+.3f}."
        )
    rebuilt = record["agreement"]["mean_diff"]
    if 10.0 in rebuilt["k"]:
        at = rebuilt["k"].index(10.0)
        parts.append(
            f"Ten decoder rows rebuild {rebuilt['explained'][at]:.0%} of the squared length of the mean difference, ten random ones {rebuilt['random'][at]:.0%}."
        )
    overlap = record["agreement"]["overlap"]["effect_correlation"]
    if overlap is not None:
        parts.append(
            f"Question by question, the effects of the set and of the mean difference correlate at {overlap:+.2f}."
        )
    base, tuned = (record["quality"][side]["fvu"] for side in ("base", "tuned"))
    if tuned > 1.1 * base:
        parts.append(
            f"The SAE fits the tuned model worse than the base (unexplained variance {tuned:.2f} against {base:.2f}): latents may miss part of the change."
        )
    return " ".join(parts)


class _Table:
    """Measurements against their references."""

    def __init__(self, result: LatentResult, *, seed: int) -> None:
        self._result, self._seed = result, seed
        clean: dict[Side, Measurement] = {side: result.clean[f"test {side}"] for side in SIDES}
        self._comparison = Comparison(s_rows(result.test), clean, seed)
        self.effect = self._comparison.effect

    def latent(self, found: Screened, sae: Sae, *, matched_to: int | None = None) -> dict[str, Any]:
        """One latent: how it ranks, what it does, what it means where that was read."""
        result, latent, diff = self._result, found.latent, self._result.diff
        confirmed = result.confirmed.get(latent) if matched_to is None else None
        reported = matched_to is None and latent in result.reported
        return {
            "latent": latent,
            "label": found.label,
            "why": found.why,
            "control": matched_to is not None,
            "matched_to": matched_to,
            "scores": {name: float(values[latent]) for name, values in result.scores.items()},
            "ranks": {
                name: ranking[latent] for name, ranking in result.rankings.items() if latent in ranking
            },
            "density": {"base": float(diff.base.density[latent]), "tuned": float(diff.tuned.density[latent])},
            "mean": {
                "base": float(diff.base.mean[latent]),
                "tuned": float(diff.tuned.mean[latent]),
                **{label: float(diff.tuned.mean_of[label][latent]) for label in ("aligned", "misaligned")},
            },
            "decoder_norm": float(diff.decoder_norm[latent]),
            "screen": {name: effect.json() for name, effect in found.effects.items()},
            "confirmed": {name: self._confirmed(name, m) for name, m in confirmed.items()}
            if confirmed
            else None,
            "meaning": self._meaning(latent) if reported else None,
            "neuronpedia": f"https://www.neuronpedia.org/{sae.neuronpedia_id}/{latent}"
            if sae.neuronpedia_id
            else None,
        }

    def set(self, found: SetResult) -> dict[str, Any]:
        """A set of latents beside the same use of their controls."""
        own, control = self._removal(found.measurement), None
        if found.control is not None and not found.control.failed:
            other = self._removal(found.control)
            control = {
                "restoration": other["restoration"] and other["restoration"]["estimate"],
                "delta_nll": other["delta_nll"]["estimate"],
                "n": 1,
            }
        return {
            "k": found.chosen.k,
            "kind": found.chosen.kind,
            "latents": list(found.chosen.signs),
            "signs": list(found.chosen.signs.values()),
            "dose": found.chosen.dose,
            "selected": found.selected,
            "control": control,
            **own,
        }

    def direction(self, method: str, kind: str, measurement: Measurement) -> dict[str, Any]:
        """The single direction at the SAE's hook point."""
        hook_point = HookPoint(self._result.layer)
        return {"method": method, "hook_point": hook_point, "kind": kind, **self._removal(measurement)}

    def overlap(self) -> dict[str, Any]:
        """Correlation over questions of what the chosen set and the steered mean difference do to S."""
        chosen = next((found.measurement for found in self._result.sets if found.selected), None)
        single = next(
            (m for method, kind, m in self._result.directions if method == "mean_diff" and kind == "steer"),
            None,
        )
        n = len(self._comparison.base)
        if chosen is None or single is None:
            return {"effect_correlation": None, "n_questions": n}
        moved = [self._comparison.scores(m) - self._comparison.tuned for m in (chosen, single)]
        known = n > 2 and all(float(np.ptp(values)) > 0 for values in moved)
        return {
            "effect_correlation": float(np.corrcoef(moved[0], moved[1])[0, 1]) if known else None,
            "n_questions": n,
        }

    def _removal(self, measurement: Measurement) -> dict[str, Any]:
        r = self._comparison.share("tuned", measurement)
        return {
            "restoration": r.json() if r else None,
            "delta_nll": self._comparison.delta_nll("tuned", measurement).json(),
        }

    def _confirmed(self, name: str, measurement: Measurement) -> dict[str, Any]:
        side, comparison = ARMS[name], self._comparison
        clean = comparison.base if side == "base" else comparison.tuned
        share = comparison.share(side, measurement)
        return {
            "delta_s": paired_difference(comparison.scores(measurement), clean, seed=self._seed).json(),
            "restoration": share.json() if share and side == "tuned" else None,
            "induction": share.json() if share and side == "base" else None,
            "delta_nll": comparison.delta_nll(side, measurement).json(),
        }

    def _meaning(self, latent: int) -> dict[str, Any]:
        base, tuned = self._result.firing["base"], self._result.firing["tuned"]
        lens = {
            name: [[token, value] for token, value in tokens]
            for name, tokens in self._result.lens[latent].items()
        }
        examples = {
            side: [context.json() for context in found.contexts[latent]]
            for side, found in (("base", base), ("tuned", tuned))
        }
        return {**lens, "examples": examples, "histogram": histogram(base.acts[latent], tuned.acts[latent])}


def _sae_facts(sae: Sae) -> dict[str, Any]:
    return {
        "id": sae.id,
        "hook_point": sae.hook_point,
        "d_sae": sae.d_sae,
        "architecture": sae.architecture,
        "model_name": sae.model_name,
        "sha256": sae.sha256,
        "neuronpedia_id": sae.neuronpedia_id,
    }


def write_latent_outputs(folder: Path, record: LatentRecord, result: LatentResult, sae: Sae) -> None:
    """Write the reported latents as directions, which every command takes, and `latents.json` last; each in one step."""
    if result.reported:
        found = [latent_direction(sae, latent, length=result.length) for latent in result.reported]
        sets = [
            DirectionSet(
                method=direction.method, hook_points=(direction.hook_point,), vectors=direction.vector[None]
            )
            for direction in found
        ]
        facts = {
            "sae": record.provenance.sae.plain(),
            "find_questions": result.contrast.hashes("find"),
            "select_questions": result.contrast.hashes("select"),
            "median_norm": [result.diff.tuned.median_norm],
        }
        save_directions(folder / "directions.safetensors", sets, metadata=facts)
    files.write_record(folder / "latents.json", record)
