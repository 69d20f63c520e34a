"""What a release is asked: `python tests/release.py README.md`, where the wheel alone is installed.

The README's examples run, the command line trains on a table, and nothing of it comes from the
source tree. `./run release` builds, makes the environment, and goes on with the sdist's tests.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

FRUIT = ("red,{},apple", "yellow,{},banana", "green,{},apple")
TABLE = ["colour,size,kind", *(line.format(i / 9) for i in range(30) for line in FRUIT)]


def main(readme: Path) -> None:
    """Runs what a newcomer would run, in an empty folder."""
    blocks = re.findall(r"^```python\n(.*?)^```", readme.read_text(), re.DOTALL | re.MULTILINE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "readme.py").write_text("\n".join(blocks))
        (folder / "fruit.csv").write_text("\n".join(TABLE))
        (folder / "fruit.toml").write_text('[data]\npath = "fruit.csv"\nlabel = "kind"\n')
        for command in (
            ["readme.py"],
            ["-m", "jaxsoftmax", "--version"],
            ["-m", "jaxsoftmax", "train", "fruit.toml", "--out", "run"],
            ["-m", "jaxsoftmax", "predict", "run", "--input", "fruit.csv", "--output", "said.csv"],
        ):
            print("release: python", *command, flush=True)
            subprocess.run([sys.executable, *command], cwd=folder, check=True)
        assert len((folder / "said.csv").read_text().splitlines()) == len(TABLE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
