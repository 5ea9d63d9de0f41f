// The forward pass: the normaliser of the key factor, its aggregate, then the query factor with the aggregate.
//
// Legend: B batch, H heads, N query tokens, M key tokens, L landmarks, D head dim, E value head dim, T tokens of a
// tile. The key factor is mixed after a softmax over all keys, so its normaliser has to be known before the first
// weight can be mixed: two passes over the keys.
#pragma once

#include "problem.h"

namespace crosshead {

// Raw logits of one tile, (H, L, T), head by head. `columns_room` holds the tokens of one head as columns.
template <class T>
void raw_logits(
    const Rows<const T>& tokens, const Tensor& landmarks, int64_t channels, int64_t b, int64_t first,
    const Columns& columns, const Tile& tile, Operand<T>* columns_room) {
  const int64_t depth = landmarks.size(3);
  for (int64_t h = 0; h < tile.heads; ++h) {
    Packing<T>::tokens_as_columns(
        tokens.at(b, h, first), tokens.token, columns.tokens, channels, columns.count, columns_room);
    multiply(
        tile.rows, columns.count, channels, of_head<T>(landmarks, b, h), depth, columns_room, columns.count,
        tile.at(h, 0), tile.width, false);
  }
}

inline RowScales scales_of(const Tensor& normaliser, int64_t b) {
  float* shift = normaliser.data_ptr<float>() + b * normaliser.stride(1);
  return {shift, shift + normaliser.stride(0)};
}

// What normalises the key factor, (2, B, H, L): a shift and an inverse sum for each row.
template <class T>
void key_normaliser(
    const Rows<const T>& k, const Tensor& ql, int64_t channels, const Mixing& p, const bool* mask, const Parts& parts,
    const Tensor& normaliser) {
  const int64_t H = ql.size(1), L = ql.size(2), width = parts.width;
  const Tensor kept = at::empty({parts.count(), RowSums::size(H, L)}, at::kFloat);
  struct State {
    Operand<T>* columns;
    Tile tile;
  };
  const auto layout = [&](Room& room) {
    Operand<T>* columns = room.take<Operand<T>>(padded_depth<Operand<T>>(channels) * width);
    return State{columns, {room.take<float>(Tile::size(H, L, width)), H, L, width}};
  };
  parts.run(layout, [&](const State& state, int64_t part, int64_t b, int64_t tile, int64_t last) {
    const RowSums sums(kept.data_ptr<float>() + part * kept.size(1), H, L);
    sums.clear(H, L);
    for (; tile < last; ++tile) {
      const Columns columns = parts.columns(b, tile, mask);
      raw_logits<T>(k, ql, channels, b, tile * width, columns, state.tile, state.columns);
      add_to_row_sums(state.tile, p(b), columns, sums, parts.ahead(k, b, H, tile, channels, L * ((H + 3) / 4)));
    }
  });
  for (int64_t b = 0; b < parts.samples; ++b) {
    const float* from = kept.const_data_ptr<float>() + b * parts.per_sample * kept.size(1);
    for (int64_t row = 0; row < H * L; ++row) {
      scale_row(from, kept.size(1), parts.per_sample, row, H * L, scales_of(normaliser, b));
    }
  }
}

// F_k V, (parts, H, L, E), before the parts are added up.
template <class T>
Tensor key_aggregate(
    const Rows<const T>& k, const Rows<const T>& v, const Tensor& ql, int64_t channels, int64_t value_channels,
    const Mixing& p, const Mixing& w, const bool* mask, const Parts& parts, const Tensor& normaliser) {
  const int64_t H = ql.size(1), L = ql.size(2), E = value_channels, width = parts.width;
  const Tensor sums = at::empty({parts.count(), H, L, E}, at::kFloat);
  struct State {
    Operand<T> *columns, *factor, *rows;
    float* block;
    Tile tile;
  };
  const auto layout = [&](Room& room) {
    Operand<T>* columns = room.take<Operand<T>>(padded_depth<Operand<T>>(channels) * width);
    Operand<T>* factor = room.take<Operand<T>>(Packing<T>::kCopies ? L * width : 0);
    Operand<T>* rows = room.take<Operand<T>>(Packing<T>::kCopies ? E * width : 0);
    float* block = room.take<float>(H * kBlock);
    return State{columns, factor, rows, block, {room.take<float>(Tile::size(H, L, width)), H, L, width}};
  };
  parts.run(layout, [&](const State& state, int64_t part, int64_t b, int64_t tile, int64_t last) {
    float* sum = sums.data_ptr<float>() + part * H * L * E;
    for (bool begun = false; tile < last; ++tile, begun = true) {
      const int64_t first = tile * width;
      const Columns columns = parts.columns(b, tile, mask);
      raw_logits<T>(k, ql, channels, b, first, columns, state.tile, state.columns);
      key_factor(state.tile, p(b), w(b), columns, scales_of(normaliser, b), state.block,
          parts.ahead(k, channels, v, E, b, H, tile, L));
      for (int64_t h = 0; h < H; ++h) {
        const auto* f = Packing<T>::factor_as_a(state.tile.at(h, 0), L, width, columns.tokens, state.factor);
        const auto values = Packing<T>::tokens_as_rows(v.at(b, h, first), v.token, columns.tokens, E, state.rows);
        multiply(L, E, columns.tokens, f, width, values.data, values.row, sum + h * L * E, E, begun);
      }
    }
  });
  return sums;
}

// O = F_q A, with A = `right` transposed and packed, (B, H, E, L).
template <class T>
void query_output(
    const Rows<const T>& q, const Tensor& kl, int64_t channels, const Tensor& right, const Mixing& p, const Mixing& w,
    const bool* landmark_mask, const Parts& parts, const Rows<T>& output) {
  const int64_t H = kl.size(1), L = kl.size(2), E = right.size(2), width = parts.width;
  struct State {
    Operand<T> *columns, *factor;
    float *blocks, *result, *turned;
    Tile tile;
  };
  const auto layout = [&](Room& room) {
    Operand<T>* columns = room.take<Operand<T>>(padded_depth<Operand<T>>(channels) * width);
    Operand<T>* factor = room.take<Operand<T>>(Packing<T>::kCopies ? right.size(3) * width : 0);
    float* blocks = room.take<float>(4 * H * kBlock);
    float* result = room.take<float>(E * width);
    float* turned = room.take<float>(E * kLanes);
    return State{columns, factor, blocks, result, turned, {room.take<float>(Tile::size(H, L, width)), H, L, width}};
  };
  parts.run(layout, [&](const State& state, int64_t, int64_t b, int64_t tile, int64_t last) {
    const Mix mix = w(b);
    for (; tile < last; ++tile) {
      const int64_t first = tile * width;
      const Columns columns = parts.columns(b, tile, nullptr);
      raw_logits<T>(q, kl, channels, b, first, columns, state.tile, state.columns);
      landmark_factor(
          state.tile, p(b), w.present() ? &mix : nullptr, columns, landmarks_of(landmark_mask, parts, b, L),
          state.tile, state.blocks, parts.ahead(q, b, H, tile, channels, L));
      for (int64_t h = 0; h < H; ++h) {
        const auto* f = Packing<T>::factor_as_b(state.tile.at(h, 0), L, width, state.factor);
        multiply(
            E, columns.count, L, of_head<T>(right, b, h), right.size(3), f, width, state.result, width, false);
        columns_to_tokens(
            state.result, width, columns.tokens, E, output.at(b, h, first), output.token, state.turned);
      }
    }
  });
}

// The three passes as whole calls, in the layouts of the operator: a process that has a part of the tokens exchanges
// sums with others between them.

// (2, B, H, L): a shift and an inverse sum of each row of the key factor.
template <class T>
Tensor key_statistics(const Tensor& k, const Tensor& ql, const Matrix& p, const Matrix& key_mask, double scale) {
  const Groups groups(k.size(1), {&p});
  const int64_t B = k.size(0) * groups.count, M = k.size(2), L = ql.size(2);
  const Tensor normaliser = at::empty({2, k.size(0), k.size(1), L}, at::kFloat);
  const Parts keys(B, groups.count, M, tile_width(groups.heads, L, M));
  key_normaliser<T>(
      groups.rows_of<const T>(k), packed<T>(groups.split(ql)), k.size(3), Mixing(p, groups, scale), mask_data(key_mask),
      keys, groups.split(normaliser, false));
  return normaliser;
}

// F_k V, (B, H, L, E), in float32.
template <class T>
Tensor aggregate_of_keys(
    const Tensor& k, const Tensor& v, const Tensor& ql, const Matrix& p, const Matrix& w, const Matrix& key_mask,
    double scale, const Tensor& normaliser) {
  const Groups groups(k.size(1), {&p, &w});
  const int64_t B = k.size(0) * groups.count, M = k.size(2), L = ql.size(2), E = v.size(3);
  const Parts keys(B, groups.count, M, tile_width(groups.heads, L, M));
  const Tensor parts = key_aggregate<T>(
      groups.rows_of<const T>(k), groups.rows_of<const T>(v), packed<T>(groups.split(ql)), k.size(3), E,
      Mixing(p, groups, scale), Mixing(w, groups, 1.0), mask_data(key_mask), keys, groups.split(normaliser, false));
  return of_samples(parts, keys).reshape({k.size(0), k.size(1), L, E});
}

// O = F_q A, (B, H, N, E), into `output`; `aggregate` is rounded to its dtype.
template <class T>
void output_of_queries(
    const Tensor& q, const Tensor& kl, const Matrix& p, const Matrix& w, const Matrix& landmark_mask, double scale,
    const Tensor& aggregate, const Tensor& output) {
  const Groups groups(q.size(1), {&p, &w});
  const int64_t B = q.size(0) * groups.count, N = q.size(2);
  const Parts queries(B, groups.count, N, tile_width(groups.heads, kl.size(2), N));
  query_output<T>(
      groups.rows_of<const T>(q), packed<T>(groups.split(kl)), q.size(3),
      packed<T>(groups.split(aggregate).transpose(2, 3)), Mixing(p, groups, scale), Mixing(w, groups, 1.0),
      mask_data(landmark_mask), queries, groups.rows_of<T>(output));
}

}  // namespace crosshead
