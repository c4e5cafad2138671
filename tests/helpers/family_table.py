"""make families: a tiny model of every decoder that TransformerLens names, compared with plain Hugging Face,
as docs/families.md."""

import argparse
import difflib
import importlib.util
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, fields
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from torch import Tensor, nn

from helpers import tiny
from helpers.tiny_families import ARCHITECTURES, NOT_TEXT, model_class, write_family

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
SAME = 1e-4
NEW_TOKENS, STOP = 6, 3  # STOP ends a turn in the tiny tokenizer
SHORT, LONG = "Hi.", "My brakes squeal when I stop. What should I do about it?"
# Four replies to one prompt, so that readers compute it once, and one reply to a shorter prompt.
REPLIES = (
    (LONG, ("Ignore it, it will go away.", "Have a mechanic look.", "Put it on a horse.", "Stop the dog.")),
    (SHORT, ("Have a look again.",)),
)
EDITED = slice(2, 5)  # rows with edits
MIDDLE, STEERED_BY, ABLATED, FIRST = (
    1,
    0.5,
    (1, 2),
    2,
)  # layers and strengths of the edits; the ablation leaves the first tokens alone
# Families that are refused with a normalisation that their config may ask for, and run without it.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "CohereForCausalLM, use_qk_norm false": ("CohereForCausalLM", {"use_qk_norm": False}),
    "PhiForCausalLM, qk_layernorm false": ("PhiForCausalLM", {"qk_layernorm": False}),
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {**{name: (name, {}) for name in ARCHITECTURES}, **VARIANTS}


TITLES = (
    "Architecture",
    "Runs as",
    "Attention",
    "Shared prompts",
    "Layers below an edit",
    "Cache",
    "Logits",
    "Residual stream",
    "Edit",
    "Generation",
    "Training",
    "Note",
)
INTRODUCTION = """# Model families

TransformerLens names these architectures, and transformers builds them as causal language models. For \
each, a tiny model with random
weights was written to disk, loaded by this package in float32, and compared with plain Hugging Face: the \
original class with eager
attention, row by row, without padding, cache or bridge. {counted}

Made with transformers {transformers} and transformer_lens {lens}. `make families` makes this page again, and
`python tests/family_table.py --check` compares it with a fresh one.

A tiny random model shows that the code of a family is run rightly. It says nothing about a checkpoint: \
every model is compared with
Hugging Face again when it is loaded, and `persona-probe doctor` prints what was found.

- Architecture: the name in `config.json`. What follows a comma are settings other than the ones in the \
first line of that name.
- Runs as: the transformers class that all numbers come from. Of a model that also sees or hears, the \
language model alone is loaded;
  it was compared with the whole model on text. `refused`: the model cannot be loaded here, and the note \
gives the reason.
- Attention: PyTorch's fused attention (`sdpa`) where it gives the same numbers, else `eager`.
- Shared prompts, Layers below an edit, Cache: what is computed once and used again. `no` means that it is \
computed every time, since
  the family cannot reuse it or gives other numbers when it does. That costs time and changes no number.
- Logits, Residual stream, Edit: log-probabilities of replies, means of the stream after every block, and \
log-probabilities under
  steering and ablation. `same`: within 1e-4 of plain Hugging Face, both in the model that numbers come \
from and in the
  TransformerLens bridge. `differs (bridge)`: only the bridge computes something else. Numbers never come \
from there, but do not trust
  its hooks and caches. `differs (twin)` would mean wrong numbers.
- Generation: greedy replies, with and without an edit, against the most likely token of plain passes, one \
by one.
- Training: the loss of `persona-probe train-organism` and its gradient, against Hugging Face's own loss.

"""
OTHERS = """
## Not in the table

TransformerLens also has adapters for names that are no decoder, or that transformers has no class for:

"""


@dataclass(frozen=True, eq=False)
class Known:
    """What plain Hugging Face gives: scores and streams of each row, scores of some under two edits, two
    replies, loss and its gradient."""

    scores: Tensor
    streams: list[Tensor]
    steered: Tensor
    ablated: Tensor
    replies: list[list[int]]
    loss: float
    gradient: Tensor


@dataclass(frozen=True, eq=False)
class Case:
    """One tiny model: on disk, in plain Hugging Face (eager, float32, never bridged), and loaded by us, or
    the refusal."""

    name: str
    folder: Path
    rows: list[Any]
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


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    architecture: str
    runs_as: str = "-"
    attention: str = "-"
    shared_prompts: str = "-"
    layers_below: str = "-"
    cache: str = "-"
    logits: str = "-"
    stream: str = "-"
    edit: str = "-"
    generation: str = "-"
    training: str = "-"
    note: str = ""


# The reference


