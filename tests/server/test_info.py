"""Numbers are given once, never beyond the last one there is, and epochs come round."""

from streamcodec.protocol import Gap
from streamcodec.protocol.messages import MAX_EPOCH, MAX_SEQ
from streamcodec.server.info import Numbering


def test_each_number_is_given_once_and_what_is_left_out_is_a_gap():
    numbering = Numbering()
    assert [numbering.take(), numbering.take()] == [0, 1]
    assert numbering.skip(3, "uplink") == Gap(first_seq=2, count=3, reason="uplink")
    assert numbering.take() == 5


def test_where_nothing_was_left_out_there_is_no_gap():
    numbering = Numbering()
    assert numbering.skip(0, "uplink") is None
    assert numbering.next_seq == 0


def test_no_more_numbers_are_left_out_than_there_are():
    numbering = Numbering()
    numbering.next_seq = MAX_SEQ - 1
    assert numbering.skip(100, "uplink") == Gap(first_seq=MAX_SEQ - 1, count=2, reason="uplink")
    assert numbering.skip(1, "uplink") is None


def test_the_epoch_after_the_last_one_is_the_first_one():
    numbering = Numbering()
    numbering.epoch = MAX_EPOCH
    numbering.begin_epoch()
    assert numbering.epoch == 0
