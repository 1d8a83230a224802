"""What a configuration refers to: finished runs, synthetic sets, files, and the data sets that jobs share.

Inside a study a reference is the name of a stage, which may be yet to come: then what is known of it beforehand stands
in its place, so that a job checks itself the same way before and after.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.config import Config, plain
from jaxmoust.data.image import Encoded, EncodedImages
from jaxmoust.data.mixture import as_tuple
from jaxmoust.data.near_duplicates import Look
from jaxmoust.data.real import RealData, open_set, real_data
from jaxmoust.data.source import Lineage, Soft, Source, digest_bytes, digest_files
from jaxmoust.data.sources.image_folder import Rules
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.data.synthetic.spec import Descent, hardest, in_turn
from jaxmoust.jobs.parts.lookalikes import by_features
from jaxmoust.runtime.bucket import scheme_of
from jaxmoust.runtime.bucket_copy import fetched
from jaxmoust.runtime.checkpoint import BEST
from jaxmoust.runtime.folder import digest, refuse_damaged
from jaxmoust.runtime.paths import read_json, refuse_url

# Fields that name folders which runs write besides their own.
WRITTEN = {"map_dir": "data.map_dir", "keep": "latents.keep"}


@dataclasses.dataclass(frozen=True)
class Output:
    """What a job left, or will leave.

    Args:
        config: its configuration. result: what its result.json says; of one that is yet to run, what is known of it.
        folder: where it lies; None before it has run.
        which: "newest" or "best": the checkpoint that is meant.
    """

    config: Config
    result: dict[str, Any]
    folder: Path | None
    which: str = "newest"


class Inputs:
    """Opens what configurations refer to; what several of them share, once.

    Args:
        resolve: turns a reference into its path: `Path` on the command line, a look-up in the store inside a study.
        names: says of a reference whether it is the name of a stage, which covers its content.
    """

    def __init__(self, resolve: Callable[[str], Path] = Path, names: Callable[[str], bool] = lambda ref: False):
        self._resolve, self._names = resolve, names
        self._real: dict[str, RealData] = {}
        self._digests: dict[str, str] = {}
        # What is yet to be computed, by its name, and what checking it has opened that checks of others want, too.
        self.planned: dict[str, Output] = {}
        self.shared: dict[str, Any] = {}

    def local(self, value: Any) -> Any:
        """A configuration with copies on the disk, fetched once, in the place of what it names in buckets.

        Raises: BucketError: one cannot be read. ValueError: one is to be written, which is done on disks alone.
        """
        if isinstance(value, str):
            if "://" not in value or not scheme_of(value):
                return value
        elif isinstance(value, tuple | list):
            return type(value)(self.local(one) for one in value)
        elif isinstance(value, (dict, Mapping)):
            for name in WRITTEN.keys() & value.keys():
                refuse_url(f"config.{WRITTEN[name]}", str(value[name]))
            return {name: self.local(one) for name, one in value.items()}
        else:
            return value
        url = value.removesuffix(BEST)
        return str(self.once(f"copy of {url}", lambda: fetched(url))) + value[len(url) :]

    def path(self, ref: str) -> Path:
        """Where something lies: what a name means to the resolver, else to the file system."""
        ref = ref.removesuffix(BEST)
        here = self._resolve(ref).expanduser()
        return here if here.exists() else Path(ref).expanduser()

    def real(self, data: Config) -> RealData:
        """Opens the real images of a data section. Raises: ValueError: whatever is wrong with them."""
        wanted = {name: value for name, value in data.items() if name in _REAL_FIELDS}
        rules = rules_of(data)
        name = repr((sorted(wanted.items()), rules))
        if name not in self._real:
            try:
                self._real[name] = real_data(**wanted, rules=rules, look=self.look(rules.near_duplicates_by))
            except ValueError as e:
                here = Path(data["path"]).expanduser()
                absent = data["source"] != "digits" and not (data["path"] and here.exists())
                raise ValueError(f"{e}{_WITHOUT_DATA if absent else ''}") from e
        return self._real[name]

    def look(self, backbone: str) -> Look | None:
        """Finds images that look alike to a public network; "" is none."""
        return by_features(str(self.path(backbone)), self.digest(backbone)) if backbone else None

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, made once for all that ask under the same name."""
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]

    def forget(self, ref: str) -> None:
        """Takes back what was known of a run before it ran: from now on, what it left counts."""
        self.planned.pop(ref, None)
        self.shared.pop(ref, None)

    def output(self, ref: str, tasks: str | tuple[str, ...], verb: str) -> Output:
        """What a run of a task (or of one of several) left in a folder, or will leave.

        Raises: ValueError: there is none, and the verb that makes one is named; or it is damaged.
        """
        tasks = (tasks,) if isinstance(tasks, str) else tasks
        which = "best" if ref.endswith(BEST) else "newest"
        if planned := self.planned.get(ref.removesuffix(BEST)):
            return dataclasses.replace(planned, which=which)
        folder = self.path(ref)
        refuse_damaged(folder)
        config, result = read_object(folder / "config.json"), read_object(folder / "result.json")
        if config is None or result is None or config.get("task") not in tasks:
            raise ValueError(
                f"{folder} holds no finished {' or '.join(map(repr, tasks))} run. "
                f"Run `jaxmoust {verb} --workdir={folder}` first."
            )
        return Output(plain(config), result, folder, which)

    def synthetic(self, ref: str, real: Source | None = None, num_images: int = 0) -> Source:
        """Opens a synthetic set; of one that is yet to be sampled, its labels alone.

        Args:
            real: the images that it is to be mixed with: of the same classes. num_images: the first so many; 0 is all.
        Raises: ValueError: no such set, other classes, or more images wanted than there are.
        """
        if ref not in self.planned:
            path = self.path(ref)
            return open_set(path, real, num_images) if real else synthetic.open_synthetic(path)
        output = self.planned[ref]
        names, shape = tuple(output.result["class_names"]), tuple(output.result["image_shape"])
        drawn = {k: v for k, v in output.config.items() if k not in ("name", "num_images", "shard_images")}
        counts = output.result.get("class_counts")
        labels = in_turn(counts)[0] if counts else np.arange(output.result["n"], dtype=np.int32) % len(names)
        lineage = soft = None
        if real and real.digest == output.result.get(synthetic.PARENTS):
            descent, indices = self.descent(output.config, real), np.arange(len(labels)) // len(names)
            found = descent.columns(real.labels, labels, indices)
            lineage = Lineage(real.digest, np.maximum(found["parent"], 0), found["strength"])
            soft = Soft(found["second"].astype(np.int32), found["second_weight"]) if descent.translate else None
        origin = f"planned-{digest(drawn)}"
        source = Source(output.config["name"], labels, names, shape, _Unread(len(labels)), ref, origin, lineage=lineage)
        source = dataclasses.replace(source, soft=soft)
        return open_set(source, real, num_images) if real else source

    def descent(self, config: Config, base: Source) -> Descent:
        """From which of the base set's images a set's configuration starts.

        Of scores that are yet to come, it is so many of each class, whichever they will be.

        Raises: ValueError: as `Descent`; no scores, or those of other images.
        """
        strengths = tuple(config.get("strengths", ())) or (config["sample"]["strength"],)
        how = {name: config[of] for name, of in (("translate", "translate"), ("power", "label_power")) if of in config}
        if (hard := config.get("hard")) and hard["scores"]:
            output = self.output(hard["scores"], "score", "score")
            if output.result["set_digest"] != base.digest:
                raise ValueError(
                    f"config.hard.scores {hard['scores']} are of images with digest {output.result['set_digest']}, the "
                    f"base set has {base.digest}. Score these images: `jaxmoust score --config.set= --config.folds=2` "
                    "by a classifier of the same source, n_base, base_seed and validation."
                )
            scores = np.load(output.folder / "scores.npy") if output.folder else np.zeros(len(base))
            how["kept"] = hardest(base.labels, scores, hard["part"])
        return Descent(strengths, seed=config["seed"], **how)

    def learnt_from(self, ref: str) -> str:
        """The digest of the real images that a set's generator was trained on; "" where nothing says."""
        if planned := self.planned.get(ref):
            return planned.result.get("data_digest", "")
        refuse_damaged(self.path(ref), deep=False)
        return (read_object(self.path(ref) / "result.json") or {}).get("data_digest", "")

    def digest(self, refs: str | Sequence[str]) -> str:
        """The content address of what one or several references name; "" of what is no path here, as a hub's name."""
        refs = as_tuple(refs) if isinstance(refs, str) else tuple(refs)
        found = [ref if self._names(ref.removesuffix(BEST)) else self._digest(ref) for ref in refs]
        return ",".join(found) if all(found) else ""

    def _digest(self, ref: str) -> str:
        if ref not in self._digests:
            content = content_digest(self.path(ref))
            self._digests[ref] = content + BEST if content and ref.endswith(BEST) else content
        return self._digests[ref]

    @staticmethod
    def is_whole(folder: Path) -> bool:
        """Whether a finished job's folder has what its result says: of a synthetic set, every shard as it was."""
        return not synthetic.is_set(folder) or synthetic.is_whole(folder)


