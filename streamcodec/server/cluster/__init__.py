"""Several servers as one: a stream that is published at one node is heard at every node, and can move between them."""
