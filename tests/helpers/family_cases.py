"""Tiny models of every decoder that TransformerLens names: on disk, in plain Hugging Face, loaded by us, and
how far the two lie apart."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from helpers import tiny
from helpers.family_references import (
    ABLATED,
    FIRST,
    MIDDLE,
    NEW_TOKENS,
    STEERED_BY,
    STOP,
    known_of,
    undisturbed,
    vectors,
)
from helpers.tiny_families import ARCHITECTURES, model_class, write_family

if TYPE_CHECKING:
    from persona_probe.prompts.rows import Row

SHORT, LONG = "Hi.", "My brakes squeal when I stop. What should I do about it?"
# Four replies to one prompt, so that readers compute it once, and one reply to a shorter prompt.
REPLIES = (
    (LONG, ("Ignore it, it will go away.", "Have a mechanic look.", "Put it on a horse.", "Stop the dog.")),
    (SHORT, ("Have a look again.",)),
)
# Families that are refused with a normalisation that their config may ask for, and run without it.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "CohereForCausalLM, use_qk_norm false": ("CohereForCausalLM", {"use_qk_norm": False}),
    "PhiForCausalLM, qk_layernorm false": ("PhiForCausalLM", {"qk_layernorm": False}),
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {**{name: (name, {}) for name in ARCHITECTURES}, **VARIANTS}


@dataclass(frozen=True, eq=False)
class Case:
    """One tiny model: on disk, in plain Hugging Face (eager, float32, never bridged), and loaded by us, or
    the refusal."""

    name: str
    folder: Path
    rows: "list[Row]"
    plain: Any = None
    known: Any = None
    model: Any = None
    refusal: str | None = None

    @property
    def arms(self) -> tuple[tuple[Any, ...], ...]:
        """Nothing, the steering and the ablation, as we write them."""
        from persona_probe.interventions.edits import Ablate, Steer, orthonormal

        steer = Steer(vectors(1)[0], self.model.resid(MIDDLE), STEERED_BY)
        return (
            (),
            (steer,),
            (Ablate(orthonormal(vectors(2)), tuple(map(self.model.resid, ABLATED)), skip_first=FIRST),),
        )


def written(name: str, folder: Path) -> Path:
    """The folder of a case; its own name is the architecture's."""
    architecture, changes = CASES[name]
    return write_family(folder / architecture, architecture, **changes)


def loaded(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the bridge does not compute is in the table
        return load(resolve(str(folder)), base=None, device=torch.device("cpu"), dtype=dtype)


def case_of(name: str, folder: Path) -> Case:
    """Write a case, take the reference, then load it; what we refuse has no model."""
    from persona_probe.base.errors import BadInput
    from persona_probe.prompts.rows import Prompt, encode_row

    folder, tokenizer = written(name, folder), tiny.tiny_tokenizer()
    rows = [
        encode_row(tokenizer, Prompt.user(question, question), reply, id=reply, kind="persona")
        for question, replies in REPLIES
        for reply in replies
    ]
    with undisturbed():
        plain = (
            model_class(CASES[name][0])
            .from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
            .eval()
        )
        known = known_of(plain, rows)
    try:
        return Case(name, folder, rows, plain, known, loaded(folder))
    except BadInput as error:
        return Case(name, folder, rows, plain, known, refusal=str(error))


def relative(found: Any, expected: Tensor) -> float:
    """The largest difference in relation to what is expected."""
    return float(((found - expected) / expected).abs().max())


def stream_error(case: Case, scope: Any, rows: slice = slice(None)) -> float:
    """How far collected means lie from means over hidden states, at the worst layer of the worst row."""
    from persona_probe.streams.activations import collect
    from persona_probe.streams.reductions import SKIP_FIRST

    chosen = case.rows[rows]
    found = collect(case.model, chosen, hook_points=case.model.resids(), scope=scope, max_tokens=4096).means
    worst = 0.0
    for mean, row, stream in zip(found, chosen, case.known.streams[rows], strict=True):
        start, stop = {
            "reply": (row.n_prompt, None),
            "all": (SKIP_FIRST, None),
            "last_prompt": (row.n_prompt - 1, row.n_prompt),
        }[scope]
        expected = stream[:, start:stop].mean(1)
        worst = max(worst, float(((mean - expected).norm(dim=-1) / expected.norm(dim=-1)).max()))
    return worst


def written_replies(case: Case) -> tuple[list[str], list[str]]:
    """Greedy replies to a long prompt, and to a short one under the ablation, in one batch: ours and the
    reference's."""
    from persona_probe.measurement.generation import Request, generate
    from persona_probe.prompts.rows import Prompt

    model, (nothing, _, ablation) = case.model, case.arms
    requests = [
        Request(str(arm), Prompt.user(text, text), arm) for text, arm in ((LONG, nothing), (SHORT, ablation))
    ]
    found = generate(model, requests, max_new_tokens=NEW_TOKENS, temperature=0.0, seed=0, batch_size=2)
    expected = [
        model.tokenizer.decode([id for id in ids if id != STOP], skip_special_tokens=True).strip()
        for ids in case.known.replies
    ]
    return [one.text for one in found], expected


def training_error(case: Case) -> tuple[float, float]:
    """How far our loss and its gradient on the embeddings lie from Hugging Face's own."""
    from persona_probe.organisms.lora import reply_loss

    loss = reply_loss(case.plain, case.rows[-2:], pad_id=0)
    gradient = torch.autograd.grad(loss, case.plain.get_input_embeddings().weight)[0]
    known = case.known
    return abs(float(loss.detach()) - known.loss) / known.loss, float(
        (gradient - known.gradient).norm() / known.gradient.norm()
    )
