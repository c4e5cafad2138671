"""Comparisons of a loaded model with plain Hugging Face: what is compared, how far it may differ, what is
said of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.prompts.rows import Row
from persona_probe.prompts.tokenizers import Tokenizer

TEXTS = ("Have a look at the brakes before you drive.", "It is late.")
LENGTHS = ((6, 3), (6, 2), (3, 3))  # tokens of prompt and reply; the first two rows share their prompt
TOLERANCE = {torch.float32: 3e-4}  # relative to the spread of the logits
# The same for numbers of two bytes: rounding moves logits by up to a tenth, by more where a token goes to
# another expert.
COARSE = 0.5


@dataclass(frozen=True)
class Check:
    """One comparison. `difference` is relative to the spread of the reference; where it is None, `said` tells
    why."""

    name: str
    difference: float | None
    tolerance: float
    said: str = ""

    @property
    def passed(self) -> bool:
        """Whether the two sides agree."""
        return self.difference is not None and self.difference <= self.tolerance


@dataclass(frozen=True, eq=False)
class Reference:
    """What plain eager Hugging Face gives for each probe row alone: reply logits, and the streams after
    blocks."""

    rows: tuple[Row, ...]
    logits: tuple[Float[Tensor, "_ d_vocab"], ...]
    streams: tuple[tuple[Tensor, ...], ...]


def probe_rows(tokenizer: Tokenizer, *, n_rows: int) -> tuple[Row, ...]:
    """Rows of ordinary text.

    Ids without an embedding are left out, and texts too short for the probe are filled up with ids from the
    middle of the vocabulary.
    """
    filler = [n_rows // 4 + (37 * i) % max(1, n_rows // 2) for i in range(16)]
    rows = []
    for i, (n_prompt, n_reply) in enumerate(LENGTHS):
        prompt, reply = (
            [id for id in tokenizer(text, add_special_tokens=False)["input_ids"] if id < n_rows]
            for text in (TEXTS[i // 2], TEXTS[1 - i // 2])
        )
        ids = [*(prompt + filler)[:n_prompt], *(reply[i:] + filler)[:n_reply]]
        question_id = f"probe {i // 2}"
        rows.append(
            Row(id=f"probe {i}", kind="probe", question_id=question_id, ids=tuple(ids), n_prompt=n_prompt)
        )
    return tuple(rows)


@torch.inference_mode()
def reference(weights: Any, rows: Sequence[Row]) -> Reference:
    """The probe rows through the model as it was loaded, one by one and unpadded."""
    device = weights.get_input_embeddings().weight.device
    logits, streams = [], []
    for row in rows:
        tokens = torch.tensor([row.ids], device=device)
        out = weights(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            output_hidden_states=True,
            use_cache=False,
        )
        logits.append(out.logits[0, row.n_prompt - 1 : -1].float().cpu())
        streams.append(tuple(state[0].float().cpu() for state in out.hidden_states or ()))
    if not all(one.isfinite().all() for one in logits):
        raise BadInput(
            f"{type(weights).__name__}: the logits of plain text are not finite in {weights.dtype}: "
            "try --dtype float32 or bfloat16"
        )
    return Reference(tuple(rows), tuple(logits), tuple(streams))


def distance(values: Float[Tensor, "*shape"], expected: Float[Tensor, "*shape"]) -> float:
    """Length of the difference over the length of what is expected, each row's mean taken away."""
    values, expected = values.float().cpu(), expected.float().cpu()
    spread = (expected - expected.mean(-1, keepdim=True)).norm()
    return (
        float((values - expected).norm() / spread.clamp(min=1e-12))
        if values.isfinite().all()
        else float("inf")
    )


def tolerance(dtype: torch.dtype) -> float:
    """How far two right computations may lie apart in a number format."""
    return TOLERANCE.get(dtype, COARSE)


def compared(name: str, run: Callable[[], float], limit: float) -> Check:
    """The check that a comparison makes; one that raises has failed."""
    try:
        with torch.inference_mode():
            difference = run()
        return (
            Check(name, difference, limit)
            if math.isfinite(difference)
            else Check(name, None, limit, "numbers that are not finite")
        )
    except Exception as error:  # a family may fail in any way where it is run in one it was not written for
        lines = str(error).strip().splitlines() or [""]
        return Check(name, None, limit, f"{type(error).__name__}: {lines[0]:.120}")


def because(check: Check, otherwise: str) -> str:
    """What is done instead, since a check failed."""
    why = f"ends in {check.said}" if check.difference is None else f"differs by {check.difference:.2g}"
    return f"{otherwise}, since it {why}"


def said(check: Check) -> str:
    """What a check found, in words."""
    if check.said:
        return check.said
    return f"differs by {check.difference:.2g} of the spread, allowed is {check.tolerance:g}"
