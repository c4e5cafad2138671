"""Does a model, as it is run here, give the numbers of plain Hugging Face? Short probes of one loaded model, compared one by one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.models.engine import Attention, Engine
from persona_probe.models.twins import fast_attention
from persona_probe.prompts.chat import Row, Tokenizer, pad_left, pad_prompts, pad_right

TEXTS = ("Have a look at the brakes before you drive.", "It is late.")
LENGTHS = ((6, 3), (6, 2), (3, 3))  # tokens of prompt and reply; the first two rows share their prompt
TOLERANCE = {torch.float32: 3e-4}  # relative to the spread of the logits
BRIDGE = "bridge: "  # how the checks of the bridge begin
COARSE = 0.5  # the same for numbers of two bytes: rounding moves logits by up to a tenth, and by more where it sends a token to another expert
# Families whose bridge differs by less than that; float32 shows it, and the test of all families that this list is right.
BRIDGE_DIFFERS = ("cohere", "cohere2", "hunyuan_v1_dense")


@dataclass(frozen=True)
class Check:
    """One comparison. `difference` is relative to the spread of the reference; None when there was nothing to compare, and `said` tells why."""

    name: str
    difference: float | None
    tolerance: float
    said: str = ""

    @property
    def passed(self) -> bool:
        """Whether the two sides agree."""
        return self.difference is not None and self.difference <= self.tolerance


@dataclass(frozen=True, eq=False)
class Reference:
    """What plain eager Hugging Face gives for each probe row alone, before anything was bridged: reply logits, streams after blocks."""

    rows: tuple[Row, ...]
    logits: tuple[Float[Tensor, "_ d_vocab"], ...]
    streams: tuple[tuple[Tensor, ...], ...]


def probe_rows(tokenizer: Tokenizer, *, n_rows: int) -> tuple[Row, ...]:
    """Rows of ordinary text. Ids without an embedding, and texts too short for the probe, are replaced by other ids in the middle of the vocabulary."""
    filler = [n_rows // 4 + (37 * i) % max(1, n_rows // 2) for i in range(16)]
    rows = []
    for i, (n_prompt, n_reply) in enumerate(LENGTHS):
        prompt, reply = (
            [id for id in tokenizer(text, add_special_tokens=False)["input_ids"] if id < n_rows]
            for text in (TEXTS[i // 2], TEXTS[1 - i // 2])
        )
        ids = [*(prompt + filler)[:n_prompt], *(reply[i:] + filler)[:n_reply]]
        question_id = f"probe {i // 2}"
        rows.append(
            Row(id=f"probe {i}", kind="probe", question_id=question_id, ids=tuple(ids), n_prompt=n_prompt)
        )
    return tuple(rows)


@torch.inference_mode()
def reference(weights: Any, rows: Sequence[Row]) -> Reference:
    """The probe rows through the model as it was loaded, one by one and unpadded."""
    device = weights.get_input_embeddings().weight.device
    logits, streams = [], []
    for row in rows:
        tokens = torch.tensor([row.ids], device=device)
        out = weights(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            output_hidden_states=True,
            use_cache=False,
        )
        logits.append(out.logits[0, row.n_prompt - 1 : -1].float().cpu())
        streams.append(tuple(state[0].float().cpu() for state in out.hidden_states or ()))
    if not all(one.isfinite().all() for one in logits):
        raise BadInput(
            f"{type(weights).__name__}: the logits of plain text are not finite in {weights.dtype}: try --dtype float32 or bfloat16"
        )
    return Reference(tuple(rows), tuple(logits), tuple(streams))


def distance(found: Float[Tensor, "*shape"], expected: Float[Tensor, "*shape"]) -> float:
    """Length of the difference over the length of what is expected, each row's mean taken away."""
    found, expected = found.float().cpu(), expected.float().cpu()
    spread = (expected - expected.mean(-1, keepdim=True)).norm()
    return (
        float((found - expected).norm() / spread.clamp(min=1e-12)) if found.isfinite().all() else float("inf")
    )


def tolerance(dtype: torch.dtype) -> float:
    """How far two right computations may lie apart in a number format."""
    return TOLERANCE.get(dtype, COARSE)


