"""What every record is made of: estimates, models, provenance, interventions. No torch."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from persona_probe.base.hook_points import HookPoint

T = TypeVar("T")


def writable(text: Any) -> Any:
    """Text with lone surrogates, which UTF-8 cannot write, as question marks; anything else unchanged."""
    return text.encode("utf-8", "replace").decode("utf-8") if isinstance(text, str) else text


def listed(settings: Any) -> Any:
    """Settings with lists for tuples, as JSON has them."""
    if not isinstance(settings, dict):
        return settings
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def no_bool(version: Any) -> Any:
    """A version number; ValueError for True, which is equal to 1."""
    if isinstance(version, bool):
        raise ValueError("a version is a number")
    return version


Many = Annotated[tuple[T, ...], Field(strict=False)]  # a list in JSON and, once read, a tuple
Pair = Annotated[tuple[T, T], Field(strict=False)]
Text = Annotated[str, BeforeValidator(writable)]  # anything that people or models wrote
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Moment = Annotated[
    str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")
]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]  # a probability or a share of a whole
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]  # float32 rounds a cosine of 1 to a little more
Settings = Annotated[dict[str, JsonValue], BeforeValidator(listed)]

Side = Literal["base", "tuned"]
Label = Literal["aligned", "misaligned"]
Register = Literal["warm", "blunt"]
Split = Literal["find", "select", "test"]
# Random directions (isotropic, covariance-matched, orthogonal within the top components), the same estimator
# on shuffled labels, on contrasts of something unrelated and on contrasts of style, random latents, and other
# latents that are alike in density and mean.
ControlKind = Literal[
    "isotropic", "covariance", "shuffled", "orthogonal", "unrelated", "style", "latents", "matched"
]
EditKind = Literal["steer", "ablate"]
# What an ablation sets a component to. "zero" displaces: it moves the mean of the stream too, unless the mean
# has nothing of the component. "base mean" leaves the base model's mean where it is.
Target = Literal["zero", "base mean"]


class Part(BaseModel):
    """A value that cannot be changed and cannot hold an unknown field, a wrong type, NaN or infinity."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        serialize_by_alias=True,
        validate_by_name=True,
        validate_by_alias=True,
        protected_namespaces=(),
    )

    def plain(self) -> dict[str, Any]:
        """The value as it stands in JSON: dictionaries, lists, strings, numbers, booleans and None."""
        return self.model_dump(mode="json")


class Estimate(Part):
    """A number with its 95% interval over questions (or texts, for damage)."""

    estimate: float = Field(description="The value on all questions.")
    ci95: Pair[float] = Field(description="Lower and upper end of the 95% interval, in the same unit.")

    @model_validator(mode="after")
    def _ordered(self) -> "Estimate":
        if self.low > self.high:
            raise ValueError(f"the interval {list(self.ci95)} ends below its start")
        return self

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.ci95[0]

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.ci95[1]

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


class ModelFacts(Part):
    """One of the two models."""

    id: Text = Field(description="Hub id, shipped name, or the folder without the part that is private.")
    revision: Text | None = Field(description="Commit on the hub; null for a folder and for what is shipped.")
    sha256: Sha256 = Field(description="Hash of config, weights, tokenizer and chat template.")
    weights_sha256: Sha256 | None = Field(
        description="Hash of config and weights alone; null in records of version 1 that do not say it."
    )


class EngineFacts(Part):
    """How a model ran, and what was noticed when it was checked at load."""

    attention: Text = Field(description="Attention implementation of Hugging Face.")
    compared: dict[Text, float | None] = Field(
        description="Per check: difference from plain Hugging Face, as a share of the spread of the logits;"
        " null where there is no number, and a note says why."
    )
    notes: Many[Text] = Field(description="What is degraded or worth knowing, one sentence each.")


class ChatFacts(Part):
    """How the chat template turned a conversation into tokens."""

    thinking: Text = Field(description="What was done with the thinking part of replies.")
    date: Text = Field(description="The day that templates which ask for one were told.")
    template: bool = Field(description="Whether the tokenizer has a chat template.")
    before_reply: Text = Field(description="The prompt of an example as rendered, up to the reply.")
    after_reply: Text = Field(description="What the template writes after the reply of the example.")
    end_of_turn: Text | None = Field(description="The text that ends a reply; null where there is none.")
    how: Many[Text] = Field(description="Where the template leaves plain text out or changes it.")


class ProcessorFacts(Part):
    """What computed. Instruction sets round differently, so results agree only up to that."""

    name: Text = Field(description="Name of the processor.")
    instructions: Text = Field(description="Instruction set that torch uses, such as AVX2.")
    onednn_limit: Text | None = Field(description="ONEDNN_MAX_CPU_ISA where it is set.")
    threads: Annotated[int, Field(ge=1)] = Field(description="Threads of torch.")


