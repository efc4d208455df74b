"""Storage on an S3 server with faults."""

import hashlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

import vaegen_ray
from vaegen_ray.errors import SpecError, StorageError
from vaegen_ray.results import query
from vaegen_ray.results import storage as module
from vaegen_ray.results.file_systems import S3_ATTEMPTS
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore

PART = 10 * 2**20
"""pyarrow sends a file in parts of so many bytes."""
ROOT = Path(vaegen_ray.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def refused(s3, call: Callable[[], object]) -> str:
    """The message of the error that a call ends with: one line without credentials."""
    with pytest.raises(StorageError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and "Sesame99" not in text
    return text


WRITE = (
    "import sys; from vaegen_ray.results.storage import Storage\n"
    "Storage.open(sys.argv[1]).write('x', b'new' * int(sys.argv[2]))"
)


def test_a_kill_between_two_parts_of_an_upload_leaves_the_old_file(s3):
    uri = s3.uri(s3.bucket())
    storage = Storage.open(uri)
    storage.write("x", b"old")
    parts: list[str] = []
    writers: list[subprocess.Popen] = []

    def fault(method: str, path: str) -> object:
        if "partNumber" in path:
            parts.append(path)
            if len(parts) == 2:
                writers[0].kill()
        return None

    s3.fault = fault
    writers.append(subprocess.Popen([sys.executable, "-c", WRITE, uri, str(PART)], env=ENVIRONMENT))  # three parts
    assert writers[0].wait(timeout=600) == -signal.SIGKILL
    assert storage.read("x") == b"old" and storage.list() == ["x"]
    s3.fault = lambda method, path: None
    storage.write("x", b"new" * PART)
    assert storage.read("x") == b"new" * PART


@pytest.mark.parametrize("size", [1, PART])  # one request, or an upload in three parts
def test_a_connection_cut_in_the_middle_of_an_upload_leaves_the_old_file(s3, size: int):
    storage = Storage.open(s3.uri(s3.bucket()))
    storage.write("x", b"old")
    s3.fault = lambda method, path: s3.Cut() if method == "PUT" else None
    assert "the connection was lost" in refused(s3, lambda: storage.write("x", b"new" * size))
    s3.fault = lambda method, path: None
    assert storage.read("x") == b"old"


def test_one_cut_connection_is_nobodys_business(s3):
    storage = Storage.open(s3.uri(s3.bucket()))
    cuts = iter([s3.Cut()])
    s3.fault = lambda method, path: next(cuts, None) if method == "PUT" else None
    storage.write("x", b"new" * 1000)
    assert storage.read("x") == b"new" * 1000
    assert [method for method, _ in s3.requests].count("PUT") == 2


def test_a_file_that_grows_while_it_is_read_is_read_whole(s3):
    bucket = s3.bucket()
    storage = Storage.open(s3.uri(bucket))
    storage.write("x", b"short")
    other = Storage.open(s3.uri(bucket, endpoint_override=s3.server))
    texts = iter([b"a longer text", b"one that is longer still"])

    def fault(method: str, path: str) -> None:
        if method == "GET" and (text := next(texts, None)):
            other.write("x", text)

    s3.fault = fault
    assert storage.read("x") == b"one that is longer still"


def test_a_file_that_never_stays_the_same_is_given_up(s3):
    bucket = s3.bucket()
    storage = Storage.open(s3.uri(bucket))
    storage.write("x", b"0")
    other = Storage.open(s3.uri(bucket, endpoint_override=s3.server))

    def fault(method: str, path: str) -> None:
        if method == "GET":
            other.write("x", str(len(s3.requests)).encode() * len(s3.requests))

    s3.fault = fault
    assert "it was replaced 10 times while it was read" in refused(s3, lambda: storage.read("x"))


def test_a_file_whose_etag_is_no_md5_is_read(s3, monkeypatch):
    """As an object is that a key of the store encrypts; the MD5 of nothing stands for its ETag."""
    storage = Storage.open(s3.uri(s3.bucket()))
    storage.write("x", b"secret")
    monkeypatch.setattr(module, "hashlib", SimpleNamespace(md5=lambda data, **more: hashlib.md5(b"", **more)))
    assert storage.read("x") == b"secret"
    first = [method for method, _ in s3.requests].count("GET")
    assert storage.read("x") == b"secret"
    assert [method for method, _ in s3.requests].count("GET") == first + 2, "known now: two readings that agree"


def test_a_file_that_is_another_for_a_moment_is_read_whole(s3):
    """Size and ETag are the same before and after; in between the object is longer."""
    storage = Storage.open(uri := s3.uri(s3.bucket()))
    storage.write("x", b"short")
    other = Storage.open(uri.replace(s3.endpoint, s3.server))
    reads: list[str] = []

    def fault(method: str, path: str) -> None:
        if method in ("GET", "HEAD"):
            reads.append(method)
            other.write("x", b"a longer text" if reads == ["HEAD", "GET"] else b"short")

    s3.fault = fault
    assert storage.read("x") == b"short"
    assert reads.count("GET") >= 2, "the fault was never reached"


def test_readers_see_whole_files_while_two_write(s3):
    storage = Storage.open(s3.uri(s3.bucket()))
    storage.write("x", b"0" * 1000)

    def write(digit: int) -> None:
        for _ in range(10):
            storage.write("x", str(digit).encode() * (1000 * digit))

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, digit) for digit in (1, 2)]
        while not all(writer.done() for writer in writers):
            data = storage.read("x")
            assert len(set(data)) == 1 and len(data) == 1000 * max(1, int(data[:1]))
        for writer in writers:
            writer.result()
    assert storage.read("x") in (b"1" * 1000, b"2" * 2000)
    assert storage.list() == ["x"]


