"""``cirbench run``, ``sweep``, ``train`` and ``convert``: methods evaluated, and their checkpoints made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cirbench.cli import ACTIVATION, BY, EMA, FORMAT, JSON, METRIC, WEIGHTS, WIDE
from cirbench.errors import UsageError
from cirbench.support.console import print_lines, print_path, print_table, typed
from cirbench.support.parameters import pairs, parse, read_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from cirbench.backbones.interface import Activation
    from cirbench.comparison.report import Report
    from cirbench.runs.folder import Run
    from cirbench.runs.session import Session
    from cirbench.runs.training import TrainConfig


def _batch_size(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    if text is None or text == "auto":
        return None if text is None else 0
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--batch-size takes auto or a positive number, not {text!r}.")
    return int(text)


def _given(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...] | None:
    """Values that were typed; ``None`` for none, so that a file may say otherwise."""
    return values or None


_WHERE = (
    click.option("-d", "--dataset", help="Data set: a name, or a folder with your own."),
    click.option("--split", help="Split of the data set.  [default: that of the data set]"),
    click.option("--protocol", help="Protocol id.  [default: that of the split]"),
    click.option("-b", "--backbone", help="Backbone: a name, MODEL/TAG or a model folder; none for methods without."),
    click.option(
        "--baselines",
        multiple=True,
        callback=_given,
        metavar="none|RUN",
        help="Run on the same backbone to compare with, or a pattern of several; again for further ones; none for no "
        "baselines.  [default: run the untrained ones]",
    ),
    WEIGHTS,
    EMA,
    ACTIVATION,
    click.option("--preprocessing", help="Preprocessing of images: clip, targetpad(1.25) or squash."),
    click.option(
        "--train-data",
        help="Training data for methods that are trained first: a name such as coco:train2017, or as for "
        "`cirbench train --data`.  [default: scenes, on scenes]",
    ),
    click.option("--device", help="Device: auto, cpu, cuda or cuda:N."),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "bf16-autocast"]),
        help="Precision of the towers; auto: bf16-autocast on a GPU that has bf16, or else fp32.  [default: fp32]",
    ),
    click.option(
        "--batch-size", metavar="auto|N", callback=_batch_size, help="Number of images or texts encoded at once."
    ),
    click.option(
        "--limit", type=click.IntRange(min=1), help="Evaluate the first N queries only; the result is marked partial."
    ),
    click.option(
        "--allow-overlap",
        is_flag=True,
        default=None,
        help="Go on where triplets to train on show images of the protocol; the table says so.",
    ),
    click.option(
        "--allow-missing",
        is_flag=True,
        default=None,
        help="Go on without missing images; queries that lose one count as misses, and the result is marked partial.",
    ),
    click.option("--seed", type=int, help="Random seed for training and bootstrap."),
    click.option("--seeds", metavar="N,N,...", help="Several seeds: a run for each, shown as their mean."),
    click.option("-o", "--output", help="Folder to write run folders to.  [default: runs]"),
    click.option("--data-root", help="Folder of the annotations.  [default: CIRBENCH_DATA]"),
    click.option("--force", is_flag=True, help="Run again even if the same run exists."),
)


def _run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options that say on what to run, and where."""
    for option in reversed(_WHERE):
        command = option(command)
    return command


