"""Docstrings of jaxmoust as mkdocstrings reads them: sections on one line, several parameters an entry, shell lines."""

import re

import griffe

SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Sources?|Yields): ?(.*)")


def in_markdown(text: str, names: tuple[str, ...] = ()) -> str:
    """Returns a docstring in Markdown with Google's sections.

    Args:
        text: the docstring, without indentation.
        names: the parameters that an `Args` section may be of.
    """
    lines, done = text.split("\n"), []
    while lines:
        line = lines.pop(0)
        if match := SECTION.fullmatch(line):
            block = [match[2]]
            while lines and (lines[0].startswith(" ") or (not lines[0] and lines[1:2] and lines[1].startswith(" "))):
                block.append(lines.pop(0).strip())
            done += ["", *_section(match[1], " ".join(" ".join(block).split()), names), ""]
        elif re.match(r" +\S", line) and (not done or not done[-1]):
            block = [line]
            while lines and re.match(r" +\S", lines[0]):
                block.append(lines.pop(0))
            least = min(len(one) - len(one.lstrip()) for one in block)
            language = "sh" if block[0].strip().startswith(("jaxmoust ", "make ", "pip ")) else "text"
            done += [f"```{language}", *(one[least:] for one in block), "```"]
        else:
            done.append(line)
    return "\n".join(done)


def _section(title: str, text: str, names: tuple[str, ...]) -> list[str]:
    if title not in ("Args", "Attributes"):
        return [f"**{title}:** {text}"]
    any_name = "|".join(sorted(map(re.escape, names), key=len, reverse=True)) or r"\w+"
    parts = re.split(rf"(?:^|(?<=[.;?)] ))(\*{{0,2}}(?:{any_name})(?:, \*{{0,2}}\w+)*): ", text)[1:]
    entries = [(name, what) for of, what in zip(parts[::2], parts[1::2], strict=True) for name in of.split(", ")]
    if not entries:
        return [f"**Parameters:** {text}"]
    return [f"{title}:", *(f"    {name}: {what.strip()}" for name, what in entries)]


class Docstrings(griffe.Extension):
    """Brings every docstring of the package into the form that griffe's parser knows."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrites the docstring of a module, class or function."""
        if obj.docstring is None or obj.is_attribute:
            return
        names = [one.name for one in obj.parameters] if obj.is_function else list(obj.members)
        if obj.is_class and "__init__" in obj.members and obj.members["__init__"].is_function:
            names += [one.name for one in obj.members["__init__"].parameters]
        obj.docstring.value = in_markdown(obj.docstring.value, tuple(names))
