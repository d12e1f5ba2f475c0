"""Quirks of XLA's CPU compiler that the library works around, and the versions that have them.

Comments elsewhere refer to an entry by its name. Each entry gives what happens, the jaxlib versions
tried (0.10.2 and 0.12.0), the workaround and its file. `tests/ops/cpu/test_versions.py` reproduces
those marked (*) and fails once they are gone; the others are costs, measured in
`experiments/benchmarks/RESULTS.md`, or lack a small reproducer.

Wrong results and failures:

- NEGATIVE PADDING (*). A float32 convolution with negative low padding reads out of bounds. 0.10,
  fixed in 0.12; openxla/xla#48713. Pad or crop in a separate operation: `ops/xla.py`,
  `ops/conv.py` (`conv_transpose`), `ops/cpu/conv.py`.
- FUSED HALF CONVOLUTIONS. Consecutive convolutions in half precision are fused into one kernel that
  returns unwritten memory. 0.12.0. Put a barrier between them: `ops/xla.py`.
- TRANSPOSED HALF PRODUCTS (*). A transposed product of bfloat16 matrices with a float32 result is
  rewritten to one that has no implementation. Both. Round before the transpose:
  `ops/cpu/patches.py`.
- CONSTANT KERNELS. Convolution, pooling and convolution with constant kernels read unwritten
  memory. 0.10. Pass the kernels as arguments: `view/inspection.py`.
- CONSTANT DIVISORS (*). A division by a constant becomes a product, off in the last bit. Both.
  Hide the divisor from the compiler: `image/preprocess.py`.

Recomputation by fusion:

- DROPPED BARRIERS (*). `lax.optimization_barrier` is removed before fusion, so values are computed
  again for each use. 0.10. `BARRIERS_HOLD` switches `ops/cpu/conv_pool.py` off; slices of the
  kernel in `ops/cpu/winograd.py`. On 0.12, `ops/barriers.py` stores what is used several times:
  `image/randomness.py`, `image/warp.py`, `image/filters.py`, `image/morphology.py`,
  `image/adjust.py`. `data/keras/options.py` compiles the drawing as a separate program.
- RECOMPUTED PADDING (*). Slices of a padded array are read from its operand where they miss the
  padding, which computes the operand again. Both. Put a barrier after the padding:
  `ops/cpu/taps.py`.
- RECOMPUTED OUTPUTS (*). Two results of one pass become two passes. Both. Pack them into one
  complex array: `ops/cpu/pool.py`.
- COPIED PARAMETERS. Parameters that are updated before the last gradient has read them are copied.
  Both. Put a barrier before the update: `train/step.py`.

Slow code:

- SLOW CONVOLUTIONS (*). Convolutions of fewer than 128 channels go to YNNPACK, which takes up to
  three times as long as XLA's other code. 0.10; 0.12 uses it too, but fast. YNNPACK rejects an
  output with more rows than the images. `CONVOLUTIONS_ARE_SLOW` selects other formulations:
  `ops/cpu/direct.py`, `ops/cpu/patches.py`, `ops/cpu/winograd.py`.
- LOOP LAYOUTS (*). The dimensions of a convolution are put into the fast order only outside of
  loops; inside, where gradients are accumulated, `jax.lax`'s gradients take a hundred times as
  long. Both. Order the operands: `ops/cpu/conv.py`.
- WINDOW LOOPS. Pooling walks the windows one by one, as does select-and-scatter, the gradient of a
  maximum. Both. Pool tap by tap: `ops/cpu/pool.py`.
- GROUPED CONVOLUTIONS. Depthwise convolutions do not use the fast matrix product, and groups take
  up to three times as long as separate convolutions. Both. `ops/cpu/depthwise.py`,
  `ops/cpu/conv.py`.
- STRIDED GRADIENTS. Gradients of strided convolutions are computed as convolutions with mostly
  zeros. Both. Multiply patches, as in bfloat16, where only matrix products are fast:
  `ops/cpu/patches.py`.
- REDUCTIONS ON ONE CORE. A sum over the batch runs on one core. Both. Sum within each example
  first: `ops/norm.py`, `ops/cpu/depthwise.py`.
- LARGE GATHERS. Gathering windows of several pixels takes 20 times as long as tap by tap. Both.
  `image/warp.py`.
- SCALAR LOOPS. Only flat rows, read from memory and written to it, become vector code. Both.
  `image/filters.py`, `image/morphology.py`.
- CUMULATIVE SUMS. A cumulative sum passes over all values once per doubling. Both. Sum runs first:
  `image/components.py`.
"""

import jax

BARRIERS_HOLD = jax.__version_info__ >= (0, 12)  # DROPPED BARRIERS
CONVOLUTIONS_ARE_SLOW = jax.__version_info__ < (0, 12)  # SLOW CONVOLUTIONS
