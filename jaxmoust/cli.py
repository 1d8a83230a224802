"""The command line: `jaxmoust VERB --config=PATH[:arg] --workdir=DIR [--config.field=value ...]`.

Exit codes: 0 done; 1 failed; 2 bad usage, configuration or input, with nothing written; 143 stopped on request
(SIGTERM), and 130 by Ctrl-C, with everything a later start needs on disk. A second Ctrl-C stops at once, with what is
finished and the last checkpoint. The heavy packages are imported once a command line has been understood.
"""

import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

DONE, FAILED, BAD_USAGE, INTERRUPTED, STOPPED = 0, 1, 2, 130, 143


class Usage(Exception):
    """The command line asks for nothing that can be done; the message says what can."""


@dataclass(frozen=True)
class Verb:
    """One thing the program does.

    Args:
        run: does it, given the parsed flags and the words they were parsed from.
        does: one line. help: what it reads and leaves, with an example.
        define: defines the flags that it takes besides the common ones.
        takes_config: whether it needs --config and --workdir.
        unless: a flag that asks for something without them.
        light: it reads and prints, without jobs or devices, so that jax is not imported for it.
        refused: of a light verb with --json, what it prints there of a command line that cannot be read.
        stray: what is said of words that are no flags.
    """

    run: Callable[[flags.FlagValues, list[str]], None]
    does: str
    help: str
    define: Callable[[flags.FlagValues], None] | None = None
    takes_config: bool = True
    unless: str = ""
    light: bool = False
    refused: Callable[[str], None] | None = None
    stray: str = "fields are set by --config.field=value"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program and exits."""
    sys.exit(call(list(sys.argv[1:] if argv is None else argv)))


def call(args: list[str]) -> int:
    """Runs one command line and returns the exit code."""
    try:
        if not args or args[0] in ("-h", "--help", "help"):
            print(_overview())
            return DONE if args else BAD_USAGE
        name, rest = args[0], args[1:]
        if name == "data" and rest and not rest[0].startswith("-"):
            name, rest = f"data {rest[0]}", rest[1:]
        if name == "data" and {"-h", "--help"} & set(rest):
            print("\n\n".join(_explained(n) for n in VERBS if n.startswith("data ")))
            return DONE
        if name not in VERBS:
            raise Usage(f"Unknown verb {name!r}. Allowed: {', '.join(VERBS)}. `jaxmoust --help` explains them.")
        verb = VERBS[name]
        if {"-h", "--help"} & set(rest):
            print(_explained(name))
            return DONE
        if verb.light:
            return _quietly(lambda: _light(name, verb, rest))
        values = _parse(name, verb, rest)
    except Usage as e:
        return _complain(e, BAD_USAGE)
    return _guarded(lambda: verb.run(values, rest))


def run(*args: str) -> None:
    """Runs one command line from a notebook, word by word: `run("fit", "--config=...", "--workdir=...")`.

    Raises: RuntimeError: it did not end well; what is wrong was printed, and no later cell runs on what is missing.
    """
    if code := call(list(args)):
        raise RuntimeError(f"jaxmoust {' '.join(args[:1])} ended with code {code}; it said why above.")


def _guarded(run: Callable[[], None]) -> int:
    from jaxmoust.generate.writing import NotAnImage
    from jaxmoust.jobs import BadInput
    from jaxmoust.runtime import stop
    from jaxmoust.runtime.checkpoint import BrokenCheckpoint
    from jaxmoust.runtime.progress import NonFiniteError
    from jaxmoust.study.store import BrokenResult
    from jaxmoust.train.predict import NonFiniteRows

    undo = stop.install()
    try:
        run()
    except (BadInput, Usage) as e:
        return _complain(e, BAD_USAGE)
    except stop.Stopped as e:
        return _complain(e, INTERRUPTED if stop.interrupted() else STOPPED)
    except (NonFiniteError, NonFiniteRows, NotAnImage, BrokenCheckpoint, BrokenResult) as e:
        return _complain(e, FAILED)
    except KeyboardInterrupt:
        what = "what is finished and the last checkpoint, where there is one"
        return _complain(f"Interrupted at once; the same command continues from {what}.", INTERRUPTED)
    except Exception:
        traceback.print_exc()
        return FAILED
    finally:
        undo()  # for a notebook or a test that goes on
    return DONE


def _light(name: str, verb: Verb, args: list[str]) -> int:
    """Runs a verb that reads and prints. With --json a program reads why there is no answer, whatever is wrong."""
    try:
        values = _parse(name, verb, args)
    except Usage as e:
        if verb.refused and {"--json", "--json=true"} & set(args):
            verb.refused(str(e))
        raise
    verb.run(values, args)
    return DONE


def _quietly(run: Callable[[], int]) -> int:
    """Runs something that prints for a reader who may have gone: `| head` is no failure to tell of."""
    try:
        try:
            return run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
        return FAILED


def _complain(message: object, code: int) -> int:
    print(f"jaxmoust: {message}", file=sys.stderr)
    return code


def _parse(name: str, verb: Verb, args: list[str]) -> flags.FlagValues:
    """Parses a verb's flags; --config may stand anywhere, its overrides too."""
    path, args = _config_path(args)
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "the folder that receives the result", flag_values=values)
    flags.DEFINE_string("coordinator", "", "host:port of process 0, or auto", flag_values=values)
    flags.DEFINE_integer("num_processes", 0, "processes of the run", flag_values=values)
    flags.DEFINE_integer("process_id", -1, "number of this process", flag_values=values)
    argv = [f"jaxmoust {name}", *args]
    if verb.define:
        verb.define(values)
    alone = verb.unless and path is None and any(word.partition("=")[0] == f"--{verb.unless}" for word in args)
    takes_config = verb.takes_config and not alone
    if takes_config:
        if path is None:
            raise Usage(f"--config is missing.\n\n{verb.help}")
        _define_config(path, argv, values)
    try:
        left = values(argv)[1:]
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as e:
        raise Usage(f"{e}\n`jaxmoust {name} --help` shows an example.") from e
    if left:
        raise Usage(f"Unexpected {' '.join(left)!r}: {verb.stray}.")
    if takes_config and not values.workdir:
        raise Usage(f"--workdir is missing: the folder that receives the result.\n\n{verb.help}")
    if not values.coordinator and (values.num_processes or values.process_id >= 0):
        raise Usage("--num_processes and --process_id need --coordinator=HOST:PORT, the same in every process.")
    return values


