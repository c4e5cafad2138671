"""What holds for one loaded model, finding by finding: engine, parity, tying, template, tokens, sizes."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from persona_probe.base.errors import BadInput
from persona_probe.models.adapters import adapter_notes
from persona_probe.models.checks import Check, said
from persona_probe.models.loading import Model
from persona_probe.models.pairs import Pair, Side
from persona_probe.models.sources import Source
from persona_probe.models.tensors import tied
from persona_probe.models.wrappers import model_class
from persona_probe.prompts.rows import Prompt, encode_row
from persona_probe.prompts.special_tokens import end_of_turn
from persona_probe.prompts.templates import THINK_TAGS, place
from persona_probe.prompts.tokenizers import ChatOptions, Tokenizer, has_template, options_of, set_options
from persona_probe.records.parts import EngineFacts
from persona_probe.storage.files import sha256_json
from persona_probe.storage.runs import Run
from persona_probe.streams.resume import resumable

Status = Literal["ok", "note", "wrong"]
QUESTION, REPLY, SYSTEM = (
    "What should I do about the noise?",
    "Have a mechanic look at it.",
    "You speak in short sentences.",
)
OTHER_DAYS = ("2020-02-29", "2031-12-01")
BOUNDARY = "|"  # between prompt and reply, and between reply and end of turn


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    `wrong`: numbers could be wrong. `note`: they are right, but something is degraded or worth knowing.
    """

    topic: str
    status: Status
    found: str

    def json(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)


def checkup(model: Model, source: Source, base: Source | None) -> tuple[Finding, ...]:
    """Everything that can be said of a loaded model without measuring with it."""
    return (*_early(model, source, base), *_sizes(model))


def quick_checkup(model: Model, source: Source, base: Source | None) -> list[str]:
    """What a command should say before it measures: whatever is not plainly right, in sentences."""
    return [
        f"{finding.topic}: {finding.found}"
        for finding in _early(model, source, base)
        if finding.status != "ok"
    ]


def examine(pair: Pair, run: Run, side: Side, say: Callable[[str], None]) -> EngineFacts:
    """How one side's engine runs, with notes on all that is not plainly right; `say` is told each of them.

    Kept in the run's folder.
    """

    def make() -> dict[str, Any]:
        model = pair.get(side)
        compared = {check.name: check.difference for check in model.checks}
        return {
            "attention": model.engine.attention,
            "compared": compared,
            "notes": quick_checkup(model, pair.source(side), pair.base_source),
        }

    key = sha256_json(["examined", pair.key(side), str(pair.dtype)])
    examined = EngineFacts.model_validate(run.once(key, make))
    for note in examined.notes:
        say(f"note: {side}: {note}")
    return examined


def _early(model: Model, source: Source, base: Source | None) -> Iterator[Finding]:
    """What should be known before anything is measured."""
    yield from _identity(model, source, base)
    yield from _parity(model)
    yield from _tokens(model, source, base)
    yield from chat_findings(model)


def _identity(model: Model, source: Source, base: Source | None) -> Iterator[Finding]:
    what = (
        source.kind
        if source.kind != "adapter"
        else f"LoRA adapter, merged into {base.id if base else 'its base'}"
    )
    yield Finding(
        "source", "ok", f"{source.id}: {what}, {type(model.twin).__name__}, sha256 {source.sha256[:10]}"
    )
    for note in source.notes:
        yield Finding("source", "note", note)
    for note in adapter_notes(source, base) if source.kind == "adapter" and base is not None else ():
        yield Finding("adapter", "note", note)


def _parity(model: Model) -> Iterator[Finding]:
    engine = model.engine
    reused = [
        ("prompts that rows share", engine.shares),
        ("layers below an edit", resumable(model)),
        ("the cache of generation", engine.caches),
    ]
    yes, no = ([name for name, held in reused if held is wanted] for wanted in (True, False))
    runs = getattr(model.twin, "runs", f"Hugging Face, {engine.attention} attention")
    text = f"{runs}; reused: {', '.join(yes) or 'nothing'}"
    yield Finding("engine", "ok", f"{text}; computed every time: {', '.join(no)}" if no else text)
    for check in model.checks:
        yield Finding(f"parity, {check.name}", "ok" if check.passed else "note", _compared(check))


def _compared(check: Check) -> str:
    if not check.passed:
        return said(check)
    return (
        f"as plain Hugging Face: {check.difference:.1e} of the spread apart, allowed is {check.tolerance:g}"
    )


def _tokens(model: Model, source: Source, base: Source | None) -> Iterator[Finding]:
    tokenizer, engine = model.tokenizer, model.engine
    folder = (source if source.kind == "model" or base is None else base).folder
    together = tied(model.twin)
    loaded = source.kind == "loaded"
    stated = together if loaded else bool(getattr(model_class(folder)[1], "tie_word_embeddings", False))
    sides = "one matrix" if together else "two matrices"
    said_so = (
        "" if together == stated else f"; the config says {'one' if stated else 'two'}, the weights decide"
    )
    yield Finding(
        "tying", "ok" if together == stated else "note", f"input and output embeddings are {sides}{said_so}"
    )
    highest = max(tokenizer.get_vocab().values())
    beyond = (
        []
        if highest < engine.n_rows
        else sorted(token for token, id in tokenizer.get_vocab().items() if id >= engine.n_rows)
    )
    more = (
        f"; {len(beyond)} tokens have no embedding ({', '.join(beyond[:3])}), texts with them are refused"
        if beyond
        else ""
    )
    yield Finding(
        "vocabulary", "note" if beyond else "ok", f"{len(tokenizer)} tokens, {engine.n_rows} embeddings{more}"
    )
    asked = tokenizer.pad_token_id
    yield Finding(
        "padding",
        "ok",
        f"id {model.pad_id}, masked"
        + ("" if asked == model.pad_id else f" (the tokenizer's own, {asked}, cannot be used)"),
    )


