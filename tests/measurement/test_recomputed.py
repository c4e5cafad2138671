"""Claims about numbers worked out from rows alone: they are those of the record, with their intervals."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from persona_probe.base.errors import BadInput
from persona_probe.measurement.arms import Measurement
from persona_probe.measurement.comparison import Comparison
from persona_probe.measurement.recomputed import Recomputed, recomputed
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


SOME = tuple(row for row in PERSONA if row.reply_index < 2)


def some(measurement: Measurement) -> Measurement:
    """The same on the rows that controls are scored on."""
    persona = {row.id: measurement.persona[row.id] for row in SOME}
    return Measurement("key", persona, {row.id: measurement.benign[row.id] for row in BENIGN[:3]})


@dataclass(frozen=True)
class Made:
    """One arm, the name of its partner, and the persona rows that it was scored on."""

    side: Any
    measurement: Measurement
    edit: str | None
    partner: str | None = None
    control: Any = None
    rows: tuple[Row, ...] = PERSONA


ARMS: dict[str, Made] = {
    "base": Made("base", measured(-0.5, 0), None),
    "tuned": Made("tuned", measured(0.5, 1), None),
    "tuned+ablate": Made("tuned", measured(-0.2, 2), "0a" * 32, "base+ablate"),
    "base+ablate": Made("base", measured(-0.4, 4), "0a" * 32, "tuned+ablate"),
    "base+steer": Made("base", measured(0.3, 3), "0b" * 32),
    "random": Made("tuned", some(measured(0.4, 5)), "0c" * 32, "base+random", "covariance", SOME),
    "base+random": Made("base", some(measured(-0.6, 6)), "0c" * 32, "random", "covariance", SOME),
}


def rows() -> list[ScoredRow]:
    made = []
    for name, arm in ARMS.items():
        m = arm.measurement
        facts: dict[str, Any] = {"arm": name, "model": arm.side, "edited": arm.edit is not None}
        facts |= {"edit": arm.edit, "control": arm.control, "dose": None}
        for row in (row for row in (*PERSONA, *BENIGN) if row.id in m.persona or row.id in m.benign):
            persona = row.kind == "persona"
            logprob, n, kl = (m.persona[row.id], row.n_reply, None) if persona else m.benign[row.id]
            where = {"question_id": row.question_id, "row": row.id, "split": row.split, "label": row.label}
            said = {
                "kind": row.kind,
                "tone": row.register,
                "reply_index": row.reply_index,
                "n_tokens": n,
                "kl": kl,
            }
            made.append(
                ScoredRow(**facts, **where, **said, logprob_per_token=logprob if persona else logprob / n)
            )
    return made


@pytest.mark.parametrize("seed", [0, 7])
def test_rows_on_disk_give_the_numbers_of_the_record(seed: int, tmp_path: Path) -> None:
    """Arms with some of the rows are compared on these, and partners are found by what is done."""
    write_rows(tmp_path / "rows.jsonl.gz", rows())
    again = recomputed(read_rows(tmp_path / "rows.jsonl"), seed=seed)
    clean: Any = {side: ARMS[side].measurement for side in ("base", "tuned")}
    effect = Comparison(PERSONA, clean, seed).effect
    assert (*again.effect.ci95, again.effect.estimate) == pytest.approx(
        (effect.low, effect.high, effect.estimate)
    )
    for name, arm in ARMS.items():
        partner = ARMS[arm.partner].measurement if arm.partner else None
        comparison = Comparison(arm.rows, clean, seed, whole=PERSONA)
        expected = comparison.numbers(arm.side, arm.measurement, partner=partner, edited=arm.edit is not None)
        assert again.arms[name].plain().keys() == expected.keys()
        for key, value in again.arms[name].plain().items():
            assert (value is None) == (expected[key] is None), (name, key)
            if value is not None:
                assert value["estimate"] == pytest.approx(expected[key]["estimate"], abs=1e-9)
                assert value["ci95"] == pytest.approx(expected[key]["ci95"], abs=1e-9)
        assert (again.arms[name].closure is None) == (arm.partner is None), name
    assert again.arms["tuned+ablate"].restoration is not None
    assert again.arms["base+steer"].induction is not None


def test_closure_is_worked_out_on_the_rows_of_the_arm_alone() -> None:
    """What a control did not score plays no part in its shares, whatever stands there."""
    strange = [
        row.model_copy(
            update={"logprob_per_token": row.logprob_per_token - 3.0 * (row.label == "misaligned")}
        )
        if not row.edited and row.kind == "persona" and row.reply_index >= 2
        else row
        for row in rows()
    ]
    before, after = (recomputed(each, seed=0).arms for each in (rows(), strange))
    assert_same(after["random"].closure, before["random"].closure)
    assert_same(after["random"].restoration, before["random"].restoration)
    changed, whole = after["tuned+ablate"].persona_score, after["tuned"].persona_score
    assert changed.estimate == pytest.approx(before["tuned+ablate"].persona_score.estimate)
    assert whole.estimate < before["tuned"].persona_score.estimate - 0.1


def test_shares_of_an_arm_with_some_rows_are_of_the_shift_on_all() -> None:
    """The rows of a control need not show a shift themselves."""
    further = [
        row.model_copy(
            update={"logprob_per_token": row.logprob_per_token + 0.7 * (row.label == "misaligned")}
        )
        if row.arm == "tuned" and row.kind == "persona" and row.reply_index >= 2
        else row
        for row in rows()
    ]
    before, after = (recomputed(each, seed=0) for each in (rows(), further))
    assert after.effect.estimate > before.effect.estimate + 0.1
    for name in ("restoration", "closure"):
        shares = [getattr(one.arms["random"], name).estimate * one.effect.estimate for one in (before, after)]
        assert shares[0] == pytest.approx(shares[1], abs=1e-9)


def assert_same(value: Estimate | None, written: Estimate | None) -> None:
    assert (value is None) == (written is None)
    if value is not None and written is not None:
        assert value.estimate == pytest.approx(written.estimate, abs=1e-9)
        assert value.ci95 == pytest.approx(written.ci95, abs=1e-9)


SINCE_VERSION_3 = ("closure", "base_moved", "aligned", "misaligned")


def assert_follows(record: DirectionRecord, again: Recomputed, *, older: bool) -> None:
    """Every number of every arm of the record that has rows is that of the rows."""
    assert_same(again.effect, record.effect)
    for arm in record.arms:
        if arm.name not in again.arms:
            continue
        for key in again.arms[arm.name].plain():
            if not (older and key in SINCE_VERSION_3):
                assert_same(getattr(again.arms[arm.name], key), getattr(arm, key))


def test_every_interval_of_the_reference_run_follows_from_the_rows_that_ship() -> None:
    folder = shipped_folder("reference")
    record = read_record(folder / "record.json")
    assert isinstance(record, DirectionRecord)
    again = recomputed(read_rows(folder / "rows.jsonl"), seed=record.provenance.seed)
    assert {arm.name for arm in record.arms} <= set(again.arms)
    older = json.loads((folder / "record.json").read_text())["schema"] < 3
    assert_follows(record, again, older=older)


def test_the_intervals_of_a_run_of_version_2_still_follow_from_its_rows(tmp_path: Path) -> None:
    data = Path(__file__).parents[1] / "records" / "data"
    (tmp_path / "record.json").write_bytes(gzip.decompress((data / "record_schema_2.json.gz").read_bytes()))
    record = read_record(tmp_path / "record.json")
    assert isinstance(record, DirectionRecord)
    again = recomputed(read_rows(data / "rows_schema_2.jsonl.gz"), seed=record.provenance.seed)
    assert {"base", "tuned", "tuned+ablate", "base+ablate"} <= set(again.arms)
    assert all(arm.closure is None for arm in record.arms)
    assert_follows(record, again, older=True)


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


def test_a_reply_that_the_untouched_model_did_not_score_is_refused() -> None:
    whole = rows()
    absent = next(row for row in whole if row.arm == "base" and row.kind == "persona")
    with pytest.raises(BadInput, match=r"scored 1 replies, such as 'q0/.*', that the untouched base model"):
        recomputed([row for row in whole if row is not absent], seed=0)
