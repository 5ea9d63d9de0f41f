// bfloat16 where the processor has no products of it: tokens are widened to float32 as they are packed, and tiles of a
// factor are used where they lie, as in float32.
#pragma once

#include "operands.h"

namespace crosshead {

template <>
struct Packing<BFloat16> : Packing<float> {
  static constexpr bool kCopies = true;

  static void tokens_as_columns(
      const BFloat16* tokens, int64_t token, int64_t n, int64_t channels, int64_t width, float* b) {
    transpose_tokens(tokens, token, n, channels, width, b);
  }

  static AsRows<float> tokens_as_rows(
      const BFloat16* tokens, int64_t token, int64_t n, int64_t channels, float* room) {
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t c = 0; c < channels; c += kLanes) {
        store(room + t * channels + c, channels - c, load(tokens + t * token + c, channels - c));
      }
    }
    return {room, channels};
  }
};

}  // namespace crosshead
