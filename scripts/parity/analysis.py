"""Our English analyzer beside Lucene's, token by token: `python -m scripts.parity.analysis [collection ...]`.

Every document and every query of collections below RETRIEVAL_DATA, run from the root of the checkout.
"""

from __future__ import annotations

import sys
from collections import Counter

from retrieval.datasets.folder import Folder
from retrieval.environment import packages
from tests.parity import COLLECTIONS, all_texts, compare_tokens

ANALYSES = {
    "porter, stop words": ("porter", True),
    "no stemmer": (None, True),
    "keeps stop words": ("porter", False),
    "no stemmer, keeps stop words": (None, False),
}
SHOWN = 5  # differing texts of each collection and analysis


def main(names: list[str]) -> None:
    """Print the table, and below it the texts that differ."""
    print({name: version for name, version in packages().items() if name in ("pyserini", "retrieval-toolkit")})
    print("| collection | analysis | texts | tokens | equal texts | differing |\n|---|---|---|---|---|---|")
    notes = []
    for name in names:
        texts = list(all_texts(Folder(name).open()))
        for label, (stemmer, stopwords) in ANALYSES.items():
            found = compare_tokens(texts, stemmer, stopwords)
            count = len(found.differing)
            print(f"| {name} | {label} | {found.texts:,} | {found.tokens:,} | {found.texts - count:,} | {count} |")
            causes = Counter(one.cause for one in found.differing)
            notes += [f"{name}, {label}: {cause}: {times} texts" for cause, times in causes.items()]
            notes += [
                f"  token {one.place}: ours {one.ours!r}, Lucene {one.lucene!r}, in {one.text[:120]!r}"
                for one in found.differing[:SHOWN]
            ]
    print("\n".join(notes) or "\nEvery token of every text is Lucene's.")


if __name__ == "__main__":
    main(sys.argv[1:] or list(COLLECTIONS))
