"""What is said about tokens that were left out of the means because their norms are outliers."""

from collections.abc import Mapping, Sequence

from persona_probe.base.hook_points import HookPoint
from persona_probe.records.parts import Side

NOTED = 0.01  # a share of the tokens above which a reader is told


def outlier_note(
    hook_points: Sequence[HookPoint], dropped: Mapping[Side, Sequence[float]] | None
) -> list[str]:
    """One sentence where more than 1% of the tokens were left out at a layer in either model, else none.

    `dropped`: by model, the share at each hook point; None where it is not known.
    """
    shares = [max(of_models) for of_models in zip(*(dropped or {}).values(), strict=True)]
    layers = [point.layer for point, share in zip(hook_points, shares, strict=False) if share > NOTED]
    if not layers:
        return []
    where = f"layer{'s' if len(layers) > 1 else ''} {_ranges(layers)}"
    return [
        f"up to {max(shares):.1%} of the read tokens are left out of the means as outliers, at {where}: "
        "--outliers keep averages them all"
    ]


def _ranges(layers: Sequence[int]) -> str:
    """Rising numbers with runs in short: "2, 5 to 9"."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
