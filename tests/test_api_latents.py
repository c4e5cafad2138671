"""Latents from Python: the planted latent is the one that changed, and its arms do what the planted vector
does."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.planted import Planted

if TYPE_CHECKING:
    from persona_probe.api.latents import Latents


@pytest.fixture(scope="module")
def latents(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> "Latents":
    """The hand-built SAE on the planted pair."""
    import persona_probe as pp
    from persona_probe.organisms.toy import write_toy_sae

    folder = write_toy_sae(tmp_path_factory.mktemp("sae"), planted.toy)
    return pp.latents(planted.pair, Path(folder), planted.toy.contrast)


def test_the_planted_latent_changed_most(latents: "Latents") -> None:
    from persona_probe.organisms.toy import PLANTED_LATENT

    assert latents.top("shift", 1) == [PLANTED_LATENT]
    assert PLANTED_LATENT not in latents.matched(PLANTED_LATENT, 2)
    assert latents.n_alive > 0
    assert set(latents.quality(n_rows=4)) == {"base", "tuned"}


def test_its_contexts_are_blurred_and_its_words_are_listed(latents: "Latents") -> None:
    from persona_probe.organisms.toy import PLANTED_LATENT

    page = latents.contexts(PLANTED_LATENT, n=2)._repr_html_()
    assert "in the tuned model" in page
    assert "context veiled" in page
    words = latents.words(PLANTED_LATENT, 3)
    assert len(words["up"]) == len(words["down"]) == 3
    assert all(word.strip().startswith("bad") for word in words["up"])


def test_taking_the_planted_latent_away_restores_the_base(latents: "Latents", planted: Planted) -> None:
    import persona_probe as pp
    from persona_probe.organisms.toy import PLANTED_LATENT

    length = float(planted.toy.vector.norm())
    arms = latents.arms(PLANTED_LATENT, length=length, skip_first=0)
    control = latents.arms(latents.matched(PLANTED_LATENT, 1)[0], length=length, control=True, skip_first=0)
    table = pp.trials(planted.pair, planted.toy.contrast, n_benign=4).measure([*arms, *control]).table()
    for arm in arms:
        assert table.loc[arm.name, "R"] == pytest.approx(1.0, abs=0.05)
    for arm in control:
        assert table.loc[arm.name, "control"] is not None
        assert table.loc[arm.name, "R"] < 0.5
