"""The files of the benchmarks: planned, fetched, and checked."""
