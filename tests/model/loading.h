// A checkpoint on disk and a loader of its dense weights, for tests.
#pragma once

#include <optional>
#include <random>

#include "model/checkpoint_files.h"
#include "model/dense_loader.h"

namespace sluice::model {

inline std::vector<float> random_values(std::size_t n, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(engine);
  return values;
}

/// A checkpoint on disk and a loader over it.
struct Loading {
  explicit Loading(const CheckpointFiles& files)
      : quantization(Quantization::from_config(Config::parse(files.config.dump(), "config.json"))) {
    files.write(directory.path());
    checkpoint.emplace(stream::Checkpoint::open(directory.path()));
    loader.emplace(*checkpoint, quantization);
  }
  void load(const DenseProgress& progress = {}) {
    auto reader = stream::Reader::open("pread", directory.path() / "model.safetensors");
    for (const stream::FileInfo& file : checkpoint->files()) reader.add_file(file.path);
    loader->load(reader, progress);
  }

  TemporaryDirectory directory;
  Quantization quantization;
  std::optional<stream::Checkpoint> checkpoint;
  std::optional<DenseLoader> loader;
};

inline std::vector<float> floats_of(const kernels::MatrixView& view) {
  std::vector<float> values(static_cast<std::size_t>(view.rows) * static_cast<std::size_t>(view.cols));
  for (int row = 0; row < view.rows; ++row) {
    kernels::dequantize_row(view, row, &values[static_cast<std::size_t>(row) * static_cast<std::size_t>(view.cols)]);
  }
  return values;
}

}  // namespace sluice::model
