"""Figures as they were drawn, to look into: what they say, where it stands."""

from matplotlib.figure import Figure


def remembered(monkeypatch, *modules):
    """The figures that these modules draw from now on."""
    drawn = []

    class Remembered(Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            drawn.append(self)

    for module in modules:
        monkeypatch.setattr(module, "Figure", Remembered)
    return drawn


def texts(figure):
    return {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}
