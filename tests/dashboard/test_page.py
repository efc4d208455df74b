"""What the server answers to the questions that the page asks: over damaged files, on an object store, while it grows.

No browser: the questions are sent as the page sends them.
"""

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from vaegen_ray.dashboard import watch
from vaegen_ray.results import declaration
from vaegen_ray.results.schema import VERSION_KEY
from vaegen_ray.results.shards import ShardStore
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service.sampling.leases import LeaseTable
from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec
from vaegen_ray.spec.trial import TrialSpec, bundle_id

from .conftest import BUNDLES, SPECS, SWEEP, status

VIEWS = ("", "/curves", "/table", "/failed")
DIGEST = "0123456789abcdef0123"
STREAM = StreamSpec(diffusion=DiffusionSpec(levels=17), shard_size=100, batch_size=50)


@pytest.fixture(autouse=True)
def read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question reads, to its end."""
    monkeypatch.setattr(watch, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", None)


class Page:
    """Asks a server as the page does."""

    def __init__(self, address: str) -> None:
        self.address = address
        with urllib.request.urlopen(f"{address}/_dash-dependencies") as answer:
            self._callbacks = json.load(answer)

    def ask(self, output: str, **values: Any) -> Any:
        """The answer of the callback that has ``output``; ``values`` are those of its inputs, by their ids."""
        made = next(each for each in self._callbacks if output in each["output"].strip(".").split("..."))
        known = {"url": f"/sweep/{SWEEP}", "sort": ["", False], "chosen": [], "page": 0, **values}
        parts = [
            dict(zip(("id", "property"), one.rsplit(".", 1), strict=True))
            for one in made["output"].strip(".").split("...")
        ]
        filled = {
            kind: [{**each, "value": known.get(each["id"])} for each in made[kind]] for kind in ("inputs", "state")
        }
        asked = {
            "output": made["output"],
            "outputs": parts if len(parts) > 1 else parts[0],
            **filled,
            "changedPropIds": [],
        }
        request = urllib.request.Request(f"{self.address}/_dash-update-component", json.dumps(asked).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.loads(answer.read() or b"{}")

    def opened(self, path: str) -> str:
        """A page as it is when it opens, in JSON."""
        return json.dumps(self.ask("main.children", url=path)["response"]["main"]["children"], ensure_ascii=False)

    def sweeps(self) -> str:
        """The list of all sweeps."""
        return json.dumps(self.ask("sweeps.children")["response"]["sweeps"]["children"], ensure_ascii=False)

    def head(self) -> tuple[str, str | None]:
        """What a tick shows of the sweep, and its version, where that has changed."""
        said = self.ask("state.children")["response"]
        return json.dumps(said["state"]["children"], ensure_ascii=False), said.get("version", {}).get("data")

    def pools(self) -> list[list[str]]:
        """The words of the table of pools."""
        made = self.ask("pools.children")["response"]["pools"]["children"]
        body = made["props"]["children"]["props"]["children"][1]["props"]["children"]
        return [[cell["props"]["children"] for cell in row["props"]["children"]] for row in body]


DAMAGE: dict[str, Any] = {
    "sweep.json": ["{", "[]", '"small"', '{"trials": 7}', '{"trials": [], "trial_ids": ["a"]}', '{"trials": [[1]]}'],
    "status.json": [
        "{",
        "[]",
        '{"time": 1e300, "pools": 7}',
        '{"time": Infinity, "seconds_left": NaN}',
        '{"time": true}',
        '{"time": -9e10}',
    ],
}


@pytest.mark.parametrize(("file", "text"), [(file, text) for file, texts in DAMAGE.items() for text in texts])
def test_a_damaged_file_hides_neither_its_sweep_nor_the_others(
    serve: Callable[..., str], trained: Path, tmp_path: Path, file: str, text: str
) -> None:
    for name in (SWEEP, "whole"):
        shutil.copytree(trained / SWEEP, tmp_path / name)
    (tmp_path / SWEEP / file).write_text(text)
    page = Page(serve(tmp_path))
    sweeps = page.sweeps()
    assert all(name in sweeps for name in (SWEEP, "whole")) and "6 of 6 VAEs done" in sweeps
    for view in VIEWS:
        assert "VAEs done" in page.opened(f"/sweep/{SWEEP}{view}"), view
    if text in ("{", "[]"):
        assert f"{SWEEP}/{file}" in page.head()[0]


@pytest.mark.parametrize("facts", [{"machine": [1], "options": 7}, {"devices": {"count": 2}}, {"code_version": {}}])
def test_facts_of_another_shape_are_left_out(
    serve: Callable[..., str], trained: Path, tmp_path: Path, facts: dict[str, Any]
) -> None:
    shutil.copytree(trained / SWEEP, tmp_path / SWEEP)
    file = tmp_path / SWEEP / "sweep.json"
    before = {name: part for name, part in json.loads(file.read_text()).items() if name != declaration.DIGEST}
    file.write_text(json.dumps({**before, **facts}))
    assert "6 / 6" in Page(serve(tmp_path)).opened(f"/sweep/{SWEEP}")


def test_a_sweep_of_a_later_version_says_so_and_hides_no_other(
    serve: Callable[..., str], trained: Path, tmp_path: Path
) -> None:
    for name in (SWEEP, "whole"):
        shutil.copytree(trained / SWEEP, tmp_path / name)
    file = next((tmp_path / SWEEP / "trials").iterdir())
    pq.write_table(pq.read_table(file).replace_schema_metadata({VERSION_KEY: "99"}), file)
    sweeps = Page(serve(tmp_path)).sweeps()
    assert "schema version 99" in sweeps and "6 of 6 VAEs done" in sweeps


def test_a_folder_whose_name_is_none_of_ours_is_left_out(
    serve: Callable[..., str], trained: Path, tmp_path: Path
) -> None:
    for name in (SWEEP, "my results"):
        shutil.copytree(trained / SWEEP, tmp_path / name)
    sweeps = Page(serve(tmp_path)).sweeps()
    assert "6 of 6 VAEs done" in sweeps and "my results" not in sweeps


def test_figures_and_given_up_bundles_are_shown_when_they_come(serve: Callable[..., str], growing: Any) -> None:
    store, add = growing
    for number in range(2):
        add(number)
    page = Page(serve(store.storage.root))
    first = page.head()[1]
    assert page.ask("state.children", version=first)["response"].get("version") is None
    store.write_figure("small.png", b"picture")  # the driver draws when the last row is written
    drawn = page.head()[1]
    assert drawn != first
    assert "small.png" in json.dumps(page.ask("paper.children")["response"])
    store.write_given_up(bundle_id(BUNDLES[2]), [spec.trial_id for spec in BUNDLES[2]], "the disk is full", 4)
    head, version = page.head()
    assert version != drawn and "A bundle was given up" in head and "the disk is full" in head
    assert "the disk is full" in json.dumps(page.ask("failed.children")["response"])


def test_given_up_are_trials_that_are_still_declared(serve: Callable[..., str], growing: Any) -> None:
    store, add = growing
    add(0)
    store.write_given_up("0" * 16, [TrialSpec(nc=3).trial_id], "of an earlier declaration", 4)
    store.storage.write(
        f"{SWEEP}/given-up/{'1' * 16}.json",
        json.dumps(
            {"trial_ids": [SPECS[2].trial_id], "reason": "of all times", "tries": 1, "time": float("inf")}
        ).encode(),
    )
    page = Page(serve(store.storage.root))
    said = page.opened(f"/sweep/{SWEEP}/failed")
    assert "of all times" in said and "of an earlier declaration" not in said


def test_a_fault_of_the_page_is_said_on_it(
    serve: Callable[..., str], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaegen_ray.dashboard import plots

    def broken(*_: Any) -> Any:
        raise KeyError("a column")

    page = Page(serve(trained))
    monkeypatch.setattr(plots, "over_axis", broken)
    said = page.ask("figure.figure", x="nc", y="elbo_test", colour="method")
    assert "KeyError" in said["sideUpdate"]["problem"]["children"]


def test_a_storage_that_cannot_be_read_is_said_until_it_can(
    serve: Callable[..., str], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaegen_ray.errors import StorageError

    page, stamps = Page(serve(trained)), Storage.stamps

    def gone(storage: Storage, *where: str) -> Any:
        raise StorageError("the network is gone")

    monkeypatch.setattr(Storage, "stamps", gone)
    assert "the network is gone" in page.head()[0] and "the network is gone" in page.sweeps()
    monkeypatch.setattr(Storage, "stamps", stamps)
    assert "6 / 6" in page.head()[0] and "6 of 6 VAEs done" in page.sweeps()


def test_many_failed_trials_are_not_all_sent(serve: Callable[..., str], tmp_path: Path) -> None:
    from vaegen_ray.results.schema import trial_row

    store = SweepStore(Storage.open(tmp_path), SWEEP)
    rows = [
        trial_row(TrialSpec(seed=seed), sweep=SWEEP, bundle_id="b", status="failed", error=f"reason {seed}")
        for seed in range(300)
    ]
    store.commit_trials("b", rows)
    said = Page(serve(tmp_path)).opened(f"/sweep/{SWEEP}/failed")
    assert said.count("reason ") == 200 and "The first 200 of 300" in said


# -- sampler pools --------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(growing: Any) -> tuple[SweepStore, ShardStore]:
    """A sweep that is running and reads a stream of three shards."""
    store, add = growing
    add(0)
    shards = ShardStore(store.storage, DIGEST, shape=STREAM.shard_shape, levels=STREAM.diffusion.levels)
    shards.write_facts({"stream": STREAM.as_dict()})
    for number in range(3):
        store.storage.write(shards.path(number), b"")
    store.write_status(status(pools={DIGEST: {}}))
    return store, shards


def pool_state(now: float = 0.0, **more: Any) -> dict[str, Any]:
    """What a coordinator writes (``ShardCoordinator.state``): one reader waits, one has two shards ahead."""
    table = LeaseTable(stored={0, 1, 2}, ahead=2)
    table.want("first", 3, 9, now)
    table.lease(3, "sampler-1", now)
    table.want("second", 1, 9, now)
    table.forget("first") if more.pop("nobody_waits", False) else None
    state = {"samplers": 2, "shards": 3, "making": sorted(table.leases), "readers": len(table.readers)}
    state |= {"depth": table.compute_depth(), "shards_waited_for": table.list_waited_for(), "fault": None}
    return {"time": time.time(), **state, "images_per_second": 1234.5, "waited_seconds": 61.25, **more}


def test_a_pool_at_work_says_what_lies_ready_how_fast_it_is_and_who_waits(
    serve: Callable[..., str], stream: tuple[SweepStore, ShardStore]
) -> None:
    store, shards = stream
    page = Page(serve(store.storage.root))
    of = f"{STREAM.diffusion.n_train:,} images of digits"
    assert page.pools() == [[DIGEST[:8], of, "never ran", "300", "–", "–", "0", "0", "0.0 s"]]
    shards.write_status(pool_state())
    wanted = [DIGEST[:8], of, "makes 1 shard", "300", "0 images", "1,234", "2", "2", "61.2 s, now for 1 shard"]
    assert page.pools() == [wanted]
    assert all(word in page.head()[0] for word in ("makes 1 shard", "1,234"))  # beside the sweep that reads it, too
    shards.write_status(pool_state(nobody_waits=True))
    assert page.pools()[0][4:] == ["200 images", "1,234", "2", "1", "61.2 s"]
    shards.write_status(pool_state(making=[]))
    assert page.pools()[0][2] == "rests" and page.pools()[0][5] == "0"
    shards.write_status(pool_state(fault="the storage is full"))
    assert page.pools()[0][2] == "at fault: the storage is full"
    shards.write_status(pool_state(time=time.time() - 3600))
    line = Page(serve(store.storage.root)).pools()[0]
    assert line[2].startswith("ended ") and line[3:8] == ["300", "–", "–", "0", "0"]


def test_the_clock_of_a_pool_may_be_another(serve: Callable[..., str], stream: tuple[SweepStore, ShardStore]) -> None:
    store, shards = stream
    page = Page(serve(store.storage.root))
    for at, state in ((time.time() + 7200, "ended"), (time.time() + 7202, "makes")):
        shards.write_status(pool_state(time=at))
        assert page.pools()[0][2].startswith(state)


@pytest.mark.parametrize(
    "written",
    [
        b"{",
        b"[]",
        b'{"time": "now"}',
        b'{"time": 1e300}',
        b'{"time": NOW, "depth": "x", "shards": null}',
        b'{"time": NOW, "making": 3, "shards_waited_for": 2, "images_per_second": null, "samplers": "two"}',
    ],
)
def test_a_damaged_status_of_a_pool_is_no_fault_of_the_page(
    serve: Callable[..., str], stream: tuple[SweepStore, ShardStore], written: bytes
) -> None:
    store, _ = stream
    page = Page(serve(store.storage.root))
    store.storage.write(f"samples/{DIGEST}/status.json", written.replace(b"NOW", str(time.time()).encode()))
    store.storage.write("samples/other/stream.json", b"[]")
    words = {line[0]: line[1:] for line in page.pools()}
    assert words["other"][0] == "damaged" and (words[DIGEST[:8]][2:3] in (["300"], ["–"]))
    assert "6 / 6" not in page.head()[0] and "2 / 6" in page.head()[0]


# -- an object store ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URI of a folder of a bucket of an S3 server on this machine."""
    moto = pytest.importorskip("moto.moto_server.threaded_moto_server", reason="the S3 server is moto[server]")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    where = "{}:{}".format(*server.get_host_and_port())
    urllib.request.urlopen(urllib.request.Request(f"http://{where}/bucket", method="PUT")).close()
    yield f"s3://key:Sesame99@bucket/runs?scheme=http&endpoint_override={where}&region=us-east-1"
    server.stop()


