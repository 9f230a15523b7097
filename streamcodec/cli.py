"""The command line: each command is one function of its arguments that returns the exit status.

0 is success, 1 a failure of the outside world (connection, device, a machine that lacks something), 2 a mistake in what was asked for,
130 an interrupt. Errors this package raises on purpose are one line on standard error; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import streamcodec
from streamcodec.errors import CodesError, InputError, LocalProtocolError, ModelError, StreamCodecError

__all__ = ["main"]

Command = Callable[[argparse.Namespace], int]

OVERVIEW = """Live speech as neural-codec tokens.

  streamcodec demo      hear it: server, microphone and playback in one go
  streamcodec serve     run the server; then, in other terminals:
  streamcodec mic       publish a microphone, a file or a pipe
  streamcodec play      play, record or pipe on what is published
  streamcodec doctor    what would not work here, and what to install
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's) and return its exit status."""
    parser = _parser()
    given = list(sys.argv[1:] if argv is None else argv)
    # The recipe has commands and options of its own.
    args = argparse.Namespace(command=_train, arguments=given[1:]) if given[:1] == ["train"] else parser.parse_args(given)
    if args.command is None:
        parser.print_help()
        return 2
    command: Command = args.command
    # Converting a model takes seconds: whoever waits is told why.
    told = logging.StreamHandler()
    told.setFormatter(logging.Formatter("%(message)s"))
    engine_log = logging.getLogger("streamcodec.engine")
    engine_log.addHandler(told)
    engine_log.setLevel(logging.INFO)
    engine_log.propagate = False
    try:
        return command(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough; what Python still wants to flush has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (InputError, ModelError, LocalProtocolError) as exc:
        return _complain(exc, 2)
    except StreamCodecError as exc:
        return _complain(exc, 1)


def _complain(exc: Exception, status: int) -> int:
    print(f"streamcodec: {exc}", file=sys.stderr)
    return status


def _run(main_: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine on uvloop where there is one; Ctrl-C and SIGTERM cancel it, and a second Ctrl-C ends it wherever it is."""
    try:
        import uvloop

        factory: Any = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:

        async def guarded() -> int:
            task = asyncio.ensure_future(main_)
            loop = asyncio.get_running_loop()
            if sys.platform != "win32":
                loop.add_signal_handler(signal.SIGTERM, task.cancel)
            interrupts = 0

            def interrupt(*_: object) -> None:
                nonlocal interrupts
                interrupts += 1
                if interrupts > 1:
                    raise KeyboardInterrupt
                # The runner's own handler cancels at once, between any two steps of a callback that may be setting what is awaited.
                loop.call_soon_threadsafe(task.cancel)

            before = signal.signal(signal.SIGINT, interrupt)
            try:
                return await task
            except asyncio.CancelledError:
                return 130
            finally:
                signal.signal(signal.SIGINT, before)

        return runner.run(guarded())


# Commands --------------------------------------------------------------------------------------------------------------------------


def _serve(args: argparse.Namespace) -> int:
    from streamcodec.serve_command import prepare

    _run(prepare(args))
    print("stopped")
    return 0


def _encode(args: argparse.Namespace) -> int:
    import numpy as np
    from streamcodec_clients.options import load_codec

    from streamcodec.audio import open_audio_blocks
    from streamcodec.bitstream.codes_file import CodesFile, check_target, write_codes

    samples = 0
    with open_audio_blocks(args.input) as blocks:
        output = check_target(args.output or args.input.with_suffix(".codes"))
        codec = load_codec(args)
        encoder = codec.stream_encoder(args.bandwidth, packet_frames=25, start="exact", sample_rate=blocks.rate, channels=blocks.channels)
        packets = []
        with _progress(blocks.duration_s, "encoding") as bar:
            for block in blocks:
                packets += encoder.feed(block)
                samples += block.shape[1]
                bar.update(block.shape[1] / blocks.rate)
        packets += encoder.flush()
        duration_s = samples / blocks.rate
        # Rounded half up, as the resampler does.
        length = (2 * samples * codec.sample_rate + blocks.rate) // (2 * blocks.rate)
    if not packets:
        raise InputError(f"{args.input}: is shorter than one sample at {codec.sample_rate} Hz")
    codes = np.concatenate(packets, axis=1)
    write_codes(output, CodesFile(codes, codec.name, codec.fingerprint, length), codec.config.bits_per_code)
    size = output.stat().st_size
    kbps = 8 * size / duration_s / 1000
    print(f"{output}: {duration_s:.2f} s in {codes.shape[1]} frames of {codes.shape[0]} codebooks, {size} bytes ({kbps:.2f} kbps)")
    return 0


def _decode(args: argparse.Namespace) -> int:
    from streamcodec_clients.options import load_codec

    from streamcodec.audio import AudioWriter
    from streamcodec.bitstream.codes_file import read_codes

    file = read_codes(args.input)
    # Not the input's name with .wav: that is often the recording that was encoded.
    output = args.output or args.input.with_suffix(".decoded.wav")
    codec = load_codec(args)
    if file.fingerprint != codec.fingerprint:
        raise InputError(
            f"{args.input}: made with {file.model} ({file.fingerprint}); {codec.name} is {codec.fingerprint}: give its model with --model"
        )
    codes = file.codes
    if codec.config.frames_for(file.samples) != codes.shape[1]:
        raise CodesError(f"{args.input}: {codes.shape[1]} frames are not {file.samples} samples: it is damaged")
    if args.bandwidth is not None:
        codes = codes[: codec.config.n_q_for(args.bandwidth)]
    left = file.samples
    decoder = codec.stream_decoder(start="exact")
    with AudioWriter(output, codec.sample_rate) as writer, _progress(left / codec.sample_rate, "decoding") as bar:
        for at in range(0, codes.shape[1] + 75, 75):
            samples = decoder.feed(codes[:, at : at + 75]) if at < codes.shape[1] else decoder.flush()
            writer.write(samples[:left])
            left -= min(left, samples.size)
            bar.update(samples.size / codec.sample_rate)
    print(f"{output}: {file.samples / codec.sample_rate:.2f} s from {codes.shape[0]} codebooks")
    return 0


def _convert(args: argparse.Namespace) -> int:
    import torch

    from streamcodec.model.checkpoint import fingerprint, save
    from streamcodec.model.hub import load_model

    model = load_model(args.source)
    if args.search_beam is not None:
        model = model.with_search_beam(args.search_beam)
    save(model, args.target, layout=args.layout, dtype=torch.float16 if args.half else torch.float32)
    print(f"{args.target}: layout {args.layout}, fingerprint {fingerprint(load_model(args.target))} (from {fingerprint(model)})")
    return 0


def _models(args: argparse.Namespace) -> int:
    from streamcodec.model.checkpoint import fingerprint
    from streamcodec.model.encodec import macs_per_second
    from streamcodec.model.hub import embedded_models, load_model, locate

    for name in args.names or embedded_models():
        model, path = load_model(name), locate(name)
        config, usual = model.config, model.config.n_q_for()
        macs = macs_per_second(config, usual)
        size = sum(p.numel() for p in model.parameters()) / 1e6
        print(f"{name}")
        print(f"  fingerprint  {fingerprint(model)}")
        print(f"  file         {path}")
        print(
            f"  size         {size:.1f} M parameters, {config.num_quantizers} codebooks of {config.codebook_size} x {config.codebook_dim}"
        )
        print(
            f"  cost         {macs['encoder'] / 1e6:.0f} + {macs['decoder'] / 1e6:.0f} MMAC per second to encode and decode, "
            f"{macs['search'] / 1e6:.0f} to search the codebooks at {config.bandwidth_of(usual):g} kbps (beam {config.search_beam})"
        )
        print(f"  audio        {config.sampling_rate} Hz mono, {config.frame_rate:g} frames per second, {config.pad_mode} padding")
        print(f"  bandwidths   {', '.join(f'{b:g}' for b in config.target_bandwidths)} kbps")
    if not args.names:
        print("others: a checkpoint file, a model folder, or a hub id such as facebook/encodec_24khz (see --help)")
    return 0


def _train(args: argparse.Namespace) -> int:
    from streamcodec.training import main as train

    return train(args.arguments)


def _devices(args: argparse.Namespace) -> int:  # noqa: ARG001
    from streamcodec.audio import list_devices

    devices = list_devices()
    for device in devices:
        marks = [kind for kind, is_default in (("input", device.is_default_input), ("output", device.is_default_output)) if is_default]
        print(f"{device}, {device.default_rate:g} Hz" + (f"  <- default {' and '.join(marks)}" if marks else ""))
    if not devices:
        print("no sound devices: publish and record files instead (streamcodec mic --input FILE, streamcodec play --output FILE.wav)")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from streamcodec.doctor import examine

    broken = False
    for finding in examine(args.model, args.port):
        mark = "ok  " if finding.works else ("FAIL" if finding.needed else "warn")
        print(f"{mark} {finding.name:<11} {finding.told}")
        if not finding.works:
            print(f"     {'':<11} -> {finding.remedy}")
            broken |= finding.needed
    return 1 if broken else 0


def _progress(seconds: float, doing: str) -> Any:
    from tqdm import tqdm

    # Short files are done before a bar says anything.
    layout = "{desc} {percentage:3.0f}% |{bar}| {n:.0f}/{total:.0f} s, {remaining} left"
    return tqdm(total=seconds, desc=doing, delay=1.0, disable=None, leave=False, bar_format=layout)


# The parser ------------------------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    from streamcodec_clients import demo, mic, playback
    from streamcodec_clients.options import add_model_options, port

    from streamcodec import serve_command

    parser = argparse.ArgumentParser(prog="streamcodec", description=OVERVIEW, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"streamcodec {streamcodec.__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, command: Command, help_: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".")
        sub.set_defaults(command=command)
        return sub

    serve_command.add_arguments(add("serve", _serve, "run the server until it is interrupted"))
    mic.add_arguments(add("mic", lambda args: _run(mic.run(args)), "publish a microphone, a file or a pipe"))
    playback.add_arguments(add("play", lambda args: _run(playback.run(args)), "play, record or pipe on a stream"))
    demo.add_arguments(add("demo", lambda args: _run(demo.run(args)), "hear it: server, microphone and playback in one go"))

    encode = add("encode", _encode, "encode an audio file into a file of codes")
    encode.add_argument("input", type=Path, help="any file that libsndfile reads")
    encode.add_argument("output", type=Path, nargs="?", help="default: the input's name with .codes")
    encode.add_argument("--bandwidth", type=float, metavar="KBPS", help="1.5, 3, 6, 12 or 24 with the models known today (default: 6)")
    add_model_options(encode)

    decode = add("decode", _decode, "decode a file of codes into audio")
    decode.add_argument("input", type=Path, help="what streamcodec encode wrote")
    decode.add_argument("output", type=Path, nargs="?", help="a .wav or .flac file; default: the input's name with .decoded.wav")
    decode.add_argument("--bandwidth", type=float, metavar="KBPS", help="decode only so much of it (default: all)")
    add_model_options(decode)

    convert = add("convert", _convert, "convert a checkpoint between the layouts of streamcodec, Hugging Face and Meta")
    convert.add_argument("source", help="an embedded name, a file, a folder or a hub id")
    convert.add_argument("target", type=Path, help="a file, or a folder for the layout hf")
    convert.add_argument("--layout", choices=["streamcodec", "hf", "meta"], default="streamcodec", help="default: %(default)s")
    convert.add_argument("--search-beam", type=int, metavar="N", help="paths that its encoder will follow (default: what the source has)")
    convert.add_argument("--half", action="store_true", help="store float16: half the size, and another fingerprint")

    models = add("models", _models, "list the embedded models, or describe the ones named")
    models.add_argument("names", nargs="*", help="embedded names, files, folders or hub ids")

    add("train", _train, "train a model of your own: fetch, build, train, plot, export (see streamcodec train --help)")
    add("devices", _devices, "list the sound devices")

    doctor = add("doctor", _doctor, "say what would not work here, and what to install")
    doctor.add_argument("--model", default="speech-24k", help="the one that will be used (default: %(default)s)")
    doctor.add_argument("--port", type=port, default=8765, help="the one that the server will use (default: %(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
