"""The record of a run: what was asked, with what, and what came out. One writer, one reader; other programs read it."""

import importlib.metadata
import resource
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.directions.estimators import cosines
from persona_probe.experiments.checkup import chat_facts
from persona_probe.experiments.direction import Result
from persona_probe.experiments.direction_config import Config
from persona_probe.experiments.scored_rows import scored_rows
from persona_probe.measurement.arms import Arm, Measurement
from persona_probe.measurement.comparison import Comparison
from persona_probe.measurement.controls import control_kind
from persona_probe.measurement.statistics import Estimate, Verdict, null_p_value, verdict
from persona_probe.models.pairs import SIDES, Pair, Side
from persona_probe.prompts.chat import rows_key
from persona_probe.records import files
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.rows import write_rows
from persona_probe.records.sharing import shared

PACKAGES = (
    "torch",
    "transformer-lens",
    "transformers",
    "peft",
    "safetensors",
    "scikit-learn",
    "scipy",
    "sae-lens",
    "persona-probe",
)


def build_record(config: Config, pair: Pair, result: Result, *, command: str) -> DirectionRecord:
    """The record of a run; a value that does not fit its model is refused."""
    table = _Table(result, seed=config.seed, budget=config.budget)
    arms = [table.row(arm, measurement) for arm, measurement in result.arms.values()]
    chosen, form = result.chosen.candidate, result.chosen.candidate.form
    name = chosen_arm(result)
    row = next((entry for entry in arms if entry["name"] == name), None)
    if row is None:
        raise BadInput(
            f"the chosen arm could not be measured on the test questions ({'; '.join(result.failed)}): try --dtype float32"
        )
    null = table.null
    fitted, own = result.fitted, result.fitted.of(chosen.method)
    hook = fitted.hook_points.index(chosen.direction.hook_point)
    directions = fitted.json(shown=own.method, hook_point=chosen.direction.hook_point)
    quality = directions["methods"][own.method]
    selected = {
        "method": chosen.method,
        "hook_point": chosen.direction.hook_point,
        "layer": chosen.layer,
        "arm": name,
        **{name: quality[name] and quality[name][hook] for name in ("stability", "auroc")},
        "form": {
            "kind": form.kind,
            "act_on": list(form.acts_on(chosen.direction.hook_point, fitted.hook_points)),
            "coefficient": form.coefficient,
            "toward": form.toward,
            "skip_first": form.skip_first,
        },
        "budget": config.budget,
        "within_budget": row["delta_nll"]["estimate"] <= config.budget,
        "select": {
            "restoration": result.chosen.score.restoration,
            "delta_nll": result.chosen.score.delta_nll,
        },
        "p_value": None if row["restoration"] is None else null_p_value(row["restoration"]["estimate"], null),
        "p_floor": 1 / (len(null) + 1) if null else None,
        "relative_dose": table.relative_dose(abs(form.coefficient or 1.0), chosen.direction.vector, hook),
        "steering": {
            "method": result.steering.candidate.method,
            "hook_point": result.steering.candidate.direction.hook_point,
            "coefficient": result.steering.candidate.form.coefficient,
        },
    }
    record = {
        "schema": 2,
        "kind": "direction",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "limited": config.limit is not None,
        "config": config.settings(dtype=dtype_name(pair))
        | {"base": pair.base_source.id, "tuned": pair.tuned_source.id},
        "provenance": provenance(config, pair, result),
        "data": {
            "n_questions": {split: len(result.contrast.split(split)) for split in ("find", "select", "test")},
            "n_replies": sum(len(q.aligned) + len(q.misaligned) for q in result.contrast.questions),
            "n_benign": len(result.battery.benign),
            "notes": [*result.contrast.notes, *result.fitted.notes()],
        },
        "effect": table.effect.json(),
        "selected": selected,
        "summary": summary(table.effect, selected, row, table.control_medians(arms)),
        "controls": table.control_medians(arms),
        "arms": arms,
        "directions": directions,
        "search": {
            "n_questions": len(result.contrast.split("select")),
            "n_benign": result.n_select_benign,
            "candidates": [o.json(budget=config.budget, chosen=o is result.chosen) for o in result.outcomes],
        },
        "dose_response": [
            table.dose(side, dose, measurement, hook=result.steering.candidate.layer)
            for side, dose, measurement in result.doses
        ],
        "completions": result.completions,
        "paths": _paths(result, own),
        "read_replies": {
            "hook_point": chosen.direction.hook_point,
            "method": own.method,
            "replies": result.read_replies,
        },
        "failed": result.failed,
        "timing": result.timing,
        "memory": {"peak_bytes": peak_memory()},
    }
    return files.checked(DirectionRecord, shared(record, run=config.output_dir), at="the record of this run")


def chosen_arm(result: Result) -> str:
    """Name of the arm that carries the chosen candidate."""
    return "tuned+ablate" if result.chosen.candidate.form.kind == "ablate" else "tuned-steer"


def provenance(config: Config, pair: Pair, result: Result) -> dict[str, Any]:
    """What was run: weights by hash, versions, seed, device, data hashes."""
    return model_facts(pair, seed=config.seed) | {
        "prompts_sha256": result.contrast.sha256,
        "benign_sha256": rows_key(result.battery.benign),
        "engine": {side: dict(found) for side, found in result.examined.items()},
        "rows_sha256": result.battery.key,
    }


