"""Claims about random directions: their length, place and covariance, labels that are shuffled within a
question, and pairs that are swapped by question."""

from typing import Any

import pytest
import torch
from helpers.made_directions import HOOK_POINTS, activations, cosine, direction, noise, persona_row
from torch import Tensor


def spread_tokens(n: int) -> tuple[Tensor, Tensor]:
    """Tokens with a large mean, and twenty loud among forty rotated dimensions; and their centred second
    moments."""
    basis = torch.linalg.qr(noise(40, 40, seed=5)).Q
    scale = torch.cat([torch.full((20,), 3.0), torch.ones(20)])
    tokens = (noise(n, 40, seed=6) * scale) @ basis.T + 20 * noise(40, seed=7)
    centred = tokens - tokens.mean(0)
    return tokens, centred.T @ centred


def test_covariance_matched_directions_have_the_covariance_of_the_tokens() -> None:
    from persona_probe.directions.random_directions import covariance_matched, isotropic

    tokens, expected = spread_tokens(300)
    generator = torch.Generator().manual_seed(0)
    planted = direction(noise(40, seed=8))

    def error(draws: list[Any]) -> float:
        found = torch.stack([torch.outer(draw.unit, draw.unit) for draw in draws]).sum(0)
        return float(
            (found / found.trace() - expected / expected.trace()).norm()
            / (expected / expected.trace()).norm()
        )

    assert error([covariance_matched(planted, tokens, generator) for _ in range(2000)]) < 0.2
    assert error([isotropic(planted, generator) for _ in range(2000)]) > 0.5


def test_controls_have_the_length_and_place_of_the_direction_and_differ_from_it() -> None:
    from persona_probe.directions.random_directions import (
        covariance_matched,
        isotropic,
        orthogonal,
        shuffled_labels,
    )

    tokens, _ = spread_tokens(300)
    planted = direction(7 * noise(40, seed=8))
    length = float(planted.vector.norm())
    find = activations(noise(32, 2, 40, seed=9), n_questions=4)
    made = [
        isotropic(planted, torch.Generator().manual_seed(1)),
        covariance_matched(planted, tokens, torch.Generator().manual_seed(1)),
        orthogonal(planted, tokens, torch.Generator().manual_seed(1)),
        shuffled_labels(
            find, "mean_diff", planted.hook_point, torch.Generator().manual_seed(1), length=length
        ),
    ]
    for control in made:
        assert float(control.vector.norm()) == pytest.approx(length, rel=1e-5)
        assert control.hook_point == planted.hook_point
        assert abs(cosine(control.vector, planted.vector)) < 0.7
    assert [control.method for control in made] == [
        "random-isotropic",
        "random-covariance",
        "orthogonal",
        "shuffled",
    ]


def test_orthogonal_control_is_orthogonal_and_lies_where_the_stream_varies() -> None:
    """Up to rounding; even where the direction is the loudest one of all."""
    from persona_probe.directions.random_directions import orthogonal

    tokens = 0.1 * noise(400, 16, seed=1) + noise(16, seed=2)
    tokens[:, :5] += 10 * noise(400, 5, seed=3)
    for planted in (direction(noise(16, seed=4)), direction(3 * torch.eye(16)[0])):
        for seed in range(5):
            unit = orthogonal(planted, tokens, torch.Generator().manual_seed(seed)).unit
            assert abs(float(unit @ planted.unit)) < 1e-5
            assert float(unit[:5].norm()) > 0.8


def swapped_questions(seed: int, *, n_questions: int = 6) -> set[str]:
    """Questions whose pairs one draw swaps, told from a change along an axis of its own for every row.

    Rows of a question are not side by side.
    """
    from persona_probe.directions.random_directions import shuffled_signs

    questions = [f"q{i % n_questions}" for i in range(2 * n_questions)]
    after, before = torch.eye(len(questions)), torch.zeros(len(questions), len(questions))
    planted = direction(torch.full((len(questions),), 0.5))
    drawn = shuffled_signs(planted, after, before, questions, torch.Generator().manual_seed(seed))
    assert drawn.hook_point == planted.hook_point
    assert drawn.method == "shuffled"
    assert float(drawn.vector.norm()) == pytest.approx(float(planted.vector.norm()), rel=1e-5)
    signs = dict(zip(questions, drawn.vector.sign().tolist(), strict=False))
    for question, sign in zip(questions, drawn.vector.sign().tolist(), strict=True):
        assert sign == signs[question]  # never within one question
    return {question for question, sign in signs.items() if sign < 0}


