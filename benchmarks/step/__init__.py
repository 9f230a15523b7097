"""How long a step takes, by batch, packet, engine, precision and threads, beside the reference packages, Mimi and Lyra, all in one run.

Ours carries its state from step to step and gives the whole clip's codes. The packages keep nothing: their 80 ms calls are what a user of
theirs would make live, and are wrong at every seam (see `benchmarks.seams`); their 10 s clips show what the same machine does with the
same model when nothing is live. Beside them stands how fast the machine multiplies at best, and where a step's time goes.

Mimi takes part where its package is: `pip install --no-deps moshi==0.2.13 sentencepiece`, as its pins and ours do not go together.
Lyra V2 takes part with `--lyra FOLDER`, where its three .tflite files and the package `ai-edge-litert` are.
"""
