"""Settings that several commands share, each defined once. No torch here: help and usage errors answer at
once."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from persona_probe.base.choices import KEPT_MEGABYTES, Dtype, Outliers, Scope
from persona_probe.base.errors import BadInput, UsageError
from persona_probe.base.options import Option, check, settings_of
from persona_probe.prompts.contrast_files import EDITIONS, contrast_file
from persona_probe.prompts.tokenizers import AS_IS, ChatOptions, Thinking
from persona_probe.storage.shipped import BASE, TUNED

TOKENS_PER_TEXT = 64  # what one text of --batch-size counts for in --max-tokens
TRY = (
    "Use only so many questions, half to find and a quarter each to select and to test, and few benign texts:"
    " a quick try, stamped as such. It bounds questions, not their replies."
)
PAIR = "fine-tuned model or LoRA adapter: hub id[@revision], folder, GGUF file, or the name of one that ships"

Base = Annotated[
    str,
    Option(f"Base model: hub id[@revision], folder, GGUF file, or {BASE}.", "models", also=("base_model",)),
]
Tuned = Annotated[
    str, Option(f"The {PAIR}. Default: {TUNED}, with its base.", "models", also=("model", "adapter", "lora"))
]
Template = Annotated[
    Literal["base", "tuned"] | None,
    Option("Whose tokenizer and chat template serve both models when they differ.", "models"),
]
ThinkingMode = Annotated[
    Thinking,
    Option(
        "What stands in a template's think block before a reply. keep: what the template writes; off: its own"
        " switch is set to off; empty: an empty block.",
        "models",
    ),
]
Date = Annotated[
    str,
    Option(
        "What a template takes for today, as 2026-01-31. It is fixed, so that tomorrow gives the same"
        " prompts.",
        "models",
    ),
]
ContrastFile = Annotated[
    Path | None,
    Option(
        "Your questions with aligned and misaligned replies: JSONL, or CSV of a judged organism; or"
        f" {' or '.join(EDITIONS)}, which ship.",
        "data",
    ),
]
BenignFile = Annotated[
    Path | None, Option("Your benign texts for damage: JSONL with question and reply.", "data")
]
Limit = Annotated[
    int | None, Option(TRY, "data", low=8, why="8 questions are the least that fill find, select and test")
]
TokenScope = Annotated[
    Scope, Option("Tokens of a text that the activations are read from.", "search", also=("tokens",))
]
TokenOutliers = Annotated[
    Outliers,
    Option(
        "Read tokens that are over 10 times as long as their text's median: left out of the means (drop), or"
        " averaged like all others (keep).",
        "search",
    ),
]
Budget = Annotated[
    float,
    Option(
        "Most damage that a selected intervention may do, in nats per token on benign text.", "search", low=0
    ),
]
SkipFirst = Annotated[
    int, Option("First tokens of a sequence that interventions leave alone.", "search", low=0)
]
PerQuestion = Annotated[int, Option("Most replies of a label per question.", "data", low=1)]
Benign = Annotated[int, Option("Benign texts behind the reported damage.", "data", low=2)]
Seed = Annotated[int, Option("Seed of everything random.", "search")]
OutputDir = Annotated[
    Path,
    Option("Folder of the run; the same settings continue in it.", "output", also=("output",), decides=False),
]
Device = Annotated[str, Option("auto, cpu, cuda, cuda:1 or mps.", "machine", decides=False)]
DtypeChoice = Annotated[
    Dtype,
    Option(
        "Number format of the models. auto: bfloat16 on GPUs that have it, else float32.",
        "machine",
        shorthand={"--bf16": "bfloat16", "--fp16": "float16", "--fp32": "float32"},
    ),
]
DeviceMap = Annotated[str | None, Option("auto: spread a model over several GPUs.", "machine", decides=False)]
MaxTokens = Annotated[
    int,
    Option(
        "Most tokens of one batch, padding included; it bounds memory, not the length of a text. "
        f"--batch-size N sets it to {TOKENS_PER_TEXT} N.",
        "machine",
        low=16,
        also=("batch_tokens",),
        times={"--batch-size": TOKENS_PER_TEXT},
        decides=False,
    ),
]
Memory = Annotated[
    int,
    Option(
        "Megabytes for what untouched models' passes leave for the arms; with less, more is computed again.",
        "machine",
        low=0,
        decides=False,
    ),
]
Overwrite = Annotated[bool, Option("Start afresh in --output-dir.", "output", in_file=False)]


@dataclass(frozen=True)
class Start:
    """How a run of the experiments begins and what it prints."""

    toy: Annotated[
        bool, Option("Run on a tiny planted organism whose answers are known (seconds).", "models")
    ] = False
    resume: Annotated[
        bool, Option("Insist on continuing the run in --output-dir.", "output", in_file=False)
    ] = False
    overwrite: Overwrite = False
    json: Annotated[bool, Option("Print the record as one JSON line on stdout.", "output", in_file=False)] = (
        False
    )


@dataclass(frozen=True, kw_only=True)
class PairNames:
    """Which two models are opened; a class of its own, so that they stand first in `--help`."""

    base: Base = BASE
    tuned: Tuned = ""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model is opened and how its template is run."""

    thinking: ThinkingMode = "keep"
    date: Date = AS_IS.date
    device: Device = "auto"
    dtype: DtypeChoice = "auto"

    def __post_init__(self) -> None:
        check(self)
        _ = self.chat

    @property
    def chat(self) -> ChatOptions:
        """How the template is run; UsageError for a day that does not exist."""
        try:
            return ChatOptions(self.thinking, self.date)
        except BadInput as error:
            raise UsageError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class PairOptions(ModelOptions, PairNames):
    """Which two models are opened, and how."""


