"""Bundles that were changed, or that no pack wrote: what they say is not believed, and nothing outside is touched."""

from __future__ import annotations

import json
import shutil
import stat
import zipfile

import pytest

from retrieval.bundle import read_bundle
from retrieval.collection import write_collection
from retrieval.replay import replay
from tests.bundles import DOCUMENTS, JUDGED, QUERIES, changed, details, packed, packed_again, statuses


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a collection."""
    monkeypatch.chdir(tmp_path)
    write_collection(tmp_path / "toy", DOCUMENTS, QUERIES, JUDGED)
    return tmp_path


def test_a_changed_bundle_is_refused_with_the_file(here):
    bundle = packed(here)
    changed(bundle, "results/1-found/run.trec", lambda text: text + b"\n")
    with pytest.raises(ValueError, match=r"b.zip: results/1-found/run.trec is not what was packed"):
        replay(bundle)


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "a\\evil", "c:evil", "./evil", "a//evil", "manifest.json/"]
)
def test_names_that_lead_out_of_the_folder_are_refused_and_nothing_is_written(here, name):
    bundle = packed(here)
    with zipfile.ZipFile(bundle, "a") as file:
        file.writestr(name, b"x")
    with pytest.raises(ValueError, match="do not trust where it is from"):
        read_bundle(bundle, here / "inside" / "deep")
    assert not (here / "inside").exists() and not list(here.rglob("evil*"))


def test_links_and_repeated_names_are_refused(here):
    bundle = packed(here)
    link = zipfile.ZipInfo("results/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    shutil.copy(bundle, here / "linked.zip")
    with zipfile.ZipFile(here / "linked.zip", "a") as file:
        file.writestr(link, b"/etc/passwd")
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(bundle, "a") as file:
        file.writestr("bundle.json", b"{}")
    for one in (bundle, here / "linked.zip"):
        with pytest.raises(ValueError, match="which no bundle does"):
            replay(one)


def test_files_that_the_bundle_does_not_name_or_lacks_are_refused(here):
    bundle = packed(here)
    shutil.copy(bundle, here / "more.zip")
    with zipfile.ZipFile(here / "more.zip", "a") as file:
        file.writestr("extra.txt", b"x")
    with pytest.raises(ValueError, match="holds, without a digest, extra.txt"):
        replay(here / "more.zip")
    with zipfile.ZipFile(bundle) as held, zipfile.ZipFile(here / "less.zip", "w") as file:
        for name in held.namelist():
            if not name.endswith(".trec"):
                file.writestr(name, held.read(name))
    with pytest.raises(ValueError, match="lacks results/1-found/run.trec"):
        replay(here / "less.zip")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("folder", "../../elsewhere", "names '../../elsewhere/manifest.json', which is not in it"),
        ("runs", {"bm25": ["../../run.trec"]}, "names '../../run.trec', which is not in it"),
        ("runs", {"bm25": []}, "has a result without name, verb or run"),
        ("qrels", {"file": "/etc/passwd"}, "names '/etc/passwd', which is not in it"),
        ("inputs", [{"file": "/etc/passwd"}], "names '/etc/passwd', which is not in it"),
        ("collection", {"folder": "/data"}, "names '/data/queries.jsonl', which is not in it"),
        ("generators", 3, "no bundle of retrieval.pack"),
    ],
)
def test_a_bundle_that_names_files_outside_itself_is_refused(here, key, value, said):
    bundle = packed(here)

    def led(text):
        about = json.loads(text)
        about["results"][0][key] = value
        return json.dumps(about).encode()

    changed(bundle, "bundle.json", led)
    with pytest.raises(ValueError, match=said):
        replay(bundle)


def test_what_is_no_bundle_or_a_newer_one_is_refused(here):
    (here / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match="no zip file, or damaged"):
        replay(here / "text.zip")
    with zipfile.ZipFile(here / "other.zip", "w") as file:
        file.writestr("a.txt", b"x")
    with pytest.raises(ValueError, match="no bundle of retrieval.pack"):
        replay(here / "other.zip")
    bundle = packed(here)
    changed(bundle, "bundle.json", lambda text: text.replace(b'"bundle": 1', b'"bundle": 2'))
    with pytest.raises(ValueError, match="a bundle of version 2, and 1 is read here"):
        replay(bundle)


def test_a_bundle_imports_what_it_names_only_in_a_rerun(here):
    def named(text):
        manifest = json.loads(text)
        manifest["recipe"]["dataset"] = {"type": "os:mkdir", "path": str(here / "made")}
        return json.dumps(manifest).encode()

    bundle = packed(here)
    packed_again(bundle, "results/1-found/manifest.json", named)
    checks = replay(bundle)
    assert statuses(checks) == {"figures": "not verified"} and not (here / "made").exists()
    assert "the dataset names os:mkdir, which only rerun=true imports" in details(checks, "not verified")
