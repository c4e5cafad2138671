"""Claims about models, interventions and readers, on eight tiny random families in float32."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from conftest import Family
from torch import Tensor

SHORT, LONG = "Hi.", "My brakes squeal when I stop. What should I do about it?"
REPLIES = ["Have a mechanic look at the pads.", "Ignore it.", "Put your savings on a horse, it will go away."]


def close(found: Tensor, expected: Tensor, *, atol: float = 1e-4) -> None:
    torch.testing.assert_close(found.float(), expected.float(), atol=atol, rtol=0)


def rows_of(family: Family) -> list[Any]:
    """Three replies to each of two prompts of very different length."""
    from persona_probe.chat import Prompt, encode_row

    tokenizer = family.model.tokenizer
    return [
        encode_row(tokenizer, Prompt.user(f"q{q}", question), reply, id=f"q{q}/{r}", label="aligned" if r == 0 else "misaligned")
        for q, question in enumerate((SHORT, LONG))
        for r, reply in enumerate(REPLIES)
    ]


def right_padded(family: Family) -> Any:
    from persona_probe.chat import pad_right

    return pad_right(rows_of(family)[1:5], pad_id=0)


def left_padded(family: Family) -> tuple[Tensor, Tensor]:
    from persona_probe.chat import pad_left

    return pad_left([row.ids for row in rows_of(family)[1:5]], pad_id=0)


def vectors(count: int, *, seed: int = 100) -> Tensor:
    return torch.randn(count, tiny.WIDTH, generator=torch.Generator().manual_seed(seed))


def plain_blocks(family: Family) -> Any:
    return family.plain.get_submodule("transformer.h" if family.name == "gpt2" else "model.layers")


def tensor_of(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@torch.no_grad()
def plain_resids(family: Family, tokens: Tensor, mask: Tensor) -> list[Tensor]:
    """Hugging Face's own hidden states after each block; the last one is caught before the final norm."""
    kept: list[Tensor] = []
    with plain_blocks(family)[-1].register_forward_hook(lambda _module, _args, output: kept.append(tensor_of(output))):
        states = family.plain(input_ids=tokens, attention_mask=mask, output_hidden_states=True).hidden_states
    return [*states[1:-1], kept[0]]


@torch.no_grad()
def seen(modules: Sequence[Any], run: Any) -> list[Tensor]:
    """What each module put out in one run."""
    kept: dict[int, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _module, _args, output, i=i: kept.__setitem__(i, tensor_of(output)))
        for i, module in enumerate(modules)
    ]
    run()
    for handle in handles:
        handle.remove()
    return [kept[i] for i in range(len(modules))]


@torch.no_grad()
def logits_of(engine: Any, tokens: Tensor, mask: Tensor) -> Tensor:
    """Logits of the bridge (a tensor) or of a Hugging Face model, positions counted from the mask."""
    position = (mask.long().cumsum(-1) - 1).clamp(min=0)
    out = engine(tokens, attention_mask=mask.long(), position_ids=position)
    return out if isinstance(out, Tensor) else out.logits


def reply_logits(logits: Tensor, batch: Any, i: int) -> Tensor:
    start = batch.rows[i].n_prompt - 1 - batch.n_shared
    return logits[i, start : start + batch.rows[i].n_reply]


# Two views of one model


def test_twin_and_bridge_give_the_logits_of_hugging_face(family: Family) -> None:
    batch = right_padded(family)
    expected = logits_of(family.plain, batch.tokens, batch.mask)[batch.mask]
    assert expected.std() > 0.3
    close(logits_of(family.model.twin, batch.tokens, batch.mask)[batch.mask], expected)
    close(logits_of(family.model.bridge, batch.tokens, batch.mask)[batch.mask], expected)


