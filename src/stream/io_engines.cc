// Where engines are registered: a declaration and a line each.

#include <array>

#include "stream/io_engine.h"

namespace sluice::stream {

std::unique_ptr<IoEngine> make_uring_engine(unsigned depth);
std::unique_ptr<IoEngine> make_pread_engine(unsigned depth);

std::span<const IoEngineEntry> io_engines() {
  static constexpr std::array<IoEngineEntry, 2> kEngines{{{"uring", make_uring_engine}, {"pread", make_pread_engine}}};
  return kEngines;
}

}  // namespace sluice::stream
