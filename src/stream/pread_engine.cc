// Reads through a pool of threads that call pread: works everywhere io_uring does not.

#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "base/error.h"
#include "stream/io_engine.h"

namespace sluice::stream {
namespace {

// Published curves of parallel preads are flat from about ten threads on for reads of 1 MiB and more. A blocked thread
// costs a stack and no processor time.
constexpr unsigned kMaxThreads = 16;

/// A first-in first-out queue of fixed capacity: the engine allocates nothing after it is made.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(std::size_t capacity) : items_(capacity) {}

  bool empty() const { return count_ == 0; }

  void push(const T& item) {
    assert(count_ < items_.size());
    items_[(head_ + count_++) % items_.size()] = item;
  }

  T pop() {
    const T item = items_[head_];
    head_ = (head_ + 1) % items_.size();
    --count_;
    return item;
  }

 private:
  std::vector<T> items_;
  std::size_t head_ = 0;
  std::size_t count_ = 0;
};

class PreadEngine final : public IoEngine {
 public:
  explicit PreadEngine(unsigned depth) : depth_(depth), queue_(depth), results_(depth) {
    try {
      for (unsigned i = 0; i < std::min(depth, kMaxThreads); ++i) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error& error) {
      stop();
      fail("pread: cannot start {} threads: {}", std::min(depth, kMaxThreads), error.code().message());
    }
  }

  ~PreadEngine() override { stop(); }

  PreadEngine(const PreadEngine&) = delete;
  PreadEngine& operator=(const PreadEngine&) = delete;

  std::string_view name() const override { return "pread"; }

  // More than there are threads: an operation that waits here is taken up the moment a thread is free, without the
  // caller, who may be busy computing.
  unsigned depth() const override { return depth_; }

  void submit(std::span<const IoOp> ops) override {
    {
      const std::lock_guard lock(mutex_);
      for (const IoOp& op : ops) queue_.push(op);
      in_flight_ += ops.size();
    }
    if (ops.size() == 1) {
      work_available_.notify_one();
    } else {
      work_available_.notify_all();
    }
  }

  std::size_t reap(std::span<IoResult> results, bool wait) override {
    std::unique_lock lock(mutex_);
    if (wait) result_available_.wait(lock, [this] { return !results_.empty() || in_flight_ == 0; });
    std::size_t count = 0;
    while (count < results.size() && !results_.empty()) results[count++] = results_.pop();
    in_flight_ -= count;
    return count;
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      work_available_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      const IoOp op = queue_.pop();
      lock.unlock();
      const ssize_t bytes = pread(op.fd, op.dest, op.length, static_cast<off_t>(op.offset));
      const auto result = static_cast<std::int32_t>(bytes < 0 ? -errno : bytes);  // pread moves less than 2 GiB
      lock.lock();
      results_.push({op.id, result});
      result_available_.notify_one();
    }
  }

  /// Ends the threads after the reads that they have begun; reads still queued are dropped.
  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_available_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  const unsigned depth_;
  std::mutex mutex_;
  std::condition_variable work_available_;
  std::condition_variable result_available_;
  BoundedQueue<IoOp> queue_;        // guarded by mutex_
  BoundedQueue<IoResult> results_;  // guarded by mutex_
  std::size_t in_flight_ = 0;       // guarded by mutex_: submitted and not reaped
  bool stopping_ = false;           // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<IoEngine> make_pread_engine(unsigned depth) { return std::make_unique<PreadEngine>(depth); }

}  // namespace sluice::stream
