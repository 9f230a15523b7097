"""What ours is compared with: the reference packages with the full-size 24 kHz architecture and Mimi, with random weights; and Lyra V2.

Weights decide what a model says, not how long it takes; the published ones are not needed for a clock.
"""

from benchmarks.peers.packages import Peer, encodec_peer, has_mimi, mimi_peer, naive, transformers_peer

__all__ = ["Peer", "encodec_peer", "has_mimi", "mimi_peer", "naive", "transformers_peer"]
