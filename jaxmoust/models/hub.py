"""Repositories of the Hugging Face hub as folders in its cache."""

from pathlib import Path


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
        raise ValueError(
            f"{name!r} is no folder here, and the Hugging Face hub did not give it: {str(error).splitlines()[0]} "
            "Check the name and the revision; log in by HF_TOKEN if it is gated; offline, give the folder of a copy."
        ) from error
