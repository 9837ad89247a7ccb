"""Section 3: the network, its layers, and the columns it is split into."""
