"""What a move is and what follows: custom resources, phases, steps, patches. Pure: no I/O, no clock."""
