"""Claims about random directions: their length, place and covariance, and labels that are shuffled within a
question."""

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


def test_orthogonal_control_is_orthogonal_and_inside_the_top_components() -> None:
    from persona_probe.directions.random_directions import orthogonal

    tokens = 0.1 * noise(400, 16, seed=1) + noise(16, seed=2)
    tokens[:, :5] += 10 * noise(400, 5, seed=3)
    planted = direction(noise(16, seed=4))
    for seed in range(5):
        unit = orthogonal(planted, tokens, torch.Generator().manual_seed(seed), n_components=5).unit
        assert abs(float(unit @ planted.unit)) < 1e-5
        assert float(unit[5:].norm()) < 0.05


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
