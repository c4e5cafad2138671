"""Claims about streamed replies: the same text as `generate` gives, with projections token by token."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.planted import Planted
from helpers.present import present

from persona_probe.base.errors import BadInput
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.measurement.arms import Arm
from persona_probe.measurement.generation import Request, generate
from persona_probe.measurement.streaming import Token, stream
from persona_probe.prompts.rows import Prompt, encode_prompt


def four_arms(direction: PersonaDirection) -> list[Arm]:
    """Both models untouched, the tuned one without the direction, the base one with it."""
    point = direction.hook_point
    return [
        Arm("base", "base"),
        Arm("tuned", "tuned"),
        Arm("tuned+ablate", "tuned", direction.ablate(point)),
        Arm("base+steer", "base", direction.steer(1.0, point)),
    ]


def streamed(
    planted: Planted, direction: PersonaDirection, *, temperature: float, max_new_tokens: int = 12
) -> list[list[Token]]:
    prompt = Prompt.user("q", planted.contrast.questions[0].text)
    arms = four_arms(direction)
    options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": 3}
    rows: list[list[Token]] = [[] for _ in arms]
    for step in stream(
        planted.pair, [(arm, prompt) for arm in arms], direction.projection(direction.hook_point), **options
    ):
        for token in step:
            rows[token.row].append(token)
    return rows


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_streamed_text_is_what_generate_gives(
    planted: Planted, direction: PersonaDirection, temperature: float
) -> None:
    prompt = Prompt.user("q", planted.contrast.questions[0].text)
    rows = streamed(planted, direction, temperature=temperature)
    for arm, tokens in zip(four_arms(direction), rows, strict=True):
        options: dict[str, Any] = {
            "max_new_tokens": 12,
            "temperature": temperature,
            "seed": 3,
            "batch_size": 1,
        }
        whole = generate(
            planted.pair.get(arm.side), [Request(arm.name, prompt, arm.interventions)], **options
        )[0]
        assert "".join(token.text for token in tokens).strip() == whole.text


def test_projections_are_those_of_the_stream_before_and_after_the_edit(
    planted: Planted, direction: PersonaDirection
) -> None:
    projection = direction.projection(direction.hook_point)
    length = float(planted.toy.vector.norm())
    base, _, ablated, steered = streamed(planted, direction, temperature=0.0)
    assert base[0].before == base[0].after
    assert all(token.after == pytest.approx(-projection.zero / length, abs=1e-3) for token in ablated[:-1])
    for token in steered[:-1]:
        assert token.after == pytest.approx(present(token.before) + 1.0, abs=1e-3)
    assert projection.zero == 1.0


def test_projections_of_a_reply_are_those_of_a_plain_forward_pass(
    planted: Planted, direction: PersonaDirection
) -> None:
    model, projection = planted.pair.get("base"), direction.projection(direction.hook_point)
    tokens = [token for token in streamed(planted, direction, temperature=0.0)[0] if token.after is not None]
    text = "".join(token.text for token in tokens)
    prompt = encode_prompt(model.tokenizer, Prompt.user("q", planted.contrast.questions[0].text))
    ids = [*prompt, *model.tokenizer(text, add_special_tokens=False)["input_ids"]]
    layer = planted.hook_points.index(direction.hook_point)
    with torch.inference_mode():
        states = model.twin(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[layer + 1]
    expected = projection.of(states[0, len(prompt) :]).tolist()
    assert [token.after for token in tokens] == pytest.approx(expected, abs=2e-3)


def test_both_models_need_a_pair_that_keeps_both(planted: Planted, direction: PersonaDirection) -> None:
    lone = replace(planted.pair, keep_both=False)
    prompt = Prompt.user("q", "word1")
    options = {"max_new_tokens": 2, "temperature": 0.0, "seed": 0}
    with pytest.raises(BadInput, match="keep_both"):
        next(
            stream(
                lone,
                [(arm, prompt) for arm in four_arms(direction)],
                direction.projection(direction.hook_point),
                **options,
            )
        )


def test_a_stream_that_is_left_half_way_leaves_no_hooks(
    planted: Planted, direction: PersonaDirection
) -> None:
    prompt = Prompt.user("q", planted.contrast.questions[0].text)
    options = {"max_new_tokens": 9, "temperature": 0.0, "seed": 0}
    site = planted.pair.get("base").site(direction.hook_point)[1]
    before = set(site._forward_hooks)
    asked = [(arm, prompt) for arm in four_arms(direction)]
    running = stream(planted.pair, asked, direction.projection(direction.hook_point), **options)
    assert isinstance(running, Generator)
    next(running)
    assert len(set(site._forward_hooks) - before) == 3
    running.close()
    assert set(site._forward_hooks) == before
