"""Claims about setting single latents: only their own part of the stream changes, and only where they are
active."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import tiny
from helpers.families import Family, left_padded, plain_resids, tensor_of
from helpers.lens_saes import D_IN, lens_sae, made_sae, reopened, stream
from torch import Tensor
from torch.testing import assert_close

if TYPE_CHECKING:
    from persona_probe.saes.edits import SetLatents
    from persona_probe.saes.sae import Sae

HOOK = "blocks.1.hook_out"


def sae_of(W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor) -> "Sae":
    return made_sae(HOOK, W_enc, W_dec, b_enc=b_enc, b_dec=b_dec)


def by_hand() -> "Sae":
    """Latents relu(x0), relu(x1) and relu(x0 + x1 - 2), written as (2, 0, 1), (0, 3, 0) and (0, 0, -4)."""
    W_enc = torch.tensor([[1.0, 0, 1], [0, 1, 1], [0, 0, 0]])
    W_dec = torch.tensor([[2.0, 0, 1], [0, 3, 0], [0, 0, -4]])
    return sae_of(W_enc, torch.tensor([0.0, 0, -2]), W_dec, torch.tensor([0.5, 0.5, 0.5]))


def noise_sae(d_sae: int = 40, *, seed: int = 0) -> "Sae":
    """Random, of the tiny models' width; about half of the latents are active on noise."""
    generator = torch.Generator().manual_seed(seed)
    W_enc, b_enc, W_dec, b_dec = (
        torch.randn(shape, generator=generator)
        for shape in ((tiny.WIDTH, d_sae), d_sae, (d_sae, tiny.WIDTH), tiny.WIDTH)
    )
    return sae_of(W_enc, b_enc, W_dec, b_dec)


