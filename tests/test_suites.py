"""The suites there are: their sets, splits and averages, and the real ones at hand."""

from __future__ import annotations

import ir_datasets
import pytest

from retrieval.collection import write_collection
from retrieval.config import components
from retrieval.datasets.folder import Folder
from retrieval.datasets.untitled import Untitled
from retrieval.encoders.transformer import Transformer
from retrieval.indexes.flat import Flat
from retrieval.protocols import Suite
from retrieval.registry import find
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.dense import DenseRetriever
from retrieval.suite import suite
from retrieval.suites.beir import BeirSuite
from retrieval.suites.folders import Folders
from retrieval.suites.joined import Joined
from retrieval.suites.limit import LimitSuite
from retrieval.suites.limit_small import LimitSmall
from retrieval.suites.metatool import MetaTool
from retrieval.suites.mtrb import Mtrb
from retrieval.suites.multi_hop import MultiHop
from retrieval.suites.nano_beir import NanoBeir
from retrieval.suites.trec_dl import TrecDl
from retrieval.tasks import short

CQADUPSTACK = "android english gaming gis mathematica physics programmers stats tex unix webmasters wordpress".split()
# as reference tables have them: Thakur et al. (2021), table 2; Formal et al. (2022), SPLADE++; MTEB's retrieval tab
OUT_OF_DOMAIN = {
    "trec-covid", "bioasq", "nfcorpus", "nq", "hotpotqa", "fiqa", "signal1m", "trec-news", "robust04", "arguana",
    "webis-touche2020", "cqadupstack", "quora", "dbpedia-entity", "scidocs", "fever", "climate-fever", "scifact",
}  # fmt: skip
OF_SPLADE = {
    "arguana", "climate-fever", "dbpedia-entity", "fever", "fiqa", "hotpotqa", "nfcorpus", "nq", "quora", "scidocs",
    "scifact", "trec-covid", "webis-touche2020",
}  # fmt: skip


def averages(one):
    """Short name of an average -> the sets it is over."""
    return {short(name): [short(part) for part in parts] for name, parts in one.averages().items()}


@pytest.mark.parametrize("name", components(Suite))
def test_the_averages_of_a_suite_are_of_its_tasks_and_name_them(name):
    needs = {"folders": {"paths": ["x", "y"]}, "joined": {"suites": [NanoBeir(), TrecDl()]}}
    one = find(Suite, name)(**needs.get(name, {}))
    known = [task.name for task in one.tasks()]
    assert len({*known}) == len(known) > 0
    for average, parts in one.averages().items():
        assert {*parts} <= {*known} and len({*parts}) == len(parts)
        assert average == f"{short(average)} ({len(parts)}: {', '.join(map(short, parts))})"
        known.append(average)


def test_beir_has_its_eighteen_sets_and_msmarco_dev():
    tasks = {task.name: task for task in BeirSuite().tasks()}
    parts = {f"cqadupstack-{part}" for part in CQADUPSTACK}
    assert {*tasks} == (OUT_OF_DOMAIN - {"cqadupstack"}) | parts | {"msmarco"}
    assert {name for name, task in tasks.items() if task.split != "test"} == {"msmarco"}
    assert tasks["msmarco"].split == "dev" and tasks["cqadupstack-gis"].dataset.name == "cqadupstack/gis"


def test_beir_averages_are_those_that_people_quote():
    found = averages(BeirSuite())
    assert found["cqadupstack"] == [f"cqadupstack-{part}" for part in CQADUPSTACK]
    sets = {name: {*parts} for name, parts in found.items()}
    assert sets["BEIR-18"] == OUT_OF_DOMAIN
    assert sets["BEIR-17, without cqadupstack"] == OUT_OF_DOMAIN - {"cqadupstack"}
    assert sets["BEIR-13, public without cqadupstack"] == OF_SPLADE
    assert sets["BEIR-14, public"] == OF_SPLADE | {"cqadupstack"}
    assert sets["MTEB-15, public with msmarco"] == OF_SPLADE | {"cqadupstack", "msmarco"}


