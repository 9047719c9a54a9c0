"""From a model to ONNX graphs with a contract, a manifest and a parity report."""
