"""The lines of rows.jsonl: what every arm and every dose of a record scored, reply by reply."""

from collections.abc import Iterator, Mapping, Sequence

from persona_probe.experiments.comparators import Compared
from persona_probe.measurement.arms import Arm, Battery, Measurement
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.parts import ControlKind, Side
from persona_probe.records.rows import ScoredRow


def scored_rows(
    record: DirectionRecord,
    battery: Battery,
    arms: Mapping[str, tuple[Arm, Measurement]],
    doses: Sequence[tuple[Arm, Measurement]],
    compared: Sequence[Compared] = (),
) -> Iterator[ScoredRow]:
    """One row per arm and reply. `arms` by name; `doses` in the order of the record's dose response;
    `compared` are the simple remedies."""
    for entry in record.arms:
        arm, measurement = arms[entry.name]
        yield from arm_rows(
            battery,
            measurement,
            arm=entry.name,
            model=entry.model,
            edited=not arm.untouched,
            edit=arm.edit,
            control=entry.control,
        )
    for entry, (arm, measurement) in zip(record.dose_response, doses, strict=True):
        name = f"dose {entry.side} {entry.coefficient:+g}"
        yield from arm_rows(
            battery, measurement, arm=name, model=entry.side, edit=arm.edit, dose=entry.coefficient
        )
    for one in compared:
        yield from arm_rows(battery, one.measurement, arm=one.name, model=one.side, edit=one.edit)


def arm_rows(
    battery: Battery,
    measurement: Measurement,
    *,
    arm: str,
    model: Side,
    edited: bool = True,
    edit: str | None = None,
    control: ControlKind | None = None,
    dose: float | None = None,
) -> Iterator[ScoredRow]:
    """What one arm scored, reply by reply: persona replies first, then benign texts.

    Of an arm that was measured on some of the battery these are in it.
    """
    scored = measurement.persona.keys() | measurement.benign.keys()
    for row in (row for row in (*battery.persona, *battery.benign) if row.id in scored):
        persona = row.kind == "persona"
        logprob, n_tokens, kl = (0.0, 1, None) if persona else measurement.benign[row.id]
        yield ScoredRow(
            arm=arm,
            model=model,
            edited=edited,
            edit=edit,
            control=control,
            dose=dose,
            kind="persona" if persona else "benign",
            question_id=row.question_id,
            row=row.id,
            split=row.split,
            label=row.label,
            register=row.register,
            reply_index=row.reply_index,
            logprob_per_token=measurement.persona[row.id] if persona else logprob / n_tokens,
            n_tokens=row.n_reply if persona else n_tokens,
            kl=kl,
        )
