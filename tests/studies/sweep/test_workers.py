"""The same bits in any process that evaluates points."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from labctl.data.models import load_network
from labctl.errors import LabctlError, SettingError, UsageError
from labctl.studies.sweep import single_thread
from labctl.studies.sweep.infer_task import InferSettings, InferTask
from labctl.studies.sweep.sweep_file import Sweep
from labctl.studies.sweep.workers import TlsFiles, cluster, here, processes

Read = Callable[[str], Sweep]
Run = Callable[..., dict[str, dict[str, Any]]]
SESSIONS = """\
name = "sessions"
task = "infer"
seed = 3
zip = ["sample", "images"]

[axes]
gain = [1.1, 1.5]
sample = ["measured", "all"]
images = [8, 1]
"""


@pytest.fixture
def blas_as_before() -> Iterator[None]:
    """Give this process its BLAS threads back after it was a cluster's worker."""
    before = max((info["num_threads"] for info in threadpool_info()), default=1)
    yield
    threadpool_limits(before)


@pytest.mark.usefixtures("blas_as_before")
def test_here_in_processes_and_on_a_cluster_the_bits_are_the_same(
    swept: Read, run_all: Run, tmp_path: Path
) -> None:
    distributed = pytest.importorskip(
        "distributed", reason="Dask is not installed (extra test-full)"
    )
    sweep = swept(SESSIONS)
    alone = run_all(sweep, tmp_path / "here.jsonl")
    with threadpool_limits(3):
        assert run_all(sweep, tmp_path / "threads.jsonl") == alone
    assert run_all(sweep, tmp_path / "processes.jsonl", processes(2)) == alone
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        dashboard_address=None,
        worker_dashboard_address=None,
    ) as local:
        on_cluster = cluster(local.scheduler_address)
        assert run_all(sweep, tmp_path / "cluster.jsonl", on_cluster) == alone
    assert all(values["verdict_accepted"] in (None, True) for values in alone.values())


def test_a_point_is_the_session_that_infer_runs(swept: Read, run_all: Run, tmp_path: Path) -> None:
    from labctl.cli.choices import images_of
    from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
    from labctl.protocols.settings import Light
    from labctl.run.inference import run_inference
    from labctl.run.request import ModeRun

    text = 'name = "one"\ntask = "infer"\n[settings]\nimages = 3\ngain = 1.4\nmean_photons = 0.8\n'
    sweep = swept(text)
    (values,) = run_all(sweep, tmp_path / "r.jsonl").values()
    report = run_inference(
        ModeRun(
            network=load_network("noise-aware"),
            images=images_of(None, 3),
            runs=tmp_path / "runs",
            light=Light(0.8),
            receiver=CloneReceiver(1.4, 1.0, IDEAL_HOMODYNE),
            seed=sweep.points[0].seed,
        )
    )
    assert values["accuracy"] == report.accuracy
    assert values["signal_to_noise"] == report.signal_to_noise
    assert values["weights_bits_per_real"] == report.leakage.weights_bits_per_real
    assert values["honest_excess_noise"] == report.leakage.excess_noise
    # The command line's own products may run on other threads: not the last bit.
    found = report.verification.excess_noise
    assert values["verdict_excess_noise"] == pytest.approx(found, abs=1e-6)


def test_the_tasks_name_every_value_that_they_return() -> None:
    task = InferTask()
    values = task.run(InferSettings(images=2, sample="measured"), 0)
    assert sorted(values) == sorted(task.values)
    assert set(task.headline) <= set(task.values)


@pytest.mark.parametrize("number", [0, -1, 257])
def test_a_wrong_number_of_processes_is_refused(number: int) -> None:
    with pytest.raises(SettingError, match="1 to 256"):
        processes(number)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1:70000"])
def test_where_no_scheduler_answers_is_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed (extra test-full)")
    monkeypatch.setattr("labctl.studies.sweep.workers._CONNECT_S", 0.2)
    with (
        pytest.raises(SettingError, match="address of a running Dask scheduler"),
        cluster(address)(1),
    ):
        pytest.fail("it connected")


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'labctl\[cluster\]'"):
        cluster("tcp://127.0.0.1:8786")


def test_nothing_is_evaluated_on_more_than_one_blas_thread() -> None:
    def counts() -> set[int]:
        return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}

    with threadpool_limits(2):
        before = counts()
        with here(1):
            assert counts() == {1}
        assert counts() == before


def test_blas_that_keeps_its_threads_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn:
        def limit(self, *, limits: int) -> None:
            assert limits == 1

        def info(self) -> list[dict[str, object]]:
            return [{"user_api": "blas", "num_threads": 4}]

    monkeypatch.setattr(single_thread, "_libraries", Stubborn)
    with pytest.raises(LabctlError, match="BLAS keeps 4 threads"):
        single_thread.keep_single_threaded()


@pytest.fixture
def own_authority(tmp_path: Path) -> TlsFiles:
    """Make a certificate that signs itself, by the openssl program."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the program openssl is not installed")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    options = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    places = ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"]
    subprocess.run([openssl, *options, *places, "-days", "2"], check=True, capture_output=True)
    return TlsFiles(certificate, certificate, key)


@pytest.mark.usefixtures("blas_as_before")
def test_a_cluster_that_demands_encryption_is_reached_with_certificates_alone(
    swept: Read, run_all: Run, tmp_path: Path, own_authority: TlsFiles
) -> None:
    distributed = pytest.importorskip(
        "distributed", reason="Dask is not installed (extra test-full)"
    )
    text = 'name = "one"\ntask = "infer"\n[settings]\nimages = 3\ngain = 1.4\nmean_photons = 0.8\n'
    sweep = swept(text)
    security = distributed.Security(
        require_encryption=True,
        tls_ca_file=str(own_authority.authority),
        **{
            f"tls_{who}_{what}": str(path)
            for who in ("scheduler", "worker", "client")
            for what, path in (("cert", own_authority.certificate), ("key", own_authority.key))
        },
    )
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        worker_dashboard_address=None,
        protocol="tls://",
        security=security,
    ) as local:
        assert local.scheduler_address.startswith("tls://")
        found = run_all(
            sweep, tmp_path / "a.jsonl", cluster(local.scheduler_address, own_authority)
        )
        assert found == run_all(sweep, tmp_path / "b.jsonl")
        with pytest.raises(SettingError, match="--scheduler"), cluster(local.scheduler_address)(1):
            pass


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"--tls-ca = .*none\.pem"):
        TlsFiles(tmp_path / "none.pem", tmp_path / "none.pem")
