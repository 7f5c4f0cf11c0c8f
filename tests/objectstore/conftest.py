"""A real server of each object store for each session of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import real_program
from tests.objectstore.azure import AzureServer, azure_server
from tests.objectstore.bad_network import BadNetwork, bad_network
from tests.objectstore.gcs import GcsServer, gcs_server
from tests.objectstore.servers import S3Server, make_certificate, s3_server
from tests.programs import AZURE_SERVER, BAD_NETWORK, GCS_SERVER, S3_SERVER


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """versitygw over plain HTTP."""
    with s3_server(real_program(S3_SERVER), tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_with_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """versitygw with a certificate of an authority of our own."""
    directory: Path = tmp_path_factory.mktemp("s3-with-tls")
    certificate = make_certificate(directory)
    with s3_server(real_program(S3_SERVER), directory, certificate) as server:
        yield server


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    """Azurite."""
    with azure_server(real_program(AZURE_SERVER), tmp_path_factory.mktemp("azure")) as server:
        yield server


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    """fake-gcs-server."""
    with gcs_server(real_program(GCS_SERVER), tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture(scope="session", name="bad_network")
def _bad_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BadNetwork]:
    """toxiproxy."""
    with bad_network(real_program(BAD_NETWORK), tmp_path_factory.mktemp("toxiproxy")) as network:
        yield network
