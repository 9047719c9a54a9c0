"""A request → sound in numpy and ONNX Runtime. No torch."""
