// The backward pass: gradients of both factors from tiles that are computed again.
//
// Legend: B batch, H heads, N query tokens, M key tokens, L landmarks, D head dim, E value head dim, T tokens of a
// tile. For one factor, with raw logits x, weights w = softmax(P x) and factor F = W w, and the gradient dF:
//
//     dW = dF w^T      dw = W^T dF      ds = w (dw - overlap)      dP = ds x^T      dx = P^T ds
//
// where overlap is the sum of w dw over what the softmax sums over: the landmarks of a tile for the query factor,
// all keys for the key factor, which takes a pass of its own.
#pragma once

#include "forward.h"

namespace crosshead {

// sums[g, h] += sum over the tile of a_g b_h. A sum in registers runs over so many places of the tile and no more, for
// its rounding grows with the number of its summands.
inline void add_between_heads(const Tile& a, const Tile& b, const Columns& columns, float* sums) {
  constexpr int64_t kPlaces = 512;
  const int64_t H = a.heads, rows_at_once = std::max<int64_t>(kPlaces / columns.count, 1);
  for_heads<4>(H, [&](auto size_a, int64_t g) {
    for_heads<kHeadsAtOnce / 2>(H, [&](auto size_b, int64_t h) {
      constexpr int G = decltype(size_a)::value, K = decltype(size_b)::value;
      Vector total[G][K] = {};
      for (int64_t first = 0; first < a.rows; first += rows_at_once) {
        Vector sum[G][K] = {};
        for (int64_t l = first; l < std::min(first + rows_at_once, a.rows); ++l) {
          for (int64_t t = 0; t < columns.count; t += kLanes) {
            Vector left[G];
#pragma GCC unroll 8
            for (int i = 0; i < G; ++i) left[i] = held(load(a.at(g + i, l, t)));
#pragma GCC unroll 8
            for (int j = 0; j < K; ++j) {
              const Vector right = held(load(b.at(h + j, l, t)));
#pragma GCC unroll 8
              for (int i = 0; i < G; ++i) sum[i][j] = fmadd(left[i], right, sum[i][j]);
            }
          }
        }
#pragma GCC unroll 8
        for (int i = 0; i < G; ++i) {
#pragma GCC unroll 8
          for (int j = 0; j < K; ++j) total[i][j] = add(total[i][j], sum[i][j]);
        }
      }
#pragma GCC unroll 8
      for (int i = 0; i < G; ++i) {
#pragma GCC unroll 8
        for (int j = 0; j < K; ++j) sums[(g + i) * H + h + j] += sum_of(total[i][j]);
      }
    });
  });
}

// ds = w (dw - overlap), overlap summed over the landmarks, in place of dw.
inline void landmark_softmax_gradient(const Tile& w, const Columns& columns, const Tile& dw) {
  for (int64_t h = 0; h < w.heads; ++h) {
    for (int64_t t = 0; t < columns.count; t += kLanes) {
      Vector overlap = zero();
      for (int64_t l = 0; l < w.rows; ++l) {
        overlap = fmadd(load(w.at(h, l, t)), load(dw.at(h, l, t)), overlap);
      }
      for (int64_t l = 0; l < w.rows; ++l) {
        float* at = dw.at(h, l, t);
        store(at, mul(load(w.at(h, l, t)), sub(load(at), overlap)));
      }
    }
  }
}

// The same with the overlap of each row known, (heads, rows).
inline void key_softmax_gradient(const Tile& w, const Columns& columns, const float* overlap, const Tile& dw) {
  for (int64_t h = 0; h < w.heads; ++h) {
    for (int64_t l = 0; l < w.rows; ++l) {
      const Vector of_row = all(overlap[h * w.rows + l]);
      for (int64_t t = 0; t < columns.count; t += kLanes) {
        float* at = dw.at(h, l, t);
        store(at, mul(load(w.at(h, l, t)), sub(load(at), of_row)));
      }
    }
  }
}

// What one factor's mixing needs on the way back.
struct BackwardMixing {
  Mixing p, w, p_transposed, w_transposed;

  BackwardMixing(const Matrix& p, const Matrix& w, const Groups& groups, double scale)
      : p(p, groups, scale), w(w, groups, 1.0), p_transposed(p, groups, scale, true),
        w_transposed(w, groups, 1.0, true) {}
};

// Memory of one thread: three tiles and a factor, and the operands of one head.
template <class T>
struct BackwardRoom {
  Operand<T> *columns, *rows, *factor_a, *factor_b;
  float *blocks, *result, *turned;
  Tile raw, weights, factor, gradient;