def _config_path(args: list[str]) -> tuple[str | None, list[str]]:
    """Takes `--config=PATH` or `--config PATH` out of the words: (the path or None, the other words)."""
    path, words, left = None, [], iter(args)
    for word in left:
        if word == "--config":
            path = next(left, None)
        elif word.startswith("--config="):
            path = word.removeprefix("--config=")
        else:
            words.append(word)
    return path, words


def _define_config(path: str, argv: list[str], values: flags.FlagValues) -> None:
    """Reads the configuration file and defines a flag for each field that a word overrides."""
    from ml_collections import config_flags

    from jaxmoust.config import read_config

    if not Path(path.partition(":")[0]).is_file():
        near = sorted(str(p) for p in (Path("configs"), Path("experiments")) for p in p.rglob("*.py"))
        raise Usage(f"No configuration file {path!r}. Here are: {', '.join(near) or 'none in configs/'}.")
    try:
        config = read_config(path)
        reason = _unknown_field(config.to_dict(), argv)
        if not reason:
            config_flags.DEFINE_config_dict("config", config, "fields", flag_values=values, sys_argv=argv)
    except Exception as e:  # a configuration file is a program: it may raise anything
        raise Usage(f"{e}" if isinstance(e, ValueError) else f"The configuration cannot be read: {e!r}.") from e
    if reason:
        raise Usage(reason)


