"""Features of a corpus on disk: what is kept, looked up, resumed and refused, and the recipe that makes them."""

from __future__ import annotations

import numpy as np
import pytest

from prf.extractors.generated import Generated
from prf.extractors.lead import Lead
from retrieval.collection import write_collection
from retrieval.corpus import Corpus
from retrieval.datasets.folder import Folder
from retrieval.feature_store import FeatureStore, extract_corpus
from retrieval.features import features
from retrieval.run_file import write_run
from retrieval.types import Generation, Run

DOCUMENTS = [(f"d{i}", "", f"Text {i}. More." if i != 4 else "") for i in range(10)]


class Noting(Lead):
    """First sentences, with a note of each text read; it may die after some."""

    def __init__(self, dies_after=None):
        super().__init__(1)
        self.read, self.dies_after = [], dies_after

    def extract(self, texts):
        if self.dies_after is not None and len(self.read) >= self.dies_after:
            raise KeyboardInterrupt
        self.read += texts
        return super().extract(texts)


@pytest.fixture
def corpus(tmp_path):
    return Corpus.build(DOCUMENTS, tmp_path / "corpus")


def rows(*numbers):
    return np.array(numbers, np.int32)


def test_features_are_found_by_row_in_the_order_asked(corpus, tmp_path):
    store = extract_corpus(corpus, Lead(1), tmp_path / "f", shard=4)
    assert store.features(rows(9, 0, 4, 9, 3)) == ["Text 9.", "Text 0.", "", "Text 9.", "Text 3."]
    assert store.features(rows()) == [] and len(store) == 10
    assert FeatureStore(tmp_path / "f").contract == Lead(1).contract()


def test_documents_that_were_not_asked_for_are_refused(corpus, tmp_path):
    noting = Noting()
    store = extract_corpus(corpus, noting, tmp_path / "f", rows(2, 3, 7), shard=2)
    assert store.features(rows(7, 2)) == ["Text 7.", "Text 2."]
    with pytest.raises(
        ValueError, match="holds features of 3 documents, and 2 others were not extracted: raise `depth`"
    ):
        store.features(rows(1, 2, 7, 9))
    assert noting.read == ["Text 2. More.", "Text 3. More.", "Text 7. More."]


def test_killed_and_started_again_it_ends_with_the_same_bytes_and_does_nothing_twice(corpus, tmp_path):
    extract_corpus(corpus, Noting(), tmp_path / "whole", shard=3)
    with pytest.raises(KeyboardInterrupt):
        extract_corpus(corpus, killed := Noting(dies_after=6), tmp_path / "f", shard=3)
    with pytest.raises(ValueError, match="shard-00002.arrow is missing; extract again"):
        FeatureStore(tmp_path / "f")
    (tmp_path / "f" / ".shard-00002.arrow.17.part").write_bytes(b"half")
    extract_corpus(corpus, again := Noting(), tmp_path / "f", shard=3)
    assert killed.read + again.read == corpus.texts(np.arange(10))
    names = sorted(path.name for path in (tmp_path / "f").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "whole").iterdir()) and len(names) == 5
    assert all((tmp_path / "f" / one).read_bytes() == (tmp_path / "whole" / one).read_bytes() for one in names)
    extract_corpus(corpus, finished := Noting(), tmp_path / "f", shard=3)
    assert not finished.read


class Flaky:
    """A generator that fails for some texts as long as it is ill."""

    def __init__(self):
        self.ill, self.shown = True, []

    def generate(self, requests):
        for place, one in enumerate(requests):
            text = one.messages[-1]["content"].splitlines()[0]
            self.shown.append(text.removeprefix("Passage: "))
            fails = self.ill and "7" in text
            yield place, Generation("", 1, 0, failure="gone") if fails else Generation("words", 10, 2)

    def contract(self):
        return {"model": "flaky"}


