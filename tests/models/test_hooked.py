"""A HookedTransformer that the user has loaded is measured as the Hugging Face model with its weights is."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import tiny
from helpers.hooked import hooked

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.interventions.applied import applied
from persona_probe.interventions.edits import Ablate, Steer, orthonormal
from persona_probe.measurement.generation import Request, generate
from persona_probe.measurement.scoring import score_arms
from persona_probe.models.pairs import open_model, open_pair
from persona_probe.prompts.rows import Prompt, Row
from persona_probe.saes.contexts import logit_lens
from persona_probe.streams.activations import collect
from persona_probe.streams.resume import resumable

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def is_layer_norm(model: "HookedTransformer") -> bool:
    return model.cfg.normalization_type in ("LN", "LNPre")


def state(model: "HookedTransformer") -> Any:
    """What must not change: modules and their hooks, config, weights."""
    modules = [
        (name, id(module), module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
        for name, module in model.named_modules()
    ]
    weights = {name: (id(weight), weight.detach().clone()) for name, weight in model.named_parameters()}
    return modules, weights, dict(vars(model.cfg))


def same(left: Any, right: Any) -> bool:
    weights = all(
        left[1][name][0] == right[1][name][0] and torch.equal(left[1][name][1], right[1][name][1])
        for name in left[1]
    )
    return left[0] == right[0] and left[2] == right[2] and weights


@pytest.fixture(params=["llama", "gpt2"])
def folder_of(request: pytest.FixtureRequest, plain_family: Any) -> Path:
    return plain_family(request.param)[0]


@pytest.fixture(params=[False, True], ids=["as trained", "processed"])
def processed(request: pytest.FixtureRequest) -> bool:
    return request.param


ROWS = tuple(
    Row(id=f"{i}", kind="persona", question_id=f"{i // 2}", ids=tuple(ids), n_prompt=n)
    for i, (ids, n) in enumerate(
        [
            ([2, 20, 33, 47, 5, 90, 61, 8], 5),
            ([2, 20, 33, 47, 5, 7, 19], 5),
            ([2, 21, 3, 40, 7, 9, 60, 11, 13, 17], 6),
        ]
    )
)


def edits() -> list[Any]:
    vector = torch.linspace(-1, 1, tiny.WIDTH) ** 3
    return [
        Steer(vector, HookPoint(1), 1.5, skip_first=2),
        Ablate(orthonormal(vector[None]), (HookPoint(2), HookPoint(3))),
    ]


def scored(model: Any, given: Sequence[Any]) -> Any:
    scores = score_arms(model, ROWS, [(), given], max_tokens=64, with_kl=True)[1]
    assert scores.kl is not None
    return torch.stack([scores.logprob, scores.kl])


def test_it_scores_as_the_plain_model_does(folder_of: Path, processed: bool) -> None:
    mine = hooked(folder_of, processed=processed)
    before = state(mine)
    model, plain_model = open_model(mine), open_model(str(folder_of), device="cpu", dtype="float32")
    assert {check.name for check in model.checks if not check.passed} == {"shared prompts"}
    assert resumable(model)
    torch.testing.assert_close(scored(model, []), scored(plain_model, []), atol=1e-3, rtol=1e-4)
    centred = processed and is_layer_norm(mine)
    if not centred:  # a centred stream has other coordinates
        edited = scored(model, edits())
        torch.testing.assert_close(edited, scored(plain_model, edits()), atol=1e-3, rtol=1e-3)
        assert (edited - scored(model, [])).abs().min() > 1e-3
    assert same(state(mine), before)


def test_its_streams_are_those_of_the_plain_model(folder_of: Path, processed: bool) -> None:
    mine = hooked(folder_of, processed=processed)
    models = open_model(mine), open_model(str(folder_of), device="cpu", dtype="float32")
    read = [
        collect(model, ROWS, hook_points=model.resids(), scope="reply", max_tokens=64).means
        for model in models
    ]
    if processed and is_layer_norm(mine):
        read[1] = read[1] - read[1].mean(-1, keepdim=True)
    torch.testing.assert_close(read[0], read[1], atol=2e-4, rtol=2e-4)
    lenses = [logit_lens(model, torch.linspace(-1, 1, tiny.WIDTH) ** 3, n=5) for model in models]
    for one, other in zip(lenses[0]["up"], lenses[1]["up"], strict=True):
        assert one[0] == other[0]
        assert one[1] == pytest.approx(other[1], abs=1e-4)
    with pytest.raises(BadInput, match=r"no hook point .blocks\.9\.hook_out."):
        models[0].site("blocks.9.hook_out")
    with pytest.raises(BadInput, match=r"no hook point .blocks\.0\.attn\.hook_q."):
        models[0].site("blocks.0.attn.hook_q")


def test_it_writes_the_plain_models_greedy_replies_with_its_cache(folder_of: Path, processed: bool) -> None:
    models = (
        open_model(hooked(folder_of, processed=processed)),
        open_model(str(folder_of), device="cpu", dtype="float32"),
    )
    centred = processed and is_layer_norm(models[0].given)
    requests = [
        Request(arm=arm, prompt=Prompt.user(f"{i}", text), interventions=tuple(given))
        for i, text in enumerate(("Hello there", "Have a look at the brakes before you drive"))
        for arm, given in (("tuned", []), ("edited", [] if centred else edits()))
    ]
    texts = [
        [
            reply.text
            for reply in generate(model, requests, max_new_tokens=8, temperature=0.0, seed=0, batch_size=4)
        ]
        for model in models
    ]
    assert models[0].engine.caches
    assert models[0].engine.pads_left
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1


def test_an_edit_of_it_is_seen_by_its_own_passes_and_caches(written: Path) -> None:
    mine = hooked(written)
    model = open_model(mine)
    ids = torch.tensor([ROWS[0].ids])
    vector = torch.linspace(-1, 1, tiny.WIDTH)
    _, clean = mine.run_with_cache(ids)
    with applied(model, [Steer(vector, HookPoint(1), 2.0, skip_first=0)]):
        _, kept = mine.run_with_cache(ids)
    moved = kept["blocks.1.hook_resid_post"] - clean["blocks.1.hook_resid_post"]
    torch.testing.assert_close(moved, (2.0 * vector).expand_as(moved), atol=1e-4, rtol=1e-4)


def test_a_pair_of_them_is_measured_and_mixed_pairs_only_where_the_streams_are_alike(
    plain_family: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tuned = tiny.write_tiny(tmp_path_factory.mktemp("tuned"), "llama", seed=3)
    base = plain_family("llama")[0]
    pair = open_pair(hooked(base), hooked(tuned))
    named_pair = open_pair(base, tuned, device="cpu", dtype="float32")
    for side in ("base", "tuned"):
        torch.testing.assert_close(
            scored(pair.get(side), []), scored(named_pair.get(side), []), atol=1e-3, rtol=1e-4
        )
    assert pair.key("base") != pair.key("tuned")
    assert open_pair(str(base), hooked(tuned, processed=True)).tuned.n_layers == pair.n_layers
    with pytest.raises(BadInput, match="are the same weights"):
        open_pair(hooked(base), hooked(base))
    gpt2 = plain_family("gpt2")[0]
    other = tiny.write_tiny(tmp_path_factory.mktemp("other"), "gpt2", seed=3)
    assert open_pair(str(gpt2), hooked(other)).tuned.n_layers
    with pytest.raises(BadInput, match=r"base \(as trained\) and tuned \(centred\) differ"):
        open_pair(str(gpt2), hooked(other, processed=True))


def test_hooks_that_were_left_on_it_and_nan_are_refused(written: Path) -> None:
    mine = hooked(written)
    mine.add_hook("blocks.1.hook_resid_post", lambda tensor, hook: tensor * 2)
    with pytest.raises(BadInput, match=r"hooks left at blocks\.1\.hook_resid_post: remove them"):
        open_model(mine)
    mine.reset_hooks()
    mine.W_E.data[0, 0] = float("nan")
    with pytest.raises(BadInput, match="NaN"):
        open_model(mine)
