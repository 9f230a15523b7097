"""The page in a real Chromium: how long the codec's steps take there, what a browser downloads before it hears, and how late it hears.

Everything but mouth to ear runs with Chromium on one processor, all of its processes together; the server and what publishes to it have
the others. The codec is the page's own code in a worker of the page; the bandwidth of 10 Mbit/s is `benchmarks.link`'s, shared by all
connections; the first sound is the first sample that is not silent on its way to the speaker, found on the audio thread.

Mouth to ear runs on the virtual sound cards of `benchmarks.mouth_to_ear`, Python to Python and page to page, one after the other: two
Chromiums take the places of `streamcodec mic` and `streamcodec play`. Both recorders read one sound server's clock, so no program's own
clock enters the delay.
"""
