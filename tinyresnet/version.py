"""The version alone, so that setup.cfg can read it without importing NumPy and Numba."""

__version__ = "0.1.0"
