"""What people run: a microphone, a player and a demo, all made of `streamcodec.client`. The wheel carries them as `streamcodec_clients`."""
