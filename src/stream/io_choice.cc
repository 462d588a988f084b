// Reader::open: finds out by trying how files can be read on this machine.

#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/memory.h"
#include "stream/input_file.h"
#include "stream/io_engine.h"
#include "stream/mapped_files.h"
#include "stream/reader.h"

namespace sluice::stream {
namespace {

struct Candidate {
  const IoEngineEntry* engine;
  bool direct;
};

/// What to try, best first: the wanted engine direct, then buffered; then every engine direct; then buffered, in
/// reverse: published comparisons find a buffered io_uring slower than a pread pool, and ours do up to 256 KiB a read,
/// because one thread alone copies out of the page cache. Direct reads are two to three times faster than either.
std::vector<Candidate> candidates(std::string_view wanted) {
  const auto engines = io_engines();
  std::vector<Candidate> result;
  const auto add = [&](const IoEngineEntry& engine, bool direct) {
    if (engine.name != wanted) result.push_back({&engine, direct});
  };
  for (const IoEngineEntry& engine : engines) {
    if (engine.name == wanted) result = {{&engine, true}, {&engine, false}};
  }
  for (const IoEngineEntry& engine : engines) add(engine, true);
  for (auto engine = engines.rbegin(); engine != engines.rend(); ++engine) add(*engine, false);
  return result;
}

void check_known(std::string_view wanted) {
  if (wanted.empty() || wanted == kMmap) return;
  std::vector<std::string_view> names;
  for (const IoEngineEntry& engine : io_engines()) names.push_back(engine.name);
  if (std::find(names.begin(), names.end(), wanted) != names.end()) return;
  fail_usage("--io: '{}' is not known; use {} or {}", wanted, fmt::join(names, ", "), kMmap);
}

/// Reads the first block of `sample` through `engine` and compares it with what a plain read gives. Throws Error saying
/// what went wrong: that a ring can be made or a file opened says nothing, some systems refuse only the transfer.
void probe(IoEngine& engine, const InputFile& sample, bool direct) {
  const InputFile file = InputFile::open(sample.path(), direct);
  const Buffer expected = Buffer::allocate(kIoAlignment, "I/O probe");
  const Buffer found = Buffer::allocate(kIoAlignment, "I/O probe");
  const std::size_t bytes = sample.read_at(0, expected.bytes());

  const IoOp op{file.descriptor(), 0, static_cast<std::uint32_t>(kIoAlignment), found.data(), 0};
  IoResult result{0, -EINTR};
  while (result.result == -EINTR || result.result == -EAGAIN) {
    engine.submit({&op, 1});
    engine.reap({&result, 1}, true);
  }
  const char* how = direct ? "direct" : "buffered";
  if (result.result < 0) fail("{} read through {}: {}", how, engine.name(), std::strerror(-result.result));
  if (static_cast<std::size_t>(result.result) != bytes || std::memcmp(expected.data(), found.data(), bytes) != 0) {
    fail("{} read through {}: brought other bytes than a plain read", how, engine.name());
  }
}

/// Why the choice is not what was asked for, from what was tried before it; empty if nothing was.
std::string reason(std::string_view wanted, const Candidate& chosen, const std::vector<std::string>& failures) {
  if (failures.empty()) return {};
  const std::string because = fmt::format("{}", fmt::join(failures, "; "));
  if (wanted.empty() || wanted == kMmap || wanted == chosen.engine->name) return because;
  return fmt::format("requested --io {}, got {} because {}", wanted, chosen.engine->name, because);
}

}  // namespace

Reader Reader::open(std::string_view wanted, const std::filesystem::path& sample, unsigned depth) {
  check_known(wanted);
  const InputFile sample_file = InputFile::open(sample);
  std::vector<std::string> failures;
  for (const Candidate& candidate : candidates(wanted)) {
    try {
      std::unique_ptr<IoEngine> engine = candidate.engine->create(depth);
      probe(*engine, sample_file, candidate.direct);
      return Reader(std::move(engine), IoChoice{.engine = std::string(candidate.engine->name),
                                                .direct = candidate.direct,
                                                .reason = reason(wanted, candidate, failures)});
    } catch (const Error& error) {
      // The same refusal of a file system or kernel comes once per candidate; the user wants to read it once.
      if (std::find(failures.begin(), failures.end(), error.what()) == failures.end()) failures.push_back(error.what());
    }
  }
  fail("{}: cannot be read by any engine: {}", sample.string(), fmt::join(failures, "; "));
}

}  // namespace sluice::stream