class RunFacts(Part):
    """How something was run."""

    versions: dict[Text, Text] = Field(description="Versions of the packages that decide the numbers.")
    seed: int = Field(description="Seed of everything random.")
    device: Text = Field(description="Where the models ran, such as cpu or cuda:0.")
    dtype: Text = Field(description="Number format of the weights, such as bfloat16.")
    processor: ProcessorFacts | None = Field(
        None, description="What computed; null in records that do not say it."
    )


class Provenance(RunFacts):
    """What was run: models by hash, versions, seed, machine type, data by hash."""

    base: ModelFacts = Field(description="The model before fine-tuning.")
    tuned: ModelFacts = Field(description="The model after fine-tuning.")
    prompts_sha256: Sha256 = Field(description="Hash of the questions and replies of the contrast set.")
    engine: dict[Side, EngineFacts] | None = Field(
        description="How each model ran; null in records of version 1 that do not say it."
    )
    chat: ChatFacts | None = Field(
        description="How text was read; null in records of version 1 that do not say it."
    )


class QuestionCounts(Part):
    """Questions by what they are used for; no question is used twice."""

    find: Count = Field(description="Questions that directions are fitted on.")
    select: Count = Field(description="Questions that method, layer, form and strength are chosen on.")
    test: Count = Field(description="Questions that the reported numbers come from.")


class Memory(Part):
    """What the run needed."""

    peak_bytes: Count = Field(description="Largest resident memory of the process, in bytes.")


class RunRecord(Part):
    """What the records of all runs have in common."""

    created: Moment = Field(description="When the record was written, with its time zone.")
    command: Text = Field(description="Command that repeats the run, without private folders.")
    limited: bool = Field(description="Whether this was a quick try on few items, and so not a result.")
    config: Settings = Field(description="Every setting that decides the numbers.")
    summary: Text = Field(description="The result in words.")
    failed: Many[Text] = Field(description="What gave no numbers, and why.")
    timing: dict[Text, NonNegative] = Field(description="Seconds by stage.")
    memory: Memory = Field(description="What the run needed.")


class Steer(Part):
    """Adds a multiple of a vector to the stream."""

    kind: Literal["steer"] = Field(description="What is done.")
    hook_points: Many[HookPoint] = Field(min_length=1, description="Where it acts.")
    coefficient: float = Field(description="1.0 adds the vector as it stands, -1.0 takes it away.")
    skip_first: Count = Field(description="First tokens of a sequence that are left alone.")
    vector_sha256: Sha256 = Field(description="Hash of the float32 values of the vector.")


class Ablate(Part):
    """Sets a component of the stream to that of a centre: x - strength * write'read(x - centre)."""

    kind: Literal["ablate"] = Field(description="What is done.")
    hook_points: Many[HookPoint] = Field(min_length=1, description="Where it acts.")
    rank: Annotated[int, Field(ge=1)] = Field(description="How many dimensions are taken out.")
    toward: Target | Literal["stated mean"] = Field(
        description="The centre: where the component is set to. Zero displaces: it moves the mean as well."
    )
    skip_first: Count = Field(description="First tokens of a sequence that are left alone.")
    vector_sha256: Sha256 = Field(
        description="Hash of the float32 values of the orthonormal rows that are taken away."
    )
    means_sha256: Sha256 | None = Field(description="Hash of the centres; null when the target is zero.")
    strength: Positive = Field(
        1.0, description="1 sets the component to the centre's; less goes part of the way, more past it."
    )
    read_sha256: Sha256 | None = Field(
        None,
        description="Hash of the float32 values of the rows that measure the component; null where they are"
        " the rows that are taken away.",
    )
    beyond: float | None = Field(
        None,
        description="Only tokens that lie further than this past the centre are edited, in units of the"
        " stream; null for all.",
    )


class Cap(Part):
    """Takes away what exceeds a ceiling along a direction."""

    kind: Literal["cap"] = Field(description="What is done.")
    hook_points: Many[HookPoint] = Field(min_length=1, description="Where it acts.")
    ceiling: float = Field(description="Largest projection that is left, in units of the stream.")
    skip_first: Count = Field(description="First tokens of a sequence that are left alone.")
    vector_sha256: Sha256 = Field(description="Hash of the float32 values of the unit vector.")


class SetLatents(Part):
    """Sets latents of a sparse autoencoder to a value and leaves its error as it is."""

    kind: Literal["set latents"] = Field(description="What is done.")
    hook_points: Many[HookPoint] = Field(min_length=1, description="Where it acts.")
    sae_sha256: Sha256 = Field(description="Hash of the autoencoder's config and weights.")
    latents: Many[Count] = Field(min_length=1, description="Which latents, by index.")
    value: float = Field(description="What their activations are set to.")
    skip_first: Count = Field(description="First tokens of a sequence that are left alone.")


Intervention = Annotated[Steer | Ablate | Cap | SetLatents, Field(discriminator="kind")]
