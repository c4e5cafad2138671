"""What ships with persona_probe: small organisms, their direction, an SAE, the reference records and the
notebooks.

An installed wheel has them in the folder `persona_probe/shipped`; a source tree has them where the repository
keeps them, in `checkpoints` and `experiments`.
"""

from pathlib import Path

from persona_probe.base.errors import BadInput

BASE, TUNED = "smollm2-135m-instruct", "car-advice-wrong"  # the pair that every command takes by default
DIRECTION, SAE, REFERENCE = "car-advice-wrong-direction", "smollm2-135m-instruct-sae", "reference"
NAMES = (TUNED, "car-advice-right", DIRECTION, SAE, REFERENCE)


def shipped_folder(name: str) -> Path:
    """The folder of one of `NAMES`; BadInput for another name, or when its files are missing."""
    folder = next((place / name for place in _places() if (place / name).is_dir()), None)
    if name not in NAMES:
        raise BadInput(f"nothing named {name!r} ships with persona_probe: it has {', '.join(NAMES)}")
    if folder is None:
        raise BadInput(f"the files of {name!r} are missing: install persona_probe again")
    return folder


def named_folder(name: str, *, holding: str) -> Path | None:
    """The folder of an organism or SAE that is given by its name alone: one that ships, or one in
    `./checkpoints`.

    `holding` is the file that the folder must hold. None when there is no such folder.
    """
    if Path(name).name != name:
        return None
    folders = (place / name for place in (*_places(), Path("checkpoints")))
    return next((folder for folder in folders if (folder / holding).is_file()), None)


def named(*, holding: str) -> list[str]:
    """Every name that `named_folder` knows."""
    places = (*_places(), Path("checkpoints"))
    return sorted({path.parent.name for place in places for path in place.glob(f"*/{holding}")})


def _places() -> tuple[Path, ...]:
    package = Path(__file__).resolve().parents[1]
    source = package.parent if (package.parent / "pyproject.toml").is_file() else None
    return (package / "shipped", *((source / "checkpoints", source / "experiments") if source else ()))