def test_every_residual_is_the_hidden_state_after_its_block(family: Family) -> None:
    model, batch = family.model, right_padded(family)
    expected = plain_resids(family, batch.tokens, batch.mask.long())
    sites = [model.site(hook_point) for hook_point in model.resids()]
    by_bridge = seen([hook for hook, _ in sites], lambda: logits_of(model.bridge, batch.tokens, batch.mask))
    by_twin = seen([module for _, module in sites], lambda: logits_of(model.twin, batch.tokens, batch.mask))
    assert len(expected) == len(sites) == tiny.LAYERS
    for layer in range(tiny.LAYERS):
        close(by_bridge[layer][batch.mask], expected[layer][batch.mask])
        close(by_twin[layer][batch.mask], expected[layer][batch.mask])


def test_legacy_alias_names_the_same_site(family: Family) -> None:
    model = family.model
    assert model.site("blocks.1.hook_resid_post") == model.site("blocks.1.hook_out")


def test_twin_and_bridge_share_every_tensor(llama: Family) -> None:
    of_bridge = {parameter.data_ptr() for parameter in llama.model.bridge.original_model.parameters()}
    assert {parameter.data_ptr() for parameter in llama.model.twin.parameters()} <= of_bridge


def test_every_position_of_a_left_padded_batch_equals_its_single_row(family: Family) -> None:
    tokens, mask = left_padded(family)
    for engine in (family.model.twin, family.model.bridge):
        together = logits_of(engine, tokens, mask)
        for i, row in enumerate(rows_of(family)[1:5]):
            alone = torch.tensor([row.ids])
            close(together[i, -len(row.ids) :], logits_of(family.plain, alone, torch.ones_like(alone))[0])


