"""Networks for other runtimes: ONNX, OpenVINO and torch.export files, each checked against PyTorch before it counts."""
