"""CRUMB on a fixture in its format: whose judgements count, what is a document, who gets the instruction."""

from __future__ import annotations

import ir_measures
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from eval.binary import evaluate_both
from retrieval.collection import write_collection
from retrieval.datasets.crumb import Crumb
from retrieval.datasets.folder import Folder
from retrieval.indexes.flat import Flat
from retrieval.open_task import UNREAD, OpenTask
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.reciprocal_rank import ReciprocalRank
from retrieval.suite import suite
from retrieval.suites.crumb import CrumbSuite
from retrieval.types import Dense, Qrels
from tests.tables import Table

TASKS = (
    "paper_retrieval", "set_operation_entity_retrieval", "legal_qa", "tip_of_the_tongue", "clinical_trial",
    "code_retrieval", "stack_exchange", "theorem_retrieval",
)  # fmt: skip
MAX_P = {"set_operation_entity_retrieval", "tip_of_the_tongue", "clinical_trial"}
PASSAGES = {"A:1": "apples", "A:2": "more apples", "B:1": "bees", "C:1:x": "cats"}
WHOLE = {"A": "apples, more apples", "B": "bees", "C": "cats"}


def judged(grades):
    return [{"id": name, "label": float(grade)} for name, grade in grades.items()]


def queries(task, use_max_p=None, instructions=("Find it.", None)):
    """Two queries of a task, in the columns that its authors document."""
    grades = [({"A:1": 2, "B:1": 1}, {"A:1": 1, "B:1": 0}, {"B": 1}), ({"C:1:x": 1}, {"C:1:x": 1}, {"A": 2})]
    return [
        {
            "query_id": f"{task}-{n}",
            "query_content": f"query {n}",
            "instruction": instructions[n],
            "passage_qrels": judged(graded),
            "passage_binary_qrels": judged(binary) if task == "paper_retrieval" else [],
            "full_document_qrels": judged(whole),
            "use_max_p": task in MAX_P if use_max_p is None else use_max_p,
            "metadata": "{}",
        }
        for n, (graded, binary, whole) in enumerate(grades)
    ]


def documents(texts, parents=None):
    return [
        {"document_id": name, "document_content": text, "parent_id": (parents or {}).get(name), "metadata": "{}"}
        for name, text in texts.items()
    ]


PARENTS = {name: name.partition(":")[0] for name in PASSAGES}


@pytest.fixture
def crumb(tmp_path):
    """Writes a copy of the repository: a config a folder, a split a file."""

    def write(asked=queries, parents=PARENTS):
        lines = ["---", "configs:"]
        parts = {
            "evaluation_queries": asked,
            "passage_corpus": lambda task: documents(PASSAGES, parents),
            "full_document_corpus": lambda task: documents(WHOLE),
        }
        for config, make in parts.items():
            lines += [f"- config_name: {config}", "  data_files:"]
            for task in TASKS:
                path = tmp_path / "crumb" / config / f"{task}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                parquet.write_table(pa.Table.from_pylist(make(task)), path)
                lines += [f"  - split: {task}", f"    path: {config}/{task}.parquet"]
        (tmp_path / "crumb" / "README.md").write_text("\n".join([*lines, "---", "# CRUMB"]))
        return str(tmp_path / "crumb")

    return write


def found(task, ranked):
    """A retriever that finds the same for both queries of a task."""
    return Table({f"{task}-{n}": ranked for n in range(2)})


def test_a_graded_task_is_judged_by_passage(crumb):
    collection = Crumb("legal_qa", path=crumb()).open()
    assert collection.qrels("evaluation").to_dict()["legal_qa-0"] == {"A:1": 2, "B:1": 1}
    assert collection.corpus.ids.values.to_pylist() == list(PASSAGES)


