"""Claims about `doctor`: what holds for a model is in its table, and whatever could make a number wrong ends
it with exit code 3."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny
from helpers.commands import words


def examined(
    folder: Path,
    adapter: Path | None = None,
    *,
    capsys: pytest.CaptureFixture[str],
    as_json: bool = True,
    **options: Any,
) -> tuple[int, Any]:
    """Exit code of `doctor`, and what it printed."""
    from persona_probe.doctor import COMMAND

    chosen = words(**{"device": "cpu", "dtype": "float32", "quiet": True, "json": as_json} | options)
    code = COMMAND.main([str(folder), *([] if adapter is None else [str(adapter)]), *chosen])
    printed = capsys.readouterr()
    return code, json.loads(printed.out) if as_json and printed.out else printed.out + printed.err


def findings(answer: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {finding["topic"]: (finding["status"], finding["found"]) for finding in answer["findings"]}


def test_a_model_that_agrees_with_hugging_face_is_all_ok(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = examined(written, capsys=capsys)
    found = findings(answer)
    assert (code, answer["right"], answer["type"]) == (0, True, "doctor")
    assert {status for status, _ in found.values()} == {"ok"}
    assert {
        "engine",
        "parity, logits (sdpa)",
        "parity, padding",
        "parity, cache",
        "parity, residual stream",
        "parity, bridge: edit",
    } <= set(found)
    assert {"tying", "vocabulary", "padding", "BOS", "context", "dtype and device", "memory"} <= set(found)
    assert {
        f"template, {part}" for part in ("prompt and reply", "system text", "end of turn", "thinking", "date")
    } <= set(found)
    assert found["template, prompt and reply"][1].endswith(
        r"<|im_start|>assistant\n|Have a mechanic look at it.|<|im_end|>\n"
    )
    assert found["template, end of turn"][1] == "<|im_end|>"
    assert found["context"][1] == "192 tokens"
    assert "sdpa attention" in found["engine"][1]


def test_an_adapter_is_examined_merged_and_another_base_name_is_noted(
    adapter: Path, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.edit_json(adapter / "adapter_config.json", base_model_name_or_path="somebody/another-model")
    code, answer = examined(written, adapter, capsys=capsys)
    found = findings(answer)
    assert code == 0
    assert "LoRA adapter, merged into" in found["source"][1]
    assert found["adapter"][0] == "note"
    assert "another-model" in found["adapter"][1]


@pytest.mark.parametrize(
    ("template", "topic", "status", "said"),
    [
        (
            "{{ messages[0]['content'] | upper }}{{ messages[-1]['content'] }}",
            "template",
            "wrong",
            "leaves out or changes the user text",
        ),
        (
            (
                "{% for m in messages if m['role'] != 'system' %}<|im_start|>{{ m['role'] }}\n{{ m['content']"
                " }}<|im_end|>\n{% endfor %}"
            ),
            "template, system text",
            "ok",
            "system text inside the user turn",
        ),
        (
            "{{ strftime_now('%d %b %Y') }}" + tiny.TEMPLATE,
            "template, date",
            "ok",
            "2026-03-04, asked for by the template",
        ),
        (
            (
                "{% for m in messages %}{{ m['role'] }}: {% if m['role'] == 'assistant' %}<think>{% endif"
                " %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
            ),
            "template, thinking",
            "ok",
            r"keep; \n\n</think>\n\n was added",
        ),
        (
            (
                "{% for m in messages if m['role'] != 'assistant' %}<|im_start|>{{ m['role'] }}\n{{"
                " m['content'] }}<|im_end|>\n{% endfor %}"
            ),
            "template",
            "note",
            "it does not render a reply",
        ),
    ],
)
def test_what_a_template_does_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], template: str, topic: str, status: str, said: str
) -> None:
    (folder / "chat_template.jinja").write_text(template)
    code, answer = examined(folder, capsys=capsys, date="2026-03-04")
    found = findings(answer)
    assert found[topic][0] == status
    assert said in found[topic][1]
    assert code == (3 if status == "wrong" else 0)
    assert answer["right"] is (status != "wrong")


def test_tokens_without_an_embedding_are_noted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = tiny.tiny_tokenizer()
    tokenizer.add_tokens(["mechanic"])
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    found = findings(examined(folder, capsys=capsys)[1])
    assert found["vocabulary"][0] == "note"
    assert "have no embedding ([PAD], mechanic), texts with them are refused" in found["vocabulary"][1]
    assert "the tokenizer's own, " in found["padding"][1]


def test_weights_that_are_not_tied_as_their_config_says_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from helpers.broken import change_weights

    folder = tiny.write_tiny(tmp_path, "llama", tie_word_embeddings=True)
    assert findings(examined(folder, capsys=capsys)[1])["tying"] == (
        "ok",
        "input and output embeddings are one matrix",
    )
    change_weights(
        folder, lambda tensors: tensors.update({"lm_head.weight": 2 * tensors["model.embed_tokens.weight"]})
    )
    status, found = findings(examined(folder, capsys=capsys)[1])["tying"]
    assert (status, found) == (
        "note",
        "input and output embeddings are two matrices; the config says one, the weights decide",
    )


def test_the_table_names_every_topic_at_any_width(
    written: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = set(findings(examined(written, capsys=capsys)[1]))
    for columns in ("40", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        printed = examined(written, capsys=capsys, as_json=False)[1]
        assert all(topic in printed for topic in topics)
        assert "Numbers of this model can be trusted." in " ".join(printed.split())


def test_models_in_the_wrong_place_are_usage_errors(
    adapter: Path, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, options, said in (
        ((adapter,), {}, "is an adapter: give the model that it was trained on first"),
        ((written, written), {}, "is a full model, no adapter"),
        ((written,), {"thinking": "much"}, "no thinking 'much'"),
    ):
        code, printed = examined(*arguments, capsys=capsys, **options)
        assert code == 2
        assert said in printed


def test_the_main_job_says_and_records_what_is_not_plainly_right(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from persona_probe.experiments.checkup import chat_facts, examine
    from persona_probe.models.pairs import open_pair
    from persona_probe.prompts.tokenizers import ChatOptions
    from persona_probe.storage.runs import open_run

    (folder / "chat_template.jinja").write_text(
        "{% for m in messages if m['role'] != 'assistant' %}<|im_start|>{{ m['role'] }}\n{{ m['content']"
        " }}<|im_end|>\n{% endfor %}"
    )
    tuned = tiny.write_tiny(tmp_path / "tuned", "llama", seed=4)
    chat = ChatOptions(date="2026-04-05")
    pair = open_pair(
        str(folder), str(tuned), device=torch.device("cpu"), dtype=torch.float32, template="base", chat=chat
    )
    said: list[str] = []
    with open_run(tmp_path / "run", {}) as run:
        found = examine(pair, run, "base", said.append)
        again = examine(pair, run, "base", said.append)
    assert found == again
    assert (
        said
        == ["note: base: template: it does not render a reply: replies stand behind its generation prompt"]
        * 2
    )
    assert found.attention == "sdpa"
    assert max(value for value in found.compared.values() if value is not None) < 3e-4
    facts = chat_facts(pair.tokenizer)
    assert (facts["thinking"], facts["date"], facts["end_of_turn"]) == ("keep", "2026-04-05", "<|im_end|>")