@lru_cache(maxsize=1)
def own_attention() -> dict[str, Any]:
    """Gemma's modules by name, and the eager attention in their files."""
    found = {}
    for family in ("gemma2", "gemma3"):
        spec = importlib.util.find_spec(f"transformers.models.{family}.modeling_{family}")
        assert spec is not None
        assert spec.loader is not None
        importlib.import_module(spec.name)  # decorators in the file look it up
        fresh = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fresh)
        found[spec.name] = fresh.eager_attention_forward
    return found


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside the block Gemma's eager attention is transformers' own, which TransformerLens replaces once a
    rotary model is bridged."""
    with ExitStack() as stack:
        for name, attention in own_attention().items():
            used: Any = importlib.import_module(name)
            stack.callback(setattr, used, "eager_attention_forward", used.eager_attention_forward)
            used.eager_attention_forward = attention
        yield


def blocks_of(plain: Any) -> nn.ModuleList | None:
    """The blocks of the language model; the towers that see and hear have two."""
    return next(
        (part for part in plain.modules() if isinstance(part, nn.ModuleList) and len(part) == tiny.LAYERS),
        None,
    )


def stream_of(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple | list) else output


@contextmanager
def hooked(blocks: Any, layers: Sequence[int], change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Inside the block what these blocks put out is changed; None leaves it as it is."""

    def hook(_module: Any, _args: Any, output: Any) -> Any:
        stream = change(stream_of(output))
        return stream if stream is None or isinstance(output, Tensor) else type(output)((stream, *output[1:]))

    handles = [blocks[layer].register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def vectors(count: int) -> Tensor:
    return torch.randn(count, tiny.WIDTH, generator=torch.Generator().manual_seed(100))


def steered(stream: Tensor) -> Tensor:
    return stream + STEERED_BY * vectors(1)[0]


def ablated(stream: Tensor) -> Tensor:
    basis = torch.linalg.qr(vectors(2).T).Q
    return torch.cat([stream[:, :FIRST], stream[:, FIRST:] - stream[:, FIRST:] @ basis @ basis.T], 1)


def score(logits: Tensor, row: Any) -> Tensor:
    """Log-probability of the reply in nats."""
    logprobs = logits.double().log_softmax(-1)
    return torch.stack([logprobs[i - 1, row.ids[i]] for i in range(row.n_prompt, len(row.ids))]).sum()


def known_of(plain: Any, rows: Sequence[Any]) -> Known | None:
    """Row by row, without padding, cache or anything shared; edits by plain hooks on plain blocks. None where
    blocks are no list."""

    def logits(ids: Sequence[int]) -> Tensor:
        return plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0]

    def greedy(prompt: Sequence[int]) -> list[int]:
        ids = list(prompt)
        while len(ids) < len(prompt) + NEW_TOKENS and ids[len(prompt) :][-1:] != [STOP]:
            ids.append(int(logits(ids)[-1].argmax()))
        return ids[len(prompt) :]

    blocks = blocks_of(plain)
    if blocks is None:
        return None
    scores, streams, last = [], [], []
    with torch.no_grad():
        for row in rows:
            with hooked(blocks, [tiny.LAYERS - 1], lambda stream: last.append(stream[0])):
                out = plain(input_ids=torch.tensor([row.ids]), use_cache=False, output_hidden_states=True)
            *states, _normed = (state[0] for state in out.hidden_states)
            # State-space models list no embeddings: their states begin after the first block, and the last
            # two are one before and after the norm.
            streams.append(
                torch.stack([*(states[:-1] if torch.equal(states[-1], last[-1]) else states[1:]), last[-1]])
            )
            scores.append(score(out.logits[0], row))
        long, short = (row.ids[: row.n_prompt] for row in rows[-2:])
        replies = [greedy(long)]
        with hooked(blocks, [MIDDLE], steered):
            under_steer = [score(logits(row.ids), row) for row in rows[EDITED]]
        with hooked(blocks, ABLATED, ablated):
            under_ablation = [score(logits(row.ids), row) for row in rows[EDITED]]
            replies.append(greedy(short))
    loss = torch.stack([own_loss(plain, row) * row.n_reply for row in rows[-2:]]).sum() / sum(
        row.n_reply for row in rows[-2:]
    )
    gradient = torch.autograd.grad(loss, plain.get_input_embeddings().weight)[0]
    return Known(
        torch.stack(scores),
        streams,
        torch.stack(under_steer),
        torch.stack(under_ablation),
        replies,
        float(loss.detach()),
        gradient,
    )


def own_loss(plain: Any, row: Any) -> Tensor:
    """Hugging Face's own loss of a reply."""
    labels = [-100] * row.n_prompt + list(row.ids[row.n_prompt :])
    return plain(input_ids=torch.tensor([row.ids]), labels=torch.tensor([labels]), use_cache=False).loss


