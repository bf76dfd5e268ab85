"""The files of the benchmarks: planned, fetched, checked and described."""
