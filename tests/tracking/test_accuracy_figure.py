"""The picture for TensorBoard: a line for each curve and each dense network, and what its bars are."""

import pytest

from prunelab.tracking.accuracy_figure import TAG, Dot, accuracy_figure

pytest.importorskip("matplotlib")
DENSE = {"dense, 3 epochs (before pruning)": 0.98, "dense, 8 epochs (as l1)": 0.99}


@pytest.fixture
def drawn(monkeypatch):
    """The axes of each picture that is made."""
    from matplotlib.figure import Figure

    made = []
    subplot = Figure.add_subplot

    def kept(self):
        made.append(subplot(self))
        return made[-1]

    monkeypatch.setattr(Figure, "add_subplot", kept)
    return made


@pytest.mark.parametrize("error", [0.0, 0.01])
def test_dense_networks_are_lines_with_names_and_bars_are_explained(drawn, error):
    value = accuracy_figure({"_l1": [Dot(0.0, 0.98), Dot(0.5, 0.97, error)]}, DENSE)
    assert (value.tag, value.image.encoded_image_string[1:4]) == (TAG, b"PNG")
    (axes,) = drawn
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["_l1", *DENSE]
    levels = [line for line in axes.lines if len(set(line.get_ydata())) == 1 and line.get_linestyle() in (":", "--")]
    assert [line.get_ydata()[0] for line in levels] == [98, 99]
    assert axes.get_title() == ("bars: ± standard error over seeds" if error else "")