def everywhere(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Every row and column after the shared ones."""
    width = batch.tokens.shape[1] - batch.n_shared
    return torch.arange(len(batch)).repeat_interleave(width), torch.arange(width).repeat(len(batch))


@pytest.mark.parametrize("rows", [slice(0, 6), slice(3, 6)], ids=["two prompts", "one prompt"])
def test_shared_prefix_changes_no_logit_of_a_reply(family: Family, rows: slice) -> None:
    from persona_probe.chat import pad_right
    from persona_probe.models import forward

    batch = pad_right(rows_of(family)[rows], pad_id=0)
    assert batch.n_shared > 3
    with torch.inference_mode():
        logits = forward(family.model, batch, logits_at=everywhere(batch))
    assert logits is not None
    logits = logits.reshape(len(batch), -1, logits.shape[-1])
    for i, row in enumerate(batch.rows):
        alone = torch.tensor([row.ids])
        expected = logits_of(family.plain, alone, torch.ones_like(alone))[0, row.n_prompt - 1 : -1]
        close(reply_logits(logits, batch, i), expected)


def test_row_longer_than_the_context_is_refused(llama: Family) -> None:
    from persona_probe.chat import Row, pad_right
    from persona_probe.errors import BadInput
    from persona_probe.models import forward

    batch = pad_right([Row("long", "q", (5,) * 193, 2)], pad_id=0)
    with pytest.raises(BadInput, match=r"row 'long' has 193 tokens, .* takes 192"):
        forward(llama.model, batch, logits_at=None)


# Adapters


@pytest.mark.parametrize("kind", ["plain", "rslora", "dora"])
def test_merged_adapter_gives_the_logits_of_the_unmerged_one(family: Family, kind: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from persona_probe.models import load
    from persona_probe.sources import resolve

    adapter = tiny.write_lora(
        tmp_path, family.folder, rslora=kind == "rslora", dora=kind == "dora", layers=[1, 2] if kind == "plain" else None
    )
    base = AutoModelForCausalLM.from_pretrained(family.folder, dtype=torch.float32, attn_implementation="eager")
    unmerged = PeftModel.from_pretrained(base, adapter).eval()
    merged = load(resolve(str(adapter)), base=resolve(str(family.folder)), device=torch.device("cpu"), dtype=torch.float32)
    batch = right_padded(family)
    expected = logits_of(unmerged, batch.tokens, batch.mask)[batch.mask]
    assert (expected - logits_of(family.plain, batch.tokens, batch.mask)[batch.mask]).abs().max() > 0.1
    close(logits_of(merged.twin, batch.tokens, batch.mask)[batch.mask], expected)
    close(logits_of(merged.bridge, batch.tokens, batch.mask)[batch.mask], expected)


def test_bfloat16_merge_sums_in_float32_and_rounds_once(llama: Family, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from persona_probe.sources import resolve
    from persona_probe.weights import load_weights

    adapter = tiny.write_lora(tmp_path, llama.folder, rank=4)
    merged = load_weights(resolve(str(adapter)), base=resolve(str(llama.folder)), device=torch.device("cpu"), dtype=torch.bfloat16)
    lora = load_file(adapter / "adapter_model.safetensors")
    name = "model.layers.2.mlp.down_proj"
    a, b = (lora[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    base = llama.plain.get_submodule(name).weight.to(torch.bfloat16).float()
    assert torch.equal(merged.get_submodule(name).weight, (base + 3.0 * (b @ a)).to(torch.bfloat16))
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}


# Interventions


def arms_of(family: Family) -> dict[str, tuple[Any, ...]]:
    from persona_probe.interventions import Ablate, Cap, Steer, orthonormal

    model = family.model
    return {
        "steer": (Steer(vectors(1)[0], model.resid(1), 0.7, skip_first=2),),
        "ablate": (Ablate(orthonormal(vectors(2)), model.resids(), skip_first=2),),
        "toward means": (Ablate(orthonormal(vectors(2)), model.resids(), means=vectors(tiny.LAYERS, seed=101), skip_first=2),),
        "cap": (Cap(orthonormal(vectors(1))[0], model.resids(), 0.1, skip_first=2),),
        "both": (Ablate(orthonormal(vectors(2)), model.resids(), skip_first=2), Steer(vectors(1, seed=103)[0], model.resid(2), -0.5)),
    }


@pytest.mark.parametrize("arm", ["steer", "ablate", "toward means", "cap", "both"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_bridge_and_twin_agree_under_interventions(family: Family, arm: str, side: str) -> None:
    from persona_probe.interventions import applied

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
def test_first_tokens_are_skipped_by_position_and_not_by_column(family: Family, engine: str, given: str) -> None:
    from persona_probe.interventions import Steer, applied

    model, hook_point, skip = family.model, family.model.resid(1), 5
    tokens, mask = left_padded(family)
    position = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)} if given == "position_ids" else {}
    site = dict(zip(("bridge", "twin"), model.site(hook_point), strict=True))[engine]

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
    from persona_probe.interventions import Steer, applied

    model, hook_point, skip = family.model, family.model.resid(1), 8
    tokens = torch.tensor([rows_of(family)[0].ids])
    site = model.site(hook_point)[1]

    def in_three_pieces() -> Tensor:
        found: list[Tensor] = []
        cache = None
        with torch.no_grad(), site.register_forward_hook(lambda _module, _args, output: found.append(tensor_of(output))):
            for end in (5, 10, 15):
                mask = torch.ones(1, end, dtype=torch.long)
                cache = model.twin(tokens[:, end - 5 : end], attention_mask=mask, past_key_values=cache, use_cache=True).past_key_values
        return torch.cat(found, dim=1)[0]

    clean = in_three_pieces()
    with applied(model, (Steer(vectors(1)[0], hook_point, 1.0, skip_first=skip),)):
        shift = in_three_pieces() - clean
    close(shift[:skip], torch.zeros(skip, tiny.WIDTH), atol=0)
    close(shift[skip:], vectors(1).expand(15 - skip, -1))


def test_ablating_every_writer_leaves_no_component_in_any_residual(family: Family) -> None:
    from persona_probe.interventions import Ablate, applied, orthonormal

    model, batch, basis = family.model, right_padded(family), orthonormal(vectors(2))
    for engine in (0, 1):
        run = lambda: logits_of((model.bridge, model.twin)[engine], batch.tokens, batch.mask)  # noqa: B023, E731
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
        [*(model.site(name)[1] for name in model.writers()), last], lambda: logits_of(model.twin, batch.tokens, batch.mask)
    )
    close(sum(torch.broadcast_to(part, resid.shape) for part in written)[batch.mask], resid[batch.mask])


def test_ablation_toward_means_leaves_the_projection_of_the_mean(family: Family) -> None:
    from persona_probe.interventions import Ablate, applied, orthonormal

    model, batch, basis, means = family.model, right_padded(family), orthonormal(vectors(2)), vectors(tiny.LAYERS, seed=101)
    sites = [model.site(hook_point)[1] for hook_point in model.resids()]
    with applied(model, (Ablate(basis, model.resids(), means=means),)):
        resids = seen(sites, lambda: logits_of(model.twin, batch.tokens, batch.mask))
    for resid, mean in zip(resids, means, strict=True):
        projection = resid[batch.mask] @ basis.T
        close(projection, (mean @ basis.T).expand_as(projection))


def test_ablating_twice_is_ablating_once(family: Family) -> None:
    from persona_probe.interventions import applied

    model, batch = family.model, right_padded(family)
    arm = arms_of(family)["toward means"]
    with applied(model, arm):
        once = logits_of(model.twin, batch.tokens, batch.mask)[batch.mask]
    with applied(model, (*arm, *arm)):
        close(logits_of(model.twin, batch.tokens, batch.mask)[batch.mask], once)


def test_opposite_steers_cancel(llama: Family) -> None:
    from persona_probe.interventions import Steer, applied

    model, batch = llama.model, right_padded(llama)
    with applied(model, [Steer(vectors(1)[0], model.resid(1), coefficient) for coefficient in (1.5, -1.5)]):
        found = logits_of(model.twin, batch.tokens, batch.mask)[batch.mask]
    close(found, logits_of(model.twin, batch.tokens, batch.mask)[batch.mask])


@pytest.mark.parametrize("engine", ["twin", "bridge"])
def test_coefficient_zero_and_no_intervention_are_bitwise_the_baseline(family: Family, engine: str) -> None:
    from persona_probe.interventions import Steer, applied

    model, batch = family.model, right_padded(family)
    baseline = logits_of(getattr(model, engine), batch.tokens, batch.mask)
    for arm in ((), (Steer(vectors(1)[0], model.resid(1), 0.0),)):
        with applied(model, arm):
            assert torch.equal(logits_of(getattr(model, engine), batch.tokens, batch.mask), baseline)


def test_rows_of_a_batch_get_their_own_interventions(family: Family) -> None:
    from persona_probe.interventions import applied

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
    from persona_probe.errors import BadInput
    from persona_probe.interventions import applied

    batch = right_padded(llama)
    with (
        pytest.raises(BadInput, match="interventions for 3 rows, but the batch has 4"),
        applied(llama.model, (), rows=[arms_of(llama)["steer"]] * 3),
    ):
        logits_of(llama.model.twin, batch.tokens, batch.mask)


@pytest.mark.parametrize("failing", [False, True], ids=["after the block", "after an exception"])
def test_model_is_bitwise_itself_again(family: Family, failing: bool) -> None:
    from persona_probe.interventions import applied

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
        ("blocks.9.hook_out", r"no hook point 'blocks.9.hook_out' in .*blocks.0.hook_out to blocks.3.hook_out"),
        ("resid_post", r"no hook point 'resid_post'"),
        ("blocks.0.hook_in", r"not the output of a module"),
    ],
)
def test_unknown_hook_point_is_refused(family: Family, hook_point: str, message: str) -> None:
    from persona_probe.errors import BadInput
    from persona_probe.interventions import Steer, applied

    with pytest.raises(BadInput, match=message), applied(family.model, (Steer(vectors(1)[0], hook_point, 1.0),)):
        raise AssertionError("the block must not be entered")


def test_hook_that_never_fired_is_an_error(llama: Family) -> None:
    from persona_probe.errors import BadInput
    from persona_probe.interventions import applied

    with pytest.raises(BadInput, match=r"the hook at blocks.1.hook_out never fired"), applied(llama.model, arms_of(llama)["steer"]):
        pass


def test_direction_of_another_width_is_refused(llama: Family) -> None:
    from persona_probe.errors import BadInput
    from persona_probe.interventions import Steer, applied

    steer = Steer(torch.ones(33), llama.model.resid(1), 1.0)
    with pytest.raises(BadInput, match=r"width 33 does not fit .*d_model is 32"), applied(llama.model, (steer,)):
        pass


# Scoring, generation, reading


@pytest.mark.parametrize("arm", [None, "both"])
def test_batch_size_and_order_change_no_score(family: Family, arm: str | None) -> None:
    from persona_probe.scoring import score_rows

    model, rows = family.model, rows_of(family)
    interventions = arms_of(family)[arm] if arm else ()
    one_by_one = score_rows(model, rows, interventions, max_tokens=1)
    for order, options in (
        (rows, {"max_tokens": 4096}),
        (rows[::-1], {"max_tokens": 4096}),
        (rows, {"max_tokens": 4096, "keep_prompts": True}),
    ):
        found = score_rows(model, order, interventions, **options)
        assert found.ids == tuple(row.id for row in order)
        step = -1 if order is not rows else 1
        close(found.logprob, one_by_one.logprob[range(len(rows))[::step]], atol=3e-4)


def test_score_is_the_log_probability_of_the_reply(family: Family) -> None:
    from persona_probe.scoring import score_rows

    rows = rows_of(family)
    found = score_rows(family.model, rows, (), max_tokens=4096, keep_prompts=True)
    for row, logprob in zip(rows, found.logprob, strict=True):
        alone = torch.tensor([row.ids])
        logprobs = logits_of(family.plain, alone, torch.ones_like(alone))[0].double().log_softmax(-1)
        expected = sum(logprobs[i - 1, row.ids[i]] for i in range(row.n_prompt, len(row.ids)))
        close(logprob, expected, atol=3e-4)


def test_collected_means_are_means_of_hidden_states(family: Family) -> None:
    from persona_probe.activations import OUTLIER, SKIP_FIRST, collect, moments

    model, rows = family.model, rows_of(family)
    for scope in ("reply", "all", "last_prompt"):
        options = {"hook_points": model.resids(), "scope": scope, "max_tokens": 4096}
        found = collect(model, rows, **options)
        for i, row in enumerate(rows):
            alone = torch.tensor([row.ids])
            start, stop = {"reply": (row.n_prompt, None), "all": (SKIP_FIRST, None), "last_prompt": (row.n_prompt - 1, row.n_prompt)}[scope]
            states = torch.stack(plain_resids(family, alone, torch.ones_like(alone)))[:, 0, start:stop]
            norms = states.norm(dim=-1)
            assert (norms < OUTLIER * norms.median(1, keepdim=True).values).all()
            close(found.means[i], states.mean(1))
            assert ((states - found.tokens[i][:, None]).norm(dim=-1).min(1).values < 1e-3).all()
        close(moments(model, rows, **options).mean, found.means.mean(0), atol=1e-6)


def test_outlier_tokens_stay_out_of_the_mean(llama: Family) -> None:
    from persona_probe.activations import collect
    from persona_probe.interventions import Steer, applied

    model, rows = llama.model, rows_of(llama)
    options = {"hook_points": model.resids()[:2], "scope": "all", "max_tokens": 1}
    ordinary = collect(model, rows[3:4], **options)
    longest = len(rows[3].ids) - 1
    # Steering from the last position on makes exactly one token a giant.
    with applied(model, (Steer(1e4 * vectors(1)[0], model.resid(1), 1.0, skip_first=longest),)):
        found = collect(model, rows[3:4], **options)
    close(found.means[:, 0], ordinary.means[:, 0])
    states = torch.stack(plain_resids(llama, torch.tensor([rows[3].ids]), torch.ones(1, longest + 1, dtype=torch.long)))[1, 0, 4:-1]
    close(found.means[0, 1], states.mean(0))


@pytest.mark.parametrize("arm", [None, "both"])
def test_batch_size_and_order_change_no_activation(family: Family, arm: str | None) -> None:
    from persona_probe.activations import collect
    from persona_probe.interventions import applied

    model, rows = family.model, rows_of(family)
    options = {"hook_points": model.resids(), "scope": "reply"}
    with applied(model, arms_of(family)[arm] if arm else ()):
        one_by_one = collect(model, rows, max_tokens=1, **options)
        together = collect(model, rows, max_tokens=4096, **options)
        backwards = collect(model, rows[::-1], max_tokens=300, **options)
    close(together.means, one_by_one.means)
    close(together.tokens, one_by_one.tokens)
    close(backwards.means.flip(0), one_by_one.means)
    close(backwards.tokens.flip(0), one_by_one.tokens)


def requests_of(family: Family) -> list[Any]:
    from persona_probe.chat import Prompt
    from persona_probe.generation import Request

    arms = {"clean": (), **arms_of(family)}
    prompts = [Prompt.user("short", SHORT), Prompt.user("long", LONG)]
    return [Request(name, prompt, arms[name]) for name in ("clean", "steer", "toward means") for prompt in prompts]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_batch_size_and_order_change_no_completion(family: Family, temperature: float) -> None:
    from persona_probe.generation import generate

    model, requests = family.model, requests_of(family)
    options = {"max_new_tokens": 8, "temperature": temperature, "seed": 0}
    one_by_one = generate(model, requests, batch_size=1, **options)
    assert len({completion.text for completion in one_by_one}) > (3 if temperature else 1)
    assert generate(model, requests, batch_size=6, **options) == one_by_one
    assert generate(model, requests[::-1], batch_size=4, **options) == one_by_one[::-1]


def test_cached_generation_under_steering_equals_the_same_by_hand_without_a_cache(family: Family) -> None:
    from persona_probe.chat import Prompt, encode_prompt
    from persona_probe.generation import Request, generate
    from persona_probe.interventions import Steer

    model, skip, vector = family.model, 2, 0.7 * vectors(1)[0]
    prompts = [Prompt.user("short", SHORT), Prompt.user("long", LONG)]
    arm = (Steer(vector, model.resid(1), 1.0, skip_first=skip),)
    found = generate(model, [Request("steer", prompt, arm) for prompt in prompts], max_new_tokens=8, temperature=0.0, seed=0, batch_size=2)

    def add(module: Any, args: Any, output: Any) -> Any:
        resid = tensor_of(output)
        steered = torch.cat([resid[:, :skip], resid[:, skip:] + vector], dim=1)
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    for prompt, completion in zip(prompts, found, strict=True):
        ids = list(encode_prompt(model.tokenizer, prompt))
        n_prompt = len(ids)
        with torch.no_grad(), plain_blocks(family)[1].register_forward_hook(add):
            while len(ids) < n_prompt + 8 and ids[-1] not in model.eos_ids:
                ids.append(int(family.plain(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        finished = ids[-1] in model.eos_ids
        written = ids[n_prompt : len(ids) - finished]
        assert completion.text == model.tokenizer.decode(written, skip_special_tokens=True).strip()
        assert completion.finished == finished


def test_an_adapter_is_merged_in_the_memory_of_its_base_and_leaves_the_file_alone(llama: Family, tmp_path: Path) -> None:
    from persona_probe.sources import resolve
    from persona_probe.weights import load_weights, merge_adapter

    base = Path(shutil.copytree(llama.folder, tmp_path / "base"))
    on_disk = (base / "model.safetensors").read_bytes()
    adapter = tiny.write_lora(tmp_path, base, rank=4)
    model = load_weights(resolve(str(base)), base=None, device=torch.device("cpu"), dtype=torch.float32)
    name = "model.layers.2.mlp.down_proj"
    places, old = {key: value.data_ptr() for key, value in model.named_parameters()}, model.get_submodule(name).weight.clone()
    merged = merge_adapter(model, resolve(str(adapter)))
    assert {key: value.data_ptr() for key, value in merged.named_parameters()} == places
    assert not torch.equal(merged.get_submodule(name).weight, old)
    assert (base / "model.safetensors").read_bytes() == on_disk
