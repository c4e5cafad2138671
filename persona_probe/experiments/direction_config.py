"""Every setting of the main job, in one place, with its default."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from persona_probe.base.errors import UsageError
from persona_probe.directions.estimators import METHODS
from persona_probe.experiments.options import chat_options
from persona_probe.prompts.tokenizers import AS_IS, ChatOptions, Thinking
from persona_probe.streams.activations import SCOPES, Scope

RUNTIME_ONLY = (
    "output_dir",
    "max_tokens",
    "device",
    "device_map",
    "keep_both",
)  # may change between a run and its continuation


@dataclass(frozen=True)
class Config:
    """What `find_direction` is asked for. Everything but the runtime knobs decides the numbers."""

    base: str
    tuned: str
    output_dir: Path
    contrast: Path | None = None
    benign: Path | None = None
    sae: str | None = None
    methods: tuple[str, ...] = METHODS
    scope: Scope = "reply"
    budget: float = 0.10
    controls: int = 5
    null: int = 0
    layers_screened: int = 5
    skip_first: int = 4
    replies_per_question: int = 8
    n_benign: int = 48
    n_prompts: int = 4
    max_new_tokens: int = 48
    temperature: float = 0.7
    seed: int = 0
    limit: int | None = None
    template: Literal["base", "tuned"] | None = None
    thinking: Thinking = "keep"
    date: str = AS_IS.date
    dtype: str = "auto"
    device: str = "auto"
    device_map: str | None = None
    keep_both: bool = False
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        allowed = {"methods": METHODS, "scope": SCOPES, "template": (None, "base", "tuned")}
        for name, choices in allowed.items():
            values = getattr(self, name)
            for value in values if isinstance(values, tuple) else (values,):
                if value not in choices:
                    known = ", ".join(str(choice) for choice in choices if choice)
                    raise UsageError(f"no {name} {value!r}: allowed are {known}")
        chat_options(thinking=self.thinking, date=self.date)
        if not self.methods:
            raise UsageError(f"--methods is empty: choose from {', '.join(METHODS)}")
        lower = {
            "budget": 0,
            "controls": 0,
            "null": 0,
            "layers_screened": 1,
            "skip_first": 0,
            "replies_per_question": 1,
            "n_benign": 2,
            "n_prompts": 0,
            "max_new_tokens": 1,
            "temperature": 0,
            "max_tokens": 16,
        }
        for name, bound in lower.items():
            if getattr(self, name) < bound:
                raise UsageError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}: allowed is {bound} or more"
                )
        if self.limit is not None and self.limit < 8:
            raise UsageError(
                f"--limit is {self.limit}: 8 questions are the least that fill find, select and test"
            )

    @property
    def chat(self) -> ChatOptions:
        """How the template is run."""
        return ChatOptions(self.thinking, self.date)

    def settings(self, *, dtype: str) -> dict[str, Any]:
        """What identifies a run: all that decides its numbers, with the dtype that `auto` became."""
        values = asdict(self)
        kept = {field.name: values[field.name] for field in fields(self) if field.name not in RUNTIME_ONLY}
        return {name: str(value) if isinstance(value, Path) else value for name, value in kept.items()} | {
            "dtype": dtype
        }
