"""How often planted worlds, whose right verdict is known, get it."""

from typing import Annotated, Literal

from pydantic import Field

from persona_probe.records.parts import Count, Many, Moment, NonNegative, Part, Text
from persona_probe.records.verdicts import Verdict


class KindEntry(Part):
    """One kind of planted world."""

    kind: Text = Field(description="What is planted.")
    right: Many[Verdict] = Field(min_length=1, description="The verdicts that are right.")
    n: Annotated[int, Field(ge=1)] = Field(description="Worlds.")
    n_right: Count = Field(description="Worlds with a right verdict, for the right reason.")
    verdicts: dict[Verdict, Count] = Field(description="Worlds by verdict, the commonest first.")

    @property
    def n_restored(self) -> int:
        """Worlds called restored."""
        return self.verdicts.get("restored", 0)


class CalibrationRecord(Part):
    """What `calibrate` found: the verdicts of many planted worlds by kind."""

    version: Literal[1] = Field(default=1, alias="schema", description="Version of this contract.")
    kind: Literal["calibration"] = Field("calibration", description="Which contract.")
    created: Moment = Field(description="When the record was written, with its time zone.")
    command: Text = Field(description="Command that repeats the run.")
    versions: dict[Text, Text] = Field(description="Versions of the packages that decide the numbers.")
    seed: Count = Field(description="Seed of the worlds.")
    n_questions: Annotated[int, Field(ge=2)] = Field(
        description="Questions to select on, and as many to test on."
    )
    kinds: Many[KindEntry] = Field(min_length=1, description="Every kind of world.")
    timing: dict[Text, NonNegative] = Field(description="Seconds by stage.")
