# What the trials of the container and of the cluster share; each of them sources it in the root of the sources.
# shellcheck shell=bash
read -ra engine <<<"${ENGINE:-podman}"
work=$(mktemp -d)
bin=$PWD/.venv/bin
us=10001 # the image's user

ok() { echo "ok: $*"; }

# A trial's own `logs` prints what the containers have said.
fail() {
    echo "FAILED: $*" >&2
    logs >&2 || true
    exit 1
}

# make_talk FILE SECONDS: sound that changes all the time.
make_talk() {
    "$bin/python" -c '
import sys, numpy, soundfile
rng, t = numpy.random.default_rng(0), numpy.arange(24_000 * int(sys.argv[2])) / 24_000
sound = 0.3 * numpy.sin(2 * numpy.pi * 180 * t) * abs(numpy.sin(3 * t)) + rng.normal(0, 0.01, t.size)
soundfile.write(sys.argv[1], sound, 24_000)' "$1" "$2"
}

# Of what `mic` has said: how many packets it has published.
published() { grep -o 'published [0-9]* packets' "$1" | grep -o '[0-9]*'; }

# How many packets a sound file that `play` has written holds.
packets_in() { "$bin/python" -c 'import sys, soundfile; print(-(-soundfile.info(sys.argv[1]).frames // 1920))' "$1"; }