def test_a_documents_own_query_is_no_result_in_arguana_and_quora(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
    for name in ("arguana", "quora", "scifact"):
        documents = [("q", "", "cats and dogs"), ("a", "", "dogs")]
        write_collection(tmp_path / name, documents, [("q", "cats dogs")], {"test": {"q": {"a": 1}}})
    results = suite(BeirSuite(), {"BM25": BM25()}, only=["arguana", "quora", "scifact"], measures=["RR"])
    found = {name: task["systems"]["BM25"]["mean"]["RR"] for name, task in results["tasks"].items()}
    assert found == {"arguana": 1.0, "quora": 1.0, "scifact": 0.5}


def test_nano_beir_has_thirteen_sets_that_ir_datasets_knows():
    tasks = NanoBeir().tasks()
    assert len(tasks) == 13
    assert {f"nano-beir/{task.split}" for task in tasks} <= {*ir_datasets.registry._registered}
    assert [task.dataset.id for task in tasks] == [f"nano-beir/{task.split}" for task in tasks]


def test_trec_dl_takes_grade_2_for_relevant_and_grades_for_ndcg():
    tasks = TrecDl().tasks()
    assert [task.name for task in tasks] == ["dl19", "dl20", "dl21", "dl22", "dl23"]
    assert {task.dataset.id for task in tasks} <= {*ir_datasets.registry._registered}
    for task in tasks:
        assert all(measure == "nDCG@10" or "(rel=2)" in measure for measure in task.measures)


def test_trec_dl_of_a_pool_is_named_so():
    tasks = TrecDl(years=(2019, 2020), pool="trec-dl-pool").tasks()
    assert [(task.name, task.split, task.dataset.path) for task in tasks] == [
        ("dl19-pool", "dl19", "trec-dl-pool"),
        ("dl20-pool", "dl20", "trec-dl-pool"),
    ]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"years": (2018,)}, "years are some of 2019, 2020, 2021, 2022, 2023, each once, not"),
        ({"years": ()}, "not \\(\\)"),
        ({"years": (2019, 2019)}, "each once"),
        ({"years": (2019, 2021), "pool": "p"}, "some of 2019, 2020, each once of a pool"),
    ],
)
def test_years_that_there_are_not_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        TrecDl(**settings)


def test_limit_is_measured_as_in_its_paper_and_a_rebuilt_one_is_named_so():
    (official,), (rebuilt,), (small,) = (one.tasks() for one in (LimitSuite(), LimitSuite(rebuilt=True), LimitSmall()))
    assert official.measures == rebuilt.measures == ("R@2", "R@10", "R@100") and small.measures[2] == "R@20"
    assert (official.name, rebuilt.name, rebuilt.dataset.path) == ("limit", "limit-rebuilt", "limit-rebuilt")


def test_joined_suites_keep_their_order_and_their_averages():
    both = Joined([NanoBeir(), TrecDl(years=(2020,))])
    assert [task.name for task in both.tasks()][-2:] == ["nano-webis-touche2020", "dl20"]
    assert [*averages(both)] == ["NanoBEIR", "TREC DL"]


def test_two_suites_with_an_average_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"two of the suites have an average 'NanoBEIR .*leave one of them out"):
        Joined([NanoBeir(), NanoBeir()]).averages()


def test_a_folder_alone_has_no_average():
    assert Folders(["x/y"]).averages() == {} and Folders(["x/y"]).tasks()[0].name == "y"


def test_without_titles_only_texts_are_left(tmp_path):
    write_collection(tmp_path / "toy", [("a", "title", "text")], [("q", "x")], {"test": {"q": {"a": 1}}})
    plain, bare = Folder(str(tmp_path / "toy")), Untitled(Folder(str(tmp_path / "toy"))).open()
    assert list(bare.corpus) == [("a", "", "text")] and bare.queries("test").texts == ["x"]
    assert bare.qrels("test").to_dict() == plain.open().qrels("test").to_dict()


def test_the_sets_at_hand_have_what_their_suites_expect(data):
    """As their own notes count them."""
    counts = {"metatool-two": (497, 199), "metatool-one": (20544, 199), "mtrb-restbench": (90, 54)}
    counts |= {"hotpotqa-100": (100, 994), "limit-small": (1000, 46)}
    for one in (MetaTool(), Mtrb(catalogues=("restbench",)), MultiHop(), LimitSmall()):
        for task in one.tasks():
            opened = task.dataset.open()
            if task.name in counts:
                assert (len(opened.queries(task.split)), len(opened.corpus)) == counts[task.name]


def test_minilm_finds_all_tools_as_often_as_published(data):
    """15.56 and 34.44 percent of 90 (2410.03212, table 2): of descriptions alone, not with names before them."""
    minilm = DenseRetriever(Transformer(dtype="float32"), Flat())
    shares = []
    for names in (False, True):
        found = suite(Mtrb(catalogues=("restbench",), names=names), {"MiniLM": minilm})
        mean = found["tasks"]["mtrb-restbench"]["systems"]["MiniLM"]["mean"]
        shares.append([round(100 * mean[f"Sufficiency@{k}"], 2) for k in (5, 10)])
    assert shares == [[15.56, 34.44], [13.33, 34.44]]


def test_folders_may_leave_out_the_querys_own_document(tmp_path):
    write_collection(
        tmp_path / "argue", [("a", "", "word"), ("b", "", "word")], {"b": "word"}, {"test": {"b": {"a": 1}}}
    )
    found = [
        suite(Folders([str(tmp_path / "argue")], measures=("RR",), excludes_self=own), {"BM25": BM25()})
        for own in (False, True)
    ]
    cells = [one["tasks"]["argue"]["systems"]["BM25"]["mean"]["RR"] for one in found]
    assert cells == [0.5, 1.0]
