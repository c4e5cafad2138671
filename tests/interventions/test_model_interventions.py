"""Claims about interventions inside models, on eight tiny random families: both engines, every writer,
cached, and bitwise gone afterwards."""

from functools import partial

import pytest
import torch
from helpers import tiny
from helpers.families import (
    Family,
    arms_of,
    close,
    left_padded,
    logits_of,
    right_padded,
    rows_of,
    seen,
    tensor_of,
    vectors,
)
from torch import Tensor


@pytest.mark.parametrize("arm", ["steer", "ablate", "toward means", "cap", "both"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_bridge_and_twin_agree_under_interventions(family: Family, arm: str, side: str) -> None:
    from persona_probe.interventions.applied import applied

    model, batch = family.model, right_padded(family)
    tokens, mask = (batch.tokens, batch.mask) if side == "right" else left_padded(family)
    kept = mask.bool()
    clean = logits_of(model.twin, tokens, mask)[kept]
    with applied(model, arms_of(family)[arm]):
        by_twin, by_bridge = (logits_of(engine, tokens, mask)[kept] for engine in (model.twin, model.bridge))
    assert (by_twin - clean).abs().max() > 0.05
    close(by_bridge, by_twin)


@pytest.mark.parametrize("given", ["mask", "position_ids"])
@pytest.mark.parametrize("engine", ["twin", "bridge"])
def test_first_tokens_are_skipped_by_position_and_not_by_column(
    family: Family, engine: str, given: str
) -> None:
    from persona_probe.interventions.applied import applied
    from persona_probe.interventions.edits import Steer

    model, hook_point, skip = family.model, family.model.resid(1), 5
    tokens, mask = left_padded(family)
    position = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)} if given == "position_ids" else {}
    site = model.site(hook_point)[0 if engine == "bridge" else 1]

    def run() -> None:
        getattr(model, engine)(tokens, attention_mask=mask, **position)

    (clean,) = seen([site], run)
    with applied(model, (Steer(vectors(1)[0], hook_point, 1.0, skip_first=skip),)):
        (edited,) = seen([site], run)
    for i, row in enumerate(rows_of(family)[1:5]):
        shift = (edited - clean)[i, -len(row.ids) :]
        close(shift[:skip], torch.zeros(skip, tiny.WIDTH), atol=0)
        close(shift[skip:], vectors(1).expand(len(row.ids) - skip, -1))


def test_first_tokens_are_counted_through_the_cache(family: Family) -> None:
    from persona_probe.interventions.applied import applied
    from persona_probe.interventions.edits import Steer

    model, hook_point, skip = family.model, family.model.resid(1), 8
    tokens = torch.tensor([rows_of(family)[0].ids])
    site = model.site(hook_point)[1]

    def in_three_pieces() -> Tensor:
        found: list[Tensor] = []
        cache = None
        with (
            torch.no_grad(),
            site.register_forward_hook(lambda _module, _args, output: found.append(tensor_of(output))),
        ):
            for end in (5, 10, 15):
                mask = torch.ones(1, end, dtype=torch.long)
                cache = model.twin(
                    tokens[:, end - 5 : end], attention_mask=mask, past_key_values=cache, use_cache=True
                ).past_key_values
        return torch.cat(found, dim=1)[0]

    clean = in_three_pieces()
    with applied(model, (Steer(vectors(1)[0], hook_point, 1.0, skip_first=skip),)):
        shift = in_three_pieces() - clean
    close(shift[:skip], torch.zeros(skip, tiny.WIDTH), atol=0)
    close(shift[skip:], vectors(1).expand(15 - skip, -1))


def test_ablating_every_writer_leaves_no_component_in_any_residual(family: Family) -> None:
    from persona_probe.interventions.applied import applied
    from persona_probe.interventions.edits import Ablate, orthonormal

    model, batch, basis = family.model, right_padded(family), orthonormal(vectors(2))
    for engine in (0, 1):
        run = partial(logits_of, (model.bridge, model.twin)[engine], batch.tokens, batch.mask)
        sites = [model.site(hook_point)[engine] for hook_point in model.resids()]
        untouched = seen(sites, run)
        with applied(model, (Ablate(basis, model.writers()),)):
            edited = seen(sites, run)
        for before, after in zip(untouched, edited, strict=True):
            share = (after[batch.mask] @ basis.T).norm(dim=-1) / after[batch.mask].norm(dim=-1)
            assert share.max() < 1e-4
            assert ((before[batch.mask] @ basis.T).norm(dim=-1) / before[batch.mask].norm(dim=-1)).max() > 0.1


def test_writers_sum_to_the_residual_stream(family: Family) -> None:
    model, batch = family.model, right_padded(family)
    last = model.site(model.resid(tiny.LAYERS - 1))[1]
    *written, resid = seen(
        [*(model.site(name)[1] for name in model.writers()), last],
        lambda: logits_of(model.twin, batch.tokens, batch.mask),
    )
    total = torch.stack([torch.broadcast_to(part, resid.shape) for part in written]).sum(0)
    close(total[batch.mask], resid[batch.mask])


def test_ablation_toward_means_leaves_the_projection_of_the_mean(family: Family) -> None:
    from persona_probe.interventions.applied import applied
    from persona_probe.interventions.edits import Ablate, orthonormal

    model, batch, basis, means = (
        family.model,
        right_padded(family),
        orthonormal(vectors(2)),
        vectors(tiny.LAYERS, seed=101),
    )
    sites = [model.site(hook_point)[1] for hook_point in model.resids()]
    with applied(model, (Ablate(basis, model.resids(), means=means),)):
        resids = seen(sites, lambda: logits_of(model.twin, batch.tokens, batch.mask))
    for resid, mean in zip(resids, means, strict=True):
        projection = resid[batch.mask] @ basis.T
        close(projection, (mean @ basis.T).expand_as(projection))


