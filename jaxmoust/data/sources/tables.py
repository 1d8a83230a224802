"""Tables of images as people write them: which files, of which class, and what else is said of each.

Commas, semicolons or tabs; UTF-8, UTF-16 or Windows' 1252; a file's name and its class under any usual name; JSON lines
and Hugging Face's metadata.csv. Further columns are kept.
"""

import io
import re
from typing import TYPE_CHECKING, Any

from jaxmoust.data.checks import listed

if TYPE_CHECKING:
    import pandas as pd

# What columns may be called, in any case; of several the first counts, and the others are columns of their own.
FILE, LABEL, PROMPT = "file", "label", "prompt"
NAMES = {
    FILE: (FILE, "file_name", "filename", "path", "file_path", "filepath", "image", "image_path", "image_name"),
    LABEL: (LABEL, "class", "target", "category", "label_name", "class_name"),
    PROMPT: (PROMPT, "text", "caption"),
}
_MOST_COLUMNS = 100
_SEPARATORS = ",;\t|"


def read_table(data: bytes, where: str, most_lines: int) -> "pd.DataFrame":
    """Reads a table: columns file, label, prompt if there is one, and all others as they are called, in lower case.

    Args:
        data: the bytes of the file.
        where: what errors call what the table is of.
        most_lines: a longer one is refused before it takes memory.
    Returns: texts, without space around files and labels; the index is the row's line.
    Raises: ValueError: no text, no table, no column for files or labels, a row without a file or a label, no row.
    """
    text = _text(data, where)
    if (num_lines := text.count("\n")) > most_lines:
        raise ValueError(
            f"Got a table for {where} of {num_lines:,} lines, expected at most {most_lines:,}. Shorten it."
        )
    rows = _json_lines(text, where) if text.lstrip().startswith("{") else _csv(text, where)
    columns = [re.sub(r"\W+", "_", str(name).strip().lower()) for name in rows.columns]
    known = {kind: next((name for name in names if name in columns), "") for kind, names in NAMES.items()}
    if not (known[FILE] and known[LABEL]) or any(columns.count(name) > 1 for name in known.values() if name):
        usual = "; ".join(", ".join(names[1:]) for names in NAMES.values())
        raise ValueError(
            f"Got a table for {where} with the columns {columns!r:.200}, expected file, label and, if known, prompt, "
            f"each once and under any usual name ({usual}), and others besides, named in the first line. Correct them."
        )
    rows = rows.set_axis(columns, axis=1).loc[:, [name not in ("", "_") for name in columns]]
    rows = rows.rename(columns={name: kind for kind, name in known.items() if name})
    rows = rows[(rows != "").any(axis=1)]
    rows = rows.assign(file=rows[FILE].str.strip(), label=rows[LABEL].str.strip())
    if rows.empty:
        raise ValueError(f"Got a table for {where} without a row, expected one for each image. Fill it.")
    if (lacking := (rows[FILE] == "") | (rows[LABEL] == "")).any():
        raise ValueError(
            f"Got a table for {where} with rows that lack a file or a label (lines {listed(rows.index[lacking])}), "
            f"expected whole rows. Correct them."
        )
    return rows


def _text(data: bytes, where: str) -> str:
    if data.startswith(b"PK\3\4"):
        raise ValueError(f"Got a table for {where} that is a spreadsheet or an archive. Save it as CSV, and give that.")
    for encoding in ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise ValueError(f"Got a table for {where} that is no text in UTF-8, UTF-16 or Windows-1252. Save it as UTF-8.")


def _csv(text: str, where: str) -> "pd.DataFrame":
    import pandas as pd  # a slow import that only tables need

    first = re.match(r'(?:"?sep=.*\r?\n|#.*\r?\n|\s*\n)*', text)
    start = first.end() if first else 0
    header = text[start:].partition("\n")[0]
    separator = max(_SEPARATORS, key=re.sub(r'"[^"]*"', "", header).count)
    if (num := 1 + header.count(separator)) > _MOST_COLUMNS:
        raise ValueError(f"Got a table for {where} with {num:,} columns, expected at most {_MOST_COLUMNS}.")
    given: Any = {"header": None, "dtype": str, "keep_default_na": False, "skip_blank_lines": False, "sep": separator}

    def read(lines: str) -> "pd.DataFrame":
        return pd.read_csv(io.StringIO(lines, newline=""), skipinitialspace=True, **given).fillna("")

    try:
        try:
            rows = read(text[start:])
        except pd.errors.ParserError:  # perhaps each row, but not the first, ends with a separator
            rows = read(re.sub(rf"{re.escape(separator)}(?=\r?$)", "", text[start:], flags=re.M))
            if text[start:].count(f"{separator}\n") + text.count(f"{separator}\r") < len(rows) - 1:
                raise
    except ValueError as error:  # pandas' own are of this kind
        raise ValueError(f"Got a table for {where} that is no CSV: {error}. Correct it.") from error
    rows = rows.set_axis(rows.iloc[0].tolist(), axis=1)
    return rows.set_axis(rows.index + 1 + text[:start].count("\n"))[1:]


def _json_lines(text: str, where: str) -> "pd.DataFrame":
    import pandas as pd

    try:
        rows = pd.read_json(io.StringIO(text), lines=True, dtype=False, convert_dates=False)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Got a table for {where} that is no JSON lines: {error}. Correct it.") from error
    return rows.fillna("").astype(str).set_axis(rows.index + 1)
