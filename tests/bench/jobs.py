"""What is measured: the jobs, the sides, and when the values of two sides agree."""

from dataclasses import dataclass
from typing import Literal

Job = Literal["reply_means", "vectors", "logprobs_ablated", "logprobs_one_layer", "generate_steered", "train"]
JOBS: dict[Job, str] = {
    "reply_means": "mean residual stream over the reply tokens, all layers",
    "vectors": "one difference of means a layer, from pairs, at the last token",
    "logprobs_ablated": "log-probabilities of replies, one direction ablated at all layers",
    "logprobs_one_layer": "the same at one layer, 20 directions one after the other",
    "generate_steered": "up to 48 greedy tokens, steered at one layer",
    "train": "8 LoRA steps",
}
N_ARMS = 20  # of logprobs_one_layer
N_NEW = 48  # tokens of generate_steered
N_STEPS = 8  # of train
EDITED = 22  # the block of logprobs_one_layer
STEERED = 15  # the block of generate_steered
MAX_TOKENS = 1024  # padded tokens of a batch, where a side sorts by length


@dataclass(frozen=True)
class Side:
    """One side of the comparison: the module of its worker, and the environment that it runs in.

    `venv` is None where it runs in ours. `variant` is handed to the worker.
    """

    name: str
    title: str
    module: str
    venv: str | None = None
    variant: str = ""


OURS = "ours"
SIDES = {
    side.name: side
    for side in (
        Side(OURS, "ours", "ours"),
        Side("hf_one", "HF one by one", "by_transformers", variant="one"),
        Side("hf_16", "HF batch 16", "by_transformers", variant="16"),
        Side("hf_sorted", "HF sorted, by hand", "by_transformers", variant="sorted"),
        Side("transformer_lens", "TransformerLens", "by_lens"),
        Side("nnsight", "nnsight", "by_nnsight", venv="nnsight"),
        Side("pyvene", "pyvene", "by_pyvene", venv="pyvene"),
        Side("steering_vectors", "steering-vectors", "by_steering_vectors", venv="steering-vectors"),
        Side("repeng", "repeng", "by_repeng", venv="repeng"),
        Side("peft", "plain peft loop", "by_peft"),
    )
}


@dataclass(frozen=True)
class Agreement:
    """How two sides' values of a job are compared: the unit of the difference, and the largest allowed."""

    unit: str
    float32: float
    bfloat16: float

    def bound(self, dtype: str) -> float:
        """The largest difference that counts as agreement in a number format."""
        return self.float32 if dtype == "float32" else self.bfloat16


VECTORS = Agreement("of the vector's length", float32=1e-3, bfloat16=0.05)
LOGPROBS = Agreement("nats per token", float32=1e-3, bfloat16=0.1)
AGREEMENTS: dict[Job, Agreement] = {
    "reply_means": VECTORS,
    "vectors": VECTORS,
    "logprobs_ablated": LOGPROBS,
    "logprobs_one_layer": LOGPROBS,
    # In bfloat16 a tie between two tokens falls either way, and the texts part there.
    "generate_steered": Agreement("of the characters, after the first that differs", 0.05, 0.9),
    "train": Agreement("nats per token", float32=1e-4, bfloat16=0.05),
}