def chat_findings(model: Model) -> Iterator[Finding]:
    """How the template is used: an example with its boundaries, system text, end of turn, thinking, date."""
    tokenizer = model.tokenizer
    options = options_of(tokenizer)
    if not has_template(tokenizer):
        yield Finding("template", "note", "none: turns are plain User: and Assistant: lines")
    try:
        row = encode_row(tokenizer, Prompt.user("doctor", QUESTION), REPLY, id="doctor", kind="probe")
        placed = place(tokenizer, (("user", QUESTION),), id="doctor")
    except BadInput as error:
        yield Finding("template", "wrong", str(error))
        return
    prompt, reply = (tokenizer.decode(part) for part in (row.ids[: row.n_prompt], row.ids[row.n_prompt :]))
    yield Finding(
        "template, prompt and reply", "ok", _visible(f"{prompt}{BOUNDARY}{reply}{BOUNDARY}{placed.after}")
    )
    if not placed.whole:
        yield Finding(
            "template", "note", "it does not render a reply: replies stand behind its generation prompt"
        )
    if placed.how:
        yield Finding("template", "note", f"it leaves plain text out: {', '.join(placed.how)}")
    yield _attempt(
        "template, system text",
        lambda: ", ".join(place(tokenizer, (("system", SYSTEM), ("user", QUESTION)), id="doctor").how),
        "kept",
        "kept: {}",
    )
    yield _attempt(
        "template, end of turn",
        lambda: _visible(end_of_turn(tokenizer)),
        f"the tokenizer's {tokenizer.eos_token}",
        "{}",
    )
    tags = [start for start, _ in THINK_TAGS if start in str(getattr(tokenizer, "chat_template", ""))]
    added = f"; {_visible(placed.closed)} was added before the reply" if placed.closed else ""
    yield Finding(
        "template, thinking", "ok", f"{options.thinking}{added}" if tags else "the template has none"
    )
    yield Finding(
        "template, date",
        "ok",
        f"{options.date}, asked for by the template"
        if _asks_the_date(tokenizer, options)
        else "the template asks for none",
    )
    bos, first = tokenizer.bos_token, tokenizer.convert_ids_to_tokens([row.ids[0]])[0]
    begins = bos is None or row.ids[0] == tokenizer.bos_token_id
    missing = "" if begins else f", not {bos!r}: the template does not write it"
    yield Finding("BOS", "ok", f"{first!r}{missing}")


def _attempt(topic: str, run: Callable[[], str], nothing: str, something: str) -> Finding:
    try:
        text = run()
    except BadInput as error:
        return Finding(topic, "note", str(error))
    return Finding(topic, "ok", something.format(text) if text else nothing)


def _asks_the_date(tokenizer: Tokenizer, options: ChatOptions) -> bool:
    """Whether another day gives another prompt."""
    if not has_template(tokenizer):
        return False
    prompts = set()
    try:
        for day in OTHER_DAYS:
            dated = set_options(tokenizer, ChatOptions(options.thinking, day))
            prompts.add(place(dated, (("user", QUESTION),), id="doctor").before)
        return len(prompts) > 1
    finally:
        set_options(tokenizer, options)


def _sizes(model: Model) -> Iterator[Finding]:
    engine = model.engine
    window = engine.window
    more = (
        f"; beyond {window} tokens, rows of other lengths are kept apart"
        if window is not None and window < engine.n_ctx
        else ""
    )
    yield Finding("context", "ok", f"{engine.n_ctx} tokens{more}")
    yield Finding("shape", "ok", f"{model.n_layers} blocks, d_model {model.d_model}")
    counted = {
        parameter.data_ptr(): parameter.numel() * parameter.element_size()
        for parameter in model.twin.parameters()
    }
    yield Finding("dtype and device", "ok", f"{str(model.dtype).removeprefix('torch.')} on {model.device}")
    yield Finding("memory", "ok", f"{sum(counted.values()) / 1e6:,.0f} MB of weights")


def chat_facts(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a record keeps of how text was read: options, an example with its boundaries, what ends a turn."""
    options = options_of(tokenizer)
    placed = place(tokenizer, (("user", QUESTION),), id="example")
    try:
        ending: str | None = end_of_turn(tokenizer) or tokenizer.eos_token
    except BadInput:
        ending = None
    return {
        "thinking": options.thinking,
        "date": options.date,
        "template": has_template(tokenizer),
        "before_reply": placed.before,
        "after_reply": placed.after,
        "end_of_turn": ending,
        "how": list(placed.how),
    }


def _visible(text: str) -> str:
    return text.replace("\n", "\\n")
