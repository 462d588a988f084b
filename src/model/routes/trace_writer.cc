#include "model/routes/trace_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/error.h"
#include "base/log.h"
#include "model/routes/trace_format.h"

namespace sluice::model {
namespace {

// Collected before a write: tens of tokens of a large model.
constexpr std::size_t kBufferBytes = std::size_t{256} << 10;

}  // namespace

TraceWriter::TraceWriter(const std::filesystem::path& path, const TraceHeader& header)
    : path_(path), top_k_(header.top_k) {
  if (top_k_ > kMaxTraceTopK) {
    fail("{}: a routing trace holds at most {} experts per token, this run uses {}", path.string(), kMaxTraceTopK,
         top_k_);
  }
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("{}: the routing trace cannot be written: {}", path.string(), std::strerror(errno));
  buffer_.reserve(kBufferBytes + trace_record_bytes(top_k_));
  buffer_ = trace_header_line(header);
}

TraceWriter::~TraceWriter() {
  flush();
  if (descriptor_ >= 0) ::close(descriptor_);
}

void TraceWriter::add(const RouteTrace::Request& request, std::span<const std::uint16_t> ids,
                      std::span<const float> weights) {
  if (descriptor_ < 0) return;
  append_trace_record(request, ids, weights, top_k_, buffer_);
  if (buffer_.size() >= kBufferBytes) flush();
}

void TraceWriter::flush() {
  std::string_view rest = buffer_;
  while (descriptor_ >= 0 && !rest.empty()) {
    const ssize_t written = ::write(descriptor_, rest.data(), rest.size());
    if (written >= 0) {
      rest.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno != EINTR) {
      log::write(log::Level::error,
                 fmt::format("{}: writing the routing trace failed: {}; it ends here and the run goes on",
                             path_.string(), std::strerror(errno)));
      ::close(descriptor_);
      descriptor_ = -1;
    }
  }
  buffer_.clear();
}

}  // namespace sluice::model
