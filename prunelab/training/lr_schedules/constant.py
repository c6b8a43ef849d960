"""A constant learning rate."""


def constant(progress: float) -> float:
    """Return 1.

    Args:
        progress: iterations done ÷ iterations in total, in [0, 1).
    """
    return 1.0
