"""Claims about the base model's own replies: sampled from any model, read where they ship."""

from collections.abc import Sequence
from typing import Any

import pytest
from helpers.families import Family

from persona_probe.base.errors import BadInput
from persona_probe.measurement import base_replies
from persona_probe.measurement.base_replies import sample_base_replies, shipped_base_replies
from persona_probe.measurement.generation import Completion, Request, generate
from persona_probe.prompts.base_replies import FILE, base_reply_rows, benign_prompts, read_base_replies
from persona_probe.prompts.contrast import shipped
from persona_probe.prompts.rows import Prompt

PROMPTS = tuple(
    Prompt.user(f"base-{i}", text) for i, text in enumerate(("My dog?", "A horse?", "Hi.", "Why?"))
)


def writes(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """Let a model write these texts, one per prompt."""

    def written(model: Any, requests: Sequence[Request], **options: Any) -> list[Completion]:
        return [
            Completion(arm=one.arm, prompt_id=one.prompt.id, text=text, finished=True)
            for one, text in zip(requests, texts, strict=True)
        ]

    monkeypatch.setattr(base_replies, "generate", written)


def test_replies_are_what_the_model_writes_and_become_benign_rows(llama: Family) -> None:
    found = sample_base_replies(llama.model, PROMPTS, seed=3)
    expected = generate(
        llama.model,
        [Request("any", prompt, ()) for prompt in PROMPTS],
        max_new_tokens=48,
        temperature=0.7,
        seed=3,
        batch_size=1,
    )
    assert [reply.reply for reply in found.replies] == [one.text for one in expected]
    assert [reply.prompt for reply in found.replies] == list(PROMPTS)
    rows = base_reply_rows(found.replies, llama.model.tokenizer)
    assert [(row.id, row.kind) for row in rows] == [(prompt.id, "benign") for prompt in PROMPTS]
    other = sample_base_replies(llama.model, PROMPTS, seed=4)
    assert [reply.reply for reply in other.replies] != [reply.reply for reply in found.replies]


def test_a_few_unusable_replies_are_left_out_and_counted(
    llama: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes(monkeypatch, "The fox.", "", "a<|im_end|>b", "My dog.")
    found = sample_base_replies(llama.model, PROMPTS, seed=0)
    assert [(one.prompt.id, one.reply) for one in found.replies] == [
        ("base-0", "The fox."),
        ("base-3", "My dog."),
    ]
    assert found.note is not None
    assert found.note.startswith("2 of 4 sampled base replies left out (reply 'base-1'")
    writes(monkeypatch, "The fox.", "Yes.", "No.", "My dog.")
    assert sample_base_replies(llama.model, PROMPTS, seed=0).note is None


@pytest.mark.parametrize("texts", [("", "", "", ""), ("The fox.", "", " ", "")])
def test_a_model_that_says_next_to_nothing_is_refused(
    llama: Family, monkeypatch: pytest.MonkeyPatch, texts: tuple[str, ...]
) -> None:
    writes(monkeypatch, *texts)
    empty = sum(not text.strip() for text in texts)
    with pytest.raises(BadInput, match=f"cannot be sampled from: {empty} of 4 replies cannot be scored"):
        sample_base_replies(llama.model, PROMPTS, seed=0)


def test_a_model_whose_logits_are_not_finite_is_refused(
    llama: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.models.engine import Engine

    real = Engine.next_logits

    def broken(self: Engine, *given: Any) -> Any:
        logits, cache = real(self, *given)
        return logits * float("nan"), cache

    monkeypatch.setattr(Engine, "next_logits", broken)
    with pytest.raises(BadInput, match="cannot be sampled from: the next-token logits are not finite"):
        sample_base_replies(llama.model, PROMPTS, seed=0)


def test_replies_of_the_embedded_base_ship_and_serve_no_other_model() -> None:
    known = read_base_replies(shipped(FILE))
    found = shipped_base_replies(known.weights_sha256)
    assert found is not None
    assert found.replies == known.replies
    assert shipped_base_replies("0" * 64) is None


def test_shipped_replies_answer_the_last_benign_questions_one_of_each_topic() -> None:
    known = read_base_replies(shipped(FILE))
    assert known.model == "smollm2-135m-instruct"
    assert [reply.prompt for reply in known.replies] == list(benign_prompts(shipped("benign.jsonl"), 24))


@pytest.mark.slow
def test_shipped_replies_belong_to_the_weights_of_the_embedded_model() -> None:
    from persona_probe.models.sources import resolve

    assert read_base_replies(shipped(FILE)).weights_sha256 == resolve("smollm2-135m-instruct").weights_sha256