def _unknown_field(config: dict, args: list[str]) -> str:
    """Names the first override of a field that the configuration does not have, and those it has; "" for none."""
    for arg in args:
        node, at = config, "config"
        for key in arg.partition("=")[0].split(".")[1:] if arg.startswith("--config.") else ():
            if not isinstance(node, dict) or "[" in key:
                break
            if key not in node:
                return f"{at} has no field {key!r}. Allowed: {', '.join(node) or 'none'}."
            node, at = node[key], f"{at}.{key}"
    return ""


def _machine(values: flags.FlagValues) -> None:
    from jaxmoust.runtime import parallel

    parallel.use_all_cores()
    if values.coordinator:
        try:
            parallel.initialize(values.coordinator, values.num_processes, values.process_id)
        except ValueError as e:
            raise Usage(e) from e
    cache = os.environ.get("JAXMOUST_CACHE", Path.home() / ".cache" / "jaxmoust")
    parallel.enable_compilation_cache(Path(cache) / "xla")


def _job(name: str) -> Callable[[flags.FlagValues, list[str]], None]:
    def run(values: flags.FlagValues, args: list[str]) -> None:
        from jaxmoust import jobs

        _machine(values)
        result = jobs.run(jobs.JOBS[name], values.config.to_dict(), Path(values.workdir))
        shown = {k: v for k, v in result.items() if isinstance(v, int | float | str) and k != "sampler"}
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items()))
        print(f"{values.workdir}/result.json")

    return run


def _study(values: flags.FlagValues, args: list[str]) -> None:
    from jaxmoust import jobs

    if values.index:
        if "config" in values:
            raise Usage("--index=FOLDER lists studies that were run; it takes no --config.")
        print(jobs.index_studies(Path(values.index)))
        return
    _machine(values)
    workdir = Path(values.workdir)
    command = shlex.join(["jaxmoust", "study", *args])
    store = Path(values.store or workdir.parent / "stages")
    jobs.study(values.config.to_dict(), workdir, store, command, values["dry-run"].value)


def _study_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("store", "", "where finished stages lie", flag_values=values)
    flags.DEFINE_bool(
        "dry-run", False, "print the stages to run and the time expected, write nothing", flag_values=values
    )
    flags.DEFINE_string("index", "", "a folder of studies: write its index.html, run nothing", flag_values=values)


def _data_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("source", "", "a name, such as digits, fashion_mnist, folder, tfds:NAME", flag_values=values)
    flags.DEFINE_string("path", "", "where the images lie", flag_values=values)
    flags.DEFINE_string("split", "train", "train or test", flag_values=values)
    flags.DEFINE_string("classes", "", "a text file: the classes to use, one a line", flag_values=values)
    flags.DEFINE_string("picture", "", "a PNG to draw, a row for each class", flag_values=values)


def _import_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("path", "", "a folder or a zip archive of images", flag_values=values)
    flags.DEFINE_string("source", "", "where that is another source, its name: cifake_fake, ...", flag_values=values)
    flags.DEFINE_string("split", "", "the part of it", flag_values=values)
    flags.DEFINE_string("labels", "", "a CSV file with the columns file, label[, prompt]", flag_values=values)
    flags.DEFINE_string("classes", "", "a text file: the classes to use, one a line", flag_values=values)
    flags.DEFINE_string("name", "", "what the set is called", flag_values=values)
    flags.DEFINE_string("generator", "", "what made the images", flag_values=values)
    flags.DEFINE_integer("seed", None, "the generator's seed, if known", flag_values=values)
    flags.DEFINE_float("guidance", None, "its guidance, if known; 1 is off", flag_values=values)
    flags.DEFINE_integer("steps", None, "its sampling steps, if known", flag_values=values)


