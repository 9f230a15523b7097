"""`streamcodec devices`: the sound devices of this machine."""

from __future__ import annotations

__all__ = ["devices"]


def devices() -> int:
    """List the sound devices."""
    from streamcodec.audio import list_devices

    found = list_devices()
    for device in found:
        marks = [kind for kind, is_default in (("input", device.is_default_input), ("output", device.is_default_output)) if is_default]
        print(f"{device}, {device.default_rate:g} Hz" + (f"  <- default {' and '.join(marks)}" if marks else ""))
    if not found:
        print("no sound devices: publish and record files instead (streamcodec mic --input FILE, streamcodec play --output FILE.wav)")
    return 0