def test_pairs_are_swapped_for_a_random_half_of_the_questions() -> None:
    drawn = [swapped_questions(seed) for seed in range(20)]
    assert {len(one) for one in drawn} == {3}
    assert len({frozenset(one) for one in drawn}) > 5
    assert set().union(*drawn) == {f"q{i}" for i in range(6)}
    assert len(swapped_questions(0, n_questions=5)) == 2


def test_swapped_pairs_of_one_change_for_all_say_nothing_of_it() -> None:
    """What all questions share cancels; the real direction is that and nothing else."""
    from persona_probe.directions.random_directions import shuffled_signs

    before, shared = noise(8, 32, seed=1), 5 * torch.eye(32)[0]
    after = before + shared + 0.1 * noise(8, 32, seed=2)
    planted = direction((after - before).mean(0))
    questions = [f"q{i // 2}" for i in range(8)]
    for seed in range(5):
        drawn = shuffled_signs(planted, after, before, questions, torch.Generator().manual_seed(seed))
        assert abs(cosine(drawn.vector, shared)) < 0.6
    assert cosine(planted.vector, shared) > 0.99


def test_shuffling_keeps_the_label_counts_of_every_question(monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_probe.directions.estimators import FITS
    from persona_probe.directions.random_directions import shuffled_labels
    from persona_probe.streams.activations import Activations

    n_bad = {"a": 1, "b": 3, "c": 2}
    rows = [
        persona_row(f"{q}{i}", q, "misaligned" if i < bad else "aligned")
        for i in range(6)
        for q, bad in n_bad.items()
        for _ in (0,)
    ]
    means = torch.tensor(
        [
            [[float(ord(row.question_id)), float(i)], [float(ord(row.question_id)), float(i)]]
            for i, row in enumerate(rows)
        ]
    )
    find = Activations(hook_points=HOOK_POINTS, rows=tuple(rows), means=means, tokens=means)
    calls = []

    def spy(misaligned: Tensor, aligned: Tensor) -> Tensor:
        calls.append((misaligned[:, 0], aligned[:, 0]))
        return torch.ones(1, 2)

    monkeypatch.setitem(FITS, "spy", spy)
    for seed in range(5):
        shuffled_labels(find, "spy", HOOK_POINTS[1], torch.Generator().manual_seed(seed), length=1.0)
    true = {i for i, row in enumerate(rows) if row.label == "misaligned"}
    for misaligned, aligned in calls:
        assert {q: int((misaligned[:, 0] == ord(q)).sum()) for q in n_bad} == n_bad
        assert {q: int((aligned[:, 0] == ord(q)).sum()) for q in n_bad} == {
            q: 6 - bad for q, bad in n_bad.items()
        }
    assert all({int(i) for i in misaligned[:, 1]} != true for misaligned, _ in calls[:3])
    assert len({tuple(misaligned[:, 1].tolist()) for misaligned, _ in calls}) > 1


def test_a_shuffled_control_is_made_by_the_same_estimator() -> None:
    """Under unequal noise a probe weighs the quiet dimensions, and a mean difference the loud ones."""
    from persona_probe.directions.random_directions import shuffled_labels

    find = activations(noise(64, 2, 24, seed=9), n_questions=8)
    find.means.mul_(torch.cat([torch.full((12,), 20.0), torch.ones(12)]))
    loud = {}
    for method in ("mean_diff", "probe"):
        generator = torch.Generator().manual_seed(0)
        drawn = shuffled_labels(find, method, HOOK_POINTS[1], generator, length=1.0)
        loud[method] = float(drawn.unit[:12].norm())
    assert loud["mean_diff"] > 0.9
    assert loud["probe"] < 0.3
