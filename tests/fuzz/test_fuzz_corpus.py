"""What fuzzing has found is replayed: each input that was kept, and every legal one it began with."""

from __future__ import annotations

import pytest
from fuzz import minimized
from fuzz_server import NAME, FuzzedServer, seeds
from fuzz_targets import CORPUS, TARGETS, corpus_of, seeds_of


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_kept_breaks_nothing(target):
    inputs = [*seeds_of(target), *corpus_of(target)]
    for data in inputs:
        TARGETS[target](data)
    assert len(corpus_of(target)) > 3, "the corpus is gone"


def test_connections_that_were_kept_harm_no_stream_beside_them():
    server = FuzzedServer()
    server.open()
    try:
        for data in [*seeds(), *corpus_of(NAME)]:
            server.run(data)
        server.look()
    finally:
        server.close()
    assert len(corpus_of(NAME)) > 3, "the corpus is gone"


def test_the_corpus_is_small():
    assert sum(file.stat().st_size for file in CORPUS.iterdir()) < 300_000
    assert {file.stem for file in CORPUS.glob("*.txt")} >= set(TARGETS)


def test_an_input_that_reaches_nothing_new_is_not_kept():
    seeds = seeds_of("message")
    kept = minimized(TARGETS["message"], [*seeds, *seeds, seeds[0]])
    assert 2 < len(kept) <= len(seeds) and minimized(TARGETS["message"], kept) == kept
    assert sum(map(len, minimized(TARGETS["message"], seeds, most_bytes=50))) <= 50
