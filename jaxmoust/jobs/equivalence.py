"""Verb `equivalence`: answers from a study's results.csv: how many synthetic images are worth one more real image?

Prints the answer in words, with --json as one object. Without --n_real_plus it prints exchange rates alone.

  jaxmoust equivalence --results=runs/base_size/results.csv --n_base=1000 --n_real_plus=500
  jaxmoust equivalence --results=runs/small/results.csv,runs/large/results.csv --mixed=edm_mixed --json

It reads the columns n_base, n_synthetic, seed and top1 (percent), and arm, share, generator, fine_tuning and sampler
where there are several kinds of runs. Real images alone, at several n_base, are the learning curve: the arms that
--real names, by default "real" and "real_250", "real_1000", ...; controls (duplicated, augmented) are left out. The
mixtures are all runs with both kinds of images: one kind of them, chosen by --generator, --fine_tuning, --sampler or
--mixed=ARM,ARM (* stands for anything). Intervals are 95 %, from resampled seeds. Where nothing was measured there is
no figure, and the answer says what is missing. --law=effective takes n_syn from n_eff = n_base + kappa n_syn^eta in
place of the study's law; --k=100 states the study's c1 per 100 images (it is exp(a k)).

Exit code 0 with an answer, or with the reason why this question has none ("No answer: ...", or "refused" in the
object); 2 where the question, the file or the runs allow no fit at all: the reason is on standard error, with --json
also the object with "refused" on standard output, in which stands what is known all the same (arms, bounds).
"""

import argparse
import json
from typing import Any

from jaxmoust.jobs.parts.registry import BadInput

USAGE_HINT = "several files are given by commas, --results=A,B, and every other field as --name=value"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    add = parser.add_argument
    add("--results", action="append", default=[], help="a results.csv, or several by commas")
    add("--n_base", type=float, help="how many real images there are")
    add("--n_real_plus", type=float, help="how many more one would like to have")
    add("--real", type=_names, default=[], help="arms of real images alone; * stands for anything")
    add("--mixed", type=_names, default=[], help="arms of real and synthetic images")
    add("--generator", default="", help="takes the mixed runs of this generator")
    add("--fine_tuning", default="", help="takes the mixed runs with this fine-tuning")
    add("--sampler", default="", help="takes the mixed runs with this sampler")
    add("--law", choices=("study", "effective"), default="study", help="the law that n_syn is taken from")
    add("--k", type=float, default=1000.0, help="the number of images that c1 is stated for")
    add("--json", action="store_true", help="print one object in place of words")


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def main(args: argparse.Namespace) -> None:
    """Reads, fits, answers. Raises: BadInput: the question, the files or the runs allow no fit."""
    from jaxmoust.analysis.equivalence import answer, fit, results_csv

    question = answer.Question(args.k, args.law, args.n_base, args.n_real_plus)
    known: dict[str, Any] = {}
    try:
        paths = [path for word in args.results for path in word.split(",") if path]
        if not paths:
            raise ValueError(
                "--results is missing: the results.csv of a study.\n`jaxmoust equivalence --help` says more."
            )
        if args.n_real_plus is not None and args.n_base is None:
            raise ValueError("--n_real_plus needs --n_base: how many real images there are already.")
        question.check()
        settings = {name: getattr(args, name) for name in results_csv.SETTINGS}
        rows = results_csv.read_rows(paths)
        known["chosen"] = chosen = results_csv.choose(rows, args.real or results_csv.REAL, args.mixed, **settings)
        fitted = fit.fit(chosen.real, chosen.mixed)
    except ValueError as e:
        if isinstance(e, fit.AllCensored):
            known["bounds"] = e
        if args.json:
            on_usage_error(str(e), question=question, **known)
        lost = answer.loss_sentence(e.points, e.curve) if isinstance(e, fit.AllCensored) else ""
        raise BadInput(f"{e}. {lost}" if lost else str(e)) from e
    if args.json:
        print(json.dumps(answer.record(fitted, chosen, question), allow_nan=False))
    else:
        print("\n".join(answer.words(fitted, chosen, question)))


def on_usage_error(reason: str, **known: Any) -> None:
    """Prints the object that says why there is no answer, without the help that follows on standard error."""
    from jaxmoust.analysis.equivalence import answer

    print(json.dumps(answer.refusal(reason.partition("\n")[0], **known), allow_nan=False))