@pytest.mark.parametrize("task", sorted(MAX_P))
def test_passages_of_a_max_p_task_are_judged_by_document(crumb, task):
    opened = OpenTask.of(next(one for one in CrumbSuite(path=crumb()).tasks() if one.name == task))
    assert opened.qrels.to_dict() == {f"{task}-0": {"B": 1}, f"{task}-1": {"A": 2}}
    run, _, _ = opened.retrieved(found(task, {"A:1": 0.9, "B:1": 0.8, "A:2": 0.95}))
    assert list(run.to_dict()[f"{task}-0"]) == ["A", "B"]
    assert opened.measured(run, ["RR"]).values["RR"].tolist() == [0.5, 1.0]
    assert opened.texts([run]).document("A") == "apples" and opened.texts([run]).document("Z") == ""


def test_twice_as_many_passages_are_retrieved_as_documents_are_measured(crumb):
    table = found("clinical_trial", {"A:1": 1.0})
    suite(CrumbSuite(path=crumb()), {"t": table}, only=["clinical_trial"])
    assert table.depths == [2000]


def test_whole_documents_are_judged_without_max_p(crumb):
    tasks = {task.name: task for task in CrumbSuite(documents="whole", path=crumb()).tasks()}
    assert not any(task.max_p for task in tasks.values())
    assert tasks["legal_qa"].dataset.open().qrels("evaluation").to_dict()["legal_qa-0"] == {"B": 1}
    held = {name: tasks[name].dataset.open().corpus.ids.values.to_pylist() for name in ("legal_qa", "code_retrieval")}
    assert held == {"legal_qa": list(WHOLE), "code_retrieval": list(PASSAGES)}  # whose passages are its documents


def test_papers_have_binary_judgements_for_p_r_and_rr_and_graded_ones_for_ndcg(crumb):
    table = found("paper_retrieval", {"B:1": 3.0, "A:1": 2.0})
    results = suite(CrumbSuite(path=crumb()), {"t": table}, only=["paper_retrieval"])
    mean = results["tasks"]["paper_retrieval"]["systems"]["t"]["mean"]
    run = {"paper_retrieval-0": {"B:1": 3.0, "A:1": 2.0}, "paper_retrieval-1": {"B:1": 3.0, "A:1": 2.0}}
    graded = {"paper_retrieval-0": {"A:1": 2, "B:1": 1}, "paper_retrieval-1": {"C:1:x": 1}}
    binary = {"paper_retrieval-0": {"A:1": 1, "B:1": 0}, "paper_retrieval-1": {"C:1:x": 1}}
    for name, value in mean.items():
        measure = ir_measures.parse_measure(name)
        qrels = graded if name.startswith("nDCG") else binary
        assert value == pytest.approx(ir_measures.calc_aggregate([measure], qrels, run)[measure], abs=1e-12)
    assert mean["RR"] == 0.25 and [*mean] == [
        "nDCG@10", "nDCG@5", "P@10", "P@5", "R@10", "R@100", "R@1000", "RR", "RR@10"
    ]  # fmt: skip


def test_a_query_with_graded_judgements_alone_counts_with_0(tmp_path):
    graded = Qrels.from_dict({"q": {"a": 1}, "r": {"a": 2}})
    table = Table({"q": {"a": 1.0}, "r": {"a": 1.0}})
    write_collection(tmp_path / "t", [("a", "", "x")], [("q", "x"), ("r", "x")], {"test": graded.to_dict()})
    opened = Folder(str(tmp_path / "t")).open()
    table.open(opened.corpus, tmp_path)
    run = table.retrieve(opened.queries("test"), 1)
    both = evaluate_both(run, graded, Qrels.from_dict({"r": {"a": 1}}), ["RR", "nDCG@5"])
    assert both.values["RR"].tolist() == [0.0, 1.0] and both.values["nDCG@5"].tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="1 queries have binary judgements and no graded ones, such as 's'"):
        evaluate_both(run, graded, Qrels.from_dict({"s": {"a": 1}}), ["RR"])


