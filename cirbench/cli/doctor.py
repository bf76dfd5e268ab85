"""``cirbench doctor``: what is installed, what works and what does not."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from pathlib import Path

import click

_PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "scipy", "pillow", "safetensors", "rich", "msgspec")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Say what is installed, what works and what does not."""
    facts = {**_versions(), **_device(), **_places(), **_plugins()}
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {value}")


def _versions() -> dict[str, str]:
    from cirbench.runs.record import code_version

    facts = {"cirbench": code_version(), "python": f"{platform.python_version()} on {platform.platform(terse=True)}"}
    for name in _PACKAGES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = f"not installed: pip install {name}"
    return facts


def _device() -> dict[str, str]:
    try:
        import torch
    except ImportError as error:
        return {"device": f"torch cannot be imported: {error}"}
    if not torch.cuda.is_available():
        return {"device": f"cpu, {os.cpu_count()} cores, {torch.get_num_threads()} threads; no CUDA device"}
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {"device": f"cuda: {', '.join(names)}"}


def _places() -> dict[str, str]:
    from cirbench.backbones.features.store import cache_root

    cache = cache_root()
    size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) if cache.is_dir() else 0
    root = os.environ.get("CIRBENCH_DATA")
    data = "CIRBENCH_DATA is not set" if root is None else root + ("" if Path(root).is_dir() else " (is not a folder)")
    existing = next(place for place in (cache, *cache.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    return {"cache": f"{cache}, {size / 1e6:,.0f} MB used, {free / 1e9:,.0f} GB free", "data root": data}


def _plugins() -> dict[str, str]:
    from cirbench.methods.registry import load_methods

    found, broken = load_methods()
    facts = {"methods": ", ".join(found) or "none: is cirbench installed? pip install -e ."}
    return facts | {f"method {name}": f"broken: {error.message}" for name, error in broken.items()}
