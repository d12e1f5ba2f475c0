"""What holds for some versions of jaxlib alone."""

import jax

# jaxlib 0.10 hands most convolutions of fewer than 128 channels to a library, YNNPACK, that takes
# up to three times as long as XLA's other code.
CONVOLUTIONS_ARE_SLOW = jax.__version_info__ < (0, 12)

# XLA for CPU of jaxlib 0.10 takes out barriers before it fuses, so that nothing keeps it from
# computing a value again for each use.
BARRIERS_HOLD = jax.__version_info__ >= (0, 12)
