# A copy of this notebook elsewhere, such as Colab's, fetches the book first.
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

BOOK = "https://github.com/mnv3lib/mobilenetv3-book"


class Stop(Exception):
    def _render_traceback_(self):
        return [f"{self} Run the notebook in a clone of the book instead."]


def run(sorry, *command):
    os.environ["GIT_TERMINAL_PROMPT"] = "0"
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise Stop(f"The book could not be {sorry} from {BOOK}.") from None


if not importlib.util.find_spec("figures"):
    places = [*Path.cwd().parents, Path(BOOK).name / Path("book")]
    if not any((place / "figures").is_dir() for place in places):
        run("fetched", "git", "clone", "-q", "--depth=1", BOOK)
    os.chdir(next(p for p in places if (p / "figures").is_dir()))
if not importlib.util.find_spec("mnv3lib"):
    run("installed", sys.executable, "-m", "pip", "install", "..[book]")