@click.command()
@click.option(
    "-m", "--method", help="One or more methods, separated by commas; also package.module:Class or file.py:Class."
)
@_run_options
@click.option("--checkpoint", help="The checkpoint folder of a trained method.")
@click.option("--set", "parameters", multiple=True, metavar="KEY=VALUE", help="Set a parameter of the method.")
@click.option("--train", "training", multiple=True, metavar="KEY=VALUE", help="Set a parameter of its training.")
@click.option("--rerank", metavar="NAME", help="Re-ranker of what the methods, or the runs of --first-stage, found.")
@click.option(
    "--first-stage",
    multiple=True,
    callback=_given,
    metavar="RUN",
    help="Finished run to re-rank, or a pattern of several; again for further ones; in place of --method.",
)
@click.option(
    "--rerank-top", metavar="K,K,...", help="Items of each query that are re-ranked; a run each.  [default: 50]"
)
@click.option("--rerank-set", "reranking", multiple=True, metavar="KEY=VALUE", help="Set a parameter of the re-ranker.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Read options from a TOML file; options given here win."
)
@METRIC
@BY
@click.option("--plan", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--verify", is_flag=True, help="Recognise finished runs by the content of every file, not by its size and time."
)
@JSON
@WIDE
def run_command(
    config: Path | None,
    parameters: tuple[str, ...],
    training: tuple[str, ...],
    reranking: tuple[str, ...],
    metric: tuple[str, ...],
    by: str | None,
    plan: bool,
    force: bool,
    verify: bool,
    as_json: bool,
    wide: bool,
    **options: Any,
) -> None:
    """Evaluate methods on a benchmark, beside the untrained baselines on the same backbone.

    \b
    cirbench run --method pli --dataset scenes
    cirbench run --method image-text --dataset scenes --split tiny --set weight=0.5
    cirbench run --method image-only,image-text --dataset circo --backbone ViT-B-32/openai --plan
    cirbench run --method pli --dataset circo --train-data coco:train2017
    cirbench run --rerank judge --first-stage runs/circo/pli-1a2b3c4d --rerank-top 10,50 --plan
    """
    from cirbench.runs.config import read_config

    options |= {"set": pairs(parameters), "train": pairs(training), "rerank_set": pairs(reranking)}
    settings = read_config(config, options)

    from cirbench.comparison.report import Report
    from cirbench.runs.additional import additional_table, keep_additional, read_measures, sliced
    from cirbench.runs.session import Session

    asked = read_measures(metric)

    session = Session(settings)
    if plan:
        print_lines(session.plan())
        return
    if (asked or by) and not session.resolved.entry.labelled:
        option, id = "metric" if asked else "by", session.resolved.entry.id
        raise UsageError(f"--{option} needs ground truths, and a test server keeps those of {id}.")
    if by is not None:
        asked = sliced(asked, by, session.ground.protocol)
    runs = session.run(force=force, verify=verify)
    if asked:
        runs = tuple(keep_additional(run, asked, session.ground.protocol) for run in runs)
    report = Report(runs, session.resolved.asked)
    if as_json:
        click.echo(report.as_json())
    else:
        report.print(wide=wide)
        if asked:
            print_table(additional_table([(_row_name(run), run.result.additional) for run in runs], asked), wide=wide)
    from cirbench.submissions.form import takes_files

    if takes_files(session.resolved.entry):
        _submit(report, session)


def _row_name(run: Run) -> str:
    from cirbench.comparison.tables import shown_name

    trained = run.result.method.training is not None or "seed" in run.result.method.parameters
    name = f"{run.result.method.name}, seed {run.result.seed}" if trained else run.result.method.name
    return shown_name(name, run)


def _submit(report: Report, session: Session) -> None:
    """Write what the test server takes, and say on stderr where it goes."""
    from cirbench.submissions.uploads import build_submission, upload_hint
    from cirbench.support.console import say

    for run in report.runs:
        if run.result.counts.partial:
            say(f"{run.folder} is partial, so no files were written for the test server.")
            continue
        for path in build_submission(run, Path("submissions"), protocol=session.ground.protocol):
            say(f"to submit: {typed(path)}")
    say(upload_hint(session.resolved.entry.dataset))


@click.command()
@click.argument("method")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=V1,V2,...",
    help="Parameter of the method or of its training (train.KEY where both have it), and its values.",
)
@_run_options
@click.option("--metric", help="Metric to look at.  [default: the headline]")
@FORMAT
@WIDE
def sweep_command(
    method: str, assignments: tuple[str, ...], metric: str | None, form: str, wide: bool, force: bool, **options: Any
) -> None:
    """Run METHOD once for each value, or each combination of values, and compare the runs.

    It is trained again where a parameter of its training is swept. The table is printed; it is also kept as JSON, with
    a plot, under sweeps/ beside the runs. What is finished is not run again, so a killed sweep continues.

    \b
    cirbench sweep image-text --set weight=0.25,0.5,1,2 --dataset scenes
    cirbench sweep pli --set mask_ratio=0.25,0.5,0.75 --dataset scenes
    """
    from cirbench.comparison.tables import sweep_plot, sweep_table
    from cirbench.runs.config import read_config
    from cirbench.runs.session import run_sweep
    from cirbench.support.console import print_table, say
    from cirbench.support.files import digest, write_text
    from cirbench.support.tables.formats import render
    from cirbench.support.tables.svg import to_svg

    config = read_config(None, {"method": [method], **options})
    sweep = run_sweep(config, pairs(assignments), label=metric, force=force)
    table = sweep_table(sweep)
    name = digest([sweep.label, *(run.result.digest for run in sweep.runs)])
    first = sweep.runs[0]
    folder = first.folder.parent.parent / "sweeps" / f"{first.result.method.name}-{name[:8]}"
    write_text(folder / "table.json", render(table, "json"))
    write_text(folder / "plot.svg", to_svg(sweep_plot(sweep)))
    print_table(table, form, wide=wide)
    say(f"table and plot: {folder}")