class Given:
    """An encoder that notes what it was asked with."""

    def __init__(self, instructed):
        self.instructed, self.asked = instructed, []

    def encode_queries(self, texts):
        self.asked.append(None)
        return Dense(self._vectors(texts))

    def encode_instructed(self, texts, instructions):
        self.asked.append(list(instructions))
        return Dense(self._vectors(texts))

    def encode_docs(self, texts):
        return Dense(self._vectors(texts))

    def contract(self):
        return {"encoder": "given", "dimensions": 3, "queries": {"instructed": self.instructed}}

    def _vectors(self, texts):
        return np.random.default_rng(1).normal(size=(len(texts), 3)).astype(np.float32)


def dense(instructed):
    return DenseRetriever(Given(instructed), Flat())


@pytest.mark.parametrize(("instructed", "asked"), [(True, ["Find it.", ""]), (False, None)])
def test_encoders_that_take_an_instruction_get_it_and_of_others_that_is_counted(crumb, instructed, asked):
    retriever = dense(instructed)
    results = suite(CrumbSuite(path=crumb()), {"d": retriever}, only=["legal_qa"])
    assert retriever.encoder.asked == [asked]
    assert results["tasks"]["legal_qa"]["systems"]["d"]["counts"].get(UNREAD, 0) == 2 * (not instructed)


def test_parts_that_disagree_about_instructions_are_refused(crumb):
    fused = ReciprocalRank([dense(True), dense(False)])
    with pytest.raises(ValueError, match="legal_qa: the queries carry instructions, which only some of the encoders"):
        suite(CrumbSuite(path=crumb()), {"f": fused}, only=["legal_qa"])


def test_all_eight_tasks_run_and_are_averaged(crumb):
    tasks = CrumbSuite(path=crumb()).tasks()
    assert tuple(task.name for task in tasks) == TASKS and {task.name for task in tasks if task.max_p} == MAX_P
    every = Table({f"{task}-{n}": {"A:1": 1.0} for task in TASKS for n in range(2)})
    results = suite(CrumbSuite(path=crumb()), {"t": every})
    (average,) = results["averages"].values()
    means = [results["tasks"][task]["systems"]["t"]["mean"]["nDCG@10"] for task in TASKS]
    assert average["t"]["nDCG@10"] == pytest.approx(sum(means) / 8, abs=1e-12)


def test_a_passage_whose_document_is_not_before_its_colon_is_refused(crumb):
    path = crumb(parents=PARENTS | {"C:1:x": "C:1"})
    assert Crumb("legal_qa", path=path).open()  # where MaxP is not used, ids may be as they like
    with pytest.raises(ValueError, match="passage 'C:1:x' is of document 'C:1'"):
        Crumb("clinical_trial", path=path).open()


def test_data_that_asks_for_another_rule_is_refused(crumb):
    path = crumb(asked=lambda task: queries(task, use_max_p=True))
    with pytest.raises(ValueError, match="'legal_qa-0' has use_max_p True, and its task is measured without MaxP"):
        Crumb("legal_qa", path=path).open()


def test_a_grade_that_is_no_whole_number_is_refused(crumb):
    path = crumb(asked=lambda task: [one | {"passage_qrels": judged({"A:1": 0.5})} for one in queries(task)])
    with pytest.raises(ValueError, match="query 'legal_qa-0' has 'A:1' judged 0.5, and grades are whole numbers"):
        Crumb("legal_qa", path=path).open()


def test_a_copy_that_changed_is_read_again(crumb):
    first = Crumb("legal_qa", path=crumb()).open().queries("evaluation").texts
    path = crumb(asked=lambda task: [{**one, "query_content": "other"} for one in queries(task)])
    assert first == ["query 0", "query 1"]
    assert Crumb("legal_qa", path=path).open().queries("evaluation").texts == ["other", "other"]


def test_absent_data_says_where_it_may_be_put(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=f"put its files at {tmp_path}/crumb/README.md"):
        Crumb("legal_qa").open()


def test_instructions_may_be_left_out(crumb):
    assert Crumb("legal_qa", instructions=False, path=crumb()).open().queries("evaluation").instructions is None
