"""`streamcodec tokenize`: a folder of audio into a folder of codes, for training programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamcodec.cli.options import DEFAULT_MODEL, Bandwidth, Device, Engine, Model, Precision, load_codec, positive_int
from streamcodec.errors import InputError

if TYPE_CHECKING:
    from streamcodec.cli.batch import Advance, FileJob

__all__ = ["tokenize"]


def tokenize(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of audio files, in it and in the folders below it.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder for the codes, at the same places, and for manifest.jsonl.")],
    again: Annotated[
        bool, typer.Option("--again", help="Do also what is done already, whatever model made the codes that are there.")
    ] = False,
    bandwidth: Bandwidth = None,
    model: Model = DEFAULT_MODEL,
    device: Device = "cpu",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    threads: Annotated[
        int | None,
        typer.Option(
            parser=positive_int, metavar="N", help="Run N batches at a time, each on a thread of its own (default: one per processor)."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(parser=positive_int, metavar="N", help="Files in a batch, which share the model's steps.")] = 16,
) -> int:
    """Encode a folder of audio into a folder of codes, several files at a time.

    The same command continues where it was stopped. A file that fails is named and stops no other.
    """
    from streamcodec.audio import AUDIO_SUFFIXES
    from streamcodec.cli.batch import durations, length_or_none, plan, run_many
    from streamcodec.processors import available_processors
    from streamcodec.tokenizer import Manifest, TokenizerJob, header_of, is_done
    from streamcodec.tokenizer import tokenize as run

    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: streamcodec encode takes single files")
    duration_s = durations()
    jobs, _ = plan([folder], out, AUDIO_SUFFIXES, ".codes")
    workers = threads or available_processors()
    codec = load_codec(model, device, engine, precision, workers, workers=workers)

    with Manifest(out, header_of(codec, bandwidth), again=again) as manifest:

        def is_left_alone(job: FileJob) -> bool:
            return not again and is_done(TokenizerJob.of(*job, folder, out), manifest)

        def convert(left: Sequence[FileJob], advance: Advance) -> Iterator[Exception | None]:
            # The longest first, so that those of a batch end together and no worker has much left when the others are done.
            longest_first = sorted(left, key=lambda job: -(length_or_none(duration_s, job.source) or 0.0))
            places = [TokenizerJob.of(*job, folder, out) for job in longest_first]
            for outcome in run(codec, places, manifest, bandwidth=bandwidth, batch=batch, advance=advance):
                yield outcome.error

        return run_many(jobs, "encoding", duration_s, is_left_alone, convert)