@dataclass(frozen=True, kw_only=True)
class ExperimentOptions(PairOptions):
    """What both experiments are asked for."""

    template: Template = None
    output_dir: OutputDir = Path("experiments/runs/latest")
    contrast: ContrastFile = None
    benign: BenignFile = None
    limit: Limit = None
    replies_per_question: PerQuestion = 8
    n_benign: Benign = 48
    scope: TokenScope = "reply"
    outliers: TokenOutliers = "drop"
    budget: Budget = 0.10
    skip_first: SkipFirst = 4
    seed: Seed = 0
    device_map: DeviceMap = None
    max_tokens: MaxTokens = 1024
    memory: Memory = KEPT_MEGABYTES

    def settings(self, *, dtype: str) -> dict[str, Any]:
        """What identifies a run: all that decides its numbers, as JSON has it, with the dtype that `auto`
        became.

        `outliers` is left out where they are dropped: as in runs from before there was this setting.
        """
        values = {
            setting.name: getattr(self, setting.name)
            for setting in settings_of(type(self))
            if setting.option.decides
        }
        if self.outliers == "drop":
            del values["outliers"]
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
        return plain | {"dtype": dtype}


PairT = TypeVar("PairT", bound=PairOptions)


def with_tuned(config: PairT) -> PairT:
    """The configuration with the shipped organism where no tuned model is named; UsageError when its base is
    another."""
    if config.tuned:
        return config
    if config.base != BASE:
        raise UsageError(f"--base {config.base} without --tuned: give the fine-tuned model or adapter")
    return replace(config, tuned=TUNED)


def refuse_with_toy(config: PairT, *names: str) -> PairT:
    """The configuration; UsageError when it sets one of `names`, which the planted organism brings itself."""
    defaults = {field.name: field.default for field in fields(config)}
    if given := [name for name in names if getattr(config, name) != defaults[name]]:
        raise UsageError(f"--toy brings its own models and data: leave out --{', --'.join(given)}")
    return config


def need_files(config: ExperimentOptions) -> None:
    """BadInput for a file of the configuration that does not exist."""
    contrast = None if config.contrast is None else contrast_file(config.contrast)
    for name, path in (("contrast", contrast), ("benign", config.benign)):
        if path is not None and not path.is_file():
            raise BadInput(f"no file {path}: --{name} needs an existing file")


def check_layers(layers: Sequence[int] | None, n_layers: int) -> None:
    """UsageError for a layer that a model does not have."""
    if wrong := [layer for layer in layers or () if not 0 <= layer < n_layers]:
        raise UsageError(f"--layers asks for {', '.join(map(str, wrong))}: there are 0 to {n_layers - 1}")
