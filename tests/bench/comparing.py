"""Values of two sides beside each other."""

from collections.abc import Sequence
from typing import Any

from bench.jobs import Job
from bench.results import text_difference
from bench.workload import Text


def read_values(answer: dict[str, Any]) -> Any:
    """The values that a worker's answer names: an array, or texts."""
    import numpy as np

    values = answer["values"]
    return values if isinstance(values, list) else np.load(values)["values"]


def largest_difference(job: Job, texts: Sequence[Text], ours: Any, theirs: Any) -> float:
    """The largest difference of two sides' values, in the unit of the job."""
    import numpy as np

    if job == "generate_steered":
        return text_difference(ours, theirs)
    if ours.shape != theirs.shape:
        raise ValueError(f"{job}: ours has the shape {ours.shape}, the other {theirs.shape}")
    if not np.isfinite(theirs).all():
        return float("inf")
    apart = np.abs(ours - theirs)
    if job in ("reply_means", "vectors"):
        lengths = np.linalg.norm(ours, axis=-1)
        return float((np.linalg.norm(ours - theirs, axis=-1) / lengths).max())
    if job.startswith("logprobs"):
        apart = apart / np.array([text.n_reply for text in texts])
    return float(apart.max())


def tokens_of(job: Job, texts: Sequence[Text], values: Any, tokenizer: Any) -> int:
    """Tokens of a job, prompts and replies, unpadded, every row in full, once for each of several arms."""
    if job == "generate_steered":
        written = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in values)
        return sum(text.n_prompt for text in texts) + written
    return sum(len(text.ids) for text in texts) * (len(values) if job == "logprobs_one_layer" else 1)