def test_ablating_twice_is_ablating_once(family: Family) -> None:
    from persona_probe.interventions.applied import applied

    model, batch = family.model, right_padded(family)
    arm = arms_of(family)["toward means"]
    with applied(model, arm):
        once = logits_of(model.twin, batch.tokens, batch.mask)[batch.mask]
    with applied(model, (*arm, *arm)):
        close(logits_of(model.twin, batch.tokens, batch.mask)[batch.mask], once)


def test_opposite_steers_cancel(llama: Family) -> None:
    from persona_probe.interventions.applied import applied
    from persona_probe.interventions.edits import Steer

    model, batch = llama.model, right_padded(llama)
    with applied(model, [Steer(vectors(1)[0], model.resid(1), coefficient) for coefficient in (1.5, -1.5)]):
        found = logits_of(model.twin, batch.tokens, batch.mask)[batch.mask]
    close(found, logits_of(model.twin, batch.tokens, batch.mask)[batch.mask])


@pytest.mark.parametrize("engine", ["twin", "bridge"])
def test_coefficient_zero_and_no_intervention_are_bitwise_the_baseline(family: Family, engine: str) -> None:
    from persona_probe.interventions.applied import applied
    from persona_probe.interventions.edits import Steer

    model, batch = family.model, right_padded(family)
    baseline = logits_of(getattr(model, engine), batch.tokens, batch.mask)
    for arm in ((), (Steer(vectors(1)[0], model.resid(1), 0.0),)):
        with applied(model, arm):
            assert torch.equal(logits_of(getattr(model, engine), batch.tokens, batch.mask), baseline)


def test_rows_of_a_batch_get_their_own_interventions(family: Family) -> None:
    from persona_probe.interventions.applied import applied

    model, batch, arms = family.model, right_padded(family), arms_of(family)
    own = [arms["steer"], (), arms["toward means"], arms["steer"]]
    with applied(model, (), rows=own):
        together = logits_of(model.twin, batch.tokens, batch.mask)
        by_bridge = logits_of(model.bridge, batch.tokens, batch.mask)
    for i, arm in enumerate(own):
        with applied(model, arm):
            alone = logits_of(model.twin, batch.tokens[i : i + 1], batch.mask[i : i + 1])[0]
        close(together[i, batch.mask[i]], alone[batch.mask[i]])
        close(by_bridge[i, batch.mask[i]], alone[batch.mask[i]])


def test_interventions_for_another_number_of_rows_are_refused(llama: Family) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.interventions.applied import applied

    batch = right_padded(llama)
    with (
        pytest.raises(BadInput, match="interventions for 3 rows, but the batch has 4"),
        applied(llama.model, (), rows=[arms_of(llama)["steer"]] * 3),
    ):
        logits_of(llama.model.twin, batch.tokens, batch.mask)


@pytest.mark.parametrize("failing", [False, True], ids=["after the block", "after an exception"])
def test_model_is_bitwise_itself_again(family: Family, failing: bool) -> None:
    from persona_probe.interventions.applied import applied

    model, batch = family.model, right_padded(family)
    engines = (model.twin, model.bridge)

    def state() -> tuple[list[Tensor], list[Tensor], list[int]]:
        modules = [module for engine in engines for module in engine.modules()]
        hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules]
        logits = [logits_of(engine, batch.tokens, batch.mask) for engine in engines]
        return logits, [value.clone() for value in model.twin.state_dict().values()], hooks

    logits, weights, hooks = state()
    try:
        with applied(model, arms_of(family)["both"]):
            for engine in engines:
                logits_of(engine, batch.tokens, batch.mask)
            if failing:
                raise KeyError("the user's own error")
    except KeyError:
        assert failing
    logits_after, weights_after, hooks_after = state()
    assert all(map(torch.equal, logits, logits_after))
    assert all(map(torch.equal, weights, weights_after))
    assert hooks == hooks_after


@pytest.mark.parametrize(
    ("hook_point", "message"),
    [
        (
            "blocks.9.hook_out",
            r"no hook point 'blocks.9.hook_out' in .*blocks.0.hook_out to blocks.3.hook_out",
        ),
        ("resid_post", r"no hook point 'resid_post'"),
        ("blocks.0.hook_in", r"not the output of a module"),
    ],
)
def test_unknown_hook_point_is_refused(family: Family, hook_point: str, message: str) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.interventions.applied import applied
    from persona_probe.interventions.edits import Steer

    with (
        pytest.raises(BadInput, match=message),
        applied(family.model, (Steer(vectors(1)[0], hook_point, 1.0),)),
    ):
        raise AssertionError("the block must not be entered")


def test_hook_that_never_fired_is_an_error(llama: Family) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.interventions.applied import applied

    with (
        pytest.raises(BadInput, match=r"the hook at blocks.1.hook_out never fired"),
        applied(llama.model, arms_of(llama)["steer"]),
    ):
        pass


def test_direction_of_another_width_is_refused(llama: Family) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.interventions.applied import applied
    from persona_probe.interventions.edits import Steer

    steer = Steer(torch.ones(33), llama.model.resid(1), 1.0)
    with (
        pytest.raises(BadInput, match=r"width 33 does not fit .*d_model is 32"),
        applied(llama.model, (steer,)),
    ):
        pass
