// The dense weights of a model in memory, and how they get there.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/memory.h"
#include "kernels/matrix_view.h"
#include "model/quantization.h"
#include "model/spec.h"
#include "stream/checkpoint.h"
#include "stream/reader.h"

namespace sluice::model {

struct AttentionWeights {
  kernels::MatrixView q, k, v;            // [heads * head_dim, hidden], k and v with kv_heads
  kernels::MatrixView o;                  // [hidden, heads * head_dim]
  std::span<const float> q_norm, k_norm;  // [head_dim]
};

struct MlpWeights {
  kernels::MatrixView gate, up;  // [width, hidden]
  kernels::MatrixView down;      // [hidden, width]
};

struct MoeWeights {
  kernels::MatrixView router;  // [experts, hidden]
  int index = 0;               // of this layer among the MoE layers
};

struct LayerWeights {
  std::span<const float> input_norm;  // [hidden]
  AttentionWeights attention;
  std::span<const float> post_attention_norm;  // [hidden]
  std::variant<MlpWeights, MoeWeights> feed_forward;
};

struct ModelWeights {
  kernels::MatrixView embedding;      // [vocabulary, hidden]
  std::span<const float> final_norm;  // [hidden]
  kernels::MatrixView head;           // [vocabulary, hidden]
  std::vector<LayerWeights> layers;
};

/// Collects the dense tensors a model wants, then reads them in large sequential windows and fills in the views.
/// First matrix() and vector() for everything, then load() once. Targets must stay where they are until load().
class DenseLoader {
 public:
  DenseLoader(const stream::Checkpoint& checkpoint, const Quantization& quantization);

  /// W [rows, cols] of a module path. Checks its tensors now; fills `target` in load().
  void matrix(const std::string& module, int rows, int cols, kernels::MatrixView& target);
  /// A float tensor [n], converted to f32.
  void vector(const std::string& tensor, int n, std::span<const float>& target);

  /// Bytes that load() will hold, read windows included.
  std::uint64_t memory_bytes() const;
  /// Bytes of weights among them, as stored.
  std::uint64_t tensor_bytes() const;

  /// The weights as they lie in memory; empty before load().
  std::span<const std::byte> bytes() const { return arena_.bytes(); }

  /// Reads everything through `reader`, whose files are the checkpoint's in order. `progress(done, total)` is called
  /// as bytes arrive. Throws Error when a read fails.
  void load(stream::Reader& reader, const std::function<void(std::uint64_t, std::uint64_t)>& progress);

 private:
  struct Region;  // a contiguous piece of a file
  struct MatrixTarget {
    MatrixTensors tensors;
    int rows, cols;
    kernels::MatrixView* view;
  };
  struct VectorTarget {
    const stream::TensorInfo* tensor;
    std::span<const float>* view;
  };
  std::vector<Region> plan_regions() const;
  void read_regions(std::span<const Region> regions, stream::Reader& reader,
                    const std::function<void(std::uint64_t, std::uint64_t)>& progress);

  const stream::Checkpoint& checkpoint_;
  const Quantization& quantization_;
  std::vector<const stream::TensorInfo*> wanted_;
  std::vector<MatrixTarget> matrices_;
  std::vector<VectorTarget> vectors_;
  Buffer arena_;                           // matrices and vectors as stored
  std::deque<std::vector<float>> floats_;  // vectors as f32; a deque does not move its elements
};

/// Asks `loader` for every dense tensor of `spec` and sizes `weights` for it. `weights` must outlive load().
void request_weights(const ModelSpec& spec, DenseLoader& loader, ModelWeights& weights);

}  // namespace sluice::model
