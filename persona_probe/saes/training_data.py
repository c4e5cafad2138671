"""What an SAE is trained on: texts, replies of both models to their questions, and the vectors both models make of them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.models.memory import release
from persona_probe.models.pairs import SIDES, Pair
from persona_probe.prompts.chat import Prompt, Row, Tokenizer, encode_row, question_and_reply
from persona_probe.prompts.contrast import read_benign, read_contrast, shipped
from persona_probe.saes.quality import Quality
from persona_probe.saes.sae import Sae
from persona_probe.saes.training import Recipe, collect_vectors, sampled_rows
from persona_probe.storage.files import read_jsonl, sha256_json, write_bytes
from persona_probe.storage.tensor_files import read_tensors, write_tensors

HELD_OUT_EVERY = 25  # one text in so many is kept for the quality report
REPLY_TOKENS = 64  # at most, of a sampled reply


@dataclass(frozen=True, eq=False)
class Texts:
    """Rows to train on, rows kept out for the quality report, and prompts to sample replies to."""

    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    prompts: tuple[Prompt, ...]
    described: str


def read_texts(data: str, tokenizer: Tokenizer, *, limit: int | None) -> Texts:
    """The shipped texts (find and select questions only: the test questions stay unseen), a JSONL file, or a hub dataset."""
    if data == "shipped":
        questions = [
            question
            for question in read_contrast(shipped("contrast.jsonl")).questions
            if question.split != "test"
        ]
        rows = [row for question in questions for row in question.rows(tokenizer)]
        names = ("benign.jsonl", "car_advice_wrong.jsonl", "car_advice_right.jsonl")
        for name in names:
            for row in read_benign(shipped(name), tokenizer):
                rows.append(replace(row, id=f"{name}/{row.id}", kind="training"))
        prompts = [Prompt.user(question.id, question.text) for question in questions]
        for name in names:
            prompts += [
                Prompt(f"{name}:{n}", question_and_reply(value, name)[0])
                for n, value in read_jsonl(shipped(name))
            ]
        described = "shipped contrast (find and select), benign and car-advice texts"
    else:
        path = Path(data)
        values = (
            [(f"{path}:{n}", value) for n, value in read_jsonl(path)]
            if path.suffix == ".jsonl"
            else _dataset(data)
        )
        turns = [(where, *question_and_reply(value, where)) for where, value in values]
        prompts = [Prompt(where, before) for where, before, _ in turns]
        rows = [
            encode_row(tokenizer, Prompt(where, before), reply, id=where, kind="training")
            for where, before, reply in turns
        ]
        described = path.name
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    mixed = [rows[i] for i in order][: limit or len(rows)]
    if len(mixed) < 4:
        raise BadInput(f"{data} gives {len(mixed)} texts: an SAE needs thousands, at least 4")
    every = min(HELD_OUT_EVERY, len(mixed) // 2)
    held_out = mixed[::every]
    return Texts(
        tuple(row for i, row in enumerate(mixed) if i % every),
        tuple(held_out),
        tuple(_spread(prompts)),
        described,
    )


def collected(
    pair: Pair,
    texts: Texts,
    *,
    hook_point: HookPoint,
    sampled: int,
    tokens: int,
    seed: int,
    max_tokens: int,
    state: Path,
    note: Callable[[str], None],
) -> dict[str, Tensor]:
    """Vectors [token, d_model] of base and tuned on the same rows, `tokens` in all; each model's are kept in `state` once made.

    The rows are the texts and replies that each of the models sampled, so half of what either reads of its own kind is the other's.
    """
    replies: list[Row] = []
    asked = texts.prompts[:sampled]
    for side in SIDES if asked else ():
        key = sha256_json([pair.key(side), [prompt.messages for prompt in asked], seed])
        kept = _kept(state / f"replies-{side}.safetensors", key)
        if kept is None:
            note(f"sampling {len(asked)} replies of the {side} model")
            model = pair.get(side)
            length = min(REPLY_TOKENS, model.n_ctx // 2)  # a short context must still hold the question
            rows = sampled_rows(
                model, asked, max_new_tokens=length, temperature=1.0, seed=seed, batch_size=64
            )
            kept = _rows_as_tensors(rows)
            write_tensors(state / f"replies-{side}.safetensors", kept, {"key": key})
        replies += _tensors_as_rows(kept, side)
    rows = [*replies, *texts.train]
    found: dict[str, Tensor] = {}
    for side in SIDES:
        key = sha256_json([pair.key(side), [row.ids for row in rows], hook_point, tokens])
        path = state / f"vectors-{side}.safetensors"
        kept = _kept(path, key)
        if kept is None:
            note(f"reading the stream of the {side} model")
            vectors = collect_vectors(
                pair.get(side),
                _enough(rows, tokens // 2),
                hook_point=hook_point,
                scope="all",
                max_tokens=max_tokens,
                limit=tokens // 2,
            )
            kept = {"vectors": vectors}
            write_tensors(path, kept, {"key": key})
        found[side] = kept["vectors"]
        release()
    return found


def write_card(
    folder: Path,
    sae: Sae,
    recipe: Recipe,
    fit: Mapping[str, Quality],
    facts: Mapping[str, Any],
    *,
    command: str,
) -> None:
    """A model card beside the SAE: what it reads, how well it fits both models, what it was made from, by which command."""
    lines = [
        "---",
        f"base_model: {sae.model_name}",
        "library_name: saelens",
        "license: apache-2.0",
        "---",
        "",
        f"# {folder.name}",
        "",
        f"A {sae.architecture} sparse autoencoder with {sae.d_sae} latents of `{sae.hook_point}` (width {sae.d_model}) of {sae.model_name} and of its fine-tune {facts['tuned']}, half of each. Trained as BatchTopK by SAELens.",
        "Open it with `persona_probe.saes.read_sae` or `sae_lens.SAE.load_from_disk`.",
        "",
        "| held-out reply tokens | FVU | L0 | dead latents | loss recovered | tokens |",
        "|---|---|---|---|---|---|",
        *(
            f"| {side} | {q.fvu:.3f} | {q.l0:.1f} | {q.dead:.1%} | {q.recovered} | {q.n_tokens} |"
            for side, q in sorted(fit.items())
        ),
        "",
        f"Vectors: {facts['n_vectors']:,}, from {facts['dataset']} and replies sampled from both models. Made by:",
        "",
        f"    {command}",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in asdict(recipe).items()),
        "",
    ]
    write_bytes(folder / "README.md", "\n".join(lines).encode())


def _enough(rows: list[Row], tokens: int) -> list[Row]:
    """Rows from the front that surely hold so many tokens, so that length sorting does not prefer short ones."""
    kept, n = [], 0
    for row in rows:
        if n > 1.6 * tokens:  # system prompts and first tokens, about a third of a row, are not used
            break
        kept.append(row)
        n += len(row.ids)
    return kept


def _spread(prompts: list[Prompt]) -> list[Prompt]:
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(1)).tolist()
    return [prompts[i] for i in order]


def _kept(path: Path, key: str) -> dict[str, Tensor] | None:
    if not path.exists():
        return None
    tensors, facts = read_tensors(path)
    return tensors if facts.get("key") == key else None


def _rows_as_tensors(rows: tuple[Row, ...]) -> dict[str, Tensor]:
    ids = torch.tensor([token for row in rows for token in row.ids], dtype=torch.long)
    sizes = torch.tensor([[len(row.ids), row.n_prompt] for row in rows], dtype=torch.long).reshape(-1, 2)
    return {"ids": ids, "sizes": sizes}


def _tensors_as_rows(tensors: Mapping[str, Tensor], side: str) -> list[Row]:
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


def _dataset(name: str) -> list[tuple[str, dict[str, Any]]]:
    from datasets import load_dataset

    try:
        found = load_dataset(name, split="train")
    except Exception as error:  # the hub's client raises errors of many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(
            f"{name} is no .jsonl file and no dataset that can be had ({reason}): give a local JSONL file"
        ) from error
    return [(f"{name}:{i}", dict(value)) for i, value in enumerate(found)]
