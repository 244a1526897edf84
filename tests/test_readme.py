"""The README's programs run as they are written, and the commands that it names exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import Persistence, Server

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SETTINGS = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)


def test_there_are_programs() -> None:
    assert len(PROGRAMS) == 5
    assert len(SETTINGS) == 2


@pytest.mark.parametrize("program", [*PROGRAMS[:3], PROGRAMS[4]], ids=["runner", "core", "limits", "jobs"])
def test_program_runs_as_written(program: str, tmp_path: Path) -> None:
    (tmp_path / "bot.toml").write_text(SETTINGS[0], encoding="utf-8")
    run = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_program_with_a_store_runs_as_written(tmp_path: Path) -> None:
    """On a server that is fit, as its settings demand: one venue, two processes, one order."""
    (tmp_path / "shared.toml").write_text(SETTINGS[1], encoding="utf-8")
    with Server(Persistence.AOF_ALWAYS) as server:
        run = [sys.executable, "-W", "error", "-c", PROGRAMS[3]]
        environment = {**os.environ, "HALTCORE_STORE_URL": server.url()}
        venue = subprocess.Popen([*run, "venue"], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
        try:
            said = []
            for tag in ("bot0001", "bot0002"):
                done = subprocess.run([*run, tag], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
                assert done.returncode == 0, done.stderr
                said.append(done.stdout)
        finally:
            venue.kill()
            venue.wait()
        assert said[0].startswith("<order bot0001")
        assert said[1] == "guard_done\n"
        assert server.admin.keys("{haltcore:main}:*")


def test_a_second_run_continues_frozen(tmp_path: Path) -> None:
    """The README says that the same program run again continues the session, still frozen."""
    run = [sys.executable, "-c", PROGRAMS[0]]
    subprocess.run(run, cwd=tmp_path, check=True, timeout=60)
    second = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    # The proof is made anew after a restart, so the gate may still say that it is being swept.
    assert "OrderDenied: frozen: " in second.stderr or "OrderDenied: sweeping: frozen" in second.stderr


def test_and_is_unfrozen_as_the_readme_says(tmp_path: Path) -> None:
    first = [sys.executable, "-c", PROGRAMS[0]]
    subprocess.run(first, cwd=tmp_path, check=True, timeout=60)
    words = 'await bot.proof()\n        await bot.unfreeze(by="ops", why="venue is well again")\n        '
    assert "await bot.proof()" in README
    again = PROGRAMS[0].replace("order = await", words + "order = await")
    done = subprocess.run([sys.executable, "-c", again], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_setup_commands_are_named() -> None:
    assert "pip install . && haltcore demo" in README
    assert 'pip install ".[test]" && pytest' in README


def test_the_sigterm_that_the_readme_describes_ends_without_a_traceback(tmp_path: Path) -> None:
    assert "loop.add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)" in README
    assert "with contextlib.suppress(asyncio.CancelledError):" in README
    program = """
import asyncio, contextlib, os, signal
from haltcore.adapters import PaperVenue, Runner, new_session
from haltcore.fsm import Config

async def main():
    loop = asyncio.get_running_loop()
    with contextlib.suppress(asyncio.CancelledError):
        loop.add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
        config = Config(session=new_session(), symbols=("BTCUSDT",))
        async with Runner(config, venue=PaperVenue(["BTCUSDT"], seed=7), journal="a.jsonl") as bot:
            await bot.submit("BTCUSDT", "buy", "0.01", price="50000")
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)
    print("proven", bot.proven())

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (0, "proven True\n", False), done.stderr
