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

std::tuple<Tensor, Tensor, Tensor> fused_attention(
    const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& ql, const Tensor& kl, const Matrix& p_query,
    const Matrix& w_query, const Matrix& p_key, const Matrix& w_key, const Matrix& key_mask,
    const Matrix& landmark_mask, double scale) {
  const int64_t B = q.size(0), H = q.size(1), N = q.size(2), L = ql.size(2), E = v.size(3);
  const Tensor output = at::empty({B, H, N, E}, v.options());
  const Tensor aggregate = at::empty({B, H, L, E}, v.options());
  const Tensor normaliser = at::empty({2, B, H, L}, v.options().dtype(at::kFloat));
  for_dtype(q, [&](auto sample) {
    forward<decltype(sample)>(
        dense_rows(q), dense_rows(k), dense_rows(v), ql, kl, p_query, w_query, p_key, w_key, dense(key_mask),
        dense(landmark_mask), scale, output, aggregate, normaliser);
  });
  return {output, aggregate, normaliser};
}

std::vector<Tensor> fused_attention_backward(
    const Tensor& grad_output, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& ql, const Tensor& kl,
    const Matrix& p_query, const Matrix& w_query, const Matrix& p_key, const Matrix& w_key, const Matrix& key_mask,
    const Matrix& landmark_mask, double scale, const Tensor& aggregate, const Tensor& normaliser) {
  std::vector<Tensor> grads;
  for (const Tensor& x : {q, k, v, ql, kl}) grads.push_back(at::empty(x.sizes(), x.options()));
  for (const Matrix& x : {p_query, w_query, p_key, w_key}) {
    grads.push_back(x ? at::empty(x->sizes(), x->options()) : at::empty({0}, q.options()));
  }
  for_dtype(q, [&](auto sample) {
    backward<decltype(sample)>(
        dense_rows(grad_output), dense_rows(q), dense_rows(k), dense_rows(v), ql, kl, p_query, w_query, p_key, w_key,
        dense(key_mask), dense(landmark_mask), scale, aggregate, normaliser, grads);
  });
  return grads;
}

}  // namespace crosshead

TORCH_LIBRARY_IMPL(crosshead, CPU, m) {
  m.impl("fused_attention_cpu", &crosshead::fused_attention);
  m.impl("fused_attention_cpu_backward", &crosshead::fused_attention_backward);
}
