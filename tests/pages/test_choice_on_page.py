"""Claims about how the page says that a direction was chosen. No model, no network."""

from typing import Any

from helpers.made_up import made_up


def shown(record: dict[str, Any]) -> str:
    """The page of a record of plain values."""
    from persona_probe.pages.report import render
    from persona_probe.records.direction import DirectionRecord

    return render(DirectionRecord.model_validate(record))


def test_damage_on_the_select_and_on_the_test_texts_is_not_confused() -> None:
    none, more = "No candidate stayed within", "On the test questions its damage is more"
    record = made_up()
    assert not {none, more} & {text for text in (none, more) if text in shown(record)}
    record["selected"]["within_budget"] = False
    assert more in shown(record)
    assert none not in shown(record)
    for candidate in record["search"]["candidates"]:
        candidate["within_budget"] = False
    assert none in shown(record)