@dataclasses.dataclass(frozen=True)
class _Unread(EncodedImages):
    """The images of a set that is yet to be sampled: their number, and none to read."""

    size: int

    def __len__(self) -> int:
        return self.size

    def encoded(self, i: int) -> Encoded:
        raise RuntimeError("a set that is yet to be sampled was read")


def content_digest(here: Path) -> str:
    """The content address of a synthetic set, a finished run, a file, or a folder's files; "" where nothing lies.

    Of a set its images count, and not the files beside them, such as scores; of a run, its configuration, its data and
    its result, and not how long it took, and where; of another folder, no hidden files.

    Raises: ValueError: a finished run that is damaged.
    """
    if synthetic.is_set(here):
        return synthetic.open_synthetic(here).digest
    refuse_damaged(here, deep=False)
    config, result = (read_object(here / name) if here.is_dir() else None for name in ("config.json", "result.json"))
    if config is not None and result is not None and "task" in config:
        contents = read_object(here / "contents.json") or {}
        found = {name: value for name, value in result.items() if name not in ("seconds", "trained_on")}
        return digest_bytes(digest([config, contents, found]).encode())
    names = sorted(str(file.relative_to(here)) for file in here.rglob("*") if file.is_file()) if here.is_dir() else [""]
    names = [name for name in names if not any(part.startswith(".") for part in Path(name).parts)]
    files = [here / name for name in names]
    return digest_files(files, *(name.encode() for name in names)) if here.exists() else ""


def read_object(path: Path) -> dict[str, Any] | None:
    """Reads a JSON object; None where there is no such file, or something else in it."""
    read = read_json(path)
    return read if isinstance(read, dict) else None


# Said where there is no data at all: every configuration's quick variant runs on these as well.
_WITHOUT_DATA = (
    " To try the command without these data: --config.data.source=digits --config.data.path= --config.data.classes= "
    "--config.data.image_px=32 --config.data.channels=3."
)
_REAL_FIELDS = frozenset(real_data.__annotations__) - {"return", "rules", "look"}


def rules_of(data: Mapping[str, Any]) -> Rules:
    """How a data section says that files are read and divided; one of before a field was there, as it was then."""
    return Rules(**{f.name: data[f.name] for f in dataclasses.fields(Rules) if f.name in data})
