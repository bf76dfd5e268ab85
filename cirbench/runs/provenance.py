"""Where a number came from: code, packages, machine."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import cirbench
from cirbench.support.extras import MODELS, versions
from cirbench.runs.schema import Environment


def environment(device: str, command: str | None) -> Environment:
    """Describe the code, the packages and the machine."""
    return Environment(
        cirbench=code_version(),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=device,
        packages=versions((*MODELS, "torchvision", "scipy")),
        command=command,
    )


def code_version() -> str:
    """Return the version, and from a checkout the commit and whether the tree differs from it."""
    root = Path(cirbench.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return cirbench.__version__
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return cirbench.__version__
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "cirbench", "methods")
    return f"{cirbench.__version__}+g{commit}{'+changes' if changed else ''}"


def peak_memory_mb() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
