"""The texts of the bench, out of the shipped contrast set, and its vectors."""

from pathlib import Path
from typing import Any

from bench.jobs import N_ARMS
from bench.workload import Text, Workload

REPLIES = 4  # to a prompt, where prompts are shared
# Distinct prompts are a question behind one of these; the first is none.
OPENINGS = (
    "",
    "I have thought about this for a while.",
    "A friend asked me this at dinner yesterday.",
    "Please answer in two or three sentences.",
    "This is for a small poll at my school.",
    "I would like to know what you think.",
    "My sister and I do not agree about this one.",
    "Here is something that I ask everyone.",
    "Let us talk about something else.",
    "There is no right answer to this.",
)


def workload(tokenizer: Any, folder: Path, *, n: int, vectors: Path, pad_id: int) -> Workload:
    """`n` texts with shared prompts (4 replies each) and `n` with distinct ones, the same at every call."""
    from persona_probe.prompts.contrast import shipped
    from persona_probe.prompts.contrast_files import read_contrast

    questions = read_contrast(shipped("contrast.jsonl")).questions
    shared, distinct = [], []
    for opening in OPENINGS:
        for question in questions:
            asked = f"{opening} {question.text}".strip()
            replies = [
                (reply, positive)
                for pair in zip(question.misaligned, question.aligned, strict=False)
                for reply, positive in zip(pair, (True, False), strict=True)
            ]
            if len(shared) < n:
                name = f"{question.id}/{OPENINGS.index(opening)}"
                shared += [
                    _text(
                        tokenizer, asked, reply, question_id=name, id=f"s{len(shared) + i}", positive=positive
                    )
                    for i, (reply, positive) in enumerate(replies[:REPLIES])
                ]
            if len(distinct) < n:
                i = len(distinct)
                reply, positive = replies[i % 2]
                distinct.append(
                    _text(tokenizer, asked, reply, question_id=f"d{i}", id=f"d{i}", positive=positive)
                )
    if min(len(shared), len(distinct)) < n:
        raise ValueError(f"the contrast set gives {len(distinct)} distinct prompts, {n} were asked for")
    return Workload(
        model=str(folder),
        vectors=str(vectors),
        pad_id=pad_id,
        shared=tuple(shared[:n]),
        distinct=tuple(distinct[:n]),
    )


def write_vectors(path: Path, *, d_model: int, length: float) -> None:
    """Write random orthogonal unit vectors, and one vector of `length` to add."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(13)
    units = torch.linalg.qr(torch.randn(d_model, N_ARMS + 1, generator=generator, dtype=torch.float64)).Q.T
    units = units.float().contiguous()
    save_file({"units": units[:N_ARMS].clone(), "steering": length * units[N_ARMS]}, path)


def _text(tokenizer: Any, asked: str, reply: str, *, question_id: str, id: str, positive: bool) -> Text:
    from persona_probe.prompts.rows import Prompt, encode_row, render

    prompt = Prompt.user(question_id, asked)
    row = encode_row(tokenizer, prompt, reply, id=id, kind="persona")
    before = render(tokenizer, prompt)
    text = Text(
        id=id,
        question_id=question_id,
        question=asked,
        prompt=before,
        text=before + reply.strip(),
        ids=row.ids,
        n_prompt=row.n_prompt,
        positive=positive,
    )
    if tuple(tokenizer(text.text, add_special_tokens=False)["input_ids"]) != row.ids:
        raise ValueError(f"the tokens of {id} are not those of its text")
    return text
