"""Made-up sets of latents, for the made-up record of the latent experiment."""

from typing import Any

from helpers.made_up_parts import est


def latent_set(k: int, kind: str, gain: float, cost: float, *, selected: bool = False) -> dict[str, Any]:
    """One set of the best k latents beside matched ones."""
    control = {"restoration": 0.02 + k / 200, "delta_nll": cost / 2, "n": 1}
    members = [100 + 37 * place for place in range(k)]
    beside: dict[str, Any] = {}
    if selected:
        control |= {"n": 19, "closure": 0.015, "closure_max": 0.05, "restoration_max": 0.12, "kl": 0.004}
        matched = [matched_set(k, number) for number in range(19)]
        beside = {"closure": est(0.33, 0.09), "base_moved": est(0.25, 0.06), "kl": est(0.021, 0.004)}
        beside |= {"matched": matched, "judged": verdict(gain)}
    return {
        "k": k,
        "kind": kind,
        "latents": members,
        "signs": [1] * k,
        "dose": 2.0 if kind == "steer" else None,
        "restoration": est(gain, 0.11),
        "delta_nll": est(cost, 0.01),
        "control": control,
        "selected": selected,
        "wins": 0.62 if selected else 0.05,
        **beside,
    }


def matched_set(k: int, number: int) -> dict[str, Any]:
    """One matched set of the chosen one."""
    share = 0.045 + (number - 9) / 200
    return {
        "latents": [3000 + 20 * number + place for place in range(k)],
        "restoration": est(share, 0.03),
        "closure": est(share - 0.03, 0.02),
        "base_moved": est(0.03, 0.02),
        "delta_nll": est(0.02, 0.01),
        "kl": est(0.004, 0.001),
    }


def verdict(gain: float) -> dict[str, Any]:
    """A partial restoration: it takes more back than it closes."""
    return {
        "verdict": "partial",
        "because": "C is 0.33 [0.24, 0.42], not inside [0.75, 1.25]",
        "use": "ablation",
        "band": {"ends": [0.75, 1.25], "asked": [0.75, 1.25], "power": 0.99},
        "null": {
            "n": 19,
            "restoration": gain,
            "restoration_median": 0.045,
            "restoration_p": 0.05,
            "closure": 0.33,
            "closure_median": 0.015,
            "closure_p": 0.05,
            "n_tried": 15,
            "search_p": 0.012,
            "matched_by": [],
        },
        "costs": [{"name": "ΔNLL on benign texts", "largest": 0.051, "budget": 0.1}],
    }
