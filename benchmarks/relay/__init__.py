"""One stream of codes to many listeners, on the same cores as they: what all get, how late, and what newcomers are told beyond that.

Listeners join within seconds, stay, and half as many again come on top. A listener's packet falls due when its last sample is captured; it
is late by the time from there until the listener's process has read it. Every packet must come, or a gap must name it; whoever says hello
must be answered. The listeners are as cheap as may be, since they share the processors with the server.
"""
