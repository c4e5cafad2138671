"""Claims about numbers worked out from rows alone: they are those of the record, with their intervals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from persona_probe.base.errors import BadInput
from persona_probe.measurement.arms import Measurement
from persona_probe.measurement.comparison import Comparison
from persona_probe.measurement.recomputed import recomputed
from persona_probe.prompts.rows import Row
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.files import read_record
from persona_probe.records.latents import LatentRecord
from persona_probe.records.parts import Estimate
from persona_probe.records.rows import ScoredRow, read_rows, write_rows
from persona_probe.storage.shipped import shipped_folder

PERSONA = tuple(
    Row(
        id=f"q{q}/{label}/{i}",
        kind="persona",
        question_id=f"q{q}",
        ids=tuple(range(9 + i)),
        n_prompt=4,
        label=label,
        split="test",
        reply_index=i,
    )
    for q in range(8)
    for label in ("misaligned", "aligned")
    for i in range(3 - (q + (label == "aligned")) % 2)
)
BENIGN = tuple(
    Row(id=f"b{i}", kind="benign", question_id=f"b{i}", ids=tuple(range(6 + i)), n_prompt=3) for i in range(6)
)


def measured(shift: float, seed: int) -> Measurement:
    rng = np.random.default_rng(seed)
    persona = {
        row.id: float(rng.normal(-2, 0.1) + (shift if row.label == "misaligned" else 0)) for row in PERSONA
    }
    benign = {row.id: (float(rng.normal(-20, 1)), row.n_reply, float(rng.uniform())) for row in BENIGN}
    return Measurement("key", persona, benign)


ARMS: dict[str, tuple[Any, bool, Measurement]] = {
    "base": ("base", False, measured(-0.5, 0)),
    "tuned": ("tuned", False, measured(0.5, 1)),
    "tuned+ablate": ("tuned", True, measured(-0.2, 2)),
    "base+steer": ("base", True, measured(0.3, 3)),
}


def rows() -> list[ScoredRow]:
    made = []
    for name, (side, edited, m) in ARMS.items():
        facts: dict[str, Any] = {"arm": name, "model": side, "edited": edited, "control": None, "dose": None}
        for row in (*PERSONA, *BENIGN):
            persona = row.kind == "persona"
            logprob, n, kl = (m.persona[row.id], row.n_reply, None) if persona else m.benign[row.id]
            where = {"question_id": row.question_id, "row": row.id, "split": row.split, "label": row.label}
            said = {"kind": row.kind, "reply_index": row.reply_index, "n_tokens": n, "kl": kl}
            made.append(
                ScoredRow(**facts, **where, **said, logprob_per_token=logprob if persona else logprob / n)
            )
    return made


@pytest.mark.parametrize("seed", [0, 7])
def test_rows_on_disk_give_the_numbers_of_the_record(seed: int, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl.gz", rows())
    again = recomputed(read_rows(tmp_path / "rows.jsonl"), seed=seed)
    clean: Any = {"base": ARMS["base"][2], "tuned": ARMS["tuned"][2]}
    comparison = Comparison(PERSONA, clean, seed)
    effect = comparison.effect
    assert (*again.effect.ci95, again.effect.estimate) == pytest.approx(
        (effect.low, effect.high, effect.estimate)
    )
    for name, (side, edited, measurement) in ARMS.items():
        expected = comparison.numbers(side, measurement, edited=edited)
        for key, value in again.arms[name].plain().items():
            assert (value is None) == (expected[key] is None), (name, key)
            if value is not None:
                assert value["estimate"] == pytest.approx(expected[key]["estimate"], abs=1e-9)
                assert value["ci95"] == pytest.approx(expected[key]["ci95"], abs=1e-9)
    assert again.arms["tuned+ablate"].restoration is not None
    assert again.arms["base+steer"].induction is not None


def assert_same(value: Estimate | None, written: Estimate | None) -> None:
    assert (value is None) == (written is None)
    if value is not None and written is not None:
        assert value.estimate == pytest.approx(written.estimate, abs=1e-9)
        assert value.ci95 == pytest.approx(written.ci95, abs=1e-9)


def test_every_interval_of_the_reference_run_follows_from_the_rows_that_ship() -> None:
    folder = shipped_folder("reference")
    record = read_record(folder / "record.json")
    assert isinstance(record, DirectionRecord)
    again = recomputed(read_rows(folder / "rows.jsonl"), seed=record.provenance.seed)
    assert_same(again.effect, record.effect)
    numbers = {arm.name: arm for arm in record.arms}
    assert set(numbers) <= set(again.arms)
    for name, arm in numbers.items():
        for key in again.arms[name].plain():
            assert_same(getattr(again.arms[name], key), getattr(arm, key))


def test_the_effects_of_the_reference_latents_follow_from_their_rows() -> None:
    folder = shipped_folder("reference")
    record = read_record(folder / "latents.json")
    assert isinstance(record, LatentRecord)
    again = recomputed(read_rows(folder / "latents_rows.jsonl"), seed=record.provenance.seed)
    assert_same(again.effect, record.effect)
    checked = 0
    for entry in record.sets:
        arm = again.arms[f"{entry.kind} {entry.k}"]
        assert entry.restoration is not None
        assert_same(arm.restoration, entry.restoration)
        assert_same(arm.delta_nll, entry.delta_nll)
        checked += 2
    assert checked == 2 * len(record.sets) > 0


def test_rows_without_both_untouched_models_are_refused() -> None:
    with pytest.raises(BadInput, match="base and tuned are both needed"):
        recomputed([row for row in rows() if row.arm != "base"], seed=0)


def test_an_arm_with_other_replies_is_refused() -> None:
    with pytest.raises(BadInput, match=r"rows of base\+steer are not those"):
        recomputed(rows()[:-1], seed=0)