def model_facts(pair: Pair, *, seed: int) -> dict[str, Any]:
    """Both models by id and hash, versions, seed, device and dtype."""
    return {
        "base": pair.base_source.provenance(),
        "tuned": pair.tuned_source.provenance(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES if _installed(name)},
        "seed": seed,
        "device": str(pair.device),
        "dtype": dtype_name(pair),
        "chat": chat_facts(pair.tokenizer),
    }


def summary(
    effect: Estimate, selected: Mapping[str, Any], row: Mapping[str, Any], medians: Mapping[str, Any]
) -> str:
    """One sentence that reads the numbers, with control and damage in it."""
    if row["restoration"] is None:
        return f"Tuning moved the persona score by {effect.estimate:+.3f} nats per token [{effect.low:+.3f}, {effect.high:+.3f}], which covers 0: there is no effect to remove."
    r, damage_ = row["restoration"], row["delta_nll"]["estimate"]
    what = (
        "Ablating"
        if selected["form"]["kind"] == "ablate"
        else f"Steering by {selected['form']['coefficient']:+g} times"
    )
    text = f"{what} the {selected['method']} direction of {selected['hook_point']} takes back {r['estimate']:.0%} [{r['ci95'][0]:.0%}, {r['ci95'][1]:.0%}] of the persona shift at {damage_:+.3f} nats per token of damage"
    if "covariance" in medians:
        control = medians["covariance"]
        text += f"; the median covariance-matched random direction takes back {control['restoration']:.0%} at {control['delta_nll']:+.3f}"
    return f"{text}. Verdict: {row['verdict']}."


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's size at the time of the fork too
        kilobytes = next(
            line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")
        )
        return int(kilobytes) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def write_record(folder: Path, record: DirectionRecord, result: Result) -> None:
    """Write `rows.jsonl` (arm x row) and `record.json`, each atomically, the record last."""
    arms = {name: measurement for name, (_, measurement) in result.arms.items()}
    doses = [measurement for _, _, measurement in result.doses]
    write_rows(folder / "rows.jsonl", scored_rows(record, result.battery, arms, doses))
    files.write_record(folder / "record.json", record)


class _Table:
    """The arms of a result on one comparison, with the verdict of the chosen one."""

    def __init__(self, result: Result, *, seed: int, budget: float) -> None:
        self._result, self._budget = result, budget
        self._comparison = Comparison(
            result.battery.persona, {side: result.arms[side][1] for side in SIDES}, seed
        )
        self.effect = self._comparison.effect
        controls = [m for name, (_, m) in result.arms.items() if control_kind(name) == "covariance"]
        shares = [self._comparison.share("tuned", measurement) for measurement in controls]
        self.null = [share.estimate for share in shares if share]

    def row(self, arm: Arm, measurement: Measurement) -> dict[str, Any]:
        found = self._comparison.row(arm, measurement)
        # The controls are in the chosen form, so they are the null of the chosen arm and of no other.
        return (
            found | {"verdict": self._verdict(measurement)} if arm.name == chosen_arm(self._result) else found
        )

    def dose(self, side: Side, coefficient: float, measurement: Measurement, *, hook: int) -> dict[str, Any]:
        dose = self.relative_dose(abs(coefficient), self._result.steering.candidate.direction.vector, hook)
        return {
            "coefficient": coefficient,
            "relative_dose": dose,
            "side": side,
            **self._comparison.numbers(side, measurement),
        }

    def relative_dose(self, coefficient: float, vector: Tensor, hook: int) -> float:
        return coefficient * float(vector.norm()) / float(self._result.fitted.median_norm[hook])

    def control_medians(self, arms: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for kind in ("isotropic", "covariance", "shuffled", "orthogonal", "latents"):
            rows = [arm for arm in arms if arm["control"] == kind and arm["restoration"] is not None]
            if rows:
                found[kind] = {
                    "n": len(rows),
                    "restoration": float(np.median([row["restoration"]["estimate"] for row in rows])),
                    "delta_nll": float(np.median([row["delta_nll"]["estimate"] for row in rows])),
                }
        return found

    def _verdict(self, measurement: Measurement) -> Verdict:
        comparison = self._comparison
        share, cost = comparison.share("tuned", measurement), comparison.delta_nll("tuned", measurement)
        return verdict(
            effect=comparison.effect, restored=share, delta_nll=cost, budget=self._budget, null=self.null
        )


def _paths(result: Result, own: Any) -> dict[str, Any]:
    """Arms in the plane of the selected direction and a second one, per hook point."""
    hook = own.hook_points.index(result.chosen.candidate.direction.hook_point)
    axes = [result.fitted.of(method) for method in result.paths["methods"]]
    both = len(axes) == 2 and all(axis.vectors[hook].any() for axis in axes)
    return {
        "hook_points": list(own.hook_points),
        "selected": hook,
        "cosine": cosines(axes, hook)[0][1] if both else None,
        **result.paths,
    }


def dtype_name(pair: Pair) -> str:
    """The number format, without torch's prefix."""
    return str(pair.dtype).removeprefix("torch.")


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