def test_counts_are_kept_with_the_shards_and_a_failed_feature_is_made_by_a_later_run(corpus, tmp_path):
    flaky, folder = Flaky(), tmp_path / "f"
    store = extract_corpus(corpus, Generated(flaky, fallback="keep"), folder, shard=3)
    assert store.features(rows(6, 7)) == ["words", ""] and store.counts["failed generations"] == 1
    assert store.counts["model calls"] == 9 and FeatureStore(folder).counts == store.counts
    flaky.ill, flaky.shown = False, []
    store = extract_corpus(corpus, Generated(flaky), folder, shard=3)  # a fallback is no part of what features are
    assert flaky.shown == ["Text 7. More."] and store.features(rows(7)) == ["words"]
    assert store.counts["failed generations"] == 0 and store.counts["generations"] == 9
    assert store.counts["tokens out"] + store.counts["cached tokens out"] == 18
    extract_corpus(corpus, Generated(flaky), folder, shard=3)
    assert flaky.shown == ["Text 7. More."]


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ({"extractor": Lead(2)}, "extractor"),
        ({"rows": np.arange(3, dtype=np.int32)}, "documents"),
        ({"rows": np.arange(1, 11, dtype=np.int32) % 10}, "rows sha256"),
        ({"shard": 5}, "shard"),
    ],
)
def test_a_folder_of_something_else_is_refused(corpus, tmp_path, change, differing):
    made = {"corpus": corpus, "extractor": Lead(1), "folder": tmp_path / "f", "shard": 4}
    extract_corpus(**made)
    with pytest.raises(ValueError, match=f"holds features of another {differing}: .* there, .* here; name another"):
        extract_corpus(**made | change)


def test_a_folder_of_another_corpus_or_of_nothing_is_refused(corpus, tmp_path):
    extract_corpus(corpus, Lead(1), tmp_path / "f")
    other = Corpus.build(DOCUMENTS[:3], tmp_path / "other")
    with pytest.raises(ValueError, match="another corpus"):
        extract_corpus(other, Lead(1), tmp_path / "f")
    with pytest.raises(ValueError, match="holds no features .*; make them with retrieval.features"):
        FeatureStore(tmp_path / "corpus")


def test_an_extractor_that_loses_documents_is_refused(corpus, tmp_path):
    class Losing(Lead):
        def extract(self, texts):
            return super().extract(texts)[1:]

    with pytest.raises(ValueError, match="Losing gives 9 features of 10 documents"):
        extract_corpus(corpus, Losing(1), tmp_path / "f")


def test_nothing_to_extract_is_refused(corpus, tmp_path):
    with pytest.raises(ValueError, match="0 documents in shards of 4"):
        extract_corpus(corpus, Lead(1), tmp_path / "f", rows(), shard=4)


def test_the_recipe_reads_a_whole_collection_or_what_a_run_found(tmp_path, capsys):
    write_collection(tmp_path / "c", DOCUMENTS, [("q", "text")], {"test": {"q": {"d1": 1}}})
    dataset = Folder(str(tmp_path / "c"))
    whole = features(dataset, Lead(1), shard=4, out=tmp_path / "out")
    assert whole == {"documents": 10, "empty features": 1, "contract": Lead(1).contract()}
    assert "10 features in" in capsys.readouterr().out
    docs = dataset.open().corpus.ids
    scores = np.array([[3, 2, 1], [3, -np.inf, -np.inf]], np.float32)
    found = Run(["q", "p"], docs, np.array([[7, 1, 2], [1, -1, -1]], np.int32), scores)
    write_run(found, tmp_path / "run.trec")
    assert features(dataset, Lead(1), run=tmp_path / "run.trec", depth=2, out=tmp_path / "part")["documents"] == 2
    store = FeatureStore(tmp_path / "part" / "features")
    assert store.features(rows(1, 7)) == ["Text 1.", "Text 7."]
    with pytest.raises(ValueError, match="depth is 0"):
        features(dataset, Lead(1), run=tmp_path / "run.trec", depth=0, out=tmp_path / "none")