def _inspect(values: flags.FlagValues, args: list[str]) -> None:
    from jaxmoust.data.sources import registry as sources
    from jaxmoust.data.synthetic import store as synthetic
    from jaxmoust.jobs import BadInput
    from jaxmoust.report import contact_sheet

    try:
        if values.source:
            source = sources.open_source(values.source, values.split, values.path, values.classes)
        elif values.path:
            source = synthetic.open_synthetic(Path(values.path))
        else:
            raise ValueError("Give --source=NAME (with --path=DIR for a folder), or --path=DIR of a synthetic set.")
        if values.picture:
            contact_sheet.contact_sheet(source).save(values.picture)
    except (ValueError, OSError) as e:
        raise BadInput(str(e)) from e
    shape = "images of several sizes" if source.shape is None else "x".join(map(str, source.shape))
    print(f"{source.name}: {len(source):,} images, {shape}, {len(source.class_names)} classes, digest {source.digest}")
    counts = source.class_counts()
    width = max(map(len, source.class_names))
    for name, count in zip(source.class_names, counts, strict=True):
        print(f"  {name:<{width}}  {count:>8,}")
    if values.picture:
        print(values.picture)


def _prepare(values: flags.FlagValues, args: list[str]) -> None:
    from jaxmoust.data.sources import registry as sources
    from jaxmoust.jobs import BadInput

    if not values.source:
        raise Usage("Give --source=tfds:NAME, a name of TFDS's catalogue.")
    try:
        folder = sources.prepare_tfds(values.source.removeprefix("tfds:"), values.path)
    except (ValueError, OSError, ImportError) as e:
        raise BadInput(str(e)) from e
    print(folder)


def _import(values: flags.FlagValues, args: list[str]) -> None:
    from jaxmoust.data.synthetic.importer import import_images
    from jaxmoust.jobs import BadInput

    if not (values.path or values.source) or not values.workdir:
        raise Usage("Give --path=DIR or --path=FILE.zip, the generated images, and --workdir=DIR, the set to write.")
    names = ("source", "split", "classes", "name", "generator", "seed", "guidance", "steps")
    fields = {name: getattr(values, name) for name in names}
    try:
        done = import_images(values.path, Path(values.workdir), table=values.labels, **fields)
    except (ValueError, OSError) as e:
        raise BadInput(str(e)) from e
    print(f"{done.num_images:,} images of {len(done.class_names)} classes in {values.workdir}")
    if done.passed_over:
        more = f" and {len(done.passed_over) - 20:,} more" if len(done.passed_over) > 20 else ""
        print(f"{len(done.passed_over):,} files passed over: {', '.join(done.passed_over[:20])}{more}")


def _equivalence_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string("results", [], "a results.csv, or several by commas", flag_values=values)
    flags.DEFINE_float("n_base", None, "how many real images there are", flag_values=values)
    flags.DEFINE_float("n_real_plus", None, "how many more one would like to have", flag_values=values)
    flags.DEFINE_list("real", [], "arms of real images alone; * stands for anything", flag_values=values)
    flags.DEFINE_list("mixed", [], "arms of real and synthetic images", flag_values=values)
    flags.DEFINE_string("generator", "", "takes the mixed runs of this generator", flag_values=values)
    flags.DEFINE_string("fine_tuning", "", "takes the mixed runs with this fine-tuning", flag_values=values)
    flags.DEFINE_string("sampler", "", "takes the mixed runs with this sampler", flag_values=values)
    flags.DEFINE_enum("law", "study", ["study", "effective"], "the law that n_syn is taken from", flag_values=values)
    flags.DEFINE_float("k", 1000.0, "the number of images that c1 is stated for", flag_values=values)
    flags.DEFINE_boolean("json", False, "one object on standard output in place of words", flag_values=values)