def noise(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def set_latents(sae: "Sae", *latents: int, **options: Any) -> "SetLatents":
    from persona_probe.saes.edits import SetLatents

    return SetLatents(sae, latents, **options)


X = torch.tensor([[[1.0, 2.0, 7.0], [-1.0, 1.0, 7.0]]])  # latents (1, 2, 1) and (0, 1, 0)


@pytest.mark.parametrize(
    ("latents", "value", "expected"),
    [
        ((0,), 0.0, [[-1.0, 2.0, 6.0], [-1.0, 1.0, 7.0]]),
        ((1,), 0.0, [[1.0, -4.0, 7.0], [-1.0, -2.0, 7.0]]),
        ((2,), 0.0, [[1.0, 2.0, 11.0], [-1.0, 1.0, 7.0]]),
        ((2, 0), 0.0, [[-1.0, 2.0, 10.0], [-1.0, 1.0, 7.0]]),
        ((1,), 5.0, [[1.0, 11.0, 7.0], [-1.0, 13.0, 7.0]]),
        ((0, 1), 2.0, [[3.0, 2.0, 8.0], [-1.0, 4.0, 7.0]]),
    ],
)
def test_active_latents_go_to_the_value_and_silent_ones_stay(
    latents: tuple[int, ...], value: float, expected: list[Any]
) -> None:
    edited = set_latents(by_hand(), *latents, value=value).edit(X, hook_point=HOOK)
    assert_close(edited, torch.tensor([expected]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["standard", "topk", "topk rescaled", "jumprelu"])
@pytest.mark.parametrize("value", [0.0, 1.5])
def test_other_latents_and_the_reconstruction_error_are_kept_as_saelens_decodes_them(
    tmp_path: Path, kind: str, value: float
) -> None:
    from persona_probe.saes.folder import read_sae

    lens_sae(kind).save_model(tmp_path / "sae")
    theirs, x = reopened(tmp_path / "sae"), stream(3, 7)
    with torch.no_grad():
        acts = theirs.encode(x)
        busiest = [int(i) for i in (acts > 0).sum((0, 1)).topk(2).indices]
        # SAELens' rescaled TopK counts latents in units of their decoder rows, as ours does.
        changed = acts.clone()
        changed[..., busiest] = torch.where(acts[..., busiest] > 0, value, 0.0)
        expected = (x - theirs.decode(acts)) + theirs.decode(changed)
    assert 0 < int((acts[..., busiest] > 0).sum()) < 2 * 3 * 7
    edited = set_latents(read_sae(tmp_path / "sae"), *busiest, value=value).edit(
        x, hook_point="blocks.2.hook_out"
    )
    assert x.shape[-1] == D_IN
    assert (edited - x).abs().max() > 0.1
    assert_close(edited, expected, atol=1e-5, rtol=0)


def test_ablating_twice_is_ablating_once_where_no_row_reaches_another_latent() -> None:
    """Latent j reads dimension j and writes dimension j and dimensions that none reads: its row is orthogonal
    to the others' columns."""
    eye = torch.eye(tiny.WIDTH)
    rows = eye[:10] + noise(10, tiny.WIDTH) * (torch.arange(tiny.WIDTH) >= 10)
    sae, x = (
        sae_of(eye[:, :10].contiguous(), torch.zeros(10), rows, noise(tiny.WIDTH)),
        noise(2, 6, tiny.WIDTH),
    )
    edit = set_latents(sae, 2, 7)
    once = edit.edit(x, hook_point=HOOK)
    others = [i for i in range(10) if i not in (2, 7)]
    assert not torch.equal(once, x)
    assert_close(edit.edit(once, hook_point=HOOK), once, atol=1e-6, rtol=0)
    assert_close(sae.encode(once)[..., [2, 7]], torch.zeros(2, 6, 2), atol=1e-6, rtol=0)
    assert_close(sae.encode(once)[..., others], sae.encode(x)[..., others], atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [0.0, 9.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_silent_latent_changes_no_bit(value: float, dtype: torch.dtype) -> None:
    sae = noise_sae()
    sae.b_enc[3] = -1e4
    x = noise(2, 6, tiny.WIDTH).to(dtype)
    assert torch.equal(set_latents(sae, 3, value=value).edit(x, hook_point=HOOK), x)


def test_the_stream_keeps_its_precision_and_the_old_tensor_its_values() -> None:
    x = noise(2, 6, tiny.WIDTH).bfloat16()
    before = x.clone()
    edited = set_latents(noise_sae(), 0, 1, 2).edit(x, hook_point=HOOK)
    assert edited.dtype == torch.bfloat16
    assert not torch.equal(edited, before)
    assert torch.equal(x, before)


@pytest.mark.parametrize("skip_first", [0, 5])
def test_inside_a_model_latents_are_set_from_token_skip_first_of_every_sequence_on(
    llama: Family, skip_first: int
) -> None:
    from persona_probe.interventions.applied import applied

    sae, latents = noise_sae(), (1, 8, 20)
    tokens, mask = left_padded(llama)
    resid = plain_resids(llama, tokens, mask.long())[1]
    acts = (resid @ sae.W_enc + sae.b_enc).relu()[..., latents]
    expected = resid - acts @ sae.W_dec[list(latents)]
    kept: list[Tensor] = []
    with torch.no_grad(), applied(llama.model, (set_latents(sae, *latents, skip_first=skip_first),)):
        handle = llama.model.site(HOOK)[1].register_forward_hook(
            lambda _m, _a, out: kept.append(tensor_of(out))
        )
        position = (mask.long().cumsum(-1) - 1).clamp(min=0)
        llama.model.twin(tokens, attention_mask=mask.long(), position_ids=position)
        handle.remove()
    late = mask.bool() & (mask.long().cumsum(-1) > skip_first)
    early = mask.bool() & ~late
    assert int(early.sum()) == skip_first * len(tokens)
    assert (expected - resid)[late].abs().max() > 1
    assert_close(kept[0][late], expected[late], atol=1e-3, rtol=0)
    assert_close(kept[0][early], resid[early], atol=1e-4, rtol=0)


@pytest.mark.parametrize("latents", [(), (40,), (-1,), (3, 40), (3, 3)])
def test_latents_that_do_not_exist_or_repeat_are_refused_in_one_line(latents: tuple[int, ...]) -> None:
    from persona_probe.base.errors import BadInput

    with pytest.raises(BadInput, match=r"of made: give distinct numbers from 0 to 39") as refused:
        set_latents(noise_sae(), *latents)
    assert "\n" not in str(refused.value)


def test_edits_that_differ_are_described_differently() -> None:
    from persona_probe.storage.files import sha256_json

    sae = noise_sae()
    edits = [
        set_latents(sae, 1),
        set_latents(sae, 2),
        set_latents(sae, 1, 2),
        set_latents(sae, 1, value=1.0),
        set_latents(sae, 1, skip_first=4),
    ]
    assert len({sha256_json(edit.describe()) for edit in edits}) == 5
    assert edits[0].describe() == set_latents(sae, 1).describe()
    assert (edits[0].hook_points, edits[0].width) == ((HOOK,), tiny.WIDTH)


def test_a_latent_as_direction_is_its_row_at_the_asked_length_with_the_rows_sign() -> None:
    from persona_probe.saes.edits import latent_direction

    found = latent_direction(by_hand(), 2, length=0.5)
    assert_close(found.vector, torch.tensor([0.0, 0.0, -0.5]), atol=1e-6, rtol=0)
    assert (found.hook_point, found.method) == (HOOK, "latent-2")
    found = latent_direction(by_hand(), 0, length=10.0)
    assert_close(found.vector, torch.tensor([20.0, 0.0, 10.0]) / 5**0.5, atol=1e-5, rtol=0)


def test_a_set_as_direction_sums_rows_of_length_one_each_with_its_sign() -> None:
    from persona_probe.saes.edits import set_direction

    # Rows 1 and 2 are (0, 3, 0) and (0, 0, -4): of length 1, (0, 1, 0) and (0, 0, -1), whatever their lengths
    # were.
    root = 2**0.5
    for signs, expected in (
        ({1: 1, 2: 1}, [0.0, 3.0 / root, -3.0 / root]),
        ({1: 1, 2: -1}, [0.0, 3.0 / root, 3.0 / root]),
        ({1: -1}, [0.0, -3.0, 0.0]),
    ):
        assert_close(
            set_direction(by_hand(), signs, length=3.0).vector, torch.tensor(expected), atol=1e-5, rtol=0
        )


def test_sets_with_other_signs_have_other_names() -> None:
    from persona_probe.saes.edits import set_direction

    made = [
        set_direction(by_hand(), signs, length=1.0).method for signs in ({1: 1, 2: 1}, {1: 1, 2: -1}, {1: 1})
    ]
    assert len(set(made)) == 3


def test_latents_that_write_nothing_or_cancel_out_are_refused_as_directions() -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.saes.edits import latent_direction, set_direction

    sae = by_hand()
    sae.W_dec[1] = 0
    sae.W_dec[2] = 2 * sae.W_dec[0]
    for attempt in (
        lambda: latent_direction(sae, 1, length=1.0),
        lambda: set_direction(sae, {0: 1, 2: -1}, length=1.0),
    ):
        with pytest.raises(BadInput, match=r"is zero or not finite"):
            attempt()