  BackwardRoom(Room& room, int64_t H, int64_t L, int64_t widest, int64_t width) {
    constexpr bool copies = Packing<T>::kCopies;
    columns = room.take<Operand<T>>(padded_depth<Operand<T>>(widest) * width);
    rows = room.take<Operand<T>>(copies ? widest * width : 0);
    factor_a = room.take<Operand<T>>(copies ? L * width : 0);
    factor_b = room.take<Operand<T>>(copies ? padded_depth<Operand<T>>(L) * width : 0);
    blocks = room.take<float>(4 * H * kBlock);
    result = room.take<float>(widest * width);
    turned = room.take<float>(widest * kLanes);
    for (Tile* tile : {&raw, &weights, &factor, &gradient}) {
      *tile = {room.take<float>(Tile::size(H, L, width)), H, L, width};
    }
  }
};

// Sums over the tokens of one part: gradients of a side's landmarks (H, L, D), of what its factor is multiplied with
// (H, L, E), and of the two matrices that mix its heads (H, H).
struct PartSums {
  Tensor landmarks, right, p, w;

  PartSums(int64_t parts, int64_t H, int64_t L, int64_t D, int64_t E) {
    landmarks = at::zeros({parts, H, L, D}, at::kFloat);
    right = at::zeros({parts, H, L, E}, at::kFloat);
    p = at::zeros({parts, H, H}, at::kFloat);
    w = at::zeros({parts, H, H}, at::kFloat);
  }

