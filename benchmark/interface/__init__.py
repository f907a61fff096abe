"""The Python interface: :func:`benchmark.evaluate`, :func:`benchmark.compare` and :func:`benchmark.read`."""
