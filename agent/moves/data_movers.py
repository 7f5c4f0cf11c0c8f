"""The names in `spec.datamover` that Velero's own server writes, and which of them can be served. Pure.

Until 1.18 the server left the field empty or wrote `velero`; since 1.19 it writes `velero-fs` or
`velero-block` into every DataUpload and DataDownload (Velero `pkg/util/datamover/datamover.go`,
`pkg/controller/backup_controller.go`). Empty and `velero` mean the default of the release that wrote them,
which has been the file system mover in every release.
"""

from __future__ import annotations

FILE_SYSTEM_MOVERS = frozenset({"", "velero", "velero-fs"})
BLOCK_MOVER = "velero-block"
BUILT_IN_MOVERS = FILE_SYSTEM_MOVERS | {BLOCK_MOVER}
