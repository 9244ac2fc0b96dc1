"""A dream in any browser: a run as three ONNX graphs and a page of static files."""
