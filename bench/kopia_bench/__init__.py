"""The comparison of `mover` with `kopia`: data, measured processes, scenes, table."""
