"""A whole cluster in one process, with a clock of its own: what needs two things to go wrong together is found here.

N agents, the product's own code down to its HTTP session, work on a simulated API server (`store`, `api`), whose
controllers, kubelets, CSI driver and movers own the data (`storage`, `controllers`, `nodes`). A seed chooses the
moves and the faults (`people`, `faults`, `network`); `invariants` says what is wrong, at every change and at the end.

    python -m tests.simulation.simulation 42 --trace     one seed, request by request
    python -m tests.simulation.mutants                   each mending taken back, and the seed that finds it
    python -m tests.simulation.soak 1000                 many seeds, and which fault met which phase

`clock` is virtual time: the product's modules read `time`, `datetime`, `random` and `uuid` of the simulation while it
runs. `transport` is the one place that knows the product's Kubernetes client.

Seeds that find what was mended, when each mending is taken back (moves and faults of each: `mutants.HUNTS`):

    A1   1    the storage snapshot goes with the original content, whose Retain was never written
    A2   0    a restore whose data is in its target is reported lost
    A3   1    a relist fails a backup that began while it ran
    A4   8    a DataUpload deleted while it waits leaves its snapshot
    A12  4    a late answer resurrects a move that is deleted
    A13  2    a move made anew under its name leaves a slot of the node taken
    F1   0    somebody else's volume is backed up in place of the source
    F5   0    the volume of a pod made anew is backed up in place of the first one's
    F6   0    a ready snapshot is thrown away because its source is gone
"""
