// bfloat16 where the processor has no products of it: tokens are widened to float32 as they are packed, and factors are
// rounded to bfloat16 and kept as float32, so that products see the same numbers.
#pragma once

#include "operands.h"

namespace crosshead {

template <>
struct Packing<BFloat16> {
  using Operand = float;
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

  static const float* factor_as_a(const float* tile, int64_t rows, int64_t width, int64_t n, float* room) {
    for (int64_t l = 0; l < rows; ++l) round_row(tile + l * width, rounded_up(n, kLanes), room + l * width);
    return room;
  }

  static const float* factor_as_b(const float* tile, int64_t rows, int64_t width, float* room) {
    for (int64_t l = 0; l < rows; ++l) round_row(tile + l * width, width, room + l * width);
    return room;
  }

 private:
  static void round_row(const float* from, int64_t count, float* to) {
    for (int64_t t = 0; t < count; t += kLanes) store(to + t, as_bfloat16(load(from + t)));
  }
};

}  // namespace crosshead
