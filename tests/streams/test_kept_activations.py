"""Claims about activations and tensors kept in a run's folder: the very same come back, damaged ones are made
again."""

import os
from pathlib import Path

import pytest
import torch

from persona_probe.base.hook_points import HookPoint
from persona_probe.prompts.rows import Row
from persona_probe.storage.files import sha256_json
from persona_probe.storage.kept_tensors import kept_tensors
from persona_probe.storage.runs import Run, open_run
from persona_probe.storage.tensor_files import sha256_tensors, write_tensors
from persona_probe.streams.activations import Activations
from persona_probe.streams.kept import kept_activations

ASKED = {"seed": 0, "budget": 0.1}
ROWS = (
    Row(id="r0", kind="persona", question_id="p", ids=(1, 2, 3), n_prompt=2, label="aligned"),
    Row(id="r1", kind="persona", question_id="p", ids=(1, 2, 4), n_prompt=2, label="misaligned"),
)


HOOKS = tuple(HookPoint(layer) for layer in range(3))


KEY = "0123456789abcdef" * 4


def activations(scale: float = 1.0) -> Activations:
    """Values that no half-precision number equals."""
    generator = torch.Generator().manual_seed(0)
    return Activations(
        hook_points=HOOKS,
        rows=ROWS,
        means=scale * torch.randn(2, 3, 5, generator=generator),
        tokens=scale * torch.randn(2, 3, 5, generator=generator),
        n_tokens=torch.tensor([[8, 7, 8], [4, 5, 5]], dtype=torch.int32),
        n_readable=torch.tensor([8, 5], dtype=torch.int32),
    )


def read(run: Run, made: list[int], scale: float = 1.0) -> Activations:
    def make() -> Activations:
        made.append(1)
        return activations(scale)

    return kept_activations(run, KEY, ROWS, make)


def same(left: Activations, right: Activations) -> bool:
    return (
        left.hook_points == right.hook_points
        and left.rows == right.rows
        and torch.equal(left.means, right.means)
        and torch.equal(left.tokens, right.tokens)
        and left.n_tokens is not None
        and right.n_tokens is not None
        and torch.equal(left.n_tokens, right.n_tokens)
        and left.n_readable is not None
        and right.n_readable is not None
        and torch.equal(left.n_readable, right.n_readable)
    )


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e5])
def test_a_run_that_continues_computes_with_the_very_activations_of_the_first(
    tmp_path: Path, scale: float
) -> None:
    made: list[int] = []
    with open_run(tmp_path, ASKED) as run:
        first = read(run, made, scale)
    with open_run(tmp_path, ASKED) as run:
        again = read(run, made, scale)
    assert made == [1]
    assert same(first, again)
    assert torch.equal(first.means, activations(scale).means)
    torch.testing.assert_close(first.tokens, activations(scale).tokens, rtol=1e-3, atol=1e-7)


def test_damaged_activations_are_made_again_wherever_a_bit_flipped_or_the_file_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        os, "fsync", lambda _: None
    )  # hundreds of writes, and other programs may keep the disk busy
    with open_run(tmp_path, ASKED) as run:
        made: list[int] = []
        right = read(run, made)
        path = next((tmp_path / "activations").glob("*.safetensors"))
        data = path.read_bytes()
        for place in range(0, len(data), 3):
            for damaged in (
                data[:place],
                data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :],
            ):
                path.write_bytes(damaged)
                assert same(read(run, made), right), f"damaged at byte {place}"
        assert (
            len(made) > 1.8 * len(data) / 3
        )  # nearly every damage is seen; a flipped space or name in the header may be harmless
        assert same(read(run, made), right)


def test_files_from_before_tokens_were_counted_stay_usable_and_know_no_share(tmp_path: Path) -> None:
    made: list[int] = []
    with open_run(tmp_path, ASKED) as run:
        right = read(run, made)
        path = next((tmp_path / "activations").glob("*.safetensors"))
        tensors = {"means": right.means, "tokens": right.tokens.half()}
        facts = {"hook_points": list(HOOKS), "key": KEY}
        fingerprint = sha256_json([list(HOOKS), sha256_tensors(list(tensors.values()))])
        write_tensors(path, tensors, {**facts, "sha256": fingerprint})
        old = read(run, made)
    assert made == [1]
    assert torch.equal(old.means, right.means)
    assert old.dropped is None
    assert right.dropped is not None
    assert right.dropped.tolist() == pytest.approx([1 / 13, 1 / 13, 0.0])


@pytest.mark.parametrize("change", ["key", "nan", "nothing"])
def test_activations_that_are_not_of_this_key_or_not_finite_are_made_again(
    tmp_path: Path, change: str
) -> None:
    with open_run(tmp_path, ASKED) as run:
        made: list[int] = []
        right = read(run, made)
        path = next((tmp_path / "activations").glob("*.safetensors"))
        means = torch.full((2, 3, 5), float("nan")) if change == "nan" else right.means
        tensors = {} if change == "nothing" else {"means": means, "tokens": right.tokens}
        write_tensors(path, tensors, {"key": "other" if change == "key" else KEY, "hook_points": list(HOOKS)})
        assert same(read(run, made), right)
        assert made == [1, 1]


def test_tensors_are_made_once_and_again_when_their_file_is_damaged(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"b": torch.tensor([1.5, 2.5]), "a": torch.tensor([3.0])}

    with open_run(tmp_path, ASKED) as run:
        first = kept_tensors(run, "k" * 30, make)
        assert torch.equal(kept_tensors(run, "k" * 30, make)["b"], first["b"])
        assert made == [1]
        path = next((tmp_path / "tensors").glob("*.safetensors"))
        path.write_bytes(path.read_bytes()[:-4])
        assert torch.equal(kept_tensors(run, "k" * 30, make)["a"], first["a"])
        assert made == [1, 1]
        # The same beginning of a name is not the same key.
        kept_tensors(run, "k" * 30 + "x", make)
        assert made == [1, 1, 1]
