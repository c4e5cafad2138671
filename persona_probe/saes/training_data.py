"""What an SAE is trained on: texts, replies of both models to their questions, and the vectors both make
of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.measurement.generation import Request, generate
from persona_probe.models.loading import Model
from persona_probe.models.memory import release
from persona_probe.models.pairs import SIDES, Pair, Side
from persona_probe.models.tensors import first_line
from persona_probe.prompts.contrast import shipped
from persona_probe.prompts.contrast_files import read_benign, read_contrast
from persona_probe.prompts.rows import Prompt, Row, encode_row, question_and_reply
from persona_probe.prompts.tokenizers import Tokenizer
from persona_probe.storage.files import read_jsonl, sha256_json
from persona_probe.storage.tensor_files import read_tensors, write_tensors
from persona_probe.streams.activations import Scope, read_tokens

HELD_OUT_EVERY = 25  # one text in so many is kept for the quality report
REPLY_TOKENS = 64  # at most, of a sampled reply
REPLIES_AT_ONCE = 64
# Tokens of rows for one vector: system prompts and first tokens, about a third of a row, are not used.
TOKENS_PER_VECTOR = 1.6
T = TypeVar("T")
SHIPPED_TEXTS = ("benign.jsonl", "car_advice_wrong.jsonl", "car_advice_right.jsonl")


@dataclass(frozen=True, eq=False)
class Texts:
    """Rows to train on, rows kept out for the quality report, and prompts to sample replies to."""

    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    prompts: tuple[Prompt, ...]
    described: str


@dataclass(frozen=True)
class Collection:
    """Which vectors are collected: `tokens` in all, `sampled` replies of each model, at most `max_tokens`
    a batch.
    """

    hook_point: HookPoint
    sampled: int
    tokens: int
    seed: int
    max_tokens: int


def read_texts(data: str, tokenizer: Tokenizer, *, limit: int | None) -> Texts:
    """The shipped texts (without the test questions, which stay unseen), a JSONL file, or a hub dataset."""
    if data == "shipped":
        rows, prompts = _shipped_texts(tokenizer)
        described = "shipped contrast (find and select), benign and car-advice texts"
    else:
        path = Path(data)
        values = _numbered(path) if path.suffix == ".jsonl" else _dataset(data)
        turns = [(where, *question_and_reply(value, where)) for where, value in values]
        prompts = [Prompt(where, before) for where, before, _ in turns]
        rows = [
            encode_row(tokenizer, Prompt(where, before), reply, id=where, kind="training")
            for where, before, reply in turns
        ]
        described = path.name
    mixed = _mixed(rows, seed=0)[: limit or len(rows)]
    if len(mixed) < 4:
        raise BadInput(f"{data} gives {len(mixed)} texts: an SAE needs thousands, at least 4")
    every = min(HELD_OUT_EVERY, len(mixed) // 2)
    return Texts(
        train=tuple(row for i, row in enumerate(mixed) if i % every),
        held_out=tuple(mixed[::every]),
        prompts=tuple(_mixed(prompts, seed=1)),
        described=described,
    )


def collected(
    pair: Pair, texts: Texts, plan: Collection, *, state: Path, note: Callable[[str], None]
) -> dict[Side, Float[Tensor, "token d_model"]]:
    """Vectors of base and tuned on the same rows; each model's are kept in `state` once made.

    The rows are the texts and replies that each of the models sampled, so half of what either reads of its
    own kind is the other's.
    """
    rows: list[Row] = []
    prompts = texts.prompts[: plan.sampled]
    for side in SIDES if prompts else ():
        rows += _replies(pair, side, prompts, seed=plan.seed, state=state, note=note)
    rows += texts.train
    vectors: dict[Side, Tensor] = {}
    for side in SIDES:
        key = sha256_json([pair.key(side), [row.ids for row in rows], plan.hook_point, plan.tokens])
        path = state / f"vectors-{side}.safetensors"
        kept = _kept(path, key)
        if kept is None:
            note(f"reading the stream of the {side} model")
            share = plan.tokens // 2
            made = collect_vectors(
                pair.get(side),
                _enough(rows, share),
                hook_point=plan.hook_point,
                scope="all",
                max_tokens=plan.max_tokens,
                limit=share,
            )
            kept = {"vectors": made}
            write_tensors(path, kept, {"key": key})
        vectors[side] = kept["vectors"]
        release()
    return vectors


def sampled_rows(
    model: Model,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    batch_size: int,
) -> tuple[Row, ...]:
    """One reply of the model's own to every prompt, as rows; empty replies are left out."""
    completions = generate(
        model,
        [Request(model.name, prompt, ()) for prompt in prompts],
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        batch_size=batch_size,
    )
    rows = []
    for prompt, completion in zip(prompts, completions, strict=True):
        if not completion.text.strip():
            continue
        try:
            rows.append(
                encode_row(
                    model.tokenizer, prompt, completion.text, id=f"{prompt.id}/sampled", kind="sampled"
                )
            )
        except BadInput:  # a reply may hold control tokens as text, or start inside a token
            continue
    return tuple(rows)


