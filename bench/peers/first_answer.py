#!/usr/bin/env python3
"""A program that classifies one image with onnxruntime: its start and its memory are measured from outside.

usage: first_answer.py MODEL [SECONDS]      SECONDS: go on answering for so long
"""

import sys
import time

import numpy as np
import onnxruntime as ort

options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
image = session.get_inputs()[0]
pixels = np.zeros(image.shape, np.float32)
print(np.argmax(session.run(None, {image.name: pixels})[0]), flush=True)
end = time.monotonic() + float(sys.argv[2] if len(sys.argv) > 2 else 0)
while time.monotonic() < end:
    session.run(None, {image.name: pixels})
