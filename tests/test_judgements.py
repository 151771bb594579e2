"""What a model judged is kept apart from what people did: in files, in datasets, and in every figure."""

from __future__ import annotations

import numpy as np
import pytest

from eval import evaluate
from eval.binary import evaluate_both
from eval.report import figures
from eval.results import read_results
from eval.significance import paired_t
from eval.suite_table import averaged, print_suite, task_row
from retrieval.cli import run as command_line
from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.datasets.model_judged import ModelJudged
from retrieval.datasets.typos import Typos
from retrieval.evaluate import evaluate as evaluate_recipe
from retrieval.ids import DocIds
from retrieval.judgements import Judgement, Judgements, read_judgements, write_judgements
from retrieval.qrels_file import read_qrels, write_qrels
from retrieval.run_file import write_run
from retrieval.search import search
from retrieval.types import Qrels, Run

PAIRS = [
    Judgement("p", "a", 3, "3"),
    Judgement("p", "b", None, "I cannot say", asked=2),
    Judgement("q", "a", 0, "Grade: 0"),
]


@pytest.fixture
def dataset(tmp_path):
    write_collection(
        tmp_path / "c",
        [(d, "", d) for d in "abc"],
        {"p": "a", "q": "b", "r": "c"},
        {"test": {q: {"a": 1} for q in "pqr"}},
    )
    return Folder(str(tmp_path / "c"))


@pytest.fixture
def file(dataset, tmp_path):
    """Judgements of the model toy over the dataset."""
    about = {"prompt": "judged 1", "corpus": dataset.open().corpus.fingerprint, "split": "test"}
    write_judgements(Judgements("toy", about, PAIRS), tmp_path / "judgements.jsonl")
    return tmp_path / "judgements.jsonl"


def run(queries="pqr"):
    rows = np.tile(np.arange(3, dtype=np.int32), (len(queries), 1))
    return Run.ordered(list(queries), DocIds.of(["a", "b", "c"]), rows, np.ones(rows.shape, np.float32))


def test_a_file_reads_back_as_it_was_written(file, tmp_path):
    found = read_judgements(file)
    assert (found.judge, found.about["prompt"], found.pairs) == ("toy", "judged 1", PAIRS)
    write_judgements(found, tmp_path / "copy.jsonl.gz")
    assert read_judgements(tmp_path / "copy.jsonl.gz").pairs == PAIRS


def test_a_failed_judgement_is_no_grade_and_a_query_without_any_is_kept(file):
    qrels = read_judgements(file).qrels(["p", "q", "r"])
    assert qrels.judge == "toy" and qrels.to_dict() == {"p": {"a": 3}, "q": {"a": 0}, "r": {}}


def test_a_judge_file_is_no_qrels_file_and_qrels_are_no_judge_file(file, dataset):
    with pytest.raises(ValueError, match="holds judgements of a model, not of people: read it as .* model_judged"):
        read_qrels(file)
    qrels = dataset.open().qrels_folder / "test.tsv"
    with pytest.raises(ValueError, match=r"test.tsv:1: no judgements of a model, which begin with their judge"):
        read_judgements(qrels)


def test_a_judge_file_in_the_folder_of_qrels_is_refused_by_every_recipe(file, dataset, tmp_path, capsys):
    (dataset.open().qrels_folder / "model.tsv").write_bytes(file.read_bytes())
    write_run(run(), tmp_path / "run.trec")
    (tmp_path / "x.yaml").write_text(
        f"dataset: {{type: folder, path: {tmp_path / 'c'}}}\nruns: {{one: {tmp_path / 'run.trec'}}}\nsplit: model\n"
    )
    with pytest.raises(SystemExit) as stopped:
        command_line(evaluate_recipe, [str(tmp_path / "x.yaml"), f"out={tmp_path / 'out'}"])
    assert stopped.value.code == 1 and "holds judgements of a model, not of people" in capsys.readouterr().err


def test_they_are_never_written_among_qrels_nor_as_qrels(file, tmp_path):
    with pytest.raises(ValueError, match="is among qrels: those are what people judged"):
        write_judgements(read_judgements(file), tmp_path / "qrels" / "model.jsonl")
    with pytest.raises(ValueError, match="toy judged, not people, which a qrels file cannot tell"):
        write_qrels(read_judgements(file).qrels(["p"]), tmp_path / "model.trec")
    assert not (tmp_path / "qrels").exists() and not (tmp_path / "model.trec").exists()