def _equivalence(values: flags.FlagValues, args: list[str]) -> None:
    from jaxmoust.analysis.equivalence import answer as equivalence_answer
    from jaxmoust.analysis.equivalence import fit as equivalence
    from jaxmoust.analysis.equivalence import results_csv

    question = {name: getattr(values, name) for name in ("k", "law", "n_base", "n_real_plus")}
    known = {}
    try:
        paths = [path for word in values.results for path in word.split(",") if path]
        if not paths:
            raise Usage(f"--results is missing: the results.csv of a study.\n\n{VERBS['equivalence'].help}")
        if values.n_real_plus is not None and values.n_base is None:
            raise Usage("--n_real_plus needs --n_base: how many real images there are already.")
        equivalence.check_sizes(**{name: x for name, x in question.items() if name != "law" and x is not None})
        settings = {name: getattr(values, name) for name in results_csv.SETTINGS}
        rows = results_csv.read_rows(paths)
        known["chosen"] = chosen = results_csv.choose(rows, values.real or results_csv.REAL, values.mixed, **settings)
        fit = equivalence.fit(chosen.real, chosen.mixed)
    except (Usage, ValueError) as e:
        if isinstance(e, equivalence.AllCensored):
            known["bounds"] = e
        if values.json:
            _equivalence_refused(str(e), **question, **known)
        raise Usage(e) from e
    if values.json:
        print(json.dumps(equivalence_answer.record(fit, chosen, **question), allow_nan=False))
    else:
        print("\n".join(equivalence_answer.words(fit, chosen, **question)))


def _equivalence_refused(reason: str, **known: Any) -> None:
    """Prints the object that says why there is no answer, without the help that follows on standard error."""
    from jaxmoust.analysis.equivalence import answer as equivalence_answer

    print(json.dumps(equivalence_answer.refusal(reason.partition("\n")[0], **known), allow_nan=False))


def _explained(name: str) -> str:
    return f"jaxmoust {name}: {VERBS[name].does}\n\n{VERBS[name].help}"


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {verb.does}" for name, verb in VERBS.items())
    return f"""jaxmoust: will generated images help my classifier, and how many are worth one more real image?

  jaxmoust VERB --config=PATH[:arg] --workdir=DIR [--config.field=value ...]

{verbs}

The whole question on a small data set, in minutes:
  jaxmoust study --config=experiments/quickstart.py --workdir=runs/quickstart

Run a command again and it continues where it stopped, or finds what is done. Several processes: start the same
command in each with --coordinator=HOST:PORT --num_processes=N --process_id=I (or --coordinator=auto on a TPU pod).
`jaxmoust VERB --help` shows what a verb reads and leaves, with an example.
Exit codes: 0 done, 1 failed, 2 bad usage or input (nothing written), 143 stopped on request (SIGTERM) or 130 (Ctrl-C;
again: at once) with a checkpoint."""


