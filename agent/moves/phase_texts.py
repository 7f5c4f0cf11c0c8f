"""What `status.message` says, per kind, in upstream's wording: alerts and articles match on it.

Source: Velero
`pkg/controller/{data_upload,data_download,pod_volume_backup,pod_volume_restore}_controller.go`; behaviour
only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Texts:
    """The sentences of one kind. `{…}` holes are filled by the functions below."""

    noun: str
    peek_noun: str
    expose_failed: str
    prepare_timeout: str
    not_ready: str
    data_path: str
    data_path_subject: str
    deleting: str


_TEXTS = {
    "DataUpload": Texts(
        noun="dataupload",
        peek_noun="du",
        expose_failed="error exposing snapshot",
        prepare_timeout="timeout on preparing data upload",
        not_ready="exposed snapshot is not ready",
        data_path="data path backup failed",
        data_path_subject="data upload",
        deleting="Cancel dataupload because it is being deleted",
    ),
    "DataDownload": Texts(
        noun="datadownload",
        peek_noun="datadownload",
        expose_failed="error to expose snapshot",
        prepare_timeout="timeout on preparing data download",
        not_ready="exposed snapshot is not ready",
        data_path="data path restore failed",
        data_path_subject="data download",
        deleting="Cancel datadownload because it is being deleted",
    ),
    "PodVolumeBackup": Texts(
        noun="PVB",
        peek_noun="PVB",
        expose_failed="error to expose PVB",
        prepare_timeout="timeout on preparing PVB",
        not_ready="exposed PVB is not ready",
        data_path="data path backup failed",
        data_path_subject="PVB",
        deleting="Cancel PVB because it is being deleted",
    ),
    "PodVolumeRestore": Texts(
        noun="PVR",
        peek_noun="PVR",
        expose_failed="error to expose PVR",
        prepare_timeout="timeout on preparing PVR",
        not_ready="exposed PVR is not ready",
        data_path="data path restore failed",
        data_path_subject="PVR",
        deleting="Cancel PVR because it is being deleted",
    ),
}


def texts_for(kind_name: str) -> Texts:
    """The sentences of a kind, by its API name."""
    return _TEXTS[kind_name]
