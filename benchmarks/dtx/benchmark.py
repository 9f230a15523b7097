"""What a run of `benchmarks.dtx` takes, and its figures."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks import heldout
from benchmarks.dtx.figures import SPEECH_DB, WANTED_DB, figures_of
from benchmarks.dtx.figures import trace as trace_of
from benchmarks.dtx.render import draw, headlines, render
from benchmarks.dtx.talks import PAUSE_S, TCP_IP_BYTES, noise, send, talk, utterances
from benchmarks.harness.machine import Observed
from benchmarks.harness.models import Loading
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures
from streamcodec.audio import SILENCE_DB, bundled_clip
from streamcodec.protocol import QUIET_EVERY_S

__all__ = ["BENCHMARK"]

_NOISE_DB = (-60.0, -55.0, -52.0)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--model", default="speech-24k")
    add("--bandwidth", type=float, default=6.0, help="kbps")
    add("--packet-frames", type=int, default=6)
    add("--silence-db", type=float, default=SILENCE_DB, help="what is quieter is silence, dBFS (default: %(default)s)")
    add("--noise-db", type=float, nargs="*", default=list(_NOISE_DB), help="of the noisier rooms, dBFS")
    add("--corpus", type=Path, help="from `python -m benchmarks.heldout`; without it the bundled clip is all there is")
    add("--seconds", type=float, default=60.0, help="of the bundled clip, at most")
    add("--talks", type=int, default=4, help="of the corpus, of five clips each")
    add("--seed", type=int, default=0)


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Send all talks through all rooms, whole and thinned."""
    codec = Loading(args.model)()
    said = [utterances(bundled_clip()[0][: round(args.seconds * codec.sample_rate)], codec.sample_rate)]
    if args.corpus is not None:
        clips = [clip.samples for clip in heldout.select(heldout.Corpus(args.corpus), "speech", 5 * args.talks, args.seed)]
        said += [clips[at :: args.talks] for at in range(args.talks)]
    with observed:
        talks = [talk(clips, codec.sample_rate, args.seed + i) for i, clips in enumerate(said)]
        rows, trace = [], None
        for noise_db in (None, *args.noise_db):
            sent = []
            for i, sound in enumerate(talks):
                room = 0.0 if noise_db is None else noise(len(sound), codec.sample_rate, noise_db, args.seed + i)
                sent.append(send(codec, np.asarray(sound + room, np.float32), args.bandwidth, args.packet_frames, args.silence_db))
            rows.append(figures_of(noise_db, sent, args.seed))
            trace = trace or (trace_of(sent[0], noise_db) if sent[0].pauses and noise_db is not None else None)
    return {
        "model": args.model,
        "kbps": args.bandwidth,
        "n_q": codec.config.n_q_for(args.bandwidth),
        "quiet_n_q": codec.config.min_n_q,
        "packet_ms": 1000 * args.packet_frames / codec.frame_rate,
        "silence_db": args.silence_db,
        "talks": len(talks),
        "corpus": args.corpus is not None,
        "pause_s": list(PAUSE_S),
        "every_s": QUIET_EVERY_S,
        "tcp_ip_bytes": TCP_IP_BYTES,
        "wanted_db": WANTED_DB,
        "speech_db": SPEECH_DB,
        "rows": rows,
        "trace": trace,
    }


BENCHMARK = Benchmark(
    name="dtx",
    title="Silence, thinned",
    question="What does thinning silence save on the wire, and does the far end stay natural?",
    options=add_options,
    measure=measure,
    render=render,
    draw=draw,
    headlines=headlines,
)
