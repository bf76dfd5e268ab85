"""Phrases about concepts, written once by a causal language model.

    python -m cirbench_methods.searle.generate oidv7-class-descriptions.csv phrases.jsonl

CONCEPTS is a text file with a concept a line, or the list of classes of Open Images. Each concept is added to OUTPUT as
soon as its phrases are there, and the draws of a concept come from its name: stopped at any moment and started again,
the command goes on where it was, with the result that it would have had.
"""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
import torch

from cirbench.backbones.interface import find_device
from cirbench.errors import CirbenchError, CorruptFile, MissingData, UsageError
from cirbench.support.console import progress
from cirbench.support.files import write_bytes, writing_failed
from cirbench.support.needs import require
from cirbench_methods.searle.phrases import SCHEMA, Header, Line, read_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROMPT = "a photo of {} that"
_NAME_COLUMN = "DisplayName"


def read_concepts(path: Path) -> list[str]:
    """Read concepts, each once, in the order of the file.

    Raises:
        MissingData: The file does not exist.
        CorruptFile: It holds none, or a table without their names.
    """
    if not path.is_file():
        raise MissingData(
            f"The file of concepts {path} does not exist.",
            hint="Give a text file with a concept a line, or Open Images' oidv7-class-descriptions.csv.",
        )
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".csv":
        table = csv.DictReader(text.splitlines())
        if _NAME_COLUMN not in (table.fieldnames or ()):
            raise CorruptFile(f"{path} has no column {_NAME_COLUMN!r}; its first line is {table.fieldnames}.")
        names = [row[_NAME_COLUMN] or "" for row in table]
    else:
        names = text.splitlines()
    concepts = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not concepts:
        raise CorruptFile(f"{path} holds no concepts.")
    return concepts


class Writer:
    """A causal language model that continues a prompt, sampled as SEARLE's public code does.

    At most 35 tokens with the prompt, temperature 0.5, no pair of tokens twice.
    """

    def __init__(self, model: str, device: str) -> None:
        transformers = require("transformers", extra="transformers", purpose="Writing phrases")
        self.device = find_device(device)
        try:
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(model)
            self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(model).to(self.device).eval()
        except (OSError, ValueError) as error:
            raise MissingData(
                f"The language model {model} cannot be loaded: {str(error).splitlines()[0]}",
                hint="Give a folder or a name of the Hugging Face hub, for instance EleutherAI/gpt-neo-2.7B.",
            ) from error

    def __call__(self, concept: str, samples: int, seed: int) -> tuple[str, ...]:
        """Write phrases about a concept; the draws come from the seed and the concept."""
        tokens = self.tokenizer(PROMPT.format(concept), return_tensors="pt").to(self.device)
        key = hashlib.sha256(f"{seed}/{concept}".encode()).digest()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.inference_mode():
            torch.manual_seed(int.from_bytes(key[:8], "little") >> 1)
            written = self.model.generate(
                **tokens,
                do_sample=True,
                temperature=0.5,
                top_k=50,
                max_length=max(35, tokens["input_ids"].shape[1] + 1),
                no_repeat_ngram_size=2,
                num_return_sequences=samples,
                pad_token_id=self.tokenizer.eos_token_id,
            )
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return tuple(" ".join(text.replace("\n", ". ").split()) for text in texts)


def generate(concepts: Sequence[str], output: Path, header: Header, write: Callable[[str], tuple[str, ...]]) -> int:
    """Write the phrases of the concepts that ``output`` lacks, a line each; return how many those were.

    Raises:
        UsageError: ``output`` was written with other settings.
        CorruptFile: ``output`` is damaged otherwise than by being cut short.
        CirbenchError: The disk is full, or the place cannot be written.
    """
    try:
        done = _resume(output, header)
        missing = [concept for concept in concepts if concept not in done]
        with output.open("ab") as file, progress("Writing phrases", len(missing), unit="concepts") as advance:
            for concept in missing:
                file.write(msgspec.json.encode(Line(concept, write(concept))) + b"\n")
                file.flush()
                os.fsync(file.fileno())
                advance(1)
    except OSError as error:
        raise writing_failed(output, error) from error
    return len(missing)


def _resume(output: Path, header: Header) -> set[str]:
    """Cut off an unfinished last line, or begin the file; return the concepts that it has."""
    if not output.is_file() or not output.stat().st_size:
        write_bytes(output, msgspec.json.encode(header) + b"\n")
        return set()
    theirs, lines = read_lines(output)
    if theirs != header:
        raise UsageError(
            f"{output} was written with {theirs}, and this command has {header}.", hint="Choose another file."
        )
    with output.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
    return {line.concept for line in lines}


@click.command()
@click.argument("concepts", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--model", default="EleutherAI/gpt-neo-2.7B", show_default=True)
@click.option("--samples", default=256, show_default=True, help="Phrases a concept.")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
def main(concepts: Path, output: Path, model: str, samples: int, seed: int, device: str) -> None:
    """Write phrases about CONCEPTS into OUTPUT (.jsonl)."""
    try:
        names, writer = read_concepts(concepts), Writer(model, device)
        header = Header(SCHEMA, model, samples, seed)
        count = generate(names, output, header, lambda concept: writer(concept, samples, seed))
    except CirbenchError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{output}: {count} concepts written, {len(names) - count} were there.")


if __name__ == "__main__":
    main()
