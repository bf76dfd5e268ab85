"""``cirbench answers`` and ``caption``: what models say of queries and images, recorded for methods to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from cirbench.cli import JSON
from cirbench.errors import UsageError, some
from cirbench.support.console import amount, print_lines, print_path, progress, say
from cirbench.support.parameters import pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.artefacts import Artefact, Question
    from cirbench.artefacts.answers import Key, Sample
    from cirbench.artefacts.chat import ChatModel, Endpoint
    from cirbench.backbones.interface import WeightPrecision
    from cirbench.protocol import Query

    Asker = ChatModel | Endpoint

_FILE = click.Path(path_type=Path)
_PROTOCOL = click.option("--protocol", required=True, help="Protocol whose queries are answered: circo/val")
_DATA_ROOT = click.option("--data-root", type=_FILE, help="Folder of the data sets.  [default: CIRBENCH_DATA]")
_OUTPUT = click.option("-o", "--output", type=_FILE, required=True, help="File of answers to write: answers.jsonl")
_LICENCE = click.option("--licence", default=None, help="Licence of the answers, kept with them.")


@click.group()
def answers_command() -> None:
    """Record what language models say of queries, so that methods replay it without the model.

    \b
    cirbench answers make --protocol circo/val --model gpt-4o-2024-08-06 --url https://api.openai.com/v1 \\
        --field caption --see --prompt "Describe the image." --output answers.jsonl --dry-run
    cirbench answers import test.json --form ldre --protocol circo/test --model gpt-3.5-turbo --output ldre.jsonl
    cirbench run --method cirevl --set answers=ldre.jsonl --dataset circo --split test
    """


@answers_command.command("make")
@_PROTOCOL
@_DATA_ROOT
@click.option("--model", required=True, help="Exact name under which the model answers; or one of transformers.")
@click.option("--url", help="Base of an OpenAI-compatible API: http://localhost:8000/v1")
@click.option("--field", required=True, help="Name of what is asked for: caption, edited, target, removed.")
@click.option("--prompt", required=True, help="Prompt, or @FILE with one; {0} is the relative caption.")
@click.option("--see", is_flag=True, help="Send the reference image.")
@click.option("--given", type=_FILE, help="File of answers whose captions the prompt is given as {1}.")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Answers to each query.")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Of the sampling.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Longest answer.")
@click.option("--key", help="Environment variable that holds the key.  [default: OPENAI_API_KEY]")
@click.option("--max-calls", type=click.IntRange(min=1), help="Stop before more calls than this.")
@click.option("--calls-per-minute", type=click.FloatRange(min=0, min_open=True), help="Ask no faster than this.")
@click.option("--device", help="Without --url: auto, cpu, cuda or cuda:N.  [default: auto]")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="Without --url: fp32 or bf16.  [default: fp32]")
@click.option("--limit", type=click.IntRange(min=1), help="Ask about the first N queries.")
@click.option("--dry-run", is_flag=True, help="Say how many calls and tokens it takes, and ask nothing.")
@_LICENCE
@_OUTPUT
def make_command(
    protocol: str,
    data_root: Path | None,
    model: str,
    url: str | None,
    field: str,
    prompt: str,
    see: bool,
    given: Path | None,
    samples: int,
    temperature: float,
    max_tokens: int,
    key: str | None,
    max_calls: int | None,
    calls_per_minute: float | None,
    device: str | None,
    precision: WeightPrecision | None,
    limit: int | None,
    dry_run: bool,
    licence: str | None,
    output: Path,
) -> None:
    """Ask a model about every query of a protocol, and record what it answers.

    With --url it is a model behind an API; without, a chat model of transformers, by its folder or its name on the hub,
    asked on this machine. It may be stopped at any moment and goes on where it was: nothing is asked twice. The key is
    read from the environment, and neither kept nor printed. With --given, sample N is made from caption N of that file,
    which is recorded beside it.
    """
    from cirbench.artefacts import Artefact
    from cirbench.artefacts.answers import cost
    from cirbench.artefacts.chat import ChatModel, Endpoint
    from cirbench.benchmarks.catalogue import load_protocol

    for_urls = {"--key": key, "--max-calls": max_calls, "--calls-per-minute": calls_per_minute}
    idle = for_urls if url is None else {"--device": device, "--precision": precision}
    if given_in_vain := [option for option, value in idle.items() if value is not None]:
        raise UsageError(
            f"{some(given_in_vain)} {'goes' if len(given_in_vain) == 1 else 'go'} "
            f"{'with' if url is None else 'without'} --url."
        )
    loaded = load_protocol(protocol, data_root)
    text = Path(prompt[1:]).read_text(encoding="utf-8").strip() if prompt.startswith("@") else prompt
    prompts, whose = {field: text}, licence or ""
    asker: Asker
    if url is None:
        asker = ChatModel(
            model,
            prompts,
            temperature=temperature,
            max_tokens=max_tokens,
            precision=precision or "fp32",
            device=device or "auto",
            licence=whose,
        )
    else:
        asker = Endpoint(
            url,
            model,
            prompts,
            temperature=temperature,
            max_tokens=max_tokens,
            key_variable=key or "OPENAI_API_KEY",
            max_calls=max_calls,
            calls_per_minute=calls_per_minute,
            licence=whose,
        )
    asked = _Asked(loaded.queries[:limit], field, samples, see, given)
    artefact = Artefact(output, asker.maker)
    left = asked.left(artefact)
    calls, images, tokens = cost(asked.of(left), asker.prompts[field], asked.each)
    say(f"{calls:,} calls with {images:,} images and about {tokens:,} tokens of text, answers aside.")
    if not dry_run:
        asked.record(asker, left, artefact)
        print_path(output)


class _Asked:
    """What is asked about queries: their captions, the reference if it is to be seen, captions of it if given."""

    def __init__(self, queries: Sequence[Query], field: str, samples: int, see: bool, given: Path | None) -> None:
        from cirbench.artefacts import Artefact, Question
        from cirbench.methods.interface import join_captions

        self.field = field
        self.samples = samples
        by_key = {Question.of(query).key: query for query in queries}
        captions = None if given is None else Artefact(given)
        self.questions: dict[Key, list[Question]] = {}
        self.given: dict[Key, dict[str, tuple[Sample, ...]]] = {}
        for key, query in by_key.items():
            image, text = (query.reference.image,) if see else (), join_captions(query.captions)
            if captions is None:
                self.questions[key] = [Question(image, (text,))]
                continue
            said = captions.find(key, "caption", samples)
            if len(said) < samples:
                raise UsageError(
                    f"{given} has {len(said)} captions of the reference of query {query.id}, not {samples}."
                )
            self.questions[key] = [Question(image, (text, str(caption))) for caption in said]
            self.given[key] = {"caption": said}
        self.each = samples if captions is None else 1

    def left(self, artefact: Artefact) -> list[Key]:
        """Return what is not recorded yet."""
        return [key for key in self.questions if len(artefact.find(key, self.field, self.samples)) < self.samples]

    def of(self, keys: Sequence[Key]) -> list[Question]:
        """Return the questions that are asked for some of them, in order."""
        return [question for key in keys for question in self.questions[key]]

    def record(self, asker: Asker, left: Sequence[Key], artefact: Artefact) -> None:
        """Ask for what is left, and keep the answers of each query at once."""
        from cirbench.artefacts import Answer

        answers = asker(self.of(left), self.field, self.each)
        with progress("Asking", len(left), unit="queries") as advance:
            for key in left:
                said = tuple(sample for _ in self.questions[key] for sample in next(answers))
                artefact.add([Answer(*key, {**self.given.get(key, {}), self.field: said})])
                advance(1)


@answers_command.command("import")
@click.argument("file", type=_FILE)
@click.option("--form", required=True, help="Form of the release: ldre, seize, ip-cir, cirevl or egocvr.")
@click.option(
    "--take", multiple=True, metavar="FIELD=COLUMN", help="Take a column of your choice: caption=blip2_caption"
)
@_PROTOCOL
@_DATA_ROOT
@click.option("--model", required=True, help="Model that gave the answers.")
@_LICENCE
@_OUTPUT
def import_command(
    file: Path,
    form: str,
    take: tuple[str, ...],
    protocol: str,
    data_root: Path | None,
    model: str,
    licence: str | None,
    output: Path,
) -> None:
    """Take answers that authors have released, each joined to its query by reference image and relative caption.

    A row that fits no query, or says otherwise than its query, is an error that names it.
    """
    from cirbench.artefacts import Artefact, Maker
    from cirbench.artefacts.released import read_released
    from cirbench.benchmarks.catalogue import load_protocol

    joined = read_released(file, form, load_protocol(protocol, data_root), pairs(take) if take else None)
    Artefact(output, Maker(model=model, licence=licence or "")).add(joined.answers)
    say(f"{len(joined.answers):,} queries of {protocol} are answered.")
    if joined.unanswered:
        say(f"{len(joined.unanswered):,} are not: {some(joined.unanswered)}.")
    print_path(output)


@answers_command.command("show")
@click.argument("file", type=_FILE)
@JSON
def show_command(file: Path, as_json: bool) -> None:
    """Say who answered what in a file, with an example."""
    import msgspec

    from cirbench.artefacts import Artefact

    artefact = Artefact(file)
    facts = {**msgspec.to_builtins(artefact.maker), "answers": len(artefact), "fields": _counts(artefact)}
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    maker = artefact.maker
    print_lines(
        [
            f"model     {maker.model}{f' ({maker.revision[:12]})' if maker.revision else ''}",
            *(f"{name:<9} {value}" for name, value in maker.decoding.items()),
            *(f"prompt    {name}: {text}" for name, text in maker.prompts.items()),
            f"licence   {maker.licence or 'not stated'}",
            f"answers   {len(artefact):,} questions, {amount(file.stat().st_size, 'B')}",
            *(f"field     {name}: {count}" for name, count in facts["fields"].items()),
        ]
    )
    for answer in list(artefact)[:1]:
        print_lines(
            [f"example   {' / '.join(answer.texts)}", *(f"  {n}: {t[0]}" for n, t in answer.fields.items() if t)]
        )


def _counts(artefact: Artefact) -> dict[str, str]:
    found: dict[str, list[int]] = {}
    for answer in artefact:
        for field, samples in answer.fields.items():
            found.setdefault(field, []).append(len(samples))
    return {
        field: f"{len(counts):,} questions, {' to '.join(map(str, sorted({min(counts), max(counts)})))} samples"
        for field, counts in sorted(found.items())
    }


@answers_command.command("merge")
@click.argument("files", nargs=-1, required=True, type=_FILE)
@_LICENCE
@_OUTPUT
def merge_command(files: tuple[Path, ...], licence: str | None, output: Path) -> None:
    """Put files by one model and with the same prompts together in one, to keep or to share."""
    from cirbench.artefacts import Artefact, merge

    whole = merge([Artefact(file) for file in files], output, licence=licence)
    say(f"{len(whole):,} questions are answered.")
    print_path(output)


@click.command()
@click.option(
    "--images", required=True, type=click.Path(path_type=Path), help="Folder of images; those in subfolders count too."
)
@click.option("--model", required=True, help="BLIP or BLIP-2 captioner: a name on the hub, or a folder.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .jsonl file to write.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Number of images in a batch."
)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--device", default="auto", show_default=True, help="Device: auto, cpu, cuda or cuda:N.")
def caption_command(
    images: Path, model: str, output: Path, batch_size: int, precision: Literal["fp32", "bf16"], device: str
) -> None:
    """Describe every image below a folder, for `cirbench train --data` and for the method captioning.

    It may be stopped at any moment and goes on where it was: what was written of an image is kept by the image's
    content and the captioner's files. The path of the file is printed on stdout; beside it lies a card that says who
    wrote the captions. Needs: pip install 'cirbench[transformers]'

    \b
    cirbench caption --images imagenet/test --model Salesforce/blip2-flan-t5-xl --output captions.jsonl
    cirbench train pli --backbone ViT-L-14/openai --data captions.jsonl
    cirbench run --method captioning --set captions=captions.jsonl --dataset circo
    """
    from cirbench.artefacts import describe, kept_captions
    from cirbench.artefacts.captions import load_captioner, require_jsonl, write_captions
    from cirbench.backbones.images import FileImage
    from cirbench.training.data.forms import read_folder

    require_jsonl(output)
    folder = read_folder(images, None)
    if folder.unused:
        say(f"{len(folder.unused):,} files are not images and get no caption: {some(folder.unused)}.")
    paths = [folder.folder / name for name in folder.images]
    captioner = load_captioner(model, device=device, precision=precision, batch_size=batch_size)
    sources = [FileImage(path) for path in paths]
    captions = describe(sources, captioner, kept_captions(captioner.maker), progress)
    card = write_captions(output, paths, captions, captioner)
    if card.speechless:
        shown = ", ".join(card.speechless[:10])
        say(f"The captioner said nothing of {len(card.speechless)} images, which are left out: {shown}")
    print_path(output)
