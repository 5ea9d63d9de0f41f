// The operators crosshead::fused_attention_cpu and its backward; their schemas stand in ops.py.
//
// Reading order: problem.h (how the work is divided), forward.h, backward.h; below them softmax.h, tiles.h,
// operands.h and vectors.h.
#include <torch/library.h>

#include "backward.h"

namespace crosshead {

template <class F>
auto for_dtype(const Tensor& x, const F& f) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16,
      "the fused kernel of the CPU computes float32 and bfloat16; got ", x.scalar_type());
  return x.scalar_type() == at::kFloat ? f(float()) : f(BFloat16());
}

// Channels have to be next to each other; tokens, heads and samples may lie anywhere.
Tensor dense_rows(const Tensor& x) { return x.stride(3) == 1 || x.size(3) == 1 ? x : x.contiguous(); }

std::optional<Tensor> dense(const std::optional<Tensor>& x) {
  return x ? std::optional<Tensor>(x->contiguous()) : std::nullopt;
}

// The passes, for tensors of either dtype that lie anyhow.

Tensor key_statistics_pass(
    const Tensor& k, const Tensor& ql, const Matrix& p, const Matrix& key_mask, double scale) {
  const Tensor tokens = dense_rows(k);
  return for_dtype(tokens, [&](auto sample) {
    return key_statistics<decltype(sample)>(tokens, ql, p, dense(key_mask), scale);
  });
}

Tensor key_aggregate_pass(
    const Tensor& k, const Tensor& v, const Tensor& ql, const Matrix& p, const Matrix& w, const Matrix& key_mask,
    double scale, const Tensor& normaliser) {
  const Tensor tokens = dense_rows(k);
  return for_dtype(tokens, [&](auto sample) {
    return aggregate_of_keys<decltype(sample)>(
        tokens, dense_rows(v), ql, p, w, dense(key_mask), scale, normaliser.contiguous());
  });
}

Tensor query_output_pass(
    const Tensor& q, const Tensor& kl, const Matrix& p, const Matrix& w, const Matrix& landmark_mask, double scale,
    const Tensor& aggregate) {
  const Tensor tokens = dense_rows(q), right = aggregate.contiguous();
  const Tensor output = at::empty({q.size(0), q.size(1), q.size(2), right.size(3)}, right.options());
  for_dtype(tokens, [&](auto sample) {
    output_of_queries<decltype(sample)>(tokens, kl, p, w, dense(landmark_mask), scale, right, output);
  });
  return output;
}

std::vector<Tensor> query_gradients_pass(
    const Tensor& grad_output, const Tensor& q, const Tensor& kl, const Matrix& p, const Matrix& w,
    const Matrix& landmark_mask, double scale, const Tensor& aggregate) {
  const Tensor tokens = dense_rows(q);
  return for_dtype(tokens, [&](auto sample) {
    return query_gradients<decltype(sample)>(
        dense_rows(grad_output), tokens, kl, p, w, dense(landmark_mask), scale, aggregate.contiguous());
  });
}

Tensor key_overlap_pass(
    const Tensor& grad_right, const Tensor& k, const Tensor& v, const Tensor& ql, const Matrix& p, const Matrix& w,
    const Matrix& key_mask, double scale, const Tensor& normaliser) {
  const Tensor tokens = dense_rows(k);
  return for_dtype(tokens, [&](auto sample) {
    return overlap_of_keys<decltype(sample)>(
        grad_right, tokens, dense_rows(v), ql, p, w, dense(key_mask), scale, normaliser.contiguous());
  });
}

std::vector<Tensor> key_gradients_pass(
    const Tensor& grad_right, const Tensor& k, const Tensor& v, const Tensor& ql, const Matrix& p, const Matrix& w,
    const Matrix& key_mask, double scale, const Tensor& normaliser, const Tensor& overlap) {
  const Tensor tokens = dense_rows(k);
  return for_dtype(tokens, [&](auto sample) {
    return key_gradients<decltype(sample)>(
        grad_right, tokens, dense_rows(v), ql, p, w, dense(key_mask), scale, normaliser.contiguous(),
        overlap.contiguous());
  });
}

std::tuple<Tensor, Tensor, Tensor> fused_attention(
    const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& ql, const Tensor& kl, const Matrix& p_query,
    const Matrix& w_query, const Matrix& p_key, const Matrix& w_key, const Matrix& key_mask,
    const Matrix& landmark_mask, double scale) {
  const Tensor normaliser = key_statistics_pass(k, ql, p_key, key_mask, scale);
  const Tensor aggregate =
      key_aggregate_pass(k, v, ql, p_key, w_key, key_mask, scale, normaliser).to(v.scalar_type());
  return {query_output_pass(q, kl, p_query, w_query, landmark_mask, scale, aggregate), aggregate, normaliser};
}

std::vector<Tensor> fused_attention_backward(
    const Tensor& grad_output, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& ql, const Tensor& kl,
    const Matrix& p_query, const Matrix& w_query, const Matrix& p_key, const Matrix& w_key, const Matrix& key_mask,
    const Matrix& landmark_mask, double scale, const Tensor& aggregate, const Tensor& normaliser) {
  const auto of_q = query_gradients_pass(grad_output, q, kl, p_query, w_query, landmark_mask, scale, aggregate);
  const Tensor overlap = key_overlap_pass(of_q[4], k, v, ql, p_key, w_key, key_mask, scale, normaliser);
  const auto of_k = key_gradients_pass(of_q[4], k, v, ql, p_key, w_key, key_mask, scale, normaliser, overlap);
  return {of_q[0], of_k[0], of_k[1], of_k[2], of_q[1], of_q[2], of_q[3], of_k[3], of_k[4]};
}

}  // namespace crosshead

TORCH_LIBRARY_IMPL(crosshead, CPU, m) {
  m.impl("fused_attention_cpu", &crosshead::fused_attention);
  m.impl("fused_attention_cpu_backward", &crosshead::fused_attention_backward);
  m.impl("fused_cpu_key_statistics", &crosshead::key_statistics_pass);
  m.impl("fused_cpu_key_aggregate", &crosshead::key_aggregate_pass);
  m.impl("fused_cpu_query_output", &crosshead::query_output_pass);
  m.impl("fused_cpu_query_gradients", &crosshead::query_gradients_pass);
  m.impl("fused_cpu_key_overlap", &crosshead::key_overlap_pass);
  m.impl("fused_cpu_key_gradients", &crosshead::key_gradients_pass);
}