VERBS = {
    "fit": Verb(
        _job("fit"),
        "trains a generator inside a data set (DDPM, EDM), or fine-tunes Stable Diffusion on it",
        """Leaves checkpoints/, metrics.jsonl, tensorboard/ and result.json in --workdir.

  jaxmoust fit --config=configs/generator/digits_edm.py --workdir=runs/edm
  jaxmoust fit --config=configs/generator/digits_edm.py --workdir=runs/edm500 --config.data.n_base=500

  jaxmoust fit --config=configs/generator/digits_tiny_sd_lora.py --workdir=runs/tiny_sd_lora

The third trains adapters of Stable Diffusion and leaves lora.safetensors, which torch's diffusers reads; a whole U-Net
is left as pipeline/, new words as tokens/. The configuration file lists every field.""",
    ),
    "merge": Verb(
        _job("merge"),
        "writes a fine-tuned Stable Diffusion pipeline as a plain folder",
        """Leaves pipeline/ in --workdir, in the layout that diffusers reads, with adapters and new words in it.

  jaxmoust merge --config=configs/merge.py --workdir=runs/merged --config.pipeline.path=runs/tiny_sd_lora""",
    ),
    "import": Verb(
        _job("import"),
        "takes a public diffusion network over as a generator",
        """Reads a diffusers UNet2DModel folder, or the state dict of one of EDM's networks as .npz or .safetensors, and
leaves in --workdir what `fit` leaves: a generator that `sample` draws from.

  jaxmoust import --config=configs/import.py --workdir=runs/public --config.path=ddpm-cifar10-32
  jaxmoust import --config=configs/import.py:cat,dog --workdir=runs/public --config.path=edm.npz""",
    ),
    "sample": Verb(
        _job("sample"),
        "writes a synthetic set from a generator",
        """Leaves a TFDS data set in --workdir: `tfds.builder_from_directory(DIR).as_data_source()` opens it.

  jaxmoust sample --config=configs/sample/edm.py --workdir=runs/edm_set --config.generator=runs/edm
  jaxmoust sample --config=configs/sample/sd15_cifar10.py --workdir=runs/sd15 --config.sample.guidance=3.0

The second draws with Stable Diffusion, of the Hugging Face hub or of a folder (--config.pipeline.path=DIR).
Image i of class c depends on (generator, seed, c, i) alone. Missing shards are filled in on a restart.""",
    ),
    "train": Verb(
        _job("train"),
        "trains a classifier on real and synthetic images",
        """Leaves checkpoints/, metrics.jsonl, ranks.npy and result.json (top1, top5, n, per class) in --workdir.

  jaxmoust train --config=configs/classifier/digits_resnet.py --workdir=runs/real
  jaxmoust train --config=configs/classifier/digits_resnet.py:synthetic=runs/edm_set,share=0.5 --workdir=runs/mixed

Real images are the source "real" of the pool; a synthetic set goes by the name it was written with.""",
    ),
    "evaluate": Verb(
        _job("evaluate"),
        "judges a trained classifier on a test set",
        """Every test image is counted once, at any batch size and number of devices.

  jaxmoust evaluate --config=configs/evaluate.py --workdir=runs/real_eval --config.checkpoint=runs/real""",
    ),
    "score": Verb(
        _job("score"),
        "scores a synthetic set by a trained classifier, or by CLIP",
        """Leaves scores.npy, a number for each image, in --workdir. Weighted and easy-to-hard samplers and filters read
it by name when it lies in the set's own folder scores/.

  jaxmoust score --config=configs/score/classifier.py --workdir=runs/edm_set/scores/confidence \\
    --config.checkpoint=runs/real --config.set=runs/edm_set
  jaxmoust train --config=configs/classifier/digits_resnet.py:synthetic=runs/edm_set --workdir=runs/filtered \\
    --config.data.scores=confidence --config.data.drop_lowest=0.2
  jaxmoust score --config=configs/score/clip.py --workdir=runs/edm_set/scores/clip --config.set=runs/edm_set \\
    --config.clip=clip-vit-base-patch32

The last asks CLIP, of a local folder, for p(class | image) among the classes' names.""",
    ),
    "measure": Verb(
        _job("measure"),
        "measures how close a synthetic set is to the real images, and whether its generator copied them",
        """Leaves result.json in --workdir: FID, KID, precision, recall, density, coverage and CMMD, each with the
extractor's name and beside its floor (test images in the place of synthetic ones); memorisation.json, ratios.npz;
pairs.npz and pairs.png, the synthetic images that come closest to a training image.

  jaxmoust measure --config=configs/measure/digits.py --workdir=runs/edm_measured --config.set=runs/edm_set \\
    --config.extractor.path=runs/real
  jaxmoust measure --config=configs/measure/cifar10.py:clip --workdir=runs/measured --config.set=runs/edm_set \\
    --config.extractor.path=clip-vit-large-patch14-336

The extractor is a classifier that `train` left, a pre-trained ViT's file, the folder of a CLIP, or the weights of FID's
Inception as .safetensors or .npz. The data are those that the generator learnt from. (The accuracy of a classifier
trained on synthetic images alone, CAS, is the Top-1 of an arm with share 1 in a study.)""",
    ),
    "domain": Verb(
        _job("domain"),
        "measures how well real and synthetic images can be told apart, and scores the set by its density ratio",
        """Trains classifiers of real against synthetic, each judging images that it has not seen. Leaves result.json
(accuracy, auc, their intervals), features.npz (the images in the plane of the classifier's features) and scores.npy
in --workdir: the ratio p(image | real) / p(image | synthetic) of each synthetic image, which samplers and filters read.

  jaxmoust domain --config=configs/domain/digits.py --workdir=runs/edm_set/scores/density_ratio \\
    --config.set=runs/edm_set --config.classifier=runs/real
  jaxmoust train --config=configs/classifier/digits_resnet.py:synthetic=runs/edm_set --workdir=runs/filtered \\
    --config.data.scores=density_ratio --config.data.drop_lowest=0.2""",
    ),
    "study": Verb(
        _study,
        "runs an experiment: every arm at every seed, then the page",
        """Leaves results.csv (the runs), report/index.html and report/summary.csv (the arms) in --workdir; finished
stages go to --store (default: stages/ beside --workdir), are named by what they depend on, and are found again by
this study and the next. Several processes may be given the same command, or share a store: each stage is computed by
one of them. --dry-run says what would be run, and how long that takes where the like was measured. --index=FOLDER
lists the studies below a folder on one page, each with its answer; a study writes that of the folder it lies in by
itself.

  jaxmoust study --config=experiments/quickstart.py --workdir=runs/quickstart
  jaxmoust study --config=experiments/quickstart.py --workdir=runs/five_seeds --config.seeds=0,1,2,3,4 --dry-run
  jaxmoust study --config=experiments/quickstart.py --workdir=runs/five_seeds --config.seeds=0,1,2,3,4
  jaxmoust study --index=runs""",
        _study_flags,
        unless="index",
    ),
    "equivalence": Verb(
        _equivalence,
        "answers from a study's results.csv: how many synthetic images are worth one more real image?",
        """Prints the answer in words, with --json as one object. Without --n_real_plus it prints exchange rates alone.

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
also the object with "refused" on standard output, in which stands what is known all the same (arms, bounds).""",
        _equivalence_flags,
        takes_config=False,
        light=True,
        refused=_equivalence_refused,
        stray="several files are given by commas, --results=A,B, and every other field as --name=value",
    ),
    "data inspect": Verb(
        _inspect,
        "counts and shows the images of a data set or a synthetic set",
        """  jaxmoust data inspect --source=digits
  jaxmoust data inspect --source=folder --path=my_images --split=test --picture=sheet.png
  jaxmoust data inspect --source=folder --path=imagenet --classes=imagenet100.txt
  jaxmoust data inspect --source=medmnist --path=bloodmnist.npz --split=val
  jaxmoust data inspect --path=runs/edm_set --picture=sheet.png""",
        _data_flags,
        False,
    ),
    "data import": Verb(
        _import,
        "turns generated images (a folder or a zip, labelled by folder or by a CSV; CIFAKE) into a synthetic set",
        """  jaxmoust data import --path=generated --workdir=runs/imported
  jaxmoust data import --path=generated.zip --labels=labels.csv --generator="Stable Diffusion 2" --guidance=2 \\
    --workdir=runs/imported
  jaxmoust data import --source=cifake_fake --path=cifake.zip --split=train --workdir=runs/cifake

A folder for each class (all in one place, or below --split), or --labels: a CSV file, on the disk or inside --path,
with the columns file, label and, if known, prompt. --classes gives the classes and their order. Images of one size.
Nothing is unpacked: an archive whose members lead out of it, are links or swell is refused. Other files are listed.""",
        _import_flags,
        False,
    ),
    "data prepare": Verb(
        _prepare,
        "downloads and prepares a data set of TFDS's own catalogue (needs the `tfds` extra)",
        """  jaxmoust data prepare --source=tfds:cifar10 --path=datasets""",
        _data_flags,
        False,
    ),
}
