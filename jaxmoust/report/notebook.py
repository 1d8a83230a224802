"""What a notebook shows of a study: its page, or sections alone, each in a frame so that its style stays inside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import escape

from jaxmoust.report import html as report
from jaxmoust.report.page import Section


@dataclass(frozen=True)
class Frame:
    """A whole HTML document that Jupyter and Colab show below a cell; its lower edge can be dragged.

    Args:
        html: the document, which loads nothing from elsewhere. height_px: of the frame; what is longer scrolls.
    """

    html: str
    height_px: int = 720

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {self.height_px}px; border: 0; resize: vertical; overflow: auto"
        return f'<iframe srcdoc="{escape(self.html)}" style="{style}"></iframe>'


def page(workdir: str | Path, height_px: int = 720) -> Frame:
    """Returns the page of the study that ran in a folder.

    Raises: ValueError: no study has finished there.
    """
    path = Path(workdir) / "report" / "index.html"
    if not path.is_file():
        raise ValueError(f"{str(workdir)!r} holds no report/index.html: give the folder of a study that has finished.")
    return Frame(path.read_text(), height_px)


def sections(shown: Sequence[Section], height_px: int = 720) -> Frame:
    """Returns sections as a page has them, without the rest of a page; where scripts run, as high as they are."""
    return Frame(report.render("frame.html", {"sections": shown}), height_px)
