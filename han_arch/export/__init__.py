"""Export networks to other runtimes: ONNX, OpenVINO and torch.export files, each checked against PyTorch."""
