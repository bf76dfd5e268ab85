"""Where a number came from: code, packages, machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
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


def code_of(implementation: str) -> str:
    """Return the sha256 of the source of ``"package.module:Class"``, so that changed code is another run."""
    module = implementation.partition(":")[0]
    if module in sys.modules:
        origin = getattr(sys.modules[module], "__file__", None)
    else:
        spec = importlib.util.find_spec(module)
        origin = spec.origin if spec is not None else None
    source = Path(origin).read_bytes() if origin is not None else module.encode()
    return hashlib.sha256(source).hexdigest()


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
