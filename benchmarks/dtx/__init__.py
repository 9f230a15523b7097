"""Thinned silence: what `silence_db` saves on the wire, and whether the far end stays natural.

Speech with pauses, in a silent room and in noisier ones, is sent whole and again with few of the quiet packets, of one codebook each, and
comfort noise in place of the others; both are decoded as a recording is and compared. In process, on real codes; no network and no clock.
"""