def fitted_engine(
    twin: Any, name: str, known: Reference, *, attention: Attention, dtype: torch.dtype
) -> tuple[Engine, tuple[Check, ...]]:
    """The fastest way to run `twin` that gives the reference's logits, and every comparison made on the way there.

    Raises BadInput when even single rows with eager attention differ: then the twin is not the model.
    """
    engine = Engine(twin, name, attention, shares=False)
    limit = tolerance(dtype)
    checks = [_check(f"logits ({engine.attention})", lambda: _alone(engine, known), limit)]
    if not checks[-1].passed and engine.attention == "sdpa":
        twin.set_attn_implementation("eager")
        checks[-1] = replace(checks[-1], said=_because(checks[-1], "eager attention runs"))
        engine = replace(engine, attention="eager")
        checks.append(_check("logits (eager)", lambda: _alone(engine, known), limit))
    if not checks[-1].passed:
        raise BadInput(
            f"{name}: a pass over its own weights is not Hugging Face's ({type(twin).__name__}; {said(checks[-1])}): it cannot be measured"
        )
    steps: tuple[tuple[str, str, Callable[[Engine], float], str], ...] = (
        ("pads", "padding", lambda made: _padded(made, known), "rows run one by one"),
        ("shares", "shared prompts", lambda made: _shared(made, known), "prompts are computed once per row"),
        (
            "caches",
            "cache",
            lambda made: _stepped(made, known, together=False),
            "generation runs without a cache",
        ),
        (
            "pads_left",
            "left padding",
            lambda made: _stepped(made, known, together=True),
            "replies are generated one by one",
        ),
    )
    for field, name_, run, otherwise in steps:
        tried = replace(engine, **{field: True})
        if not getattr(tried, field):
            checks.append(Check(name_, None, limit, f"{otherwise}, as in float32 this family differs"))
            continue
        if field == "shares" and not engine.pads:
            checks.append(
                Check(name_, None, limit, "prompts are computed once per row, since rows run one by one")
            )
            continue
        check = _check(name_, lambda run=run, tried=tried: run(tried), limit)
        engine = replace(engine, **{field: check.passed})
        checks.append(check if check.passed else replace(check, said=_because(check, otherwise)))
    return engine, tuple(checks)


def set_fast_attention(model: Any, tokenizer: Tokenizer) -> Attention:
    """Give a model that was loaded with eager attention SDPA, if its logits stay what they were; returns what it has then."""
    known = reference(model, probe_rows(tokenizer, n_rows=model.get_input_embeddings().weight.shape[0]))
    if fast_attention(model) == "sdpa":
        model.set_attn_implementation("sdpa")
        engine = Engine(model, type(model).__name__, "sdpa", shares=False)
        if _check("logits (sdpa)", lambda: _alone(engine, known), tolerance(model.dtype)).passed:
            return "sdpa"
        model.set_attn_implementation("eager")
    return "eager"


def bridge_checks(
    bridge: Any, engine: Engine, known: Reference, sites: Sequence[tuple[Any, Any]], *, dtype: torch.dtype
) -> tuple[Check, ...]:
    """Streams of the twin against Hugging Face, and logits, streams and an edit of the bridge against the twin's."""
    limit, row = tolerance(dtype), known.rows[0]
    tokens = torch.tensor([row.ids], device=engine.twin.get_input_embeddings().weight.device)
    middle = len(sites) // 2
    hook, module = sites[middle]

    def streams(modules: Sequence[Any], run: Callable[[], Any]) -> list[Tensor]:
        kept: dict[int, Tensor] = {}
        handles = [
            one.register_forward_hook(
                lambda _m, _a, out, i=i: kept.update({i: _tensor(out)[0].float().cpu()})
            )
            for i, one in enumerate(modules)
        ]
        try:
            run()
        finally:
            for handle in handles:
                handle.remove()
        return [kept[i] for i in range(len(modules))]

    def edited(target: Any, run: Callable[[], Tensor]) -> Tensor:
        def add(_module: Any, _args: Any, out: Any) -> Any:
            stream = _tensor(out)
            step = torch.linspace(-1, 1, stream.shape[-1], device=stream.device)
            moved = (stream.float() + 0.3 * stream.float().norm(dim=-1).median() * step / step.norm()).to(
                stream.dtype
            )
            return (moved, *out[1:]) if isinstance(out, tuple) else moved

        handle = target.register_forward_hook(add)
        try:
            return run()
        finally:
            handle.remove()

    def of_twin() -> Tensor:
        return engine.twin(input_ids=tokens, use_cache=False).logits[0].float().cpu()

    def of_bridge() -> Tensor:
        return bridge(tokens, attention_mask=torch.ones_like(tokens))[0].float().cpu()

    def residuals(by_twin: bool) -> float:
        found = streams([site[1 if by_twin else 0] for site in sites], of_twin if by_twin else of_bridge)
        states = known.streams[0]
        if any(stream.ndim != 2 for stream in found):  # several streams at once (DeepSeek V4)
            raise BadInput("its blocks do not pass on one vector per token")
        if len(states) != len(sites) + 1:
            raise BadInput(f"Hugging Face gives {len(states)} hidden states for {len(sites)} blocks")
        # The last entry is behind the final norm; the first is the embedding, but for state-space models, which list only what follows blocks.
        listed = (states[1:-1], states[:-2])
        return min(
            max((distance(one, other) for one, other in zip(found, some, strict=False)), default=0.0)
            for some in listed
        )

    if engine.config.model_type in BRIDGE_DIFFERS and limit >= COARSE:
        known_to_differ = Check(f"{BRIDGE}logits", None, limit, "differ in float32; two bytes would hide it")
        return (_check("residual stream", lambda: residuals(True), limit), known_to_differ)
    return (
        _check("residual stream", lambda: residuals(True), limit),
        _check(
            f"{BRIDGE}logits", lambda: distance(of_bridge()[row.n_prompt - 1 : -1], known.logits[0]), limit
        ),
        _check(f"{BRIDGE}residual stream", lambda: residuals(False), limit),
        _check(f"{BRIDGE}edit", lambda: distance(edited(hook, of_bridge), edited(module, of_twin)), limit),
    )


