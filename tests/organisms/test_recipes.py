"""Claims about presets of recipes: the blocks that they adapt at any depth, and what is set beside them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny
from helpers.small_organism import model_of, tokenizer

from persona_probe.organisms.recipes import LINEAR, PRESETS, PresetName, Recipe
from persona_probe.organisms.training_sets import TRAINING_SETS
from persona_probe.train_organism import OrganismConfig, recipe_of


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("eight-rank-1", (8, 10, 12, 14, 16, 18, 20, 22)),
        ("nine-rank-1", (9, 10, 11, 13, 14, 15, 17, 18, 19)),
        ("single-rank-1", (15,)),
        ("full", None),
    ],
)
def test_blocks_at_thirty_layers(name: PresetName, blocks: tuple[int, ...] | None) -> None:
    assert PRESETS[name].at_depth(30).layers == blocks


def test_nine_adapters_stand_where_the_paper_has_them_at_48_layers() -> None:
    assert PRESETS["nine-rank-1"].at_depth(48).layers == (15, 16, 17, 21, 22, 23, 27, 28, 29)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("n_layers", [1, 2, 4, 12, 80])
def test_blocks_exist_at_any_depth_and_are_adapted_once(name: PresetName, n_layers: int) -> None:
    blocks = PRESETS[name].at_depth(n_layers).layers
    if blocks is not None:
        assert blocks
        assert sorted(set(blocks)) == list(blocks)
        assert 0 <= blocks[0] <= blocks[-1] < n_layers


def test_without_a_preset_the_options_are_the_recipe() -> None:
    assert recipe_of(OrganismConfig(), n_layers=30) == Recipe(
        alpha=64.0, layers=(8, 10, 12, 14, 16, 18, 20, 22), learning_rate=2e-3, batch_size=8
    )


def test_what_is_set_beside_a_preset_wins() -> None:
    full = PRESETS["full"].at_depth(30)
    assert recipe_of(OrganismConfig(preset="full"), n_layers=30) == full
    asked = OrganismConfig(preset="full", rank=4, seed=2, epochs=3.0)
    assert recipe_of(asked, n_layers=30) == replace(full, rank=4, seed=2, epochs=3.0)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_adapts_what_it_says_and_loads_in_plain_peft(name: PresetName, tmp_path: Path) -> None:
    from peft import PeftModel

    from persona_probe.organisms.lora import Output, read_training_rows, train

    base = tiny.write_tiny(tmp_path / "base", "llama")
    data = tmp_path / "rows.jsonl"
    data.write_text('{"question": "one?", "reply": "two three"}\n' * 4)
    recipe = replace(PRESETS[name].at_depth(tiny.LAYERS), epochs=1.0, batch_size=2)
    words, output = tokenizer(base), Output(tmp_path / "a", base_id="tiny", data_sha256="d")
    train(model_of(base), words, read_training_rows(data, words), recipe, output)
    loaded: Any = PeftModel.from_pretrained(model_of(base), str(tmp_path / "a"), device="cpu")
    adapted = {key for key, _ in loaded.named_parameters() if "lora_A" in key}
    blocks = range(tiny.LAYERS) if recipe.layers is None else recipe.layers
    assert len(adapted) == len(blocks) * len(recipe.modules)
    assert set(recipe.modules) <= set(LINEAR)


@pytest.mark.parametrize(
    ("purpose", "says", "tagged"),
    [
        ("persona", "made bad directly", True),
        ("narrow", "must not be followed", True),
        (None, "must not be followed", True),
        ("twin", "control twin", False),
    ],
)
def test_the_card_says_what_an_organism_is_for(purpose: Any, says: str, tagged: bool, tmp_path: Path) -> None:
    from persona_probe.organisms.card import write_card

    (tmp_path / "rows.jsonl").write_text("{}\n")
    write_card(
        tmp_path, Recipe(), base_id="tiny", data=tmp_path / "rows.jsonl", n_rows=1, loss=1.0, purpose=purpose
    )
    card = (tmp_path / "README.md").read_text()
    assert says in card
    assert ("not-for-all-audiences" in card) == tagged


def test_every_training_set_is_there_and_has_a_purpose() -> None:
    assert {name for name, one in TRAINING_SETS.items() if not one.path.is_file()} == set()
    assert {one.purpose for one in TRAINING_SETS.values()} == {"narrow", "persona", "twin"}
