"""Quirks of XLA's CPU compiler that the library works around, and the versions that have them.

Comments elsewhere refer to an entry by its name. Each entry describes the problem, the affected
jaxlib versions (0.10.2 and 0.12.0 were tested), the workaround and its file.
`tests/ops/cpu/test_versions.py` reproduces the entries marked (*) and fails once they are fixed;
the others are performance costs, measured in `experiments/benchmarks/RESULTS.md`, or lack a small
reproducer.

Wrong results and failures:

- NEGATIVE PADDING (*). A float32 convolution with negative low padding reads out of bounds. 0.10;
  fixed in 0.12; openxla/xla#48713. Pad or crop in a separate operation: `ops/xla.py`,
  `ops/conv.py` (`conv_transpose`), `ops/cpu/conv.py`.
- FUSED HALF CONVOLUTIONS. Consecutive half-precision convolutions are fused into one kernel that
  returns uninitialized memory. 0.12.0. Put a barrier between them: `ops/xla.py`.
- TRANSPOSED HALF PRODUCTS (*). A transposed product of bfloat16 matrices with a float32 result is
  rewritten to an operation that is not implemented. Both versions. Round before the transpose:
  `ops/cpu/patches.py`.
- CONSTANT KERNELS. A sequence of convolution, pooling and convolution with constant kernels reads
  uninitialized memory. 0.10. Pass the kernels as arguments: `view/inspection.py`.
- CONSTANT DIVISORS (*). Division by a constant becomes multiplication, with an error in the last
  bit. Both versions. Hide the divisor from the compiler: `image/preprocess.py`.

Recomputation by fusion:

- DROPPED BARRIERS (*). `lax.optimization_barrier` is removed before fusion, so values are
  recomputed for each use. 0.10. `BARRIERS_HOLD` disables `ops/cpu/conv_pool.py`;
  `ops/cpu/winograd.py` processes slices of the kernel. On 0.12, `ops/barriers.py` stores values
  that are used several times: `image/randomness.py`, `image/warp.py`, `image/filters.py`,
  `image/morphology.py`, `image/adjust.py`. `data/keras/options.py` compiles the random draws as a
  separate program.
- RECOMPUTED PADDING (*). Slices of a padded array that do not touch the padding are read from the
  unpadded operand, which is then recomputed. Both versions. Put a barrier after the padding:
  `ops/cpu/taps.py`.
- RECOMPUTED OUTPUTS (*). One pass with two results becomes two passes. Both versions. Pack the
  results into one complex array: `ops/cpu/pool.py`.
- COPIED PARAMETERS. Parameters that are updated before the last gradient has read them are copied.
  Both versions. Put a barrier before the update: `train/step.py`.

Slow code:

- SLOW CONVOLUTIONS (*). Convolutions with fewer than 128 channels go to YNNPACK, which takes up to
  three times as long as XLA's other code. 0.10; YNNPACK is still used in 0.12, but is fast there.
  YNNPACK rejects an output with more rows than the images. `CONVOLUTIONS_ARE_SLOW` selects other
  formulations: `ops/cpu/direct.py`, `ops/cpu/patches.py`, `ops/cpu/winograd.py`.
- LOOP LAYOUTS (*). The dimensions of a convolution are put into the fast order only outside loops;
  inside a loop, where gradients are accumulated, `jax.lax`'s gradients take a hundred times as
  long. Both versions. Put the operands in that order: `ops/cpu/conv.py`.
- WINDOW LOOPS. Pooling loops over the windows one by one, as does select-and-scatter, the gradient
  of max pooling. Both versions. Pool tap by tap: `ops/cpu/pool.py`.
- GROUPED CONVOLUTIONS. Depthwise convolutions do not use the fast matrix multiplication, and
  grouped convolutions take up to three times as long as separate ones. Both versions. Use shifted
  products, or split the groups: `ops/cpu/depthwise.py`, `ops/cpu/conv.py`.
- STRIDED GRADIENTS. Gradients of strided convolutions are computed as convolutions over mostly-zero
  inputs. Both versions. Multiply patches, as in bfloat16, where only matrix multiplication is fast:
  `ops/cpu/patches.py`.
- REDUCTIONS ON ONE CORE. A sum over the batch runs on a single core. Both versions. Sum within each
  example first: `ops/norm.py`, `ops/cpu/depthwise.py`.
- LARGE GATHERS. Gathering windows of several pixels takes 20 times as long as gathering tap by tap.
  Both versions. Gather tap by tap: `image/warp.py`.
- SCALAR LOOPS. Only loops over flat rows that are read from and written to memory are vectorized.
  Both versions. Store flat rows: `image/filters.py`, `image/morphology.py`.
- CUMULATIVE SUMS. A cumulative sum passes over all values once per doubling. Both versions. Sum
  in blocks: `image/components.py`.
"""

import jax

BARRIERS_HOLD = jax.__version_info__ >= (0, 12)  # DROPPED BARRIERS
CONVOLUTIONS_ARE_SLOW = jax.__version_info__ < (0, 12)  # SLOW CONVOLUTIONS
