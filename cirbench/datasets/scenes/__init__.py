"""scenes: a rendered benchmark for composed image retrieval with complete ground truth."""
