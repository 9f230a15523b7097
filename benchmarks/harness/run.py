"""How a benchmark is declared, and the one runner that measures, stores, renders and draws it.

RESULTS/NAME.json    all figures, the command, what the machine did meanwhile, and the machine
RESULTS/NAME.md      the section, made from the JSON alone
RESULTS/*.png        its pictures
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.machine import Observed, describe_machine
from benchmarks.harness.provenance import commit, repository
from benchmarks.harness.sections import Figures, figures_of, render_section
from streamcodec.errors import StreamCodecError
from streamcodec.output_file import write_text

__all__ = ["RESULTS", "Benchmark", "Headline", "command_of", "commands_of", "main", "models_of", "store"]

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Headline:
    """One row of the report's first table: what was measured, ours, and the best other in the same run; None where no other took part.

    `case` names the run that it comes from, where the section has several.
    """

    what: str
    ours: str
    other: str | None = None
    case: str = ""


def _nothing(_: Any) -> None:
    return None


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as a declaration. `name` is its package's; `question` says in one sentence what its figures answer.

    `options` adds the command's options. `refuse` says why the arguments or this machine do not allow a run, or None. `measure` returns
    figures that JSON can hold, and enters the given `Observed` for as long as it measures; "failures" among them are checks that did not
    hold, and end the command with 1. `render` tells figures as Markdown, `draw` draws them into a folder, and `headlines` are those that
    the report opens with.

    A section may be made of several runs: then `case` names the run of these arguments. It takes the place of the stored one of its name,
    the others stay, and `render`, `draw` and `headlines` get the figures of all by their names. Where `cases` lists what can be run, the
    command takes `--case CASE ...` or `--all`, and `args.case` is one of them at a time; else `--case` overrides the name.

    A figure belongs to the weights of the embedded models that it was measured with: those that `args.model` names, or all of them where
    there is no such option. `embedded` of False says that none takes part.
    """

    name: str
    title: str
    question: str
    options: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[argparse.Namespace, Observed], Figures]
    render: Callable[[Figures], str]
    draw: Callable[[Figures, Path], None] | None = None
    headlines: Callable[[Figures], Sequence[Headline]] = lambda _: ()
    refuse: Callable[[argparse.Namespace], str | None] = _nothing
    cases: Sequence[str] = ()
    case: Callable[[argparse.Namespace], str] | None = None
    embedded: bool = True

    @property
    def package(self) -> str:
        """What `python -m` takes."""
        return f"benchmarks.{self.name}"


def main(benchmark: Benchmark, argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 where a check failed or this machine cannot run it."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = _parser(benchmark)
    args = parser.parse_args(argv)
    if why := benchmark.refuse(args):
        print(why, file=sys.stderr)
        return 1
    failures: list[str] = []
    runs = _asked_for(benchmark, args, argv)
    for asked, words in runs:
        try:
            failures += _run(benchmark, asked, words)
        except StreamCodecError as error:
            parser.error(str(error))
        except Exception as error:
            if len(runs) == 1:
                raise
            # One case's end is not the end of the others.
            traceback.print_exc()
            failures.append(f"{asked.case} was not measured: {type(error).__name__}: {error}")
    path = args.out / f"{benchmark.name}.md"
    if path.exists():
        print(path.read_text(encoding="utf-8"))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _parser(benchmark: Benchmark) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {benchmark.package}", description=benchmark.question)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the section's files (default: benchmarks/results)")
    if benchmark.cases:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--case", choices=benchmark.cases, nargs="+", help="one or more")
        which.add_argument("--all", action="store_true", help="every case")
    elif benchmark.case is not None:
        parser.add_argument("--case", help="name in the section; a case of the same name is replaced (default: made of the arguments)")
    benchmark.options(parser)
    return parser


