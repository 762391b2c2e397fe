"""The contract tried by strangers' tools and strangers' answers: briefly in the suite, at length by `make fuzz`."""
