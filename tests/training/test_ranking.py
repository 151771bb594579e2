"""What ranking refuses before the first step, and in which pieces it computes gradients."""

import numpy as np
import pytest
import torch
from toy import tiny_model, toy_groups

from retrieval.corpus import Corpus
from retrieval.types import Qrels, Queries
from training import ranking
from training.collections import Groups
from training.losses.infonce import InfoNCE
from training.losses.margin_mse import MarginMSE
from training.losses.matryoshka import Matryoshka
from training.losses.wasserstein import Wasserstein
from training.ranking import Ranking
from training.sources.judged import lists_of
from training.task import Passes


def graded_lists(folder, grades):
    """A query for each row of grades, those of the documents of the toy collection in turn."""
    corpus = Corpus(toy_groups(folder).lists.passages.folder)
    queries = Queries([f"q{n}" for n in range(len(grades))], [f"ask q{n}" for n in range(len(grades))])
    judged = {f"q{n}": {f"d{d}": grade for d, grade in enumerate(row)} for n, row in enumerate(grades)}
    return lists_of(corpus, queries, Qrels.from_dict(judged))


NEED = [InfoNCE(), Wasserstein(infonce_weight=0.1), Matryoshka(InfoNCE(), [8])]


@pytest.mark.parametrize("loss", NEED, ids=lambda loss: type(loss).__name__)
def test_groups_that_may_lack_the_positive_that_a_loss_needs_are_refused_at_the_start(tmp_path, loss):
    lists = graded_lists(tmp_path / "corpus", [[1, 0, 1], [1, 0, 0]])
    with pytest.raises(ValueError, match=r"needs a positive in every group, and 1 lists, such as that of query 'q1'"):
        Ranking(tiny_model(), Groups(lists, 2, positives=0), loss, 2, 0)
    Ranking(tiny_model(), Groups(lists, 3, positives=0), loss, 2, 0)
    Ranking(tiny_model(), Groups(lists, 2, positives=1), loss, 2, 0)
    Ranking(tiny_model(), Groups(lists, 2, positives=0), Wasserstein(), 2, 0)


@pytest.mark.parametrize(("graded", "refused"), [(True, False), (False, True)])
def test_what_is_a_positive_depends_on_whether_grades_are_kept(tmp_path, graded, refused):
    groups = Groups(graded_lists(tmp_path / "corpus", [[1, 0]] * 2), 2, positives=0, relevant=2, graded=graded)
    if refused:
        with pytest.raises(ValueError, match="InfoNCE needs a positive in every group, and 2 lists"):
            Ranking(tiny_model(), groups, InfoNCE(), 2, 0)
    else:
        Ranking(tiny_model(), groups, InfoNCE(), 2, 0)


def test_margins_are_not_taken_from_a_first_passage_that_is_any(tmp_path):
    groups = Groups(graded_lists(tmp_path / "corpus", [[1, 0]] * 2), 2, positives=0)
    with pytest.raises(ValueError, match="MarginMSE takes a group's first passage for its positive"):
        Ranking(tiny_model(), groups, MarginMSE(), 2, 0, in_batch=False)


@pytest.mark.parametrize("chunk_tokens", [10, 40, 1000])
def test_pieces_are_as_large_as_they_may_be_also_above_what_passes_at_once(tmp_path, monkeypatch, chunk_tokens):
    asked, cut = [], ranking.pieces
    monkeypatch.setitem(ranking.TOKENS, "cpu", 20)
    monkeypatch.setattr(ranking, "cached_step", lambda module, parts, *rest: asked.append(parts) or torch.zeros(()))
    model = tiny_model()
    task = Ranking(model, toy_groups(tmp_path / "corpus"), InfoNCE(), 8, 0, chunk_tokens=chunk_tokens)
    batch = task.collate(0, range(8))
    task.step(Passes(task.module, lambda loss: loss.backward(), torch.no_grad, 1, 0, 0, False), batch)
    for side in ("queries", "docs"):
        places = [one.places.tolist() for one in asked[0][side]]
        assert places == [one.places.tolist() for one in cut(batch[side], chunk_tokens)]
        tokens = [one.batch["attention_mask"].numel() for one in asked[0][side]]
        assert len(tokens) == 1 or np.mean(tokens) > chunk_tokens / 2
