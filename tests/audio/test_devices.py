"""Devices are found by index or name, and PortAudio's errors become hints in words."""

import sys
from types import SimpleNamespace

import pytest

from streamcodec.audio.io.devices import find_device, list_devices, open_input, open_output
from streamcodec.errors import DeviceError, InputError, MissingDependencyError


class PortAudioError(Exception):
    pass


def device(name, inputs, outputs, api=0, rate=48_000.0, low_latency_s=0.009):
    return {
        "name": name,
        "hostapi": api,
        "max_input_channels": inputs,
        "max_output_channels": outputs,
        "default_samplerate": rate,
        "default_low_output_latency": low_latency_s,
    }


DEVICES = [
    device("Built-in Microphone", 2, 0),
    device("Built-in Speaker", 0, 2),
    device("USB Headset", 1, 2, rate=44_100.0),
    device("USB Headset", 1, 2, api=1),
    device("USB", 1, 0),
]


@pytest.fixture
def sounddevice(monkeypatch):
    """A sound system with five devices, in place of the machine's; `fail` makes every stream refuse with that error."""
    fake = SimpleNamespace(PortAudioError=PortAudioError, default=SimpleNamespace(device=[0, 1]), fail=None)
    fake.query_devices = lambda: DEVICES
    fake.query_hostapis = lambda: ({"name": "ALSA"}, {"name": "JACK"})

    def stream(**options):
        if fake.fail:
            raise fake.fail
        return options

    fake.InputStream = fake.OutputStream = stream
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


@pytest.mark.usefixtures("sounddevice")
def test_devices_are_listed_with_their_host_api_and_the_defaults():
    devices = list_devices()
    assert [d.index for d in devices] == [0, 1, 2, 3, 4]
    assert [d.host_api for d in devices] == ["ALSA", "ALSA", "ALSA", "JACK", "ALSA"]
    assert [d.is_default_input for d in devices] == [True, False, False, False, False]
    assert [d.is_default_output for d in devices] == [False, True, False, False, False]
    assert (devices[2].max_input_channels, devices[2].max_output_channels, devices[2].default_rate) == (1, 2, 44_100.0)
    assert str(devices[0]) == "0: Built-in Microphone, ALSA (2 in, 0 out)"


@pytest.mark.usefixtures("sounddevice")
@pytest.mark.parametrize(
    ("spec", "kind", "index"),
    [
        (None, "input", 0),
        (None, "output", 1),
        (2, "output", 2),
        ("3", "input", 3),
        ("microphone", "input", 0),
        ("BUILT-IN", "input", 0),
        ("built-in", "output", 1),
        ("headset, jack", "output", 3),
        ("usb", "input", 4),
    ],
)
def test_a_device_is_found_by_index_or_name(spec, kind, index):
    assert find_device(spec, kind).index == index


@pytest.mark.usefixtures("sounddevice")
@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        (
            "headset",
            "input",
            r"more than one input device with 'headset' in its name, expected one of: 2: USB Headset, ALSA .*; 3: USB Headset, JACK",
        ),
        ("piano", "output", r"no output device with 'piano' in its name; this machine has 1: Built-in Speaker"),
        (0, "output", r"no output device with index 0; this machine has 1: "),
        (9, "input", r"no input device with index 9"),
    ],
)
def test_an_ambiguous_or_absent_device_names_the_candidates(spec, kind, message):
    with pytest.raises(DeviceError, match=message):
        find_device(spec, kind)


def test_a_machine_without_devices_says_so(sounddevice):
    sounddevice.query_devices = list
    sounddevice.default.device = [-1, -1]
    assert list_devices() == []
    with pytest.raises(DeviceError, match="no default input device; this machine has no input devices"):
        find_device(None, "input")


def test_a_failing_sound_system_is_a_device_error(sounddevice):
    def fail():
        raise PortAudioError("no host API", -9979)

    sounddevice.query_hostapis = fail
    with pytest.raises(DeviceError, match=r"cannot be listed: .*no host API"):
        list_devices()


@pytest.mark.usefixtures("sounddevice")
@pytest.mark.parametrize(("open_stream", "kind"), [(open_input, "input"), (open_output, "output")])
def test_streams_open_at_the_devices_own_rate_with_low_latency(open_stream, kind):
    def callback(*_):
        pass

    options = open_stream(find_device(2, kind), 1, 10, callback)
    assert options == {
        "device": 2,
        "samplerate": 44_100.0,
        "channels": 1,
        "dtype": "float32",
        "blocksize": 441,
        "latency": "low" if kind == "input" else 0.02,
        "callback": callback,
    }
    assert open_stream(find_device(2, kind), 1, 0, callback)["blocksize"] == 0


@pytest.mark.usefixtures("sounddevice")
def test_an_open_device_waits_shortly_for_other_threads():
    before = sys.getswitchinterval()
    try:
        for interval, kept in ((0.005, 0.0005), (0.0001, 0.0001)):
            sys.setswitchinterval(interval)
            open_output(find_device(2, "output"), 1, 10, lambda *_: None)
            assert sys.getswitchinterval() == pytest.approx(kept, abs=2e-6)
    finally:
        sys.setswitchinterval(before)


@pytest.mark.usefixtures("sounddevice")
def test_a_speaker_keeps_a_latency_that_its_system_proposes(monkeypatch):
    monkeypatch.setitem(DEVICES[2], "default_low_output_latency", 0.04)
    assert open_output(find_device(2, "output"), 1, 10, lambda *_: None)["latency"] == 0.04


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (PortAudioError("x", -9997), "does not support this sampling rate"),
        (PortAudioError("x", -9998), "ask for fewer"),
        (PortAudioError("x", -9985), "in use by another program"),
        (PortAudioError("x", -9996), "no such device"),
        (PortAudioError("x", -9999, (0, 1, "host")), "driver refuses"),
        (PortAudioError("something else", -1), "something else"),
        (PortAudioError("without a number"), "without a number"),
    ],
)
def test_an_error_of_portaudio_becomes_a_hint(sounddevice, error, hint):
    sounddevice.fail = error
    with pytest.raises(DeviceError, match=rf"output device Built-in Speaker cannot be opened \(48000 Hz, 2 channel\(s\)\): .*{hint}"):
        open_output(find_device(None, "output"), 2, 10, print)


@pytest.mark.usefixtures("sounddevice")
def test_more_channels_than_the_device_has_are_refused():
    with pytest.raises(DeviceError, match="Built-in Microphone has 2 input channels, expected at least 3"):
        open_input(find_device(0, "input"), 3, 10, print)


@pytest.mark.usefixtures("sounddevice")
@pytest.mark.parametrize(("channels", "block_ms"), [(0, 10), (1, -1)])
def test_no_channels_and_negative_blocks_are_refused(channels, block_ms):
    with pytest.raises(InputError, match="expected at least 1 channel and 0 ms"):
        open_input(find_device(0, "input"), channels, block_ms, print)


class _Broken:
    """An import finder in front of all others that fails as the real module does where a library is absent."""

    def __init__(self, error):
        self.error = error

    def find_spec(self, name, *_):
        if name == "sounddevice":
            raise self.error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("PortAudio library not found"), "apt install libportaudio2"),
        (ModuleNotFoundError("no sounddevice"), "pip install sounddevice"),
    ],
)
def test_a_missing_library_says_how_to_install_it(monkeypatch, error, message):
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Broken(error), *sys.meta_path])
    with pytest.raises(MissingDependencyError, match=message):
        list_devices()