def test_an_object_store_is_shown_as_a_folder_is(
    serve: Callable[..., str], trained: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage.open(s3)
    page = Page(serve(s3))
    assert "No sweep in s3://bucket/runs yet." in page.sweeps()
    for file in sorted(each for each in trained.rglob("*") if each.is_file()):
        if "trials" not in file.parts:
            storage.write(str(file.relative_to(trained)), file.read_bytes())
    store, shards = SweepStore(storage, SWEEP), ShardStore(storage, DIGEST, shape=STREAM.shard_shape, levels=17)
    shards.write_facts({"stream": STREAM.as_dict()})
    shards.write_status(pool_state())
    store.write_status(status(pools={DIGEST: {}}))
    store.write_figure("small.png", b"picture")
    head, version = page.head()
    assert "0 / 6" in head and "makes 1 shard" in head
    for file in sorted((trained / SWEEP / "trials").iterdir()):
        storage.write(f"{SWEEP}/trials/{file.name}", file.read_bytes())
    assert page.head()[1] != version and "6 of 6 VAEs done" in page.sweeps()
    for view in VIEWS:
        assert "6 / 6" in page.opened(f"/sweep/{SWEEP}{view}")
    assert page.pools()[0][0] == DIGEST[:8]
    with urllib.request.urlopen(f"{page.address}/figures/{SWEEP}/small.png") as answer:
        assert answer.read() == b"picture"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{page.address}/figures/{SWEEP}/absent.png")
    assert caught.value.code == 404
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "stamps", None)  # nobody works on it: the list of all sweeps does not read it again soon
        assert "6 of 6 VAEs done" in page.sweeps()
    for path in ("/", f"/sweep/{SWEEP}", "/_dash-layout"):
        with urllib.request.urlopen(page.address + path) as answer:
            assert b"Sesame99" not in answer.read()