def test_the_probe_writes_reads_and_deletes(s3):
    bucket = s3.bucket()
    Storage.open(s3.uri(bucket)).probe()
    asked = [method for method, path in s3.requests if ".probe-" in path and bucket in path]
    assert asked[0] == "PUT" and "GET" in asked and asked[-1] == "DELETE"


ANSWERS = [
    (403, "AccessDenied", "access is denied; the credentials must be right, and need s3:ListBucket"),
    (403, "InvalidAccessKeyId", "the server does not know this access key; correct AWS_ACCESS_KEY_ID"),
    (403, "SignatureDoesNotMatch", "the secret key is not that of the access key; correct AWS_SECRET_ACCESS_KEY"),
    (400, "ExpiredToken", "the session token has expired; get new credentials"),
    (400, "InvalidToken", "the session token is not valid; correct AWS_SESSION_TOKEN"),
    (301, "PermanentRedirect", "the bucket is in another region, eu-west-1; name that region in the URI"),
    (400, "AuthorizationHeaderMalformed", "the bucket is in another region, eu-west-1; name that region in the URI"),
    (507, "XMinioStorageFull", "the store is full; make room"),
    (400, "XMinioAdminBucketQuotaExceeded", "the quota of the bucket is used up; delete objects"),
]


@pytest.mark.parametrize(("status", "code", "said"), ANSWERS)
def test_what_a_server_refuses_is_told_in_plain_words(s3, status: int, code: str, said: str):
    bucket = s3.bucket()
    storage = Storage.open(s3.uri(bucket))
    about = "the region is wrong; expecting 'eu-west-1'" if "region" in said else "as its documentation says"
    s3.fault = lambda method, path: s3.Answer(status, code, about)
    for verb, call in (("write", storage.probe), ("list", storage.list)):
        text = refused(s3, call)
        assert text.startswith(f"cannot {verb} s3://{bucket}/runs")
        assert said in text
    # an answer to HEAD has no text, so the status alone is known
    assert refused(s3, lambda: storage.read("x")).startswith(f"cannot read s3://{bucket}/runs/x: ")


def test_a_bucket_that_is_not_there_is_no_empty_storage(s3):
    storage = Storage.open(s3.uri("no-such-bucket"))
    assert "no-such-bucket/runs/.probe-" in (text := refused(s3, storage.probe))
    assert "there is no such bucket; make it first" in text
    for call in (storage.list, lambda: storage.folders("a"), lambda: query.load(storage, "s")):
        text = refused(s3, call)
        assert text == "cannot use storage s3://no-such-bucket/runs: there is no bucket 'no-such-bucket'; make it first"


