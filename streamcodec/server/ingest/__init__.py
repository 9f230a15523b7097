"""A publisher's packets on their way into a stream."""
