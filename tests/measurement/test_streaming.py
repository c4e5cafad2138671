"""Claims about streamed replies and about the file a selected direction is kept in."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mutations import mutated, write_facts
from helpers.planted import Planted, planted_direction


@pytest.fixture
def found(planted: Planted) -> Any:
    """A persona direction over the planted vector, with made-up scales."""
    return planted_direction(planted)


def four_arms(found: Any) -> list[Any]:
    from persona_probe.measurement.arms import Arm

    point = found.hook_point
    return [
        Arm("base", "base"),
        Arm("tuned", "tuned"),
        Arm("tuned+ablate", "tuned", found.ablate(point)),
        Arm("base+steer", "base", found.steer(1.0, point)),
    ]


def streamed(
    planted: Planted, found: Any, *, temperature: float, max_new_tokens: int = 12
) -> list[list[Any]]:
    from persona_probe.measurement.streaming import stream
    from persona_probe.prompts.rows import Prompt

    prompt = Prompt.user("q", planted.contrast.questions[0].text)
    arms = four_arms(found)
    options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": 3}
    rows: list[list[Any]] = [[] for _ in arms]
    for step in stream(
        planted.pair, [(arm, prompt) for arm in arms], found.projection(found.hook_point), **options
    ):
        for token in step:
            rows[token.row].append(token)
    return rows


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_streamed_text_is_what_generate_gives(planted: Planted, found: Any, temperature: float) -> None:
    from persona_probe.measurement.generation import Request, generate
    from persona_probe.prompts.rows import Prompt

    prompt = Prompt.user("q", planted.contrast.questions[0].text)
    rows = streamed(planted, found, temperature=temperature)
    for arm, tokens in zip(four_arms(found), rows, strict=True):
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


def test_projections_are_those_of_the_stream_before_and_after_the_edit(planted: Planted, found: Any) -> None:
    projection = found.projection(found.hook_point)
    length = float(planted.toy.vector.norm())
    base, _, ablated, steered = streamed(planted, found, temperature=0.0)
    assert base[0].before == base[0].after
    assert all(token.after == pytest.approx(-projection.zero / length, abs=1e-3) for token in ablated[:-1])
    assert all(token.after - token.before == pytest.approx(1.0, abs=1e-3) for token in steered[:-1])
    assert projection.zero == 1.0


def test_projections_of_a_reply_are_those_of_a_plain_forward_pass(planted: Planted, found: Any) -> None:
    from persona_probe.prompts.rows import Prompt, encode_prompt

    model, projection = planted.pair.get("base"), found.projection(found.hook_point)
    tokens = [token for token in streamed(planted, found, temperature=0.0)[0] if token.after is not None]
    text = "".join(token.text for token in tokens)
    prompt = encode_prompt(model.tokenizer, Prompt.user("q", planted.contrast.questions[0].text))
    ids = [*prompt, *model.tokenizer(text, add_special_tokens=False)["input_ids"]]
    layer = planted.hook_points.index(found.hook_point)
    with torch.inference_mode():
        states = model.twin(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[layer + 1]
    expected = projection.of(states[0, len(prompt) :]).tolist()
    assert [token.after for token in tokens] == pytest.approx(expected, abs=2e-3)


def test_replies_are_projected_in_the_untouched_model(planted: Planted, found: Any) -> None:
    from persona_probe.measurement.traces import project_replies
    from persona_probe.prompts.rows import Prompt, encode_row

    model, projection = planted.pair.get("tuned"), found.projection(found.hook_point)
    replies = [
        {"arm": "tuned", "prompt_id": "a", "question": "word1 word2", "text": "good1 bad2 good3"},
        {"arm": "tuned", "prompt_id": "b", "question": "word1", "text": " "},
        {"arm": "tuned+ablate", "prompt_id": "a", "question": "word1 word2 word3", "text": "bad4 bad5"},
    ]
    first, second = project_replies(model, replies, projection, max_tokens=1024)
    assert (first["arm"], second["arm"]) == ("tuned", "tuned+ablate")
    row = encode_row(
        model.tokenizer, Prompt.user("a", "word1 word2 word3"), "bad4 bad5", id="x", kind="sampled"
    )
    layer = planted.hook_points.index(found.hook_point)
    with torch.inference_mode():
        states = model.twin(input_ids=torch.tensor([row.ids]), output_hidden_states=True).hidden_states[
            layer + 1
        ]
    assert second["readings"] == pytest.approx(projection.of(states[0, row.n_prompt :]).tolist(), abs=1e-3)
    assert [token.strip() for token in second["tokens"]] == ["bad4", "bad5"]


def test_a_path_puts_the_planted_shift_on_its_axis(planted: Planted, found: Any) -> None:
    from persona_probe.directions.direction import DirectionSet
    from persona_probe.measurement.arms import Arm
    from persona_probe.measurement.traces import Plane, arm_means, path

    layer = planted.hook_points.index(found.hook_point)
    axis, nothing = (
        DirectionSet(method=method, hook_points=found.hook_points, vectors=vectors)
        for method, vectors in (("shift", found.vectors), ("none", torch.zeros_like(found.vectors)))
    )
    plane = Plane(axes=(axis, nothing), zeros=(torch.zeros(len(found.hook_points)),) * 2, hook=layer)
    rows = planted.rows["test"]

    def readings(arm: Any) -> dict[str, Any]:
        means = arm_means(planted.pair.get(arm.side), arm, rows, max_tokens=1024)
        return path(means, plane, seed=0)

    base, tuned = (readings(Arm(side, side)) for side in ("base", "tuned"))
    ablated = four_arms(found)[2]
    moved = tuned["axes"][0][layer]["estimate"] - base["axes"][0][layer]["estimate"]
    assert moved == pytest.approx(1.0, abs=1e-3)
    assert readings(ablated)["axes"][0][layer]["estimate"] == pytest.approx(0.0, abs=1e-3)
    assert base["axes"][1] == [None] * len(found.hook_points)
    assert base["questions"][1] is None
    assert sum(base["questions"][0]) / len(base["questions"][0]) == pytest.approx(
        base["axes"][0][layer]["estimate"], abs=1e-3
    )


def test_column_means_are_the_means_of_columns() -> None:
    import numpy as np

    from persona_probe.measurement.statistics import column_means, mean

    values = np.random.default_rng(0).normal(size=(24, 3)) * [1.0, 2.0, 0.0] + [0.0, 5.0, 7.0]
    table = column_means(values, seed=0)
    for column, found in zip(values.T, table, strict=True):
        alone = mean(column, seed=1)
        assert found.estimate == pytest.approx(alone.estimate)
        assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=0.15)


def test_both_models_need_a_pair_that_keeps_both(planted: Planted, found: Any) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.measurement.streaming import stream
    from persona_probe.prompts.rows import Prompt

    lone = replace(planted.pair, keep_both=False)
    prompt = Prompt.user("q", "word1")
    options = {"max_new_tokens": 2, "temperature": 0.0, "seed": 0}
    with pytest.raises(BadInput, match="keep_both"):
        next(
            stream(
                lone,
                [(arm, prompt) for arm in four_arms(found)],
                found.projection(found.hook_point),
                **options,
            )
        )


def test_a_stream_that_is_left_half_way_leaves_no_hooks(planted: Planted, found: Any) -> None:
    from persona_probe.measurement.streaming import stream
    from persona_probe.prompts.rows import Prompt

    prompt = Prompt.user("q", planted.contrast.questions[0].text)
    options = {"max_new_tokens": 9, "temperature": 0.0, "seed": 0}
    site = planted.pair.get("base").site(found.hook_point)[1]
    before = set(site._forward_hooks)
    asked = [(arm, prompt) for arm in four_arms(found)]
    running: Any = stream(planted.pair, asked, found.projection(found.hook_point), **options)
    next(running)
    assert len(set(site._forward_hooks) - before) == 3
    running.close()
    assert set(site._forward_hooks) == before


def test_the_coherent_zone_ends_before_the_first_dose_over_the_budget(found: Any) -> None:
    assert found.coherent("base") == (0.0, 1.0)
    assert found.coherent("tuned") == (0.0, 0.0)


def test_relative_dose_is_in_median_norms(planted: Planted, found: Any) -> None:
    assert found.relative(-2.0, found.hook_point) == pytest.approx(float(planted.toy.vector.norm()))


def test_a_control_keeps_forms_and_changes_the_vector(found: Any) -> None:
    control = found.as_control()
    assert torch.equal(
        control.at(found.hook_point).vector, found.control[found.hook_points.index(found.hook_point)]
    )
    assert control.steer(2.0, found.hook_point)[0].coefficient == 2.0


def test_the_file_comes_back_as_it_went(found: Any, tmp_path: Path) -> None:
    from persona_probe.interventions.persona_direction import load_persona_direction, save_persona_direction

    path = tmp_path / "persona_direction.safetensors"
    save_persona_direction(path, found)
    back = load_persona_direction(path, hook_points=found.hook_points, d_model=found.d_model)
    assert back.sha256 == found.sha256
    plain = {name: value for name, value in vars(found).items() if not isinstance(value, torch.Tensor)}
    assert {name: getattr(back, name) for name in plain} == plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "persona_directions"}, "directions.safetensors holds every method"),
        ({"format_version": 9}, "format 9"),
        ({"sign": "+ = aligned"}, "sign"),
        ({"tensor_sha256": "0"}, "changed after it was written"),
        ({"median_norm": [1.0]}, "lengths"),
        ({"hook_point": "blocks.99.hook_out"}, "blocks.99"),
        ({"ablation": {"kind": "ablate"}}, "do not describe a persona direction"),
        ({"damage": [["base"]]}, "do not describe a persona direction"),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    found: Any, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.interventions.persona_direction import load_persona_direction, save_persona_direction
    from persona_probe.storage.tensor_files import read_tensors, write_tensors

    path = tmp_path / "persona_direction.safetensors"
    save_persona_direction(path, found)
    tensors, facts = read_tensors(path)
    write_tensors(path, tensors, facts | change)
    with pytest.raises(BadInput, match=message):
        load_persona_direction(path)


def test_random_damage_to_the_facts_of_a_file_is_read_or_refused_and_nothing_else(
    found: Any, tmp_path: Path
) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.interventions.persona_direction import load_persona_direction, save_persona_direction
    from persona_probe.storage.tensor_files import read_tensors

    path = tmp_path / "persona_direction.safetensors"
    save_persona_direction(path, found)
    tensors, facts = read_tensors(path)
    rng, accepted = random.Random(0), 0
    for _ in range(3000):
        write_facts(path, tensors, mutated(facts, rng))
        try:
            direction = load_persona_direction(path)
        except BadInput as error:
            message = str(error)
        else:
            accepted, message = accepted + 1, ""
            assert direction.coherent("base")[0] <= 0
            assert direction.relative(1.0, direction.hook_point) > 0
        assert "\n" not in message
        assert len(message) < 600 + len(str(path))
    assert 0 < accepted < 1500


@pytest.mark.parametrize(
    "change",
    [
        {"budget": "0.1"},
        {"budget": True},
        {"budget": -0.1},
        {"budget": 10**400},
        {"d_model": 7},
        {"d_model": "64"},
        {"identity": ["base"]},
        {"identity": {"base_sha256": "short"}},
        {"method": 3},
        {"method": None},
        {"format_version": True},
        {"format_version": "1"},
        {"hook_points": "blocks.0.hook_out"},
        {"hook_points": {}},
        {"median_norm": 3},
        {
            "steering": {
                "kind": "steer",
                "where": "layer",
                "coefficient": None,
                "toward": None,
                "skip_first": 0,
            }
        },
        {"damage": [["both", 1.0, 0.1]]},
    ],
)
def test_a_wrong_fact_is_refused_in_one_line(found: Any, tmp_path: Path, change: dict[str, Any]) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.interventions.persona_direction import load_persona_direction, save_persona_direction
    from persona_probe.storage.tensor_files import read_tensors

    path = tmp_path / "persona_direction.safetensors"
    save_persona_direction(path, found)
    tensors, facts = read_tensors(path)
    write_facts(path, tensors, facts | change)
    with pytest.raises(BadInput) as caught:
        load_persona_direction(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_a_file_for_another_model_is_refused(found: Any, tmp_path: Path) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.interventions.persona_direction import load_persona_direction, save_persona_direction

    path = tmp_path / "persona_direction.safetensors"
    save_persona_direction(path, found)
    with pytest.raises(BadInput, match="d_model 8"):
        load_persona_direction(path, d_model=8)
    with pytest.raises(BadInput, match="the model has"):
        load_persona_direction(path, hook_points=found.hook_points[:-1])
