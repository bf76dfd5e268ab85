"""Follow a page of `docs/guides` as its reader would: type its commands, save its files, run its Python."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


@dataclass(frozen=True)
class Followed:
    """What a reader has after the last line of a page."""

    folder: Path
    outputs: tuple[str, ...]  # stdout and stderr of each block that was run

    @property
    def text(self) -> str:
        return "\n".join(self.outputs)


def follow(name: str, folder: Path, **environment: str) -> Followed:
    """Run every block of a page in `folder`, in order, and fail with the output of the first block that fails.

    A block of `bash` is typed into a shell and a block of `python` is run. A block of any language whose fence says
    `title="NAME"` is saved as the file NAME instead. Other blocks (`text`, `console`, LaTeX) are for reading only.

    Args:
        name: The page, without `.md`.
        folder: An empty folder, the working directory of every block.
        environment: Variables to set beside those of the tests.
    """
    variables = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    outputs = []
    for token in MarkdownIt("commonmark").parse((GUIDES / f"{name}.md").read_text()):
        if token.type != "fence":
            continue
        language, _, options = token.info.strip().partition(" ")
        title = options.removeprefix('title="').removesuffix('"') if options.startswith('title="') else None
        if title:
            path = folder / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(token.content)
        elif language in ("bash", "python"):
            command = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
            done = subprocess.run(
                [*command, token.content],
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            outputs.append(done.stdout + done.stderr)
            assert not done.returncode, f"docs/guides/{name}.md:\n{token.content}\n{outputs[-1]}"
    assert outputs, f"docs/guides/{name}.md has nothing to run"
    return Followed(folder, tuple(outputs))
