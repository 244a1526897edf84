"""Where the real data lie that some tests read in place: HALTCORE_DATA, else beside the repository. They are never copied into it."""

import os
from pathlib import Path


def data_folder() -> Path:
    """The folder that holds them; whether it is there is for the caller to see."""
    named = os.environ.get("HALTCORE_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
