"""The control loop: caches, observe, decide (by `moves`), act; jobs, slots and the memory of each move."""
