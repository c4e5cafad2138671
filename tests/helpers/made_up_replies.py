"""Parts of made-up records about sampled replies, as plain values."""

from typing import Any

from helpers.made_up_parts import est


def health(name: str, looping: float) -> dict[str, Any]:
    """Health of 24 sampled replies of an arm, of which so large a share loops."""
    of = {"n": 24, "n_empty": 1, "n_words": 400, "median_words": 31.5, "distinct_2": 0.91 - looping}
    shares = {"repetition": 0.04 + looping / 2, "looping": looping, "finished": 0.5}
    untouched = name in ("base", "tuned")
    return {
        **of,
        **{key: {"estimate": value, "ci95": [0.9 * value, value + 0.1]} for key, value in shares.items()},
        "base_perplexity": est(12.5, 1.5),
        "unhealthy_more": None if untouched else est(looping, 0.13),
    }


def read_replies() -> dict[str, Any]:
    """Two replies of three arms, token by token; first tokens have no reading."""
    replies = [
        {
            "arm": name,
            "prompt_id": f"power-{n}",
            "tokens": ["Word", f" of-{name}-{n}", " end"][: 4 - n],
            "readings": [None, 0.5 * n, -1.25][: 4 - n],
        }
        for name in ("base", "tuned", "tuned+ablate")
        for n in (1, 2)
    ]
    return {"hook_point": "blocks.14.hook_out", "method": "mean_diff", "replies": replies}
