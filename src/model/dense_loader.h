// Reads the weights that stay in memory, as stored where the kernels can use them so, else converted on the way in.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/memory.h"
#include "kernels/matrix_view.h"
#include "model/matrix_tensors.h"
#include "model/quantization.h"
#include "model/spec.h"
#include "stream/checkpoint.h"
#include "stream/reader.h"

namespace sluice::model {

/// Told during load: bytes read so far and in all.
using DenseProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// Weights made from tensors that are not kept themselves.
struct Conversion {
  std::string format;  // for people
  std::vector<const stream::TensorInfo*> sources;
  std::uint64_t bytes = 0;    // of the result
  std::uint64_t weights = 0;  // elements of its matrices
  /// Fills `out` [bytes] from the bytes of the sources and sets the views that refer to it.
  std::function<void(std::span<const std::byte* const> sources, std::byte* out)> make;
};

/// Collects what a model wants, then reads it in large sequential windows and fills in the views. First the requests,
/// then load() once. Targets must stay where they are until load(). Requests throw Error naming the tensor that is
/// missing or wrong.
class DenseLoader {
 public:
  DenseLoader(const stream::Checkpoint& checkpoint, const Quantization& quantization);

  /// W [rows, cols].
  void matrix(const LinearSpec& linear, int rows, int cols, kernels::MatrixView& target);
  /// W [stack, rows, cols] as one matrix of stack * rows rows.
  void stack(const std::string& path, int stack, int rows, int cols, kernels::MatrixView& target);
  /// A float tensor of n elements in f32, each of them `repeat` times.
  void vector(const VectorSpec& spec, int n, std::span<const float>& target, int repeat = 1);
  /// The weights of a convolution, turned to [taps, channels]; all tensors have equally many channels.
  void convolution(const ConvSpec& spec, int channels, std::span<const float>& target);
  void convert(Conversion conversion);

  const stream::Checkpoint& checkpoint() const { return checkpoint_; }
  const Quantization& quantization() const { return quantization_; }

  /// Bytes of the weights asked for so far, as they are kept; tied ones count each time.
  std::uint64_t requested_bytes() const { return requested_bytes_; }
  /// Elements of the matrices asked for so far: each is one multiplication for a token.
  std::uint64_t requested_weights() const { return requested_weights_; }

  /// Bytes that load() will hold at once, read windows included.
  std::uint64_t memory_bytes() const;
  /// Bytes of weights, as they are kept.
  std::uint64_t weight_bytes() const;
  /// How the matrices are stored: each format once, as text.
  std::set<std::string> formats() const;

  /// The weights that are kept as stored, as they lie in memory; empty before load().
  std::span<const std::byte> bytes() const { return arena_.bytes(); }

  /// Reads everything through `reader`, whose files are the checkpoint's in order. Throws Error when a read fails.
  void load(stream::Reader& reader, const DenseProgress& progress);

 private:
  struct Region;  // a contiguous piece of a file
  class Counter;  // of bytes, for the progress
  struct MatrixTarget {
    MatrixTensors tensors;
    int rows, cols;
    kernels::MatrixView* view;
  };
  struct VectorTarget {
    std::vector<const stream::TensorInfo*> tensors;  // one after the other
    float plus, times;
    int repeat;
    int taps;  // > 0: turn [elements / taps, taps]
    std::span<const float>* view;
    std::uint64_t elements() const;
  };

  const stream::TensorInfo* keep_floats(const std::string& name, int n);
  void keep(const stream::TensorInfo& tensor);
  void request(const MatrixTensors& tensors, int rows, int cols, kernels::MatrixView& target);
  static std::vector<Region> plan_regions(std::vector<const stream::TensorInfo*> tensors);
  static std::uint64_t window_bytes(const std::vector<Region>& regions);
  static const std::byte* find(const std::vector<Region>& regions, const Buffer& arena,
                               const stream::TensorInfo* tensor);
  static void read_regions(std::span<const Region> regions, stream::Reader& reader, const Buffer& arena,
                           Counter& counter);
  std::vector<float> values_of(const VectorTarget& target, const std::vector<Region>& regions) const;

  const stream::Checkpoint& checkpoint_;
  const Quantization& quantization_;
  std::vector<const stream::TensorInfo*> kept_;  // tensors that stay as stored
  std::vector<MatrixTarget> matrices_;
  std::vector<VectorTarget> vectors_;
  std::vector<Conversion> conversions_;
  std::uint64_t requested_bytes_ = 0;
  std::uint64_t requested_weights_ = 0;
  Buffer arena_;                           // kept_ as stored
  std::vector<Buffer> converted_;          // results of conversions_
  std::deque<std::vector<float>> floats_;  // vectors as f32; a deque does not move its elements
};

}  // namespace sluice::model
