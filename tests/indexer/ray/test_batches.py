"""What goes to nodes and what comes back, without Ray: batches, faults of photos, faults of nodes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from tests.support.shop import SPECS, PixelEncoder, Shop
from threadmatch.indexer.catalogue.decoding.pool import Same
from threadmatch.indexer.errors import IndexerError
from threadmatch.indexer.ingest_options import IngestOptions, RayNodes
from threadmatch.indexer.making import Made, Wanted
from threadmatch.indexer.ray import worker
from threadmatch.indexer.ray.maker import BATCHES_EACH, RayMaker
from threadmatch.indexer.ray.worker import Answer, Job, Refused, make_batch
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.features import Encoder
from threadmatch.model.inference import Model
from threadmatch.service.galleries.filling import ingest


class HereTasks:
    """Runs a batch when it is waited for, in this process, from a copy of what a node would be sent.

    Args:
        node: what a node does in place of `make_batch`.
    """

    def __init__(self, node: Callable[[Job, Sequence[Wanted]], list[Answer]] = make_batch) -> None:
        self.sizes: list[int] = []
        self.node, self.nodes = node, 3

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def cpus(self) -> int:
        return self.nodes

    def send(self, job: Job, photos: Sequence[Wanted]) -> object:
        self.sizes.append(len(photos))
        return copy.deepcopy((job, photos))

    def wait(self, sent: object) -> list[Answer]:
        assert isinstance(sent, tuple)
        return self.node(*sent)


@pytest.fixture(autouse=True)
def no_maker_stays() -> Iterator[None]:
    """A test process is no worker process: its decoder ends with the test."""
    yield
    for key in list(worker._makers):
        worker._makers.pop(key).__exit__()


def maker(shop: Shop, tasks: HereTasks, opens: Callable[[], Encoder] = PixelEncoder) -> RayMaker:
    options = IngestOptions(batch_size=3, ray=RayNodes(address="auto", opens=opens))
    return RayMaker(shop.images, PixelEncoder(), options, SPECS, tasks=tasks)


def wanted(image: str, known: frozenset[str] = frozenset()) -> Wanted:
    return Wanted(image, image, "", known)


def test_a_batch_is_sent_when_it_is_full_or_waited_for(shop: Shop) -> None:
    shop.rows(8)
    with maker(shop, tasks := HereTasks()) as making:
        begun = [making.begin(wanted(f"{number:03d}.jpg")) for number in range(8)]
        assert tasks.sizes == [3, 3]
        results = [one.result() for one in begun]
        assert tasks.sizes == [3, 3, 2]
        made = [one for one in results if isinstance(one, Made)]
        assert [one.content.source for one in made] == [f"{number:03d}.jpg" for number in range(8)]
        late = making.begin(wanted("000.jpg", known=frozenset({made[0].sha256})))
        assert late.result() == Same(made[0].sha256)
        assert tasks.sizes == [3, 3, 2, 1]
        assert making.finish([(wanted("000.jpg"), made[0])]) == [made[0]]


@pytest.mark.parametrize(("nodes", "counted"), [(3, 3), (0, 1)])  # none yet: those that come find something to do
def test_the_window_follows_the_nodes(shop: Shop, nodes: int, counted: int) -> None:
    shop.rows(1)
    tasks = HereTasks()
    tasks.nodes = nodes
    assert maker(shop, tasks).window == BATCHES_EACH * counted * 3


def test_a_bad_photo_is_its_own_affair(shop: Shop) -> None:
    shop.rows(2)
    (shop.images / "bad.jpg").write_bytes(b"no picture at all")
    with maker(shop, HereTasks()) as making:
        first, bad, last = (making.begin(wanted(name)) for name in ("000.jpg", "bad.jpg", "001.jpg"))
        with pytest.raises(InvalidImageError) as caught:
            bad.result()
        assert caught.value.reason == "not_an_image"
        assert isinstance(first.result(), Made)
        assert isinstance(last.result(), Made)
        missing = making.begin(wanted("nowhere.jpg"))
        with pytest.raises(InvalidImageError, match="there is no file") as caught:
            missing.result()
        assert caught.value.reason == "missing_file"


def test_a_photo_that_a_node_alone_does_not_see_is_no_reject(shop: Shop) -> None:
    shop.rows(1)

    def blind(job: Job, photos: Sequence[Wanted]) -> list[Answer]:
        return [Refused("missing_file", f"there is no file {one.image}", "far") for one in photos]

    with maker(shop, HereTasks(blind)) as making:
        with pytest.raises(IndexerError, match=r"node far does not see .*000\.jpg, which is here.*at the same place"):
            making.begin(wanted("000.jpg")).result()
        with pytest.raises(InvalidImageError):  # neither does this machine
            making.begin(wanted("nowhere.jpg")).result()


def test_a_node_with_another_model_or_without_the_photos_says_so(shop: Shop, tmp_path: Path) -> None:
    shop.rows(1)
    said = r"node .* 'other' has the features .*what is done is kept"
    with maker(shop, HereTasks(), opens=OtherEncoder) as making, pytest.raises(IndexerError, match=said):
        making.begin(wanted("000.jpg")).result()
    tied = PixelEncoder().features_fingerprint
    job = Job("key", tmp_path / "not-mounted", PixelEncoder, tied, SPECS, IngestOptions())
    with pytest.raises(IndexerError, match=r"no folder of images at .*not-mounted; it must be at the same place"):
        make_batch(job, [wanted("000.jpg")])


def test_a_loaded_model_is_not_sent_to_nodes(shop: Shop, tiny_model: Model) -> None:
    catalogue = shop.write(shop.rows(1))
    with pytest.raises(ValueError, match="give its name or its folder"):
        ingest(catalogue, shop.gallery, model=tiny_model, ray="auto")


def test_no_cluster_at_the_address_is_said(shop: Shop) -> None:
    with pytest.raises(IndexerError, match=r"no Ray cluster answers at '127\.0\.0\.1:1'"):
        shop.ingest(shop.rows(2), ray=RayNodes(address="127.0.0.1:1", opens=PixelEncoder))


class OtherEncoder(PixelEncoder):
    """Of another release."""

    def __init__(self) -> None:
        super().__init__(name="other")
