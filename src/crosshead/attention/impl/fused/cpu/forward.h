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

template <class T>
void forward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& ql, const Tensor& kl, const Matrix& p_query,
    const Matrix& w_query, const Matrix& p_key, const Matrix& w_key, const Matrix& key_mask,
    const Matrix& landmark_mask, double scale, const Tensor& output, const Tensor& aggregate,
    const Tensor& normaliser) {
  const Groups groups(q.size(1), {&p_query, &w_query, &p_key, &w_key});
  const int64_t B = q.size(0) * groups.count, H = groups.heads, N = q.size(2), D = q.size(3), M = k.size(2);
  const int64_t L = ql.size(2), E = v.size(3);
  const Mixing pq(p_query, groups, scale), wq(w_query, groups, 1.0);
  const Mixing pk(p_key, groups, scale), wk(w_key, groups, 1.0);
  const Rows<const T> k_rows = groups.rows_of<const T>(k);

  const Parts keys(B, groups.count, M, tile_width(H, L, M));
  const Tensor ql_packed = packed<T>(groups.split(ql)), scales = groups.split(normaliser, false);
  key_normaliser<T>(k_rows, ql_packed, D, pk, mask_data(key_mask), keys, scales);
  const Tensor parts = key_aggregate<T>(
      k_rows, groups.rows_of<const T>(v), ql_packed, D, E, pk, wk, mask_data(key_mask), keys, scales);
  const Tensor sum = keys.per_sample == 1 ? parts : parts.view({B, keys.per_sample, H, L, E}).sum(1);
  const Tensor rounded = groups.split(aggregate);
  rounded.copy_(sum);

  const Parts queries(B, groups.count, N, tile_width(H, L, N));
  query_output<T>(
      groups.rows_of<const T>(q), packed<T>(groups.split(kl)), D, packed<T>(rounded.transpose(2, 3)), pq, wq,
      mask_data(landmark_mask), queries, groups.rows_of<T>(output));
}

}  // namespace crosshead