def test_a_server_that_is_not_there_is_told_soon(s3):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # taken, so that nobody else listens there
        storage = Storage.open(s3.uri("bucket", endpoint_override=f"127.0.0.1:{port}"))
        text = refused(s3, storage.probe)
    assert f"nothing answers there (Failed to connect to 127.0.0.1:{port})" in text
    assert "correct endpoint_override" in text


@pytest.mark.slow
def test_a_host_that_does_not_exist_and_one_that_never_answers(s3):
    text = refused(s3, Storage.open(s3.uri("bucket", endpoint_override="host.invalid:9000")).probe)
    assert "there is no host of this name (Could not resolve host: host.invalid)" in text
    storage, ended = Storage.open(s3.uri(s3.bucket())), threading.Event()
    s3.fault = lambda method, path: ended.wait(timeout=300) and None
    assert "the server does not answer in time" in refused(s3, storage.probe)
    ended.set()
    assert len(s3.requests) == S3_ATTEMPTS


@pytest.mark.parametrize("key", ["se/cret", "se cret", "se%zzcret", "se#cret"])
def test_a_uri_that_cannot_be_read_keeps_its_secret(key: str):
    with pytest.raises(StorageError, match=r"cannot open storage s3://\*\*\*@bucket/runs") as caught:
        Storage.open(f"s3://key:{key}@bucket/runs?region=us-east-1")
    assert "cret" not in str(caught.value) and caught.value.__cause__ is None


def test_an_option_that_other_processes_would_lose_is_refused():
    with pytest.raises(SpecError, match="tls_verify_certificates cannot be in the URI") as caught:
        Storage.open("s3://key:Sesame99@bucket/runs?region=us-east-1&tls_verify_certificates=false")
    assert "Sesame99" not in str(caught.value)


def test_wrong_keys_and_a_bucket_that_is_read_only(s3, iam):
    bucket = s3.bucket()
    s3.ask("PUT", f"/{bucket}/runs/x", b"here")
    login = iam(["s3:GetObject", "s3:ListBucket"])
    reader = Storage.open(s3.uri(bucket, login=f"{login}@"))
    assert reader.read("x") == b"here" and reader.list() == ["x"]
    assert "access is denied; " in refused(s3, reader.probe)
    key = login.split(":")[0]
    assert "the secret key is not" in refused(s3, Storage.open(s3.uri(bucket, login=f"{key}:Sesame99@")).probe)
    assert "does not know this access key" in refused(s3, Storage.open(s3.uri(bucket, login="key:Sesame99@")).probe)


def test_more_objects_than_one_answer_lists(s3):
    from moto.s3.models import s3_backends

    bucket = s3.bucket()
    server = s3_backends["123456789012"]["aws"]
    for i in range(2100):
        server.put_object(bucket, f"runs/s/{'trials' if i % 2 else 'metrics'}/f{i:05d}.parquet", b"1")
    storage = Storage.open(s3.uri(bucket))
    assert storage.list("s/trials") == [f"f{i:05d}.parquet" for i in range(1, 2100, 2)]
    assert len(storage.sizes("s/metrics")) == 1050
    assert storage.folders("s") == ["metrics", "trials"]
    assert len({path for _, path in s3.requests if "list-type=2" in path and "trials" in path}) == 2


SENT = "import pickle, sys; pickle.load(sys.stdin.buffer).write('x', b'sent')"


@pytest.mark.parametrize("credentials", ["in the URI", "in the environment"])
def test_a_storage_works_in_another_process(s3, iam, monkeypatch, credentials: str):
    bucket = s3.bucket()
    login = iam(["s3:*"])
    if credentials == "in the URI":
        storage = Storage.open(s3.uri(bucket, login=f"{login}@"))
    else:
        key, secret = login.split(":")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret.replace("%2F", "/").replace("%2B", "+"))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3.endpoint}")
        storage = Storage.open(f"s3://{bucket}/runs?region=us-east-1")
    sent = pickle.dumps(storage)
    assert type(pickle.loads(sent).filesystem) is type(storage.filesystem)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", SENT], input=sent, env=environment, check=True, timeout=600)
    assert storage.read("x") == b"sent"


