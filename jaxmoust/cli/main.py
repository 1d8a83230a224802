"""The command line: `jaxmoust VERB --config=PATH[:arg] --workdir=DIR [--config.field=value ...]`.

Exit codes: 0 done; 1 failed; 2 bad usage, configuration or input, with nothing written; 143 stopped on request
(SIGTERM), and 130 by Ctrl-C, with everything a later start needs on disk. A second Ctrl-C stops at once, with what is
finished and the last checkpoint. The heavy packages are imported once a command line has been understood. What a verb
takes and does stands in its file in jobs/.
"""

import argparse
import difflib
import errno
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn

from jaxmoust import __version__
from jaxmoust.cli.terminal import plain_streams
from jaxmoust.jobs.parts.registry import BadInput, Entry, entries

DONE, FAILED, BAD_USAGE, INTERRUPTED, STOPPED = 0, 1, 2, 130, 143
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Usage(Exception):
    """The command line asks for nothing that can be done; the message says what can."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong by an exception, for `call` to print."""

    def error(self, message: str) -> NoReturn:
        raise Usage(f"{message[:1].upper()}{message[1:]}. `{self.prog} --help` says what there is.")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program and exits."""
    args = list(sys.argv[1:] if argv is None else argv)
    if any(word.startswith("--coordinator") for word in args):
        from jaxmoust.runtime.processes import supervise

        sys.exit(supervise(lambda: call(args, ends_process=True), FAILED, STOPPED))
    sys.exit(call(args, ends_process=True))


@plain_streams()
def call(args: list[str], ends_process: bool = False) -> int:
    """Runs one command line and returns the exit code.

    Args: ends_process: whether a second Ctrl-C may end the whole process: it is the program, and no notebook.
    """
    try:
        if not args or args[0] in ("-h", "--help", "help"):
            return _ignore_broken_pipe(lambda: print(_overview()), DONE if args else BAD_USAGE)
        if args == ["--version"]:
            return _ignore_broken_pipe(lambda: print(f"jaxmoust {__version__}"))
        for word in args:
            if "://" in word:
                from jaxmoust.runtime.bucket import SCHEMES

                _refuse_url(*word.partition("=")[::2], SCHEMES)
        verb, rest = _verb(args)
        if {"-h", "--help"} & set(rest):
            return _ignore_broken_pipe(lambda: print(_explained(verb)))
        light = [entry for entry in _of(verb) if not entry.tasks]
        work = (lambda: _run_read_only(verb, light[0].load(), rest)) if light else (lambda: _configured(verb, rest))
        return _ignore_broken_pipe(lambda: _guarded(work, ends_process))
    except (Usage, BadInput) as e:
        return _print_error(e, BAD_USAGE)


def run(*args: str) -> None:
    """Runs one command line from a notebook, word by word: `run("fit", "--config=...", "--workdir=...")`.

    Raises: RuntimeError: it did not end well; what is wrong was printed, and no later cell runs on what is missing.
    """
    if code := call(list(args)):
        raise RuntimeError(f"jaxmoust {' '.join(args[:1])} ended with code {code}; it said why above.")


def _refuse_url(name: str, value: str, allowed: Collection[str] = ()) -> None:
    from jaxmoust.runtime.paths import refuse_url

    try:
        refuse_url(*((name, value) if value else ("A path", name)), allowed)
    except ValueError as e:
        raise Usage(e) from e


def _of(verb: str) -> list[Entry]:
    return [entry for entry in entries() if entry.verb == verb]


def _verb(args: list[str]) -> tuple[str, list[str]]:
    """Splits the verb, of one word or two, from the rest."""
    verbs = list(dict.fromkeys(entry.verb for entry in entries()))
    for words in (2, 1):
        if " ".join(args[:words]) in verbs:
            return " ".join(args[:words]), args[words:]
    family = [verb for verb in verbs if verb.startswith(f"{args[0]} ")]
    if family and (not args[1:] or args[1].startswith("-")):
        if {"-h", "--help"} & set(args):
            return args[0], args[1:]
        raise Usage(f"`{args[0]}` is one of: {', '.join(family)}. `jaxmoust {args[0]} --help` explains them.")
    name = " ".join(args[: 2 if family else 1])
    close = difflib.get_close_matches(name, verbs, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    raise Usage(f"Unknown verb {name!r}.{meant} Allowed: {', '.join(verbs)}. `jaxmoust --help` explains them.")


def parser_of(verb: str) -> argparse.ArgumentParser:
    """What a verb takes besides the fields of its configuration."""
    parser = _Parser(prog=f"jaxmoust {verb}", add_help=False, allow_abbrev=False)
    if any(entry.tasks for entry in _of(verb)):
        add = parser.add_argument
        add("--config", help="PATH[:arg] of the configuration file")
        add("--workdir", default="", help="the folder that receives the result")
        add("--scratch", default="", help="of a --workdir in a bucket: the folder of the disk for what is worked on")
        add("--coordinator", default="", help="of several processes: HOST:PORT of the first, or auto (TPU pod, SLURM)")
        add("--num_processes", default=0, type=int, help="how many processes there are")
        add("--process_id", default=-1, type=int, help="which of them this is, from 0")
    for entry in _of(verb):
        if not entry.tasks or verb == "study":
            entry.load().arguments(parser)
    return parser


def _run_read_only(verb: str, module: Any, args: list[str]) -> None:
    """Runs a verb that reads and prints, or writes files, without jobs or devices.

    Of one with `refused`, a program that asked for --json reads why there is no answer, whatever is wrong.
    """
    args = [word.removesuffix("=true") if word.startswith("--") else word for word in args]
    parser = parser_of(verb)
    try:
        parsed, stray = parser.parse_known_args(args)
        words = [word for word in stray if word.startswith("--config.")]
        if left := [word for word in stray if word not in words or not getattr(module, "OVERRIDES", False)]:
            how = getattr(module, "USAGE_HINT", "fields are --name=value, such as --path=DIR")
            raise Usage(_unexpected(parser, left, how))
    except Usage as e:
        if hasattr(module, "on_usage_error") and "--json" in args:
            module.on_usage_error(str(e))
        raise
    for name in getattr(module, "WRITES", ()):
        _refuse_url(f"--{name}", getattr(parsed, name))
    local = argparse.Namespace(**{name: _read_here(value) for name, value in vars(parsed).items()})
    module.main(*((local, words) if getattr(module, "OVERRIDES", False) else (local,)))


def _read_here(value: Any) -> Any:
    """What lies in a bucket as a copy on the disk; a path, or what is no text, as it is."""
    if not isinstance(value, str) or "://" not in value:
        return value
    from jaxmoust.runtime.bucket import BucketError
    from jaxmoust.runtime.bucket_copy import fetched

    try:
        return str(fetched(value))
    except BucketError as e:
        raise BadInput(str(e)) from e


def _configured(verb: str, args: list[str]) -> None:
    """Runs a verb that takes a configuration."""
    words = [word for word in args if word.startswith("--config.")]
    parser = parser_of(verb)
    own = [entry.load() for entry in _of(verb) if verb == "study"]
    parsed, stray = parser.parse_known_args([word for word in args if word not in words])
    if stray:
        raise Usage(_unexpected(parser, stray, "fields are set by --config.field=value"))
    if own and own[0].without_config(parsed):
        return
    if not parsed.config:
        raise Usage(f"--config is missing.\n\n{_explained(verb)}")
    if not parsed.workdir:
        raise Usage(f"--workdir is missing: the folder that receives the result.\n\n{_explained(verb)}")
    if not parsed.coordinator and (parsed.num_processes or parsed.process_id >= 0):
        raise Usage("--num_processes and --process_id need --coordinator=HOST:PORT, the same in every process.")
    from jaxmoust.jobs.parts.configure import configuration

    _refuse_url("--config", parsed.config)
    _refuse_url("--scratch", parsed.scratch)
    if parsed.scratch:
        os.environ["JAXMOUST_SCRATCH"] = parsed.scratch  # workers of a study have it, too
    _, config, _ = configuration(parsed.config, words, verb)
    _machine(parsed)
    command = shlex.join(["jaxmoust", verb, *args])
    if own:
        own[0].main(config, parsed, command)
        return
    from jaxmoust.jobs.parts.job import do, folder_at

    with folder_at(parsed.workdir) as folder:
        outcome = do(config, folder)
    shown = {k: v for k, v in outcome.result.items() if isinstance(v, int | float | str) and k != "sampler"}
    print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items()))
    print(f"{parsed.workdir}/result.json" + (f" (found: it was finished on {outcome.found})" if outcome.found else ""))


def _unexpected(parser: argparse.ArgumentParser, words: list[str], how: str) -> str:
    flags = [flag for action in parser._actions for flag in action.option_strings]
    close = difflib.get_close_matches(words[0].partition("=")[0], flags, n=1) if words[0].startswith("-") else []
    return f"Unexpected {' '.join(words)!r}: " + (f"did you mean {close[0]}?" if close else f"{how}.")


def _machine(parsed: argparse.Namespace) -> None:
    from jaxmoust.runtime import parallel

    parallel.use_all_cores()
    if parsed.coordinator:
        try:
            given = (parsed.coordinator, parsed.num_processes, parsed.process_id)
            parallel.initialize(*given, say=lambda line: print(f"jaxmoust: {line}", file=sys.stderr, flush=True))
        except ValueError as e:
            raise Usage(e) from e
    parallel.enable_compilation_cache()


def _guarded(run: Callable[[], None], ends_process: bool = False) -> int:
    """Runs work that may be stopped, and turns what it raises into a sentence and a code."""
    from jaxmoust.runtime import stop

    undo = stop.install(ends_process)
    try:
        run()
        return DONE
    except (BadInput, Usage) as e:
        return _print_error(e, BAD_USAGE)
    except stop.Stopped as e:
        return _print_error(e, INTERRUPTED if stop.interrupted() else STOPPED)
    except KeyboardInterrupt:
        return _print_error(stop.AT_ONCE, INTERRUPTED)
    except BrokenPipeError:
        raise  # for `_ignore_broken_pipe`: nobody reads any more
    except Exception as e:
        if getattr(e, "errno", 0) in NO_ROOM or os.strerror(errno.ENOSPC) in str(e):  # TensorStore's are no OSErrors
            return _print_error(f"{e}. Make room; the same command continues from what is finished.", FAILED)
        if isinstance(e, _said_in_words()):
            return _print_error(e, FAILED)
        if "Gloo" in str(e) or "oordination" in str(e):  # what JAX's collectives and its service raise
            from jaxmoust.runtime.processes import OTHER_ENDED

            return _print_error(OTHER_ENDED, STOPPED if stop.requested() else FAILED)
        traceback.print_exc()
        return FAILED
    finally:
        undo()  # for a notebook or a test that goes on


def _said_in_words() -> tuple[type[Exception], ...]:
    """Failures of a run that say all there is to say. What could raise them has been imported by now."""
    from jaxmoust.generate.writing import NonFiniteImage
    from jaxmoust.jobs.study import StudyFailed
    from jaxmoust.runtime.bucket import BucketError
    from jaxmoust.runtime.checkpoint import BrokenCheckpoint
    from jaxmoust.runtime.parallel import FailedElsewhere
    from jaxmoust.runtime.progress import NonFiniteError
    from jaxmoust.study.store import BrokenResult
    from jaxmoust.train.predict import NonFiniteRows

    of_runs = NonFiniteError, NonFiniteRows, NonFiniteImage, BrokenCheckpoint, BrokenResult, StudyFailed
    return BucketError, FailedElsewhere, *of_runs


def _ignore_broken_pipe(run: Callable[[], Any], code: int | None = None) -> int:
    """Runs something that prints for a reader who may have gone: `| head` is no failure to tell of."""
    try:
        try:
            returned = run()
            return returned or DONE if code is None else code
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
        return FAILED


def _print_error(message: object, code: int) -> int:
    print(f"jaxmoust: {message}", file=sys.stderr)
    return code


def _explained(verb: str) -> str:
    """The help of a verb, or of all that begin with its word: what each does, how, and what it takes."""
    chosen = _of(verb) or [entry for entry in entries() if entry.verb.startswith(f"{verb} ")]
    texts = []
    for one in dict.fromkeys(entry.verb for entry in chosen):
        texts += [f"jaxmoust {one}: {entry.does}\n\n{entry.help}" for entry in chosen if entry.verb == one]
        parser = parser_of(one)
        parser.usage = argparse.SUPPRESS
        texts.append(parser.format_help().strip())
    if any(entry.tasks for entry in chosen):
        texts.append(
            "Every field of the configuration is set by --config.section.field=value; `jaxmoust config --config=PATH` "
            "prints them all."
        )
    return "\n\n".join(texts)


def _overview() -> str:
    does = {entry.verb: entry.does for entry in reversed(entries())}
    width = max(map(len, does))
    verbs = "\n".join(f"  {verb:<{width}}  {does[verb]}" for verb in reversed(does))
    return f"""jaxmoust: will generated images help my classifier, and how many are worth one more real image?

  jaxmoust VERB --config=PATH[:arg] --workdir=DIR [--config.field=value ...]

{verbs}

An example that takes minutes:
  jaxmoust study --config=experiments/quickstart.py --workdir=runs/quickstart

Run a command again and it continues where it stopped, or finds what is done. Several processes: start the same
command in each with --coordinator=HOST:PORT --num_processes=N --process_id=I (or --coordinator=auto on a TPU pod).
`jaxmoust VERB --help` shows what a verb reads and leaves, with an example.
Exit codes: 0 done, 1 failed, 2 bad usage or input (nothing written), 143 stopped on request (SIGTERM) or 130 (Ctrl-C;
again: at once) with a checkpoint."""