  static float* of(const Tensor& x, int64_t part) { return x.data_ptr<float>() + part * x.stride(0); }
};

// sums (H, L, channels) += tile (H, L, T) times tokens (T, channels), head by head; with the remainder
// of the tile, if there is one. P packs the tile.
template <class T, class P = Packing<T>>
void add_product_with_tokens(
    const Tile& tile, const Rows<const T>& tokens, int64_t channels, int64_t b, int64_t first, const Columns& columns,
    const BackwardRoom<T>& room, float* sums, const Tile* remainder = nullptr) {
  for (int64_t h = 0; h < tile.heads; ++h) {
    const auto rows =
        Packing<T>::tokens_as_rows(tokens.at(b, h, first), tokens.token, columns.tokens, channels, room.rows);
    for (const Tile* part : {&tile, remainder}) {
      if (part == nullptr) continue;
      const auto* a = P::factor_as_a(part->at(h, 0), tile.rows, tile.width, columns.tokens, room.factor_a);
      multiply(
          tile.rows, channels, columns.tokens, a, tile.width, rows.data, rows.row, sums + h * tile.rows * channels,
          channels, true);
    }
  }
}

// tokens (T, channels) = tile (H, L, T) transposed times `left`, packed and transposed (B, H, channels, L); as above.
template <class T, class P = Packing<T>>
void write_tokens(
    const Tile& tile, const Tensor& left, const Rows<T>& tokens, int64_t b, int64_t first, const Columns& columns,
    const BackwardRoom<T>& room, const Tile* remainder = nullptr) {
  const int64_t channels = left.size(2);
  for (int64_t h = 0; h < tile.heads; ++h) {
    for (const Tile* part : {&tile, remainder}) {
      if (part == nullptr) continue;
      const auto* f = P::factor_as_b(part->at(h, 0), tile.rows, tile.width, room.factor_b);
      multiply(
          channels, columns.count, tile.rows, of_head<T>(left, b, h), left.size(3), f, tile.width, room.result,
          tile.width, part == remainder);
    }
    columns_to_tokens(
        room.result, tile.width, columns.tokens, channels, tokens.at(b, h, first), tokens.token, room.turned);
  }
}

// What the gradient of mixed logits, in room.gradient, gives to tokens and to the landmarks they were multiplied with.
// Gradients of logits are differences: a rounding to bfloat16 would lose what is left of terms that cancel. Float32
// operands take them as they are, bfloat16 operands as two tiles, the rounded one and its remainder.
template <class T>
void logit_gradients(
    const Rows<const T>& tokens, const Tensor& landmarks_transposed, int64_t D, const BackwardMixing& mixing, int64_t b,
    int64_t first, const Columns& columns, const BackwardRoom<T>& room, const Rows<T>& grad_tokens, float* sums) {
  mix_tile(room.gradient, mixing.p_transposed(b), columns, room.gradient, room.blocks);
  const Tile* remainder = nullptr;
  if constexpr (std::is_same_v<Operand<T>, BFloat16>) {
    for (int64_t h = 0; h < room.raw.heads; ++h) {
      for (int64_t l = 0; l < room.raw.rows; ++l) {
        Packing<T>::write_remainder(room.gradient.at(h, l), columns.count, room.raw.at(h, l));
      }
    }
    remainder = &room.raw;
  }
  using Exact = Packing<Operand<T>>;
  write_tokens<T, Exact>(room.gradient, landmarks_transposed, grad_tokens, b, first, columns, room, remainder);
  add_product_with_tokens<T, Exact>(room.gradient, tokens, D, b, first, columns, room, sums, remainder);
}

template <class T>
void query_backward(
    const Rows<const T>& q, const Rows<const T>& grad_output, const Tensor& kl, const Tensor& aggregate,
    const BackwardMixing& mixing, const bool* landmark_mask, const Parts& parts, const Rows<T>& grad_q,
    const PartSums& sums) {
  const int64_t H = kl.size(1), L = kl.size(2), D = kl.size(3), E = aggregate.size(3), width = parts.width;
  const Tensor landmarks = packed<T>(kl), landmarks_transposed = packed<T>(kl.transpose(2, 3));
  const Tensor right = packed<T>(aggregate);
  const auto layout = [&](Room& room) { return BackwardRoom<T>(room, H, L, std::max(D, E), width); };
  parts.run(layout, [&](const BackwardRoom<T>& room, int64_t part, int64_t b, int64_t tile, int64_t last) {
    for (; tile < last; ++tile) {
      const int64_t first = tile * width;
      const Columns columns = parts.columns(b, tile, nullptr);
      raw_logits<T>(q, landmarks, D, b, first, columns, room.raw, room.columns);
      landmark_factor(
          room.raw, mixing.p(b), nullptr, columns, landmarks_of(landmark_mask, parts, b, L), room.weights, room.blocks,
          parts.ahead(q, D, grad_output, E, b, H, tile, L));
      raw_logits<T>(grad_output, right, E, b, first, columns, room.gradient, room.columns);
      const Tile& factor = mixing.w.present() ? room.factor : room.weights;
      if (mixing.w.present()) {
        mix_tile(room.weights, mixing.w(b), columns, factor, room.blocks);
        add_between_heads(room.gradient, room.weights, columns, PartSums::of(sums.w, part));
        mix_tile(room.gradient, mixing.w_transposed(b), columns, room.gradient, room.blocks);
      }
      add_product_with_tokens<T>(
          factor, grad_output, E, b, first, columns, room, PartSums::of(sums.right, part));
      landmark_softmax_gradient(room.weights, columns, room.gradient);
      if (mixing.p.present()) {
        add_between_heads(room.gradient, room.raw, columns, PartSums::of(sums.p, part));
      }
      logit_gradients<T>(
          q, landmarks_transposed, D, mixing, b, first, columns, room, grad_q, PartSums::of(sums.landmarks, part));
    }
  });
}

// The overlap of every row of the key factor's softmax, (B, H, L).
template <class T>
Tensor key_overlap(
    const Rows<const T>& k, const Rows<const T>& v, const Tensor& landmarks, const Tensor& grad_right, int64_t D,
    int64_t E, const BackwardMixing& mixing, const bool* mask, const Parts& parts, const Tensor& normaliser) {
  const int64_t H = landmarks.size(1), L = landmarks.size(2), width = parts.width;
  const Tensor kept = at::zeros({parts.count(), H, L}, at::kFloat);
  const auto layout = [&](Room& room) { return BackwardRoom<T>(room, H, L, std::max(D, E), width); };
  parts.run(layout, [&](const BackwardRoom<T>& room, int64_t part, int64_t b, int64_t tile, int64_t last) {
    float* overlap = PartSums::of(kept, part);
    const RowScales scales = scales_of(normaliser, b);
    const Mix p = mixing.p(b), w_transposed = mixing.w_transposed(b);
    float* of_head = room.blocks + H * kBlock;
    for (; tile < last; ++tile) {
      const int64_t first = tile * width;
      const Columns columns = parts.columns(b, tile, mask);
      raw_logits<T>(k, landmarks, D, b, first, columns, room.raw, room.columns);
      raw_logits<T>(v, grad_right, E, b, first, columns, room.gradient, room.columns);
      auto ahead = parts.ahead(k, D, v, E, b, H, tile, L);
      for (int64_t l = 0; l < L; ++l) {
        for (int64_t h = 0; h < H; ++h) store(of_head + h * kLanes, zero());
        for (int64_t t = 0; t < columns.count; t += kBlock) {
          ahead.step();
          key_weights(room.raw, p, columns, scales, l, t, room.blocks);
          mix_block(
              w_transposed, room.gradient.at(0, l, t), room.gradient.stride(),
              [&](int64_t h, int v, Vector dw) {
                float* sum = of_head + h * kLanes;
                store(sum, fmadd(load(room.blocks + h * kBlock + v * kLanes), dw, load(sum)));
              });
        }
        for (int64_t h = 0; h < H; ++h) overlap[h * L + l] += sum_of(load(of_head + h * kLanes));
      }
    }
  });
  return of_samples(kept, parts);
}

template <class T>
void key_backward(
    const Rows<const T>& k, const Rows<const T>& v, const Tensor& ql, const Tensor& grad_aggregate,
    const BackwardMixing& mixing, const bool* mask, const Parts& parts, const Tensor& normaliser,
    const Tensor& overlap, const Rows<T>& grad_k, const Rows<T>& grad_v, const PartSums& sums) {
  const int64_t H = ql.size(1), L = ql.size(2), D = ql.size(3), E = grad_aggregate.size(3), width = parts.width;
  const Tensor landmarks = packed<T>(ql), landmarks_transposed = packed<T>(ql.transpose(2, 3));
  const Tensor right = packed<T>(grad_aggregate), right_transposed = packed<T>(grad_aggregate.transpose(2, 3));
  const auto layout = [&](Room& room) { return BackwardRoom<T>(room, H, L, std::max(D, E), width); };
  parts.run(layout, [&](const BackwardRoom<T>& room, int64_t part, int64_t b, int64_t tile, int64_t last) {
    const RowScales scales = scales_of(normaliser, b);
    const Mix p = mixing.p(b);
    for (; tile < last; ++tile) {
      const int64_t first = tile * width;
      const Columns columns = parts.columns(b, tile, mask);
      raw_logits<T>(k, landmarks, D, b, first, columns, room.raw, room.columns);
      raw_logits<T>(v, right, E, b, first, columns, room.gradient, room.columns);
      auto ahead = parts.ahead(k, D, v, E, b, H, tile, L);
      for (int64_t l = 0; l < L; ++l) {
        for (int64_t t = 0; t < columns.count; t += kBlock) {
          ahead.step();
          key_weights(room.raw, p, columns, scales, l, t, room.blocks);
          for (int64_t h = 0; h < H; ++h) {
            for (int u = 0; u < kBlock; u += kLanes) {
              store(room.weights.at(h, l, t + u), load(room.blocks + h * kBlock + u));
            }
          }
        }
      }
      const Tile& factor = mixing.w.present() ? room.factor : room.weights;
      if (mixing.w.present()) {
        mix_tile(room.weights, mixing.w(b), columns, factor, room.blocks);
        add_between_heads(room.gradient, room.weights, columns, PartSums::of(sums.w, part));
        mix_tile(room.gradient, mixing.w_transposed(b), columns, room.gradient, room.blocks);
      }
      write_tokens<T>(factor, right_transposed, grad_v, b, first, columns, room);
      key_softmax_gradient(
          room.weights, columns, overlap.const_data_ptr<float>() + b * H * L, room.gradient);
      if (mixing.p.present()) {
        add_between_heads(room.gradient, room.raw, columns, PartSums::of(sums.p, part));
      }
      logit_gradients<T>(
          k, landmarks_transposed, D, mixing, b, first, columns, room, grad_k, PartSums::of(sums.landmarks, part));
    }
  });
}

// A sum over all parts of each group, (parts, H, H) to (groups, H, H).
inline Tensor of_groups(const Tensor& sums, const Parts& parts) {
  return sums.unflatten(0, {parts.samples / parts.groups, parts.groups, parts.per_sample}).sum(at::IntArrayRef({0, 2}));
}

// What sums between heads give to a matrix, or nothing, of the dtype of `tokens`, where there is none.
inline Tensor of_matrix(
    const Matrix& matrix, const Tensor& sums, const Parts& parts, double by, const Tensor& tokens) {
  if (!matrix) return at::empty({0}, tokens.options());
  return of_groups(sums, parts).mul_(by).view(matrix->sizes()).to(matrix->scalar_type());
}

// The three passes as whole calls, as in forward.h.

// Gradients of q, kl, p, w, and in float32 of the aggregate.
template <class T>
std::vector<Tensor> query_gradients(
    const Tensor& grad_output, const Tensor& q, const Tensor& kl, const Matrix& p, const Matrix& w,
    const Matrix& landmark_mask, double scale, const Tensor& aggregate) {
  const Groups groups(q.size(1), {&p, &w});
  const int64_t B = q.size(0) * groups.count, H = groups.heads, N = q.size(2), D = q.size(3), L = kl.size(2);
  const int64_t E = aggregate.size(3);
  const Parts queries(B, groups.count, N, tile_width(H, L, N, 3));
  const PartSums sums(queries.count(), H, L, D, E);
  const Tensor grad_q = at::empty(q.sizes(), q.options()), grad_kl = at::empty(kl.sizes(), kl.options());
  query_backward<T>(
      groups.rows_of<const T>(q), groups.rows_of<const T>(grad_output), groups.split(kl), groups.split(aggregate),
      {p, w, groups, scale}, mask_data(landmark_mask), queries, groups.rows_of<T>(grad_q), sums);
  groups.split(grad_kl).copy_(of_samples(sums.landmarks, queries));
  return {
      grad_q, grad_kl, of_matrix(p, sums.p, queries, scale, q), of_matrix(w, sums.w, queries, 1.0, q),
      of_samples(sums.right, queries).reshape({q.size(0), q.size(1), L, E})};
}

// The overlap of every row of the key factor's softmax, (B, H, L), from the gradient of the aggregate.
template <class T>
Tensor overlap_of_keys(
    const Tensor& grad_right, const Tensor& k, const Tensor& v, const Tensor& ql, const Matrix& p, const Matrix& w,
    const Matrix& key_mask, double scale, const Tensor& normaliser) {
  const Groups groups(k.size(1), {&p, &w});
  const int64_t B = k.size(0) * groups.count, M = k.size(2), L = ql.size(2);
  const Parts keys(B, groups.count, M, tile_width(groups.heads, L, M, 3));
  const BackwardMixing mixing(p, w, groups, scale);
  return key_overlap<T>(
             groups.rows_of<const T>(k), groups.rows_of<const T>(v), packed<T>(groups.split(ql)),
             packed<T>(groups.split(grad_right.to(k.scalar_type()))), k.size(3), v.size(3), mixing,
             mask_data(key_mask), keys, groups.split(normaliser, false))
      .reshape({k.size(0), k.size(1), L});
}

// Gradients of k, v, ql, p, w.
template <class T>
std::vector<Tensor> key_gradients(
    const Tensor& grad_right, const Tensor& k, const Tensor& v, const Tensor& ql, const Matrix& p, const Matrix& w,
    const Matrix& key_mask, double scale, const Tensor& normaliser, const Tensor& overlap) {
  const Groups groups(k.size(1), {&p, &w});
  const int64_t B = k.size(0) * groups.count, H = groups.heads, M = k.size(2), L = ql.size(2);
  const Parts keys(B, groups.count, M, tile_width(H, L, M, 3));
  const PartSums sums(keys.count(), H, L, k.size(3), v.size(3));
  const Tensor grad_k = at::empty(k.sizes(), k.options()), grad_v = at::empty(v.sizes(), v.options());
  const Tensor grad_ql = at::empty(ql.sizes(), ql.options());
  key_backward<T>(
      groups.rows_of<const T>(k), groups.rows_of<const T>(v), groups.split(ql),
      groups.split(grad_right.to(k.scalar_type())), {p, w, groups, scale}, mask_data(key_mask), keys,
      groups.split(normaliser, false), groups.split(overlap, false), groups.rows_of<T>(grad_k),
      groups.rows_of<T>(grad_v), sums);
  groups.split(grad_ql).copy_(of_samples(sums.landmarks, keys));
  return {
      grad_k, grad_v, grad_ql, of_matrix(p, sums.p, keys, scale, k), of_matrix(w, sums.w, keys, 1.0, k)};
}

}  // namespace crosshead