@click.command()
@click.argument("method")
@click.option("--model", help="Model to train with clip: a folder with open_clip_config.json (and merges.txt.gz).")
@click.option("-b", "--backbone", help="Backbone: a name, MODEL/TAG or a model folder.")
@WEIGHTS
@EMA
@ACTIVATION
@click.option(
    "--data",
    help="Training data: a name (`cirbench list sources`), a table, a list, a folder, or 'shards-{00..99}.tar'.",
)
@click.option(
    "--captions", help="Captions of a folder of images: a folder of .txt, or a .csv, .jsonl or COCO's .json file."
)
@click.option("--data-root", help="Folder of the data sets, for data by name.  [default: CIRBENCH_DATA]")
@click.option("--skip-broken", type=click.IntRange(min=0), metavar="N", help="Leave out and count N unusable samples.")
@click.option(
    "--allow-overlap",
    is_flag=True,
    default=None,
    help="Go on where triplets show images of a protocol that is evaluated; the card says so.",
)
@click.option("--workers", type=click.IntRange(min=0), help="Number of processes that decode.  [default: 0 on a CPU]")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set a training parameter.")
@click.option("--config", type=click.Path(path_type=Path), help="Read options from a TOML file; those given here win.")
@click.option("--device", help="Device: auto, cpu, cuda or cuda:N.")
@click.option("--seed", type=int, help="Random seed of the training.")
@click.option("-o", "--output", help="Folder to write the checkpoint to.  [default: one in the cache]")
@click.option("--evaluate", metavar="PROTOCOL,...", help="Evaluate on protocols while training: --evaluate scenes/tiny")
@click.option(
    "--eval-every", type=click.IntRange(min=1), help="Steps between evaluations.  [default: at the end of each epoch]"
)
@click.option("--monitor", metavar="PROTOCOL", help="Keep the checkpoint that is best on a protocol, not the last.")
@click.option("--keep-epochs", is_flag=True, default=None, help="Keep a checkpoint of each epoch, in epoch-K/.")
@click.option("--log", metavar="TRACKER,...", help="Send every step to tensorboard, wandb or trackio.")
@click.option(
    "--resume/--restart", default=True, show_default=True, help="Continue an interrupted training, or start over."
)
def train_command(
    method: str, assignments: tuple[str, ...], config: Path | None, resume: bool, **given: str | int | None
) -> None:
    """Train METHOD on images, texts, pairs or triplets; `clip` pre-trains a model by the plain contrastive loss.

    The folder of the checkpoint is printed on stdout. A training that is finished already is not repeated.

    \b
    cirbench train pli --backbone ViT-B-32/openai --data pairs.csv --output checkpoints/pli
    cirbench train pli --backbone ViT-B-32/openai --data images/ --captions captions/ --skip-broken 10
    cirbench train pli --backbone scenes-vit --data scenes --set mask_ratio=0.5
    cirbench train combiner --backbone ViT-B-32/openai --data fashioniq:train --set held_out=0.1 --monitor held-out
    cirbench train clip --model my-model/ --data scenes --output my-model/
    torchrun --nproc-per-node 4 -m cirbench train pli --backbone ViT-L-14/openai --data pairs.csv
    """
    from cirbench.runs.training import execute

    print_path(execute(_configuration(method, config, {**given, "set": pairs(assignments)}), restart=not resume))


def _configuration(method: str, file: Path | None, given: dict[str, Any]) -> TrainConfig:
    """Combine a TOML file with the options, which win."""
    from cirbench.runs.training import TrainConfig

    values = read_options(file, given, fields=TrainConfig.__struct_fields__, sections=("set",))
    return parse(TrainConfig, {**values, "method": method}, owner="cirbench train")


@click.command()
@click.argument("method")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-b", "--backbone", required=True, help="Backbone its authors trained on: a name, MODEL/TAG or a model folder."
)
@click.option("--weights", type=click.Path(path_type=Path), help="A local file with the backbone's weights.")
@ACTIVATION
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="State a training parameter that the file does not hold.",
)
@click.option("--ema", is_flag=True, help="Take the averaged weights (EMA) that FILE holds.")
@click.option("--selected-on", metavar="PROTOCOL", help="Protocol on which its authors chose the weights.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder to write to.  [default: one in the cache]"
)
def convert_command(
    method: str,
    file: Path,
    backbone: str,
    weights: Path | None,
    activation: Activation | None,
    assignments: tuple[str, ...],
    ema: bool,
    selected_on: str | None,
    output: Path | None,
) -> None:
    """Make a checkpoint of METHOD from FILE, as its authors published it.

    Pickles are read as tensors or refused. The folder of the checkpoint is printed on stdout; give it to `cirbench run
    --checkpoint`. A file that is converted already is not converted again.

    \b
    cirbench convert searle SEARLE_ViT-L14.pt --backbone ViT-L-14/openai
    cirbench convert pic2word pic2word_model.pt --backbone ViT-L-14/openai
    cirbench convert pli epoch_2.pth --backbone ViT-B-32/openai --set mask_ratio=0.75
    """
    from cirbench.methods.interface import find_method
    from cirbench.methods.training import training_parameters

    spec = find_method(method)
    parameters = training_parameters(spec, "", pairs(assignments))

    from cirbench.backbones import load_backbone
    from cirbench.methods.training import convert

    model = load_backbone(backbone, weights=weights, activation=activation, device="cpu")
    print_path(convert(spec, file, model, parameters, output=output, ema=ema, selected_on=selected_on))