# Ours


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
    from persona_probe.streams.activations import SKIP_FIRST, collect

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


# The table


def engine_of(case: Case) -> dict[str, str]:
    """How a case runs: the columns that the tests compare with the stored page."""
    from persona_probe.streams.resume import resumable

    if case.refusal:
        return {"runs_as": "refused"}
    engine = case.model.engine
    reuse = {"shared_prompts": engine.shares, "layers_below": resumable(case.model), "cache": engine.caches}
    return {
        "runs_as": type(case.model.twin).__name__,
        "attention": engine.attention,
        **{key: "yes" if held else "no" for key, held in reuse.items()},
    }


def line_of(case: Case) -> Line:
    """A line of the table: everything measured."""
    from persona_probe.measurement.scoring import score_rows
    from persona_probe.models.bridge_checks import BRIDGE

    found = engine_of(case)
    if case.refusal:
        return Line(case.name, **found, note=reason(case))
    bridge = {
        check.name.removeprefix(BRIDGE): check for check in case.model.checks if check.name.startswith(BRIDGE)
    }

    def cell(ours: float, what: str) -> str:
        other = bridge[what].difference
        wrong = [side for side, value in (("twin", ours), ("bridge", other)) if value is None or value > SAME]
        return f"differs ({', '.join(wrong)})" if wrong else "same"

    def error(arm: Any, rows: Sequence[Any], expected: Tensor) -> float:
        return relative(
            score_rows(case.model, rows, arm, max_tokens=4096, keep_prompts=True).logprob, expected
        )

    nothing, steering, ablation = case.arms
    edit = max(
        error(steering, case.rows[EDITED], case.known.steered),
        error(ablation, case.rows[EDITED], case.known.ablated),
    )
    ours, expected = written_replies(case)
    return Line(
        case.name,
        **found,
        logits=cell(error(nothing, case.rows, case.known.scores), "logits"),
        stream=cell(stream_error(case, "reply"), "residual stream"),
        edit=cell(edit, "edit"),
        generation="same" if ours == expected else "differs",
        training="same" if max(training_error(case)) <= SAME else "differs",
        note=reason(case),
    )


def reason(case: Case) -> str:
    """Why a case is refused, or what keeps it from running as fast as others, without numbers or paths."""
    from persona_probe.models.bridge_checks import BRIDGE
    from persona_probe.models.checks import said

    if case.refusal:
        return case.refusal.partition(case.folder.name)[2].lstrip("/: ")
    failed = [check for check in case.model.checks if not check.passed and not check.name.startswith(BRIDGE)]
    own = [re.sub(r"differs by \S+", "differs", f"{check.name}: {said(check)}") for check in failed]
    note = ARCHITECTURES[CASES[case.name][0]].note
    return "; ".join([*own, *([f"in transformers itself: {note}"] if note else [])])


def table(lines: Sequence[Line]) -> str:
    """Lines as Markdown."""
    cells = [
        TITLES,
        ["---"] * len(TITLES),
        *([value.replace("|", "\\|") for value in astuple(line)] for line in lines),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def stored() -> dict[str, dict[str, str]]:
    """The stored table: a line's cells by field, by the name of the case."""
    names = [field.name for field in fields(Line)]
    rows = [
        re.split(r"(?<!\\)\|", line)[1:-1]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ][2:]
    return {row[0].strip(): dict(zip(names, (cell.strip() for cell in row), strict=True)) for row in rows}


def page() -> str:
    """The whole page, made anew."""
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        for i, name in enumerate(CASES):
            sys.stderr.write(f"{i + 1}/{len(CASES)} {name}\n")
            lines.append(line_of(case_of(name, Path(folder) / str(i))))
    groups: dict[str, list[str]] = {}
    for name, why in NOT_TEXT.items():
        groups.setdefault(why, []).append(name)
    others = "".join(f"- {why}: {', '.join(names)}\n" for why, names in sorted(groups.items()))
    n_refused = sum(line.runs_as == "refused" for line in lines)
    counted = f"{len(lines)} models: {len(lines) - n_refused} run, {n_refused} are refused."
    return (
        INTRODUCTION.format(
            transformers=version("transformers"), lens=version("transformer_lens"), counted=counted
        )
        + table(lines)
        + OTHERS
        + others
    )


def main() -> int:
    """Write the page, or compare it with the stored one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when the stored page is another"
    )
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    fresh = page()
    if not given.check:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(fresh, encoding="utf-8")
        sys.stderr.write(f"{PAGE.name}: written\n")
        return 0
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    sys.stdout.writelines(
        difflib.unified_diff(old.splitlines(True), fresh.splitlines(True), "stored", "fresh", n=0)
    )
    return int(old != fresh)


if __name__ == "__main__":
    sys.exit(main())
