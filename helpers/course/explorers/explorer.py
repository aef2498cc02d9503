"""What all explorers share: controls in a row, and below them the picture and its caption."""

import html
from base64 import b64encode
from collections.abc import Callable, Sequence
from io import BytesIO

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from helpers.nets.models import Classifier
from helpers.run.errors import WorkbookError

VIEW = "application/vnd.jupyter.widget-view+json"

# What ipywidgets leaves out: in a menu or on a slider, JupyterLab takes the arrow keys for itself
# (they move from cell to cell) and letters for commands; and the handle of a slider has no name.
ACCESSIBLE = """
for (const control of this.closest('.widget-vbox').querySelectorAll('select, input, [role=slider]'))
  control.dataset.lmSuppressShortcuts = true;
for (const slider of this.closest('.widget-vbox').querySelectorAll('[role=slider]'))
  slider.ariaLabel = slider.closest('.widget-hbox').querySelector('label').textContent;
"""


class Explorer:
    """A picture that is drawn again whenever a control changes.

    Nothing tells a kernel who will show its output, so the display is a bundle of two: the widget,
    and its first picture as a PNG. A front end with widgets takes the widget; a rendered page,
    which has no kernel to answer a slider, takes the picture.

    Every control has a label: Tab moves between them, the arrow keys change them. The picture's
    alternative text is its caption.

    Args:
        controls: widgets with a ``value`` and a ``description``; a bounded number gets a slider.
        draw: reads the controls; returns the figure and its caption, which is plain text.
        adapt: called with the control that was changed, before drawing; brings the other controls
            into line with it (a layer with fewer channels).
    """

    def __init__(
        self, controls: Sequence[ipywidgets.ValueWidget],
        draw: Callable[[], tuple[Figure, str]],
        adapt: Callable[[ipywidgets.ValueWidget], None] = lambda changed: None,
    ) -> None:  # fmt: skip
        self.controls = {control.description: control for control in controls}
        self.draw, self.adapt = draw, adapt
        self.picture, self.caption = ipywidgets.HTML(), ipywidgets.HTML()
        row = ipywidgets.Layout(flex_flow="row wrap")
        self.panel = ipywidgets.VBox(
            [ipywidgets.Box([*map(_beside, controls)], layout=row), self.picture, self.caption]
        )
        self._busy = False
        for control in controls:
            control.observe(self._changed, "value")
        self.show()

    def _changed(self, change: dict) -> None:
        if self._busy:  # adapt() itself changes controls
            return
        self._busy = True
        try:
            self.adapt(change["owner"])
            self.show()
        except WorkbookError as error:  # a traceback in a callback would be seen by nobody
            self.caption.value = html.escape(str(error))
        finally:
            self._busy = False

    def show(self) -> None:
        """Draw the picture for the controls as they are."""
        self.caption.value = "…"
        figure, self.text = self.draw()
        self.png = _png(figure)
        width, height = (round(side * figure.dpi) for side in figure.get_size_inches())
        # With both sides given nothing on the page moves while the new picture is read.
        caption = html.escape(self.text)
        self.picture.value = (
            f'<img src="data:image/png;base64,{b64encode(self.png).decode()}" width="{width}" '
            f'height="{height}" style="max-width: 100%; height: auto" alt="{caption}" '
            f'onload="{ACCESSIBLE}">'
        )
        self.caption.value = caption

    def _repr_mimebundle_(self, **_options: object) -> dict[str, object]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.panel.model_id}
        return {VIEW: view, **self.still()}

    def still(self) -> dict[str, str]:
        """Return what a page without widgets shows, by MIME type."""
        return {"image/png": b64encode(self.png).decode(), "text/plain": self.text}


def _png(figure: Figure) -> bytes:
    """Return the whole canvas as PNG, and close the figure, so that no cell shows it again."""
    file = BytesIO()
    # Not cut to its content, as saved figures are: the picture must not jump from step to step.
    figure.savefig(file, format="png", dpi=1.5 * figure.dpi, bbox_inches=figure.bbox_inches)
    plt.close(figure)
    return file.getvalue()


def _beside(control: ipywidgets.ValueWidget) -> ipywidgets.DOMWidget:
    """Return the control; a number field, into which one can type, with a slider beside it."""
    kinds = {
        ipywidgets.BoundedIntText: ipywidgets.IntSlider,
        ipywidgets.BoundedFloatText: ipywidgets.FloatSlider,
    }
    if type(control) not in kinds:
        return control
    control.layout.width = "160px"
    slider = kinds[type(control)](readout=False, layout=ipywidgets.Layout(width="160px"))
    for trait in ("min", "max", "step", "value"):
        ipywidgets.link((control, trait), (slider, trait))
    return ipywidgets.HBox([control, slider])


def menu(name: str, options: object, value: object = None) -> ipywidgets.Dropdown:
    """Return a menu; the first option is chosen where no value is given."""
    chosen = {} if value is None else {"value": value}
    return ipywidgets.Dropdown(options=options, description=name, **chosen)


def image_menu(classifier: Classifier, images: Tensor) -> ipywidgets.Dropdown:
    """Return a menu of images [N, 3, H, W], each named by what the classifier calls it."""
    names = (classifier.class_names[c] for c in classifier.logits(images).argmax(dim=1))
    return menu("image", [(f"{i + 1}: called {name}", i) for i, name in enumerate(names)])
