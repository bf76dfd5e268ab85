"""Record what the oracle of scenes says, as a file of answers like that of a model.

    python -m cirbench_methods.language.oracle FILE.jsonl --split tuning

It takes seconds. ``tuning`` are the scenes on which settings are chosen, and which are never reported.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cirbench.artefacts import Answer, Artefact
from cirbench.benchmarks.scenes.benchmark import SPLITS, SceneImage, make_benchmark, scenes_benchmark
from cirbench.benchmarks.scenes.oracle import SAMPLES
from cirbench.errors import UsageError
from cirbench_methods.language.answers import oracle_fields, oracle_maker
from cirbench_methods.tuning import FAMILIES, GALLERY_SIZE, TUNING

if TYPE_CHECKING:
    from cirbench.benchmarks.scenes.benchmark import Benchmark


def record(path: Path, benchmark: Benchmark, name: str, *, samples: int, noise: float) -> Artefact:
    """Write what the oracle says of all queries of a benchmark.

    Raises:
        UsageError: The file exists.
    """
    if path.exists():
        raise UsageError(f"{path} exists.", hint="Give another name, or remove it.")
    artefact = Artefact(path, oracle_maker(noise))
    artefact.add(
        Answer(
            (SceneImage(benchmark.gallery[query.reference]).content,),
            (query.blueprint.caption,),
            dict(oracle_fields(benchmark, name, number, samples, noise)),
        )
        for number, query in enumerate(benchmark.queries)
    )
    return artefact


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice([*SPLITS, TUNING]), default="val", show_default=True)
@click.option("--samples", type=click.IntRange(1), default=SAMPLES, show_default=True)
@click.option("--noise", type=click.FloatRange(0, 1), default=0.25, show_default=True)
def main(path: Path, split: str, samples: int, noise: float) -> None:
    """Record what the oracle says of the queries of a split in the file PATH."""
    if split == TUNING:
        benchmark = make_benchmark(TUNING, families=FAMILIES, gallery_size=GALLERY_SIZE)
    else:
        benchmark = scenes_benchmark(split)
    click.echo(f"{len(record(path, benchmark, split, samples=samples, noise=noise)):,} questions answered in {path}")


if __name__ == "__main__":
    main()
