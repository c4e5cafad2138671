"""The record of a run: what was asked, with what, and what came out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.formatting import number, percent
from persona_probe.directions.direction import cosines
from persona_probe.experiments.comparators import comparator_entries
from persona_probe.experiments.direction import Result
from persona_probe.experiments.direction_config import Config
from persona_probe.experiments.direction_sides import Dose, untouched
from persona_probe.experiments.direction_summary import summary
from persona_probe.experiments.displaced import displacements
from persona_probe.experiments.judging import Judge
from persona_probe.experiments.noise import HOW
from persona_probe.experiments.provenance import model_facts, record_head
from persona_probe.experiments.rank_curve import rank_record
from persona_probe.experiments.scored_rows import scored_rows
from persona_probe.experiments.skill import skill_entries
from persona_probe.measurement.arms import Measurement
from persona_probe.measurement.choice import N_DRAWS
from persona_probe.measurement.comparison import partners
from persona_probe.measurement.statistics import control_medians
from persona_probe.models.pairs import Pair
from persona_probe.prompts.rows import rows_key
from persona_probe.records import files
from persona_probe.records.arms import ArmEntry
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.rows import write_rows
from persona_probe.records.sharing import shared

NOISY = 0.1  # share of the shift from which numerical noise is worth a note
STABLE = 0.8  # share of the draws of select questions that must reach a verdict


def build_record(config: Config, pair: Pair, result: Result, *, command: str) -> DirectionRecord:
    """The record of a run.

    BadInput when the chosen arm could not be measured, or a value does not fit its model.
    """
    if result.chosen.name not in result.arms:
        raise BadInput(
            "the chosen arm could not be measured on the test questions "
            f"({'; '.join(result.failed)}): try --dtype float32"
        )
    table = _Table(result, config)
    moved = displacements(result.selection, result.fitted, result.winners, result.contrast)
    arms = [
        table.judge.entry(name).model_copy(update={"displacement": moved.get(name)}) for name in result.arms
    ]
    chosen = next(entry for entry in arms if entry.name == result.chosen.name)
    record = {
        **record_head(config, pair, command=command),
        "kind": "direction",
        "provenance": _provenance(config, pair, result),
        "data": _data(result, table.noise()),
        "effect": table.judge.comparison.effect.plain(),
        "style_effect": style.plain() if (style := table.judge.comparison.style_effect) else None,
        "selected": table.selected(chosen),
        "summary": "",
        "controls": control_medians(
            [arm for arm in arms if arm.control_of in (None, chosen.name)], below_dose=result.below_dose
        ),
        "arms": arms,
        "directions": table.directions,
        "search": {
            "n_questions": len(result.contrast.split("select")),
            "n_benign": result.n_select_benign,
            "candidates": [
                outcome.json(limits=result.limits["select"], chosen=outcome is result.selection.chosen)
                for outcome in result.selection.outcomes
            ],
            "again": table.again(arms),
        },
        "dose_response": [table.dose(dose) for dose in result.doses],
        "completions": result.completions,
        "paths": _paths(result),
        "read_replies": {
            "hook_point": result.direction.hook_point,
            "method": result.direction.method,
            "replies": result.projected,
        },
        "writes": table.writes(),
        "noise": table.noise(),
        "comparators": comparator_entries(result.remedies.measured, table.judge.comparison),
        "failed": result.failed,
        "timing": result.timing,
    }
    plain = shared(record, run=config.output_dir)
    checked = files.checked(DirectionRecord, plain, at="the record of this run")
    return checked.model_copy(update={"summary": summary(checked, chosen)})


def write_record(folder: Path, record: DirectionRecord, result: Result) -> None:
    """Write `rows.jsonl` (arm x row, doses and comparators included) and `record.json`, each in one step, the
    record last."""
    doses = [(dose.arm, dose.measurement) for dose in result.doses]
    rows = scored_rows(record, result.battery, result.arms, doses, result.remedies.measured)
    write_rows(folder / "rows.jsonl", rows)
    files.write_record(folder / "record.json", record)


@dataclass(frozen=True, eq=False)
class _Table:
    """The arms of a result beside both untouched models, with what the record says of the chosen one."""

    result: Result
    config: Config

    @cached_property
    def judge(self) -> Judge:
        result = self.result
        ablation, steering = "tuned+ablate", "tuned-steer"
        null_of = {ablation: ablation, steering: steering}
        for arm in result.winners:
            edits = {item["kind"] for item in arm.describe()["interventions"]}
            null_of.setdefault(arm.name, ablation if edits == {"ablate"} else steering)
        return Judge(
            arms=result.arms,
            rows=result.battery.persona,
            control_rows=result.control_battery.persona,
            clean=untouched(result.arms),
            limits=result.limits["test"],
            skill=skill_entries(result.skill, result.skilled, seed=self.config.seed),
            health=result.health,
            own_limits=result.limits.get("own", result.limits["test"]),
            limited=self.config.limit is not None,
            n_tried=result.selection.n_directions,
            null_of={name: of for name, of in null_of.items() if name in result.arms},
            seed=self.config.seed,
        )

    @cached_property
    def partners(self) -> Mapping[str, Measurement]:
        """By name of an arm or a dose, the measurement of the same edit on the other model."""
        doses = [(dose.arm, dose.measurement) for dose in self.result.doses]
        return partners([*self.result.arms.values(), *doses])

    @cached_property
    def directions(self) -> dict[str, Any]:
        direction = self.result.direction
        return self.result.fitted.json(shown=direction.method, hook_point=direction.hook_point)

    def writes(self) -> dict[str, Any] | None:
        """What tuning writes and what its removal does, on the rows of the controls."""
        result, judge = self.result, self.judge
        sets = result.fitted.sets
        return rank_record(result.curve, result.curve_measured, judge.on_control_rows, sets)

    def noise(self) -> dict[str, Any]:
        """Numerical noise beside the shift."""
        largest, effect = self.result.noise["largest"], self.judge.comparison.effect
        return {
            "largest": largest,
            "of_shift": largest / effect.estimate if effect.low > 0 else None,
            "how": HOW,
        }

    def again(self, arms: Sequence[ArmEntry]) -> dict[str, Any]:
        """The choice made again: who wins, with which verdict, and how often each verdict is reached."""
        selection = self.result.selection
        by_name = {arm.name: arm for arm in arms}
        carried = dict(zip(map(id, selection.winners), self.result.winners, strict=True))
        winners, reached = [], dict[str, float]()
        for i, share in selection.choice.wins.items():
            arm = carried.get(id(selection.outcomes[i]))
            entry = by_name.get(arm.name) if arm else None
            verdict = entry.verdict if entry else None
            winners.append({"candidate": i, "share": share, "arm": entry and entry.name, "verdict": verdict})
            if verdict:
                reached[verdict] = reached.get(verdict, 0.0) + share
        own = by_name[self.result.chosen.name].verdict
        return {
            "n_draws": N_DRAWS,
            "winners": winners,
            "verdicts": {verdict: min(1.0, share) for verdict, share in reached.items()},
            "stable": own is not None and reached.get(own, 0.0) >= STABLE,
        }

    def dose(self, dose: Dose) -> dict[str, Any]:
        steering = self.result.selection.steering.candidate
        return {
            "coefficient": dose.coefficient,
            "relative_dose": self.relative_dose(dose.coefficient, steering.direction.vector, steering.layer),
            "side": dose.side,
            **self.judge.comparison.numbers(
                dose.side, dose.measurement, partner=self.partners.get(dose.arm.name)
            ),
        }

    def relative_dose(self, coefficient: float, vector: Tensor, hook: int) -> float:
        """The length of an edit in units of the median length of the stream at a hook point."""
        return abs(coefficient) * float(vector.norm()) / float(self.result.fitted.median_norm[hook])

    def selected(self, arm: ArmEntry) -> dict[str, Any]:
        """What was selected, with what made it so; `arm` is the arm that carries it."""
        selection = self.result.selection
        null = arm.judged and arm.judged.null
        chosen, steering = selection.chosen.candidate, selection.steering.candidate
        form, hook_point = chosen.form, chosen.direction.hook_point
        hook = self.result.fitted.hook_points.index(hook_point)
        quality = self.directions["methods"][chosen.method]
        return {
            "method": chosen.method,
            "hook_point": hook_point,
            "layer": chosen.layer,
            "arm": arm.name,
            **{name: quality[name] and quality[name][hook] for name in ("stability", "auroc")},
            "form": {
                "kind": form.kind,
                "act_on": list(form.acts_on(hook_point, self.result.fitted.hook_points)),
                "coefficient": form.coefficient,
                "toward": form.toward,
                "skip_first": form.skip_first,
                "where": form.where,
                "strength": form.strength if form.kind == "ablate" else None,
                "oblique": form.oblique,
            },
            "budget": self.config.budget,
            "within_budget": all(cost.within for cost in self.judge.costs(arm)),
            "select": {
                "restoration": selection.chosen.score.restoration,
                "delta_nll": selection.chosen.score.delta_nll,
            },
            "p_value": null and null.restoration_p,
            "p_floor": 1 / (null.n + 1) if null else None,
            "relative_dose": self.relative_dose(form.coefficient or 1.0, chosen.direction.vector, hook),
            "steering": {
                "method": steering.method,
                "hook_point": steering.direction.hook_point,
                "coefficient": steering.form.coefficient,
            },
        }


def _provenance(config: Config, pair: Pair, result: Result) -> dict[str, Any]:
    """What was run: weights by hash, versions, seed, device, data hashes."""
    return model_facts(pair, seed=config.seed) | {
        "prompts_sha256": result.contrast.sha256,
        "benign_sha256": rows_key(result.battery.benign),
        "engine": {side: facts.plain() for side, facts in result.examined.items()},
        "rows_sha256": result.battery.key,
    }


def _data(result: Result, noise: Mapping[str, Any]) -> dict[str, Any]:
    contrast = result.contrast
    notes = [*contrast.notes, *result.fitted.notes(), *result.remedies.notes]
    if noise["of_shift"] is not None and noise["of_shift"] > NOISY:
        notes.append(
            f"numerical noise moves S by up to {number(noise['largest'], digits=3)} nats per token, "
            f"{percent(noise['of_shift'])} of the shift: run again with --dtype float32"
        )
    return {
        "n_questions": {split: len(contrast.split(split)) for split in ("find", "select", "test")},
        "n_replies": sum(len(q.aligned) + len(q.misaligned) for q in contrast.questions),
        "n_benign": len(result.battery.benign),
        "notes": notes,
    }


def _paths(result: Result) -> dict[str, Any]:
    """Arms in the plane of the selected direction and a second one, per hook point."""
    axes, hook = result.plane.axes, result.plane.hook
    both = len(axes) == 2 and all(axis.vectors[hook].any() for axis in axes)
    return {
        "hook_points": list(axes[0].hook_points),
        "selected": hook,
        "cosine": cosines(axes, hook)[0][1] if both else None,
        "methods": [axis.method for axis in axes],
        "arms": result.paths,
    }
