"""The benchmark: what the gateway costs, as ratios within one interleaved run. `make bench`."""