@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_a_sweep_that_is_put_aside_halfway_loses_nothing(s3, count: int):
    """Of three files none or two are copied, or all, and none or one is deleted."""
    storage = Storage.open(s3.uri(s3.bucket()))
    files = {f"s/{name}": name.encode() for name in ("metrics/a.parquet", "trials/a.parquet", "sweep.json")}
    for path, data in files.items():
        storage.write(path, data)
    s3.requests.clear()
    changes = 0

    def fault(method: str, path: str) -> object:
        nonlocal changes
        changes += method in ("PUT", "POST", "DELETE")
        return s3.Answer(403, "AccessDenied") if changes >= count else None

    s3.fault = fault
    refused(s3, SweepStore(storage, "s").archive)
    s3.fault = lambda method, path: None
    there = {p: storage.read_optional(p) for p in files}
    aside = {p: storage.read_optional(p.replace("s/", "s.old-1/", 1)) for p in files}
    assert there == files or aside == files
    SweepStore(storage, "s").archive()
    assert any(all(storage.exists(p.replace("s/", f"s.old-{n}/", 1)) for p in files) for n in (1, 2))


def test_what_a_bundle_asks_of_an_object_store(s3, trial, metric):
    store = SweepStore(Storage.open(s3.uri(s3.bucket())), "s")
    s3.requests.clear()
    store.read_checkpoint("b0")
    store.write_checkpoint_members("b0", ["t"])
    store.write_metrics("b0", 1, 4, [metric(0, 4)])
    store.write_model("b0", b"weights")
    store.commit_trials("b0", [trial(0)], store.written("b0"))
    store.delete_checkpoint("b0")
    methods = [method for method, _ in s3.requests]
    counts = {method: methods.count(method) for method in sorted(set(methods))}
    assert counts == {"DELETE": 1, "HEAD": 5, "PUT": 5}  # two to see that metrics and weights are there


VARIES = ["wall_seconds", "evaluation_seconds", "node", "finished_at", "code_version"]


def frames(results: query.Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    return results.trials.drop(columns=VARIES), results.metrics


@pytest.mark.slow
def test_a_sweep_in_an_object_store_has_the_rows_of_one_in_a_folder(s3, tmp_path: Path):
    uri = s3.uri(s3.bucket(), login="key:very-Sesame99@")
    command = [sys.executable, str(ROOT / "sweeps/double_descent.py"), "--preset", "smoke", "--storage"]

    def run(*arguments: str) -> tuple[int, str]:
        process = subprocess.Popen(list(arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        drivers.append(process)
        text, _ = process.communicate(timeout=400)
        assert "Traceback" not in text and "very-Sesame99" not in text, text
        return process.returncode, text

    drivers: list[subprocess.Popen] = []
    marks: list[str] = []

    def fault(method: str, path: str) -> None:
        if method == "PUT" and "/trials/" in path and ".parquet" in path:
            marks.append(path)
            if len(marks) == 2:
                drivers[-1].kill()

    s3.fault = fault
    code, text = run(*command, uri)
    assert code == -signal.SIGKILL, text
    assert 0 < len(query.load(uri, "double_descent").trials) < 12
    s3.fault = lambda method, path: None
    code, text = run(*command, uri)
    assert code == 0 and "more are done" in text, text
    code, text = run(*command, uri)
    assert code == 0 and "nothing to train: all 12 VAEs" in text, text
    assert run(*command, str(tmp_path))[0] == 0
    for got, wanted in zip(
        frames(query.load(uri, "double_descent")), frames(query.load(tmp_path, "double_descent")), strict=True
    ):
        pd.testing.assert_frame_equal(got, wanted, check_exact=True)
    vaegen = [sys.executable, "-c", "from vaegen_ray.cli import main; raise SystemExit(main())"]
    for arguments in (["results", "double_descent"], ["figure", "double_descent"]):
        code, text = run(*vaegen, *arguments, "--storage", uri)
        assert code == 0 and text, text
    storage = Storage.open(uri)
    assert storage.read("double_descent/figures/double_descent.png").startswith(b"\x89PNG")
    assert b"very-Sesame99" not in storage.read("double_descent/sweep.json")