def _check(name: str, run: Callable[[], float], limit: float) -> Check:
    try:
        with torch.inference_mode():
            difference = run()
        return (
            Check(name, difference, limit)
            if math.isfinite(difference)
            else Check(name, None, limit, "numbers that are not finite")
        )
    except Exception as error:  # a family may fail in any way where it is run in one it was not written for
        lines = str(error).strip().splitlines() or [""]
        return Check(name, None, limit, f"{type(error).__name__}: {lines[0]:.120}")


def _because(check: Check, otherwise: str) -> str:
    return f"{otherwise}, since it {f'ends in {check.said}' if check.difference is None else f'differs by {check.difference:.2g}'}"


def said(check: Check) -> str:
    """What a check found, in words."""
    if check.said:
        return check.said
    return f"differs by {check.difference:.2g} of the spread, allowed is {check.tolerance:g}"


def _tensor(output: Any) -> Tensor:
    stream = output[0] if isinstance(output, tuple) else output
    if not isinstance(stream, Tensor):  # GPT-1 puts out a list
        raise BadInput("its blocks do not pass on one vector per token")
    return stream


def _reply_logits(engine: Engine, batch: Any) -> list[Tensor]:
    places = [
        (i, offset + row.n_prompt - 1 - batch.n_shared + j)
        for i, (row, offset) in enumerate(zip(batch.rows, batch.offsets, strict=True))
        for j in range(row.n_reply)
    ]
    logits = engine.forward(
        batch, logits_at=(torch.tensor([i for i, _ in places]), torch.tensor([j for _, j in places]))
    )
    assert logits is not None, "logits were asked for"
    return list(logits.split([row.n_reply for row in batch.rows]))


def _alone(engine: Engine, known: Reference) -> float:
    return max(
        distance(_reply_logits(engine, pad_right([row], pad_id=0))[0], expected)
        for row, expected in zip(known.rows, known.logits, strict=True)
    )


def _padded(engine: Engine, known: Reference) -> float:
    found = _reply_logits(engine, replace(pad_right(known.rows, pad_id=0), n_shared=0))
    return max(distance(one, other) for one, other in zip(found, known.logits, strict=True))


def _shared(engine: Engine, known: Reference) -> float:
    found = _reply_logits(engine, pad_prompts(known.rows, pad_id=0))
    beginning = _reply_logits(engine, pad_right(known.rows[:2], pad_id=0))
    pairs = [*zip(found, known.logits, strict=True), *zip(beginning, known.logits, strict=False)]
    return max(distance(one, other) for one, other in pairs)


def _stepped(engine: Engine, known: Reference, *, together: bool) -> float:
    """Reply logits as generation would meet them: the prompt in one pass, then token by token."""
    worst = 0.0
    for chosen in ((0, 2),) if together else ((0,), (2,)):
        rows = [known.rows[i] for i in chosen]
        tokens, mask = (
            tensor.to(engine.twin.get_input_embeddings().weight.device)
            for tensor in pad_left([row.ids[: row.n_prompt] for row in rows], pad_id=0)
        )
        cache, whole = None, tokens
        for step in range(min(row.n_reply for row in rows)):
            logits, cache = engine.next_logits(tokens if engine.caches else whole, mask, cache)
            worst = max(
                worst, *(distance(one, known.logits[i][step]) for i, one in zip(chosen, logits, strict=True))
            )
            tokens = torch.tensor([[row.ids[row.n_prompt + step]] for row in rows], device=mask.device)
            mask, whole = torch.cat([mask, torch.ones_like(tokens)], 1), torch.cat([whole, tokens], 1)
    return worst
