// Reads through io_uring: one system call starts many, and no thread waits for each.

#include <liburing.h>
#include <sched.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "stream/io_engine.h"

namespace sluice::stream {
namespace {

// How often the kernel may refuse for want of memory, with nothing in flight whose end could free some, before the
// engine gives up. Each time the thread yields.
constexpr int kMaxRefusals = 10'000;

class UringEngine final : public IoEngine {
 public:
  explicit UringEngine(unsigned depth) : depth_(depth) {
    const int result = io_uring_queue_init(depth, &ring_, 0);
    if (result == 0) return;
    const char* hint = "";
    if (result == -EPERM) hint = " (forbidden by seccomp, as in many containers, or by kernel.io_uring_disabled?)";
    if (result == -ENOSYS) hint = " (kernel without io_uring, or forbidden by seccomp?)";
    if (result == -ENOMEM) hint = " (limit of locked memory too low? see ulimit -l)";
    fail("io_uring: {}{}", std::strerror(-result), hint);
  }

  ~UringEngine() override {
    io_uring_cqe* completion = nullptr;
    while (in_kernel_ > 0) {
      const int result = io_uring_wait_cqe(&ring_, &completion);
      if (result == -EINTR || result == -EAGAIN) continue;
      if (result < 0) break;
      io_uring_cqe_seen(&ring_, completion);
      --in_kernel_;
    }
    io_uring_queue_exit(&ring_);
  }

  UringEngine(const UringEngine&) = delete;
  UringEngine& operator=(const UringEngine&) = delete;

  std::string_view name() const override { return "uring"; }
  unsigned depth() const override { return depth_; }

  void submit(std::span<const IoOp> ops) override {
    assert(ops.size() + queued_ + in_kernel_ <= depth_);
    for (const IoOp& op : ops) {
      io_uring_sqe* entry = io_uring_get_sqe(&ring_);  // never null: the ring has depth_ entries or more
      io_uring_prep_read(entry, op.fd, op.dest, op.length, op.offset);
      io_uring_sqe_set_data64(entry, op.id);
    }
    queued_ += static_cast<unsigned>(ops.size());
    flush();
  }

  std::size_t reap(std::span<IoResult> results, bool wait) override {
    flush();
    std::size_t count = take(results);
    for (int refusals = 0; count == 0 && wait && queued_ + in_kernel_ > 0;) {
      if (in_kernel_ > 0) {
        io_uring_cqe* completion = nullptr;
        const int result = io_uring_wait_cqe(&ring_, &completion);
        if (result < 0 && result != -EINTR && result != -EAGAIN) fail("io_uring_wait_cqe: {}", std::strerror(-result));
      } else {
        if (++refusals > kMaxRefusals) fail("io_uring_submit: the kernel has no memory for another read");
        sched_yield();
      }
      flush();
      count = take(results);
    }
    return count;
  }

 private:
  /// Hands queued entries to the kernel. When it is short of memory or completions must be taken first, the rest stays
  /// queued until the next reap().
  void flush() {
    while (queued_ > 0) {
      const int result = io_uring_submit(&ring_);
      if (result == -EINTR) continue;
      if (result == 0 || result == -EAGAIN || result == -EBUSY) return;
      if (result < 0) fail("io_uring_submit: {}", std::strerror(-result));
      queued_ -= static_cast<unsigned>(result);
      in_kernel_ += static_cast<unsigned>(result);
    }
  }

  std::size_t take(std::span<IoResult> results) {
    std::size_t count = 0;
    unsigned head = 0;
    io_uring_cqe* completion = nullptr;
    io_uring_for_each_cqe(&ring_, head, completion) {
      if (count == results.size()) break;
      results[count++] = {completion->user_data, completion->res};
    }
    io_uring_cq_advance(&ring_, static_cast<unsigned>(count));
    in_kernel_ -= static_cast<unsigned>(count);
    return count;
  }

  io_uring ring_{};
  const unsigned depth_;
  unsigned queued_ = 0;     // entries in the submission queue that the kernel has not taken
  unsigned in_kernel_ = 0;  // taken, not yet reaped
};

}  // namespace

std::unique_ptr<IoEngine> make_uring_engine(unsigned depth) { return std::make_unique<UringEngine>(depth); }

}  // namespace sluice::stream
