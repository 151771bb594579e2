"""A retrieval task of MTEB over a collection on disk, without the network."""

from __future__ import annotations

from retrieval.collection import Collection


def task_of(collection: Collection, split: str = "test", ignore_identical_ids: bool = False, **about):
    """An AbsTaskRetrieval whose data are this collection's."""
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class Toy(AbsTaskRetrieval):
        metadata = TaskMetadata(
            **{
                "name": "ToyRetrieval",
                "description": "A toy.",
                "type": "Retrieval",
                "eval_splits": [split],
                "eval_langs": ["eng-Latn"],
                "main_score": "ndcg_at_10",
                "dataset": {"path": "toy/toy", "revision": "abc"},
                **about,
            }
        )

        def load_data(self, *args, **kwargs):
            documents, queries = list(collection.corpus), collection.queries(split)
            corpus = [{"id": d.id, "title": d.title, "text": d.text} for d in documents]
            asked = [{"id": i, "text": text} for i, text in zip(queries.ids, queries.texts, strict=True)]
            self.dataset = {
                "default": {
                    split: {
                        "corpus": Dataset.from_list(corpus),
                        "queries": Dataset.from_list(asked),
                        "relevant_docs": collection.qrels(split).to_dict(),
                        "top_ranked": None,
                    }
                }
            }
            self.data_loaded = True

    Toy.ignore_identical_ids = ignore_identical_ids
    return Toy()
