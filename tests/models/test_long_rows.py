"""Claims about rows beyond a window: a score is the row's own, alone, beside longer rows, in any order, and
after anything else was scored."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny

WINDOW = 24
ROPES: dict[str, dict[str, Any]] = {
    "longrope": {
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0, 1.1, 1.2, 1.3],
            "long_factor": [2.0, 3.0, 4.0, 5.0],
            "original_max_position_embeddings": WINDOW,
            "factor": 8.0,
        },
        "max_position_embeddings": 192,
    },
    "dynamic": {
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 8.0},
        "max_position_embeddings": WINDOW,
    },
}
LENGTHS = (
    (6, 5),
    (14, 4),
    (20, 8),
    (20, 12),
    (30, 9),
    (44, 5),
    (6, 50),
)  # tokens of prompt and reply, short and beyond the window


@pytest.fixture(scope="module", params=[*ROPES, "sliding"])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A model and a plain Hugging Face one over the same folder, never bridged."""
    from transformers import AutoModelForCausalLM

    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve

    family, changes = ("mistral", {}) if request.param == "sliding" else ("llama", ROPES[request.param])
    folder = tiny.write_tiny(tmp_path_factory.mktemp(request.param), family, **changes)
    plain = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    return load(resolve(str(folder)), base=None, device=torch.device("cpu"), dtype=torch.float32), (
        plain,
        folder,
    )


def rows() -> list[Any]:
    """Two replies to each prompt, so that prompts are shared."""
    from persona_probe.prompts.rows import Row

    ids = torch.randint(20, 300, (len(LENGTHS), 2, 64), generator=torch.Generator().manual_seed(3)).tolist()
    made = []
    for i, (n_prompt, n_reply) in enumerate(LENGTHS):
        prompt = ids[i][0][:n_prompt]
        made += [
            Row(
                id=f"{i}/{j}",
                kind="persona",
                question_id=f"q{i}",
                ids=(*prompt, *ids[i][j][n_prompt : n_prompt + n_reply - j]),
                n_prompt=n_prompt,
            )
            for j in range(2)
        ]
    return made


def by_hand(folder: Path) -> list[float]:
    """Every row alone through a model that has seen no other row."""
    from transformers import AutoModelForCausalLM

    found = []
    for row in rows():
        plain = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        with torch.no_grad():
            logits = plain(torch.tensor([row.ids])).logits[0, row.n_prompt - 1 : -1].log_softmax(-1)
        found.append(float(logits.gather(1, torch.tensor(row.ids[row.n_prompt :])[:, None]).sum()))
    return found


def test_scores_beyond_the_window_are_those_of_each_row_alone(models: tuple[Any, Any]) -> None:
    from persona_probe.measurement.scoring import score_rows

    model, (_, folder) = models
    expected = torch.tensor(by_hand(folder), dtype=torch.float64)
    assert any(len(row.ids) > WINDOW for row in rows())
    for order in (rows(), rows()[::-1]):
        for keep_prompts in (False, True):
            found = score_rows(model, order, (), max_tokens=4000, keep_prompts=keep_prompts)
            values = dict(zip(found.ids, found.logprob.tolist(), strict=True))
            mine = torch.tensor([values[row.id] for row in rows()], dtype=torch.float64)
            assert ((mine - expected).abs() / expected.abs()).max() < 1e-5
    for row, value in list(zip(rows(), expected, strict=True))[::3]:
        assert float(score_rows(model, [row], (), max_tokens=4000).logprob[0]) == pytest.approx(
            float(value), rel=1e-5
        )


def test_generation_that_crosses_the_window_is_that_of_a_model_without_a_cache(
    models: tuple[Any, Any],
) -> None:
    from contextlib import nullcontext

    from persona_probe.measurement.running import Asked, Sampling, steps

    model, (plain, _) = models
    prompt = rows()[4].ids[:20]
    with torch.inference_mode():
        sampling = Sampling(max_new_tokens=8, temperature=0.0, seed=0)
        asked = [Asked(prompt, torch.Generator())]
        written = [step.tokens[0] for step in steps(model, asked, sampling, lambda _: nullcontext())]
        ids = list(prompt)
        for _ in range(len(written)):
            ids.append(int(plain(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    assert written == ids[20 : 20 + len(written)]
    assert len(written) == 8 or written[-1] in model.eos_ids


def test_prompts_that_may_cross_the_window_are_generated_alone(models: tuple[Any, Any]) -> None:
    from persona_probe.measurement.generation import Request, generate
    from persona_probe.prompts.rows import Prompt

    model, _ = models
    requests = [
        Request("a", Prompt.user(f"q{i}", text), ())
        for i, text in enumerate(("Hi.", "What should I do about it now?", "Rain?"))
    ]
    together = generate(model, requests, max_new_tokens=20, temperature=0.0, seed=0, batch_size=8)
    alone = [
        generate(model, [request], max_new_tokens=20, temperature=0.0, seed=0, batch_size=1)[0]
        for request in requests
    ]
    assert [found.text for found in together] == [found.text for found in alone]


def test_streams_of_prompts_that_cannot_stand_in_one_batch_are_refused(models: tuple[Any, Any]) -> None:
    from dataclasses import replace

    from persona_probe.base.errors import BadInput
    from persona_probe.measurement.streaming import check_together

    model, _ = models
    short, longer = rows()[0].ids[:6], rows()[2].ids[:14]
    check_together(model, [short, short, longer], max_new_tokens=4)
    unpadded = replace(model, engine=replace(model.engine, pads_left=False))
    check_together(unpadded, [short, short], max_new_tokens=4)
    cannot = [unpadded, model] if model.engine.window is not None else [unpadded]
    for one in cannot:
        with pytest.raises(BadInput, match="cannot answer prompts of 6 and 14 tokens side by side"):
            check_together(one, [short, longer], max_new_tokens=30)
