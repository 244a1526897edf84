"""A server whose wall clock can be stepped, by a small library that is compiled here and preloaded into it."""

import subprocess
from pathlib import Path


class SteppedClock:
    """``environment`` is for the server's process; ``step(seconds)`` sets how far its wall clock is ahead of the true one."""

    def __init__(self, folder: Path) -> None:
        library = folder / "clock_step.so"
        source = Path(__file__).with_name("clock_step.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
        self._file = folder / "clock_step"
        self.step(0)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_STEP_FILE": str(self._file)}

    def step(self, seconds: int) -> None:
        """From now on."""
        self._file.write_text(str(seconds))
