"""Mouth to ear: a clip played in front of a virtual microphone, and what arrives at a virtual ear through the real programs.

`streamcodec serve`, `mic` and `play` run as their users run them, on sound devices that PulseAudio provides. The delay is where the
cross-correlation of ear and room peaks; intelligibility is STOI against the offline codec on what the microphone program captured: the same
sound begun one sample later has other codes, so the clip itself would measure that instead.

Each stage's share is what the player's ledger says of the packets of that while; what the sound server adds in front of the microphone's
program is found by comparing what it kept, and when it says that it captured it, with the room.
"""