def _asked_for(benchmark: Benchmark, args: argparse.Namespace, argv: Sequence[str]) -> list[tuple[argparse.Namespace, list[str]]]:
    """The runs that the command asks for, each with the words that ask for it alone."""
    if not benchmark.cases:
        return [(args, list(argv))]
    others = [word for word in argv if word not in (*benchmark.cases, "--all", "--case")]
    names = benchmark.cases if args.all else args.case
    return [(argparse.Namespace(**{**vars(args), "case": name}), ["--case", name, *others]) for name in names]


def commands_of(benchmark: Benchmark, words: Sequence[str]) -> dict[str, str]:
    """The runs that these words ask for, by their names in the section ("" where that has no cases): the command of each alone."""
    args = _parser(benchmark).parse_args(list(words))
    return {
        _case_of(benchmark, asked) or "": command_of(benchmark.name, alone) for asked, alone in _asked_for(benchmark, args, list(words))
    }


def _case_of(benchmark: Benchmark, args: argparse.Namespace) -> str | None:
    """The run's name in the section; None where that has no cases."""
    if benchmark.case is None:
        return None
    return benchmark.case(args) if benchmark.cases or not args.case else str(args.case)


def models_of(benchmark: Benchmark, args: argparse.Namespace, embedded: Mapping[str, str]) -> dict[str, str]:
    """Of the embedded models and their fingerprints, those that a run with these arguments is measured with."""
    named = getattr(args, "model", None)
    if not benchmark.embedded or named is None:
        return dict(embedded) if benchmark.embedded else {}
    return {name: fingerprint for name, fingerprint in embedded.items() if name in ([named] if isinstance(named, str) else named)}


def _run(benchmark: Benchmark, args: argparse.Namespace, words: Sequence[str]) -> list[str]:
    """Measure one case, store and draw it; return the checks that failed."""
    import torch

    threads = getattr(args, "threads", 1)
    threads = threads[0] if isinstance(threads, list) else threads
    torch.set_num_threads(threads)
    args.out.mkdir(parents=True, exist_ok=True)
    observed = Observed()
    figures = benchmark.measure(args, observed)
    models = models_of(benchmark, args, repository().models)
    path = store(benchmark, args.out, figures, observed.seen, threads=threads, words=words, models=models, case=_case_of(benchmark, args))
    if benchmark.draw is not None:
        benchmark.draw(figures_of(json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))), args.out)
    return list(figures.get("failures", ()))


def store(
    benchmark: Benchmark,
    out: Path,
    figures: Figures,
    seen: Mapping[str, Any],
    *,
    threads: int,
    words: Sequence[str],
    models: Mapping[str, str],
    case: str | None = None,
) -> Path:
    """Write NAME.json into `out` and, from what it then holds, NAME.md; return the latter's path."""
    if not seen:
        raise ValueError(f"{benchmark.package}: `measure` did not enter the `Observed` that it was given")
    now, stored = repository(), out / f"{benchmark.name}.json"
    ran = {
        "command": command_of(benchmark.name, words),
        "commit": commit(),
        "engine": now.engine,
        "run": dict(seen),
        "machine": {**describe_machine(threads), "models": dict(models)},
        "figures": figures,
    }
    if case is None:
        section = {"title": benchmark.title, **ran}
    else:
        known = json.loads(stored.read_text(encoding="utf-8"))["cases"] if stored.exists() else {}
        section = {"title": benchmark.title, "cases": dict(sorted({**known, case: ran}.items()))}
    write_text(stored, json.dumps(section, indent=1, ensure_ascii=False) + "\n")
    path = stored.with_suffix(".md")
    write_text(path, render_section(json.loads(stored.read_text(encoding="utf-8")), benchmark.render, now))
    return path


def command_of(name: str, words: Sequence[str]) -> str:
    """The command as somebody else would give it: where files lie on this machine is left out."""
    told, skip = [], False
    for word in words:
        if skip or word == "--out" or word.startswith("--out="):
            skip = word == "--out"
            continue
        told.append(Path(word).name if "/" in word else word)
    return shlex.join(["python", "-m", f"benchmarks.{name}", *told])
