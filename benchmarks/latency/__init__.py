"""Where the time goes: every packet's way from the microphone to the device, stage by stage, on networks good and bad.

Publisher, server, listeners and their devices are the real programs' own parts, in two processes; the device is a thread that pulls blocks
of 5 ms from the adaptive playout buffer, by a clock that may drift. Each case is a run; cases merge into one section.

Networks are made by a TCP proxy in the clients' process; with `--netns` by the kernel, which takes root and a kernel with netem.
"""