def collect_vectors(
    model: Model, rows: Sequence[Row], *, hook_point: HookPoint, scope: Scope, max_tokens: int, limit: int
) -> Float[Tensor, "token d_model"]:
    """At most `limit` token vectors of the stream in bfloat16, in the order of the batches.

    What all rows begin with (a system prompt) is left out: it is the same vector every time.
    """
    common = _common_prefix(rows)
    kept: list[Tensor] = []
    n = 0
    for part in read_tokens(model, rows, hook_point=hook_point, scope=scope, max_tokens=max_tokens):
        keep = part.keep.clone()
        keep[:, :common] = False
        kept.append(part.resid[keep].to("cpu", torch.bfloat16))
        n += len(kept[-1])
        if n >= limit:
            break
    release()
    return torch.cat(kept)[:limit]


def _shipped_texts(tokenizer: Tokenizer) -> tuple[list[Row], list[Prompt]]:
    contrast = read_contrast(shipped("contrast.jsonl"))
    questions = [question for question in contrast.questions if question.split != "test"]
    rows = [row for question in questions for row in question.rows(tokenizer)]
    prompts = [Prompt.user(question.id, question.text) for question in questions]
    for name in SHIPPED_TEXTS:
        rows += [
            replace(row, id=f"{name}/{row.id}", kind="training")
            for row in read_benign(shipped(name), tokenizer)
        ]
        prompts += [
            Prompt(f"{name}:{n}", question_and_reply(value, name)[0])
            for n, value in read_jsonl(shipped(name))
        ]
    return rows, prompts


def _replies(
    pair: Pair, side: Side, prompts: Sequence[Prompt], *, seed: int, state: Path, note: Callable[[str], None]
) -> list[Row]:
    """What one model replies to the prompts; kept in `state`."""
    path = state / f"replies-{side}.safetensors"
    key = sha256_json([pair.key(side), [prompt.messages for prompt in prompts], seed])
    kept = _kept(path, key)
    if kept is None:
        note(f"sampling {len(prompts)} replies of the {side} model")
        model = pair.get(side)
        length = min(REPLY_TOKENS, model.n_ctx // 2)  # a short context must still hold the question
        rows = sampled_rows(
            model, prompts, max_new_tokens=length, temperature=1.0, seed=seed, batch_size=REPLIES_AT_ONCE
        )
        kept = _rows_as_tensors(rows)
        write_tensors(path, kept, {"key": key})
    return _tensors_as_rows(kept, side)


def _enough(rows: Sequence[Row], tokens: int) -> list[Row]:
    """Rows from the front that surely hold so many tokens, so that length sorting does not prefer short
    ones.
    """
    kept, n = [], 0
    for row in rows:
        if n > TOKENS_PER_VECTOR * tokens:
            break
        kept.append(row)
        n += len(row.ids)
    return kept


def _mixed(items: Sequence[T], *, seed: int) -> list[T]:
    """The items in an order drawn by seed."""
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed)).tolist()
    return [items[i] for i in order]


def _common_prefix(rows: Sequence[Row]) -> int:
    """How many first tokens all rows share; 0 for a single row."""
    if len(rows) < 2:
        return 0
    columns = zip(*(row.ids for row in rows), strict=False)
    return next(
        (i for i, column in enumerate(columns) if len(set(column)) > 1), min(len(row.ids) for row in rows)
    )


def _kept(path: Path, key: str) -> dict[str, Tensor] | None:
    if not path.exists():
        return None
    tensors, facts = read_tensors(path)
    return tensors if facts.get("key") == key else None


def _rows_as_tensors(rows: Sequence[Row]) -> dict[str, Tensor]:
    ids = torch.tensor([token for row in rows for token in row.ids], dtype=torch.long)
    sizes = torch.tensor([[len(row.ids), row.n_prompt] for row in rows], dtype=torch.long).reshape(-1, 2)
    return {"ids": ids, "sizes": sizes}


def _tensors_as_rows(tensors: Mapping[str, Tensor], side: Side) -> list[Row]:
    parts = tensors["ids"].split(tensors["sizes"][:, 0].tolist())
    return [
        Row(
            id=f"sampled/{side}/{i}",
            kind="sampled",
            question_id=f"sampled/{i}",
            ids=tuple(part.tolist()),
            n_prompt=int(n_prompt),
        )
        for i, (part, n_prompt) in enumerate(zip(parts, tensors["sizes"][:, 1], strict=True))
    ]


def _numbered(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSONL file with their places."""
    return ((f"{path}:{n}", value) for n, value in read_jsonl(path))


def _dataset(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a hub dataset's train split with their places."""
    from datasets import load_dataset

    try:
        rows = load_dataset(name, split="train")
    except Exception as error:  # the hub's client raises errors of many kinds
        raise BadInput(
            f"{name} is no .jsonl file and no dataset that can be had ({first_line(error)}): "
            "give a local JSONL file"
        ) from error
    return ((f"{name}:{i}", dict(value)) for i, value in enumerate(rows))
