"""Every setting of the latent experiment, in one place, with its default."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from persona_probe.base.errors import UsageError
from persona_probe.experiments.options import chat_options
from persona_probe.prompts.tokenizers import AS_IS, ChatOptions, Thinking
from persona_probe.streams.activations import SCOPES, Scope


@dataclass(frozen=True)
class LatentConfig:
    """What `diff_latents` is asked for. Everything but the runtime knobs decides the numbers."""

    base: str
    tuned: str
    sae: str
    output_dir: Path
    contrast: Path | None = None
    benign: Path | None = None
    n_latents: int = 100
    n_reported: int = 5
    n_examples: int = 5
    dose: float = 0.1
    budget: float = 0.10
    skip_first: int = 4
    replies_per_question: int = 4
    n_benign: int = 32
    n_screen_benign: int = 8
    scope: Scope = "reply"
    seed: int = 0
    limit: int | None = None
    template: Literal["base", "tuned"] | None = None
    thinking: Thinking = "keep"
    date: str = AS_IS.date
    dtype: str = "auto"
    device: str = "auto"
    device_map: str | None = None
    max_tokens: int = 512
    arms_at_once: int = 4

    def __post_init__(self) -> None:
        if self.scope not in SCOPES or self.template not in (None, "base", "tuned"):
            raise UsageError(
                f"--tokens is {self.scope!r}, --template {self.template!r}: "
                f"allowed are {', '.join(SCOPES)}, and base or tuned"
            )
        chat_options(thinking=self.thinking, date=self.date)
        lower = {
            "n_latents": 1,
            "n_reported": 0,
            "n_examples": 1,
            "replies_per_question": 1,
            "n_benign": 2,
            "n_screen_benign": 2,
            "max_tokens": 16,
            "arms_at_once": 1,
        }
        for name, bound in {**lower, "budget": 0, "skip_first": 0}.items():
            if getattr(self, name) < bound:
                raise UsageError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}: allowed is {bound} or more"
                )
        if not 0 < self.dose <= 2:
            raise UsageError(
                f"--dose is {self.dose}: allowed is above 0, up to 2 times the median length of the stream"
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
        runtime = ("output_dir", "max_tokens", "device", "device_map", "arms_at_once")
        kept = {item.name: asdict(self)[item.name] for item in fields(self) if item.name not in runtime}
        return {name: str(value) if isinstance(value, Path) else value for name, value in kept.items()} | {
            "dtype": dtype
        }