def test_figures_of_a_models_judgements_carry_its_name_wherever_they_are_shown(file, dataset, tmp_path, capsys):
    collection = ModelJudged(dataset, file).open()
    assert collection.name == "c, judged by toy" and collection.splits() == ["test"]
    evaluation = evaluate(run(), collection.qrels("test"), ["nDCG@10"])
    assert evaluation.judge == "toy" and figures({"one": evaluation})["one"]["judged by"] == "toy"
    print_suite([task_row("c", {"one": evaluation})], averaged({}, []), "means")
    assert "c, judged by toy" in capsys.readouterr().out
    write_run(run(), tmp_path / "run.trec")
    (tmp_path / "x.yaml").write_text(
        f"dataset: {{type: model_judged, dataset: {{type: folder, path: {tmp_path / 'c'}}}, judgements: {file}}}\n"
        f"runs: {{one: {tmp_path / 'run.trec'}}}\n"
    )
    found = command_line(evaluate_recipe, [str(tmp_path / "x.yaml"), f"out={tmp_path / 'out'}"])
    assert found["one"]["judged by"] == "toy" and "c, judged by toy, test" in capsys.readouterr().out
    assert (tmp_path / "out" / "manifest.json").read_text().count("toy: ") == 1  # the digest of the judgements


def test_figures_of_people_and_of_a_model_are_neither_compared_nor_averaged(file, dataset):
    people = evaluate(run(), dataset.open().qrels("test"), ["nDCG@10"])
    model = evaluate(run(), ModelJudged(dataset, file).open().qrels("test"), ["nDCG@10"])
    message = "judgements of people and of toy are not mixed: measure all by the same judge"
    with pytest.raises(ValueError, match=message):
        paired_t(people, model, "nDCG@10")
    rows = [task_row("one", {"s": people}), task_row("two", {"s": model})]
    with pytest.raises(ValueError, match=message):
        averaged({"both": ["one", "two"]}, rows)
    with pytest.raises(ValueError, match=message):
        averaged({"inner": ["two"], "outer": ["one", "inner"]}, rows)
    assert averaged({"inner": ["two"]}, rows).whole["inner"]["s"] == model.mean
    with pytest.raises(ValueError, match=message):
        evaluate_both(run(), dataset.open().qrels("test"), ModelJudged(dataset, file).open().qrels("test"), ["R@10"])


def test_what_copies_judgements_without_their_judge_takes_no_models(file, dataset):
    with pytest.raises(ValueError, match="was judged by toy, .*: put model_judged around the other dataset"):
        Typos(ModelJudged(dataset, file)).open()
    with pytest.raises(ValueError, match="was judged by toy"):
        ModelJudged(ModelJudged(dataset, file), file).open()


def test_a_leaderboard_which_names_no_judge_takes_none_of_a_model(file, tmp_path):
    (tmp_path / "x.yaml").write_text(
        f"dataset: {{type: model_judged, dataset: {{type: folder, path: {tmp_path / 'c'}}}, judgements: {file}}}\n"
        "retriever: bm25\n"
    )
    command_line(search, [str(tmp_path / "x.yaml"), f"out={tmp_path / 'out'}"])
    with pytest.raises(ValueError, match="split test was judged by toy"):
        read_results(tmp_path / "out")


def test_judgements_of_another_corpus_are_refused(file, tmp_path):
    write_collection(tmp_path / "other", [("a", "", "x")], {"p": "a"}, {"test": {"p": {"a": 1}}})
    with pytest.raises(ValueError, match="judges documents of another corpus than that of other"):
        ModelJudged(Folder(str(tmp_path / "other")), file).open()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"query": "p"}', ":5: this line is no judgement"),
        ("not json", ":5: this line is no judgement"),
        ('{"query": "p", "document": "c", "grade": 4, "answer": "4"}', ":5: the grade is 4, not one of"),
        (
            '{"query": "p", "document": "a", "grade": 1, "answer": "1"}',
            ":5: query 'p' and document 'a' are there twice",
        ),
    ],
)
def test_a_line_that_is_no_judgement_is_named(file, line, message):
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(ValueError, match=message):
        read_judgements(file)


@pytest.mark.parametrize("line", ['{"judge": "toy"}', '{"judge": "toy", "made'])
def test_a_judge_of_whom_nothing_is_said_is_named(file, line):
    file.write_text("\n".join([line, *file.read_text().splitlines()[1:]]))
    with pytest.raises(ValueError, match=f"{file}:1: the line of the judge is damaged; judge again"):
        read_judgements(file)


def test_qrels_of_people_have_no_judge():
    assert Qrels.from_dict({"q": {"a": 1}}).judge is None
