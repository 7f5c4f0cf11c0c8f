"""Object stores that are slow, away, full, or speak TLS with a private CA; and Velero's own check of its locations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.cluster import BACKUP, LOCATION, STATE
from tests.acceptance.flows import unique
from tests.acceptance.storages import bad_network, location, s3_server, small_disk
from tests.acceptance.uploads import stopwatch, upload

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.cluster import Cluster
    from tests.acceptance.flows import App

pytestmark = pytest.mark.usefixtures("ours")
_BYTES = "import os; open('/files/random', 'wb').write(os.urandom({} << 20)); os.sync()"


@pytest.mark.item("9.3.8")
@pytest.mark.alone
def test_slow_storage_is_waited_for_and_one_that_comes_back_is_found_again(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    name = unique("slow")
    (STATE / "var" / "s3" / name).mkdir()
    with bad_network(7091) as network, location(cluster, name, url=network.url):
        upload(cluster, source.namespace, "files", location=name).wait("Completed")  # makes the repository
        source.run(_BYTES.format(2))
        network.slow(latency_milliseconds=150, kibibytes_per_second=300)
        move = upload(cluster, source.namespace, "files", location=name)
        with move.held():
            move.wait("InProgress")
            network.connected(yes=False)
        network.connected(yes=True)
        with stopwatch() as taken:
            move.wait("Completed", seconds=120)
        record_property("2 MiB at 300 KiB/s, 150 ms late", f"{taken[0]} s")
    source.run("import os; os.remove('/files/random')")


@pytest.mark.item("9.3.8")
@pytest.mark.alone
def test_storage_that_stays_away_fails_the_move_with_a_message(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    name = unique("away")
    (STATE / "var" / "s3" / name).mkdir()
    with bad_network(7091) as network, location(cluster, name, url=network.url):
        upload(cluster, source.namespace, "files", location=name).wait("Completed")
        move = upload(cluster, source.namespace, "files", location=name)
        with move.held():
            move.wait("InProgress")
            network.connected(yes=False)
        with stopwatch() as taken:
            message = move.wait("Failed", seconds=60)["status"]["message"]
        network.connected(yes=True)
    assert name in message
    record_property("Failed after", f"{taken[0]} s")
    record_property("message", message[:200])


@pytest.mark.item("9.3.8")
@pytest.mark.alone
def test_full_storage_fails_the_move_with_a_message_and_serves_again_when_there_is_room(
    cluster: Cluster, source: App, record_property: Callable[[str, object], None]
) -> None:
    name = unique("full")
    with small_disk(name, "8m") as disk, s3_server(name, disk, 7092) as url, location(cluster, name, url=url):
        upload(cluster, source.namespace, "files", location=name).wait("Completed")
        source.run(_BYTES.format(12))
        move = upload(cluster, source.namespace, "files", location=name)
        move.wait("InProgress")
        with stopwatch() as taken:
            message = move.wait("Failed", seconds=90)["status"]["message"]
        record_property("Failed after", f"{taken[0]} s")
        record_property("message", message[:200])
        source.run("import os; os.remove('/files/random')")
        upload(cluster, source.namespace, "files", location=name).wait("Completed")


@pytest.mark.item("9.3.13")
def test_location_with_tls_and_a_private_ca(cluster: Cluster, source: App) -> None:
    name, pki = unique("tls"), STATE / "etc" / "pki"  # the API server's certificate names this address too
    flags = ("--cert", str(pki / "apiserver.crt"), "--key", str(pki / "apiserver.key"))
    ca = (pki / "ca.crt").read_bytes()
    with (
        s3_server(name, STATE / "var" / "s3-tls", 7093, *flags) as url,
        location(cluster, name, url=url, ca=ca),
    ):
        upload(cluster, source.namespace, "files", location=name).wait("Completed")


@pytest.mark.item("9.1.locations")
def test_location_is_checked_by_the_server(cluster: Cluster, source: App) -> None:
    name = unique("nobucket")
    with location(cluster, name, available=False):
        cluster.velero(
            "backup", "create", name, "--include-namespaces", source.namespace, "--storage-location", name
        )
        cluster.wait_phase(BACKUP, name, "FailedValidation")
        (STATE / "var" / "s3" / name).mkdir()
        cluster.wait("it is Available", lambda: cluster.phase(LOCATION, name) == "Available", 90)
        cluster.kubectl("delete", "backup", name, "-n", "velero")
