// The canonical arithmetic of recurrent mixers: causal convolution, decays, the state-space recurrence of Mamba-2 and
// the gated delta rule, written once over eight lanes; included after vector_canonical.h.
//
// Rows of a state do not depend on each other. Dot products with a row: lane i adds up elements i, i + 8, ... by fma,
// then the tree of sum().
#pragma once

#include "kernels/vector_canonical.h"

namespace sluice::kernels {
namespace {

// One chain of fma per channel, oldest input first, starting from the bias.
void conv_silu_row(const float* weight, const float* bias, int taps, int64_t stride, float* state, const float* x,
                   int n, float* y) {
  for_groups(n, [=](int64_t i, auto group) {
    F8 total = bias == nullptr ? splat(0.0F) : group.get(bias + i);
    for (int j = 0; j + 1 < taps; ++j) {
      total = fma(group.get(weight + j * stride + i), group.get(state + j * stride + i), total);
    }
    const F8 newest = group.get(x + i);
    total = fma(group.get(weight + (taps - 1) * stride + i), newest, total);
    for (int j = 0; j + 2 < taps; ++j) group.put(state + j * stride + i, group.get(state + (j + 1) * stride + i));
    if (taps > 1) group.put(state + (taps - 2) * stride + i, newest);
    group.put(y + i, silu_lanes(total));
  });
}

void decay_row(float* x, const float* bias, const float* a_log, float low, float high, int n, float* decay) {
  zip_row(x, bias, n, x, [=](F8 raw, F8 b) { return min(splat(high), max(splat(low), softplus_lanes(add(raw, b)))); });
  zip_row(x, a_log, n, decay, [](F8 dt, F8 a) { return exp_lanes(negate(mul(exp_lanes(a), dt))); });
}

// sums[j] is row j's; lane j of the result is the sum of sums[j].
inline F8 sum_rows(const F8 (&sums)[kLanes]) { return sum_each(sums); }
inline F8 sum_rows(const F8 (&sums)[1]) { return splat(sum(sums[0])); }

template <int Rows>
inline F8 load_rows(const float* x) {
  return Rows == kLanes ? load(x) : splat(*x);
}
template <int Rows>
inline void store_rows(float* y, F8 a) {
  Rows == kLanes ? store(y, a) : store_part(y, a, Rows);
}

// `Rows` rows from `row` on, which share a pass over what all rows have in common.
template <int Rows>
inline void ssm_rows(const SsmStep& step, int row) {
  float* state = step.state + int64_t{row} * step.width;
  const F8 decay = splat(step.decay);
  F8 inputs[Rows], sums[Rows];
  for (int j = 0; j < Rows; ++j) {
    inputs[j] = splat(step.dt * step.x[row + j]);
    sums[j] = splat(0.0F);
  }
  for_groups(step.width, [&](int64_t i, auto group) {
    const F8 b = group.get(step.b + i);
    const F8 c = group.get(step.c + i);
    for (int j = 0; j < Rows; ++j) {
      float* h = state + int64_t{j} * step.width + i;
      const F8 updated = fma(inputs[j], b, mul(decay, group.get(h)));
      group.put(h, updated);
      sums[j] = fma(updated, c, sums[j]);
    }
  });
  store_rows<Rows>(step.x + row, fma(splat(step.skip), load_rows<Rows>(step.x + row), sum_rows(sums)));
}

void ssm_step(const SsmStep& step) {
  int row = 0;
  for (; row + kLanes <= step.rows; row += kLanes) ssm_rows<kLanes>(step, row);
  for (; row < step.rows; ++row) ssm_rows<1>(step, row);
}

template <int Rows>
inline void delta_rows(const DeltaStep& step, int row) {
  float* state = step.state + int64_t{row} * step.width;
  F8 sums[Rows];
  for (F8& lanes : sums) lanes = splat(0.0F);
  for_groups(step.width, [&](int64_t i, auto group) {
    const F8 decay = group.get(step.decay + i);
    const F8 k = group.get(step.k + i);
    for (int j = 0; j < Rows; ++j) {
      sums[j] = fma(mul(decay, group.get(state + int64_t{j} * step.width + i)), k, sums[j]);
    }
  });
  float delta[kLanes];
  store(delta, mul(splat(step.beta), sub(load_rows<Rows>(step.v + row), sum_rows(sums))));
  for (F8& lanes : sums) lanes = splat(0.0F);
  for_groups(step.width, [&](int64_t i, auto group) {
    const F8 decay = group.get(step.decay + i);
    const F8 k = group.get(step.k + i);
    const F8 q = group.get(step.q + i);
    for (int j = 0; j < Rows; ++j) {
      float* s = state + int64_t{j} * step.width + i;
      const F8 updated = fma(splat(delta[j]), k, mul(decay, group.get(s)));
      group.put(s, updated);
      sums[j] = fma(updated, q, sums[j]);
    }
  });
  store_rows<Rows>(step.y + row, sum_rows(sums));
}

void delta_step(const DeltaStep& step) {
  int row = 0;
  for (; row + kLanes <= step.rows; row += kLanes) delta_rows<kLanes>(step, row);
  for (; row < step.rows; ++row) delta_rows<1>(step, row);
}

}  // namespace
}  // namespace sluice::kernels
