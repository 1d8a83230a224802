"""Repositories of the Hugging Face hub as folders in its cache."""

from pathlib import Path

from jaxmoust.runtime.paths import read_text


def commit(name: str, revision: str = "") -> str:
    """The commit of a repository that lies in the hub's cache for a revision; "" where there is none."""
    from huggingface_hub import constants

    ref = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "refs" / (revision or "main")
    if ref.is_file():
        return read_text(ref).strip()
    return revision if (ref.parent.parent / "snapshots" / (revision or "-")).is_dir() else ""


def fetch(name: str, wanted: list[str], what: str, revision: str = "") -> Path:
    """Fetches files of a repository into the hub's cache: the folder that they are in.

    Args: name: OWNER/NAME. wanted: patterns of files. what: the thing that errors ask the folder of.
    Raises: ValueError: no such name, or one that is out of reach; what to do is said.
    """
    if Path(name).exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ValueError(f"{name!r} is no folder. Give the folder of {what}, or a name on the hub such as OWNER/MODEL.")
    import huggingface_hub
    from huggingface_hub import errors

    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision or None, allow_patterns=wanted))
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.HFValidationError, OSError) as error:
        gated = isinstance(error, errors.GatedRepoError) or "gated" in str(error).lower()
        remedy = "It is gated: accept its terms on its page, then type `hf auth login`" if gated else "Check the name"
        raise ValueError(
            f"{name!r} is no folder here, and the Hugging Face hub did not give it: "
            f"{str(error).splitlines()[0].rstrip('.')}. {remedy}. Without a network, type "
            f"`hf download {name} --local-dir DIR` where there is one, and give DIR."
        ) from error
