"""Notebook 8 on own images: it dissects Shapes, whatever the reader's folder and network are."""

import own_images


def test_the_notebook_goes_through_without_the_readers_network(tmp_path, monkeypatch):
    """No network is made for the folder: if the notebook asked for one, it would train for it."""
    monkeypatch.setattr(own_images, "checkpoint", lambda *_: tmp_path)
    text = own_images.run("08", classes=12)
    assert "stand in for the two ResNet-18" in text
    assert not list((tmp_path / "checkpoints").glob("folder*"))
    numbers = own_images.recorded()
    assert numbers["compare/source"].startswith("two Shapes networks")
    assert "nan" not in text.split()
