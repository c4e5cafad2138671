"""What a run selected, as a persona direction that other prompts can be steered with."""

from collections.abc import Mapping
from typing import Any

from persona_probe.experiments.direction import Result
from persona_probe.experiments.direction_config import Config
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.models.pairs import Pair


def selected_direction(
    config: Config, pair: Pair, result: Result, record: Mapping[str, Any]
) -> PersonaDirection:
    """The selected method's vectors at every layer, both forms, and the damage of every dose that was measured."""
    fitted, chosen = result.fitted, result.chosen
    own = fitted.of(chosen.candidate.method)
    return PersonaDirection(
        own.method,
        own.hook_points,
        chosen.candidate.direction.hook_point,
        own.vectors,
        result.matched,
        fitted.base_mean,
        tuple(fitted.median_norm.tolist()),
        fitted.group_means(own.method),
        result.ablation.candidate.form,
        result.steering.candidate.form,
        config.budget,
        tuple(
            (dose["side"], dose["coefficient"], dose["delta_nll"]["estimate"])
            for dose in record["dose_response"]
        ),
        {
            "base": pair.base_source.id,
            "tuned": pair.tuned_source.id,
            "base_sha256": pair.weights_sha256("base"),
            "tuned_sha256": pair.weights_sha256("tuned"),
            "find_questions": result.contrast.hashes("find"),
            "select_questions": result.contrast.hashes("select"),
        },
    )
