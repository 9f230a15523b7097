"""Levels are decibels of full scale, and silence is the floor."""

import math

import numpy as np
import pytest

from streamcodec.audio.dsp.level_meter import FLOOR_DB, Level, bar, to_db
from streamcodec.errors import InputError


def test_a_full_scale_sine_peaks_at_0_and_averages_3_db_below():
    level = Level()
    level.feed(np.sin(2 * np.pi * 1_000 * np.arange(72_000) / 24_000).astype(np.float32))
    assert level.peak_db == pytest.approx(0, abs=0.01)
    assert level.rms_db == pytest.approx(-3.01, abs=0.01)


def test_silence_and_nothing_at_all_are_the_floor():
    level = Level()
    assert (level.peak_db, level.rms_db) == (FLOOR_DB, FLOOR_DB)
    level.feed(np.zeros(480, np.float32))
    level.feed(np.zeros(0, np.float32))
    assert (level.peak_db, level.rms_db) == (FLOOR_DB, FLOOR_DB)


def test_the_peak_falls_by_its_decay_and_rests_on_the_floor():
    level = Level(rate=1_000, decay=20)
    level.feed(np.ones(1, np.float32))
    level.feed(np.zeros(500, np.float32))
    assert level.peak_db == pytest.approx(-10)
    level.feed(np.zeros(100_000, np.float32))
    assert level.peak_db == FLOOR_DB


def test_the_rms_does_not_depend_on_the_blocks():
    audio = np.full(4_800, 0.5, np.float32)
    whole, pieces = Level(), Level()
    whole.feed(audio)
    for block in np.split(audio, [1, 100, 3_000]):
        pieces.feed(block)
    assert pieces.rms_db == pytest.approx(whole.rms_db)


@pytest.mark.parametrize(("db", "text"), [(-60, "----"), (-math.inf, "----"), (math.nan, "----"), (-30, "##--"), (0, "####"), (6, "####")])
def test_a_bar_runs_from_the_floor_to_full_scale(db, text):
    assert bar(db, 4) == text


def test_decibels_stop_at_the_floor():
    assert to_db(1.0) == 0
    assert to_db(0.0) == to_db(1e-9) == FLOOR_DB


@pytest.mark.parametrize("options", [{"rate": 0}, {"decay": 0}, {"rate": math.nan}])
def test_a_meter_without_time_is_refused(options):
    with pytest.raises(InputError, match="expected both above 0"):
        Level(**options)
